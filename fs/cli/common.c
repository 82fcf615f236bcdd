/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What subcommands share: opening a volume to read, JSON of what need not be text. */
#include "base/text.h"
#include "cli/cli.h"
#include <stdlib.h>
#include <uuid/uuid.h>

int cli_open(const char *name, struct dev **dev, struct geo *geo)
{
	char why[512] = "";
	int rc = dev_open(name, DEV_OPEN_RDONLY, 0, dev, why, sizeof(why));

	if (rc == 0) {
		rc = vol_read_super(*dev, geo, NULL, why, sizeof(why));
		if (rc)
			dev_close(*dev);
	}
	if (rc == 0 && geo->sector_bytes != (*dev)->id.sector_bytes) {
		dev_close(*dev);
		rc = dev_open(name, DEV_OPEN_RDONLY, geo->sector_bytes, dev, why, sizeof(why));
	}
	if (rc)
		fprintf(stderr, "lunfs: %s\n", why);
	return rc;
}

void cli_add_text(struct json_object *o, const char *key, const char *text)
{
	char *plain = text_plain_dup(text);

	json_object_object_add(o, key, json_object_new_string(plain ? plain : ""));
	free(plain);
}

void cli_print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY));
	json_object_put(o);
}

void cli_uuid_string(const uint8_t uuid[16], char out[37])
{
	uuid_unparse_lower(uuid, out);
}
