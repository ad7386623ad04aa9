/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two slots of extended attributes on one directory, of which one holds the present state: a run of
 * bytes (the image) with a sequence number. Knows nothing of rows. Layout, protocol and the proof
 * that a crash is never taken for damage, nor damage for a crash: xattr-slot.c.
 */
#ifndef QM_XATTR_SLOT_H
#define QM_XATTR_SLOT_H

#include <stdint.h>
#include <sys/types.h>

#include <glib.h>

#define QM_XATTR_VALUE_MAX 65536u       /* no filesystem takes more */
#define QM_XATTR_IMAGE_MAX (128u << 10) /* more is never used, however much there is */
#define QM_XATTR_IMAGE_MIN 512u         /* with less room no store is made */

/* The system calls of this part. Tests put others in their place, to interrupt, tear and reorder
 * them. */
struct qm_xattr_sys {
    int (*set)(int fd, const char *name, const void *value, size_t size, int flags);
    ssize_t (*get)(int fd, const char *name, void *value, size_t size);
    int (*remove)(int fd, const char *name);
    ssize_t (*list)(int fd, char *names, size_t size);
    int (*sync)(int fd);
    gboolean one_slot; /* negative control of the tests: overwrites the slot that counts */
};
extern const struct qm_xattr_sys *qm_xattr_sys;

enum qm_xattr_space { QM_XATTR_TRUSTED, QM_XATTR_USER };
#define QM_XATTR_SPACES 2

const char *qm_xattr_prefix(enum qm_xattr_space space);

/* A directory with slots. */
struct qm_xattr_dir {
    int fd; /* borrowed */
    enum qm_xattr_space space;
    int slot;         /* the one that counts, or -1 while there is none */
    uint64_t seq;     /* of the state in it; 0: none */
    size_t size;      /* of the image in it */
    unsigned used[2]; /* chunks that may stand in a slot: those below this number */
    gboolean stale;   /* the other slot's header does not say yet that it is free */
    size_t chunk;     /* largest value that the filesystem took; 0: not measured */
    size_t room;      /* bytes of image that each slot can have, as measured last */
};

/*
 * Finds the state. 0 and *image, which the caller frees with g_byte_array_unref(). -ENOENT: no
 * store. -EINPROGRESS: one whose making was not finished, so that no id was ever given; dir->space
 * tells its names. -EEXIST: both name spaces hold one. -EUCLEAN: damaged. -EPROTO: a newer format.
 * Works while another process writes.
 */
int qm_xattr_read(struct qm_xattr_dir *dir, int fd, GByteArray **image, GError **error);

/* Begins a new store, in the first name space that takes it, or goes on with one that was `begun`
 * (-EINPROGRESS). Nothing counts before the first qm_xattr_write(). */
int qm_xattr_create(struct qm_xattr_dir *dir, gboolean begun, GError **error);

/* Finds out by trial how large values may be, and how much room both slots have. What it writes is
 * removed again; the slot that counts is not touched. */
int qm_xattr_measure(struct qm_xattr_dir *dir);

/* Puts `image` in place of the present state. 0: it is on stable storage. -ENOSPC: nothing was
 * changed, go on. Any other errno: what is on the disk is not known. */
int qm_xattr_write(struct qm_xattr_dir *dir, const void *image, size_t size);

/* Makes what qm_xattr_read() saw last on stable storage: writes it as a new state, or syncs where
 * there is no room for one. */
int qm_xattr_settle(struct qm_xattr_dir *dir, const void *image, size_t size);

#endif
