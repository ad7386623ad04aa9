/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: byte-range locks exclude other connections and host processes, are told truly by
 * Tgetlock, and end with unlock, clunk and disconnect.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static guint32 open_file(struct client *c)
{
    guint32 fid = walk_new(c, "file");

    g_assert_cmpint(client_lopen(c, fid, L_RDWR, NULL), ==, 0);
    return fid;
}

static guint8 lock(struct client *c, guint32 fid, guint8 type, guint64 start, guint64 length)
{
    guint8 status = 99;

    g_assert_cmpint(client_lock(c, fid, type, start, length, 10, "host", &status), ==, 0);
    return status;
}

static guint8 getlock(struct client *c, guint32 fid, guint8 type, guint64 start, guint64 length)
{
    g_assert_cmpint(client_getlock(c, fid, &type, start, length, 11, "other"), ==, 0);
    return type;
}

static void two_connections_exclude(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    guint32 a, b;

    (void)data;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(other);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 0, 5), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(other, b, LOCK_TYPE_WRLCK, 0, 5), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock(other, b, LOCK_TYPE_RDLCK, 4, 1), ==, LOCK_BLOCKED);
    if (!f->s->peer) /* diod locks whole files */
        g_assert_cmpuint(lock(other, b, LOCK_TYPE_WRLCK, 5, 5), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_UNLCK, 0, 5), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(other, b, LOCK_TYPE_WRLCK, 0, 5), ==, LOCK_SUCCESS);
    client_close(other);
}

static guint8 lock_as(struct client *c, guint32 fid, guint8 type, guint32 flags, guint32 proc)
{
    guint8 status = 99;

    g_assert_cmpint(client_rpc(c, TLOCK, "dbdqqds", fid, type, flags, (guint64)0, (guint64)0, proc,
                               "guest", "b", &status),
                    ==, 0);
    return status;
}

/* Two processes, by two fids and by one: different owners. One process, two fids: one owner. */
static void processes_exclude(struct fixture *f, gconstpointer data)
{
    guint32 a, b;

    (void)data;
    if (skip_for_peer(f->s, "diod knows no processes"))
        return;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(f->c);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_WRLCK, 0, 1), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock_as(f->c, b, LOCK_TYPE_WRLCK, 0, 2), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_RDLCK, 0, 2), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock_as(f->c, b, LOCK_TYPE_WRLCK, 0, 1), ==, LOCK_SUCCESS);
    /* It moved to the later fid, and goes with that one. */
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_UNLCK, 0, 1), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_WRLCK, 0, 2), ==, LOCK_BLOCKED);
    g_assert_cmpint(client_clunk(f->c, b), ==, 0);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_WRLCK, 0, 2), ==, LOCK_SUCCESS);
}

/* A process that ends sends an unlock of all by each fid that it inherited: that is not its
 * parent's unlock. */
static void a_child_ends(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    guint32 a, b;

    (void)data;
    if (skip_for_peer(f->s, "diod knows no processes"))
        return;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(other);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_WRLCK, 1, 1), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_UNLCK, 0, 2), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock_as(other, b, LOCK_TYPE_RDLCK, 0, 2), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock_as(f->c, a, LOCK_TYPE_RDLCK, 0, 2), ==, LOCK_BLOCKED);
    client_close(other);
}

/* A fid that was opened for reading, then one for writing, of one process: the read lock becomes a
 * write lock, and is never gone in between or afterwards. */
static void grows_to_write(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    guint32 a, b, c;
    guint8 status = 0;

    (void)data;
    if (skip_for_peer(f->s, "diod knows no processes"))
        return;
    make_file(f->s, "file", "0123456789");
    a = walk_new(f->c, "file");
    g_assert_cmpint(client_lopen(f->c, a, L_RDONLY, NULL), ==, 0);
    b = walk_new(f->c, "file");
    g_assert_cmpint(client_lopen(f->c, b, L_WRONLY, NULL), ==, 0);
    c = open_file(other);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_RDLCK, 0, 8), ==, LOCK_SUCCESS);
    g_assert_cmpint(client_lock(f->c, a, LOCK_TYPE_WRLCK, 0, 8, 10, "host", &status), ==, EBADF);
    g_assert_cmpint(client_lock(f->c, b, LOCK_TYPE_RDLCK, 0, 8, 10, "host", &status), ==, EBADF);
    g_assert_cmpuint(lock(f->c, b, LOCK_TYPE_WRLCK, 2, 2), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(other, c, LOCK_TYPE_RDLCK, 3, 1), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock(other, c, LOCK_TYPE_WRLCK, 7, 1), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock(other, c, LOCK_TYPE_RDLCK, 7, 1), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_UNLCK, 0, 0), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(f->c, b, LOCK_TYPE_UNLCK, 0, 0), ==, LOCK_SUCCESS);
    /* and the other way round */
    g_assert_cmpuint(lock(f->c, b, LOCK_TYPE_WRLCK, 20, 2), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_RDLCK, 30, 2), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(other, c, LOCK_TYPE_RDLCK, 20, 1), ==, LOCK_BLOCKED);
    client_close(other);
}

/* The file's mode may change while it is open, and become nobody's. */
static void mode_changes(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    guint32 a;

    (void)data;
    if (skip_unless_root())
        return;
    make_file(f->s, "file", "0123456789");
    g_assert_cmpint(chown(path, 1000, 1000), ==, 0);
    g_assert_cmpint(client_attach(f->c, 900, 1000, f->s->aname, NULL), ==, 0);
    g_assert_cmpint(client_walk_path(f->c, 900, 901, "file", NULL), ==, 0);
    a = 901;
    g_assert_cmpint(client_lopen(f->c, a, L_RDWR, NULL), ==, 0);
    g_assert_cmpint(chmod(path, 0), ==, 0);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 0, 8), ==, LOCK_SUCCESS);
}

/* flock(LOCK_EX) in one process, LOCK_UN in another that has the same open file, LOCK_EX in a
 * third. */
static void undone_by_another_process(struct fixture *f, gconstpointer data)
{
    static const guint8 types[] = {LOCK_TYPE_WRLCK, LOCK_TYPE_UNLCK, LOCK_TYPE_WRLCK};
    struct client *other = server_client(f->s);
    guint8 status = 99;
    guint32 a, b;

    (void)data;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(other);
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        g_assert_cmpuint(lock_as(f->c, a, types[i], 1, 20 + i), ==, LOCK_SUCCESS);
    }
    /* another guest is still kept out */
    g_assert_cmpint(client_lock(other, b, LOCK_TYPE_WRLCK, 0, 0, 20, "guest2", &status), ==, 0);
    g_assert_cmpuint(status, ==, LOCK_BLOCKED);
    client_close(other);
}

static void readers_share(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    guint32 a, b;

    (void)data;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(other);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_RDLCK, 0, 0), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(other, b, LOCK_TYPE_RDLCK, 0, 0), ==, LOCK_SUCCESS);
    g_assert_cmpuint(lock(other, b, LOCK_TYPE_WRLCK, 0, 0), ==, LOCK_BLOCKED);
    client_close(other);
}

static void getlock_tells(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    guint32 a, b;

    (void)data;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(other);
    g_assert_cmpuint(getlock(other, b, LOCK_TYPE_WRLCK, 0, 0), ==, LOCK_TYPE_UNLCK);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 2, 3), ==, LOCK_SUCCESS);
    if (skip_for_peer(f->s, "diod locks whole files")) {
        client_close(other);
        return;
    }
    g_assert_cmpuint(getlock(other, b, LOCK_TYPE_RDLCK, 0, 0), ==, LOCK_TYPE_WRLCK);
    g_assert_cmpuint(getlock(other, b, LOCK_TYPE_WRLCK, 5, 100), ==, LOCK_TYPE_UNLCK);
    {
        guint64 start = 0, length = 0;
        guint32 proc = 0;
        guint8 type = 0;
        g_autofree char *id = NULL;

        g_assert_cmpint(client_rpc(other, TGETLOCK, "dbqqds", b, LOCK_TYPE_WRLCK, (guint64)0,
                                   (guint64)0, 11u, "other", "bqqds", &type, &start, &length, &proc,
                                   &id),
                        ==, 0);
        g_assert_cmpuint(type, ==, LOCK_TYPE_WRLCK);
        g_assert_cmpuint(start, ==, 2);
        g_assert_cmpuint(length, ==, 3);
        g_assert_cmpuint(proc, ==, 10);
        g_assert_cmpstr(id, ==, "host");
    }
    client_close(other);
}

static void clunk_releases(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    guint32 a, b;

    (void)data;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    b = open_file(other);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 0, 0), ==, LOCK_SUCCESS);
    g_assert_cmpint(client_clunk(f->c, a), ==, 0);
    g_assert_cmpuint(lock(other, b, LOCK_TYPE_WRLCK, 0, 0), ==, LOCK_SUCCESS);
    client_close(other);
}

static void disconnect_releases(struct fixture *f, gconstpointer data)
{
    struct client *other = server_client(f->s);
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    guint32 a, b;

    (void)data;
    make_file(f->s, "file", "0123456789");
    a = open_file(other);
    b = open_file(f->c);
    g_assert_cmpuint(lock(other, a, LOCK_TYPE_WRLCK, 0, 0), ==, LOCK_SUCCESS);
    client_close(other);
    while (lock(f->c, b, LOCK_TYPE_WRLCK, 0, 0) != LOCK_SUCCESS) {
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
        poll(NULL, 0, 5);
    }
}

/* A lock of a host process is seen, and ours are seen there. */
static void host_processes_exclude(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 4};
    guint32 a;
    int fd;

    (void)data;
    if (skip_for_peer(f->s, "diod uses flock"))
        return;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fcntl(fd, F_SETLK, &fl), ==, 0);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 0, 10), ==, LOCK_BLOCKED);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 4, 6), ==, LOCK_SUCCESS);
    fl.l_start = 4;
    g_assert_cmpint(fcntl(fd, F_SETLK, &fl), ==, -1);
    close(fd);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 0, 10), ==, LOCK_SUCCESS);
}

/* flock(2) is another kind of lock: on the host it meets no lock of a client, nor the other way
 * round. Said here so that a change is noticed; qidmapd(8) tells users. */
static void host_flock_is_apart(struct fixture *f, gconstpointer data)
{
    g_autofree char *path = server_path(f->s, "file");
    guint32 a;
    int fd;

    (void)data;
    if (skip_for_peer(f->s, "diod uses flock"))
        return;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(flock(fd, LOCK_EX | LOCK_NB), ==, 0);
    g_assert_cmpuint(lock(f->c, a, LOCK_TYPE_WRLCK, 0, 0), ==, LOCK_SUCCESS);
    close(fd);
}

/* What is in the way on the host: a process by its number, where the kernel knows it. */
static void getlock_tells_the_host(struct fixture *f, gconstpointer data)
{
    static const int commands[] = {F_SETLK, F_OFD_SETLK};
    g_autofree char *path = server_path(f->s, "file");
    guint32 a;

    (void)data;
    if (skip_for_peer(f->s, "diod uses flock"))
        return;
    make_file(f->s, "file", "0123456789");
    a = open_file(f->c);
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++) {
        struct flock fl = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4};
        int fd = open(path, O_RDWR | O_CLOEXEC);
        g_autofree char *id = NULL;
        guint64 start = 0, length = 0;
        guint32 proc = 1;
        guint8 type = 99;

        g_assert_cmpint(fcntl(fd, commands[i], &fl), ==, 0);
        g_assert_cmpint(client_rpc(f->c, TGETLOCK, "dbqqds", a, LOCK_TYPE_WRLCK, (guint64)0,
                                   (guint64)0, 11u, "other", "bqqds", &type, &start, &length, &proc,
                                   &id),
                        ==, 0);
        g_assert_cmpuint(type, ==, LOCK_TYPE_RDLCK);
        g_assert_cmpuint(start, ==, 3);
        g_assert_cmpuint(length, ==, 4);
        g_assert_cmpuint(proc, ==, commands[i] == F_SETLK ? (guint32)getpid() : 0);
        g_assert_cmpstr(id, ==, "");
        close(fd);
    }
}

static void bad_arguments(struct fixture *f, gconstpointer data)
{
    guint32 fid;
    guint8 status = 0;

    (void)data;
    if (skip_for_peer(f->s, "diod ignores the range"))
        return;
    make_file(f->s, "file", "x");
    fid = walk_new(f->c, "file");
    g_assert_cmpint(client_lock(f->c, fid, LOCK_TYPE_WRLCK, 0, 0, 1, "h", &status), >, 0);
    g_assert_cmpint(client_lopen(f->c, fid, L_RDWR, NULL), ==, 0);
#define REFUSED(rc) ((rc) > 0 || ((rc) == 0 && status == LOCK_ERROR))
    g_assert_true(REFUSED(client_lock(f->c, fid, 7, 0, 0, 1, "h", &status)));
    g_assert_true(REFUSED(client_lock(f->c, fid, 1, G_MAXUINT64, 5, 1, "h", &status)));
    g_assert_true(REFUSED(client_lock(f->c, fid, 1, G_MAXINT64, G_MAXINT64, 1, "h", &status)));
#undef REFUSED
    g_assert_cmpint(client_lock(f->c, fid, LOCK_TYPE_WRLCK, 0, 0, 1, "h", &status), ==, 0);
    g_assert_cmpuint(status, ==, LOCK_SUCCESS);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/lock/two-connections", two_connections_exclude);
    FIXTURE_TEST("/lock/processes", processes_exclude);
    FIXTURE_TEST("/lock/child-ends", a_child_ends);
    FIXTURE_TEST("/lock/grows-to-write", grows_to_write);
    FIXTURE_TEST("/lock/mode-changes", mode_changes);
    FIXTURE_TEST("/lock/undone-elsewhere", undone_by_another_process);
    FIXTURE_TEST("/lock/readers", readers_share);
    FIXTURE_TEST("/lock/getlock", getlock_tells);
    FIXTURE_TEST("/lock/clunk", clunk_releases);
    FIXTURE_TEST("/lock/disconnect", disconnect_releases);
    FIXTURE_TEST("/lock/host", host_processes_exclude);
    FIXTURE_TEST("/lock/host-flock", host_flock_is_apart);
    FIXTURE_TEST("/lock/getlock-host", getlock_tells_the_host);
    FIXTURE_TEST("/lock/bad-arguments", bad_arguments);
    return g_test_run();
}
