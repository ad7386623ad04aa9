/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cases of POSIX file calls, usable on any filesystem: what a case file needs of posix.c. A case
 * begins with begin(), which gives it an empty directory to stand in, and makes calls with TRY and
 * looks with IS. Each of these prints one line, whose name never depends on the filesystem, so that
 * runs on different ones can be compared line by line.
 */
#ifndef QIDMAP_TESTS_GUEST_POSIX_H
#define QIDMAP_TESTS_GUEST_POSIX_H

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

enum {
    BOB = 65534, /* two users without rights of their own; their groups have the same numbers */
    ALICE = 65533,
    CLUB = 65532, /* a group that may be given to them */
};

/* Stands in a new, empty directory of mode 0755 that is root's, as root with umask 022. */
void begin(const char *name);
/* Put before the names of the checks that follow, until the next begin(). */
void within(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* TRY(0, call): it succeeds. TRY(ENOENT, call): it fails like this. */
#define TRY(wanted, call)                                                                          \
    do {                                                                                           \
        long result_;                                                                              \
        errno = 0;                                                                                 \
        result_ = (call);                                                                          \
        check_call(wanted, result_, errno, #call);                                                 \
    } while (0)
#define IS(actual, wanted)      check_number((long long)(actual), (long long)(wanted), #actual, #wanted)
#define IS_TEXT(actual, wanted) check_text(actual, wanted, #actual)
void check_call(int wanted, long result, int error, const char *text);
void check_number(long long actual, long long wanted, const char *text, const char *wanted_text);
void check_text(const char *actual, const char *wanted, const char *text);
/* A step without which the case makes no sense; its failure is one failed check. */
#define NEED(call)                                                                                 \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            check_call(0, -1, errno, "preparation: " #call);                                       \
    } while (0)

/* Who acts from now on: effective ids, and the supplementary group unless it is 0. */
void as(uid_t uid, gid_t gid, gid_t extra);
void as_root(void);

/* File types, by letter: regular, directory, fifo, char device, block device, socket, link. */
#define TYPES "rdfcbsl"
const char *type_name(char type);
int make(char type, const char *path, mode_t mode);
int take(const char *path); /* removes a file of any type, or an empty directory */

/* Of a name, never following it; -1 where it does not exist. */
long long mode_of(const char *path);
long long size_of(const char *path);
long long links_of(const char *path);
long long inode_of(const char *path);
/* "uid:gid"; in a static buffer, good until the next call */
const char *owner_of(const char *path);
/* Opens and closes again: 0, or -1 with errno. */
int opens(const char *path, int flags, mode_t mode);
/* Writes the text as the whole file. */
int put(const char *path, const char *text);

/* remember(PATH) keeps its times and lets the clock go on; changed(PATH) says which of m and c are
 * others now: "", "m", "c", "mc". Two can be kept, by number. */
void remember(int slot, const char *path);
const char *changed(int slot);

/* Where the same files as in `shared_name` of the working folder are shown read-only; NULL if not.
 */
extern const char *readonly_folder;
/* This program itself, to be copied and run. */
extern const char *own_path;

void cases_paths(void);
void cases_modes(void);
void cases_names(void);
void cases_data(void);

#endif
