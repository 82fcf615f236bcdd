/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lunfs check-device prints. */
#ifndef CLI_CHECK_REPORT_H
#define CLI_CHECK_REPORT_H

#include "check/check.h"

enum { /* beside those of cli.h */
       EX_CHECK_LIMITS = 3,
       EX_CHECK_UNFIT = 4,
       EX_CHECK_UNDECIDED = 5,
};

struct check_report {
	const char *device, *note; /* note: what is wrong with a volume on it; "": nothing */
	bool volume, quiet;
	const struct check_facts *facts;
	const struct check_config *cfg;
	enum check_verdict verdict;
	struct check_result result[CHECK_RESULTS_MAX];
	unsigned results;
};

int check_exit_code(enum check_verdict v);
void check_report_text(const struct check_report *rep);
void check_report_json(const struct check_report *rep);

#endif
