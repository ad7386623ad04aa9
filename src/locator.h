/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a file is found again whose descriptor was closed.
 *
 *   by handle   where the daemon may (CAP_DAC_READ_SEARCH) and the filesystem is a local one that
 * is known to decode its handles: the file is found wherever it was moved to by name     elsewhere:
 * where it was, with the renames through this server since (name-tree.h); and if the host renamed
 * it within its directory, by looking through that
 *
 * Whatever is found is verified: the same type and qid path, so the same filesystem and object, and
 * what the filesystem tells of its generation or birth. What is another file is ESTALE.
 */
#ifndef LOCATOR_H
#define LOCATOR_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct locator;
struct path_export;

/* Notes where the file open as `fd` (qid path `*qid_path`; 0: not known, then it is found out) is
 * now, in *locator, which is made where it is NULL and made new else. There may be as many as fids,
 * so that they are small: the caller keeps the qid path. Asks the kernel alone, not the filesystem
 * behind it.
 * 0; -ENOENT: the file could not be found again; or another negative errno. */
int locator_note(const struct path_export *export, int fd, uint64_t *qid_path,
                 struct locator **locator);

/* Finds the file: an O_PATH descriptor, -ESTALE where it is not to be found, or another negative
 * errno. To be called as the daemon itself. */
int locator_open(const struct path_export *export, struct locator *locator, uint64_t qid_path);

/* Finds the directory and the name under which the file is, after path_whereabouts() did not: a
 * file opened by handle may have no name that the kernel knows. Same results. */
int locator_whereabouts(const struct path_export *export, struct locator *locator,
                        uint64_t qid_path, char *name);

/* Whether that should be asked first: of a file that has several names, or got them, the kernel may
 * tell another one than the fid had. */
bool locator_knows_better(const struct locator *locator);

/* Of a fid that has its descriptor `fd`: whether the name under which it was found is removed. */
bool locator_is_nameless(const struct path_export *export, const struct locator *locator, int fd);

/* Whether the file was seen with several names. */
bool locator_has_many(const struct locator *locator);

/* The fid got a descriptor that may have come by another name of the file. */
void locator_is_given(struct locator *locator);

/* The same for all fids of a file, whichever export they belong to; and of any file. Different ones
 * may have the same: see locator_may_be(). */
uint64_t locator_key(const struct locator *locator);
uint64_t locator_key_of(const struct statx *stx);

/* Whether `stx` may be the locator's file, as far as filesystem and type tell. */
bool locator_may_be(const struct locator *locator, const struct statx *stx);

void locator_free(struct locator *locator);

/* Closes what is held open of mounts at or below `path`, for the sake of locators; it is opened
 * again when it is needed and still there. */
void locator_let_go(const char *path);

#endif
