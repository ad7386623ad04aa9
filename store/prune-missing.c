/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a mounted filesystem to the rows that nobody needs: all its rows are collected, what exists
 * gets a mark (prune-scan.c), and so does what is asked for meanwhile (prune-marks.c); those that
 * are left are deleted (prune.c), which asks for the marks once more when no answer can come
 * between. A row that is made after the collection is not in the set, and stays.
 *
 * Why no living object loses its row: it is asked for, before or after the marks are raised. After:
 * it has a mark. Before: it existed then; it has died since, or has a name at the moment of the
 * scan, or is open in this process, and has a mark.
 */
#include "config.h"

#include "store/prune.h"

#include <errno.h>
#include <unistd.h>

#include "store/error.h"
#include "store/prune-marks.h"
#include "store/prune-scan.h"

static int look_collect(void *data, const struct qidmap_object *objects, size_t count,
                        uint8_t *exists G_GNUC_UNUSED)
{
    size_t i;

    for (i = 0; i < count; i++)
        qm_marks_add(data, &objects[i]);
    return 0;
}

static int look_handles(void *data, const struct qidmap_object *objects, size_t count,
                        uint8_t *exists G_GNUC_UNUSED)
{
    qm_scan_handles(data, objects, count);
    return 0;
}

static int look_marks(void *data, const struct qidmap_object *objects, size_t count,
                      uint8_t *exists)
{
    size_t i;

    for (i = 0; i < count; i++)
        exists[i] = qm_marks_get(data, &objects[i]) != 0;
    return 0;
}

static int find_living(struct qidmap_store *store, const struct qidmap_missing_options *options,
                       struct qm_marks *marks, GError **error)
{
    struct qidmap_prune_options each = {
        .size = sizeof(each), .flags = QIDMAP_DRY_RUN, .fs = options->fs, .look = look_handles};
    struct qidmap_prune_result none = {.size = sizeof(none)};
    struct qm_scan scan = {.root = options->bare,
                           .bare = TRUE,
                           .marks = marks,
                           .progress = options->progress,
                           .data = options->data};
    int e = 0;

    if (options->bare < 0) {
        scan.root = qm_scan_open(options->root, &scan.bare, error);
        if (scan.root < 0)
            return scan.root;
    }
    each.data = &scan;
    if (marks->kinds & 1u << QIDMAP_OBJECT_HANDLE)
        e = qm_prune(store, &each, &none, error);
    if (e == 0 && qm_marks_left(marks) > 0)
        e = qm_scan_names(&scan, error);
    if (options->bare < 0)
        close(scan.root);
    return e;
}

int qm_prune_missing(struct qidmap_store *store, const struct qidmap_missing_options *options,
                     struct qidmap_prune_result *result, GError **error)
{
    struct qidmap_prune_options each = {
        .size = sizeof(each), .flags = QIDMAP_DRY_RUN, .fs = options->fs, .look = look_collect};
    struct qm_marks *marks = qm_marks_new();
    gboolean dry_run = (options->flags & QIDMAP_DRY_RUN) != 0;
    int e;

    each.data = marks;
    e = qm_prune(store, &each, result, error);
    qm_marks_sort(marks);
    if (e != 0 || marks->digests->len == 0) {
        qm_marks_free(marks);
        return e;
    }
    if (!dry_run && !store->writable)
        e = qm_set_error(error, EROFS, "it is open for reading only");
    else if (!dry_run && qm_marks_raise(store, marks) != 0)
        e = qm_set_error(error, EBUSY, "rows of missing files are being looked for already");
    if (e != 0) {
        qm_marks_free(marks);
        return e;
    }
    e = find_living(store, options, marks, error);
    if (e == 0) {
        each.flags = options->flags;
        each.look = look_marks;
        result->rows = result->missing = 0;
        e = qm_prune(store, &each, result, error);
    }
    if (!dry_run)
        qm_marks_lower(store);
    qm_marks_free(marks);
    return e;
}
