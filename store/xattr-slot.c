/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two slots, a and b. A slot is a header, PREFIX "a", and chunks, PREFIX "a0", "a1" ..., whose
 * bytes, one after the other, are the image. The only file that writes xattrs of stores. The bytes
 * of a header (little-endian; qidmap-format(5) repeats this):
 *
 *    0 u8[4] "QIDX"     8 u64 sequence       24 u32 CRC32C of letter, sequence, image
 *    4 u8 version: 1   16 u32 image size     28 u32 CRC32C of letter and bytes 0 ... 27
 *    5 u8 kind         20 u32 room
 *    6 u16 chunks
 *
 * The letter is the slot's, so that nothing of one slot counts in the other. Kinds:
 *   1 creating: the store is being made
 *   2 free:     the state here was replaced by the one whose number stands in `sequence`
 *   3 live:     here is state `sequence`
 *
 * How state s + 1 is written, while s is live in slot X and Y is the other one (F: fsync of the
 * directory, after which all that was set or removed before it is on stable storage; ext4 and xfs
 * force their log, btrfs logs the inode with all its xattrs):
 *
 *   0. header of Y = free(s), where it does not say so yet
 *   1. chunks of Y; those that are no longer needed are removed
 *   2. F
 *   3. header of Y = live(s + 1)
 *   4. F; the commit returns
 *   5. header of X = free(s + 1); on the disk at the next F at the latest
 *
 * and a new store: header of a = creating, header of b = creating, F, then as above with X = a.
 *
 * What a crash can leave. Let it come at any point, and let any subset of what was not synced be on
 * the disk, a value torn at any place included. Before step 3: the header of X is live(s) with all
 * its chunks, since 0 to 2 do not touch X. Y is free(s), or live(s - 1) where step 5 of the commit
 * before did not reach the disk, or torn between these. At step 3 and 4: X as before; Y is free(s),
 * live(s + 1), or torn; in the second case its chunks are whole, because of F in step 2. At step 5:
 * Y is live(s + 1) and whole, because of F in step 4; X is live(s), free(s + 1) or torn. So a crash
 * leaves a header live(n) with all its chunks, where n is the largest number of a live header, and
 * beside it free(n), live(n - 1), or a torn header; in a new store (n = 1) also creating. Before
 * the first commit returned there may be no live header: then one is creating, or no chunk is
 * there.
 *
 * Everything else is damage, and is reported: in particular
 *   - the newest live header without its whole image: F in step 2 forbids it;
 *   - free(m) beside live(n), m != n: state m was complete once, and n is older;
 *   - a free header and no live one: the state that followed is gone;
 *   - a header that is missing beside one that is there.
 * So an older state never comes back silently: as soon as step 5 is on the disk the older slot says
 * itself that it was replaced. What remains is a bad header in slot Y before that: it looks torn.
 * That needs a power cut within the moment between step 4 and the filesystem's own writing back,
 * and independent damage to that one header.
 *
 * A failed F in step 4 leaves the commit undecided; the caller maps nothing new until the store has
 * been opened again. Opening it for writing writes the state it finds once more, as a new one:
 * reading shows the page cache, and not the disk.
 *
 * The price is two fsyncs for each commit. With one alone (chunks and header together) the first of
 * the damages above could not be told from a crash.
 */
#include "config.h"

#include "store/xattr-slot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/crc.h"
#include "store/error.h"

#define SLOT_MAGIC   "QIDX"
#define SLOT_VERSION 1u
#define SLOT_HEADER  32u
#define NAME_ROOM    48u
#define CHUNKS_MAX   256u
#define CHUNK_MIN    32u
#define CHUNK_FULL   3072u /* where there is no room to find out: every filesystem takes this */
#define TRIALS_MAX   64u
#define READ_TRIES   1000
#define RESERVE      128u /* of the measured room: names and headers that are not there yet */

static int sys_set(int fd, const char *name, const void *value, size_t size, int flags)
{
    return fsetxattr(fd, name, value, size, flags);
}

static ssize_t sys_get(int fd, const char *name, void *value, size_t size)
{
    return fgetxattr(fd, name, value, size);
}

static int sys_remove(int fd, const char *name)
{
    return fremovexattr(fd, name);
}

static ssize_t sys_list(int fd, char *names, size_t size)
{
    return flistxattr(fd, names, size);
}

static int sys_sync(int fd)
{
    return fsync(fd);
}

static const struct qm_xattr_sys real = {sys_set, sys_get, sys_remove, sys_list, sys_sync, FALSE};
const struct qm_xattr_sys *qm_xattr_sys = &real;

static const char *const prefixes[QM_XATTR_SPACES] = {
    [QM_XATTR_TRUSTED] = "trusted.qidmap.",
    [QM_XATTR_USER] = "user.virtfs.system.qidmap.",
};

const char *qm_xattr_prefix(enum qm_xattr_space space)
{
    return prefixes[space];
}

/* ---- names and headers ----------------------------------------------------------------------- */

enum kind { KIND_ABSENT, KIND_CREATING, KIND_FREE, KIND_LIVE, KIND_BAD, KIND_NEWER };

struct header {
    enum kind kind;
    unsigned chunks;
    uint64_t seq;
    uint32_t size;
    uint32_t room;
    uint32_t crc;
    ssize_t raw_size; /* what was read, to see whether it changed */
    uint8_t raw[SLOT_HEADER];
};

static char letter(int slot)
{
    return (char)('a' + slot);
}

static void header_name(char name[NAME_ROOM], enum qm_xattr_space space, int slot)
{
    snprintf(name, NAME_ROOM, "%s%c", prefixes[space], letter(slot));
}

static void chunk_name(char name[NAME_ROOM], enum qm_xattr_space space, char which, unsigned i)
{
    snprintf(name, NAME_ROOM, "%s%c%u", prefixes[space], which, i);
}

static void put_le(uint8_t *p, uint64_t value, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, size_t size)
{
    uint64_t value = 0;
    size_t i;

    for (i = 0; i < size; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static uint32_t crc_begin(int slot)
{
    char c = letter(slot);

    return qm_crc32c(0, &c, 1);
}

static uint32_t image_crc(int slot, uint64_t seq, const void *image, size_t size)
{
    uint8_t number[8];

    put_le(number, seq, 8);
    return qm_crc32c(qm_crc32c(crc_begin(slot), number, 8), image, size);
}

static void header_bytes(uint8_t out[SLOT_HEADER], int slot, const struct header *h)
{
    memcpy(out, SLOT_MAGIC, 4);
    out[4] = SLOT_VERSION;
    out[5] = (uint8_t)h->kind;
    put_le(out + 6, h->chunks, 2);
    put_le(out + 8, h->seq, 8);
    put_le(out + 16, h->size, 4);
    put_le(out + 20, h->room, 4);
    put_le(out + 24, h->crc, 4);
    put_le(out + 28, qm_crc32c(crc_begin(slot), out, 28), 4);
}

/* Any bytes at all. The checksum of a later version stands at its end, too. */
static void header_parse(struct header *h, int slot, const uint8_t *p, size_t size)
{
    h->kind = KIND_BAD;
    if (size < 12 || memcmp(p, SLOT_MAGIC, 4) != 0 ||
        get_le(p + size - 4, 4) != qm_crc32c(crc_begin(slot), p, size - 4))
        return;
    if (p[4] > SLOT_VERSION) {
        h->kind = KIND_NEWER;
        return;
    }
    if (size != SLOT_HEADER || p[4] != SLOT_VERSION || p[5] < KIND_CREATING || p[5] > KIND_LIVE)
        return;
    h->chunks = (unsigned)get_le(p + 6, 2);
    h->seq = get_le(p + 8, 8);
    h->size = (uint32_t)get_le(p + 16, 4);
    h->room = (uint32_t)get_le(p + 20, 4);
    h->crc = (uint32_t)get_le(p + 24, 4);
    if (h->seq == UINT64_MAX || h->size > QM_XATTR_IMAGE_MAX || h->chunks > CHUNKS_MAX ||
        (p[5] == KIND_CREATING) != (h->seq == 0) ||
        (p[5] == KIND_LIVE) != (h->size != 0 && h->chunks != 0))
        return;
    h->kind = (enum kind)p[5];
}

/* 0, or the errno of a filesystem that cannot be read. */
static int header_read(struct header *h, int fd, enum qm_xattr_space space, int slot)
{
    char name[NAME_ROOM];
    uint8_t bytes[256];
    ssize_t n;

    memset(h, 0, sizeof(*h));
    header_name(name, space, slot);
    n = qm_xattr_sys->get(fd, name, bytes, sizeof(bytes));
    h->raw_size = n;
    if (n < 0) {
        h->kind = errno == ERANGE ? KIND_BAD : KIND_ABSENT;
        return errno == ERANGE || errno == ENODATA || errno == EOPNOTSUPP || errno == EPERM
                   ? 0
                   : -errno;
    }
    memcpy(h->raw, bytes, MIN((size_t)n, sizeof(h->raw)));
    header_parse(h, slot, bytes, (size_t)n);
    return 0;
}

static gboolean same(const struct header *a, const struct header *b)
{
    return a->raw_size == b->raw_size && memcmp(a->raw, b->raw, sizeof(a->raw)) == 0;
}

static int header_write(const struct qm_xattr_dir *dir, int slot, const struct header *h)
{
    char name[NAME_ROOM];
    uint8_t bytes[SLOT_HEADER];

    header_name(name, dir->space, slot);
    header_bytes(bytes, slot, h);
    return qm_xattr_sys->set(dir->fd, name, bytes, sizeof(bytes), 0) == 0 ? 0 : -errno;
}

static int write_free(const struct qm_xattr_dir *dir, int slot, uint64_t successor)
{
    struct header h = {.kind = KIND_FREE, .seq = successor, .room = (uint32_t)dir->room};

    return header_write(dir, slot, &h);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The image of a live slot; NULL where it is not whole. *error_code: a call that failed. */
static GByteArray *image_read(int fd, enum qm_xattr_space space, int slot, const struct header *h,
                              int *error_code)
{
    g_autofree uint8_t *chunk = g_malloc(QM_XATTR_VALUE_MAX);
    GByteArray *image = g_byte_array_sized_new(h->size);
    gboolean whole = TRUE;
    unsigned i;

    for (i = 0; whole && i < h->chunks; i++) {
        char name[NAME_ROOM];
        ssize_t n;

        chunk_name(name, space, letter(slot), i);
        n = qm_xattr_sys->get(fd, name, chunk, QM_XATTR_VALUE_MAX);
        if (n < 0 && errno != ENODATA && errno != ERANGE)
            *error_code = -errno;
        whole = n > 0 && (size_t)n <= h->size - image->len;
        if (whole)
            g_byte_array_append(image, chunk, (guint)n);
    }
    if (whole && image->len == h->size &&
        image_crc(slot, h->seq, image->data, image->len) == h->crc)
        return image;
    g_byte_array_unref(image);
    return NULL;
}

/* Names in the list that are a store's, headers and trials left out; sets used[] of the slots. */
static int list_chunks(int fd, enum qm_xattr_space space, gboolean *any, unsigned used[2])
{
    g_autofree char *names = NULL;
    size_t prefix = strlen(prefixes[space]);
    const char *at;
    ssize_t size, n = -1;
    int tries;

    *any = FALSE;
    used[0] = used[1] = 0;
    for (tries = 0; n < 0 && tries < 16; tries++) {
        size = qm_xattr_sys->list(fd, NULL, 0);
        if (size < 0)
            return errno == EOPNOTSUPP ? 0 : -errno;
        g_free(names);
        names = g_malloc0((size_t)size + 1);
        n = size > 0 ? qm_xattr_sys->list(fd, names, (size_t)size) : 0;
        if (n < 0 && errno != ERANGE)
            return -errno;
    }
    if (n < 0)
        return -EAGAIN;
    names[n] = '\0';
    for (at = names; at < names + n; at += strlen(at) + 1) {
        guint64 i;
        char *end;

        if (strncmp(at, prefixes[space], prefix) != 0 || (at[prefix] != 'a' && at[prefix] != 'b') ||
            !g_ascii_isdigit(at[prefix + 1]))
            continue;
        *any = TRUE;
        i = g_ascii_strtoull(at + prefix + 1, &end, 10);
        if (*end == '\0' && i < CHUNKS_MAX)
            used[at[prefix] - 'a'] = MAX(used[at[prefix] - 'a'], (unsigned)i + 1);
    }
    return 0;
}

static int damaged(GError **error, const struct qm_xattr_dir *dir, const char *what)
{
    return qm_set_error(error, EUCLEAN,
                        "the store in %s* is damaged (%s); nothing was changed: restore it from a "
                        "backup",
                        prefixes[dir->space], what);
}

/* The rules at the top. `none`: -ENOENT or -EINPROGRESS where it is that. */
static int judge(struct qm_xattr_dir *dir, const struct header h[2], gboolean chunks,
                 GByteArray **image, int *code, GError **error)
{
    const struct header *newest = NULL, *other;
    int i;

    for (i = 0; i < 2; i++) {
        if (h[i].kind == KIND_NEWER)
            return qm_set_error(error, EPROTO,
                                "the store in %s* has a format that this library does not know: "
                                "use a newer qidmap",
                                prefixes[dir->space]);
        if (h[i].kind == KIND_LIVE && (!newest || h[i].seq > newest->seq))
            newest = &h[i];
    }
    if (!newest) {
        gboolean creating = h[0].kind == KIND_CREATING || h[1].kind == KIND_CREATING;

        if (h[0].kind == KIND_ABSENT && h[1].kind == KIND_ABSENT && !chunks)
            return -ENOENT;
        if (h[0].kind == KIND_FREE || h[1].kind == KIND_FREE)
            return damaged(error, dir, "the slot with the newest state is not there");
        if (creating || !chunks)
            return -EINPROGRESS;
        return damaged(error, dir, "there are chunks, but no header is right");
    }
    other = newest == &h[0] ? &h[1] : &h[0];
    switch (other->kind) {
    case KIND_ABSENT:
        return damaged(error, dir, "a header is missing");
    case KIND_CREATING:
        if (newest->seq != 1)
            return damaged(error, dir, "its headers contradict each other");
        break;
    case KIND_FREE:
        if (other->seq != newest->seq)
            return damaged(error, dir, "the slot with the newest state is not there");
        break;
    case KIND_LIVE:
        if (other->seq != newest->seq - 1)
            return damaged(error, dir, "its headers contradict each other");
        break;
    case KIND_BAD: /* torn */
    case KIND_NEWER:
        break;
    }
    dir->slot = newest == &h[0] ? 0 : 1;
    dir->seq = newest->seq;
    dir->size = newest->size;
    dir->room = newest->room;
    dir->stale = other->kind != KIND_FREE;
    *image = image_read(dir->fd, dir->space, dir->slot, newest, code);
    if (*image)
        return 0;
    if (*code != 0)
        return qm_set_error(error, *code, "cannot read its extended attributes: %s",
                            g_strerror(-*code));
    return damaged(error, dir, "the newest state is not whole");
}

static int read_space(struct qm_xattr_dir *dir, GByteArray **image, GError **error)
{
    struct header h[2], again[2];
    int tries, e, i;

    for (tries = 0; tries < READ_TRIES; tries++) {
        g_autoptr(GError) problem = NULL;
        gboolean chunks = FALSE;
        int code = 0;

        *image = NULL;
        for (i = 0, e = 0; e == 0 && i < 2; i++)
            e = header_read(&h[i], dir->fd, dir->space, i);
        if (e == 0)
            e = list_chunks(dir->fd, dir->space, &chunks, dir->used);
        if (e != 0)
            return qm_set_error(error, e, "cannot read its extended attributes: %s",
                                g_strerror(-e));
        e = judge(dir, h, chunks, image, &code, &problem);
        for (i = 0; i < 2; i++)
            (void)header_read(&again[i], dir->fd, dir->space, i);
        if (same(&h[0], &again[0]) && same(&h[1], &again[1])) {
            if (problem)
                g_propagate_error(error, g_steal_pointer(&problem));
            return e;
        }
        if (*image)
            g_byte_array_unref(*image);
        if (tries > 10)
            g_usleep(1000); /* a commit at a time: it takes as long as two syncs */
    }
    *image = NULL;
    return qm_set_error(error, EAGAIN, "it changes faster than it can be read: try again");
}

int qm_xattr_read(struct qm_xattr_dir *dir, int fd, GByteArray **image, GError **error)
{
    struct qm_xattr_dir found[QM_XATTR_SPACES];
    GByteArray *images[QM_XATTR_SPACES] = {NULL, NULL};
    GError *errors[QM_XATTR_SPACES] = {NULL, NULL};
    int result[QM_XATTR_SPACES], i, chosen = -1;

    for (i = 0; i < QM_XATTR_SPACES; i++) {
        memset(&found[i], 0, sizeof(found[i]));
        found[i].fd = fd;
        found[i].space = (enum qm_xattr_space)i;
        found[i].slot = -1;
        result[i] = read_space(&found[i], &images[i], &errors[i]);
    }
    if (result[0] != -ENOENT && result[1] != -ENOENT && result[0] != -EAGAIN &&
        result[1] != -EAGAIN) {
        for (i = 0; i < QM_XATTR_SPACES; i++) {
            g_clear_error(&errors[i]);
            g_clear_pointer(&images[i], g_byte_array_unref);
        }
        return qm_set_error(error, EEXIST,
                            "it holds two stores, in %s* and in %s*, and nothing tells which one "
                            "counts: look at both (getfattr -d -m -), and remove one",
                            prefixes[0], prefixes[1]);
    }
    chosen = result[0] != -ENOENT ? 0 : 1;
    g_clear_error(&errors[1 - chosen]);
    g_clear_pointer(&images[1 - chosen], g_byte_array_unref);
    *dir = found[chosen];
    *image = images[chosen];
    if (errors[chosen])
        g_propagate_error(error, errors[chosen]);
    return result[chosen];
}

/* ---- writing --------------------------------------------------------------------------------- */

static gboolean is_full(int code)
{
    return code == -ENOSPC || code == -E2BIG || code == -EDQUOT || code == -ERANGE;
}

/* Removes the chunks of a slot from number `from` on. Those of the slot that counts never. */
static int remove_chunks(struct qm_xattr_dir *dir, int slot, unsigned from)
{
    unsigned i;

    for (i = dir->used[slot]; i > from; i--) {
        char name[NAME_ROOM];

        chunk_name(name, dir->space, letter(slot), i - 1);
        if (qm_xattr_sys->remove(dir->fd, name) != 0 && errno != ENODATA)
            return -errno;
        dir->used[slot] = i - 1;
    }
    return 0;
}

static int write_chunks(struct qm_xattr_dir *dir, int slot, const uint8_t *image, size_t size,
                        unsigned *chunks)
{
    size_t at = 0, part;
    unsigned i;
    int e = remove_chunks(dir, slot, (unsigned)((size + dir->chunk - 1) / dir->chunk));

    for (i = 0; e == 0 && at < size; i++, at += part) {
        char name[NAME_ROOM];

        part = MIN(dir->chunk, size - at);
        chunk_name(name, dir->space, letter(slot), i);
        if (i >= CHUNKS_MAX)
            e = -ENOSPC;
        else if (qm_xattr_sys->set(dir->fd, name, image + at, part, 0) != 0)
            e = -errno;
        dir->used[slot] = MAX(dir->used[slot], i + 1);
    }
    *chunks = i;
    return e;
}

static int sync_dir(const struct qm_xattr_dir *dir)
{
    return qm_xattr_sys->sync(dir->fd) == 0 ? 0 : -errno;
}

int qm_xattr_write(struct qm_xattr_dir *dir, const void *image, size_t size)
{
    int old = dir->slot < 0 ? 0 : dir->slot;
    int slot = qm_xattr_sys->one_slot ? old : 1 - old;
    struct header h = {.kind = KIND_LIVE, .seq = dir->seq + 1, .size = (uint32_t)size};
    int e = 0;

    if (size > QM_XATTR_IMAGE_MAX || dir->chunk == 0)
        return -ENOSPC;
    if (dir->stale && dir->slot >= 0) {
        e = write_free(dir, slot, dir->seq);
        dir->stale = e != 0;
    }
    if (e == 0)
        e = write_chunks(dir, slot, image, size, &h.chunks);
    if (e == 0)
        e = sync_dir(dir);
    if (e != 0) { /* what is there already counts for nothing, and shall not take room */
        (void)remove_chunks(dir, slot, 0);
        return is_full(e) ? -ENOSPC : e;
    }
    h.room = (uint32_t)dir->room;
    h.crc = image_crc(slot, h.seq, image, size);
    e = header_write(dir, slot, &h);
    if (is_full(e)) {
        (void)remove_chunks(dir, slot, 0);
        return -ENOSPC;
    }
    if (e == 0)
        e = sync_dir(dir);
    if (e != 0)
        return is_full(e) ? -EIO : e; /* not known whether it is there: no word of "no room" */
    dir->slot = slot;
    dir->seq++;
    dir->size = size;
    dir->stale = write_free(dir, qm_xattr_sys->one_slot ? 1 - slot : old, dir->seq) != 0;
    return 0;
}

int qm_xattr_settle(struct qm_xattr_dir *dir, const void *image, size_t size)
{
    int e = qm_xattr_write(dir, image, size);

    return e == -ENOSPC ? sync_dir(dir) : e;
}

/* Names like this cannot be set here, and nothing was. After any other error something may be there
 * nevertheless, and a store under other names would be a second one. */
static gboolean is_denied(int code)
{
    return code == -EPERM || code == -EACCES || code == -EOPNOTSUPP || code == -EINVAL ||
           code == -ENOSYS;
}

int qm_xattr_create(struct qm_xattr_dir *dir, gboolean begun, GError **error)
{
    static const struct header creating = {.kind = KIND_CREATING};
    int first = begun ? (int)dir->space : 0, last = begun ? first : QM_XATTR_SPACES - 1;
    int e = -EOPNOTSUPP, i, slot;

    for (i = first; i <= last; i++) {
        dir->space = (enum qm_xattr_space)i;
        e = header_write(dir, 0, &creating);
        if (!is_denied(e))
            break;
    }
    dir->slot = -1;
    dir->seq = 0;
    if (e == 0)
        e = header_write(dir, 1, &creating);
    if (e == 0)
        e = sync_dir(dir);
    for (slot = 0; e == 0 && slot < 2; slot++)
        e = remove_chunks(dir, slot, 0);
    if (e == 0)
        e = qm_xattr_measure(dir);
    if (e == 0 && dir->room < QM_XATTR_IMAGE_MIN)
        e = -ENOSPC;
    for (slot = 0; e == -ENOSPC && slot < 2; slot++) {
        char name[NAME_ROOM];

        header_name(name, dir->space, slot);
        (void)qm_xattr_sys->remove(dir->fd, name);
    }
    switch (-e) {
    case 0:
        return 0;
    case EROFS:
        return qm_set_error(error, e,
                            "it is on a read-only filesystem, where no store can be kept in "
                            "extended attributes: use an lmdb: store elsewhere");
    case EOPNOTSUPP:
        return qm_set_error(error, e,
                            "its filesystem keeps no extended attributes that could hold a store: "
                            "use an lmdb: store");
    case EPERM:
    case EACCES:
        return qm_set_error(error, e,
                            "no extended attributes may be set there (%s): give this user the "
                            "right to write, or use an lmdb: store",
                            g_strerror(-e));
    case ENOSPC:
        return qm_set_error(error, e,
                            "its filesystem has no room for the extended attributes of a store: "
                            "use an lmdb: store");
    default:
        return qm_set_error(error, e,
                            "cannot write its extended attributes: %s; an lmdb: store needs none",
                            g_strerror(-e));
    }
}

/* ---- room ------------------------------------------------------------------------------------ */

static gboolean try_size(const struct qm_xattr_dir *dir, unsigned i, const uint8_t *zeros,
                         size_t size, int *code)
{
    char name[NAME_ROOM];

    chunk_name(name, dir->space, 't', i);
    if (qm_xattr_sys->set(dir->fd, name, zeros, size, 0) == 0)
        return TRUE;
    *code = -errno;
    return FALSE;
}

/* The largest value, up to `limit`, that goes under the name of trial `i`, and stays there. */
static size_t try_value(const struct qm_xattr_dir *dir, unsigned i, const uint8_t *zeros,
                        size_t limit, int *code)
{
    size_t good = 0, bad = limit + 1;

    if (try_size(dir, i, zeros, limit, code))
        return limit;
    while (bad - good > CHUNK_MIN) {
        size_t middle = good + (bad - good) / 2;

        if (try_size(dir, i, zeros, middle, code))
            good = middle;
        else if (is_full(*code))
            bad = middle;
        else
            return 0;
    }
    return good;
}

static int remove_trials(const struct qm_xattr_dir *dir)
{
    unsigned i;

    for (i = 0; i < TRIALS_MAX; i++) {
        char name[NAME_ROOM];

        chunk_name(name, dir->space, 't', i);
        if (qm_xattr_sys->remove(dir->fd, name) != 0 && errno != ENODATA)
            return -errno;
    }
    return 0;
}

int qm_xattr_measure(struct qm_xattr_dir *dir)
{
    g_autofree uint8_t *zeros = g_malloc0(QM_XATTR_VALUE_MAX);
    size_t total = 0, all, limit = QM_XATTR_VALUE_MAX, chunk = 0;
    unsigned i;
    int e = remove_trials(dir), code = 0;

    if (e == 0 && dir->slot >= 0) {
        /* The slot that does not count makes room. */
        if (dir->stale)
            e = write_free(dir, 1 - dir->slot, dir->seq);
        if (e == 0) {
            dir->stale = FALSE;
            e = remove_chunks(dir, 1 - dir->slot, 0);
        }
    }
    if (e != 0 && !is_full(e))
        return e;
    all = 2 * QM_XATTR_IMAGE_MAX + RESERVE - MIN(dir->size, QM_XATTR_IMAGE_MAX);
    for (i = 0; i < TRIALS_MAX && total < all; i++) {
        size_t got = try_value(dir, i, zeros, MIN(limit, all - total), &code);

        if (got < CHUNK_MIN)
            break;
        if (i == 0)
            limit = chunk = got;
        total += got;
    }
    e = remove_trials(dir);
    if (chunk == 0 && code != 0 && !is_full(code))
        return code;
    total += dir->size;
    dir->chunk = chunk ? chunk : CHUNK_FULL;
    dir->room = MIN((total > RESERVE ? total - RESERVE : 0) / 2, QM_XATTR_IMAGE_MAX);
    return e;
}
