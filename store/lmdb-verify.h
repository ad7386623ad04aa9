/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looks at every page of an LMDB file before LMDB follows them: LMDB trusts what it maps. */
#ifndef QM_LMDB_VERIFY_H
#define QM_LMDB_VERIFY_H

#include <glib.h>

/*
 * Checks the file data.mdb in `env_path`. `number` 0: nobody writes, the newest state is looked at;
 * else somebody may write, and the caller holds a read transaction of that number on its state.
 * 0, -EUCLEAN, or another errno, with `error` set.
 */
int qm_lmdb_verify(const char *env_path, guint64 number, GError **error);

/* The same without the rows: only whether LMDB can be let loose on the pages. */
int qm_lmdb_verify_pages(const char *env_path, guint64 number, GError **error);

/* Only what LMDB looks at when it opens a file, which it does not check itself. Somebody may write.
 */
int qm_lmdb_verify_heads(const char *env_path, GError **error);

#endif
