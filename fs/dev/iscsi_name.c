/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of iSCSI sessions; see iscsi_name.h. Which of a machine's names are in use is told by locks
 * on files in /run, which end with their process. Where there can be none, names are random.
 */
#include "dev/iscsi_name.h"

#include "base/siphash.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define INITIATOR_FILE "/etc/iscsi/initiatorname.iscsi"
#define MACHINE_ID_FILE "/etc/machine-id"
#define LOCK_DIR "/run/lunfs"
#define SESSIONS_MAX 256u /* of one machine on one LUN */
#define ID_MAX 64

/* The machine's own name as an initiator, or one made of its host name. */
void iname_machine(char *out, size_t len)
{
	FILE *f = fopen(INITIATOR_FILE, "re");
	char line[INAME_MAX], host[ID_MAX] = "";

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "InitiatorName=", 14))
			continue;
		line[strcspn(line, " \t\r\n")] = 0;
		snprintf(out, len, "%s", line + 14);
		fclose(f);
		return;
	}
	if (f)
		fclose(f);
	gethostname(host, sizeof(host) - 1);
	for (char *p = host; *p; p++)
		*p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '-';
	snprintf(out, len, "iqn.2026-01.org.lunfs:%s", host[0] ? host : "host");
}

static uint64_t hash(const char *text)
{
	static const uint8_t key[16] = "lunfs iSCSI ISID";

	return siphash24(key, text, strlen(text));
}

static int try_lock(uint64_t lun_hash, unsigned number)
{
	char path[ID_MAX];
	int fd;

	snprintf(path, sizeof(path), LOCK_DIR "/iscsi-%016llx-%u", (unsigned long long)lun_hash,
		 number);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return fd;
	close(fd);
	return -EAGAIN;
}

static void read_machine_id(char *out, size_t len)
{
	FILE *f = fopen(MACHINE_ID_FILE, "re");

	if (!f || !fgets(out, (int)len, f))
		out[0] = 0;
	if (f)
		fclose(f);
	out[strcspn(out, "\r\n")] = 0;
}

static void set_isid(struct iscsi_name *n, uint64_t bits)
{
	n->isid_random = (uint32_t)bits & 0xffffff;
	n->isid_qualifier = (uint32_t)(bits >> 24) & 0xffff;
}

static int take_random(struct iscsi_name *n)
{
	uint64_t bits = 0;

	n->lock_fd = -1;
	memcpy(n->initiator, n->machine, sizeof(n->initiator));
	if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
		return -EIO;
	set_isid(n, bits);
	return 0;
}

int iname_take(struct iscsi_name *n, const char *target, int lun)
{
	char machine[ID_MAX] = "", host[ID_MAX] = "", text[3 * INAME_MAX];
	unsigned number = 0;
	uint64_t lun_hash;

	read_machine_id(machine, sizeof(machine));
	gethostname(host, sizeof(host) - 1);
	if (!machine[0] || (mkdir(LOCK_DIR, 0755) && errno != EEXIST))
		return take_random(n);
	snprintf(text, sizeof(text), "%s %s %s %s %d", machine, host, n->machine, target, lun);
	lun_hash = hash(text);
	do {
		n->lock_fd = try_lock(lun_hash, number);
	} while (n->lock_fd == -EAGAIN && ++number < SESSIONS_MAX);
	if (n->lock_fd < 0)
		return take_random(n);
	set_isid(n, lun_hash + number);
	memcpy(n->initiator, n->machine, sizeof(n->initiator));
	if (number && strlen(n->machine) + 5 < sizeof(n->initiator))
		snprintf(n->initiator + strlen(n->machine), 5, ".%u", number);
	return 0;
}

void iname_release(struct iscsi_name *n)
{
	if (n->lock_fd >= 0)
		close(n->lock_fd);
	n->lock_fd = -1;
}
