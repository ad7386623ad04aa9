/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bindings of a migration, from the tool that found them to the store that takes them: a file,
 * since they are too many for memory, and since the process that has the store may be another one,
 * which gets a descriptor. It lives for minutes; so it has the structs of this library as they are
 * in memory, and the size of one of them tells another version. All of it is under a checksum,
 * which is looked at first; what is read again later is checked once more.
 *
 * Numbers of filesystems in the store are not known when the file is written: it has one section
 * for each filesystem, and the sections are read in the order of the numbers.
 */
#include "config.h"

#include "store/adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/bind.h"
#include "store/dump.h"
#include "store/error.h"
#include "store/store.h"

#define WINDOW (256 * 1024)
static const char magic[16] = "qidmap-bindings";

struct head {
    char magic[16];
    uint32_t identity_size; /* of struct qidmap_identity */
    uint32_t n_to, n_from, reserved;
    uint64_t size; /* of the file */
    uint64_t count;
    uint8_t sum[16]; /* of all, with zeroes here */
};

struct section {
    uint64_t at, end;
};

/* One binding; the bytes of a handle are behind it. */
struct packed {
    uint8_t kind, handle_size;
    uint8_t reserved[2];
    int32_t handle_type;
    uint64_t ino, ino2, path;
};

/* ---- writing --------------------------------------------------------------------------------- */

struct writer {
    int fd;
    uint64_t at; /* of what waits in `waiting` */
    GByteArray *waiting;
};

static int write_at(int fd, const void *bytes, size_t size, uint64_t at)
{
    const uint8_t *p = bytes;

    while (size > 0) {
        ssize_t n = pwrite(fd, p, size, (off_t)at);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
            at += (uint64_t)n;
        }
    }
    return 0;
}

static int flush(struct writer *w)
{
    int e = write_at(w->fd, w->waiting->data, w->waiting->len, w->at);

    w->at += w->waiting->len;
    g_byte_array_set_size(w->waiting, 0);
    return e;
}

static int add_binding(struct writer *w, const struct qidmap_binding *b)
{
    const struct qidmap_object *o = &b->object;
    struct packed packed = {.kind = o->kind,
                            .handle_type = o->handle_type,
                            .ino = o->ino,
                            .ino2 = o->ino2,
                            .path = b->path};

    if (o->kind == QIDMAP_OBJECT_HANDLE)
        packed.handle_size = o->handle_size;
    if (packed.handle_size > QIDMAP_HANDLE_BYTES)
        return -EINVAL;
    g_byte_array_append(w->waiting, (const guint8 *)&packed, sizeof(packed));
    g_byte_array_append(w->waiting, o->handle, packed.handle_size);
    return w->waiting->len >= WINDOW ? flush(w) : 0;
}

static int write_bindings(struct writer *w, const struct qidmap_bindings *all,
                          struct section *sections, uint64_t *count, GError **error)
{
    struct qidmap_binding b;
    uint32_t to = 0;
    int r, e;

    memset(&b, 0, sizeof(b));
    sections[0].at = w->at;
    while ((r = all->next(all->data, &b)) > 0) {
        if (b.object.fs < to || b.object.fs >= all->n_to)
            return qm_set_error(error, EINVAL, "the bindings are not in their order");
        while (to < b.object.fs) {
            sections[to].end = w->at + w->waiting->len;
            to++;
            sections[to].at = w->at + w->waiting->len;
        }
        e = add_binding(w, &b);
        if (e != 0)
            return qm_set_error(error, e, "the bindings cannot be written: %s", g_strerror(-e));
        if (++*count % QM_PROGRESS_STEP == 0 && all->progress &&
            all->progress(all->data, *count, 0) != 0)
            return qm_set_error(error, ECANCELED, "ended on request");
    }
    if (r < 0)
        return qm_set_error(error, r, "the bindings cannot be read: %s", g_strerror(-r));
    for (; to < all->n_to; to++) {
        sections[to].end = w->at + w->waiting->len;
        if (to + 1 < all->n_to)
            sections[to + 1].at = w->at + w->waiting->len;
    }
    e = flush(w);
    return e == 0 ? 0
                  : qm_set_error(error, e, "the bindings cannot be written: %s", g_strerror(-e));
}

/* The checksum of the head, and of all behind it. */
static int sum_up(int fd, const struct head *head, uint8_t sum[16])
{
    struct head plain = *head;
    g_autofree uint8_t *window = g_malloc(WINDOW);
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t canonical;
    uint64_t at = sizeof(struct head);
    int e = 0;

    memset(plain.sum, 0, sizeof(plain.sum));
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, &plain, sizeof(plain));
    while (e == 0 && at < head->size) {
        ssize_t n = pread(fd, window, (size_t)MIN(head->size - at, (uint64_t)WINDOW), (off_t)at);

        if (n == 0 || (n < 0 && errno != EINTR))
            e = n == 0 ? -EBADMSG : -errno;
        else if (n > 0)
            XXH3_128bits_update(state, window, (size_t)n);
        at += n > 0 ? (uint64_t)n : 0;
    }
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    memcpy(sum, canonical.digest, sizeof(canonical.digest));
    XXH3_freeState(state);
    return e;
}

int qm_bindings_write(int fd, const struct qidmap_bindings *all, GError **error)
{
    g_autofree struct section *sections = g_new0(struct section, all->n_to);
    const size_t to = all->n_to * sizeof(all->to[0]), from = all->n_from * sizeof(all->from[0]);
    const size_t table = all->n_to * sizeof(struct section);
    struct head head = {
        .identity_size = sizeof(struct qidmap_identity), .n_to = all->n_to, .n_from = all->n_from};
    struct writer w = {.fd = fd, .at = sizeof(head) + table + to + from};
    int e;

    memcpy(head.magic, magic, sizeof(magic));
    w.waiting = g_byte_array_new();
    e = write_bindings(&w, all, sections, &head.count, error);
    g_byte_array_unref(w.waiting);
    if (e != 0)
        return e;
    head.size = w.at;
    e = write_at(fd, sections, table, sizeof(head));
    if (e == 0)
        e = write_at(fd, all->to, to, sizeof(head) + table);
    if (e == 0)
        e = write_at(fd, all->from, from, sizeof(head) + table + to);
    if (e == 0)
        e = sum_up(fd, &head, head.sum);
    if (e == 0)
        e = write_at(fd, &head, sizeof(head), 0);
    return e == 0 ? 0
                  : qm_set_error(error, e, "the bindings cannot be written: %s", g_strerror(-e));
}

/* ---- reading --------------------------------------------------------------------------------- */

struct source {
    int fd;
    struct head head;
    struct section *sections;
    struct qidmap_identity *to;
    struct qidmap_moved_fs *from;
    uint32_t *numbers; /* of `to` in the store */
    uint32_t *order;   /* places in `to`, ascending by number */
    gboolean rows_due; /* a filesystem has no row in the store yet */
    const struct qidmap_adopt_options *options;
    uint32_t turn;    /* in `order` */
    uint64_t at, end; /* of the section */
    uint8_t *window;
    uint64_t window_at;
    size_t filled;
};

static void source_clear(struct source *s)
{
    g_free(s->sections);
    g_free(s->to);
    g_free(s->from);
    g_free(s->numbers);
    g_free(s->order);
    g_free(s->window);
}

static int read_at(struct source *s, void *bytes, size_t size, uint64_t at)
{
    uint8_t *p = bytes;

    while (size > 0) {
        ssize_t n;

        if (at >= s->window_at && at < s->window_at + s->filled) {
            size_t have = MIN(size, (size_t)(s->window_at + s->filled - at));

            memcpy(p, s->window + (at - s->window_at), have);
            p += have;
            at += have;
            size -= have;
            continue;
        }
        n = pread(s->fd, s->window, WINDOW, (off_t)at);
        if (n == 0 || (n < 0 && errno != EINTR))
            return n == 0 ? -EBADMSG : -errno;
        s->window_at = at;
        s->filled = n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int bad_file(GError **error, int e)
{
    return qm_set_error(error, e,
                        "the file of bindings is damaged, or of another version: %s; make it anew",
                        g_strerror(-e));
}

static int source_open(struct source *s, GError **error)
{
    uint8_t sum[16];
    struct stat st;
    uint64_t at = sizeof(s->head), fixed, end;
    uint32_t i;
    int e = fstat(s->fd, &st) < 0 ? -errno : 0;

    s->window = g_malloc(WINDOW);
    if (e == 0)
        e = read_at(s, &s->head, sizeof(s->head), 0);
    if (e != 0)
        return bad_file(error, e);
    fixed = sizeof(s->head) + s->head.n_to * (uint64_t)(sizeof(s->sections[0]) + sizeof(s->to[0])) +
            s->head.n_from * (uint64_t)sizeof(s->from[0]);
    if (memcmp(s->head.magic, magic, sizeof(magic)) != 0 ||
        s->head.identity_size != sizeof(s->to[0]) || s->head.n_to < 1 ||
        s->head.n_to > QM_ADOPT_FS_MAX || s->head.n_from > QM_ADOPT_FS_MAX ||
        s->head.size != (uint64_t)st.st_size || s->head.size < fixed)
        return bad_file(error, -EBADMSG);
    e = sum_up(s->fd, &s->head, sum);
    if (e == 0 && memcmp(sum, s->head.sum, sizeof(sum)) != 0)
        e = -EBADMSG;
    if (e != 0)
        return bad_file(error, e);
    s->sections = g_new0(struct section, s->head.n_to);
    s->to = g_new0(struct qidmap_identity, s->head.n_to);
    s->from = g_new0(struct qidmap_moved_fs, s->head.n_from + 1);
    s->numbers = g_new0(uint32_t, s->head.n_to);
    s->order = g_new0(uint32_t, s->head.n_to);
    e = read_at(s, s->sections, s->head.n_to * sizeof(s->sections[0]), at);
    at += s->head.n_to * sizeof(s->sections[0]);
    if (e == 0)
        e = read_at(s, s->to, s->head.n_to * sizeof(s->to[0]), at);
    at += s->head.n_to * sizeof(s->to[0]);
    if (e == 0)
        e = read_at(s, s->from, s->head.n_from * sizeof(s->from[0]), at);
    end = fixed;
    for (i = 0; e == 0 && i < s->head.n_to; i++) {
        if (s->sections[i].at != end || s->sections[i].end < end ||
            s->sections[i].end > s->head.size)
            e = -EBADMSG;
        end = s->sections[i].end;
    }
    for (i = 0; e == 0 && i < s->head.n_from; i++) {
        if (!memchr(s->from[i].type, 0, sizeof(s->from[i].type)) || s->from[i].fsid.kind > 255 ||
            s->from[i].fsid.size > QIDMAP_FSID_BYTES ||
            (s->from[i].fsid.kind != 0 && s->from[i].fsid.size < 1))
            e = -EBADMSG;
    }
    return e == 0 ? 0 : bad_file(error, e);
}

static int source_rewind(void *data)
{
    struct source *s = data;

    s->turn = 0;
    s->at = s->sections[s->order[0]].at;
    s->end = s->sections[s->order[0]].end;
    return 0;
}

static int source_next(void *data, struct qidmap_binding *b)
{
    struct source *s = data;
    struct packed packed;
    int e;

    while (s->at >= s->end) {
        if (s->turn + 1 >= s->head.n_to)
            return 0;
        s->turn++;
        s->at = s->sections[s->order[s->turn]].at;
        s->end = s->sections[s->order[s->turn]].end;
    }
    e = read_at(s, &packed, sizeof(packed), s->at);
    if (e != 0)
        return e;
    s->at += sizeof(packed);
    if (packed.handle_size > QIDMAP_HANDLE_BYTES || s->at + packed.handle_size > s->end)
        return -EBADMSG;
    memset(b, 0, sizeof(*b));
    b->object.fs = s->numbers[s->order[s->turn]];
    b->object.kind = packed.kind;
    b->object.handle_size = packed.handle_size;
    b->object.handle_type = packed.handle_type;
    b->object.ino = packed.ino;
    b->object.ino2 = packed.ino2;
    b->path = packed.path;
    e = read_at(s, b->object.handle, packed.handle_size, s->at);
    s->at += packed.handle_size;
    return e == 0 ? 1 : e;
}

static void source_conflict(void *data, const struct qidmap_binding *binding, const char *text)
{
    struct source *s = data;
    struct qidmap_binding b = *binding;

    b.object.fs = s->order[s->turn];
    if (s->options->conflict)
        s->options->conflict(s->options->data, &b, text);
}

static int source_progress(void *data, uint64_t done, uint64_t total)
{
    struct source *s = data;

    (void)total;
    return s->options->progress(s->options->data, done, s->head.count);
}

/* ---- filesystems ----------------------------------------------------------------------------- */

static gboolean same_fsid(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

/* TRUE where files have moved there as well. */
static gboolean is_target(const struct source *s, const struct qidmap_fsid *fsid)
{
    for (uint32_t i = 0; i < s->head.n_to; i++) {
        for (uint32_t k = 0; k < MIN(s->to[i].count, (uint32_t)QIDMAP_FSID_COUNT); k++) {
            if (same_fsid(&s->to[i].fsid[k], fsid))
                return TRUE;
        }
    }
    return FALSE;
}

/* The row that the store itself says it is. */
static int check_known(qidmap_store *store, const struct qidmap_moved_fs *from, GError **error)
{
    struct qidmap_fs row = {.size = sizeof(row)};
    gboolean same = from->fsid.kind == 0;

    if (qidmap_fs_get(store, from->fs, &row, NULL) != 0)
        return qm_set_error(error, ENOENT, "there is no filesystem %u: see `qidmapctl fs list`",
                            from->fs);
    for (uint32_t i = 0; !same && i < row.fsid_count; i++)
        same = same_fsid(&row.fsid[i], &from->fsid);
    return same ? 0
                : qm_set_error(error, ENODEV,
                               "filesystem %u of this store is not the one that files have moved "
                               "from: the bindings are for another store",
                               from->fs);
}

/* The row of one that another store knows by number: made where `make` is set; else 0 without. */
static int number_foreign(struct source *s, qidmap_store *store, gboolean make,
                          const struct qidmap_moved_fs *from, uint32_t *number, GError **error)
{
    g_autofree struct qidmap_identity *identity = g_new0(struct qidmap_identity, 1);
    struct qidmap_error problem;
    int e;

    *number = 0;
    if (from->fsid.kind == 0 || from->fsid.kind == QIDMAP_FSID_WEAK ||
        from->fsid.kind == QIDMAP_FSID_EPHEMERAL || is_target(s, &from->fsid))
        return 0;
    identity->size = sizeof(*identity);
    identity->policy = QIDMAP_POLICY_AFFIX;
    identity->count = 1;
    identity->fsid[0] = from->fsid;
    memcpy(identity->hints.type, from->type, sizeof(from->type));
    e = make ? qidmap_register(store, identity, 1, number, &problem)
             : qidmap_recognise(store, identity, 1, number, &problem);
    s->rows_due = s->rows_due || *number == 0;
    return e == 0 ? 0 : qm_set_error(error, e, "%s", problem.text);
}

static gboolean is_ephemeral(qidmap_store *store, uint32_t number)
{
    struct qidmap_fs row = {.size = sizeof(row)};

    return qidmap_fs_get(store, number, &row, NULL) == 0 && row.policy == QIDMAP_POLICY_EPHEMERAL;
}

/* Numbers of those that files have moved from. */
static int find_from(struct source *s, qidmap_store *store, gboolean make, GArray *superseded,
                     GError **error)
{
    for (uint32_t i = 0; i < s->head.n_from; i++) {
        uint32_t number = s->from[i].fs;
        int e = number != 0 ? check_known(store, &s->from[i], error)
                            : number_foreign(s, store, make, &s->from[i], &number, error);

        if (e != 0)
            return e;
        if (number == 0 || is_ephemeral(store, number))
            continue;
        for (uint32_t k = 0; k < s->head.n_to; k++) {
            if (s->numbers[k] == number)
                return qm_set_error(error, EINVAL,
                                    "files cannot have moved both from and to filesystem %u",
                                    number);
        }
        g_array_append_val(superseded, number);
    }
    return 0;
}

static int by_number(const void *a, const void *b, void *data)
{
    const uint32_t *numbers = data;
    const uint32_t x = numbers[*(const uint32_t *)a], y = numbers[*(const uint32_t *)b];

    return x < y ? -1 : x > y;
}

static int put_in_order(struct source *s, GError **error)
{
    uint32_t i;

    for (i = 0; i < s->head.n_to; i++)
        s->order[i] = i;
    qsort_r(s->order, s->head.n_to, sizeof(s->order[0]), by_number, s->numbers);
    for (i = 1; i < s->head.n_to; i++) {
        if (s->numbers[s->order[i - 1]] == s->numbers[s->order[i]])
            return qm_set_error(error, EINVAL, "filesystem %u is named twice",
                                s->numbers[s->order[i]]);
    }
    return 0;
}

/* Numbers of all, as they are or would be. 1: there is no store yet. */
static int look_at_fs(struct source *s, const char *uri, GArray *superseded, GHashTable *coming,
                      GError **error)
{
    struct qidmap_stats stats = {.size = sizeof(stats)};
    struct qidmap_error problem;
    qidmap_store *store;
    uint64_t next;
    int e = qidmap_store_open(uri, QIDMAP_OPEN_READ, NULL, &store, &problem);

    if (e == -ENOENT)
        return 1;
    if (e == 0) {
        e = qidmap_store_stats(store, &stats, &problem);
        if (e == 0)
            e = qidmap_recognise(store, s->to, s->head.n_to, s->numbers, &problem);
        if (e != 0)
            qidmap_store_close(store);
    }
    if (e != 0)
        return qm_set_error(error, e, "%s", problem.text);
    next = stats.next_fs;
    for (uint32_t i = 0; i < s->head.n_to; i++) {
        if (s->numbers[i] != 0)
            continue;
        if (next > UINT32_MAX) {
            qidmap_store_close(store);
            return qm_set_error(error, ENFILE, "no further filesystem can be registered");
        }
        s->rows_due = TRUE;
        s->numbers[i] = (uint32_t)next++;
        g_hash_table_insert(coming, GUINT_TO_POINTER(s->numbers[i]),
                            GUINT_TO_POINTER(s->to[i].policy));
    }
    e = find_from(s, store, FALSE, superseded, error);
    qidmap_store_close(store);
    return e;
}

static int register_fs(struct source *s, const char *uri, GArray *superseded, GError **error)
{
    struct qidmap_error problem;
    qidmap_store *store;
    int e = qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &problem);

    if (e != 0)
        return qm_set_error(error, e, "%s", problem.text);
    if (!store->backend->ops->has_full || !store->backend->ops->replaced) {
        qidmap_store_close(store);
        return qm_set_error(error, EOPNOTSUPP, "only an lmdb: store can keep bound ids");
    }
    e = qidmap_register(store, s->to, s->head.n_to, s->numbers, &problem);
    if (e != 0)
        qm_set_error(error, e, "%s", problem.text);
    else
        e = find_from(s, store, TRUE, superseded, error);
    qidmap_store_close(store);
    return e;
}

static int bind_all(struct source *s, const char *uri, const GArray *superseded, GHashTable *coming,
                    unsigned flags, struct qidmap_bind_result *result, GError **error)
{
    struct qidmap_bind_options bind = {.size = sizeof(bind),
                                       .flags = flags,
                                       .superseded =
                                           (const uint32_t *)(const void *)superseded->data,
                                       .n_superseded = superseded->len,
                                       .rewind = source_rewind,
                                       .next = source_next,
                                       .conflict = source_conflict,
                                       .backup = s->options->backup,
                                       .progress = s->options->progress ? source_progress : NULL,
                                       .data = s};
    int e = put_in_order(s, error);

    return e == 0 ? qm_bind(uri, &bind, coming, result, error) : e;
}

/*
 * Where all filesystems have rows, the store is not opened to be written to before all is judged:
 * after a run that was killed, its counters would go far ahead by that, beyond ids of another
 * store. Where rows are due, they are not made for bindings that are refused.
 */
int qm_adopt(const char *uri, int fd, const struct qidmap_adopt_options *options,
             struct qidmap_bind_result *result, GError **error)
{
    g_autoptr(GArray) superseded = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GHashTable) coming = g_hash_table_new(NULL, NULL);
    struct source s = {.fd = fd, .options = options};
    gboolean dry = (options->flags & QIDMAP_DRY_RUN) != 0, absent = FALSE;
    int e = source_open(&s, error);

    if (e == 0)
        e = look_at_fs(&s, uri, superseded, coming, error);
    if (e == 1) { /* nothing can stand against it */
        absent = TRUE;
        s.rows_due = TRUE;
        e = 0;
    }
    if (e == 0 && dry && absent)
        result->bound = s.head.count;
    else if (e == 0 && (dry || (s.rows_due && !absent)))
        e = bind_all(&s, uri, superseded, coming, options->flags | QIDMAP_DRY_RUN, result, error);
    if (e == 0 && !dry && s.rows_due) {
        g_array_set_size(superseded, 0);
        e = register_fs(&s, uri, superseded, error);
    }
    if (e == 0 && !dry) {
        result->bound = result->known = result->dropped = result->conflicts = 0;
        e = bind_all(&s, uri, superseded, NULL, options->flags, result, error);
    }
    source_clear(&s);
    return e;
}
