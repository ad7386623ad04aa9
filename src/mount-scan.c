/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the filesystems that are mounted below an export, has them identified, and registers all of
 * one store together. Works on descriptors: a path of mountinfo is opened below the export's root
 * without following anything, and counts only when the mount id is the one that mountinfo gave.
 *
 * Knows nothing of threads: who scans, and when, is mount.c's business.
 */
#include "config.h"

#include "src/mount-scan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/log.h"

struct override {
    char *path;
    guint8 uuid[16];
};

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

GPtrArray *mount_lines_read(void)
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

static struct mount_live *find_live(const GPtrArray *lives, guint64 id, guint64 unique, guint64 dev)
{
    for (guint i = 0; lives != NULL && i < lives->len; i++) {
        struct mount_live *live = g_ptr_array_index(lives, i);
        if (live->id == id && live->unique == unique && live->dev == dev)
            return live;
    }
    return NULL;
}

/* On the root's filesystem? Bind mounts of it are, other subvolumes are not. */
static gboolean is_foreign(const struct mount_scan *scan, const struct qidmap_identity *identity)
{
    if (scan->mode != MOUNT_ROOT_ONLY || scan->lives->len == 0)
        return FALSE;
    const struct mount_live *root = g_ptr_array_index(scan->lives, 0);
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

/* Adds what `fd` is on to the live filesystems of the export, where it is not among them. `path`
 * for overrides, may be NULL; `known` may be NULL: those of before, whose identity need not be
 * found again when the kernel vouches by a unique id that it is the same mount. */
static int add_live(struct mount_scan *scan, int fd, const char *path, const GPtrArray *known,
                    struct mount_live **added)
{
    struct qidmap_identify_options options = {.size = sizeof options, .override_uuid = NULL};
    struct qidmap_error error;
    struct statx stx;
    guint64 unique;

    if (!statx_ids(fd, &stx, &unique))
        return -ENODEV;
    guint64 dev = mount_stx_dev(&stx);
    struct mount_live *live = find_live(scan->lives, stx.stx_mnt_id, unique, dev);
    if (live == NULL) {
        live = g_new0(struct mount_live, 1);
        const struct mount_live *before =
            unique != 0 ? find_live(known, stx.stx_mnt_id, unique, dev) : NULL;
        if (before != NULL) {
            *live = *before;
        } else {
            const GArray *overrides = scan->overrides;
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
                    log_warning("export %s: %s cannot be identified: %s", scan->name, path,
                                error.text);
                g_free(live);
                return rc;
            }
            live->foreign = is_foreign(scan, &live->identity);
            live->served = live->foreign || scan->mode == MOUNT_LOOK_ONLY;
        }
        g_ptr_array_add(scan->lives, live);
    }
    if (added != NULL)
        *added = live;
    return 0;
}

static void add_dir(struct mount_scan *scan, const struct statx *stx, guint64 unique)
{
    struct mount_dir key = {stx->stx_mnt_id, mount_stx_dev(stx), stx->stx_ino};

    g_array_append_val(scan->dirs, key);
    if (unique != 0) {
        key.id = unique | MOUNT_UNIQUE_KEY;
        g_array_append_val(scan->dirs, key);
    }
}

/* Finds the mount `line`, at `below` under the root, and the directory that holds its mount point.
 */
static void add_mount(struct mount_scan *scan, const struct mount_line *line, const char *below,
                      const GPtrArray *known)
{
    struct statx stx;
    guint64 unique;
    int fd = open_below(scan->root_fd, below);

    if (fd < 0 || !statx_ids(fd, &stx, &unique) || stx.stx_mnt_id != line->id)
        scan->any_dir = TRUE; /* covered by another mount, or moved: nobody knows what hides it */
    else
        add_live(scan, fd, line->path, known, NULL);
    if (fd >= 0)
        close(fd);

    g_autofree char *dir = g_path_get_dirname(below);
    fd = open_below(scan->root_fd, dir);
    if (fd >= 0 && statx_ids(fd, &stx, &unique) && stx.stx_mnt_id == line->parent)
        add_dir(scan, &stx, unique);
    else
        scan->any_dir = TRUE;
    if (fd >= 0)
        close(fd);
}

int mount_scan_all(struct mount_scan *scan, const GPtrArray *mounts)
{
    g_autoptr(GPtrArray) known = scan->lives;
    g_autofree char *root = path_of(scan->root_fd);

    scan->lives = g_ptr_array_new_with_free_func(g_free);
    g_array_set_size(scan->dirs, 0);
    scan->any_dir = root == NULL;
    int rc = add_live(scan, scan->root_fd, root, known, NULL);
    if (rc < 0)
        return rc;
    for (guint i = 0; root != NULL && i < mounts->len; i++) {
        const struct mount_line *line = g_ptr_array_index(mounts, i);
        const char *below = path_below(line->path, root);
        if (below != NULL)
            add_mount(scan, line, below, known);
    }

    /* Subvolumes that the operator named: before any is met, as the order must not matter. */
    const GArray *overrides = scan->overrides;
    for (guint i = 0; root != NULL && i < overrides->len; i++) {
        const char *path = g_array_index(overrides, struct override, i).path;
        const char *below = path_below(path, root);
        int fd = below != NULL ? open_below(scan->root_fd, below) : -1;
        if (fd >= 0) {
            add_live(scan, fd, path, known, NULL);
            close(fd);
        }
    }

    /* What was met on the way stays while its mount, told by its unique id, does. */
    guint settled = scan->lives->len;
    for (guint i = 0; known != NULL && i < known->len; i++) {
        const struct mount_live *old = g_ptr_array_index(known, i);
        if (old->unique == 0 || find_live(scan->lives, old->id, old->unique, old->dev) != NULL)
            continue;
        for (guint k = 0; k < settled; k++) {
            const struct mount_live *live = g_ptr_array_index(scan->lives, k);
            if (live->id == old->id && live->unique == old->unique) {
                struct mount_live *kept = g_new(struct mount_live, 1);
                *kept = *old;
                g_ptr_array_add(scan->lives, kept);
                break;
            }
        }
    }
    return 0;
}

int mount_scan_one(struct mount_scan *scan, int fd, struct mount_live **live)
{
    if (scan->lives == NULL || scan->lives->len == 0)
        return -ENODEV;
    return add_live(scan, fd, NULL, NULL, live);
}

/* Registers everything that is live on one store, together, where anything of it is new. */
static int register_store(const GPtrArray *scans, qidmap_store *store)
{
    g_autoptr(GPtrArray) lives = g_ptr_array_new();
    struct qidmap_error error;
    gboolean news = FALSE;

    for (guint i = 0; i < scans->len; i++) {
        const struct mount_scan *scan = g_ptr_array_index(scans, i);
        for (guint k = 0; scan->store == store && scan->lives != NULL && k < scan->lives->len;
             k++) {
            struct mount_live *live = g_ptr_array_index(scan->lives, k);
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
        identities[i] = ((struct mount_live *)g_ptr_array_index(lives, i))->identity;
    int rc = qidmap_register(store, identities, lives->len, numbers, &error);
    if (rc < 0) {
        log_error("filesystems cannot be registered: %s", error.text);
        return rc;
    }
    for (guint i = 0; i < lives->len; i++) {
        struct mount_live *live = g_ptr_array_index(lives, i);
        if (live->fs != 0 && live->fs != numbers[i])
            log_error("%s on %s: its number changed from %u to %u while it was mounted",
                      live->identity.hints.source, live->identity.hints.mount_path, live->fs,
                      numbers[i]);
        live->fs = numbers[i];
        live->served = TRUE;
    }
    return 0;
}

int mount_scan_register(const GPtrArray *scans)
{
    int first = 0;

    for (guint i = 0; i < scans->len; i++) {
        qidmap_store *store = ((const struct mount_scan *)g_ptr_array_index(scans, i))->store;
        gboolean seen = store == NULL;
        for (guint k = 0; k < i && !seen; k++)
            seen = ((const struct mount_scan *)g_ptr_array_index(scans, k))->store == store;
        int rc = seen ? 0 : register_store(scans, store);
        if (first == 0)
            first = rc;
    }
    return first;
}

void mount_scan_init(struct mount_scan *scan, const char *name, int root_fd, enum mount_mode mode,
                     const GArray *overrides)
{
    memset(scan, 0, sizeof *scan);
    scan->name = name;
    scan->root_fd = root_fd;
    scan->mode = mode;
    scan->overrides = overrides;
    scan->lives = g_ptr_array_new_with_free_func(g_free);
    scan->dirs = g_array_new(FALSE, FALSE, sizeof(struct mount_dir));
}

void mount_scan_clear(struct mount_scan *scan)
{
    g_ptr_array_unref(scan->lives);
    g_array_unref(scan->dirs);
}

/* ---- overrides ------------------------------------------------------------------------------- */

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

GArray *mount_overrides_parse(char *const *texts, GError **error)
{
    g_autoptr(GArray) overrides = g_array_new(FALSE, TRUE, sizeof(struct override));

    g_array_set_clear_func(overrides, override_clear);
    for (; texts != NULL && *texts != NULL; texts++) {
        struct override override = {0};
        const char *equals = strrchr(*texts, '=');
        if (equals == NULL || **texts != '/' || !parse_uuid(equals + 1, override.uuid)) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                        "fs-id '%s': write it as /ABSOLUTE/PATH=UUID", *texts);
            return NULL;
        }
        override.path = g_strndup(*texts, (gsize)(equals - *texts));
        gsize size = strlen(override.path);
        while (size > 1 && override.path[size - 1] == '/')
            override.path[--size] = '\0';
        g_array_append_val(overrides, override);
    }
    return g_steal_pointer(&overrides);
}
