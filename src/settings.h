/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the operator asked for: command line and qidmapd.conf(5) in one struct, read-only
 * afterwards.
 *
 * (Named settings.h, as a src/config.h would hide the config.h of configure.)
 * Opens nothing but the configuration file; whether directories and addresses are good is found out
 * by those who use them.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/mount.h"
#include "src/qid.h"

struct settings_export {
    char *name;
    char *dir;
    char *store; /* URI */
    enum qid_multidevs multidevs;
    struct mount_settings mounts;
    bool readonly;
};

struct settings {
    GPtrArray *exports; /* struct settings_export, at least one */
    char **listen;      /* addresses; may be empty with socket activation */
    char **fs_ids;      /* PATH=UUID */
    GPtrArray *limits;  /* NAME=N each; the later ones count */
    unsigned idle_seconds, stall_seconds;
    bool trusted; /* access=trusted */
    bool debug;
    unsigned threads;
    uint32_t msize_max;
    int ready_fd; /* -1: none */
};

enum settings_result {
    SETTINGS_OK,
    SETTINGS_DONE /* --help, --version */,
    SETTINGS_USAGE,
    SETTINGS_BAD
};

/* Reads both. On SETTINGS_USAGE and SETTINGS_BAD the error is set. */
enum settings_result settings_read(int *argc, char ***argv, struct settings **settings,
                                   GError **error);
void settings_free(struct settings *settings);

#endif
