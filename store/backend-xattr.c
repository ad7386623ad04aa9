/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xattr: the tables as one image in the extended attributes of a directory, the export's root as a
 * rule, so that the store travels with the tree. Holds meta, fs and affix; fsid and byaffix are
 * made from them; there is no full map (has_full), and so no affix budget.
 *
 * All tables stand in a memory: store inside, which does the work of transactions; a commit makes
 * the image of them and writes it (xattr-slot.c). It fails with ENOSPC where there is no room.
 *
 * Who writes: a thread of this file, made when the store is opened. A server's threads act as the
 * user whose request they serve, without capabilities, and a commit is run by whichever of them
 * comes first: it might not be allowed to set xattrs on the export's root.
 *
 * Who holds the store: an exclusive flock(2) on the directory, which goes with the process. Its
 * holder is found by /proc/locks. Readers take no lock.
 *
 * A copy of the tree with its xattrs has a copy of the store. All of it is read and checked at
 * every open. The image notes when its directory was born and its inode number: where these differ
 * somebody copied it, or put it back from a backup, and the counters leap (store.c), so that
 * neither of the two gives an id that the other has given since; both can go on. A whole filesystem
 * that was copied block by block cannot be told from its original.
 */
#include "config.h"

#include "store/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "store/affix.h"
#include "store/error.h"
#include "store/holder.h"
#include "store/place.h"
#include "store/xattr-record.h"
#include "store/xattr-slot.h"

#define OVERLAY_MAGIC 0x794c7630ul
#define MEASURE_AGAIN (10 * G_USEC_PER_SEC) /* not more often, when there is no room */

struct xattr_backend {
    struct qm_backend base;
    struct qm_backend *mem;
    struct qm_xattr_dir dir; /* of the thread, once it runs */
    int fd;
    uint64_t home;        /* digest of what tells the directory from a copy; 0: nothing does */
    gint64 measured;      /* when; of the thread */
    _Atomic uint64_t seq; /* of the committed state; changes under the write transaction of `mem` */
    _Atomic uint64_t size, room, next_affix;

    pthread_t thread;
    gboolean has_thread;
    pthread_mutex_t lock;   /* of all below */
    pthread_cond_t changed; /* there is work, or it is done */
    struct qm_txn *job;     /* the transaction to commit, or NULL */
    int result;
    gboolean stop;
};

struct xattr_txn {
    struct qm_txn base;
    struct qm_txn *mem;
    uint64_t number;
};

static struct qm_txn *mem_of(struct qm_txn *txn)
{
    return ((struct xattr_txn *)txn)->mem;
}

/* ---- image <-> tables ------------------------------------------------------------------------ */

/* Calls `row` for each row of a table. */
static int for_all(struct qm_txn *mem, enum qm_table table, struct qm_image_writer *w,
                   int (*row)(struct qm_image_writer *w, struct qm_bytes k, struct qm_bytes v),
                   uint64_t *count)
{
    struct qm_cursor *cursor;
    struct qm_bytes k, v;
    int e = qm_backend_mem.cursor_open(mem, table, &cursor);

    if (e != 0)
        return e;
    *count = 0;
    e = qm_backend_mem.cursor_seek(cursor, (struct qm_bytes){NULL, 0}, &k, &v);
    while (e == 0) {
        (*count)++;
        e = row(w, k, v);
        if (e == 0)
            e = qm_backend_mem.cursor_next(cursor, &k, &v);
    }
    qm_backend_mem.cursor_close(cursor);
    return e == -ENOENT ? 0 : e;
}

static int put_fs(struct qm_image_writer *w, struct qm_bytes k, struct qm_bytes v)
{
    struct qidmap_fs fs;
    gboolean has_full;
    int e = qm_parse_fs(k, v, &fs, &has_full);

    if (e == 0 && has_full)
        e = -EUCLEAN;
    if (e == 0)
        qm_image_put_fs(w, &fs);
    return e;
}

static int put_affix(struct qm_image_writer *w, struct qm_bytes k, struct qm_bytes v)
{
    uint32_t n, fs;
    uint64_t top;
    int e = qm_parse_byaffix(k, v, &n, &fs, &top);

    if (e == 0)
        qm_image_put_affix(w, n, fs, top);
    return e;
}

static int read_meta(struct qm_txn *mem, struct qm_meta *meta)
{
    struct qm_bytes key = {QM_META_KEY, strlen(QM_META_KEY)}, value;
    uint32_t format;
    int e = qm_backend_mem.get(mem, QM_TABLE_META, key, &value);

    return e == 0 ? qm_parse_meta(key, value, meta, &format) : e;
}

static GByteArray *make_image(struct qm_txn *mem, uint64_t home, gboolean brief,
                              struct qm_meta *meta, int *code)
{
    struct qm_image_writer *w;
    uint64_t fs_rows = 0, affix_rows = 0;
    GByteArray *image;
    int e = read_meta(mem, meta);

    *code = e;
    if (e != 0)
        return NULL;
    w = qm_image_writer_new(meta, home, brief);
    e = for_all(mem, QM_TABLE_FS, w, put_fs, &fs_rows);
    if (e == 0)
        e = for_all(mem, QM_TABLE_BYAFFIX, w, put_affix, &affix_rows);
    if (e == 0 && (fs_rows != meta->fs_rows || affix_rows != meta->affix_rows))
        e = -EUCLEAN;
    image = qm_image_writer_end(w);
    *code = e;
    if (e == 0)
        return image;
    g_byte_array_unref(image);
    return NULL;
}

/* The image as it goes to the slot: with whole strings as long as half of the room is enough. */
static GByteArray *fitting_image(struct xattr_backend *b, struct qm_txn *mem, struct qm_meta *meta,
                                 int *code)
{
    GByteArray *image = make_image(mem, b->home, FALSE, meta, code);

    if (!image || image->len <= b->dir.room / 2)
        return image;
    g_byte_array_unref(image);
    return make_image(mem, b->home, TRUE, meta, code);
}

struct loading {
    struct qm_txn *mem;
    struct qm_meta meta;
    uint64_t home;
};

static int load_record(struct loading *l, enum qm_table table, const struct qm_record *r)
{
    return qm_backend_mem.put(l->mem, table, (struct qm_bytes){r->key, r->key_size},
                              (struct qm_bytes){r->value, r->value_size});
}

static int load_meta(const struct qm_meta *meta, uint64_t home, void *data)
{
    struct loading *l = data;

    l->meta = *meta;
    l->home = home;
    return 0;
}

static int load_fs(const struct qidmap_fs *fs, void *data)
{
    struct loading *l = data;
    struct qm_record r;
    uint32_t i;
    int e;

    qm_record_fs(&r, fs, FALSE);
    e = qm_parse_check(QM_TABLE_FS, (struct qm_bytes){r.key, r.key_size},
                       (struct qm_bytes){r.value, r.value_size});
    if (e == 0)
        e = load_record(l, QM_TABLE_FS, &r);
    for (i = 0; e == 0 && !fs->retired && i < fs->fsid_count; i++) {
        qm_record_fsid(&r, &fs->fsid[i], fs->fs);
        e = load_record(l, QM_TABLE_FSID, &r);
        l->meta.fsid_rows++;
    }
    return e;
}

static int load_affix(uint32_t n, uint32_t fs, uint64_t top, void *data)
{
    struct loading *l = data;
    struct qm_bytes seen;
    struct qm_record r;
    int e;

    qm_record_affix(&r, fs, qm_affix_bits(n), top, n);
    e = qm_backend_mem.get(l->mem, QM_TABLE_AFFIX, (struct qm_bytes){r.key, r.key_size}, &seen);
    if (e != -ENOENT)
        return -EUCLEAN; /* two entries for the same inodes */
    e = load_record(l, QM_TABLE_AFFIX, &r);
    if (e == 0) {
        qm_record_byaffix(&r, n, fs, top);
        e = load_record(l, QM_TABLE_BYAFFIX, &r);
    }
    return e;
}

/* Fills the tables from the image of state `seq`. */
static int load(struct xattr_backend *b, const GByteArray *image, uint64_t seq, GError **error)
{
    struct loading l = {.mem = NULL};
    const struct qm_image_sink sink = {load_meta, load_fs, load_affix, &l};
    struct qm_record r;
    int e = qm_backend_mem.begin(b->mem, QM_TXN_WRITE, 0, &l.mem);

    if (e == 0)
        e = qm_image_read((struct qm_bytes){image->data, image->len}, &sink);
    if (e == 0) {
        l.meta.transaction = seq;
        qm_record_meta(&r, &l.meta);
        e = load_record(&l, QM_TABLE_META, &r);
    }
    if (e == 0)
        e = qm_backend_mem.commit(l.mem);
    else if (l.mem)
        qm_backend_mem.abort(l.mem);
    atomic_store(&b->seq, seq);
    atomic_store(&b->next_affix, l.meta.next_affix);
    b->base.copied = e == 0 && l.home != 0 && b->home != 0 && l.home != b->home;
    if (e == -EPROTO)
        return qm_set_error(error, e,
                            "the store has a format that this library does not know: use a newer "
                            "qidmap");
    if (e != 0)
        return qm_set_error(error, e,
                            "the store is damaged (its image); nothing was changed: restore it "
                            "from a backup");
    return 0;
}

/* The meta row with the number of the state that it is in now. */
static int set_transaction(struct xattr_backend *b, uint64_t seq, GError **error)
{
    struct loading l = {.mem = NULL};
    struct qm_record r;
    int e = qm_backend_mem.begin(b->mem, QM_TXN_WRITE, 0, &l.mem);

    if (e == 0)
        e = read_meta(l.mem, &l.meta);
    if (e == 0) {
        l.meta.transaction = seq;
        qm_record_meta(&r, &l.meta);
        e = load_record(&l, QM_TABLE_META, &r);
    }
    if (e == 0)
        e = qm_backend_mem.commit(l.mem);
    else if (l.mem)
        qm_backend_mem.abort(l.mem);
    atomic_store(&b->seq, seq);
    return e == 0 ? 0 : qm_set_error(error, e, "cannot take over its state: %s", g_strerror(-e));
}

/* ---- the writing thread ---------------------------------------------------------------------- */

static void note_room(struct xattr_backend *b)
{
    atomic_store(&b->size, b->dir.size);
    atomic_store(&b->room, b->dir.room);
}

static int write_state(struct xattr_backend *b, struct qm_txn *mem)
{
    struct qm_meta meta;
    int e;
    GByteArray *image = fitting_image(b, mem, &meta, &e);
    gint64 now = g_get_monotonic_time();

    if (image && image->len > b->dir.room && now - b->measured >= MEASURE_AGAIN) {
        b->measured = now; /* somebody may have made room */
        e = qm_xattr_measure(&b->dir);
    }
    if (image && e == 0)
        e = image->len > b->dir.room ? -ENOSPC : qm_xattr_write(&b->dir, image->data, image->len);
    if (image)
        g_byte_array_unref(image);
    note_room(b);
    if (e == 0) {
        atomic_store(&b->seq, b->dir.seq);
        atomic_store(&b->next_affix, meta.next_affix);
    }
    return e;
}

static void *serve(void *data)
{
    struct xattr_backend *b = data;

    pthread_mutex_lock(&b->lock);
    for (;;) {
        struct qm_txn *mem = b->job;

        if (b->stop)
            break;
        if (!mem) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        pthread_mutex_unlock(&b->lock);
        int result = write_state(b, mem);
        pthread_mutex_lock(&b->lock);
        b->result = result;
        b->job = NULL;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static int start_thread(struct xattr_backend *b, GError **error)
{
    int e = pthread_create(&b->thread, NULL, serve, b);

    if (e != 0)
        return qm_set_error(error, e, "cannot start the thread that writes: %s", g_strerror(e));
    b->has_thread = TRUE;
    return 0;
}

static void stop_thread(struct xattr_backend *b)
{
    if (!b->has_thread)
        return;
    pthread_mutex_lock(&b->lock);
    b->stop = TRUE;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
}

/* ---- the directory and its lock -------------------------------------------------------------- */

/* The pid in the line of /proc/locks that shows an flock on this inode; 0: no line does. */
static long find_flock(const struct stat *st)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    guint i;

    if (!g_file_get_contents("/proc/locks", &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", -1);
    for (i = 0; lines[i]; i++) {
        unsigned major, minor;
        unsigned long long ino;
        long pid;

        /* On btrfs the device is the superblock's and not the subvolume's: the inode must do. */
        if (sscanf(lines[i], "%*d: FLOCK %*s WRITE %ld %x:%x:%llu", &pid, &major, &minor, &ino) ==
                4 &&
            ino == st->st_ino && pid > 0 && (major == 0 || makedev(major, minor) == st->st_dev))
            return pid;
    }
    return 0;
}

gboolean qm_flock_holder(int fd, long *holder, char **holder_name)
{
    g_autofree char *path = NULL, *name = NULL;
    struct stat st;
    long pid = 0;

    if (fstat(fd, &st) != 0)
        return FALSE;
    /* The list comes a page at a time: others who unlock between two pages can hide a line. */
    for (int look = 0; pid == 0 && look < 3; look++)
        pid = find_flock(&st);
    if (pid == 0)
        return FALSE;
    path = g_strdup_printf("/proc/%ld/comm", pid);
    if (!g_file_get_contents(path, &name, NULL, NULL))
        name = g_strdup("?");
    g_strcanon(g_strchomp(name),
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-", '?');
    *holder = pid;
    *holder_name = g_steal_pointer(&name);
    return TRUE;
}

/* "NAME (pid N)" of the process that has the lock, or NULL where /proc does not show it. */
static char *find_holder(int fd)
{
    g_autofree char *name = NULL;
    long pid;

    if (!qm_flock_holder(fd, &pid, &name))
        return NULL;
    return pid == (long)getpid() ? g_strdup("this process")
                                 : g_strdup_printf("%s (pid %ld)", name, pid);
}

static int take_lock(struct xattr_backend *b, GError **error)
{
    g_autofree char *holder = NULL;
    int e;

    if (flock(b->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    e = errno;
    if (e != EWOULDBLOCK)
        return qm_set_error(error, e, "cannot lock the directory: %s", g_strerror(e));
    holder = find_holder(b->fd);
    return qm_set_error(error, EBUSY,
                        "%s has it open for writing already; stop it, or name another store",
                        holder ? holder : "a process that is not seen from here");
}

/* What tells the directory from a copy of it: when it was born, and its inode number; the former
 * alone on overlay, where inode numbers of directories may change with every mount. */
static uint64_t home_of(int fd)
{
    struct statx stx;
    struct statfs sfs;
    uint64_t of[3] = {0, 0, 0};

    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME | STATX_INO, &stx) != 0 || fstatfs(fd, &sfs) != 0)
        return 0;
    if (stx.stx_mask & STATX_BTIME) {
        of[0] = GUINT64_TO_LE((uint64_t)stx.stx_btime.tv_sec);
        of[1] = GUINT64_TO_LE((uint64_t)stx.stx_btime.tv_nsec);
    }
    if ((unsigned long)(unsigned int)sfs.f_type != OVERLAY_MAGIC)
        of[2] = GUINT64_TO_LE(stx.stx_ino);
    else if (of[0] == 0)
        return 0;
    return MAX(XXH3_64bits(of, sizeof(of)), 1);
}

static int open_dir(struct xattr_backend *b, const char *place, GError **error)
{
    const char *unfit;
    int e;

    if (place[0] == '\0')
        return qm_set_error(error, EINVAL, "no directory after the colon: expected xattr:DIR");
    b->fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->fd < 0) {
        e = errno;
        return qm_set_error(error, e,
                            "cannot open the directory: %s; it must exist: an xattr: store is kept "
                            "on a directory that is there",
                            g_strerror(e));
    }
    b->home = home_of(b->fd);
    unfit = qm_place_unfit(b->fd);
    if (unfit)
        return qm_set_error(error, EREMOTE,
                            "the directory is on a %s filesystem, which cannot hold a store: use "
                            "an lmdb: store on a local disk",
                            unfit);
    return 0;
}

/* Attributes of users can be changed by whoever may write to the directory. */
static int check_rights(const struct xattr_backend *b, GError **error)
{
    struct stat st;

    if (b->dir.space != QM_XATTR_USER)
        return 0;
    if (fstat(b->fd, &st) != 0)
        return qm_set_error(error, errno, "cannot look at the directory: %s", g_strerror(errno));
    if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
        return qm_set_error(error, EPERM,
                            "everybody may write to the directory, and so to the store in %s*: "
                            "take that right away (chmod o-w), or use an lmdb: store",
                            qm_xattr_prefix(QM_XATTR_USER));
    return 0;
}

static int no_store(int e, GError **error)
{
    return qm_set_error(error, ENOENT,
                        e == -EINPROGRESS ? "the store was never finished; open it once with the "
                                            "right to create it"
                                          : "no store in the extended attributes of this "
                                            "directory");
}

/* What was found becomes a new state before anything of it is given out: a commit whose sync failed
 * is seen, but need not be on the disk. */
static int settle(struct xattr_backend *b, const GByteArray *image, GError **error)
{
    int e = qm_xattr_measure(&b->dir);

    if (e == 0)
        e = qm_xattr_settle(&b->dir, image->data, image->len);
    switch (-e) {
    case 0:
        return 0;
    case EROFS:
        return qm_set_error(error, e,
                            "it is on a read-only filesystem, so no new id can be stored: use an "
                            "lmdb: store elsewhere");
    case EPERM:
    case EACCES:
        return qm_set_error(error, e,
                            "the store in %s* may not be written by this user (%s): use the user "
                            "that made it, or an lmdb: store",
                            qm_xattr_prefix(b->dir.space), g_strerror(-e));
    default:
        return qm_set_error(error, e, "cannot write its extended attributes: %s", g_strerror(-e));
    }
}

static int open_steps(struct xattr_backend *b, const char *place,
                      const struct qm_backend_config *config, GError **error)
{
    const struct qm_backend_config inner = {.write = TRUE, .create = TRUE};
    GByteArray *image = NULL;
    int e = open_dir(b, place, error);

    if (e != 0)
        return e;
    b->mem = qm_backend_mem.open("", &inner, error);
    if (!b->mem)
        return -EINVAL;
    if (config->write && take_lock(b, error) != 0)
        return -EBUSY;
    e = qm_xattr_read(&b->dir, b->fd, &image, error);
    if (e == -ENOENT || e == -EINPROGRESS) {
        if (!config->write || !config->create)
            return no_store(e, error);
        e = qm_xattr_create(&b->dir, e == -EINPROGRESS, error);
        b->base.fresh = TRUE;
        return e != 0 ? e : check_rights(b, error);
    }
    if (e == 0)
        e = check_rights(b, error);
    /* Bytes that mean nothing are not written again. */
    if (e == 0)
        e = load(b, image, b->dir.seq, error);
    if (e == 0 && config->write) {
        e = settle(b, image, error);
        if (e == 0)
            e = set_transaction(b, b->dir.seq, error);
    }
    if (image)
        g_byte_array_unref(image);
    return e;
}

static void xattr_close(struct qm_backend *backend)
{
    struct xattr_backend *b = (struct xattr_backend *)backend;

    stop_thread(b);
    if (b->has_thread)
        (void)qm_xattr_sys->sync(b->fd); /* the older slot says that it is free */
    if (b->mem)
        qm_backend_mem.close(b->mem);
    if (b->fd >= 0)
        close(b->fd);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    g_free(b);
}

static struct qm_backend *xattr_open(const char *place, const struct qm_backend_config *config,
                                     GError **error)
{
    struct xattr_backend *b = g_new0(struct xattr_backend, 1);

    b->base.ops = &qm_backend_xattr;
    b->fd = -1;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->measured = g_get_monotonic_time();
    if (open_steps(b, place, config, error) != 0 ||
        (config->write && start_thread(b, error) != 0)) {
        xattr_close(&b->base);
        return NULL;
    }
    note_room(b);
    return &b->base;
}

static int xattr_publish(struct qm_backend *backend, GError **error G_GNUC_UNUSED)
{
    backend->fresh = FALSE; /* the first commit made it visible */
    return 0;
}

/* ---- transactions ---------------------------------------------------------------------------- */

static int xattr_begin(struct qm_backend *backend, enum qm_txn_kind kind, size_t rows,
                       struct qm_txn **txn)
{
    struct xattr_backend *b = (struct xattr_backend *)backend;
    struct qm_txn *mem;
    struct xattr_txn *t;
    int e = qm_backend_mem.begin(b->mem, kind, rows, &mem);

    if (e != 0)
        return e;
    t = g_new0(struct xattr_txn, 1);
    t->base.backend = backend;
    t->base.kind = kind;
    t->mem = mem;
    t->number = atomic_load(&b->seq) + (kind == QM_TXN_WRITE);
    *txn = &t->base;
    return 0;
}

static void xattr_abort(struct qm_txn *txn)
{
    qm_backend_mem.abort(mem_of(txn));
    g_free(txn);
}

static int xattr_commit(struct qm_txn *txn)
{
    struct xattr_backend *b = (struct xattr_backend *)txn->backend;
    struct qm_txn *mem = mem_of(txn);
    int e;

    if (txn->kind != QM_TXN_WRITE) {
        xattr_abort(txn);
        return 0;
    }
    pthread_mutex_lock(&b->lock);
    b->job = mem;
    pthread_cond_broadcast(&b->changed);
    while (b->job)
        pthread_cond_wait(&b->changed, &b->lock);
    e = b->result;
    pthread_mutex_unlock(&b->lock);
    if (e != 0) {
        xattr_abort(txn);
        return e;
    }
    g_free(txn);
    return qm_backend_mem.commit(mem);
}

static int xattr_grow(struct qm_backend *backend G_GNUC_UNUSED)
{
    return -ENOSPC;
}

static uint64_t xattr_number(struct qm_txn *txn)
{
    return ((struct xattr_txn *)txn)->number;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int xattr_get(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                     struct qm_bytes *value)
{
    return qm_backend_mem.get(mem_of(txn), table, key, value);
}

static int xattr_put(struct qm_txn *txn, enum qm_table table, struct qm_bytes key,
                     struct qm_bytes value)
{
    if (table == QM_TABLE_FULL || table == QM_TABLE_BYFULL)
        return -EOPNOTSUPP;
    return qm_backend_mem.put(mem_of(txn), table, key, value);
}

static int xattr_del(struct qm_txn *txn, enum qm_table table, struct qm_bytes key)
{
    return qm_backend_mem.del(mem_of(txn), table, key);
}

static int xattr_cursor_open(struct qm_txn *txn, enum qm_table table, struct qm_cursor **cursor)
{
    return qm_backend_mem.cursor_open(mem_of(txn), table, cursor);
}

static int xattr_cursor_seek(struct qm_cursor *cursor, struct qm_bytes key, struct qm_bytes *k,
                             struct qm_bytes *v)
{
    return qm_backend_mem.cursor_seek(cursor, key, k, v);
}

static int xattr_cursor_next(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    return qm_backend_mem.cursor_next(cursor, k, v);
}

static int xattr_cursor_prev(struct qm_cursor *cursor, struct qm_bytes *k, struct qm_bytes *v)
{
    return qm_backend_mem.cursor_prev(cursor, k, v);
}

static void xattr_cursor_close(struct qm_cursor *cursor)
{
    qm_backend_mem.cursor_close(cursor);
}

static void xattr_room(struct qm_backend *backend, uint64_t *used, uint64_t *limit)
{
    struct xattr_backend *b = (struct xattr_backend *)backend;

    *used = atomic_load(&b->size);
    *limit = atomic_load(&b->room);
}

/* An entry has a byte for its step, one for its fs (two from 128 on), and L bits in sevens. */
static uint64_t xattr_rows_room(struct qm_backend *backend)
{
    struct xattr_backend *b = (struct xattr_backend *)backend;
    uint64_t used = atomic_load(&b->size), room = atomic_load(&b->room);
    uint64_t next = atomic_load(&b->next_affix);
    unsigned bits;

    if (next > QM_AFFIX_LAST || used >= room)
        return 0;
    bits = qm_affix_bits((uint32_t)MAX(next, QM_AFFIX_FIRST));
    return MIN((room - used) / (2 + (bits + 6) / 7), QM_AFFIX_LAST + 1 - next);
}

const struct qm_backend_ops qm_backend_xattr = {
    .name = "xattr",
    .has_full = FALSE,
    .open = xattr_open,
    .publish = xattr_publish,
    .close = xattr_close,
    .begin = xattr_begin,
    .commit = xattr_commit,
    .abort = xattr_abort,
    .grow = xattr_grow,
    .number = xattr_number,
    .get = xattr_get,
    .put = xattr_put,
    .del = xattr_del,
    .cursor_open = xattr_cursor_open,
    .cursor_seek = xattr_cursor_seek,
    .cursor_next = xattr_cursor_next,
    .cursor_prev = xattr_cursor_prev,
    .cursor_close = xattr_cursor_close,
    .room = xattr_room,
    .rows_room = xattr_rows_room,
};
