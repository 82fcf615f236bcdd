/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel's device answers where there is no request to read. */
#include "fuse/front.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct fuse_custom_io *wire;
static int kernel_says;

/* ---- what stands around wire.c --------------------------------------------------------------- */

int fuse_session_fd(struct fuse_session *se)
{
	(void)se;
	return 0;
}

int fuse_session_custom_io(struct fuse_session *se, const struct fuse_custom_io *io, int fd)
{
	(void)se;
	(void)fd;
	wire = io;
	return 0;
}

ssize_t __wrap_read(int fd, void *buf, size_t len);
ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	(void)fd;
	(void)buf;
	(void)len;
	errno = kernel_says;
	return -1;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static int error_of_read(int says)
{
	struct front f = {0};
	uint8_t buf[128];

	kernel_says = says;
	assert_int_equal(wire_attach(NULL), 0);
	assert_int_equal(wire->read(0, buf, sizeof(buf), &f), -1);
	return errno;
}

/* fs/fuse/loop.c reads again after EINTR, and ends the session at what it does not know. */
static void a_kernel_without_memory_for_one_request_is_read_from_again(void **s)
{
	(void)s;
	assert_int_equal(error_of_read(ENOMEM), EINTR);
	assert_int_equal(error_of_read(EAGAIN), EAGAIN);
	assert_int_equal(error_of_read(ENODEV), ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_kernel_without_memory_for_one_request_is_read_from_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
