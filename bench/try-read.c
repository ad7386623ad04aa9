/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An experiment, not built by make: what a large read costs a server's CPU in three ways, each with
 * a bare socket and a file in the page cache. Its figures stand in HACKING.md.
 *
 *   gcc -O2 try-read.c -o try-read -luring          (package liburing-dev)
 *   ./try-read tcp|unix SIZE copy|sendfile|uring COUNT
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_SIZE (16u << 20)
#define ASK       23 /* bytes of a Tread */
#define HEADER    11 /* of an Rread */
#define DATA      2048

static char *room;

static void must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    _exit(1);
}

static double cpu(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void connect_pair(int tcp, int s[2])
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof sa;
    int listener, one = 1;

    if (!tcp) {
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0, "socketpair");
        return;
    }
    listener = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(listener, (void *)&sa, size) == 0 && listen(listener, 1) == 0 &&
             getsockname(listener, (void *)&sa, &size) == 0,
         "listen");
    s[0] = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(s[0], (void *)&sa, size) == 0, "connect");
    s[1] = accept(listener, NULL, NULL);
    for (int i = 0; i < 2; i++)
        setsockopt(s[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
}

static void send_all(int fd, const char *bytes, size_t size, int flags)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, flags);

        must(n > 0, "send");
        bytes += n;
        size -= (size_t)n;
    }
}

static void take(int fd)
{
    char ask[ASK];

    must(recv(fd, ask, ASK, MSG_WAITALL) == ASK, "recv");
}

static void by_copy(int fd, int file, size_t size, off_t at)
{
    take(fd);
    must(pread(file, room + DATA, size, at) == (ssize_t)size, "pread");
    send_all(fd, room + DATA - HEADER, size + HEADER, 0);
}

static void by_sendfile(int fd, int file, size_t size, off_t at)
{
    take(fd);
    send_all(fd, room, HEADER, MSG_MORE);
    while (size > 0) {
        ssize_t n = sendfile(fd, file, &at, size);

        must(n > 0, "sendfile");
        size -= (size_t)n;
    }
}

/* Read, send and the next receive as one chain: one system call for each read. */
static void by_uring(struct io_uring *ring, int fd, int file, size_t size, off_t at, int last)
{
    static char ask[ASK];
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    int count = last ? 2 : 3;

    io_uring_prep_read(sqe, file, room + DATA, (unsigned)size, (unsigned long long)at);
    sqe->flags |= IOSQE_IO_LINK;
    sqe = io_uring_get_sqe(ring);
    io_uring_prep_send(sqe, fd, room + DATA - HEADER, size + HEADER, MSG_WAITALL);
    if (!last) {
        sqe->flags |= IOSQE_IO_LINK;
        sqe = io_uring_get_sqe(ring);
        io_uring_prep_recv(sqe, fd, ask, ASK, MSG_WAITALL);
    }
    io_uring_submit_and_wait(ring, (unsigned)count);
    for (int i = 0; i < count; i++) {
        must(io_uring_wait_cqe(ring, &cqe) == 0 && cqe->res > 0, "io_uring");
        io_uring_cqe_seen(ring, cqe);
    }
}

static void serve(int fd, int file, size_t size, const char *how, int count, const char *transport)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    struct io_uring ring;
    int uring = strcmp(how, "uring") == 0;
    double start;

    must(!uring || io_uring_queue_init_params(8, &ring, &params) == 0, "io_uring");
    start = cpu();
    if (uring)
        take(fd);
    for (int i = 0; i < count; i++) {
        off_t at = (off_t)((size_t)i * size % (FILE_SIZE - size + 1));

        if (uring)
            by_uring(&ring, fd, file, size, at, i + 1 == count);
        else if (strcmp(how, "sendfile") == 0)
            by_sendfile(fd, file, size, at);
        else
            by_copy(fd, file, size, at);
    }
    printf("%-5s %7zu %-9s %8.2f us of CPU each\n", transport, size, how, (cpu() - start) / count);
}

int main(int argc, char **argv)
{
    char path[] = "/var/tmp/try-read-XXXXXX";
    size_t size = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
    int file, count, s[2];
    cpu_set_t set;

    if (size == 0 || size > 1u << 20 || (count = atoi(argv[4])) <= 0) {
        fprintf(stderr, "usage: try-read tcp|unix SIZE copy|sendfile|uring COUNT\n");
        return 2;
    }
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
    must(posix_memalign((void **)&room, 4096, 2u << 20) == 0, "memory");
    memset(room, 1, 2u << 20);
    file = mkstemp(path);
    must(file >= 0 && unlink(path) == 0, path);
    for (unsigned at = 0; at < FILE_SIZE; at += 1u << 20)
        must(write(file, room, 1u << 20) == 1 << 20, path);
    connect_pair(strcmp(argv[1], "tcp") == 0, s);
    if (fork() == 0) {
        close(s[0]);
        serve(s[1], file, size, argv[3], count, argv[1]);
        return 0;
    }
    close(s[1]);
    for (int i = 0; i < count; i++) {
        char ask[ASK] = {0};

        send_all(s[0], ask, ASK, 0);
        must(recv(s[0], room, size + HEADER, MSG_WAITALL) == (ssize_t)(size + HEADER), "recv");
    }
    wait(NULL);
    return 0;
}
