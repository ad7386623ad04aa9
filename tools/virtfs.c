/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl dump --store virtfs:DIR`: the table that a patch of 2019 left in xattrs, for people
 * and as JSON lines. It is shown and never taken over.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "tools/cmd.h"

#define URI "virtfs:"

struct dumped {
    gboolean json;
    guint entries;
};

static int print_row(const struct qidmap_virtfs_entry *entry, void *data)
{
    struct dumped *dumped = data;

    dumped->entries++;
    if (dumped->json) {
        JsonObject *json = json_object_new();
        json_object_set_string_member(json, "row", "virtfs");
        json_object_set_int_member(json, "index", entry->index);
        cmd_json_u64(json, "st_dev", entry->dev);
        json_object_set_int_member(json, "ino_prefix", entry->ino_prefix);
        cmd_json_line(json);
    } else {
        printf("virtfs n=%u: st_dev %u:%u, inodes whose top 16 bits are 0x%04x\n", entry->index,
               major(entry->dev), minor(entry->dev), entry->ino_prefix);
    }
    return 0;
}

gboolean cmd_dump_virtfs(const struct cmd_options *options, int *status)
{
    struct qidmap_error error;
    struct dumped dumped = {options->json, 0};

    if (options->store == NULL || strncmp(options->store, URI, strlen(URI)) != 0) {
        return FALSE;
    }
    int rc = qidmap_virtfs_read(options->store + strlen(URI), print_row, &dumped, &error);
    if (rc < 0) {
        *status = cmd_fail(&error);
        return TRUE;
    }
    if (options->json) {
        JsonObject *json = json_object_new();
        json_object_set_string_member(json, "row", "end");
        json_object_set_int_member(json, "entries", dumped.entries);
        cmd_json_line(json);
    } else {
        printf("end: %u entries\n", dumped.entries);
    }
    cmd_error("this table cannot be taken over: its devices are st_dev numbers of one boot, which "
              "tell nobody which filesystems they were");
    *status = CMD_OK;
    return TRUE;
}
