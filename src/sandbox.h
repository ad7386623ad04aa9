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

/* ---- the parts ------------------------------------------------------------------------------- */

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
