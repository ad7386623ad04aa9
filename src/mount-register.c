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

void mount_registry_note(struct mount_registry *registry)
{
    for (guint i = 0; i < registry->stores->len; i++) {
        const struct served *served = g_ptr_array_index(registry->stores, i);
        struct qidmap_error error;

        if (qidmap_seen(served->store, (const struct qidmap_live *)(const void *)served->live->data,
                        served->live->len, &error) < 0)
            log_debug("%s: the time served cannot be noted", error.text);
    }
}

const struct qidmap_live *mount_registry_live(struct mount_registry *registry, qidmap_store *store,
                                              gsize *n)
{
    const struct served *served = served_of(registry, store);

    *n = served->live->len;
    return (const struct qidmap_live *)(const void *)served->live->data;
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

static void tell_superseded(struct mount_registry *registry, const struct mount_scan *scan,
                            const struct mount_live *live)
{
    char *key = g_strdup_printf("%s superseded %u", scan->name, live->fs);

    if (g_hash_table_add(registry->told, key))
        log_warning(
            "export %s: %s is refused: it is filesystem %u, whose files moved to another "
            "one and took their ids along ('qidmapctl adopt'); serve that one, or 'qidmapctl "
            "fs retire %u' to let this one begin anew with new ids",
            scan->name, live->label, live->fs, live->fs);
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
        if (row.superseded)
            tell_superseded(registry, scan, live);
        if (one->flags & QIDMAP_MOUNTED_POLICY) {
            log_warning(
                "export %s: %s cannot keep the policy of its filesystem, number %u, as it is "
                "mounted now: its files have new ids, under number %u; mount it as before to "
                "have the old ones back",
                scan->name, live->label, one->other, live->fs);
        } else if (one->flags & QIDMAP_MOUNTED_CONFLICT) {
            log_warning("export %s: %s has the identities of several filesystems, number %u among "
                        "them: its files have new ids, under number %u; 'qidmapctl fs alias' mends "
                        "that where you know which one it is",
                        scan->name, live->label, one->other, live->fs);
        } else if ((one->flags & QIDMAP_MOUNTED_NEW) && (one->flags & QIDMAP_MOUNTED_DUPLICATE)) {
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

/* The superblock of a live row, or 0. */
static guint64 superblock_of(const struct served *served, guint32 fs)
{
    for (guint i = 0; i < served->live->len; i++) {
        const struct qidmap_live *live = &g_array_index(served->live, struct qidmap_live, i);
        if (live->fs == fs)
            return live->superblock;
    }
    return 0;
}

static gboolean has_marker(qidmap_store *store, guint32 fs)
{
    static const guint8 zero[16];
    struct qidmap_fs row = {.size = sizeof row};

    return qidmap_fs_get(store, fs, &row, NULL) == 0 &&
           memcmp(row.hints.marker, zero, sizeof zero) != 0;
}

/* Superblocks of what was served before, and is a duplicate of what came now. */
static GArray *find_twins(const struct served *served, const struct qidmap_mounted *mounted,
                          gsize count)
{
    GArray *twins = g_array_new(FALSE, FALSE, sizeof(guint64));

    for (gsize i = 0; i < count; i++) {
        const struct qidmap_mounted *m = &mounted[i];
        guint64 superblock = m->fs != 0 && m->other != 0 && (m->flags & QIDMAP_MOUNTED_DUPLICATE)
                                 ? superblock_of(served, m->other)
                                 : 0;
        gboolean listed = superblock == 0 || superblock == m->identity.superblock;
        for (guint k = 0; k < twins->len && !listed; k++)
            listed = g_array_index(twins, guint64, k) == superblock;
        if (!listed && ((m->flags & QIDMAP_MOUNTED_NEW) || !has_marker(served->store, m->other)))
            g_array_append_val(twins, superblock);
    }
    return twins;
}

/* A filesystem that is served, and of which a duplicate came, is given to the library once more: it
 * gets a marker now, and so is known when both were exchanged. */
static void mark_twins(struct mount_registry *registry, const GPtrArray *scans,
                       struct mount_prober *prober, qidmap_store *store,
                       struct qidmap_register_options *options,
                       const struct qidmap_mounted *mounted, gsize count)
{
    const struct served *served = served_of(registry, store);
    g_autoptr(GArray) twins = find_twins(served, mounted, count);
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)mount_job_unref);
    g_autoptr(GPtrArray) lives = g_ptr_array_new();
    struct qidmap_error error;
    gsize n = 0;

    for (guint t = 0; t < twins->len; t++) {
        for (guint i = 0; i < scans->len; i++) {
            const struct mount_scan *scan = g_ptr_array_index(scans, i);
            if (scan->store == store)
                mount_scan_again(scan, g_array_index(twins, guint64, t), jobs, lives);
        }
    }
    if (jobs->len == 0)
        return;
    mount_probe_run(prober, jobs);
    g_autofree struct qidmap_mounted *again = g_new0(struct qidmap_mounted, jobs->len);
    g_autofree struct mount_live **owner = g_new0(struct mount_live *, jobs->len);
    for (guint i = 0; i < jobs->len; i++) {
        const struct mount_job *job = g_ptr_array_index(jobs, i);
        struct mount_live *live = g_ptr_array_index(lives, i);
        if (job->result != 0 || mount_stx_key(&job->stx) != live->key ||
            job->identity->superblock != live->superblock)
            continue; /* gone: the next look at the mounts shows what is there */
        again[n].fd = job->open_fd;
        again[n].identity = *job->identity;
        owner[n++] = live;
    }
    options->live = (const struct qidmap_live *)(const void *)served->live->data;
    options->n_live = served->live->len;
    if (n == 0 || qidmap_register_mounted(store, again, n, options, &error) < 0)
        return; /* it has its number; the marker can wait */
    for (gsize i = 0; i < n; i++) {
        if (owner[i]->identity != NULL && again[i].fs == owner[i]->fs)
            *owner[i]->identity = again[i].identity;
    }
}

static int register_store(struct mount_registry *registry, const GPtrArray *scans,
                          struct mount_prober *prober, qidmap_store *store)
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

    struct qidmap_register_options options = {
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
    if (options.markers)
        mark_twins(registry, scans, prober, store, &options, mounted, count);
    return 0;
}

int mount_register(struct mount_registry *registry, const GPtrArray *scans,
                   struct mount_prober *prober)
{
    int first = 0;

    for (guint i = 0; i < scans->len; i++) {
        qidmap_store *store = ((const struct mount_scan *)g_ptr_array_index(scans, i))->store;
        gboolean seen = store == NULL;
        for (guint k = 0; k < i && !seen; k++)
            seen = ((const struct mount_scan *)g_ptr_array_index(scans, k))->store == store;
        int rc = seen ? 0 : register_store(registry, scans, prober, store);
        if (first == 0)
            first = rc;
    }
    return first;
}
