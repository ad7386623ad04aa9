/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 3: overlays, and the policy that an overlay needs.
 *
 *     16 bytes   uuid that the kernel keeps as trusted.overlay.uuid in the upper folder (Linux 6.6)
 *     16 bytes   XXH3_128 over u32 1 or 0 (is there an upper folder?) and over the layers, the
 *                upper one first, then the lower ones in their order:
 *                u32 kind and u32 size of the identity of its filesystem, the identity, u64 inode
 *                and u32 generation of the folder, all little-endian. Without data-only layers.
 *
 * The overlay itself hides trusted.overlay.*, but tells the uuid by FS_IOC_GETFSUUID (6.9), and a
 * digest of it as f_fsid (the two halves of the uuid, exclusive-or), which shows whether what the
 * upper folder has is the uuid of this very overlay.
 *
 * The folders are named by the mount options, as whoever mounted it typed them: perhaps in another
 * namespace, perhaps relative to a folder that nobody remembers. A relative name is looked for
 * below each folder above the mount point. That what is found is the right thing shows in the
 * handle of the overlay's root, which contains the handle of the uppermost folder. Where that
 * cannot be compared, the names are believed, and the identity is flagged weak; where it differs,
 * the layers are not known.
 */
#include "config.h"

#include "store/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <xxhash.h>

#include "store/overlay.h"
#include "store/view.h"

#define OVERLAY_HANDLE 0xf8 /* file handle type of overlayfs */
#define HANDLE_HEAD    24   /* before the handle of the layer: 3 + 5 bytes, uuid */
#define DEPTH_MAX      3
#define LOOKED_AT      512 /* entries, until a file that is no directory is found */
#define DIRS_MAX       32

struct layer {
    struct qidmap_fsid fsid;
    guint64 superblock;
    guint64 device; /* st_dev */
    guint64 ino;
    guint32 gen;
    guint32 policy;
    char type[32];
};

struct qm_layers {
    struct qm_overlay_options options;
    GArray *list; /* struct layer; NULL where they are not known */
    gboolean verified;
    guint8 uuid[16]; /* trusted.overlay.uuid of the upper folder; 0: none */
    char text[200];  /* why they are not known */
};

/* What a look at the files of the overlay shows. */
struct look {
    gboolean file_seen;    /* something that is no directory */
    gboolean foreign_seen; /* with another st_dev than the overlay has */
    gboolean has_handles;  /* the root, and whatever was seen, has a handle of overlayfs */
};

void qm_overlay_free(struct qm_layers *layers)
{
    if (layers == NULL)
        return;
    qm_overlay_options_clear(&layers->options);
    if (layers->list != NULL)
        g_array_unref(layers->list);
    g_free(layers);
}

/* ---- the layers ------------------------------------------------------------------------------ */

static guint64 device_of(const struct statx *stx)
{
    return (guint64)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

static gboolean is_remote_layer(const char *type)
{
    return g_str_has_prefix(type, "fuse") || strcmp(type, "virtiofs") == 0;
}

/* Folder `fd` as a layer; that of `like` helps where both are on one filesystem. */
static gboolean read_layer(struct qm_probe *probe, int fd, const struct layer *like,
                           struct layer *layer)
{
    struct qidmap_identity identity;
    struct statx stx;
    int generation = 0;

    memset(layer, 0, sizeof *layer);
    if (qm_statx(fd, STATX_BASIC_STATS, &stx) < 0)
        return FALSE;
    if (like != NULL && like->device == device_of(&stx)) {
        *layer = *like;
    } else {
        if (qm_identify_layer(fd, probe->mounts, probe->depth + 1, &identity) < 0)
            return FALSE;
        layer->fsid = identity.fsid[0];
        layer->superblock = identity.superblock;
        layer->device = device_of(&stx);
        layer->policy = identity.policy;
        g_strlcpy(layer->type, identity.hints.type, sizeof layer->type);
    }
    layer->ino = stx.stx_ino;
    if (!is_remote_layer(layer->type)) {
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        int io = open(link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (io >= 0 && ioctl(io, FS_IOC_GETVERSION, &generation) == 0)
            layer->gen = (guint32)generation;
        if (io >= 0)
            close(io);
    }
    return TRUE;
}

/* Is folder `fd` the uppermost layer of the overlay whose root has this handle? */
static gboolean is_uppermost(const struct qm_handle *root, int fd)
{
    struct qm_handle own;

    if (!qm_handle_at(fd, "", &own) || own.size + HANDLE_HEAD > root->size)
        return FALSE;
    return root->bytes[7] == (guint8)own.type && /* the kernel rounds the whole up to 4 bytes */
           memcmp(root->bytes + HANDLE_HEAD, own.bytes, own.size) == 0;
}

static int open_layer(const char *base, const char *name)
{
    g_autofree char *path = name[0] == '/' ? g_strdup(name) : g_build_filename(base, name, NULL);
    return qm_view_open(path, O_PATH | O_DIRECTORY);
}

/* The uuid in the upper folder, where it is that of this overlay. */
static void read_uuid(struct qm_probe *probe, int upper)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", upper);
    guint8 uuid[16];
    guint32 half[4], fsid[2];

    if (getxattr(link, "trusted.overlay.uuid", uuid, sizeof uuid) != sizeof uuid)
        return;
    memcpy(half, uuid, sizeof half);
    memcpy(fsid, &probe->sfs.f_fsid, sizeof fsid);
    if (GUINT32_FROM_LE(half[0] ^ half[2]) == fsid[0] &&
        GUINT32_FROM_LE(half[1] ^ half[3]) == fsid[1])
        memcpy(probe->layers->uuid, uuid, sizeof uuid);
}

/* All layers, with relative names taken from `base`. */
static gboolean read_layers(struct qm_probe *probe, const char *base, const struct qm_handle *root)
{
    struct qm_layers *layers = probe->layers;
    const struct qm_overlay_options *options = &layers->options;
    g_autoptr(GArray) list = g_array_new(FALSE, TRUE, sizeof(struct layer));
    guint count = options->lowers->len + (options->upper != NULL);

    for (guint i = 0; i < count; i++) {
        const char *name = options->upper == NULL ? g_ptr_array_index(options->lowers, i)
                           : i == 0               ? options->upper
                                                  : g_ptr_array_index(options->lowers, i - 1);
        int fd = open_layer(base, name);
        if (fd < 0) {
            g_snprintf(layers->text, sizeof layers->text, "cannot open the layer '%s': %s", name,
                       g_strerror(errno));
            return FALSE;
        }
        gboolean fits = i != 0 || root == NULL || is_uppermost(root, fd);
        if (!fits)
            g_snprintf(layers->text, sizeof layers->text,
                       "'%s' is not the uppermost layer of this overlay", name);
        struct layer layer;
        if (fits && i == 0 && options->upper != NULL)
            read_uuid(probe, fd);
        fits = fits && read_layer(probe, fd,
                                  i > 0 ? &g_array_index(list, struct layer, i - 1) : NULL, &layer);
        close(fd);
        if (!fits) {
            if (layers->text[0] == '\0')
                g_snprintf(layers->text, sizeof layers->text,
                           "the filesystem of the layer '%s' cannot be identified", name);
            return FALSE;
        }
        g_array_append_val(list, layer);
    }
    layers->list = g_steal_pointer(&list);
    layers->verified = root != NULL;
    return TRUE;
}

static void find_layers(struct qm_probe *probe)
{
    struct qm_layers *layers = probe->layers;
    struct qm_handle handle;
    gboolean relative = layers->options.upper != NULL && layers->options.upper[0] != '/';
    int root = qm_probe_root(probe);
    gboolean has_handle = root >= 0 && qm_handle_at(root, "", &handle) &&
                          handle.type == OVERLAY_HANDLE && handle.size > HANDLE_HEAD;

    if (root >= 0)
        close(root);
    if (layers->options.lowers->len == 0 || probe->depth >= DEPTH_MAX) {
        g_strlcpy(layers->text, "the mount options name no layers", sizeof layers->text);
        return;
    }
    for (guint i = 0; i < layers->options.lowers->len; i++)
        relative = relative || ((char *)g_ptr_array_index(layers->options.lowers, i))[0] != '/';
    if (!relative) {
        read_layers(probe, "/", has_handle ? &handle : NULL);
        return;
    }
    g_autofree char *base = g_strdup(probe->mount->path);
    for (char *slash; (slash = strrchr(base, '/')) != NULL;) {
        *slash = '\0';
        layers->text[0] = '\0';
        if (read_layers(probe, base[0] != '\0' ? base : "/", has_handle ? &handle : NULL))
            return;
    }
}

/* ---- the policy ------------------------------------------------------------------------------ */

/* Notes what one entry shows; TRUE when that settles it. */
static gboolean look_at(struct qm_probe *probe, int dir, const char *name, struct look *look)
{
    struct qm_handle handle;
    struct statx stx;

    if (statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
              STATX_BASIC_STATS | STATX_MNT_ID, &stx) != 0 ||
        stx.stx_mnt_id != probe->stx.stx_mnt_id)
        return FALSE;
    if (!qm_handle_at(dir, name, &handle) || handle.type != OVERLAY_HANDLE)
        look->has_handles = FALSE;
    if (S_ISDIR(stx.stx_mode))
        return FALSE;
    look->file_seen = TRUE;
    if (stx.stx_dev_major != probe->mount->major || stx.stx_dev_minor != probe->mount->minor)
        look->foreign_seen = TRUE;
    return look->foreign_seen;
}

/* Looks at entries of the root and of the folders in it, LOOKED_AT at most. */
static void look_around(struct qm_probe *probe, struct look *look)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    guint left = LOOKED_AT;
    gboolean settled = FALSE;
    struct qm_handle handle;
    int root = qm_probe_root(probe);

    look->has_handles = TRUE;
    /* No mount shows the root: then what can be seen from where the file is. */
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", root >= 0 ? root : probe->fd);
    if (!qm_handle_at(root >= 0 ? root : probe->fd, "", &handle) || handle.type != OVERLAY_HANDLE)
        look->has_handles = FALSE;
    g_ptr_array_add(names, g_strdup("."));
    int top = open(link, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root >= 0)
        close(root);
    for (guint i = 0; top >= 0 && i < names->len && left > 0 && !settled; i++) {
        int fd = openat(top, g_ptr_array_index(names, i),
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *entry;
        if (dir == NULL && fd >= 0)
            close(fd);
        while (dir != NULL && left > 0 && !settled && (entry = readdir(dir)) != NULL) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            left--;
            settled = look_at(probe, fd, entry->d_name, look);
            if (i == 0 && entry->d_type == DT_DIR && names->len < DIRS_MAX)
                g_ptr_array_add(names, g_strdup(entry->d_name));
        }
        if (dir != NULL)
            closedir(dir);
    }
    if (top >= 0)
        close(top);
}

/* Filesystems whose uuid is in handles, and which could be clones of each other. */
static gboolean have_clones(const GArray *list)
{
    for (guint i = 0; i < list->len; i++) {
        const struct layer *a = &g_array_index(list, struct layer, i);
        for (guint k = 0; k < i; k++) {
            const struct layer *b = &g_array_index(list, struct layer, k);
            /* Of btrfs the first half, which its subvolumes share. */
            if (a->superblock != b->superblock && a->fsid.kind == b->fsid.kind &&
                memcmp(a->fsid.bytes, b->fsid.bytes, 16) == 0 &&
                (a->fsid.kind == QIDMAP_FSID_BTRFS ||
                 (a->fsid.size == b->fsid.size &&
                  memcmp(a->fsid.bytes, b->fsid.bytes, a->fsid.size) == 0)))
                return TRUE;
        }
    }
    return FALSE;
}

/* Why handles do not tell the files of this overlay apart; NULL where they do. */
static const char *no_handles(const struct qm_layers *layers, const struct look *look)
{
    if (layers->list == NULL)
        return "an overlay without xino, whose layers are not known";
    if (!look->has_handles)
        return "an overlay without xino, and without file handles (Linux 6.5)";
    if (layers->options.no_uuid && layers->list->len > 1)
        return "an overlay without xino, and uuid=off";
    if (have_clones(layers->list))
        return "an overlay without xino over clones of one filesystem";
    for (guint i = 0; i < layers->list->len; i++) {
        const struct layer *layer = &g_array_index(layers->list, struct layer, i);
        if (is_remote_layer(layer->type))
            return "an overlay without xino over FUSE, whose handles do not last";
    }
    return NULL;
}

static void decide(struct qm_probe *probe)
{
    const struct qm_layers *layers = probe->layers;
    gboolean has_btrfs = FALSE, same = TRUE;
    struct look look = {0};

    for (guint i = 0; layers->list != NULL && i < layers->list->len; i++) {
        const struct layer *layer = &g_array_index(layers->list, struct layer, i);
        if (strcmp(layer->type, "overlay") == 0 && layer->policy != QIDMAP_POLICY_AFFIX) {
            qm_settle(probe, QIDMAP_POLICY_DENY,
                      "an overlay over an overlay without xino: its files share inode numbers and "
                      "handles; mount the lower one with xino=on");
            return;
        }
        if (is_remote_layer(layer->type) && layer->policy == QIDMAP_POLICY_EPHEMERAL) {
            qm_settle(probe, QIDMAP_POLICY_EPHEMERAL,
                      "an overlay over FUSE whose inode numbers are counters");
            return;
        }
        has_btrfs = has_btrfs || strcmp(layer->type, "btrfs") == 0;
        same = same && layer->superblock == g_array_index(layers->list, struct layer, 0).superblock;
    }
    look_around(probe, &look);
    const char *problem = no_handles(layers, &look);

    if (has_btrfs) { /* subvolumes share inode numbers, and an overlay does not know them */
        qm_settle(probe, problem == NULL ? QIDMAP_POLICY_HANDLE : QIDMAP_POLICY_EPHEMERAL,
                  problem == NULL ? "an overlay over btrfs" : problem);
    } else if (look.foreign_seen) {
        qm_settle(probe, problem == NULL ? QIDMAP_POLICY_HANDLE : QIDMAP_POLICY_EPHEMERAL,
                  problem == NULL ? "an overlay over several filesystems without xino" : problem);
    } else if (look.file_seen || layers->options.xino || (layers->list != NULL && same)) {
        qm_settle(probe, QIDMAP_POLICY_AFFIX,
                  "an overlay with xino, or with all its layers on one filesystem");
    } else {
        qm_settle(probe, problem == NULL ? QIDMAP_POLICY_HANDLE : QIDMAP_POLICY_EPHEMERAL,
                  problem == NULL ? "an overlay over several filesystems, empty so far" : problem);
    }
}

void qm_overlay_nature(struct qm_probe *probe)
{
    probe->layers = g_new0(struct qm_layers, 1);
    qm_overlay_parse(probe->mount->options, &probe->layers->options);
    find_layers(probe);
    decide(probe);
    if (probe->layers->list == NULL)
        return;
    /* What tells copies of an overlay apart is the device that its uppermost layer is on. */
    guint64 superblock = g_array_index(probe->layers->list, struct layer, 0).superblock;
    if (superblock >> 32 != 0) {
        probe->dev_major = (guint32)(superblock >> 32);
        probe->dev_minor = (guint32)superblock;
    }
}

/* ---- the rungs ------------------------------------------------------------------------------- */

static gboolean is_overlay(const struct qm_probe *probe, struct qm_answer *answer)
{
    if (probe->layers != NULL)
        return TRUE;
    qm_say(answer, "not an overlay");
    return FALSE;
}

int qm_rung_overlay_uuid(struct qm_probe *probe, const struct qidmap_identify_options *options,
                         struct qm_answer *answer)
{
    static const guint8 zero[16];
    guint8 uuid[16];

    (void)options;
    if (!is_overlay(probe, answer))
        return -ENODATA;
    if (probe->layers->options.upper == NULL) {
        qm_say(answer, "an overlay without upper folder has no uuid that lasts");
        return -ENODATA;
    }
    int fd = qm_probe_io_fd(probe);
    if (fd >= 0 && qm_generic_uuid(fd, uuid)) {
        qm_answer_set(answer, QIDMAP_FSID_OVERLAY, uuid, 16);
        qm_say(answer, "FS_IOC_GETFSUUID of the overlay");
        return 0;
    }
    if (memcmp(probe->layers->uuid, zero, 16) != 0) {
        qm_answer_set(answer, QIDMAP_FSID_OVERLAY, probe->layers->uuid, 16);
        qm_say(answer, "trusted.overlay.uuid of the upper folder");
        return 0;
    }
    qm_say(answer, "the upper folder has no uuid (Linux 6.6), or it cannot be read");
    return -ENODATA;
}

int qm_rung_overlay_layers(struct qm_probe *probe, const struct qidmap_identify_options *options,
                           struct qm_answer *answer)
{
    XXH128_canonical_t digest;

    (void)options;
    if (!is_overlay(probe, answer))
        return -ENODATA;
    const GArray *list = probe->layers->list;
    if (list == NULL) {
        qm_say(answer, "%s", probe->layers->text);
        return -ENODATA;
    }
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    guint32 upper = GUINT32_TO_LE(probe->layers->options.upper != NULL);
    XXH3_128bits_update(state, &upper, sizeof upper);
    for (guint i = 0; i < list->len; i++) {
        const struct layer *layer = &g_array_index(list, struct layer, i);
        guint32 head[2] = {GUINT32_TO_LE(layer->fsid.kind), GUINT32_TO_LE(layer->fsid.size)};
        guint64 ino = GUINT64_TO_LE(layer->ino);
        guint32 gen = GUINT32_TO_LE(layer->gen);
        XXH3_128bits_update(state, head, sizeof head);
        XXH3_128bits_update(state, layer->fsid.bytes, layer->fsid.size);
        XXH3_128bits_update(state, &ino, sizeof ino);
        XXH3_128bits_update(state, &gen, sizeof gen);
    }
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state));
    XXH3_freeState(state);
    qm_answer_set(answer, QIDMAP_FSID_OVERLAY, digest.digest, 16);
    if (!probe->layers->verified)
        answer->flags = QIDMAP_IDENTITY_WEAK;
    qm_say(answer, "filesystem, inode and generation of %u layers%s", list->len,
           probe->layers->verified ? "" : ", found by their names alone");
    return 0;
}
