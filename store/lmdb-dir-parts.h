/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory of an lmdb: store, as the files lmdb-dir*.c share it. Nobody else includes this.
 * Functions give 0, or a negative errno with `error` set where they take one.
 */
#ifndef QM_LMDB_DIR_PARTS_H
#define QM_LMDB_DIR_PARTS_H

#include <sys/types.h>

#include "store/lmdb-dir.h"

/* ---- lmdb-dir-place.c: is the place fit? ---- */

int qm_lmdb_dir_check_place(const struct qm_lmdb_dir *dir, gboolean write, GError **error);
/* A part of the store: a plain file or directory of the same owner, and no link to elsewhere. One
 * that is absent passes. */
int qm_lmdb_dir_check_part(const struct qm_lmdb_dir *dir, int at, const char *name, mode_t type,
                           GError **error);
int qm_lmdb_dir_check_parts(const struct qm_lmdb_dir *dir, GError **error);

/* What stands in the directory. */
struct qm_lmdb_dir_content {
    gboolean current, creating, generation, foreign;
};

int qm_lmdb_dir_scan(const struct qm_lmdb_dir *dir, struct qm_lmdb_dir_content *c, GError **error);
/* 0 when there is a store, -ENOENT when there is none and one may be made. */
int qm_lmdb_dir_judge(const struct qm_lmdb_dir_content *c, GError **error);

/* ---- lmdb-dir-lock.c: who has it open? ---- */

/* Whether nobody in this process has the directory of this key open; now the caller has. */
gboolean qm_lmdb_dir_claim(const char *key);
void qm_lmdb_dir_unclaim(const char *key);
int qm_lmdb_dir_take_lock(struct qm_lmdb_dir *dir, GError **error);
/* For a reader on a read-only filesystem: keeps writers out. */
int qm_lmdb_dir_lock_out_writer(struct qm_lmdb_dir *dir, GError **error);

/* ---- lmdb-dir-current.c: small files ---- */

/* Writes a small file and syncs it. */
int qm_lmdb_dir_write_file(int dir_fd, const char *name, const char *text);
/* The name of the generation that `current` names, for the caller to free, or NULL. */
char *qm_lmdb_dir_read_current(const struct qm_lmdb_dir *dir, GError **error);
/* Makes `current` name a generation, lastingly. *renamed: it does now, though perhaps not
 * lastingly. */
int qm_lmdb_dir_set_current(const struct qm_lmdb_dir *dir, const char *name, int gen_fd,
                            gboolean *renamed);

/* ---- lmdb-dir-generation.c ---- */

/* Opens the current generation. */
int qm_lmdb_dir_enter(struct qm_lmdb_dir *dir, GError **error);
/* Begins a new store, with its first generation. */
int qm_lmdb_dir_create(struct qm_lmdb_dir *dir, GError **error);
/* Removes a generation: only files of ours. */
int qm_lmdb_dir_remove(const struct qm_lmdb_dir *dir, const char *name);
/* By a writer who opened a store: what a switch that did not end left behind. */
void qm_lmdb_dir_clean_at_open(struct qm_lmdb_dir *dir);

#endif
