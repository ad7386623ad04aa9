/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether what is at a path answers at all, before a thread that others wait for touches it: a
 * server of FUSE or NFS that is dead holds who asks it for ever.
 *
 * It is no promise for the next moment. Who would open the path does so afterwards, and tells what
 * is wrong with it. Knows nothing of exports and stores.
 */
#ifndef REACH_H
#define REACH_H

/* Looks at a directory, or at the beginning of the file that is open as `fd`, which is taken over
 * unless 0 is returned, as closing it may hang, too. 0: it answered, whatever it said; -ETIMEDOUT:
 * not within REACH_SECONDS, or an earlier look there still hangs; -ECANCELED: reach_stop() was
 * called; or another negative errno: nobody could look. Any thread, with the daemon's rights. */
#define REACH_SECONDS 20
int reach_dir(const char *path);
int reach_file(const char *path, int fd);

/* Opens a file for reading, wherever links lead to, and looks at its beginning. A descriptor, or a
 * negative errno: that of open(2), or as above, but it is tried again while some earlier looks
 * hang. Any thread. */
int reach_open(const char *path);

/* From now on nobody waits. Any thread. */
void reach_stop(void);

#endif
