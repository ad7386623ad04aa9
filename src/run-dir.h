/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The folder in which daemons are found by their process: /run/qidmap for root, and
 * $XDG_RUNTIME_DIR/qidmap for others. It has a socket control-PID, or a link at-PID to a socket in
 * another place, for each daemon.
 *
 * A daemon holds a lock on byte PID of the folder for as long as it lives, taken before it puts
 * anything there; the kernel ends it with the process, and shows it to all namespaces. Where nobody
 * holds it, the entry is of a daemon that was killed, and who starts next removes it.
 *
 * Knows nothing of what is said over the sockets. One thread at a time.
 */
#ifndef RUN_DIR_H
#define RUN_DIR_H

struct run_dir;

/* Takes the lock of this process, and removes what daemons that were killed have left. NULL: there
 * is no such folder, or others could put something of theirs there. */
struct run_dir *run_dir_open(void);

/* Where the socket of this process is, unless it was told otherwise. To be freed. */
char *run_dir_socket(const struct run_dir *dir);

/* Puts a link to a socket in another place. */
void run_dir_link(struct run_dir *dir, const char *path);

/* Removes the link, and gives up the lock. NULL is allowed. */
void run_dir_close(struct run_dir *dir);

#endif
