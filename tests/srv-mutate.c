/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever becomes of valid sessions on their way (bytes changed, left out, repeated, sent
 * one at a time, cut off in the middle of a message), the daemon lives, a session beside them goes
 * on, and once they have ended nothing of them is held: no descriptor, and no memory beyond what
 * the first rounds needed.
 *
 * The seed is printed; SRV_MUTATE_SEED=N repeats a run, LONG=1 makes it ten times as long.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS      300
#define WARM_UP     60 /* rounds after which threads, pools and tables are there */
#define FDS_MORE    40 /* descriptors that threads may keep beyond those of a quiet daemon */
#define MEMORY_MORE (48u * 1024) /* KiB that may be kept after all, fragments included */
#define BURST       512

static GRand *dice;

static guint roll(guint below)
{
    return (guint)g_rand_int_range(dice, 0, (gint32)below);
}

/* ---- a valid session, as bytes --------------------------------------------------------------- */

static void begin(GByteArray *out, guint8 type, guint16 tag)
{
    guint8 header[7] = {0, 0, 0, 0, type, (guint8)tag, (guint8)(tag >> 8)};

    g_byte_array_append(out, header, sizeof header);
}

static void put(GByteArray *out, guint64 value, guint size)
{
    for (guint i = 0; i < size; i++) {
        guint8 byte = (guint8)(value >> (8 * i));

        g_byte_array_append(out, &byte, 1);
    }
}

static void text(GByteArray *out, const char *string)
{
    put(out, strlen(string), 2);
    g_byte_array_append(out, (const guint8 *)string, (guint)strlen(string));
}

/* Writes the size of the message that began at `start`. */
static void finish(GByteArray *out, guint start)
{
    guint32 size = out->len - start;

    for (guint i = 0; i < 4; i++)
        out->data[start + i] = (guint8)(size >> (8 * i));
}

/* Messages after Tversion; `starts` gets where each begins. */
static void record(GByteArray *out, GArray *starts, const char *aname)
{
    static const struct {
        guint8 type;
        const char *fields; /* f fid, n a new one, s name, then digits: bytes of a number */
    } list[] = {
        {TWALK, "fnW"},           {TLOPEN, "f4"},     {TREAD, "f84"},      {TGETATTR, "f8"},
        {TREADDIR, "f84"},        {TCLUNK, "f"},      {TSTATFS, "f"},      {TLCREATE, "fs444"},
        {TWRITE, "f8D"},          {TMKDIR, "fs44"},   {TSYMLINK, "fss4"},  {TREADLINK, "f"},
        {TRENAMEAT, "fsfs"},      {TUNLINKAT, "fs4"}, {TXATTRWALK, "fns"}, {TXATTRCREATE, "fs84"},
        {TLINK, "ffs"},           {TFSYNC, "f4"},     {TLOCK, "f14884s"},  {TGETLOCK, "f1884s"},
        {TSETATTR, "f444488888"}, {TFLUSH, "2"},      {TMKNOD, "fs4444"},  {TREMOVE, "f"},
    };
    static const char *const names[] = {"a", "b", "dir", "new", "x", "..", "user.a", "link"};
    guint16 tag = 1;
    guint start = out->len;

    g_array_append_val(starts, start);
    begin(out, TATTACH, tag++);
    put(out, 1, 4);
    put(out, G_MAXUINT32, 4);
    text(out, "");
    text(out, aname);
    put(out, geteuid(), 4);
    finish(out, start);
    for (guint i = 0, n = 5 + roll(25); i < n; i++) {
        guint which = roll(G_N_ELEMENTS(list));

        start = out->len;
        g_array_append_val(starts, start);
        begin(out, list[which].type, tag++);
        for (const char *field = list[which].fields; *field != '\0'; field++) {
            switch (*field) {
            case 'f':
                put(out, 1 + roll(5), 4);
                break;
            case 'n':
                put(out, 2 + roll(5), 4);
                break;
            case 's':
                text(out, names[roll(G_N_ELEMENTS(names))]);
                break;
            case 'W': {
                guint count = roll(4);

                put(out, count, 2);
                while (count-- > 0)
                    text(out, names[roll(G_N_ELEMENTS(names))]);
                break;
            }
            case 'D':
                put(out, 5, 4);
                g_byte_array_append(out, (const guint8 *)"hello", 5);
                break;
            default:
                put(out, roll(3) == 0 ? roll(5000) : roll(3), (guint)(*field - '0'));
                break;
            }
        }
        finish(out, start);
    }
}

/* ---- what becomes of it ---------------------------------------------------------------------- */

static void mutate(GByteArray *bytes, const GArray *starts)
{
    for (guint n = roll(4); n > 0 && bytes->len > 16; n--) {
        guint at = roll(bytes->len), length = 1 + roll(12);

        switch (roll(6)) {
        case 0:
            bytes->data[at] ^= (guint8)(1u << roll(8));
            break;
        case 1:
            bytes->data[at] = (guint8)roll(256);
            break;
        case 2: /* a message's size */
            bytes->data[MIN(g_array_index(starts, guint, roll(starts->len)) + roll(4),
                            bytes->len - 1)] = (guint8)roll(256);
            break;
        case 3:
            if (at + length < bytes->len)
                g_byte_array_remove_range(bytes, at, length);
            break;
        case 4: { /* some again, at the end */
            guint8 again[64];
            guint count = MIN(bytes->len - at, sizeof again);

            memcpy(again, bytes->data + at, count);
            g_byte_array_append(bytes, again, count);
            break;
        }
        default: /* four bytes of a large number */
            for (guint i = 0; i < 4 && at + i < bytes->len; i++)
                bytes->data[at + i] = roll(2) ? 0xff : 0x7f;
            break;
        }
    }
}

/* Takes what came, so that the server is not held up. */
static gboolean drain(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char buffer[65536];
    ssize_t n = 1;

    while (n > 0 && poll(&p, 1, wait_ms) > 0)
        n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    return n > 0;
}

static gboolean throw(int fd, const guint8 *bytes, gsize size, gsize step)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, MIN(size, step), MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN)
            return FALSE;
        if (n > 0) {
            bytes += n;
            size -= (gsize)n;
        }
        if (n < 0 || roll(16) == 0)
            if (!drain(fd, n < 0 ? 10 : 0))
                return FALSE;
    }
    return TRUE;
}

static void one_session(struct server *s)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GArray) starts = g_array_new(FALSE, FALSE, sizeof(guint));
    struct client *c = client_connect(s->addr);
    gsize step = roll(3) == 0 ? 1 : roll(2) == 0 ? 1 + roll(20) : BURST, size;

    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 8192), ==, 0);
    record(bytes, starts, s->aname);
    mutate(bytes, starts);
    size = roll(3) == 0 ? roll(bytes->len) : bytes->len; /* often cut within a message */
    if (throw(c->fd, bytes->data, size, step) && roll(2) == 0) {
        shutdown(c->fd, SHUT_WR);
        drain(c->fd, 100);
    }
    client_close(c);
}

/* ---- what is held ---------------------------------------------------------------------------- */

static guint count_fds(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    guint n = 0;

    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL)
        closedir(dir);
    return n;
}

static guint64 memory(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)pid), *status = NULL;
    const char *line = NULL;

    if (g_file_get_contents(path, &status, NULL, NULL))
        line = strstr(status, "VmRSS:");
    return line != NULL ? g_ascii_strtoull(line + 6, NULL, 10) : 0;
}

static gboolean is_large(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return TRUE;
#else
    return FALSE; /* what is freed is freed */
#endif
}

static void mutated_sessions(struct fixture *f, gconstpointer data)
{
    guint rounds = g_getenv("LONG") != NULL ? ROUNDS * 10 : ROUNDS, fds = 0;
    guint64 before = 0;

    (void)data;
    if (skip_for_peer(f->s, "what it holds is its own business"))
        return;
    make_dir(f->s, "dir");
    make_file(f->s, "a", "text");
    make_file(f->s, "dir/b", "text");
    for (guint i = 0; i < rounds; i++) {
        struct client_attr attr;

        one_session(f->s);
        if (i % 10 == 0) { /* the one beside them */
            g_assert_true(server_alive(f->s));
            g_assert_cmpint(client_getattr(f->c, ROOT_FID, GETATTR_BASIC, &attr), ==, 0);
        }
        if (i == WARM_UP) {
            fds = count_fds(f->s->pid);
            before = memory(f->s->pid);
        }
    }
    gint64 deadline = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    while (count_fds(f->s->pid) > fds + FDS_MORE && g_get_monotonic_time() < deadline)
        g_usleep(50000);
    guint held = count_fds(f->s->pid);
    guint64 after = memory(f->s->pid);
    g_test_message("%u sessions: %u descriptors, then %u; %" G_GUINT64_FORMAT
                   " KiB, then %" G_GUINT64_FORMAT,
                   rounds, fds, held, before, after);
    g_assert_cmpuint(held, <=, fds + FDS_MORE);
    if (!is_large())
        g_assert_cmpuint(after, <=, before + MEMORY_MORE);
}

int main(int argc, char **argv)
{
    const char *seed = g_getenv("SRV_MUTATE_SEED");
    guint32 number = seed != NULL ? (guint32)g_ascii_strtoull(seed, NULL, 10) : g_random_int();
    int rc;

    g_test_init(&argc, &argv, NULL);
    g_test_message("SRV_MUTATE_SEED=%u", number);
    dice = g_rand_new_with_seed(number);
    FIXTURE_TEST("/mutate/sessions", mutated_sessions);
    rc = g_test_run();
    g_rand_free(dice);
    return rc;
}
