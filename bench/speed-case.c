/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is asked at depth 1: messages, and beside them the system calls without which no server can
 * answer them. Owns the data that is served, and the checks that ids are right.
 *
 * The naked calls are the fewest that keep what 9P promises. A fid that is walked to and looked at
 * is held by a descriptor, as it goes on meaning its file through a rename: two lookups by name are
 * a little cheaper, and may find two files. One that is walked to and opened is opened once, as if
 * Twalk had known. The limit is made of these. A server does not know: from Twalk to Tlopen it
 * holds the file by O_PATH, and opens and closes twice. The floor does that, too.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bench/speed.h"

#define BLOCK SPEED_BLOCK

static int dir_fd = -1, file_fd = -1, open_fd = -1;
static guint8 block[BLOCK];

/* Where naked calls of this thread write from and read to. */
static __thread const guint8 *naked_from = block;
static __thread guint8 *naked_to = block;

/* ---- messages -------------------------------------------------------------------------------- */

static void add(GPtrArray *frames, GByteArray *frame)
{
    g_ptr_array_add(frames, frame);
}

static void add_walk(GPtrArray *frames)
{
    const char *names[] = {"file", NULL};

    add(frames, client_pack(TWALK, 1, "ddL", SPEED_DIR, SPEED_NEW, names));
}

static void add_clunk(GPtrArray *frames)
{
    add(frames, client_pack(TCLUNK, 1, "d", SPEED_NEW));
}

/* Of a size that a message of the peer may have: all of it, or so many whole pages. */
static guint32 piece(guint32 size, guint32 msize)
{
    return size <= msize - 24 ? size : (msize - 24) & ~4095u;
}

static void add_read(GPtrArray *frames, guint32 fid, guint32 size, guint32 msize)
{
    guint32 each = piece(size, msize);

    for (guint32 from = 0; from < size; from += each)
        add(frames, client_pack(TREAD, 1, "dqd", fid, (guint64)from, MIN(each, size - from)));
}

static void add_write(GPtrArray *frames, guint32 size, guint32 msize)
{
    guint32 each = piece(size, msize);

    for (guint32 from = 0; from < size; from += each)
        add(frames, client_pack(TWRITE, 1, "dqD", SPEED_OPEN, (guint64)from,
                                (gsize)MIN(each, size - from), (void *)block));
}

static void build_getattr(GPtrArray *frames, guint32 msize)
{
    (void)msize;
    add(frames, client_pack(TGETATTR, 1, "dq", SPEED_FILE, GETATTR_BASIC));
}

static void build_walk(GPtrArray *frames, guint32 msize)
{
    (void)msize;
    add_walk(frames);
    add(frames, client_pack(TGETATTR, 1, "dq", SPEED_NEW, GETATTR_BASIC));
    add_clunk(frames);
}

static void build_open(GPtrArray *frames, guint32 msize)
{
    add_walk(frames);
    add(frames, client_pack(TLOPEN, 1, "dd", SPEED_NEW, L_RDONLY));
    add_read(frames, SPEED_NEW, 4096, msize);
    add_clunk(frames);
}

static void add_create(GPtrArray *frames)
{
    add(frames, client_pack(TWALK, 1, "ddL", SPEED_DIR, SPEED_NEW, NULL));
    add(frames,
        client_pack(TLCREATE, 1, "dsddd", SPEED_NEW, "made", L_RDWR, 0644, (guint32)getegid()));
}

static void build_create_remove(GPtrArray *frames, guint32 msize)
{
    (void)msize;
    add_create(frames);
    add(frames, client_pack(TREMOVE, 1, "d", SPEED_NEW));
}

static void build_create_unlink(GPtrArray *frames, guint32 msize)
{
    (void)msize;
    add_create(frames);
    add_clunk(frames);
    add(frames, client_pack(TUNLINKAT, 1, "dsd", SPEED_DIR, "made", 0));
}

static void build_read_4k(GPtrArray *frames, guint32 msize)
{
    add_read(frames, SPEED_OPEN, 4096, msize);
}

static void build_read_128k(GPtrArray *frames, guint32 msize)
{
    add_read(frames, SPEED_OPEN, 128 * 1024, msize);
}

static void build_read_512k(GPtrArray *frames, guint32 msize)
{
    add_read(frames, SPEED_OPEN, 512 * 1024, msize);
}

static void build_write_4k(GPtrArray *frames, guint32 msize)
{
    add_write(frames, 4096, msize);
}

static void build_write_128k(GPtrArray *frames, guint32 msize)
{
    add_write(frames, 128 * 1024, msize);
}

static void build_xattr(GPtrArray *frames, guint32 msize)
{
    add(frames, client_pack(TXATTRWALK, 1, "dds", SPEED_FILE, SPEED_NEW, "user.speed"));
    add_read(frames, SPEED_NEW, 64, msize);
    add_clunk(frames);
}

static void build_lock(GPtrArray *frames, guint32 msize)
{
    (void)msize;
    for (int i = 0; i < 2; i++)
        add(frames,
            client_pack(TLOCK, 1, "dbdqqds", SPEED_OPEN, i == 0 ? LOCK_TYPE_WRLCK : LOCK_TYPE_UNLCK,
                        0, (guint64)0, (guint64)4096, 1, "speed"));
}

/* ---- the naked calls ------------------------------------------------------------------------- */

static void check(gboolean ok, const char *what)
{
    if (!ok)
        speed_die(what);
}

static void naked_getattr(void)
{
    struct statx stx;

    check(statx(file_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) == 0, "statx");
}

static void naked_walk(void)
{
    struct statx stx;
    int fd = openat(dir_fd, "file", O_PATH | O_NOFOLLOW | O_CLOEXEC);

    check(fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) == 0 &&
              statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) == 0 && close(fd) == 0,
          "walk");
}

static void naked_open(void)
{
    struct statx stx;
    int fd;

    check(statx(dir_fd, "file", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx) == 0, "statx");
    fd = openat(dir_fd, "file", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    check(fd >= 0 && pread(fd, naked_to, 4096, 0) == 4096 && close(fd) == 0, "open");
}

/* What naked_open() is for who does not know that Tlopen comes. */
static void floor_open(void)
{
    static __thread int proc_fd = -1;
    struct statx stx;
    char name[16];
    int held = openat(dir_fd, "file", O_PATH | O_NOFOLLOW | O_CLOEXEC), fd;

    if (proc_fd < 0)
        proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    check(held >= 0 && statx(held, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) == 0, "walk");
    g_snprintf(name, sizeof name, "%d", held);
    fd = openat(proc_fd, name, O_RDONLY | O_CLOEXEC);
    check(fd >= 0 && close(held) == 0 && pread(fd, naked_to, 4096, 0) == 4096 && close(fd) == 0,
          "open");
}

static void naked_create(void)
{
    struct statx stx;
    int fd = openat(dir_fd, "made", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    check(fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) == 0 && close(fd) == 0 &&
              unlinkat(dir_fd, "made", 0) == 0,
          "create");
}

static void naked_read(size_t size)
{
    check(pread(open_fd, naked_to, size, 0) == (ssize_t)size, "pread");
}

static void naked_read_4k(void)
{
    naked_read(4096);
}

static void naked_read_128k(void)
{
    naked_read(128 * 1024);
}

static void naked_read_512k(void)
{
    naked_read(512 * 1024);
}

static void naked_write(size_t size)
{
    check(pwrite(open_fd, naked_from, size, 0) == (ssize_t)size, "pwrite");
}

static void naked_write_4k(void)
{
    naked_write(4096);
}

static void naked_write_128k(void)
{
    naked_write(128 * 1024);
}

static void naked_xattr(void)
{
    check(fgetxattr(open_fd, "user.speed", naked_to, 64) == 64, "fgetxattr");
}

static void naked_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 4096};

    check(fcntl(open_fd, F_OFD_SETLK, &lock) == 0, "lock");
    lock.l_type = F_UNLCK;
    check(fcntl(open_fd, F_OFD_SETLK, &lock) == 0, "unlock");
}

/* A walk alone, where nothing is held. */
static void naked_lookup(void)
{
    struct statx stx;

    check(statx(dir_fd, "file", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx) == 0, "statx");
}

#define AT_MOST 1.2

const struct speed_case speed_cases[] = {
    {"getattr", AT_MOST, build_getattr, naked_getattr, NULL},
    {"walk+getattr+clunk", AT_MOST, build_walk, naked_walk, NULL},
    {"walk+open+read 4k+clunk", AT_MOST, build_open, naked_open, floor_open},
    {"create+remove", AT_MOST, build_create_remove, naked_create, NULL},
    {"create+clunk+unlink", AT_MOST, build_create_unlink, naked_create, NULL},
    {"read 4k", AT_MOST, build_read_4k, naked_read_4k, NULL},
    {"write 4k", AT_MOST, build_write_4k, naked_write_4k, NULL},
    {"read 128k", AT_MOST, build_read_128k, naked_read_128k, NULL},
    {"read 512k", AT_MOST, build_read_512k, naked_read_512k, NULL},
    {"write 128k", AT_MOST, build_write_128k, naked_write_128k, NULL},
    {"getxattr", AT_MOST, build_xattr, naked_xattr, NULL},
    {"lock+unlock", AT_MOST, build_lock, naked_lock, NULL},
};
const guint speed_case_count = G_N_ELEMENTS(speed_cases);

guint speed_case_number(const char *name)
{
    guint i = 0;

    while (strcmp(speed_cases[i].name, name) != 0) {
        i++;
        g_assert(i < speed_case_count);
    }
    return i;
}

void speed_floor_once(guint which, const guint8 *from, guint8 *to)
{
    naked_from = from;
    naked_to = to;
    if (which < speed_case_count && speed_cases[which].floor != NULL)
        speed_cases[which].floor();
    else if (which < speed_case_count)
        speed_cases[which].naked();
    else if (which == SPEED_LOOKUP)
        naked_lookup();
}

/* ---- data ------------------------------------------------------------------------------------ */

static void make_file(const char *path, gsize size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    check(fd >= 0, path);
    for (gsize at = 0; at < size; at += sizeof block)
        check(write(fd, block, MIN(size - at, sizeof block)) > 0, path);
    close(fd);
}

static void make_many(const char *dir, guint count)
{
    check(mkdir(dir, 0755) == 0, dir);
    for (guint i = 0; i < count; i++) {
        g_autofree char *path = g_strdup_printf("%s/a-file-%06u", dir, i);

        make_file(path, 0);
    }
}

void speed_data_make(const char *data, guint entries)
{
    g_autofree char *dir = g_build_filename(data, "d", NULL);
    g_autofree char *file = g_build_filename(dir, "file", NULL);
    g_autofree char *many = g_build_filename(data, "many", NULL);
    g_autofree char *huge = g_build_filename(data, "huge", NULL);

    memset(block, 'x', sizeof block);
    check(mkdir(data, 0755) == 0, data);
    check(mkdir(dir, 0755) == 0, dir);
    make_file(file, SPEED_FILE_SIZE);
    make_many(many, 500);
    make_many(huge, entries);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file_fd = open(file, O_PATH | O_CLOEXEC);
    open_fd = open(file, O_RDWR | O_CLOEXEC);
    check(dir_fd >= 0 && file_fd >= 0 && open_fd >= 0, "data");
    if (fsetxattr(open_fd, "user.speed", block, 64, 0) < 0)
        speed_die("setxattr: choose another --dir");
}

void speed_clean(void)
{
    unlinkat(dir_fd, "made", 0);
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* Whether the id is the one that was known of this thing, if any was. */
static void same_id(const struct peer *peer, const char *what, guint64 *known, guint64 id)
{
    if (*known == 0)
        *known = id;
    if (id == *known && id != 0)
        return;
    fprintf(stderr,
            "speed: %s: wrong id of %s: %" G_GUINT64_FORMAT ", it was %" G_GUINT64_FORMAT "\n",
            peer->name, what, id, *known);
    exit(1);
}

/* Ids by server, directory and name: what was told once. */
static GHashTable *ids;

static guint64 get64(const guint8 *from)
{
    guint64 value;

    memcpy(&value, from, 8);
    return GUINT64_FROM_LE(value);
}

void speed_id_right(const struct peer *peer, const guint8 *reply)
{
    guint64 known = peer->file_id, id = known;

    switch (reply[4]) {
    case TWALK + 1:
        if (reply[7] == 1) /* else it is a copy of a fid */
            id = get64(reply + 14);
        break;
    case TLOPEN + 1:
        id = get64(reply + 12);
        break;
    case TGETATTR + 1:
        id = get64(reply + 20);
        break;
    case TLCREATE + 1: /* another file */
        id = get64(reply + 12);
        if (id != peer->file_id && id != peer->dir_id)
            id = known;
        break;
    default:
        return;
    }
    if (id != known || id == 0)
        same_id(peer, "d/file, or of another file", &known, id);
}

static void keep_id(const struct peer *peer, const char *dir, const char *name, guint64 id)
{
    g_autofree char *key = g_strdup_printf("%s %s/%s", peer->name, dir, name);
    guint64 *known;

    if (ids == NULL)
        ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    known = g_hash_table_lookup(ids, key);
    if (known == NULL) {
        known = g_new0(guint64, 1);
        g_hash_table_insert(ids, g_strdup(key), known);
    }
    same_id(peer, key, known, id);
}

static int compare_ids(const void *a, const void *b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;

    return (x > y) - (x < y);
}

guint speed_check_ids(struct peer *peer, const char *dir, guint step)
{
    struct client *c = client_connect(peer->addr);
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(guint64));
    guint checked = 0;

    check(c != NULL && client_hello(c, SPEED_MSIZE) == 0 &&
              client_attach(c, SPEED_ROOT, geteuid(), peer->aname, NULL) == 0 &&
              client_walk_path(c, SPEED_ROOT, SPEED_DIR, dir, NULL) == 0 &&
              client_readdir_all(c, SPEED_DIR, c->msize - 24, &entries) == 0,
          "readdir");
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = entries->pdata[i];
        struct client_attr attr;
        struct client_qid qid;

        if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
            continue;
        keep_id(peer, dir, e->name, e->qid.path);
        g_array_append_val(all, e->qid.path);
        checked++;
        if (i % step != 0)
            continue;
        check(client_walk_path(c, SPEED_DIR, SPEED_NEW, e->name, &qid) == 0 &&
                  client_getattr(c, SPEED_NEW, GETATTR_BASIC, &attr) == 0 &&
                  client_clunk(c, SPEED_NEW) == 0,
              "an entry");
        keep_id(peer, dir, e->name, qid.path);
        keep_id(peer, dir, e->name, attr.qid.path);
    }
    qsort(all->data, all->len, sizeof(guint64), compare_ids);
    for (guint i = 1; i < all->len; i++)
        if (g_array_index(all, guint64, i) == g_array_index(all, guint64, i - 1)) {
            fprintf(stderr, "speed: %s: %s: two files have the id %" G_GUINT64_FORMAT "\n",
                    peer->name, dir, g_array_index(all, guint64, i));
            exit(1);
        }
    client_close(c);
    return checked;
}

/* ---- fids ------------------------------------------------------------------------------------ */

void speed_attach(struct peer *peer)
{
    struct client *c = client_connect(peer->addr);
    struct client_qid dir, file, opened;

    check(c != NULL, peer->addr);
    peer->client = c;
    if (peer->bare) {
        c->msize = SPEED_MSIZE;
        return;
    }
    check(client_hello(c, SPEED_MSIZE) == 0, "version");
    check(client_attach(c, SPEED_ROOT, geteuid(), peer->aname, NULL) == 0, "attach");
    check(client_walk_path(c, SPEED_ROOT, SPEED_DIR, "d", &dir) == 0 &&
              client_walk_path(c, SPEED_ROOT, SPEED_FILE, "d/file", &file) == 0 &&
              client_walk_path(c, SPEED_ROOT, SPEED_OPEN, "d/file", NULL) == 0,
          "walk");
    check(client_lopen(c, SPEED_OPEN, L_RDWR, &opened) == 0, "open");
    keep_id(peer, "", "d", dir.path);
    keep_id(peer, "d", "file", file.path);
    same_id(peer, "d", &peer->dir_id, dir.path);
    same_id(peer, "d/file", &peer->file_id, file.path);
    same_id(peer, "d/file, opened", &peer->file_id, opened.path);
    if (dir.path == file.path) {
        fprintf(stderr, "speed: %s: d and d/file have one id\n", peer->name);
        exit(1);
    }
}

guint speed_check_made(struct peer *peer)
{
    struct client *c = peer->client;
    struct client_qid made, walked, copied[16];
    struct client_attr attr;
    guint64 id = 0;
    guint none = 0;

    check(client_walk(c, SPEED_DIR, SPEED_NEW, NULL, &none, copied) == 0 &&
              client_lcreate(c, SPEED_NEW, "made", L_RDWR, 0644, &made) == 0 &&
              client_walk_path(c, SPEED_DIR, SPEED_NEW + 1, "made", &walked) == 0 &&
              client_getattr(c, SPEED_NEW + 1, GETATTR_BASIC, &attr) == 0 &&
              client_clunk(c, SPEED_NEW + 1) == 0 && client_remove(c, SPEED_NEW) == 0,
          "a new file");
    same_id(peer, "a new file", &id, made.path);
    same_id(peer, "a new file", &id, walked.path);
    same_id(peer, "a new file", &id, attr.qid.path);
    if (id == peer->file_id || id == peer->dir_id) {
        fprintf(stderr, "speed: %s: a new file has the id of another one\n", peer->name);
        exit(1);
    }
    return 1;
}

void speed_id_entry(const struct peer *peer, guint64 id, const guint8 *name, guint size)
{
    char text[256];

    if (size == 0 || size >= sizeof text || name[0] == '.')
        return;
    memcpy(text, name, size);
    text[size] = '\0';
    keep_id(peer, "huge", text, id);
}
