/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A line on the terminal that tells how a long piece of work goes: how much of it, how fast, and
 * for how long still. It appears after a second, and nowhere but on a terminal. Every verb that can
 * take long has one; none prints its own.
 *
 *     g_autoptr(progress) line = progress_new();
 *     progress_begin(line, "verifying", "rows");
 *     how.progress = progress_step, how.data = line;
 *     ... before any other output: progress_hide(line);
 *
 * One thread at a time. A progress that is NULL stays silent.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <glib.h>
#include <stdint.h>

typedef struct progress progress;

progress *progress_new(void);
/* Takes the line away, too. */
void progress_free(progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(progress, progress_free)

/* Begins a piece of work: what is done ("reading"), with what ("files"); static strings. */
void progress_begin(progress *progress, const char *doing, const char *unit);

/* `done` of about `total` units are done; total 0: nobody knows how many. Cheap enough for every
 * row. */
void progress_tell(progress *progress, guint64 done, guint64 total);

/* The same as a qidmap_progress_func, with the progress as its data. Returns 0: goes on. */
int progress_step(void *progress, uint64_t done, uint64_t total);

/* Begins a piece of work that cannot tell how far it is: the seconds go by on the line, until
 * progress_hide(). */
void progress_wait(progress *progress, const char *doing);

/* Takes the line away, for other output. It comes again with the next progress_tell(). */
void progress_hide(progress *progress);

#endif
