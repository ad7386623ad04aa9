/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is asked at depth 1: messages, and beside them the system calls without which no server can
 * answer them. Owns the data that is served, and the check that ids are right.
 *
 * The naked calls are the fewest that keep what 9P promises. A fid that is walked to and looked at
 * is held by a descriptor, as it goes on meaning its file through a rename: two lookups by name are
 * a little cheaper, and may find two files. One that is walked to and opened is opened once, as if
 * Twalk had known; a server that does not know holds the file by O_PATH, and opens and closes
 * twice: that is not in the limit.
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

#define BLOCK (512u * 1024)

static int dir_fd = -1, file_fd = -1, open_fd = -1;
static guint8 block[BLOCK];

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

static void add_read(GPtrArray *frames, guint32 fid, guint32 size, guint32 msize)
{
    if (size <= msize - 24)
        add(frames, client_pack(TREAD, 1, "dqd", fid, (guint64)0, size));
}

static void add_write(GPtrArray *frames, guint32 size, guint32 msize)
{
    if (size <= msize - 24)
        add(frames,
            client_pack(TWRITE, 1, "dqD", SPEED_OPEN, (guint64)0, (gsize)size, (void *)block));
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
    check(fd >= 0 && pread(fd, block, 4096, 0) == 4096 && close(fd) == 0, "open");
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
    check(pread(open_fd, block, size, 0) == (ssize_t)size, "pread");
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
    check(pwrite(open_fd, block, size, 0) == (ssize_t)size, "pwrite");
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
    check(fgetxattr(open_fd, "user.speed", block, 64) == 64, "fgetxattr");
}

static void naked_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 4096};

    check(fcntl(open_fd, F_OFD_SETLK, &lock) == 0, "lock");
    lock.l_type = F_UNLCK;
    check(fcntl(open_fd, F_OFD_SETLK, &lock) == 0, "unlock");
}

#define AT_MOST 1.2

const struct speed_case speed_cases[] = {
    {"getattr", AT_MOST, build_getattr, naked_getattr},
    {"walk+getattr+clunk", AT_MOST, build_walk, naked_walk},
    {"walk+open+read 4k+clunk", AT_MOST, build_open, naked_open},
    {"create+remove", AT_MOST, build_create_remove, naked_create},
    {"create+clunk+unlink", AT_MOST, build_create_unlink, naked_create},
    {"read 4k", AT_MOST, build_read_4k, naked_read_4k},
    {"write 4k", AT_MOST, build_write_4k, naked_write_4k},
    {"read 128k", AT_MOST, build_read_128k, naked_read_128k},
    {"read 512k", AT_MOST, build_read_512k, naked_read_512k},
    {"write 128k", AT_MOST, build_write_128k, naked_write_128k},
    {"getxattr", AT_MOST, build_xattr, naked_xattr},
    {"lock+unlock", AT_MOST, build_lock, naked_lock},
};
const guint speed_case_count = G_N_ELEMENTS(speed_cases);

/* ---- data, fids, ids ------------------------------------------------------------------------- */

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

void speed_attach(struct peer *peer)
{
    struct client *c = client_connect(peer->addr);

    check(c != NULL, peer->addr);
    peer->client = c;
    if (peer->floor) {
        c->msize = SPEED_MSIZE;
        return;
    }
    check(client_hello(c, SPEED_MSIZE) == 0, "version");
    check(client_attach(c, SPEED_ROOT, geteuid(), peer->aname, NULL) == 0, "attach");
    check(client_walk_path(c, SPEED_ROOT, SPEED_DIR, "d", NULL) == 0 &&
              client_walk_path(c, SPEED_ROOT, SPEED_FILE, "d/file", NULL) == 0 &&
              client_walk_path(c, SPEED_ROOT, SPEED_OPEN, "d/file", NULL) == 0,
          "walk");
    check(client_lopen(c, SPEED_OPEN, L_RDWR, NULL) == 0, "open");
}

guint speed_check_ids(struct peer *peer, const char *dir)
{
    struct client *c = client_connect(peer->addr);
    g_autoptr(GPtrArray) entries = NULL;
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
        check(client_walk_path(c, SPEED_DIR, SPEED_NEW, e->name, &qid) == 0 &&
                  client_getattr(c, SPEED_NEW, GETATTR_BASIC, &attr) == 0 &&
                  client_clunk(c, SPEED_NEW) == 0,
              "an entry");
        if (qid.path != e->qid.path || attr.qid.path != e->qid.path) {
            fprintf(stderr,
                    "speed: %s: %s has three ids: %" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT
                    ", %" G_GUINT64_FORMAT "\n",
                    peer->name, e->name, e->qid.path, qid.path, attr.qid.path);
            exit(1);
        }
        checked++;
    }
    client_close(c);
    return checked;
}
