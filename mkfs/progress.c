/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines that tell how far a long step has come; see mkfs.h. */
#include "mkfs.h"

#include <string.h>
#include <unistd.h>

#define NO_PERCENT 101u

void progress_begin(struct progress *p, FILE *out)
{
	*p = (struct progress){.out = out, .percent = NO_PERCENT};
	p->terminal = out && isatty(fileno(out));
}

void progress_end(struct progress *p, bool good)
{
	const char *word = good ? "done" : "not done";

	if (!p->open)
		return;
	if (p->terminal)
		fprintf(p->out, "\r%s: %s   \n", p->what, word);
	else
		fprintf(p->out, "%s\n", word);
	fflush(p->out);
	p->open = false;
}

void progress_show(struct progress *p, const char *what, uint64_t done, uint64_t total)
{
	unsigned percent = total ? (unsigned)((double)done * 100 / (double)total) : 0;

	if (!p->out)
		return;
	if (!p->open || strcmp(p->what, what) != 0) {
		progress_end(p, true);
		snprintf(p->what, sizeof(p->what), "%s", what);
		fprintf(p->out, "%s: ", what);
		p->open = true;
		p->percent = NO_PERCENT;
	}
	if (p->terminal && percent != p->percent)
		fprintf(p->out, "\r%s: %3u%%", what, percent);
	p->percent = percent;
	fflush(p->out);
}
