/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a source of mount.qidmap is understood or refused, never guessed; options of mount(8)
 * and of the kernel's 9p client are passed on, ours are taken, how the socket is handed over cannot
 * be changed, and misspelt ones are refused, as are those that would reach the kernel as something
 * else. No string of bytes gives the kernel an option more. What answers at the other end is a 9P
 * server that Linux can speak with, or the reason is told; one that takes the connection and says
 * nothing, or only half, is given up after the time of a try; of a name with several addresses one
 * that does not answer leaves time for the next. A TCP connection is handed out with keepalive, as
 * the page says, and that its other end has gone is seen.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/mount-qidmap.h"

/* ---- sources --------------------------------------------------------------------------------- */

static void test_sources(void)
{
    static const struct {
        const char *text;
        enum mount_transport transport;
        guint32 cid, port;
        const char *name;
    } good[] = {
        {"vsock:2:564", MOUNT_VSOCK, 2, 564, NULL},
        {"vsock:host", MOUNT_VSOCK, 2, 564, NULL},
        {"vsock:local:7", MOUNT_VSOCK, 1, 7, NULL},
        {"vsock:4294967294:4294967294", MOUNT_VSOCK, 4294967294U, 4294967294U, NULL},
        {"tcp:10.0.2.2:5640", MOUNT_TCP, 0, 5640, "10.0.2.2"},
        {"tcp:host.example", MOUNT_TCP, 0, 564, "host.example"},
        {"tcp:[fe80::1%eth0]:65535", MOUNT_TCP, 0, 65535, "fe80::1%eth0"},
        {"tcp:[::1]", MOUNT_TCP, 0, 564, "::1"},
        {"unix:/run/qidmap/a:b,c.sock", MOUNT_UNIX, 0, 0, "/run/qidmap/a:b,c.sock"},
    };
    static const char *const bad[] = {
        "",
        "vsock",
        "vsock:",
        "vsock:2:",
        "vsock:2:0",
        "vsock:-1",
        "vsock:0:5",
        "vsock:2:564:1",
        "vsock: 2:5",
        "vsock:4294967295",
        "tcp:",
        "tcp::564",
        "tcp:h:",
        "tcp:h:0",
        "tcp:h:65536",
        "tcp:h:+5",
        "tcp:h:5x",
        "tcp:::1:564",
        "tcp:[::1:564",
        "tcp:[::1]564",
        "tcp:[]:564",
        "unix:",
        "unix:relative",
        "unix:/a\nb",
        "10.0.2.2",
        "data",
        "VSOCK:2:564",
        "tcp:h:5\n",
        "tcp:h:1e3",
        "virtio:x",
        "vsock:99999999999999999999:1",
        "tcp:h:99999999999999999999",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_auto(mount_source) source = {0};
        g_autoptr(GError) error = NULL;

        g_assert_true(mount_source_parse(good[i].text, &source, &error));
        g_assert_no_error(error);
        g_assert_cmpint(source.transport, ==, good[i].transport);
        g_assert_cmpuint(source.cid, ==, good[i].cid);
        g_assert_cmpuint(source.port, ==, good[i].port);
        g_assert_cmpstr(source.host != NULL ? source.host : source.path, ==, good[i].name);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(mount_source) source = {0};
        g_autoptr(GError) error = NULL;

        if (mount_source_parse(bad[i], &source, &error)) {
            g_error("taken: %s", bad[i]);
        }
        g_assert_nonnull(error);
    }
}

static void test_long_path(void)
{
    struct sockaddr_un address;
    g_autofree char *most = g_strnfill(sizeof(address.sun_path) - 2, 'a');
    g_autofree char *fits = g_strconcat("unix:/", most, NULL);
    g_autofree char *longer = g_strconcat("unix:/a", most, NULL);
    g_auto(mount_source) source = {0}, other = {0};

    g_assert_true(mount_source_parse(fits, &source, NULL));
    g_assert_false(mount_source_parse(longer, &other, NULL));
}

/* ---- options --------------------------------------------------------------------------------- */

static void test_options(void)
{
    static const struct {
        const char *text, *joined;
        unsigned retry;
    } good[] = {
        {NULL, "trans=fd,rfdno=5,wfdno=5,version=9p2000.L,msize=262144", MOUNT_RETRY},
        {"", "trans=fd,rfdno=5,wfdno=5,version=9p2000.L,msize=262144", MOUNT_RETRY},
        {"aname=data/some dir,retry=0",
         "trans=fd,rfdno=5,wfdno=5,version=9p2000.L,msize=262144,aname=data/some dir", 0},
        {"rw,aname=x,noexec,msize=8192,version=9p2000.L,aname=y",
         "rw,noexec,trans=fd,rfdno=5,wfdno=5,version=9p2000.L,msize=8192,aname=y", MOUNT_RETRY},
        /* words of fstab go to libmount, which knows what to do with them */
        {"_netdev,nofail,x-systemd.automount,x-systemd.requires=a.service,defaults,retry=7",
         "_netdev,nofail,x-systemd.automount,x-systemd.requires=a.service,defaults,trans=fd,"
         "rfdno=5,wfdno=5,version=9p2000.L,msize=262144",
         7},
        {"access=client,dfltuid=1000,posixacl,cache=mmap,uname=me",
         "access=client,dfltuid=1000,posixacl,cache=mmap,uname=me,trans=fd,rfdno=5,wfdno=5,"
         "version=9p2000.L,msize=262144",
         MOUNT_RETRY},
        {"context=\"u:o:t:s0:c1,c2\",ro",
         "context=\"u:o:t:s0:c1,c2\",ro,trans=fd,rfdno=5,wfdno=5,version=9p2000.L,msize=262144",
         MOUNT_RETRY},
        {"remount,ro,aname=x", "remount,ro", MOUNT_RETRY},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_auto(mount_options) options = {0};
        g_autoptr(GError) error = NULL;
        g_autofree char *joined = NULL;

        g_assert_true(mount_options_parse(good[i].text, FALSE, &options, &error));
        g_assert_no_error(error);
        joined = mount_options_join(&options, options.remount ? -1 : 5);
        g_assert_cmpstr(joined, ==, good[i].joined);
        g_assert_cmpuint(options.retry, ==, good[i].retry);
    }
}

static void test_bad_options(void)
{
    static const char *const bad[] = {
        "anme=x",       /* misspelt */
        "trans=virtio", /* how the host is reached is the source's affair */
        "rfdno=0",
        "wfdno=0",
        "port=5640",
        "version=9p2000.u",
        "version",
        "aname",
        "aname=\"a,trans=tcp\"", /* libmount's quotes are not the kernel's */
        "cachetag=\"a,rfdno=0\"",
        "aname=\"x", /* a quote without its end */
        "aname=a\nb",
        "retry=-1",
        "retry=1s",
        "retry=",
        "retry",
        "retry=99999999999999999999",
        "msize=100",
        "msize=4294967296",
        "msize=0x4000",
        "access",
        "cache=",
        "posixacl=1",
        "=x",
        "ro,=,rw",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(mount_options) options = {0};
        g_autoptr(GError) error = NULL;

        if (mount_options_parse(bad[i], FALSE, &options, &error)) {
            g_error("taken: %s", bad[i]);
        }
        g_assert_nonnull(error);
    }
}

static void test_sloppy(void)
{
    g_auto(mount_options) options = {0};
    g_auto(mount_options) other = {0};

    g_assert_true(mount_options_parse("anme=x,ro", TRUE, &options, NULL));
    g_assert_cmpstr(options.passed, ==, "ro");
    g_assert_false(mount_options_parse("trans=tcp", TRUE, &other, NULL));
}

static void test_long_options(void)
{
    g_autofree char *name = g_strnfill(MOUNT_KERNEL_LENGTH, 'a');
    g_autofree char *fits = g_strconcat("aname=", name, NULL);
    g_autofree char *longer = g_strconcat("aname=a", name, NULL);
    g_auto(mount_options) options = {0};
    g_auto(mount_options) other = {0};

    g_assert_true(mount_options_parse(fits, FALSE, &options, NULL));
    g_assert_false(mount_options_parse(longer, FALSE, &other, NULL));
}

/* Splits as the kernel does, at each comma: one trans=, one rfdno=, one aname= at most, in any
 * case. */
static void check_kernel_sees(const char *joined)
{
    g_auto(GStrv) words = g_strsplit(joined, ",", -1);
    unsigned trans = 0, rfdno = 0, wfdno = 0, version = 0, aname = 0;

    for (char **w = words; *w != NULL; w++) {
        trans += g_str_has_prefix(*w, "trans=");
        rfdno += g_str_has_prefix(*w, "rfdno=");
        wfdno += g_str_has_prefix(*w, "wfdno=");
        version += g_str_has_prefix(*w, "version=");
        aname += g_str_has_prefix(*w, "aname=");
    }
    g_assert_cmpuint(trans, ==, 1);
    g_assert_cmpuint(rfdno, ==, 1);
    g_assert_cmpuint(wfdno, ==, 1);
    g_assert_cmpuint(version, ==, 1);
    g_assert_cmpuint(aname, <=, 1);
}

static void test_any_bytes(void)
{
    static const char *const pieces[] = {
        "aname=", "trans=",   "rfdno=0",      ",",      "\"",         "'",
        "=",      "context=", "x-a=",         "\\",     "ro",         "msize=",
        "8192",   "retry",    "\xff",         "x-b=\"", "\n",         "_netdev",
        "@",      "%s",       "fscontext=\"", "uname=", "comment=\"",
    };
    unsigned taken = 0;

    for (unsigned round = 0; round < 50000; round++) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_auto(mount_options) options = {0};

        for (gint n = g_test_rand_int_range(1, 12); n > 0; n--) {
            g_string_append(text, pieces[g_test_rand_int_range(0, G_N_ELEMENTS(pieces))]);
        }
        if (mount_options_parse(text->str, g_test_rand_bit(), &options, NULL) && !options.remount) {
            g_autofree char *joined = mount_options_join(&options, 5);

            taken++;
            check_kernel_sees(joined);
        }
    }
    g_assert_cmpuint(taken, >, 100);
}

/* ---- what answers ---------------------------------------------------------------------------- */

static char *folder;

struct answer {
    int listener;
    const void *bytes;
    gsize size;
    unsigned delay; /* microseconds, for a host that is not at once */
};

static void *answer(void *data)
{
    struct answer *a = data;
    int fd = accept(a->listener, NULL, NULL);
    char request[64];

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(read(fd, request, sizeof(request)), ==, 21);
    g_usleep(a->delay);
    if (a->size > 0) {
        g_assert_cmpint(write(fd, a->bytes, a->size), ==, (gssize)a->size);
    }
    close(fd);
    return NULL;
}

static int try_answer(const void *bytes, gsize size, gboolean *again)
{
    g_autofree char *path = g_build_filename(folder, "socket", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct mount_source source = {.transport = MOUNT_UNIX, .path = path};
    struct answer a = {.bytes = bytes, .size = size};
    g_autoptr(GError) error = NULL;
    pthread_t thread;
    int fd;

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    a.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(a.listener, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(listen(a.listener, 1), ==, 0);
    g_assert_cmpint(pthread_create(&thread, NULL, answer, &a), ==, 0);
    fd = mount_connect(&source, 8192, 60000, again, &error);
    g_assert_true((fd < 0) == (error != NULL));
    pthread_join(thread, NULL);
    close(a.listener);
    unlink(path);
    if (fd >= 0) {
        char more;

        g_assert_true(mount_is_cut(fd)); /* the thread has closed its end */

        /* what comes after the reply is the kernel's */
        g_assert_cmpint(recv(fd, &more, 1, MSG_WAITALL), ==, size > 21 ? 1 : 0);
        close(fd);
    }
    return fd >= 0 ? 0 : -1;
}

static void test_answers(void)
{
#define LINUX                                                                                      \
    "\x15\0\0\0\x65\xff\xff\0\x20\0\0\x08\0"                                                       \
    "9P2000.L"
    gboolean again;

    g_assert_cmpint(try_answer(LINUX, 21, &again), ==, 0);
    g_assert_cmpint(try_answer(LINUX "x", 22, &again), ==, 0);
    /* closes: nobody there yet */
    g_assert_cmpint(try_answer("", 0, &again), ==, -1);
    g_assert_true(again);
    g_assert_cmpint(try_answer(LINUX, 20, &again), ==, -1);
    g_assert_true(again);
    /* another dialect, and no 9P at all */
    g_assert_cmpint(try_answer("\x15\0\0\0\x65\xff\xff\0\x20\0\0\x08\0"
                               "9P2000.u",
                               21, &again),
                    ==, -1);
    g_assert_false(again);
    g_assert_cmpint(try_answer("HTTP/1.1 400 Bad Request\r\n\r\n", 28, &again), ==, -1);
    g_assert_false(again);
    g_assert_cmpint(try_answer("\x15\0\0\0\x6b\xff\xff\0\x20\0\0\x08\0"
                               "9P2000.L",
                               21, &again),
                    ==, -1);
    g_assert_cmpint(try_answer("\xff\xff\xff\xff\x65\xff\xff\0\x20\0\0\x08\0"
                               "9P2000.L",
                               21, &again),
                    ==, -1);
    g_assert_cmpint(try_answer("\x15\0\0\0\x65\xff\xff\0\x20\0\0\xff\xff"
                               "9P2000.L",
                               21, &again),
                    ==, -1);
    g_assert_false(again);
    /* messages larger than those that were asked for, and too small for Linux; 4096 is enough */
    g_assert_cmpint(try_answer("\x15\0\0\0\x65\xff\xff\x01\x20\0\0\x08\0"
                               "9P2000.L",
                               21, &again),
                    ==, -1);
    g_assert_false(again);
    g_assert_cmpint(try_answer("\x15\0\0\0\x65\xff\xff\xff\x0f\0\0\x08\0"
                               "9P2000.L",
                               21, &again),
                    ==, -1);
    g_assert_false(again);
    g_assert_cmpint(try_answer("\x15\0\0\0\x65\xff\xff\0\x10\0\0\x08\0"
                               "9P2000.L",
                               21, &again),
                    ==, 0);
#undef LINUX
}

static void test_nobody(void)
{
    g_autofree char *path = g_build_filename(folder, "none", NULL);
    struct mount_source source = {.transport = MOUNT_UNIX, .path = path};
    g_autoptr(GError) error = NULL;
    gboolean again = FALSE;

    g_assert_cmpint(mount_connect(&source, 8192, 1000, &again, &error), ==, -1);
    g_assert_true(again);
    g_assert_nonnull(strstr(error->message, path));
}

static void test_cut(void)
{
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    g_assert_false(mount_is_cut(pair[0]));
    g_assert_cmpint(write(pair[1], "x", 1), ==, 1); /* says something, and lives */
    g_assert_false(mount_is_cut(pair[0]));
    close(pair[1]);
    g_assert_true(mount_is_cut(pair[0]));
    close(pair[0]);
}

struct silence {
    int listener;
    const char *part;
    gsize size;
    int until; /* a pipe, until whose end the connection is kept */
};

static void *be_silent(void *data)
{
    const struct silence *silence = data;
    int fd = accept(silence->listener, NULL, NULL);
    char end;

    g_assert_cmpint(fd, >=, 0);
    (void)send(fd, silence->part, silence->size, MSG_NOSIGNAL); /* the client may have gone */
    g_assert_cmpint(read(silence->until, &end, 1), ==, 0);
    close(fd);
    return NULL;
}

/* Takes the connection, and says nothing, or a part: without an end of the try this test hangs. */
static void test_silent(void)
{
    static const char *const parts[] = {"", "\x15", "\x15\0\0\0\x65\xff\xff\0\x20\0\0\x08"};
    static const gsize sizes[] = {0, 1, 12};
    g_autofree char *path = g_build_filename(folder, "silent", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct mount_source source = {.transport = MOUNT_UNIX, .path = path};

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), pipe_end[2];
        struct silence silence = {listener, parts[i], sizes[i], 0};
        g_autoptr(GError) error = NULL;
        gboolean again = FALSE;
        pthread_t thread;
        char end;

        g_assert_cmpint(bind(listener, (struct sockaddr *)&address, sizeof(address)), ==, 0);
        g_assert_cmpint(listen(listener, 1), ==, 0);
        g_assert_cmpint(pipe(pipe_end), ==, 0);
        silence.until = pipe_end[0];
        g_assert_cmpint(pthread_create(&thread, NULL, be_silent, &silence), ==, 0);
        g_assert_cmpint(mount_connect(&source, 8192, 100, &again, &error), ==, -1);
        g_assert_true(again);
        g_assert_nonnull(strstr(error->message, "does not answer"));
        close(pipe_end[1]); /* only now its end of the connection is closed */
        pthread_join(thread, NULL);
        g_assert_cmpint(read(pipe_end[0], &end, 1), ==, 0);
        close(pipe_end[0]);
        close(listener);
        unlink(path);
    }
}

/* ---- a name with two addresses ----------------------------------------------------------------
 */

/* In place of the resolver: the host `two` has these, in this order. */
static struct sockaddr_in two_addresses[2];
static struct addrinfo two_infos[2];

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                struct addrinfo **list)
{
    g_assert_cmpstr(host, ==, "two");
    g_assert_cmpstr(port, ==, "564");
    for (int i = 0; i < 2; i++) {
        two_infos[i] = *hints;
        two_infos[i].ai_family = AF_INET;
        two_infos[i].ai_addr = (struct sockaddr *)&two_addresses[i];
        two_infos[i].ai_addrlen = sizeof(two_addresses[i]);
        two_infos[i].ai_next = i == 0 ? &two_infos[1] : NULL;
    }
    *list = two_infos;
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    g_assert_true(list == two_infos);
}

static int listen_at(struct sockaddr_in *address, int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof(*address);

    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    g_assert_cmpint(bind(fd, (struct sockaddr *)address, size), ==, 0);
    g_assert_cmpint(listen(fd, backlog), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)address, &size), ==, 0);
    return fd;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof(value);

    g_assert_cmpint(getsockopt(fd, level, name, &value, &size), ==, 0);
    return value;
}

/* Each minute a question, and the end after fifteen without an answer; nothing waits for more. */
static void check_options(int fd)
{
    g_assert_cmpint(option(fd, SOL_SOCKET, SO_KEEPALIVE), ==, 1);
    g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), ==, 60);
    g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), ==, 60);
    g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_KEEPCNT), ==, 15);
    g_assert_cmpint(option(fd, IPPROTO_TCP, TCP_NODELAY), !=, 0);
}

static void test_addresses(void)
{
    static const char reply[] = "\x15\0\0\0\x65\xff\xff\0\x20\0\0\x08\0"
                                "9P2000.L";
    struct mount_source source = {.transport = MOUNT_TCP, .port = 564, .host = (char *)"two"};
    struct answer a = {.bytes = reply, .size = 21, .delay = 50000};
    int silent, waiting[8], fd;
    struct pollfd end = {.events = POLLRDHUP};
    g_autoptr(GError) error = NULL;
    gboolean again = FALSE;
    pthread_t thread;

    /* one whose queue is full, so that the kernel drops what comes: like a host behind a wall */
    silent = listen_at(&two_addresses[0], 0);
    for (gsize i = 0; i < G_N_ELEMENTS(waiting); i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(waiting[i], (struct sockaddr *)&two_addresses[0], sizeof(two_addresses[0])) <
            0) {
            g_assert_cmpint(errno, ==, EINPROGRESS);
        }
    }
    a.listener = listen_at(&two_addresses[1], 1);
    g_assert_cmpint(pthread_create(&thread, NULL, answer, &a), ==, 0);
    fd = mount_connect(&source, 8192, 2000, &again, &error);
    g_assert_no_error(error);
    end.fd = fd;
    g_assert_cmpint(fd, >=, 0);
    check_options(fd);
    pthread_join(thread, NULL); /* it has closed its end */
    g_assert_cmpint(poll(&end, 1, 60000), ==, 1);
    g_assert_true(mount_is_cut(fd));
    close(fd);
    close(a.listener);
    /* nobody but the silent one: the end of the try, and not that of the kernel's patience */
    two_addresses[1] = two_addresses[0];
    g_assert_cmpint(mount_connect(&source, 8192, 100, &again, &error), ==, -1);
    g_assert_true(again);
    g_assert_error(error, MOUNT_ERROR, ETIMEDOUT);
    for (gsize i = 0; i < G_N_ELEMENTS(waiting); i++) {
        close(waiting[i]);
    }
    close(silent);
}

int main(int argc, char **argv)
{
    int status;

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("qidmap-mount.XXXXXX", NULL);
    g_test_add_func("/mount/sources", test_sources);
    g_test_add_func("/mount/long-path", test_long_path);
    g_test_add_func("/mount/options", test_options);
    g_test_add_func("/mount/bad-options", test_bad_options);
    g_test_add_func("/mount/sloppy", test_sloppy);
    g_test_add_func("/mount/long-options", test_long_options);
    g_test_add_func("/mount/any-bytes", test_any_bytes);
    g_test_add_func("/mount/answers", test_answers);
    g_test_add_func("/mount/nobody", test_nobody);
    g_test_add_func("/mount/cut", test_cut);
    g_test_add_func("/mount/silent", test_silent);
    g_test_add_func("/mount/addresses", test_addresses);
    status = g_test_run();
    rmdir(folder);
    g_free(folder);
    return status;
}
