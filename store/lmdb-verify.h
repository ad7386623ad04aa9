/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looks at every page of an LMDB file before LMDB follows them: LMDB trusts what it maps. */
#ifndef QM_LMDB_VERIFY_H
#define QM_LMDB_VERIFY_H

#include <glib.h>

enum qm_lmdb_extent {
    QM_LMDB_ALL,   /* every page that is in use */
    QM_LMDB_SMALL, /* all but the tables `full` and `byfull`, where the file is large */
    QM_LMDB_PAGES  /* all of them, but not the rows: only whether LMDB can be let loose on them */
};

/*
 * Checks the file data.mdb in `env_path`. `number` 0: nobody writes, the newest state is looked at;
 * else somebody may write, and the caller holds a read transaction of that number on its state.
 * 0, -EUCLEAN, or another errno, with `error` set.
 */
int qm_lmdb_verify(const char *env_path, guint64 number, enum qm_lmdb_extent extent,
                   GError **error);

/* Only what LMDB looks at when it opens a file, which it does not check itself. Somebody may write.
 * *newest gets the number of the newest transaction. */
int qm_lmdb_verify_heads(const char *env_path, guint64 *newest, GError **error);

/*
 * Writes the two meta pages once more, as they are read now, and syncs the file. Where a sync of
 * them failed before, memory and disk may hold different ones, and only memory is read. Nobody else
 * writes.
 */
int qm_lmdb_settle(const char *env_path, GError **error);

#endif
