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

#include "src/accept.h"
#include "src/mount.h"
#include "src/qid.h"
#include "src/security.h"

struct allow;
struct config_lines;

struct settings_export {
    char *name;
    char *dir;
    char *store; /* URI */
    enum qid_multidevs multidevs;
    struct mount_settings mounts;
    bool readonly;
    struct security_settings security;
    char *squash_user; /* what security.squash_user means */
    enum qid_versions versions;
    bool subdirs;        /* clients may attach to directories below it */
    struct allow *allow; /* NULL: everybody */
    char *words; /* all of this as it was given, but the name: the same where nothing changed */
};

/* What the daemon takes away from itself (sandbox.h). */
enum settings_isolate {
    SETTINGS_ISOLATE_AUTO, /* what can be done here */
    SETTINGS_ISOLATE_YES,  /* all of it, or an error */
    SETTINGS_ISOLATE_NO
};

struct settings {
    GPtrArray *exports; /* struct settings_export, at least one */
    GPtrArray *listen;  /* struct listen_spec; may be empty with socket activation */
    GArray *connected;  /* struct accept_pair: connections that come with the daemon */
    char **fs_ids;      /* PATH=UUID */
    GPtrArray *limits;  /* NAME=N each; the later ones count */
    unsigned idle_seconds, stall_seconds;
    bool trusted; /* access=trusted */
    bool debug;
    char **traces; /* for trace_add() */
    char *control; /* for control_open() */
    bool seccomp;
    enum settings_isolate isolate;
    unsigned threads;
    uint32_t msize_max;
    uint64_t descriptors; /* of fids that are not open; 0: as RLIMIT_NOFILE allows */
    int ready_fd;         /* -1: none */
    char *config;         /* the file, NULL: none was read */
    struct config_lines *lines;
    char **fixed; /* NAME=TEXT of what cannot change while the daemon runs */
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

/* The same once more, while the daemon runs: what it was started with need not be there. */
enum settings_result settings_read_again(int *argc, char ***argv, struct settings **settings,
                                         GError **error);

/* The name of an option that differs and cannot change while the daemon runs; NULL: none does. To
 * be freed. */
char *settings_fixed_change(const struct settings *before, const struct settings *after);

/* "FILE:LINE: " of a key of the file, or of its group; "": it is not from the file. To be freed. */
char *settings_where(const struct settings *settings, const char *group, const char *key);

/* Whether each export has an allow list; while they still have them (export-set.h). */
bool settings_is_guarded(const struct settings *settings);

void settings_free(struct settings *settings);

#endif
