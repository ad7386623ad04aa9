/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names that go: the file of a fid that has no descriptor at the moment (fd-cache.h) must not be
 * lost with the name under which it would be found again.
 *
 * Around each change of names: fd_guard_begin() first of all. Then, before `name` in the directory
 * `dir_fd` is removed or replaced, fd_guard_set(): every fid of what it means gets its descriptor
 * back, and none is closed until fd_guard_end(). Where that says that there is no such name
 * (-ENOENT, or another negative errno), nothing may be removed: it may have been made since.
 *
 * Nothing is looked up before fids are closed at all.
 */
#ifndef FD_GUARD_H
#define FD_GUARD_H

#include <stdbool.h>
#include <stdint.h>

struct fd_guard {
    struct fd_guard *next;
    uint64_t key;
    bool set;
    bool needless; /* no fid was ever closed, and none will be before the end */
};

void fd_guard_begin(struct fd_guard *guard);
int fd_guard_set(struct fd_guard *guard, int dir_fd, const char *name);
void fd_guard_end(struct fd_guard *guard);

#endif
