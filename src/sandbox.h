/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon takes away from itself before it serves: the mounts of the host, capabilities,
 * new rights by execve(2), and system calls that it never makes.
 *
 * A mistake in looking up a name then leads no further than the exports and what stands beside them
 * here (sandbox-mounts.c). It is no wall against code that an attacker runs in the daemon: that
 * acts with the rights which serving the files of all users needs.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/settings.h"

/* Takes away what settings->isolate and ->seccomp say. Afterwards the paths of exports and stores
 * in `settings` are absolute and without symbolic links, as only these lead anywhere. To be called
 * once, before there are threads, when sockets are open, and neither exports nor stores are. FALSE:
 * an export or a store is not there, or with isolate=yes something could not be taken away. */
gboolean sandbox_enter(struct settings *settings, GError **error);

/* What was taken away, in one line for the log. */
const char *sandbox_status(void);

/* ---- for reload: one thread at a time; without a namespace of our own they change nothing ------
 */

/* A file of the host, open for reading; a descriptor or a negative errno. -ESTALE: there is no
 * process that stays with the host, and it is to be opened here. */
int sandbox_open_file(const char *path);

/* Makes a directory of the host, with what is mounted below, reachable at its real path, which
 * *path becomes. For an export, and for a store (a URI; its directory may be still to be made). */
gboolean sandbox_bring_dir(char **path, GError **error);
gboolean sandbox_bring_store(char **uri, GError **error);

/* Gives up what was made reachable, now or at the start, and none of `paths` is, or is below. */
void sandbox_keep_only(const GPtrArray *paths);

/* What was made reachable is given up again from here on: a number for sandbox_undo(), which must
 * not be called while something there is in use. */
unsigned sandbox_mark(void);
void sandbox_undo(unsigned mark);

/* Whether there was a process that stays with the host, and it has ended. Any thread. */
bool sandbox_host_is_gone(void);

/* From now on nobody waits for that process: what is asked of it fails with ESTALE. Any thread. */
void sandbox_host_hang_up(void);

/* After SIGCHLD: takes that process away, where it has ended, and tells the log. */
void sandbox_host_reap(void);

/* ---- the parts ------------------------------------------------------------------------------- */

/* The part of a URI of a store that is a path; NULL: none. */
const char *sandbox_store_path(const char *uri);

/* The process that stays with the host; before the namespace is entered. Where there will be none,
 * sandbox_host_stop() ends it, and nothing of the host's is held any more. */
bool sandbox_host_start(void);
void sandbox_host_stop(void);

/* The root of the new namespace, writable; taken over. */
void sandbox_set_root(int fd);

/* `path` is shown in the new namespace; `fd` (taken over) holds the host's mount. `system`: not to
 * be given up. */
void sandbox_note_held(const char *path, int fd, bool tree, bool system);

/* Whether `path` is `dir` or below. */
bool sandbox_is_below(const char *path, const char *dir);

/* One thing that shall be in the new namespace. */
struct sandbox_mount {
    char *path;
    bool tree;     /* with all mounts below */
    bool readonly; /* and without set-user-id programs */
    bool plain;    /* no devices and programs */
    bool held;     /* stays mounted on the host as long as it is in use here */
};

/* NULL, or why a mount namespace of its own would not do for these directories; to be freed. */
char *sandbox_mounts_refuse(char *const *dirs);

/* Enters a namespace that holds `mounts` alone (struct sandbox_mount; what is not there is left
 * out), sorted on the way. 0 or a negative errno, *step then says what failed. */
int sandbox_mounts_enter(GPtrArray *mounts, const char **step);

/* Cuts the capabilities to those of `mask` that the process has. 0 or a negative errno. */
int sandbox_caps_cut(uint64_t mask);

/* The capabilities that the daemon needs. */
uint64_t sandbox_caps_needed(void);
guint sandbox_caps_count(void); /* that it has */

/* From now on other system calls than those the daemon makes fail with ENOSYS. 0, a negative
 * errno, or -EOPNOTSUPP: not in this build. */
int sandbox_calls_filter(void);

#endif
