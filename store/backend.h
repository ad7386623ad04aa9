/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a backend does: it keeps the seven tables of store/format.h, ordered by key, and changes
 * them in transactions. It knows bytes, not filesystems; the map does not know which backend it
 * uses.
 *
 * Rules: one write transaction at a time (the store sees to it), begun and ended by one thread.
 * Read transactions are short and may run in many threads at once. Bytes that get() or a cursor
 * give stay valid until the transaction ends or the next put() or del().
 *
 * Calls return 0, -ENOENT for "no such row", QM_GROW, or another negative errno.
 */
#ifndef QM_BACKEND_H
#define QM_BACKEND_H

#include <glib.h>

#include "store/codec.h"

/* From put() and commit(): the transaction cannot hold so much. Abort it, call grow(), do it again.
 */
#define QM_GROW (-100000)

enum qm_txn_kind {
    QM_TXN_READ,     /* short */
    QM_TXN_SNAPSHOT, /* may last; -ESTALE from a cursor when the backend had to grow meanwhile */
    QM_TXN_WRITE
};

struct qm_backend;
struct qm_txn {
    struct qm_backend *backend;
    enum qm_txn_kind kind;
};
struct qm_cursor {
    struct qm_txn *txn;
    enum qm_table table;
};

/* How a backend is opened. */
struct qm_backend_config {
    gboolean write;
    gboolean create;
    uint64_t map_size; /* room at the start, in bytes; 0: the backend's own choice */
    gboolean
        lenient; /* for verify: rows need not be right, as long as it is safe to look at them */
    gboolean replace; /* with write: a backend that has replaced() comes back fresh beside the store
                         that is there, and publish() puts it in the place of that one */
};

struct qm_backend_ops {
    const char *name;  /* "lmdb": what stands before the colon of a URI */
    gboolean has_full; /* keeps the tables full and byfull; without them affix entries have no
                          budget, and what needs a row there cannot be mapped */

    /* Opens what `place`, the URI behind the colon, names. A backend that comes back with
     * `fresh` set has empty tables, which no other process can see before publish(). */
    struct qm_backend *(*open)(const char *place, const struct qm_backend_config *config,
                               GError **error);
    int (*publish)(struct qm_backend *backend, GError **error);
    void (*close)(struct qm_backend *backend);
    /* Of one opened to replace; may be NULL. The state that publish() will replace, for reading;
     * closed before that. NULL with `error` set where it cannot be read. */
    struct qm_backend *(*replaced)(struct qm_backend *fresh, GError **error);
    /* Closes one that is fresh, and takes away what it made. May be NULL: then close() does. */
    void (*discard)(struct qm_backend *backend);

    /* `rows`: how many rows the transaction will put at most, so that a full disk shows now. */
    int (*begin)(struct qm_backend *backend, enum qm_txn_kind kind, size_t rows,
                 struct qm_txn **txn);
    /* Ends the transaction in every case. QM_GROW and -ENOSPC: nothing was changed. After any other
     * error nobody knows what is on the disk: begin() serves readers with the last good state, and
     * a write transaction must not be begun before recover(). */
    int (*commit)(struct qm_txn *txn);
    void (*abort)(struct qm_txn *txn);
    int (*grow)(struct qm_backend *backend);
    /* Brings the last good state to a new place without what nobody uses, with `meta` as its record
     * (transaction is set), and goes on there: after a failed commit, as that place is known to
     * hold it, and to save room. On failure the old place is the store's still; where `doubtful` is
     * set, nobody knows which of both a crash would bring back, and nothing may be written before
     * this has succeeded. NULL: cannot. */
    int (*recover)(struct qm_backend *backend, struct qm_meta *meta, GError **error);
    /* Number of the state that the transaction reads, or will make: larger by one each commit. */
    uint64_t (*number)(struct qm_txn *txn);

    int (*get)(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
               struct qm_bytes *value);
    int (*put)(struct qm_txn *txn, enum qm_table table, struct qm_bytes key, struct qm_bytes value);
    int (*del)(struct qm_txn *txn, enum qm_table table, struct qm_bytes key);

    int (*cursor_open)(struct qm_txn *txn, enum qm_table table, struct qm_cursor **cursor);
    /* To the first row whose key is `key` or more; an empty key: the first row. */
    int (*cursor_seek)(struct qm_cursor *cursor, struct qm_bytes key, struct qm_bytes *k,
                       struct qm_bytes *v);
    int (*cursor_next)(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v);
    int (*cursor_prev)(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v);
    void (*cursor_close)(struct qm_cursor *cursor); /* before the transaction ends */

    /* Bytes in use and bytes that fit (0: no limit). */
    void (*room)(struct qm_backend *backend, uint64_t *used, uint64_t *limit);
    /* Bytes that a copy of what the SNAPSHOT sees would use, about; NULL: as many as are in use. */
    uint64_t (*live)(struct qm_txn *txn);
    /* Affix entries that still fit, about; NULL: no limit. */
    uint64_t (*rows_room)(struct qm_backend *backend);
};

struct qm_backend {
    const struct qm_backend_ops *ops;
    gboolean fresh;  /* set by open(), cleared by publish() */
    gboolean copied; /* set by open(): somebody copied it, or put it back from a backup */
    gboolean failed; /* set by open(): it can be read, and must recover() before it is written to */
    gboolean doubtful; /* set by recover() where it failed */
    char *kept; /* set by publish(): where the files of a store that was replaced, and could not
                   be read, are now. Freed by close() */
    const char *dump; /* file for the dump of a clean stop, NULL: none is written */
    gboolean clean;   /* set before close(): the note of a clean stop is in it */
};

extern const struct qm_backend_ops qm_backend_mem;
extern const struct qm_backend_ops qm_backend_lmdb;
extern const struct qm_backend_ops qm_backend_xattr;

#endif
