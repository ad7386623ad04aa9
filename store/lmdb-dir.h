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
    char *env_path; /* path of the environment's own directory */
    int fd;         /* the directory */
    int lock_fd;    /* with the writer's lock; -1 for readers */
    char *claim;    /* key in the table of what this process has open */
    gboolean fresh; /* the environment is to be made; then qm_lmdb_dir_publish() */
};

struct qm_lmdb_dir *qm_lmdb_dir_open(const char *path, gboolean write, gboolean create,
                                     GError **error);
/* The environment is whole and synced: makes it the current one. */
int qm_lmdb_dir_publish(struct qm_lmdb_dir *dir, GError **error);
void qm_lmdb_dir_close(struct qm_lmdb_dir *dir);

#endif
