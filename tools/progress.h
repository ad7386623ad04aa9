/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A line on the terminal that tells how a long piece of work goes. Silent where stderr is none.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <glib.h>

typedef struct progress progress;

progress *progress_new(void);
/* Takes the line away, too. */
void progress_free(progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(progress, progress_free)

/* Begins a piece of work: what is done ("reading"), with what ("files"). */
void progress_begin(progress *progress, const char *doing, const char *unit);

/* `done` of about `total` units are done; total 0: nobody knows how many. Cheap: looks at the clock
 * once in many calls. */
void progress_tell(progress *progress, guint64 done, guint64 total);

/* Takes the line away, for other output. */
void progress_hide(progress *progress);

#endif
