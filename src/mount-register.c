/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way from what is mounted to fs numbers. The library is told what is new, and what is served
 * already; the list of the latter is kept, so that ten thousand subvolumes that are met one after
 * the other do not cost ten thousand lists.
 */
#include "config.h"

#include "src/mount-register.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "src/log.h"

struct served {
    qidmap_store *store;
    GArray *live; /* struct qidmap_live */
};

struct mount_registry {
    GPtrArray *stores; /* struct served */
    GHashTable *told;  /* refusals that were logged */
};

static void served_free(gpointer data)
{
    struct served *served = data;

    g_array_unref(served->live);
    g_free(served);
}

struct mount_registry *mount_registry_new(void)
{
    struct mount_registry *registry = g_new0(struct mount_registry, 1);

    registry->stores = g_ptr_array_new_with_free_func(served_free);
    registry->told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return registry;
}

void mount_registry_free(struct mount_registry *registry)
{
    if (registry == NULL)
        return;
    g_ptr_array_unref(registry->stores);
    g_hash_table_unref(registry->told);
    g_free(registry);
}

static struct served *served_of(struct mount_registry *registry, qidmap_store *store)
{
    for (guint i = 0; i < registry->stores->len; i++) {
        struct served *served = g_ptr_array_index(registry->stores, i);
        if (served->store == store)
            return served;
    }
    struct served *served = g_new(struct served, 1);
    served->store = store;
    served->live = g_array_new(FALSE, FALSE, sizeof(struct qidmap_live));
    g_ptr_array_add(registry->stores, served);
    return served;
}

static void add_served(struct mount_registry *registry, qidmap_store *store,
                       const struct mount_live *live)
{
    const struct qidmap_live entry = {.fs = live->fs, .superblock = live->superblock};

    g_array_append_val(served_of(registry, store)->live, entry);
}

void mount_registry_renew(struct mount_registry *registry, const GPtrArray *scans)
{
    g_ptr_array_set_size(registry->stores, 0);
    for (guint i = 0; i < scans->len; i++) {
        const struct mount_scan *scan = g_ptr_array_index(scans, i);
        for (guint k = 0; scan->store != NULL && k < scan->lives->len; k++) {
            const struct mount_live *live = g_ptr_array_index(scan->lives, k);
            if (live->fs != 0)
                add_served(registry, scan->store, live);
        }
    }
}

gboolean mount_registry_check(const GPtrArray *scans, GError **error)
{
    for (guint i = 0; i < scans->len; i++) {
        const struct mount_scan *a = g_ptr_array_index(scans, i);
        for (guint k = 0; k < i; k++) {
            const struct mount_scan *b = g_ptr_array_index(scans, k);
            if (a->store == NULL || a->store != b->store ||
                (a->settings.on_duplicate == b->settings.on_duplicate &&
                 a->settings.markers == b->settings.markers &&
                 a->settings.split_weak == b->settings.split_weak))
                continue;
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "exports %s and %s share a store, and differ in on-duplicate, markers or "
                        "weak; give both the same",
                        b->name, a->name);
            return FALSE;
        }
    }
    return TRUE;
}

/* ---- what the log says ----------------------------------------------------------------------- */

static gboolean has_fsid(const struct qidmap_fsid *fsids, guint32 count,
                         const struct qidmap_fsid *fsid)
{
    for (guint32 i = 0; i < count; i++) {
        if (fsids[i].kind == fsid->kind && fsids[i].size == fsid->size &&
            memcmp(fsids[i].bytes, fsid->bytes, fsid->size) == 0)
            return TRUE;
    }
    return FALSE;
}

/* Another filesystem with the same identity: one of those that came with it, or a row. */
static char *twin_of(qidmap_store *store, const struct qidmap_mounted *all, gsize count,
                     const struct qidmap_mounted *one)
{
    const struct qidmap_identity *identity = &one->identity;
    qidmap_iter *iter;
    struct qidmap_row row;
    char *found = NULL;

    for (gsize i = 0; i < count; i++) {
        const struct qidmap_identity *other = &all[i].identity;
        for (guint32 k = 0; &all[i] != one && k < identity->count; k++) {
            if (has_fsid(other->fsid, other->count, &identity->fsid[k]) &&
                (one->fs == 0 || all[i].fs != one->fs))
                return g_strdup_printf("%s %s on %s", other->hints.type, other->hints.source,
                                       other->hints.mount_path);
        }
    }
    if (qidmap_iter_open(store, &iter, NULL) != 0)
        return NULL;
    while (found == NULL && qidmap_iter_next(iter, &row, NULL) == 1 && row.kind == QIDMAP_ROW_FS) {
        struct qidmap_fs fs = {.size = sizeof fs};
        if (row.fs == one->fs || qidmap_fs_get(store, row.fs, &fs, NULL) != 0 || fs.retired)
            continue;
        for (guint32 k = 0; found == NULL && k < identity->count; k++) {
            if (has_fsid(fs.fsid, fs.fsid_count, &identity->fsid[k]))
                found = g_strdup_printf("%s %s on %s, number %u", fs.hints.type, fs.hints.source,
                                        fs.hints.mount_path, fs.fs);
        }
    }
    qidmap_iter_close(iter);
    return found;
}

static void tell_refused(struct mount_registry *registry, const struct mount_scan *scan,
                         const struct mount_live *live, const char *twin)
{
    char *key =
        g_strdup_printf("%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %s",
                        scan->name, live->key, live->dev, live->subvol, live->label);

    if (g_hash_table_add(registry->told, key))
        log_warning("export %s: %s is refused: it has the identity of %s, and on-duplicate=refuse",
                    scan->name, live->label, twin != NULL ? twin : "another filesystem");
}

/* ---- registering ----------------------------------------------------------------------------- */

static void take(struct mount_registry *registry, const struct mount_scan *scan,
                 struct mount_live *live, struct qidmap_mounted *all, gsize count,
                 const struct qidmap_mounted *one)
{
    struct qidmap_fs row = {.size = sizeof row};

    live->served = TRUE;
    if (one->result != 0) {
        g_autofree char *twin = twin_of(scan->store, all, count, one);
        live->refused = TRUE;
        tell_refused(registry, scan, live, twin);
    } else {
        live->fs = one->fs;
        live->policy = one->identity.policy;
        if (qidmap_fs_get(scan->store, one->fs, &row, NULL) == 0)
            live->policy = row.policy;
        if ((one->flags & QIDMAP_MOUNTED_NEW) && (one->flags & QIDMAP_MOUNTED_DUPLICATE)) {
            g_autofree char *twin = twin_of(scan->store, all, count, one);
            log_warning("export %s: %s has the identity of %s: it gets ids of its own, number %u",
                        scan->name, live->label, twin != NULL ? twin : "another filesystem",
                        live->fs);
        } else if (one->flags & QIDMAP_MOUNTED_NEW) {
            log_debug("export %s: %s is new: number %u", scan->name, live->label, live->fs);
        }
        if (live->policy != one->identity.policy)
            log_debug("export %s: %s keeps its policy '%s', '%s' would be chosen now", scan->name,
                      live->label, qidmap_policy_name(live->policy),
                      qidmap_policy_name(one->identity.policy));
        add_served(registry, scan->store, live);
    }
    if (live->fd >= 0)
        close(live->fd);
    live->fd = -1;
    if (live->key & MOUNT_UNIQUE_KEY)
        g_clear_pointer(&live->identity, g_free);
    else
        *live->identity = one->identity; /* to know it again */
}

static int register_store(struct mount_registry *registry, const GPtrArray *scans,
                          qidmap_store *store)
{
    const struct served *served = served_of(registry, store);
    const struct mount_settings *settings = NULL;
    struct qidmap_error error;
    gsize count = 0, n = 0;

    for (guint i = 0; i < scans->len; i++) {
        const struct mount_scan *scan = g_ptr_array_index(scans, i);
        if (scan->store == store) {
            settings = &scan->settings;
            count += scan->fresh->len;
        }
    }
    if (count == 0)
        return 0;

    const struct qidmap_register_options options = {
        .size = sizeof options,
        .on_duplicate = settings->on_duplicate,
        .markers = settings->markers,
        .split_weak = settings->split_weak,
        .live = (const struct qidmap_live *)(const void *)served->live->data,
        .n_live = served->live->len,
    };
    g_autofree struct qidmap_mounted *mounted = g_new0(struct qidmap_mounted, count);
    for (guint i = 0; i < scans->len; i++) {
        const struct mount_scan *scan = g_ptr_array_index(scans, i);
        for (guint k = 0; scan->store == store && k < scan->fresh->len; k++) {
            const struct mount_live *live = g_ptr_array_index(scan->fresh, k);
            mounted[n].fd = live->fd;
            mounted[n++].identity = *live->identity;
        }
    }
    int rc = qidmap_register_mounted(store, mounted, count, &options, &error);
    if (rc < 0) {
        log_error("filesystems cannot be registered: %s", error.text);
        return rc;
    }
    n = 0;
    for (guint i = 0; i < scans->len; i++) {
        const struct mount_scan *scan = g_ptr_array_index(scans, i);
        if (scan->store != store)
            continue;
        for (guint k = 0; k < scan->fresh->len; k++, n++)
            take(registry, scan, g_ptr_array_index(scan->fresh, k), mounted, count, &mounted[n]);
        g_ptr_array_set_size(scan->fresh, 0);
    }
    return 0;
}

int mount_register(struct mount_registry *registry, const GPtrArray *scans)
{
    int first = 0;

    for (guint i = 0; i < scans->len; i++) {
        qidmap_store *store = ((const struct mount_scan *)g_ptr_array_index(scans, i))->store;
        gboolean seen = store == NULL;
        for (guint k = 0; k < i && !seen; k++)
            seen = ((const struct mount_scan *)g_ptr_array_index(scans, k))->store == store;
        int rc = seen ? 0 : register_store(registry, scans, store);
        if (first == 0)
            first = rc;
    }
    return first;
}
