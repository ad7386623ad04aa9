/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of mounts below the exports.
 *
 * All mounts below all exports are identified and registered together, at start and whenever
 * mountinfo changes, so that the order of access never decides which row a filesystem gets. What the
 * mount table does not show (subvolumes of btrfs within one mount) is identified when it is first
 * met, and registered together with everything that is live.
 *
 * Readers look into an immutable table and never wait for each other. A new table is swapped in, and
 * the old one freed once each shard of the reader counts was seen at zero after the swap: whoever
 * comes later takes the new table. Rejected: a lock for reading (its cache line is contended by every
 * request), keeping old tables (a host where containers come and go makes many).
 *
 * One thread, the watcher, does all identifying: it keeps the rights of the daemon, while the threads
 * that serve act as their guests' users, who may not be allowed to open what must be looked into. It
 * first raises the generation, which closes the old table to readers, then reads mountinfo, then
 * answers. A reader whose file is not in the table, or who finds the table closed, asks the watcher.
 *
 * The one window: between a change of the mounts and the watcher's waking, a table may still be
 * asked about a mount id that was freed and given to another mount with the same st_dev. Where the
 * statx results carry unique mount ids (STATX_MNT_ID_UNIQUE, Linux 6.8) they are the key, and there
 * is no window, since such an id is never given again. Before, a descriptor that is held open pins
 * its mount and so its id: only a file on a mount that none of our descriptors was on, mounted in
 * place of another in the instant before, can meet it.
 *
 * A mount that was detached (umount -l) is in no table any more: -ENODEV for what is still open there.
 */
#include "config.h"

#include "src/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/log.h"

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

#define SHARDS 32
#define UNIQUE_KEY (G_GUINT64_CONSTANT(1) << 63) /* marks keys made of unique mount ids */

/* A filesystem (or subvolume) that is mounted now. */
struct live {
    guint64 id;
    guint64 unique; /* 0: not known */
    guint64 dev;
    guint32 fs;     /* 0: not registered */
    gboolean foreign;
    struct qidmap_identity identity;
};

struct slot {
    guint64 id; /* 0: empty */
    guint64 dev;
    struct mount_entry entry;
};

struct dir_key {
    guint64 id;
    guint64 dev;
    guint64 ino;
};

struct table {
    guint generation; /* of the watch, when this was true */
    gboolean any_dir; /* every directory may hold a mount point: one could not be found */
    guint mask;
    guint n_dirs;
    struct slot *slots;
    struct dir_key *dirs; /* directories that hold mount points, ascending */
};

struct mount_export {
    struct mount_watch *watch;
    const char *name;
    int root_fd;
    enum mount_mode mode;
    qidmap_store *store;
    struct table *table; /* atomic */
    GPtrArray *lives;    /* struct live; [0] is the root's. Lock: watch->work */
    GArray *dirs;        /* struct dir_key. Lock: watch->work */
    gboolean any_dir;    /* Lock: watch->work */
};

struct override {
    char *path;
    guint8 uuid[16];
};

/* A question to the watcher; lives on the stack of who asks. */
struct request {
    struct mount_export *exp;
    int fd;
    const struct statx *stx;
    struct mount_entry *entry;
    int result;
    gboolean done;
    struct request *next;
};

struct shard {
    guint readers;
    char padding[64 - sizeof(guint)];
};

struct mount_watch {
    struct shard shards[SHARDS];
    guint generation;   /* atomic; raised before mountinfo is read anew */
    GArray *overrides;  /* struct override */
    GPtrArray *exports; /* struct mount_export */
    int mountinfo_fd;
    int wake_fd;
    GThread *thread;
    GMutex work; /* held by whoever changes lives; taken before `lock` */
    GMutex lock; /* requests, stop */
    GCond answered;
    struct request *requests;
    gboolean stop;
};

/* ---- keys and tables ------------------------------------------------------------------------- */

static guint64 stx_dev(const struct statx *stx)
{
    return (guint64)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

/* The id of the mount as a key; 0 where the kernel gave none. */
static guint64 stx_key(const struct statx *stx)
{
    if (stx->stx_mask & STATX_MNT_ID_UNIQUE)
        return stx->stx_mnt_id | UNIQUE_KEY;
    return (stx->stx_mask & STATX_MNT_ID) ? stx->stx_mnt_id : 0;
}

static guint hash_key(guint64 id, guint64 dev)
{
    guint64 mixed = (id * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) ^
                    (dev * G_GUINT64_CONSTANT(0xc2b2ae3d27d4eb4f));
    return (guint)(mixed >> 32);
}

static int compare_dirs(const void *a, const void *b)
{
    const struct dir_key *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    if (x->dev != y->dev)
        return x->dev < y->dev ? -1 : 1;
    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static gboolean table_find(const struct table *table, const struct statx *stx,
                           struct mount_entry *entry)
{
    guint64 id = stx_key(stx), dev = stx_dev(stx);

    if (id == 0)
        return FALSE;
    for (guint i = hash_key(id, dev) & table->mask;; i = (i + 1) & table->mask) {
        const struct slot *slot = &table->slots[i];
        if (slot->id == 0)
            return FALSE;
        if (slot->id == id && slot->dev == dev) {
            *entry = slot->entry;
            break;
        }
    }
    if (S_ISDIR(stx->stx_mode)) {
        struct dir_key key = { id, dev, stx->stx_ino };
        entry->has_mounts =
            table->any_dir ||
            (table->n_dirs > 0 &&
             bsearch(&key, table->dirs, table->n_dirs, sizeof key, compare_dirs) != NULL);
    }
    return TRUE;
}

static void table_free(struct table *table)
{
    if (table == NULL)
        return;
    g_free(table->slots);
    g_free(table->dirs);
    g_free(table);
}

static guint8 trust_of(const char *type)
{
    static const char *const all[] = { "ext2", "ext3", "ext4", "xfs", "tmpfs" };

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        if (strcmp(type, all[i]) == 0)
            return MOUNT_TRUST_ALL;
    }
    return strcmp(type, "btrfs") == 0 ? MOUNT_TRUST_BTRFS : MOUNT_TRUST_NONE;
}

static void table_insert(struct table *table, guint64 id, const struct live *live)
{
    guint i = hash_key(id, live->dev) & table->mask;

    while (table->slots[i].id != 0) {
        if (table->slots[i].id == id && table->slots[i].dev == live->dev)
            return;
        i = (i + 1) & table->mask;
    }
    table->slots[i].id = id;
    table->slots[i].dev = live->dev;
    table->slots[i].entry.fs = live->fs;
    table->slots[i].entry.foreign = live->foreign;
    table->slots[i].entry.trust = trust_of(live->identity.hints.type);
    table->slots[i].entry.btrfs = strcmp(live->identity.hints.type, "btrfs") == 0;
}

/* A live filesystem whose registration failed is left out: it is tried again when it is asked for. */
static gboolean is_served(const struct mount_export *exp, const struct live *live)
{
    return live->foreign || live->fs != 0 || exp->mode == MOUNT_LOOK_ONLY;
}

static struct table *table_new(const struct mount_export *exp, guint generation)
{
    struct table *table = g_new0(struct table, 1);
    guint size = 8;

    while (size < exp->lives->len * 4)
        size *= 2;
    table->generation = generation;
    table->any_dir = exp->any_dir;
    table->mask = size - 1;
    table->slots = g_new0(struct slot, size);
    for (guint i = 0; i < exp->lives->len; i++) {
        const struct live *live = g_ptr_array_index(exp->lives, i);
        if (!is_served(exp, live))
            continue;
        table_insert(table, live->id, live);
        if (live->unique != 0)
            table_insert(table, live->unique | UNIQUE_KEY, live);
    }
    table->n_dirs = exp->dirs->len;
    table->dirs = g_new(struct dir_key, table->n_dirs + 1);
    if (table->n_dirs > 0) {
        memcpy(table->dirs, exp->dirs->data, table->n_dirs * sizeof(struct dir_key));
        qsort(table->dirs, table->n_dirs, sizeof(struct dir_key), compare_dirs);
    }
    return table;
}

/* Waits until nobody reads what was read before the call. Readers are quick. */
static void wait_for_readers(struct mount_watch *watch)
{
    for (guint i = 0; i < SHARDS; i++) {
        while (__atomic_load_n(&watch->shards[i].readers, __ATOMIC_SEQ_CST) != 0)
            g_thread_yield();
    }
}

static void publish(struct mount_export *exp)
{
    struct mount_watch *watch = exp->watch;
    struct table *table = table_new(exp, __atomic_load_n(&watch->generation, __ATOMIC_SEQ_CST));
    struct table *old = __atomic_exchange_n(&exp->table, table, __ATOMIC_SEQ_CST);

    wait_for_readers(watch);
    table_free(old);
}

gboolean mount_find(struct mount_export *exp, const struct statx *stx, struct mount_entry *entry)
{
    static guint next_shard;
    static __thread guint my_shard; /* + 1 */
    struct mount_watch *watch = exp->watch;
    gboolean found = FALSE;

    if (my_shard == 0)
        my_shard = __atomic_fetch_add(&next_shard, 1, __ATOMIC_RELAXED) % SHARDS + 1;
    guint *readers = &watch->shards[my_shard - 1].readers;
    __atomic_fetch_add(readers, 1, __ATOMIC_SEQ_CST);
    const struct table *table = __atomic_load_n(&exp->table, __ATOMIC_SEQ_CST);
    if (table != NULL &&
        table->generation == __atomic_load_n(&watch->generation, __ATOMIC_SEQ_CST))
        found = table_find(table, stx, entry);
    __atomic_fetch_sub(readers, 1, __ATOMIC_SEQ_CST);
    return found;
}

/* ---- finding what is mounted ----------------------------------------------------------------- */

struct mount_line {
    guint64 id;
    guint64 parent;
    char *path;
};

static void mount_line_free(gpointer data)
{
    struct mount_line *line = data;
    g_free(line->path);
    g_free(line);
}

/* Id, parent and path of every mount of this process. */
static GPtrArray *read_mounts(void)
{
    g_autofree char *content = NULL;
    GPtrArray *mounts = g_ptr_array_new_with_free_func(mount_line_free);

    if (!g_file_get_contents("/proc/self/mountinfo", &content, NULL, NULL))
        return mounts;
    g_auto(GStrv) lines = g_strsplit(content, "\n", -1);
    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) fields = g_strsplit(lines[i], " ", 6);
        if (g_strv_length(fields) < 6)
            continue;
        struct mount_line *line = g_new(struct mount_line, 1);
        line->id = g_ascii_strtoull(fields[0], NULL, 10);
        line->parent = g_ascii_strtoull(fields[1], NULL, 10);
        line->path = g_strcompress(fields[4]);
        g_ptr_array_add(mounts, line);
    }
    return mounts;
}

/* What follows `dir` in `path`, without leading '/'; NULL when `path` is not below `dir`. */
static const char *path_below(const char *path, const char *dir)
{
    gsize size = strlen(dir);

    while (size > 0 && dir[size - 1] == '/')
        size--;
    if (strncmp(path, dir, size) != 0 || path[size] != '/' || path[size + 1] == '\0')
        return NULL;
    return path + size + 1;
}

/* Opens what is at `path` below the root, without being led out of it. A guest may rename things
 * meanwhile: the caller compares mount ids. */
static int open_below(int root_fd, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof how);
}

static gboolean statx_ids(int fd, struct statx *stx, guint64 *unique)
{
    struct statx more;
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

    if (statx(fd, "", flags, STATX_BASIC_STATS | STATX_MNT_ID, stx) != 0 ||
        !(stx->stx_mask & STATX_MNT_ID))
        return FALSE;
    *unique = 0;
    if (statx(fd, "", flags, STATX_MNT_ID_UNIQUE, &more) == 0 &&
        (more.stx_mask & STATX_MNT_ID_UNIQUE))
        *unique = more.stx_mnt_id;
    return TRUE;
}

static char *path_of(int fd)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return g_file_read_link(link, NULL);
}

static struct live *find_live(const GPtrArray *lives, guint64 id, guint64 unique, guint64 dev)
{
    for (guint i = 0; lives != NULL && i < lives->len; i++) {
        struct live *live = g_ptr_array_index(lives, i);
        if (live->id == id && live->unique == unique && live->dev == dev)
            return live;
    }
    return NULL;
}

/* On the root's filesystem? Bind mounts of it are, other subvolumes are not. */
static gboolean is_foreign(const struct mount_export *exp, const struct qidmap_identity *identity)
{
    if (exp->mode != MOUNT_ROOT_ONLY || exp->lives->len == 0)
        return FALSE;
    const struct live *root = g_ptr_array_index(exp->lives, 0);
    if (root->identity.superblock != identity->superblock)
        return TRUE;
    const struct qidmap_fsid *a = NULL, *b = NULL;
    for (guint32 i = 0; i < root->identity.count; i++) {
        if (root->identity.fsid[i].kind == QIDMAP_FSID_BTRFS)
            a = &root->identity.fsid[i];
    }
    for (guint32 i = 0; i < identity->count; i++) {
        if (identity->fsid[i].kind == QIDMAP_FSID_BTRFS)
            b = &identity->fsid[i];
    }
    return a != NULL && b != NULL &&
           (a->size != b->size || memcmp(a->bytes, b->bytes, a->size) != 0);
}

/* Adds what `fd` is on to the live filesystems of the export, where it is not among them. `path` for
 * overrides, may be NULL; `known` may be NULL: those of before, whose identity need not be found
 * again when the kernel vouches by a unique id that it is the same mount. */
static int add_live(struct mount_export *exp, int fd, const char *path, const GPtrArray *known,
                    struct live **added)
{
    struct qidmap_identify_options options = { sizeof options, NULL };
    struct qidmap_error error;
    struct statx stx;
    guint64 unique;

    if (!statx_ids(fd, &stx, &unique))
        return -ENODEV;
    guint64 dev = stx_dev(&stx);
    struct live *live = find_live(exp->lives, stx.stx_mnt_id, unique, dev);
    if (live == NULL) {
        live = g_new0(struct live, 1);
        const struct live *before =
            unique != 0 ? find_live(known, stx.stx_mnt_id, unique, dev) : NULL;
        if (before != NULL) {
            *live = *before;
        } else {
            const GArray *overrides = exp->watch->overrides;
            for (guint i = 0; path != NULL && i < overrides->len; i++) {
                const struct override *o = &g_array_index(overrides, struct override, i);
                if (strcmp(o->path, path) == 0)
                    options.override_uuid = o->uuid;
            }
            live->id = stx.stx_mnt_id;
            live->unique = unique;
            live->dev = dev;
            live->identity.size = sizeof live->identity;
            int rc = qidmap_identify(fd, &options, &live->identity, &error);
            if (rc < 0) {
                if (path != NULL) /* else a guest asks, and may ask often: it gets the error */
                    log_warning("export %s: %s cannot be identified: %s", exp->name, path,
                                error.text);
                g_free(live);
                return rc;
            }
            live->foreign = is_foreign(exp, &live->identity);
        }
        g_ptr_array_add(exp->lives, live);
    }
    if (added != NULL)
        *added = live;
    return 0;
}

static void add_dir(struct mount_export *exp, const struct statx *stx, guint64 unique)
{
    struct dir_key key = { stx->stx_mnt_id, stx_dev(stx), stx->stx_ino };

    g_array_append_val(exp->dirs, key);
    if (unique != 0) {
        key.id = unique | UNIQUE_KEY;
        g_array_append_val(exp->dirs, key);
    }
}

/* Finds the mount `line`, at `below` under the root, and the directory that holds its mount point. */
static void add_mount(struct mount_export *exp, const struct mount_line *line, const char *below,
                      const GPtrArray *known)
{
    struct statx stx;
    guint64 unique;
    int fd = open_below(exp->root_fd, below);

    if (fd < 0 || !statx_ids(fd, &stx, &unique) || stx.stx_mnt_id != line->id)
        exp->any_dir = TRUE; /* covered by another mount, or moved: nobody knows what hides it */
    else
        add_live(exp, fd, line->path, known, NULL);
    if (fd >= 0)
        close(fd);

    g_autofree char *dir = g_path_get_dirname(below);
    fd = open_below(exp->root_fd, dir);
    if (fd >= 0 && statx_ids(fd, &stx, &unique) && stx.stx_mnt_id == line->parent)
        add_dir(exp, &stx, unique);
    else
        exp->any_dir = TRUE;
    if (fd >= 0)
        close(fd);
}

/* Collects the live filesystems of an export anew. */
static int collect(struct mount_export *exp, const GPtrArray *mounts)
{
    g_autoptr(GPtrArray) known = exp->lives;
    g_autofree char *root = path_of(exp->root_fd);

    exp->lives = g_ptr_array_new_with_free_func(g_free);
    g_array_set_size(exp->dirs, 0);
    exp->any_dir = root == NULL;
    int rc = add_live(exp, exp->root_fd, root, known, NULL);
    if (rc < 0)
        return rc;
    for (guint i = 0; root != NULL && i < mounts->len; i++) {
        const struct mount_line *line = g_ptr_array_index(mounts, i);
        const char *below = path_below(line->path, root);
        if (below != NULL)
            add_mount(exp, line, below, known);
    }

    /* Subvolumes that the operator named: before any is met, as the order must not matter. */
    const GArray *overrides = exp->watch->overrides;
    for (guint i = 0; root != NULL && i < overrides->len; i++) {
        const char *path = g_array_index(overrides, struct override, i).path;
        const char *below = path_below(path, root);
        int fd = below != NULL ? open_below(exp->root_fd, below) : -1;
        if (fd >= 0) {
            add_live(exp, fd, path, known, NULL);
            close(fd);
        }
    }

    /* What was met on the way stays while its mount, told by its unique id, does. */
    guint settled = exp->lives->len;
    for (guint i = 0; known != NULL && i < known->len; i++) {
        const struct live *old = g_ptr_array_index(known, i);
        if (old->unique == 0 || find_live(exp->lives, old->id, old->unique, old->dev) != NULL)
            continue;
        for (guint k = 0; k < settled; k++) {
            const struct live *live = g_ptr_array_index(exp->lives, k);
            if (live->id == old->id && live->unique == old->unique) {
                struct live *kept = g_new(struct live, 1);
                *kept = *old;
                g_ptr_array_add(exp->lives, kept);
                break;
            }
        }
    }
    return 0;
}

/* Registers everything that is live on one store, together, where anything of it is new. */
static int register_store(struct mount_watch *watch, qidmap_store *store)
{
    g_autoptr(GPtrArray) lives = g_ptr_array_new();
    struct qidmap_error error;
    gboolean news = FALSE;

    for (guint i = 0; i < watch->exports->len; i++) {
        const struct mount_export *exp = g_ptr_array_index(watch->exports, i);
        for (guint k = 0; exp->store == store && exp->lives != NULL && k < exp->lives->len; k++) {
            struct live *live = g_ptr_array_index(exp->lives, k);
            if (live->foreign)
                continue;
            g_ptr_array_add(lives, live);
            news = news || live->fs == 0;
        }
    }
    if (!news)
        return 0;
    g_autofree struct qidmap_identity *identities = g_new(struct qidmap_identity, lives->len);
    g_autofree guint32 *numbers = g_new0(guint32, lives->len);
    for (guint i = 0; i < lives->len; i++)
        identities[i] = ((struct live *)g_ptr_array_index(lives, i))->identity;
    int rc = qidmap_register(store, identities, lives->len, numbers, &error);
    if (rc < 0) {
        log_error("filesystems cannot be registered: %s", error.text);
        return rc;
    }
    for (guint i = 0; i < lives->len; i++) {
        struct live *live = g_ptr_array_index(lives, i);
        if (live->fs != 0 && live->fs != numbers[i])
            log_error("%s on %s: its number changed from %u to %u while it was mounted",
                      live->identity.hints.source, live->identity.hints.mount_path, live->fs,
                      numbers[i]);
        live->fs = numbers[i];
    }
    return 0;
}

static int register_all(struct mount_watch *watch)
{
    int first = 0;

    for (guint i = 0; i < watch->exports->len; i++) {
        const struct mount_export *exp = g_ptr_array_index(watch->exports, i);
        gboolean seen = exp->store == NULL;
        for (guint k = 0; k < i && !seen; k++)
            seen = ((struct mount_export *)g_ptr_array_index(watch->exports, k))->store == exp->store;
        int rc = seen ? 0 : register_store(watch, exp->store);
        if (first == 0)
            first = rc;
    }
    return first;
}

/* Closes the tables, finds everything anew, and opens new ones. */
static int renew(struct mount_watch *watch)
{
    int first = 0;

    __atomic_fetch_add(&watch->generation, 1, __ATOMIC_SEQ_CST);
    g_autoptr(GPtrArray) mounts = read_mounts();
    for (guint i = 0; i < watch->exports->len; i++) {
        int rc = collect(g_ptr_array_index(watch->exports, i), mounts);
        if (first == 0)
            first = rc;
    }
    int rc = register_all(watch);
    if (first == 0)
        first = rc;
    for (guint i = 0; i < watch->exports->len; i++)
        publish(g_ptr_array_index(watch->exports, i));
    return first;
}

/* ---- the watcher ----------------------------------------------------------------------------- */

static gboolean has_changed(struct mount_watch *watch, int timeout)
{
    struct pollfd fds[2] = {
        { .fd = watch->mountinfo_fd, .events = POLLPRI },
        { .fd = watch->wake_fd, .events = POLLIN },
    };
    eventfd_t count;

    if (poll(fds, timeout == 0 ? 1 : 2, timeout) <= 0)
        return FALSE;
    if (fds[1].revents & POLLIN)
        eventfd_read(watch->wake_fd, &count);
    return (fds[0].revents & (POLLPRI | POLLERR)) != 0;
}

static int answer(struct request *request)
{
    struct mount_export *exp = request->exp;
    struct live *live;

    if (mount_find(exp, request->stx, request->entry))
        return 0;
    if (exp->lives->len == 0)
        return -ENODEV;
    int rc = add_live(exp, request->fd, NULL, NULL, &live);
    if (rc < 0)
        return rc;
    if (!is_served(exp, live)) {
        rc = register_store(exp->watch, exp->store);
        if (rc < 0)
            return rc;
    }
    publish(exp);
    return mount_find(exp, request->stx, request->entry) ? 0 : -ENODEV;
}

static gpointer watch_main(gpointer data)
{
    struct mount_watch *watch = data;
    gboolean changed = FALSE;

    for (;;) {
        changed = has_changed(watch, changed ? 0 : -1) || changed;
        g_mutex_lock(&watch->lock);
        gboolean stop = watch->stop;
        struct request *requests = watch->requests;
        watch->requests = NULL;
        g_mutex_unlock(&watch->lock);

        /* Whatever was asked, was asked after the mount it is about was made: look once more. */
        changed = has_changed(watch, 0) || changed;
        if (stop && requests == NULL)
            return NULL;
        g_mutex_lock(&watch->work);
        if (changed)
            renew(watch);
        changed = FALSE;
        for (struct request *r = requests; r != NULL; r = r->next)
            r->result = answer(r);
        g_mutex_unlock(&watch->work);

        if (requests != NULL) {
            g_mutex_lock(&watch->lock);
            for (struct request *r = requests, *next; r != NULL; r = next) {
                next = r->next; /* once done, it may be gone as soon as the lock is released */
                r->done = TRUE;
            }
            g_cond_broadcast(&watch->answered);
            g_mutex_unlock(&watch->lock);
        }
    }
}

int mount_lookup(struct mount_export *exp, int fd, const struct statx *stx,
                 struct mount_entry *entry)
{
    struct mount_watch *watch = exp->watch;

    if (mount_find(exp, stx, entry))
        return 0;
    if (stx_key(stx) == 0)
        return -ENODEV;
    struct request request = { .exp = exp, .fd = fd, .stx = stx, .entry = entry };
    g_mutex_lock(&watch->lock);
    if (watch->stop || watch->thread == NULL) {
        g_mutex_unlock(&watch->lock);
        return -ENODEV;
    }
    request.next = watch->requests;
    watch->requests = &request;
    eventfd_write(watch->wake_fd, 1);
    while (!request.done)
        g_cond_wait(&watch->answered, &watch->lock);
    g_mutex_unlock(&watch->lock);
    return request.result;
}

char *mount_describe(struct mount_export *exp, const struct statx *stx)
{
    char *text = NULL;

    g_mutex_lock(&exp->watch->work);
    for (guint i = 0; i < exp->lives->len && text == NULL; i++) {
        const struct live *live = g_ptr_array_index(exp->lives, i);
        const struct qidmap_hints *hints = &live->identity.hints;
        guint64 id = stx_key(stx);
        if (live->dev == stx_dev(stx) && (live->id == id || (live->unique | UNIQUE_KEY) == id))
            text = g_strdup_printf("%s %s on %s", hints->type, hints->source, hints->mount_path);
    }
    g_mutex_unlock(&exp->watch->work);
    return text != NULL ? text
                        : g_strdup_printf("device %u:%u", stx->stx_dev_major, stx->stx_dev_minor);
}

/* ---- life ------------------------------------------------------------------------------------ */

static gboolean parse_uuid(const char *text, guint8 uuid[16])
{
    guint digits = 0;

    memset(uuid, 0, 16);
    for (; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        int value = g_ascii_xdigit_value(*text);
        if (value < 0 || digits == 32)
            return FALSE;
        uuid[digits / 2] = (guint8)(uuid[digits / 2] << 4 | value);
        digits++;
    }
    return digits == 32;
}

static void override_clear(gpointer data)
{
    g_free(((struct override *)data)->path);
}

static void export_free(gpointer data)
{
    struct mount_export *exp = data;

    table_free(exp->table);
    g_clear_pointer(&exp->lives, g_ptr_array_unref);
    g_array_unref(exp->dirs);
    g_free(exp);
}

struct mount_watch *mount_watch_new(char *const *overrides, GError **error)
{
    struct mount_watch *watch = g_new0(struct mount_watch, 1);

    watch->generation = 1;
    watch->mountinfo_fd = -1;
    watch->wake_fd = -1;
    watch->overrides = g_array_new(FALSE, TRUE, sizeof(struct override));
    g_array_set_clear_func(watch->overrides, override_clear);
    watch->exports = g_ptr_array_new_with_free_func(export_free);
    g_mutex_init(&watch->work);
    g_mutex_init(&watch->lock);
    g_cond_init(&watch->answered);

    for (; overrides != NULL && *overrides != NULL; overrides++) {
        struct override override = { 0 };
        const char *equals = strrchr(*overrides, '=');
        if (equals == NULL || **overrides != '/' || !parse_uuid(equals + 1, override.uuid)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "fs-id '%s': write it as /ABSOLUTE/PATH=UUID", *overrides);
            mount_watch_free(watch);
            return NULL;
        }
        override.path = g_strndup(*overrides, (gsize)(equals - *overrides));
        gsize size = strlen(override.path);
        while (size > 1 && override.path[size - 1] == '/')
            override.path[--size] = '\0';
        g_array_append_val(watch->overrides, override);
    }
    return watch;
}

struct mount_export *mount_watch_add(struct mount_watch *watch, const char *name, int root_fd,
                                     enum mount_mode mode)
{
    struct mount_export *exp = g_new0(struct mount_export, 1);

    exp->watch = watch;
    exp->name = name;
    exp->root_fd = root_fd;
    exp->mode = mode;
    exp->dirs = g_array_new(FALSE, FALSE, sizeof(struct dir_key));
    g_ptr_array_add(watch->exports, exp);
    return exp;
}

void mount_export_set_store(struct mount_export *exp, qidmap_store *store)
{
    exp->store = store;
}

gboolean mount_watch_start(struct mount_watch *watch, GError **error)
{
    watch->mountinfo_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    watch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch->mountinfo_fd < 0 || watch->wake_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "cannot watch /proc/self/mountinfo: %s; is /proc mounted?", g_strerror(errno));
        return FALSE;
    }
    int rc = renew(watch);
    if (rc < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-rc),
                    "cannot learn which filesystems the exports are on: %s", g_strerror(-rc));
        return FALSE;
    }
    watch->thread = g_thread_new("mounts", watch_main, watch);
    return TRUE;
}

void mount_watch_free(struct mount_watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->thread != NULL) {
        g_mutex_lock(&watch->lock);
        watch->stop = TRUE;
        g_mutex_unlock(&watch->lock);
        eventfd_write(watch->wake_fd, 1);
        g_thread_join(watch->thread);
    }
    if (watch->mountinfo_fd >= 0)
        close(watch->mountinfo_fd);
    if (watch->wake_fd >= 0)
        close(watch->wake_fd);
    g_ptr_array_unref(watch->exports);
    g_array_unref(watch->overrides);
    g_mutex_clear(&watch->work);
    g_mutex_clear(&watch->lock);
    g_cond_clear(&watch->answered);
    g_free(watch);
}
