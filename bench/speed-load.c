/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loads. Each answer's type is checked, and the id that it has, and no more: the client shall
 * cost little, and as much with the floor as with a server.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench/speed.h"

#define ROOM        (2u * 1024 * 1024)
#define SAMPLES_MAX 200000u
#define DEEP_MAX    256u
#define P9_RGETATTR 160u /* bytes of it */

static guint8 room[ROOM];

double speed_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

int speed_compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void speed_die(const char *what)
{
    fprintf(stderr, "speed: %s: %s\n", what, g_strerror(errno));
    exit(1);
}

static double median(GArray *samples)
{
    if (samples->len == 0)
        return 0;
    qsort(samples->data, samples->len, sizeof(double), speed_compare_doubles);
    return g_array_index(samples, double, samples->len / 2);
}

static guint32 get32(const guint8 *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (guint32)at[3] << 24;
}

static void send_all(int fd, const guint8 *bytes, gsize size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

        if (n <= 0)
            speed_die("send");
        bytes += n;
        size -= (gsize)n;
    }
}

/* One reply, where no other can follow: its size. */
static guint32 take_reply(int fd, guint8 *into)
{
    gsize have = 0;

    while (have < 7 || have < get32(into)) {
        ssize_t n = recv(fd, into + have, ROOM - have, 0);

        if (n <= 0)
            speed_die("the server broke off");
        have += (gsize)n;
    }
    if (have != get32(into))
        speed_die("more came than was asked for");
    return (guint32)have;
}

/* Makes of a message one that is for the floor: after the header stands the size of the reply, and
 * instead of the tag whose naked calls it makes before (1: of the first case; 0: none). */
static void for_floor(guint8 *frame, guint32 reply, guint naked)
{
    frame[5] = (guint8)naked;
    frame[6] = (guint8)(naked >> 8);
    reply = GUINT32_TO_LE(reply);
    memcpy(frame + 7, &reply, 4);
}

static GPtrArray *all_for_floor(const struct peer *peer, const struct speed_case *one,
                                const GPtrArray *frames, const GArray *replies)
{
    GPtrArray *made = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);

    for (guint i = 0; i < frames->len; i++) {
        const GByteArray *frame = frames->pdata[i];
        GByteArray *copy = g_byte_array_sized_new(frame->len);

        g_byte_array_append(copy, frame->data, frame->len);
        for_floor(copy->data, g_array_index(replies, guint32, i),
                  peer->floor && i == 0 ? (guint)(one - speed_cases) + 1 : 0);
        g_ptr_array_add(made, copy);
    }
    return made;
}

/* Whether as many bytes were read or written as were asked for: less would be quicker. */
static gboolean whole(const guint8 *frame, const guint8 *reply)
{
    if (frame[4] == TREAD || frame[4] == TWRITE)
        return get32(reply + 7) == get32(frame + 19);
    return TRUE;
}

/* All messages of a case once. False: one was answered with an error. */
static gboolean ask_once(const struct peer *peer, const GPtrArray *frames, GArray *replies)
{
    int fd = peer->client->fd;

    for (guint i = 0; i < frames->len; i++) {
        const GByteArray *frame = frames->pdata[i];
        guint32 size;

        send_all(fd, frame->data, frame->len);
        size = take_reply(fd, room);
        if (room[4] == RLERROR)
            return FALSE;
        if (room[4] != frame->data[4] + 1)
            speed_die("a reply of another type");
        if (peer->bare)
            continue;
        if (!whole(frame->data, room)) {
            errno = EPROTO;
            speed_die("a reply with less than was asked for");
        }
        speed_id_right(peer, room);
        if (replies->len <= i)
            g_array_append_val(replies, size);
    }
    return TRUE;
}

struct speed_result speed_run(struct peer *peer, const struct speed_case *one,
                              const GPtrArray *frames, GArray *replies, double seconds)
{
    g_autoptr(GArray) samples = g_array_sized_new(FALSE, FALSE, sizeof(double), 16384);
    g_autoptr(GPtrArray) mine = NULL;
    struct speed_result result = {0};
    double start, now;
    guint64 cpu;

    if (peer->bare && replies->len < frames->len)
        return result; /* no server could answer */
    if (peer->bare)
        frames = mine = all_for_floor(peer, one, frames, replies);
    for (int i = 0; i < 5; i++)
        if (frames->len == 0 || !ask_once(peer, frames, replies))
            return result;
    cpu = peer_cpu(peer->pid);
    start = now = speed_now();
    do {
        double before = now, took;

        if (!ask_once(peer, frames, replies))
            speed_die("an error after successes");
        now = speed_now();
        took = (now - before) * 1e6;
        if (samples->len < SAMPLES_MAX)
            g_array_append_val(samples, took);
        result.count++;
    } while (now - start < seconds);
    result.cpu = (double)(peer_cpu(peer->pid) - cpu) / 1e3 / (double)result.count;
    result.p50 = median(samples);
    return result;
}

double speed_naked(const struct speed_case *one, double seconds)
{
    g_autoptr(GArray) samples = g_array_sized_new(FALSE, FALSE, sizeof(double), 16384);
    double start, now;

    for (int i = 0; i < 5; i++)
        one->naked();
    start = now = speed_now();
    do {
        double before = now, took;

        for (int i = 0; i < 8; i++)
            one->naked();
        now = speed_now();
        took = (now - before) * 1e6 / 8;
        g_array_append_val(samples, took);
    } while (now - start < seconds);
    return median(samples);
}

/* ---- many at once ---------------------------------------------------------------------------- */

/* Takes `count` replies, which may come in any order and in any pieces. `wanted`: their type. */
static void take_replies(const struct peer *peer, guint count, guint8 wanted, guint32 *size)
{
    int fd = peer->client->fd;
    gsize have = 0, at = 0;

    while (count > 0) {
        ssize_t n = recv(fd, room + have, ROOM - have, 0);

        if (n <= 0)
            speed_die("the server broke off");
        have += (gsize)n;
        while (count > 0 && have - at >= 7 && have - at >= get32(room + at)) {
            if (room[at + 4] != wanted) {
                errno = room[at + 4] == RLERROR ? (int)get32(room + at + 7) : EPROTO;
                speed_die("a request of many");
            }
            if (!peer->bare)
                speed_id_right(peer, room + at);
            *size = get32(room + at);
            at += get32(room + at);
            count--;
        }
        memmove(room, room + at, have - at);
        have -= at;
        at = 0;
    }
    if (have != 0)
        speed_die("more came than was asked for");
}

/* Sizes of replies that servers gave, which the floor is asked for. */
static guint32 deep_size[SPEED_DEEP_COUNT + 1]; /* the last: of Tclunk */

/* Appends a message. `kind`: of deep_size; `naked`: what the floor calls for it. */
static void append_frame(const struct peer *peer, GByteArray *to, GByteArray *frame, guint kind,
                         guint naked)
{
    if (peer->bare)
        for_floor(frame->data, deep_size[kind], peer->floor ? naked : 0);
    g_byte_array_append(to, frame->data, frame->len);
    g_byte_array_unref(frame);
}

/* One message of a kind. What the floor calls for it is one more than the number of the case. */
static void append_deep(const struct peer *peer, GByteArray *to, enum speed_deep deep, guint i)
{
    const char *names[] = {"file", NULL};
    guint16 tag = (guint16)(i + 1);

    switch (deep) {
    case SPEED_DEEP_GETATTR:
        append_frame(peer, to, client_pack(TGETATTR, tag, "dq", SPEED_FILE, GETATTR_BASIC), deep,
                     speed_case_number("getattr") + 1);
        break;
    case SPEED_DEEP_WALK:
        append_frame(peer, to, client_pack(TWALK, tag, "ddL", SPEED_DIR, SPEED_NEW + i, names),
                     deep, SPEED_LOOKUP + 1);
        break;
    case SPEED_DEEP_READ:
        append_frame(peer, to,
                     client_pack(TREAD, tag, "dqd", SPEED_OPEN, (guint64)i * 4096, (guint32)4096),
                     deep, speed_case_number("read 4k") + 1);
        break;
    }
}

double speed_deep(struct peer *peer, enum speed_deep deep, guint depth, double seconds)
{
    static const guint8 replies[SPEED_DEEP_COUNT] = {TGETATTR + 1, TWALK + 1, TREAD + 1};
    g_autoptr(GByteArray) first = g_byte_array_new(), clunks = g_byte_array_new();
    int fd = peer->client->fd;
    guint64 count = 0, cpu;
    double start;

    if (peer->bare && deep_size[deep] == 0)
        return 0; /* no server was asked */
    for (guint i = 0; i < depth; i++) {
        append_deep(peer, first, deep, i);
        append_frame(peer, clunks, client_pack(TCLUNK, (guint16)(i + 1), "d", SPEED_NEW + i),
                     SPEED_DEEP_COUNT, 0);
    }
    cpu = peer_cpu(peer->pid);
    start = speed_now();
    do {
        send_all(fd, first->data, first->len);
        take_replies(peer, depth, replies[deep], &deep_size[deep]);
        count += depth;
        if (deep == SPEED_DEEP_WALK) {
            send_all(fd, clunks->data, clunks->len);
            take_replies(peer, depth, TCLUNK + 1, &deep_size[SPEED_DEEP_COUNT]);
            count += depth;
        }
    } while (speed_now() - start < seconds);
    return (double)(peer_cpu(peer->pid) - cpu) / 1e3 / (double)count;
}

double speed_stream(struct peer *peer, gboolean write, guint32 size, guint depth, double seconds)
{
    g_autoptr(GPtrArray) frames =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    g_autofree guint8 *data = g_malloc0(size);
    int fd = peer->client->fd;
    guint next = 0, under_way = 0;
    double start, spent;
    guint64 done = 0;
    gboolean more = TRUE;

    size = MIN(size, (peer->client->msize - 24) & ~4095u); /* what the server allows */
    for (guint64 at = 0; at + size <= SPEED_FILE_SIZE; at += size) {
        guint16 tag = (guint16)(frames->len % DEEP_MAX + 1);

        g_ptr_array_add(frames,
                        write ? client_pack(TWRITE, tag, "dqD", SPEED_OPEN, at, (gsize)size, data)
                              : client_pack(TREAD, tag, "dqd", SPEED_OPEN, at, size));
    }
    start = speed_now();
    while (more || under_way > 0) {
        gsize got = 0;
        guint32 whole;

        for (; more && under_way < depth; under_way++, next = (next + 1) % frames->len) {
            const GByteArray *frame = frames->pdata[next];

            send_all(fd, frame->data, frame->len);
        }
        while (got < 7) {
            ssize_t n = recv(fd, room + got, 7 - got, 0);

            if (n <= 0)
                speed_die("the server broke off");
            got += (gsize)n;
        }
        if (room[4] != (write ? TWRITE + 1 : TREAD + 1))
            speed_die("a request of a stream");
        whole = get32(room);
        while (got < whole) {
            ssize_t n = recv(fd, room + got, whole - got, MSG_WAITALL);

            if (n <= 0)
                speed_die("the server broke off");
            got += (gsize)n;
        }
        under_way--;
        done += write ? get32(room + 7) : whole - 11;
        more = speed_now() - start < seconds;
    }
    spent = speed_now() - start;
    return (double)done / spent;
}

/* ---- directories ----------------------------------------------------------------------------- */

double speed_readdir(struct peer *peer, const char *dir, double seconds)
{
    struct client *c = peer->client;
    guint64 entries = 0, cpu = peer_cpu(peer->pid);
    double start = speed_now();

    do {
        guint64 offset = 0;

        if (client_walk_path(c, SPEED_ROOT, SPEED_NEW, dir, NULL) != 0 ||
            client_lopen(c, SPEED_NEW, L_RDONLY, NULL) != 0)
            speed_die(dir);
        for (;;) {
            g_autoptr(GByteArray) ask =
                client_pack(TREADDIR, 1, "dqd", SPEED_NEW, offset, c->msize - 24);
            guint32 size;
            gsize at = 11;

            send_all(c->fd, ask->data, ask->len);
            size = take_reply(c->fd, room);
            if (room[4] != TREADDIR + 1)
                speed_die(dir);
            if (size <= 11)
                break;
            while (at + 24 <= size) {
                guint length = room[at + 22] | (guint)room[at + 23] << 8;
                guint64 id;

                memcpy(&id, room + at + 5, 8);
                memcpy(&offset, room + at + 13, 8);
                if (at + 24 + length <= size)
                    speed_id_entry(peer, GUINT64_FROM_LE(id), room + at + 24, length);
                at += 24u + length;
                entries++;
            }
            offset = GUINT64_FROM_LE(offset);
        }
        if (client_clunk(c, SPEED_NEW) != 0)
            speed_die(dir);
    } while (speed_now() - start < seconds);
    return (double)(peer_cpu(peer->pid) - cpu) / 1e3 / (double)entries;
}

double speed_getdents(const char *path, double seconds)
{
    struct dent {
        guint64 ino;
        gint64 off;
        guint16 reclen;
    };
    guint64 entries = 0, cpu = peer_cpu(getpid());
    double start = speed_now();
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    do {
        long n;

        lseek(fd, 0, SEEK_SET);
        while ((n = syscall(SYS_getdents64, fd, room, 65536)) > 0)
            for (long at = 0; at < n; entries++)
                at += ((struct dent *)(void *)(room + at))->reclen;
    } while (speed_now() - start < seconds);
    close(fd);
    return (double)(peer_cpu(getpid()) - cpu) / 1e3 / (double)entries;
}

/* ---- many connections ------------------------------------------------------------------------ */

static int going; /* atomic */

struct asker {
    struct peer peer;
    GThread *thread;
    guint64 count;
};

static gpointer ask_main(gpointer data)
{
    struct asker *asker = data;
    g_autoptr(GByteArray) frame = client_pack(TGETATTR, 1, "dq", SPEED_FILE, GETATTR_BASIC);
    guint8 reply[4096];
    int fd = asker->peer.client->fd;

    if (asker->peer.bare)
        for_floor(frame->data, P9_RGETATTR, asker->peer.floor ? 1 : 0);
    while (g_atomic_int_get(&going) == 0)
        g_usleep(100);
    while (g_atomic_int_get(&going) == 1) {
        send_all(fd, frame->data, frame->len);
        if (recv(fd, reply, sizeof reply, 0) < 7 || reply[4] != TGETATTR + 1)
            speed_die("a request of one of many connections");
        if (!asker->peer.bare)
            speed_id_right(&asker->peer, reply);
        asker->count++;
    }
    return NULL;
}

struct speed_many speed_connections(const struct peer *peer, guint connections, double seconds)
{
    g_autofree struct asker *askers = g_new0(struct asker, connections);
    struct speed_many result;
    guint64 total = 0, cpu, own;
    double start;

    g_atomic_int_set(&going, 0);
    for (guint i = 0; i < connections; i++) {
        askers[i].peer = *peer;
        speed_attach(&askers[i].peer);
        askers[i].thread = g_thread_new("ask", ask_main, &askers[i]);
    }
    cpu = peer_cpu(peer->pid);
    own = peer_cpu(getpid());
    start = speed_now();
    g_atomic_int_set(&going, 1);
    g_usleep((gulong)(seconds * 1e6));
    g_atomic_int_set(&going, 2);
    for (guint i = 0; i < connections; i++) {
        g_thread_join(askers[i].thread);
        total += askers[i].count;
    }
    total = MAX(total, 1);
    result.rate = (double)total / (speed_now() - start);
    result.cpu = (double)(peer_cpu(peer->pid) - cpu) / 1e3 / (double)total;
    result.client_cpu = (double)(peer_cpu(getpid()) - own) / 1e3 / (double)total;
    for (guint i = 0; i < connections; i++)
        client_close(askers[i].peer.client);
    return result;
}
