/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gathers hints about a filesystem from mountinfo, sysfs and the root inode. Best effort: a hint
 * that cannot be found stays empty, and no hint ever identifies a filesystem alone.
 */
#include "config.h"

#include "store/hints.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "store/view.h"

#define DELETED " (deleted)"

void qm_hint_set(char *hint, gsize size, const char *value)
{
    gsize length = strlen(value);

    if (length < size) {
        memcpy(hint, value, length + 1);
        return;
    }
    gsize digest = MIN((gsize)18, size); /* '~', 16 digits, NUL */
    memcpy(hint, value, size - digest);
    snprintf(hint + size - digest, digest, "~%016" G_GINT64_MODIFIER "x",
             (guint64)XXH3_64bits(value, length));
}

/* The digits at the end of a cut string or a digest, with what stands before the '~'. */
static gboolean cut_parts(const char *hint, gsize *prefix, guint64 *digest)
{
    gsize length = strlen(hint);

    if (length < 17 || hint[length - 17] != '~')
        return FALSE;
    *digest = 0;
    for (gsize i = length - 16; i < length; i++) {
        char c = hint[i];
        if (!g_ascii_isdigit(c) && (c < 'a' || c > 'f'))
            return FALSE;
        *digest = *digest << 4 | (guint64)g_ascii_xdigit_value(c);
    }
    *prefix = length - 17;
    return TRUE;
}

void qm_hint_digest(const char *value, char digest[QM_HINT_DIGEST])
{
    guint64 number;
    gsize prefix;

    if (!cut_parts(value, &prefix, &number))
        number = XXH3_64bits(value, strlen(value));
    snprintf(digest, QM_HINT_DIGEST, "~%016" G_GINT64_MODIFIER "x", number);
}

/* `cut` is a cut form or the digest of `whole`, which may be cut itself. */
static gboolean is_cut_of(const char *cut, const char *whole)
{
    gsize prefix, other_prefix;
    guint64 digest, other;

    if (!cut_parts(cut, &prefix, &digest) || whole[0] == '\0')
        return FALSE;
    if (cut_parts(whole, &other_prefix, &other) && other == digest)
        return memcmp(cut, whole, MIN(prefix, other_prefix)) == 0;
    return strncmp(cut, whole, prefix) == 0 && XXH3_64bits(whole, strlen(whole)) == digest;
}

gboolean qm_hint_equal(const char *a, const char *b)
{
    return strcmp(a, b) == 0 || is_cut_of(a, b) || is_cut_of(b, a);
}

/* First line of a small file, without its end; NULL when it cannot be read or is empty. */
static char *read_line(const char *path)
{
    g_autofree char *content = NULL;

    if (!g_file_get_contents(path, &content, NULL, NULL))
        return NULL;
    content[strcspn(content, "\n")] = '\0';
    g_strstrip(content);
    return content[0] != '\0' ? g_steal_pointer(&content) : NULL;
}

static char *read_sys(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    return read_line(path);
}

/* First of several files below `dir` that has something to say. */
static char *read_first(const char *dir, const char *const *names)
{
    for (; *names != NULL; names++) {
        char *value = read_sys(dir, *names);
        if (value != NULL)
            return value;
    }
    return NULL;
}

/* Path of the file behind a loop device; its offset, when it has one, follows after '@'. */
static void collect_backing(const char *disk, struct qidmap_hints *hints)
{
    g_autofree char *file = read_sys(disk, "loop/backing_file");

    if (file == NULL)
        return;
    if (g_str_has_suffix(file, DELETED))
        file[strlen(file) - strlen(DELETED)] = '\0';
    g_autofree char *offset = read_sys(disk, "loop/offset");
    if (offset != NULL && strcmp(offset, "0") != 0) {
        g_autofree char *whole = g_strconcat(file, "@", offset, NULL);
        QM_HINT_SET(hints->backing, whole);
    } else {
        QM_HINT_SET(hints->backing, file);
    }
}

/* PARTUUID as the kernel (from 6.9), udev, or the partition table itself has it. */
static void collect_part_uuid(struct qm_probe *probe, const char *dir, struct qidmap_hints *hints)
{
    static const char *const keys[] = {"\nPARTUUID=", "\nE:ID_PART_ENTRY_UUID="};
    g_autofree char *uevent = g_build_filename(dir, "uevent", NULL);
    g_autofree char *udev =
        g_strdup_printf("/run/udev/data/b%u:%u", probe->dev_major, probe->dev_minor);
    const char *const files[] = {uevent, udev};

    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *content = NULL;
        if (!g_file_get_contents(files[i], &content, NULL, NULL))
            continue;
        char *value = strstr(content, keys[i]);
        if (value == NULL)
            continue;
        value += strlen(keys[i]);
        value[strcspn(value, "\n")] = '\0';
        g_autofree char *lower = g_ascii_strdown(value, -1);
        QM_HINT_SET(hints->part_uuid, lower);
        if (hints->part_uuid[0] != '\0')
            return;
    }
    qm_blkid_part_uuid(probe, hints->part_uuid, sizeof hints->part_uuid);
}

static void collect_device(struct qm_probe *probe, struct qidmap_hints *hints)
{
    static const char *const wwids[] = {"wwid", "device/wwid", "serial", "device/serial", NULL};
    g_autofree char *dir =
        g_strdup_printf("/sys/dev/block/%u:%u", probe->dev_major, probe->dev_minor);
    g_autofree char *partition = read_sys(dir, "partition");
    g_autofree char *above = g_build_filename(dir, "..", NULL);
    const char *disk = partition != NULL ? above : dir;

    if (partition != NULL)
        hints->partition = (guint32)strtoul(partition, NULL, 10);
    collect_backing(disk, hints);
    g_autofree char *dm = read_sys(disk, "dm/uuid");
    if (dm != NULL)
        QM_HINT_SET(hints->dm_uuid, dm);
    g_autofree char *wwid = read_first(disk, wwids);
    if (wwid != NULL)
        QM_HINT_SET(hints->wwid, wwid);
    if (partition != NULL)
        collect_part_uuid(probe, dir, hints);
}

/* Inode, generation and birth of the root, where a mount shows it. */
static void collect_root(const struct qm_probe *probe, struct qidmap_hints *hints)
{
    const struct statx *stx = &probe->root_stx;

    /* A subvolume that has no mount of its own does not show its root; without xino an overlay
     * makes up a number for it. */
    if (!probe->has_root || probe->policy == QIDMAP_POLICY_HANDLE ||
        stx->stx_dev_major != probe->stx.stx_dev_major ||
        stx->stx_dev_minor != probe->stx.stx_dev_minor)
        return;
    hints->root_ino = stx->stx_ino;
    hints->root_gen = probe->root_gen;
    if (stx->stx_mask & STATX_BTIME)
        hints->root_btime_ns =
            (int64_t)((guint64)stx->stx_btime.tv_sec * 1000000000U + stx->stx_btime.tv_nsec);
}

void qm_hints_collect(struct qm_probe *probe, const struct qidmap_identify_options *options,
                      struct qidmap_hints *hints)
{
    guint8 boot[16];

    if (options != NULL && options->tree != NULL)
        QM_HINT_SET(hints->tree, options->tree);
    QM_HINT_SET(hints->type, probe->mount->type);
    QM_HINT_SET(hints->source, probe->mount->source);
    QM_HINT_SET(hints->mount_path, probe->mount->path);
    hints->st_dev = (guint64)probe->stx.stx_dev_major << 32 | probe->stx.stx_dev_minor;
    qm_boot_id(boot, hints->boot_id);
    g_autofree char *machine = read_line("/etc/machine-id");
    if (machine != NULL && strlen(machine) == 32)
        QM_HINT_SET(hints->machine_id, machine);
    if (probe->dev_major != 0)
        collect_device(probe, hints);
    collect_root(probe, hints);
}

/* ---- is a device still there? ---------------------------------------------------------------- */

/* As stat(2), on the host, wherever the daemon has shut itself into: a file that merely cannot be
 * seen from there is not gone. */
static int stat_on_host(const char *path, struct stat *st)
{
    int fd = qm_view_open(path, O_PATH), r, saved;

    if (fd < 0)
        return -1;
    r = fstat(fd, st);
    saved = errno;
    close(fd);
    errno = saved;
    return r;
}

static gboolean is_on_host(const char *path)
{
    struct stat st;

    return stat_on_host(path, &st) == 0;
}

/* A backing file: there, and not the same file under another name. */
static gboolean backing_present(const char *old, const char *now)
{
    struct stat a, b;
    g_autofree char *old_path = g_strdup(old);
    g_autofree char *now_path = g_strdup(now);
    char *at = strrchr(old_path, '@');

    /* Several filesystems in one file, at different offsets. */
    if (at != NULL && g_ascii_isdigit(at[1]) && !is_on_host(old_path))
        *at = '\0';
    at = strrchr(now_path, '@');
    if (at != NULL && g_ascii_isdigit(at[1]) && !is_on_host(now_path))
        *at = '\0';
    if (stat_on_host(old_path, &a) != 0)
        return errno != ENOENT && errno != ENOTDIR;
    if (now_path[0] != '\0' && stat_on_host(now_path, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        return strcmp(old_path, now_path) == 0; /* the same name: it was the offset that differs */
    return TRUE;
}

/* Some block device shows `value` in one of these files. */
static gboolean sysfs_has(const char *const *names, const char *value, gsize size)
{
    g_autoptr(GDir) dir = g_dir_open("/sys/block", 0, NULL);
    const char *entry;

    if (dir == NULL)
        return FALSE;
    while ((entry = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename("/sys/block", entry, NULL);
        g_autofree char *found = read_first(path, names);
        if (found == NULL)
            continue;
        g_autofree char *hint = g_malloc0(size);
        qm_hint_set(hint, size, found);
        if (qm_hint_equal(hint, value))
            return TRUE;
    }
    return FALSE;
}

gboolean qm_hints_device_present(const struct qidmap_hints *old, const struct qidmap_hints *now)
{
    static const char *const dm[] = {"dm/uuid", NULL};
    static const char *const wwid[] = {"wwid", "device/wwid", "serial", "device/serial", NULL};

    if (old->backing[0] != '\0')
        return backing_present(old->backing, now->backing);
    if (old->dm_uuid[0] != '\0')
        return strcmp(old->dm_uuid, now->dm_uuid) == 0 ||
               sysfs_has(dm, old->dm_uuid, sizeof old->dm_uuid);
    if (old->wwid[0] != '\0')
        return sysfs_has(wwid, old->wwid, sizeof old->wwid);
    return FALSE;
}
