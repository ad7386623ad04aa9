/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The directory of an lmdb: store: which generation is current, who may write, and whether the
 * place is fit for a store. Knows nothing of what is inside an environment.
 */
#ifndef QM_LMDB_DIR_H
#define QM_LMDB_DIR_H

#include <glib.h>

struct qm_lmdb_dir {
    char *path;
    char *name;     /* of the generation: "gen.1" */
    char *env_path; /* its path */
    char *dump;     /* path of the dump that is written at a clean stop */
    char *next;     /* name of the generation that is being made, or NULL */
    int fd;         /* the directory */
    int gen_fd;     /* the generation's; readers hold a shared flock on it */
    int lock_fd;    /* with the writer's lock, or a reader's shared one; -1: none */
    char *claim;    /* key in the table of what this process has open */
    gboolean fresh; /* the environment is to be made; then qm_lmdb_dir_publish() */
    gboolean write;
    char noted[128]; /* what the last writer noted in the lock file, "gen.N TRANSACTION", or "" */
    gboolean newer;  /* a later generation was there when it was opened, whole and not current */
    gboolean unsure; /* a switch may or may not be on the disk: no generation goes away */
};

struct qm_lmdb_dir *qm_lmdb_dir_open(const char *path, gboolean write, gboolean create,
                                     GError **error);
/* The environment is whole and synced: makes it the current one. */
int qm_lmdb_dir_publish(struct qm_lmdb_dir *dir, GError **error);
void qm_lmdb_dir_close(struct qm_lmdb_dir *dir);
/* Takes away what the making of a store left, before it was published. Before close(). */
void qm_lmdb_dir_discard(struct qm_lmdb_dir *dir);
/* A handle of the current generation's path alone, for reading beside `dir`. */
struct qm_lmdb_dir *qm_lmdb_dir_view(const struct qm_lmdb_dir *dir);

/* Whether data.mdb is still the file that was opened as `fd`, at its place: 0 or -EUCLEAN. */
int qm_lmdb_dir_check(const struct qm_lmdb_dir *dir, int fd);
/* By the writer, after each commit: notes which transaction it was. Not synced: a process that is
 * killed leaves it, a power cut may not. Cleared by a close in order, but where there was no
 * commit.
 */
void qm_lmdb_dir_note(struct qm_lmdb_dir *dir, guint64 transaction);
/* Whether the last writer, who did not come to an end, had committed more in this generation than
 * `transaction`: somebody put an older state in its place. */
gboolean qm_lmdb_dir_is_older(const struct qm_lmdb_dir *dir, guint64 transaction);
/* For a reader: whether a writer has the store open now. */
gboolean qm_lmdb_dir_has_writer(const struct qm_lmdb_dir *dir);

/* ---- a new generation, by the writer ---- */

/* Makes its directory; *env_path is the caller's to free. Then either of the two below. */
int qm_lmdb_dir_begin(struct qm_lmdb_dir *dir, char **env_path, GError **error);
/* What is in it is whole and synced: makes it the current one, lastingly. The handle goes on with
 * it. On failure the old one stays, and the new one is dropped where that is safe. */
int qm_lmdb_dir_switch(struct qm_lmdb_dir *dir, GError **error);
void qm_lmdb_dir_drop(struct qm_lmdb_dir *dir);
/* After a switch: moves an old generation to where clean() does not find it. Returns its path, for
 * the caller to free. */
char *qm_lmdb_dir_keep(struct qm_lmdb_dir *dir, const char *name);
/* Removes generations that are not current and that nobody reads. */
void qm_lmdb_dir_clean(struct qm_lmdb_dir *dir);

#endif
