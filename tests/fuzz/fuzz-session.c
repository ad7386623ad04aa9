/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of whole sessions, with real files below. Promise: whatever a client sends after it
 * has attached, the daemon (the real one, in this process) lives and ends the session; each request
 * of a well-formed stream gets one reply, of its type or Rlerror; nothing outside the export is
 * changed, and none of it is in any reply; no descriptor is left behind.
 *
 * The input is a program: each record makes one message, most fields by small numbers, so that
 * messages make sense together and bytes that are mutated still do; a record may also change a byte
 * of its message, or be raw bytes. From then on only what holds for any bytes is checked.
 *
 *     op[1]     0x80: wait for the reply; 0x40: a byte is changed; the rest: which message
 *     fields    as `messages` says; a field beyond the end of the input is 0
 *     at[1] by[1]     with 0x40 only
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int qidmapd_main(int argc, char **argv);

#define MSIZE    8192
#define PATIENCE 60 /* seconds until a missing reply is a failure; machines are busy */
#define RECORDS  200
#define FDS_MORE 64 /* descriptors that threads may keep beyond those after the first session */
#define TVERSION 100
#define TFLUSH   108
#define TLOCK    52
#define RLERROR  7
#define RAW      27

static const char secret[] = "SECRET-7f3a91c2-OUTSIDE-THE-EXPORT";

/* f fid, d number of 32 bits, q of 64, b byte, h tag, n name, w names of a walk, D data,
 * u and g a user and a group, m a mode */
static const struct {
    uint8_t type;
    const char *fields;
} messages[] = {
    {110, "ffw"},   {110, "ffw"}, {12, "fd"},     {14, "fndmg"}, {116, "fqd"},
    {118, "fqD"},   {120, "f"},   {122, "f"},     {24, "fq"},    {26, "fdmugqqqqq"},
    {8, "f"},       {16, "fnng"}, {18, "fnmddg"}, {20, "ffn"},   {22, "f"},
    {30, "ffn"},    {32, "fnqd"}, {40, "fqd"},    {50, "fd"},    {52, "fbdqqdn"},
    {54, "fbqqdn"}, {70, "ffn"},  {72, "fnmg"},   {74, "fnfn"},  {76, "fnd"},
    {104, "ffnnu"}, {108, "h"},   {RAW, "D"},     {100, "dn"},   {102, "fnnu"},
};

static const char *const names[] = {
    "f",
    "d",
    "g",
    "e",
    "l",
    "la",
    "fifo",
    "h",
    "new",
    "new2",
    "..",
    ".",
    "",
    "../outside/secret",
    "/etc/passwd",
    "d/g",
    "user.a",
    "user.b",
    "system.posix_acl_access",
    "security.capability",
    "trusted.qidmap.x",
    "user.virtfs.uid",
    "trusted.t",
    "fuzz",
    "9P2000.L",
    "9P2000",
    "outside",
    "secret",
    "../..",
    "\xff\xfe",
    "la/secret",
    "0",
};

static const uint64_t numbers[] = {0xffffffff,
                                   0x80000000,
                                   0x7fffffff,
                                   4096,
                                   65536,
                                   1000000,
                                   0x8000000000000000ull,
                                   0xffffffffffffffffull,
                                   0x7fffffffffffffffull,
                                   8191,
                                   8192,
                                   0x200,
                                   0x241,
                                   0x8000,
                                   02,
                                   0100};

static char *top, *export_dir, *outside, *secret_file, *side_file, *socket_path;
static struct stat secret_stat, side_stat, outside_stat;
static unsigned fds_at_first;

static void die(const char *what)
{
    fprintf(stderr, "fuzz-session: %s\n", what);
    abort();
}

/* ---- files ----------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    if (at->level > 0 && remove(path) != 0 && errno != ENOENT)
        return -1;
    return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    if (!g_file_set_contents(path, text, -1, NULL))
        die("cannot make a file");
}

static void make_tree(void)
{
    g_autofree char *d = g_build_filename(export_dir, "d", NULL);
    g_autofree char *e = g_build_filename(d, "e", NULL);
    g_autofree char *f = g_build_filename(export_dir, "f", NULL);
    g_autofree char *h = g_build_filename(d, "h", NULL);
    g_autofree char *l = g_build_filename(export_dir, "l", NULL);
    g_autofree char *la = g_build_filename(export_dir, "la", NULL);
    g_autofree char *fifo = g_build_filename(export_dir, "fifo", NULL);

    if (nftw(export_dir, remove_one, 32, FTW_DEPTH | FTW_PHYS) != 0 || chmod(export_dir, 0777) != 0)
        die("cannot clear the export");
    if (chown(export_dir, geteuid(), getegid()) != 0)
        die("cannot own the export");
    put(export_dir, "f", "inside\n");
    if (mkdir(d, 0777) != 0 || mkdir(e, 0777) != 0 || link(f, h) != 0 ||
        symlink("../outside/secret", l) != 0 || symlink(outside, la) != 0 ||
        mkfifo(fifo, 0666) != 0)
        die("cannot make the tree");
    put(d, "g", "inside too\n");
    setxattr(f, "user.a", "value", 5, 0);
}

static bool is_as_it_was(const char *path, const struct stat *was)
{
    struct stat now;

    return lstat(path, &now) == 0 && now.st_ino == was->st_ino && now.st_mode == was->st_mode &&
           now.st_nlink == was->st_nlink && now.st_uid == was->st_uid &&
           now.st_size == was->st_size && now.st_mtim.tv_sec == was->st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == was->st_mtim.tv_nsec &&
           now.st_ctim.tv_sec == was->st_ctim.tv_sec && now.st_ctim.tv_nsec == was->st_ctim.tv_nsec;
}

static void check_outside(void)
{
    DIR *dir = opendir(top);
    struct dirent *entry;

    if (!is_as_it_was(secret_file, &secret_stat) || !is_as_it_was(side_file, &side_stat) ||
        !is_as_it_was(outside, &outside_stat))
        die("something outside the export was changed");
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, "export") != 0 && strcmp(entry->d_name, "outside") != 0 &&
            strcmp(entry->d_name, "side") != 0 && strcmp(entry->d_name, "socket") != 0)
            die("something was made outside the export");
    if (dir != NULL)
        closedir(dir);
}

static unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL)
        closedir(dir);
    return n;
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static void clean_up(void)
{
    if (top != NULL && nftw(top, remove_one, 32, FTW_DEPTH | FTW_PHYS) == 0)
        rmdir(top);
}

static void *serve(void *data)
{
    char **argv = data;

    qidmapd_main((int)g_strv_length(argv), argv);
    die("the daemon ended");
    return NULL;
}

static void start(void)
{
    /* The daemon takes what it has read out of its argv; kept for who looks for leaks. */
    static char *argv[16], *volatile owned[16];
    pthread_t thread;
    char word[8];
    int ready[2], n = 0;
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();

    top = g_build_filename(base, "qidmap-fuzz-XXXXXX", NULL);
    if (g_mkdtemp(top) == NULL || pipe(ready) != 0)
        die("no directory");
    atexit(clean_up);
    export_dir = g_build_filename(top, "export", NULL);
    outside = g_build_filename(top, "outside", NULL);
    secret_file = g_build_filename(outside, "secret", NULL);
    side_file = g_build_filename(top, "side", NULL);
    socket_path = g_build_filename(top, "socket", NULL);
    if (mkdir(export_dir, 0777) != 0 || mkdir(outside, 0777) != 0)
        die("no directories");
    put(outside, "secret", secret);
    put(top, "side", secret);
    if (lstat(secret_file, &secret_stat) != 0 || lstat(side_file, &side_stat) != 0 ||
        lstat(outside, &outside_stat) != 0)
        die("no files");
    argv[n++] = g_strdup("qidmapd");
    argv[n++] = g_strdup_printf("--export=fuzz=%s", export_dir);
    argv[n++] = g_strdup("--store=memory:");
    argv[n++] = g_strdup("--access=trusted");
    argv[n++] = g_strdup("--isolate=no");
    argv[n++] = g_strdup("--threads=4");
    argv[n++] = g_strdup_printf("--listen=unix:%s", socket_path);
    argv[n++] = g_strdup_printf("--ready-fd=%d", ready[1]);
    for (int i = 0; i < n; i++)
        owned[i] = argv[i];
    (void)owned[0];
    if (pthread_create(&thread, NULL, serve, argv) != 0 || read(ready[0], word, 6) != 6)
        die("the daemon does not start");
    pthread_detach(thread);
    close(ready[0]);
}

/* ---- a session ------------------------------------------------------------------------------- */

struct session {
    int fd;
    bool ended; /* the server closed it */
    bool odd;   /* the stream is not well-formed, or replies are no longer known */
    GByteArray *in;
    uint8_t type[RECORDS + 8]; /* by tag: 0: none; what was asked */
    bool answered[RECORDS + 8], optional[RECORDS + 8];
    uint16_t tags;
};

struct input {
    const uint8_t *at, *end;
};

static uint8_t next(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static void add(GByteArray *out, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));

        g_byte_array_append(out, &byte, 1);
    }
}

static uint64_t number(struct input *in)
{
    uint8_t code = next(in);

    return code < 240 ? code : numbers[(code - 240) % G_N_ELEMENTS(numbers)];
}

static void add_name(GByteArray *out, struct input *in)
{
    uint8_t code = next(in);
    uint8_t text[512];
    size_t size = 0;

    if (code < G_N_ELEMENTS(names)) {
        size = strlen(names[code]);
        memcpy(text, names[code], size);
    } else if (code >= 250) { /* long ones */
        size = 250 + (size_t)(code - 250) * 2;
        memset(text, 'n', size);
    } else {
        for (size = 0; size < code % 16u; size++)
            text[size] = next(in);
    }
    add(out, size, 2);
    g_byte_array_append(out, text, (guint)size);
}

static void add_field(GByteArray *out, char field, struct input *in)
{
    uint8_t code;

    switch (field) {
    case 'f':
        code = next(in);
        add(out, code == 255 ? 0xffffffff : code % 12, 4);
        break;
    case 'b':
        add(out, next(in), 1);
        break;
    case 'h':
        add(out, next(in), 2);
        break;
    case 'm':
        add(out, next(in) | (uint32_t)next(in) << 8, 4);
        break;
    case 'd':
        add(out, number(in), 4);
        break;
    case 'u': /* the files must stay ours to be cleared away */
    case 'g':
        add(out, next(in) % 4, 4);
        break;
    case 'q':
        add(out, number(in), 8);
        break;
    case 'n':
        add_name(out, in);
        break;
    case 'w':
        code = next(in) % 18;
        add(out, code, 2);
        while (code-- > 0)
            add_name(out, in);
        break;
    default: /* D */
        code = next(in);
        add(out, code, 4);
        while (code-- > 0)
            add(out, next(in), 1);
        break;
    }
}

/* Makes the message of one record; its tag where it has one. */
static GByteArray *make_message(struct session *s, struct input *in, uint8_t op, uint16_t *tag)
{
    GByteArray *out = g_byte_array_new();
    unsigned which = (op & 0x3f) % G_N_ELEMENTS(messages);
    uint8_t type = messages[which].type;

    *tag = s->tags++;
    add(out, 0, 4);
    add(out, type, 1);
    add(out, type == TVERSION ? 0xffff : *tag, 2);
    for (const char *field = messages[which].fields; *field != '\0'; field++)
        add_field(out, *field, in);
    for (unsigned i = 0; i < 4; i++)
        out->data[i] = (uint8_t)(out->len >> (8 * i));
    s->type[*tag] = type;
    if (type == RAW) {
        g_byte_array_remove_range(out, 0, 11);
        s->odd = true;
    } else if (type == TVERSION) { /* what was asked before may come to nothing */
        s->odd = true;
    } else if (type == TFLUSH) {
        uint16_t old = (uint16_t)(out->data[7] | out->data[8] << 8);

        if (old < *tag)
            s->optional[old] = true;
    } else if (type == TLOCK) { /* may wait until the end */
        s->optional[*tag] = true;
    }
    if (op & 0x40 && out->len > 0) {
        uint8_t at = next(in);

        out->data[at % out->len] = next(in);
        s->odd = true;
    }
    return out;
}

static void take_reply(struct session *s, const uint8_t *bytes, uint32_t size)
{
    uint16_t tag = (uint16_t)(bytes[5] | bytes[6] << 8);

    if (memmem(bytes, size, secret, sizeof secret - 1) != NULL)
        die("a reply has bytes from outside the export");
    if (s->odd)
        return;
    if (tag >= s->tags || s->type[tag] == 0)
        die("a reply to what was not asked");
    if (s->answered[tag])
        die("two replies to one request");
    if (bytes[4] != s->type[tag] + 1 && bytes[4] != RLERROR)
        die("a reply of another type");
    s->answered[tag] = true;
}

static void take_replies(struct session *s)
{
    while (s->in->len >= 7) {
        const uint8_t *b = s->in->data;
        uint32_t size = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;

        if (size < 7 || size > 1024 * 1024)
            die("a reply of a wrong size");
        if (size > s->in->len)
            return;
        take_reply(s, b, size);
        g_byte_array_remove_range(s->in, 0, size);
    }
}

/* Reads what is there; with `wait`, waits for something. */
static void pump(struct session *s, bool wait, bool to_send)
{
    struct pollfd pfd = {.fd = s->fd, .events = (short)(POLLIN | (to_send ? POLLOUT : 0))};
    uint8_t buffer[16384];
    ssize_t n;

    if (s->ended)
        return;
    if (wait && poll(&pfd, 1, PATIENCE * 1000) == 0)
        die("the server says nothing");
    while ((n = recv(s->fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0)
        g_byte_array_append(s->in, buffer, (guint)n);
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        s->ended = true;
    take_replies(s);
}

static void send_all(struct session *s, const uint8_t *bytes, size_t size)
{
    while (size > 0 && !s->ended) {
        ssize_t n = send(s->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            s->ended = true;
        } else {
            pump(s, true, true);
        }
    }
}

static void await(struct session *s, uint16_t tag)
{
    while (!s->ended && !s->odd && !s->answered[tag] && !s->optional[tag])
        pump(s, true, false);
}

static void begin(struct session *s)
{
    static const uint8_t version[] = "\x15\0\0\0\x64\xff\xff\x00\x20\0\0\x08\0"
                                     "9P2000.L";
    g_autoptr(GByteArray) attach = g_byte_array_new();
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    g_strlcpy(address.sun_path, socket_path, sizeof address.sun_path);
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("cannot connect");
    s->in = g_byte_array_new();
    s->odd = true; /* Rversion has no tag of ours */
    send_all(s, version, sizeof version - 1);
    while (!s->ended && s->in->len == 0) {
        struct pollfd pfd = {.fd = s->fd, .events = POLLIN};
        uint8_t buffer[64];
        ssize_t n = poll(&pfd, 1, PATIENCE * 1000) == 1 ? recv(s->fd, buffer, 21, 0) : 0;

        if (n != 21 || buffer[4] != TVERSION + 1)
            die("no Rversion");
        break;
    }
    s->odd = false;
    add(attach, 7 + 4 + 4 + 2 + 2 + 4 + 4, 4);
    add(attach, 104, 1);
    add(attach, s->tags, 2);
    add(attach, 0, 4);
    add(attach, 0xffffffff, 4);
    add(attach, 0, 2);
    add(attach, 4, 2);
    g_byte_array_append(attach, (const uint8_t *)"fuzz", 4);
    add(attach, geteuid(), 4);
    s->type[s->tags++] = 104;
    send_all(s, attach->data, attach->len);
    await(s, 0);
}

static void end(struct session *s)
{
    bool odd = s->odd, early = s->ended;

    shutdown(s->fd, SHUT_WR);
    while (!s->ended)
        pump(s, true, false);
    close(s->fd);
    if (!odd && early)
        die("the server ended a session of good messages");
    for (uint16_t tag = 0; !odd && tag < s->tags; tag++)
        if (!s->answered[tag] && !s->optional[tag])
            die("a request without a reply");
    g_byte_array_unref(s->in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct session s = {.fd = -1};
    unsigned fds;

    if (top == NULL)
        start();
    make_tree();
    begin(&s);
    for (unsigned i = 0; i < RECORDS && in.at < in.end && !s.ended; i++) {
        uint8_t op = next(&in);
        uint16_t tag;
        g_autoptr(GByteArray) message = make_message(&s, &in, op, &tag);

        send_all(&s, message->data, message->len);
        if (op & 0x80)
            await(&s, tag);
    }
    end(&s);
    check_outside();
    fds = count_fds();
    if (fds_at_first == 0)
        fds_at_first = fds;
    else if (fds > fds_at_first + FDS_MORE)
        die("descriptors are left behind");
    return 0;
}
