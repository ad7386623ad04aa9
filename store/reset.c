/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An empty dump is loaded in the place of what is there: so all that holds for a load holds here.
 * The old state is dumped first, its counters are taken over, others see nothing before it is done.
 */
#include "config.h"

#include "store/reset.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/dump.h"
#include "store/dumpline.h"
#include "store/error.h"
#include "store/load.h"
#include "store/store.h"

struct text {
    GString *bytes;
    gsize at;
};

static long read_text(void *data, void *bytes, size_t size)
{
    struct text *text = data;
    gsize n = MIN(size, text->bytes->len - text->at);

    memcpy(bytes, text->bytes->str + text->at, n);
    text->at += n;
    return (long)n;
}

/* A dump of a store without rows. */
static GString *empty_dump(const struct qm_meta *meta)
{
    GString *all = g_string_new(NULL), *end = g_string_new(NULL);
    XXH128_canonical_t canonical;
    struct qm_meta none;

    memset(&none, 0, sizeof(none));
    qm_line_store(all, meta);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(all->str, all->len));
    qm_line_end(end, &none, canonical.digest);
    g_string_append_len(all, end->str, (gssize)end->len);
    g_string_free(end, TRUE);
    return all;
}

/* The record of the store that is there. One that is too damaged to be opened may have it still.
 * Without it, nobody knows what was given: -EUCLEAN. */
static int read_present(const char *uri, struct qm_meta *meta, GError **error)
{
    struct qm_backend_config config = {.lenient = TRUE};
    const struct qm_backend_ops *ops;
    struct qm_backend *backend;
    const char *place;
    struct qm_txn *txn;
    int e;

    ops = qm_backend_find(uri, &place, error);
    if (!ops)
        return -EINVAL;
    backend = ops->open(place, &config, error);
    if (!backend)
        return error && *error ? -(*error)->code : -EIO;
    e = ops->begin(backend, QM_TXN_SNAPSHOT, 0, &txn);
    if (e == 0) {
        e = qm_read_meta(txn, meta);
        ops->abort(txn);
    }
    ops->close(backend);
    return e == 0 ? 0
                  : qm_set_error(error, e == -ENOENT ? -EUCLEAN : e,
                                 "its record cannot be read (%s), and so not which ids were given: "
                                 "restore it from a backup, or let it begin from scratch",
                                 g_strerror(-e));
}

/* The record of the store as it will be: that of the present one, or of a new one. */
static int plan(const char *uri, gboolean from_scratch, struct qm_meta *meta, GError **error)
{
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qidmap_store *fresh;
    GError *trouble = NULL;
    int e = read_present(uri, meta, &trouble);

    if (e != 0 && !(e == -EUCLEAN && from_scratch)) {
        g_propagate_error(error, trouble);
        return e;
    }
    g_clear_error(&trouble);
    if (from_scratch) {
        if (e == 0)
            params.affix_budget = meta->affix_budget;
        fresh =
            qm_store_open("memory:", QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, &params, NULL, error);
        if (!fresh)
            return -EIO;
        *meta = fresh->meta;
        qm_store_close(fresh);
    }
    meta->fs_rows = meta->fsid_rows = meta->affix_rows = meta->full_rows = 0;
    meta->last_clean_stop = 0;
    return 0;
}

int qm_reset(const char *uri, const struct qidmap_reset_options *options,
             struct qidmap_load_result *result, GError **error)
{
    gboolean from_scratch = (options->flags & QIDMAP_RESET_FROM_SCRATCH) != 0;
    struct text text = {NULL, 0};
    struct qidmap_load_options how = {.size = sizeof(how),
                                      .flags = QIDMAP_LOAD_REPLACE | QIDMAP_LOAD_LATEST |
                                               (from_scratch ? QM_LOAD_FORGET : 0),
                                      .read = read_text,
                                      .backup = options->backup,
                                      .data = &text};
    struct qm_meta meta;
    int e = plan(uri, from_scratch, &meta, error);

    if (e != 0)
        return e;
    text.bytes = empty_dump(&meta);
    e = qm_load(uri, &how, result, NULL, error);
    g_string_free(text.bytes, TRUE);
    return e;
}
