/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults on purpose. inject.c stands in front of the C library's calls that change files; a test
 * says which of them fails, and how. Two ways to use it:
 *   - as LD_PRELOAD=tests/lib/.libs/inject.so, with the environment variables below;
 *   - linked into a test program, which arms it with inject_arm() as often as it likes.
 *
 * QIDMAP_INJECT is a list of NAME=VALUE, separated by blanks:
 *   calls=A,B     which calls count: write pwrite writev fdatasync fsync msync ftruncate fallocate
 *                 open rename unlink mkdir setxattr removexattr; "all" (the default) for all of
 *                 them. Variants count as their base: pwrite64 is pwrite, openat is open,
 *                 fsetxattr is setxattr, and so on; open counts only where it may create a file
 *                 read and accept, which change no file, count only where they are named here; the
 *                 path of an accept, which is made first, is that of the listening socket
 *   path=TEXT     only where the path has TEXT in it; that of an extended attribute is PATH:NAME
 *   nth=N         the Nth call that counts fails, from 1; 0 (the default): none, they are counted
 *   count=N       this many fail from there on [1]; 0: all
 *   error=NAME    EIO [EIO], ENOSPC, EDQUOT, EINTR, EROFS, or a number; KILL: the process ends
 *                 in place of the call, as by SIGKILL; PAUSE: nothing fails, and the call waits
 *                 until there is no file `begin`
 *   torn=BYTES    a write that fails has written this many bytes first; an extended attribute has
 *                 this many bytes of its value
 *   after=1       the call is made, and then reported as failed
 *   begin=FILE    calls count only while there is this file
 *   log=FILE      one line for each call that counts: its number, its name, the path
 */
#ifndef INJECT_H
#define INJECT_H

/* The same list; NULL: nothing fails. Counting begins again. */
void inject_arm(const char *spec);
/* How many calls counted since then, and how many of them failed. */
unsigned long inject_seen(void);
unsigned long inject_failed(void);

#endif
