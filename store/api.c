/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every exported function: checks its arguments, calls inside, turns errors into the public form.
 * No logic. What is exported is marked here and listed in libqidmap.sym.
 */
#include "config.h"

#include "store/qidmap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/adopt.h"
#include "store/bind.h"
#include "store/compact.h"
#include "store/copy.h"
#include "store/dump.h"
#include "store/error.h"
#include "store/holder.h"
#include "store/identity.h"
#include "store/iter.h"
#include "store/load.h"
#include "store/marker.h"
#include "store/object.h"
#include "store/prune-scan.h"
#include "store/prune.h"
#include "store/reset.h"
#include "store/store.h"
#include "store/verify.h"
#include "store/view.h"
#include "store/virtfs.h"

#define EXPORT __attribute__((visibility("default")))

/* Wants of a small batch stand on the stack. */
#define FEW 32

EXPORT const char *qidmap_version(void)
{
    return PACKAGE_VERSION;
}

static int refuse(struct qidmap_error *error, const char *name, const char *text)
{
    GError *e = NULL;

    qm_set_error(&e, EINVAL, "%s", text);
    return qm_error_export(e, name, error);
}

/* ---- stores ---------------------------------------------------------------------------------- */

EXPORT int qidmap_store_open(const char *uri, unsigned flags, const struct qidmap_params *params,
                             qidmap_store **store, struct qidmap_error *error)
{
    struct qidmap_params p = QIDMAP_PARAMS_INIT;
    GError *e = NULL;

    if (!uri || !store)
        return refuse(error, NULL, "a store needs a URI and a place for its handle");
    if ((flags & ~(unsigned)(QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE)) ||
        ((flags & QIDMAP_OPEN_CREATE) && !(flags & QIDMAP_OPEN_WRITE)))
        return refuse(error, uri, "flags that do not fit together");
    if (params) {
        if (params->size < sizeof(p.size) + sizeof(p.affix_budget))
            return refuse(error, uri, "parameters without their size");
        memcpy(&p, params, MIN(params->size, sizeof(p)));
        if (p.affix_budget < 1 || p.affix_budget > 65535 || p.reserved != 0)
            return refuse(error, uri, "the affix budget must be from 1 to 65535");
    }
    *store = qm_store_open(uri, flags, &p, NULL, &e);
    return *store ? 0 : qm_error_export(e, uri, error);
}

EXPORT void qidmap_store_close(qidmap_store *store)
{
    qm_store_close(store);
}

EXPORT int qidmap_store_holder(const char *uri, struct qidmap_holder *holder,
                               struct qidmap_error *error)
{
    struct qidmap_holder found = {.size = sizeof(found)};
    GError *e = NULL;

    if (!uri || !holder || holder->size != sizeof(*holder))
        return refuse(error, uri, "the holder needs a URI, and a struct with its size");
    if (qm_store_holder(uri, &found, &e) != 0)
        return qm_error_export(e, uri, error);
    *holder = found;
    return 0;
}

EXPORT int qidmap_set_contact(const char *contact)
{
    return contact ? qm_set_contact(contact, NULL) : -EINVAL;
}

EXPORT int qidmap_store_health(qidmap_store *store, struct qidmap_error *error)
{
    GError *e = NULL;

    if (!store)
        return refuse(error, NULL, "no store");
    return qm_store_health(store, &e) == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_store_stats(qidmap_store *store, struct qidmap_stats *stats,
                              struct qidmap_error *error)
{
    struct qidmap_stats s = {.size = sizeof(s)};
    size_t size;

    if (!store || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(s))
        return refuse(error, store ? store->uri : NULL, "statistics need a struct with its size");
    size = stats->size;
    qm_store_stats(store, &s);
    s.size = size;
    memcpy(stats, &s, size);
    return 0;
}

/* ---- filesystems ----------------------------------------------------------------------------- */

EXPORT int qidmap_identify(int fd, const struct qidmap_identify_options *options,
                           struct qidmap_identity *identity, struct qidmap_error *error)
{
    if (fd < 0 || !identity || (options && options->size < sizeof(*options)))
        return refuse(error, NULL, "identify needs an open file and structs with their size");
    return qm_identify(fd, options, identity, error);
}

EXPORT int qidmap_keep_mounts(struct qidmap_error *error)
{
    int r = qm_view_keep();

    if (r < 0 && error) {
        error->code = r;
        snprintf(error->text, sizeof(error->text), "/proc/self/mountinfo: %s", g_strerror(-r));
    }
    return r;
}

EXPORT int qidmap_explain(int fd, const struct qidmap_identify_options *options,
                          struct qidmap_finding *findings, size_t *count,
                          struct qidmap_identity *identity, struct qidmap_error *error)
{
    if (fd < 0 || !findings || !count || !identity || (options && options->size < sizeof(*options)))
        return refuse(error, NULL, "explain needs an open file and structs with their size");
    return qm_explain(fd, options, findings, count, identity, error);
}

EXPORT int qidmap_mark(int fd, struct qidmap_identity *identity, struct qidmap_error *error)
{
    if (fd < 0 || !identity)
        return refuse(error, NULL, "mark needs an open file and its identity");
    return qm_mark(fd, identity, error);
}

EXPORT const char *qidmap_fsid_kind_name(uint32_t kind)
{
    return qm_fsid_kind_name(kind);
}

EXPORT const char *qidmap_policy_name(uint32_t policy)
{
    return qm_policy_name(policy);
}

static gboolean is_terminated(const char *text, size_t room)
{
    return memchr(text, 0, room) != NULL;
}

static gboolean identity_is_valid(const struct qidmap_identity *id)
{
    const struct qidmap_hints *h = &id->hints;
    uint32_t i;

    if (id->size != sizeof(*id) || id->count < 1 || id->count > QIDMAP_FSID_COUNT ||
        id->policy < QIDMAP_POLICY_AFFIX || id->policy > QIDMAP_POLICY_DENY)
        return FALSE;
    for (i = 0; i < id->count; i++) {
        if (id->fsid[i].kind < 1 || id->fsid[i].kind > 255 || id->fsid[i].size < 1 ||
            id->fsid[i].size > QIDMAP_FSID_BYTES)
            return FALSE;
    }
    return is_terminated(h->type, sizeof(h->type)) && is_terminated(h->source, sizeof(h->source)) &&
           is_terminated(h->backing, sizeof(h->backing)) &&
           is_terminated(h->dm_uuid, sizeof(h->dm_uuid)) &&
           is_terminated(h->wwid, sizeof(h->wwid)) &&
           is_terminated(h->part_uuid, sizeof(h->part_uuid)) &&
           is_terminated(h->mount_path, sizeof(h->mount_path)) &&
           is_terminated(h->tree, sizeof(h->tree)) &&
           is_terminated(h->boot_id, sizeof(h->boot_id)) &&
           is_terminated(h->machine_id, sizeof(h->machine_id));
}

static int check_identities(qidmap_store *store, const struct qidmap_identity *identities,
                            size_t count, const uint32_t *fs_numbers, struct qidmap_error *error)
{
    size_t i;

    if (!store || count > UINT32_MAX || (count && (!identities || !fs_numbers)))
        return refuse(error, store ? store->uri : NULL, "filesystems without identities");
    for (i = 0; i < count; i++) {
        if (!identity_is_valid(&identities[i]))
            return refuse(error, store->uri, "an identity that qidmap_identify() did not make");
    }
    return 0;
}

EXPORT int qidmap_register(qidmap_store *store, const struct qidmap_identity *identities,
                           size_t count, uint32_t *fs_numbers, struct qidmap_error *error)
{
    struct qm_registration reg = {.count = 0};
    GError *e = NULL;
    int r = check_identities(store, identities, count, fs_numbers, error);

    if (r != 0)
        return r;
    if (!store->writable)
        return qm_error_code(-EROFS, store->uri, error);
    reg.identities = identities;
    reg.count = count;
    reg.numbers = fs_numbers;
    r = qm_store_register(store, &reg, &e);
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_register_mounted(qidmap_store *store, struct qidmap_mounted *mounted,
                                   size_t count, const struct qidmap_register_options *options,
                                   struct qidmap_error *error)
{
    const struct qm_outside outside = {qidmap_mark, NULL};
    struct qidmap_register_options o = {.size = sizeof(o)};
    GError *e = NULL;
    size_t i;
    int r;

    if (!store || count > UINT32_MAX || (count && !mounted))
        return refuse(error, store ? store->uri : NULL, "filesystems without identities");
    if (options && options->size != sizeof(o))
        return refuse(error, store->uri, "options without their size");
    if (options)
        o = *options;
    if (o.on_duplicate > QIDMAP_REFUSE || o.reserved != 0 || (o.n_live && !o.live))
        return refuse(error, store->uri, "options that do not fit together");
    for (i = 0; i < count; i++) {
        if (!identity_is_valid(&mounted[i].identity))
            return refuse(error, store->uri, "an identity that qidmap_identify() did not make");
    }
    if (!store->writable)
        return qm_error_code(-EROFS, store->uri, error);
    r = qm_store_register_mounted(store, mounted, count, &o, &outside, &e);
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_recognise(qidmap_store *store, const struct qidmap_identity *identities,
                            size_t count, uint32_t *fs_numbers, struct qidmap_error *error)
{
    int r = check_identities(store, identities, count, fs_numbers, error);

    return r == 0 ? qm_store_recognise(store, identities, count, fs_numbers) : r;
}

EXPORT int qidmap_fs_get(qidmap_store *store, uint32_t fs, struct qidmap_fs *row,
                         struct qidmap_error *error)
{
    struct qidmap_fs full = {.size = sizeof(full)};
    size_t size;
    int r;

    if (!store || !row || row->size < sizeof(row->size) || row->size > sizeof(full))
        return refuse(error, store ? store->uri : NULL, "a row needs a struct with its size");
    size = row->size;
    r = qm_store_fs_get(store, fs, &full);
    if (r != 0)
        return qm_error_code(r, store->uri, error);
    full.size = size;
    memcpy(row, &full, size);
    return 0;
}

EXPORT int qidmap_fs_alias(qidmap_store *store, uint32_t old_fs, uint32_t new_fs,
                           struct qidmap_error *error)
{
    GError *e = NULL;
    int r;

    if (!store)
        return refuse(error, NULL, "no store");
    if (!store->writable)
        return qm_error_code(-EROFS, store->uri, error);
    r = qm_store_alias(store, old_fs, new_fs, &e);
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_fs_retire(qidmap_store *store, uint32_t fs, struct qidmap_error *error)
{
    GError *e = NULL;
    int r;

    if (!store)
        return refuse(error, NULL, "no store");
    if (!store->writable)
        return qm_error_code(-EROFS, store->uri, error);
    r = qm_store_retire(store, fs, &e);
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_fs_set_policy(qidmap_store *store, uint32_t fs, uint32_t policy, int renumber,
                                uint32_t *new_fs, struct qidmap_error *error)
{
    GError *e = NULL;
    int r;

    if (!store)
        return refuse(error, NULL, "no store");
    if (policy < QIDMAP_POLICY_AFFIX || policy > QIDMAP_POLICY_DENY)
        return refuse(error, store->uri, "no such policy");
    if (!store->writable)
        return qm_error_code(-EROFS, store->uri, error);
    r = qm_store_set_policy(store, fs, policy, renumber != 0, new_fs, &e);
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

/* ---- the map --------------------------------------------------------------------------------- */

EXPORT int qidmap_object_by_handle(uint32_t fs, int fd, const char *name, uint64_t ino,
                                   struct qidmap_object *object)
{
    return name && object ? qm_object_by_handle(fs, fd, name, ino, object) : -EINVAL;
}

/* Apart, so that a known inode does not pay for filling a want. */
static __attribute__((noinline)) int map_new(qidmap_store *store, uint32_t fs, uint64_t ino,
                                             uint64_t *path)
{
    struct qm_want want = {.object = {.fs = fs, .kind = QIDMAP_OBJECT_INODE, .ino = ino}};

    qm_store_map(store, &want, 1);
    if (want.result == 0)
        *path = want.path;
    return want.result;
}

EXPORT int qidmap_map(qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t *path)
{
    int r;

    if (!store || !path)
        return -EINVAL;
    r = qm_store_find(store, fs, ino, path);
    return r != -ENOENT || !store->writable ? r : map_new(store, fs, ino, path);
}

EXPORT int qidmap_map_batch(qidmap_store *store, struct qidmap_item *items, size_t count)
{
    struct qm_want few[FEW], *wants = few;
    size_t unknown = 0, i, j;
    int first = 0;

    if (!store || (count && !items))
        return -EINVAL;
    for (i = 0; i < count; i++) {
        items[i].result = qm_store_find(store, items[i].fs, items[i].ino, &items[i].path);
        unknown += items[i].result == -ENOENT;
    }
    if (unknown && store->writable) {
        if (unknown > FEW)
            wants = g_try_new(struct qm_want, unknown);
        if (!wants)
            return -ENOMEM;
        for (i = j = 0; i < count; i++) {
            if (items[i].result != -ENOENT)
                continue;
            memset(&wants[j].object, 0, sizeof(wants[j].object));
            wants[j].object.fs = items[i].fs;
            wants[j++].object.ino = items[i].ino;
        }
        qm_store_map(store, wants, unknown);
        for (i = j = 0; i < count; i++) {
            if (items[i].result != -ENOENT)
                continue;
            items[i].result = wants[j].result;
            if (wants[j].result == 0)
                items[i].path = wants[j].path;
            j++;
        }
        if (wants != few)
            g_free(wants);
    }
    for (i = 0; i < count && first == 0; i++)
        first = items[i].result;
    return first;
}

EXPORT int qidmap_map_objects(qidmap_store *store, const struct qidmap_object *objects,
                              size_t count, uint64_t *paths, int32_t *results)
{
    g_autofree struct qm_want *wants = NULL;
    g_autofree size_t *of = NULL; /* of[j]: whose want j is */
    size_t unknown = 0, i, j;
    int first = 0;

    if (!store || (count && (!objects || !paths || !results)))
        return -EINVAL;
    for (i = 0; i < count; i++) {
        results[i] = qm_object_is_valid(&objects[i])
                         ? qm_store_find_object(store, &objects[i], &paths[i])
                         : -EINVAL;
        unknown += results[i] == -ENOENT;
    }
    if (unknown && store->writable) {
        wants = g_try_new(struct qm_want, unknown);
        of = g_try_new(size_t, unknown);
        if (!wants || !of)
            return -ENOMEM;
        for (i = j = 0; i < count; i++) {
            if (results[i] != -ENOENT)
                continue;
            wants[j].object = objects[i];
            of[j++] = i;
        }
        qm_store_map(store, wants, unknown);
        for (j = 0; j < unknown; j++) {
            results[of[j]] = wants[j].result;
            if (wants[j].result == 0)
                paths[of[j]] = wants[j].path;
        }
    }
    for (i = 0; i < count && first == 0; i++)
        first = results[i];
    return first;
}

EXPORT int qidmap_map_object(qidmap_store *store, const struct qidmap_object *object,
                             uint64_t *path)
{
    struct qm_want want;
    int r;

    if (!store || !object || !path || !qm_object_is_valid(object))
        return -EINVAL;
    r = qm_store_find_object(store, object, path);
    if (r != -ENOENT || !store->writable)
        return r;
    want.object = *object;
    qm_store_map(store, &want, 1);
    if (want.result == 0)
        *path = want.path;
    return want.result;
}

EXPORT int qidmap_find(qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t *path)
{
    return store && path ? qm_store_find(store, fs, ino, path) : -EINVAL;
}

EXPORT int qidmap_find_object(qidmap_store *store, const struct qidmap_object *object,
                              uint64_t *path)
{
    if (!store || !object || !path || !qm_object_is_valid(object))
        return -EINVAL;
    return qm_store_find_object(store, object, path);
}

EXPORT int qidmap_reverse(qidmap_store *store, uint64_t path, struct qidmap_object *object)
{
    return store && object ? qm_store_reverse(store, path, object) : -EINVAL;
}

/* ---- rows ------------------------------------------------------------------------------------ */

EXPORT int qidmap_iter_open(qidmap_store *store, qidmap_iter **iter, struct qidmap_error *error)
{
    int r;

    if (!store || !iter)
        return refuse(error, store ? store->uri : NULL, "a walk needs a place for its handle");
    r = qm_iter_open(store, iter);
    return r == 0 ? 0 : qm_error_code(r, store->uri, error);
}

EXPORT int qidmap_iter_next(qidmap_iter *iter, struct qidmap_row *row, struct qidmap_error *error)
{
    int r;

    if (!iter || !row)
        return refuse(error, iter ? qm_iter_uri(iter) : NULL, "a walk needs a place for its rows");
    r = qm_iter_next(iter, row);
    return r >= 0 ? r : qm_error_code(r, qm_iter_uri(iter), error);
}

EXPORT void qidmap_iter_close(qidmap_iter *iter)
{
    qm_iter_close(iter);
}

/* ---- the layout of 2019 ---------------------------------------------------------------------- */

EXPORT int qidmap_virtfs_read(const char *dir,
                              int (*row)(const struct qidmap_virtfs_entry *entry, void *data),
                              void *data, struct qidmap_error *error)
{
    GError *e = NULL;
    int r;

    if (!dir || !row)
        return refuse(error, dir, "the reader needs a directory and a function for its entries");
    r = qm_virtfs_read(dir, row, data, &e);
    return e ? qm_error_export(e, dir, error) : r;
}

/* ---- verify, dump, load ---------------------------------------------------------------------- */

EXPORT const char *qidmap_problem_name(uint32_t kind)
{
    return qm_problem_name(kind);
}

static int check_verify(const struct qidmap_verify_options *options,
                        const struct qidmap_verify_result *result, const char *name,
                        struct qidmap_error *error)
{
    if (!result || result->size != sizeof(*result) ||
        (options && (options->size != sizeof(*options) ||
                     (options->flags & ~(uint32_t)QIDMAP_VERIFY_REPAIR) || options->reserved)))
        return refuse(error, name, "verify needs structs with their size, and flags that exist");
    return 0;
}

EXPORT int qidmap_verify(const char *uri, const struct qidmap_verify_options *options,
                         struct qidmap_verify_result *result, struct qidmap_error *error)
{
    struct qidmap_verify_result found = {.size = sizeof(found)};
    GError *e = NULL;
    int r;

    if (!uri)
        return refuse(error, NULL, "verify needs the URI of a store");
    r = check_verify(options, result, uri, error);
    if (r != 0)
        return r;
    r = qm_verify_uri(uri, options, &found, &e);
    if (r != 0)
        return qm_error_export(e, uri, error);
    *result = found;
    return 0;
}

EXPORT int qidmap_store_verify(qidmap_store *store, const struct qidmap_verify_options *options,
                               struct qidmap_verify_result *result, struct qidmap_error *error)
{
    struct qidmap_verify_result found = {.size = sizeof(found)};
    GError *e = NULL;
    int r;

    if (!store)
        return refuse(error, NULL, "verify needs a store");
    r = check_verify(options, result, store->uri, error);
    if (r != 0)
        return r;
    if (options && options->flags)
        return refuse(error, store->uri, "a store that is open cannot be repaired: close it");
    r = qm_verify_backend(store->backend, options, &found, &e);
    if (r != 0)
        return qm_error_export(e, store->uri, error);
    *result = found;
    return 0;
}

EXPORT int qidmap_dump(qidmap_store *store, qidmap_write_func write, qidmap_progress_func progress,
                       void *data, struct qidmap_error *error)
{
    struct qm_progress p = {progress, data, 0, 0};
    GError *e = NULL;
    struct qm_txn *txn;
    int r;

    if (!store || !write)
        return refuse(error, store ? store->uri : NULL, "a dump needs a store and a writer");
    r = store->backend->ops->begin(store->backend, QM_TXN_SNAPSHOT, 0, &txn);
    if (r != 0)
        return qm_error_code(r, store->uri, error);
    r = qm_dump(txn, FALSE, write, data, &p, &e);
    store->backend->ops->abort(txn);
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_backup(qidmap_store *store, const char *path, int replace,
                         qidmap_progress_func progress, void *data, char *written,
                         struct qidmap_error *error)
{
    struct qm_progress p = {progress, data, 0, 0};
    const char *place = store ? strchr(store->uri, ':') : NULL;
    g_autofree char *name = NULL;
    GError *e = NULL;
    struct qm_txn *txn;
    int r;

    if (!store || (!path && !place[1]))
        return refuse(error, store ? store->uri : NULL, "a backup needs a store and a file");
    name = path ? g_strdup(path) : qm_backup_name(place + 1, "backup");
    r = store->backend->ops->begin(store->backend, QM_TXN_SNAPSHOT, 0, &txn);
    if (r != 0)
        return qm_error_code(r, store->uri, error);
    r = qm_dump_file(txn, FALSE, name, replace != 0, &p, &e);
    store->backend->ops->abort(txn);
    if (r != 0)
        return qm_error_export(e, store->uri, error);
    if (written)
        g_strlcpy(written, name, QIDMAP_ERROR_TEXT);
    return 0;
}

EXPORT int qidmap_load(const char *uri, const struct qidmap_load_options *options,
                       struct qidmap_load_result *result, qidmap_store **store,
                       struct qidmap_error *error)
{
    struct qidmap_load_result made = {.size = sizeof(made)};
    qidmap_store *opened = NULL;
    GError *e = NULL;
    int r;

    if (!uri || !options || options->size != sizeof(*options) || !options->read ||
        (options->flags & ~(uint32_t)(QIDMAP_LOAD_REPLACE | QIDMAP_LOAD_LATEST)) ||
        options->reserved || (result && result->size != sizeof(*result)))
        return refuse(error, uri, "load needs a URI, a reader, and structs with their size");
    r = qm_load(uri, options, &made, store ? &opened : NULL, &e);
    if (r != 0)
        return qm_error_export(e, uri, error);
    if (result)
        *result = made;
    if (store)
        *store = opened;
    return 0;
}

EXPORT int qidmap_store_copy(qidmap_store *store, const char *uri,
                             const struct qidmap_copy_options *options,
                             struct qidmap_load_result *result, struct qidmap_error *error)
{
    struct qidmap_copy_options none = {.size = sizeof(none)};
    struct qidmap_load_result made = {.size = sizeof(made)};
    GError *e = NULL;

    if (!store || !uri ||
        (options && (options->size != sizeof(*options) || options->reserved ||
                     (options->flags & ~(uint32_t)(QIDMAP_LOAD_REPLACE | QIDMAP_LOAD_LATEST)))) ||
        (result && result->size != sizeof(*result)))
        return refuse(error, uri, "a copy needs a store, a URI, and structs with their size");
    if (qm_copy(store, uri, options ? options : &none, &made, &e) != 0)
        return qm_error_export(e, uri, error);
    if (result)
        *result = made;
    return 0;
}

/* ---- smaller, and anew ----------------------------------------------------------------------- */

EXPORT int qidmap_compact(qidmap_store *store, unsigned flags, struct qidmap_compact_result *result,
                          struct qidmap_error *error)
{
    struct qidmap_compact_result made = {.size = sizeof(made)};
    GError *e = NULL;

    if (!store || (flags & ~(unsigned)QIDMAP_DRY_RUN) ||
        (result && result->size != sizeof(*result)))
        return refuse(error, store ? store->uri : NULL,
                      "compact needs a store and a struct with its size");
    if (qm_compact(store, (flags & QIDMAP_DRY_RUN) != 0, &made, &e) != 0)
        return qm_error_export(e, store->uri, error);
    if (result)
        *result = made;
    return 0;
}

EXPORT int qidmap_prune(qidmap_store *store, const struct qidmap_prune_options *options,
                        struct qidmap_prune_result *result, struct qidmap_error *error)
{
    struct qidmap_prune_result made = {.size = sizeof(made)};
    GError *e = NULL;
    int r;

    if (!store || !options || options->size != sizeof(*options) || !options->look ||
        (options->flags & ~(uint32_t)QIDMAP_DRY_RUN) || (result && result->size != sizeof(*result)))
        return refuse(error, store ? store->uri : NULL,
                      "prune needs a store, a function that looks, and structs with their size");
    r = qm_prune(store, options, &made, &e);
    if (result)
        *result = made; /* what was deleted before the work ended is deleted */
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_open_bare(int mounted, int *bare, struct qidmap_error *error)
{
    gboolean is_bare = FALSE;
    GError *e = NULL;
    int fd;

    if (mounted < 0 || !bare)
        return refuse(error, NULL, "open_bare needs an open directory");
    fd = qm_scan_open(mounted, &is_bare, &e);
    if (fd >= 0 && !is_bare) {
        close(fd);
        fd = qm_set_error(&e, EPERM,
                          "what is mounted upon it cannot be set aside: that needs CAP_SYS_ADMIN");
    }
    if (fd < 0)
        return qm_error_export(e, NULL, error);
    *bare = fd;
    return 0;
}

EXPORT int qidmap_prune_missing(qidmap_store *store, const struct qidmap_missing_options *options,
                                struct qidmap_prune_result *result, struct qidmap_error *error)
{
    struct qidmap_prune_result made = {.size = sizeof(made)};
    GError *e = NULL;
    int r;

    if (!store || !options || options->size != sizeof(*options) ||
        (options->root < 0 && options->bare < 0) || (options->flags & ~(uint32_t)QIDMAP_DRY_RUN) ||
        (result && result->size != sizeof(*result)))
        return refuse(error, store ? store->uri : NULL,
                      "prune needs a store, an open root, and structs with their size");
    r = qm_prune_missing(store, options, &made, &e);
    if (result)
        *result = made; /* as for qidmap_prune() */
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_seen(qidmap_store *store, const struct qidmap_live *live, size_t n_live,
                       struct qidmap_error *error)
{
    GError *e = NULL;

    if (!store || (n_live > 0 && !live))
        return refuse(error, store ? store->uri : NULL, "seen needs a store and filesystems");
    if (qm_store_seen(store, live, n_live, &e) != 0)
        return qm_error_export(e, store->uri, error);
    return 0;
}

EXPORT int qidmap_prune_fs(qidmap_store *store, const struct qidmap_prune_fs_options *options,
                           struct qidmap_prune_result *result, struct qidmap_error *error)
{
    struct qidmap_prune_result made = {.size = sizeof(made)};
    GError *e = NULL;
    int r;

    if (!store || !options || options->size != sizeof(*options) ||
        (options->n_mounted > 0 && !options->mounted) || (options->n_live > 0 && !options->live) ||
        (options->flags & ~(uint32_t)QIDMAP_DRY_RUN) || (result && result->size != sizeof(*result)))
        return refuse(error, store ? store->uri : NULL,
                      "prune needs a store, and structs with their size");
    r = qm_prune_fs(store, options, &made, &e);
    if (result)
        *result = made; /* as for qidmap_prune() */
    return r == 0 ? 0 : qm_error_export(e, store->uri, error);
}

EXPORT int qidmap_reset(const char *uri, const struct qidmap_reset_options *options,
                        struct qidmap_load_result *result, struct qidmap_error *error)
{
    struct qidmap_reset_options none = {.size = sizeof(none)};
    struct qidmap_load_result made = {.size = sizeof(made)};
    GError *e = NULL;

    if (!uri ||
        (options && (options->size != sizeof(*options) || options->reserved ||
                     (options->flags & ~(uint32_t)QIDMAP_RESET_FROM_SCRATCH))) ||
        (result && result->size != sizeof(*result)))
        return refuse(error, uri, "reset needs a URI, and structs with their size");
    if (qm_reset(uri, options ? options : &none, &made, &e) != 0)
        return qm_error_export(e, uri, error);
    if (result)
        *result = made;
    return 0;
}

/* ---- ids given elsewhere --------------------------------------------------------------------- */

EXPORT int qidmap_object_compare(const struct qidmap_object *a, const struct qidmap_object *b)
{
    return qm_object_compare(a, b);
}

EXPORT int qidmap_bind(const char *uri, const struct qidmap_bind_options *options,
                       struct qidmap_bind_result *result, struct qidmap_error *error)
{
    struct qidmap_bind_result made = {.size = sizeof(made)};
    GError *e = NULL;
    int r;

    if (!uri || !options || options->size != sizeof(*options) || options->reserved ||
        (options->flags & ~(uint32_t)QIDMAP_DRY_RUN) || !options->rewind || !options->next ||
        (options->n_superseded > 0 && !options->superseded) ||
        (result && result->size != sizeof(*result)))
        return refuse(error, uri, "bind needs a URI, bindings, and structs with their size");
    r = qm_bind(uri, options, NULL, &made, &e);
    if (result)
        *result = made;
    return r == 0 ? 0 : qm_error_export(e, uri, error);
}

EXPORT int qidmap_bindings_write(int fd, const struct qidmap_bindings *bindings,
                                 struct qidmap_error *error)
{
    GError *e = NULL;
    int r;

    if (fd < 0 || !bindings || bindings->size != sizeof(*bindings) || bindings->reserved ||
        !bindings->next || bindings->n_to < 1 || bindings->n_to > QM_ADOPT_FS_MAX ||
        bindings->n_from > QM_ADOPT_FS_MAX || !bindings->to ||
        (bindings->n_from > 0 && !bindings->from))
        return refuse(error, NULL,
                      "bindings need a file, filesystems, and structs with their size");
    for (size_t i = 0; i < bindings->n_to; i++) {
        if (!identity_is_valid(&bindings->to[i]))
            return refuse(error, NULL, "an identity that qidmap_identify() did not make");
    }
    r = qm_bindings_write(fd, bindings, &e);
    return r == 0 ? 0 : qm_error_export(e, NULL, error);
}

EXPORT int qidmap_adopt(const char *uri, int fd, const struct qidmap_adopt_options *options,
                        struct qidmap_bind_result *result, struct qidmap_error *error)
{
    const struct qidmap_adopt_options plain = {.size = sizeof(plain)};
    struct qidmap_bind_result made = {.size = sizeof(made)};
    GError *e = NULL;
    int r;

    if (!uri || fd < 0 ||
        (options && (options->size != sizeof(*options) || options->reserved ||
                     (options->flags & ~(uint32_t)QIDMAP_DRY_RUN))) ||
        (result && result->size != sizeof(*result)))
        return refuse(error, uri, "adopt needs a URI, a file, and structs with their size");
    r = qm_adopt(uri, fd, options ? options : &plain, &made, &e);
    if (result)
        *result = made;
    return r == 0 ? 0 : qm_error_export(e, uri, error);
}
