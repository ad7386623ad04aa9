/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work that may wait for ever, because a FUSE or network server does not answer: done by a thread
 * of its own, which is left behind when it takes too long.
 */
#ifndef QM_PATIENCE_H
#define QM_PATIENCE_H

#include <glib.h>

/*
 * Runs work(data) and waits for its end, `ms` at most. Returns 0; or -ETIMEDOUT, then the thread
 * goes on, and `data` belongs to it: `release` is called when the work ends, if it ever does. After
 * 0, `data` is the caller's again. -EAGAIN where no thread can be made, or too many are stuck;
 * `data` is released then.
 */
int qm_patiently(void (*work)(void *data), void *data, void (*release)(void *data), guint ms);

#endif
