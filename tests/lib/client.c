/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tests' own 9P2000.L client: bytes, frames, tags, and a function for each message.
 * It must not know anything of the server's code.
 */
#include "config.h"

#include "tests/lib/client.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int open_unix(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof sa.sun_path)
        return -1;
    strcpy(sa.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int open_tcp(const char *host_port)
{
    const char *colon = strrchr(host_port, ':');
    g_autofree char *host = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL, *a;
    int fd = -1, one = 1;

    if (colon == NULL)
        return -1;
    host = g_strndup(host_port, colon - host_port);
    if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
        return -1;
    for (a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void free_frame(gpointer frame)
{
    g_byte_array_unref(frame);
}

struct client *client_of_fd(int fd)
{
    struct client *c = g_new0(struct client, 1);

    c->fd = fd;
    c->msize = 8192;
    c->timeout_ms = 60000;
    c->next_tag = 1;
    c->next_fid = 1000;
    c->in = g_byte_array_new();
    c->parked = g_hash_table_new_full(NULL, NULL, NULL, free_frame);
    return c;
}

struct client *client_connect(const char *addr)
{
    int fd = -1;

    if (g_str_has_prefix(addr, "unix:"))
        fd = open_unix(addr + 5);
    else if (g_str_has_prefix(addr, "tcp:"))
        fd = open_tcp(addr + 4);
    return fd >= 0 ? client_of_fd(fd) : NULL;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    close(c->fd);
    g_byte_array_unref(c->in);
    g_hash_table_unref(c->parked);
    g_free(c);
}

void client_leave(struct client *c)
{
    GByteArray *frame = NULL;

    shutdown(c->fd, SHUT_WR);
    while (client_recv(c, &frame) == 0)
        g_clear_pointer(&frame, g_byte_array_unref);
    client_close(c);
}

guint32 client_fid(struct client *c)
{
    return c->next_fid++;
}

/* Bytes. */

static void put(GByteArray *b, guint64 value, guint bytes)
{
    guint8 raw[8];

    for (guint i = 0; i < bytes; i++)
        raw[i] = value >> (8 * i);
    g_byte_array_append(b, raw, bytes);
}

static void put_string(GByteArray *b, const void *s, gsize len)
{
    put(b, len, 2);
    g_byte_array_append(b, s, len);
}

struct cursor {
    const guint8 *data;
    gsize left;
    gboolean bad;
};

static guint64 take(struct cursor *r, guint bytes)
{
    guint64 value = 0;

    if (r->left < bytes) {
        r->bad = TRUE;
        r->left = 0;
        return 0;
    }
    for (guint i = 0; i < bytes; i++)
        value |= (guint64)r->data[i] << (8 * i);
    r->data += bytes;
    r->left -= bytes;
    return value;
}

static const guint8 *take_bytes(struct cursor *r, gsize len)
{
    const guint8 *at = r->data;

    if (r->left < len) {
        r->bad = TRUE;
        r->left = 0;
        return NULL;
    }
    r->data += len;
    r->left -= len;
    return at;
}

static char *take_string(struct cursor *r)
{
    gsize len = take(r, 2);
    const guint8 *s = take_bytes(r, len);

    return r->bad ? NULL : g_strndup((const char *)s, len);
}

static void take_qid(struct cursor *r, struct client_qid *qid)
{
    qid->type = take(r, 1);
    qid->version = take(r, 4);
    qid->path = take(r, 8);
}

static GByteArray *vpack(guint8 type, guint16 tag, const char *fmt, va_list ap)
{
    GByteArray *b = g_byte_array_new();
    guint32 size;

    put(b, 0, 4);
    put(b, type, 1);
    put(b, tag, 2);
    for (; *fmt != '\0'; fmt++) {
        switch (*fmt) {
        case 'b':
            put(b, va_arg(ap, int), 1);
            break;
        case 'w':
            put(b, va_arg(ap, int), 2);
            break;
        case 'd':
            put(b, va_arg(ap, guint32), 4);
            break;
        case 'q':
            put(b, va_arg(ap, guint64), 8);
            break;
        case 's': {
            const char *s = va_arg(ap, const char *);
            put_string(b, s, strlen(s));
            break;
        }
        case 'S': {
            gsize len = va_arg(ap, gsize);
            put_string(b, va_arg(ap, const void *), len);
            break;
        }
        case 'D': {
            gsize len = va_arg(ap, gsize);
            put(b, len, 4);
            g_byte_array_append(b, va_arg(ap, const void *), len);
            break;
        }
        case 'L': {
            const char *const *list = va_arg(ap, const char *const *);
            guint n = 0;

            while (list != NULL && list[n] != NULL)
                n++;
            put(b, n, 2);
            for (guint i = 0; i < n; i++)
                put_string(b, list[i], strlen(list[i]));
            break;
        }
        default:
            g_error("client: no such format letter %c", *fmt);
        }
    }
    size = b->len;
    for (guint i = 0; i < 4; i++)
        b->data[i] = size >> (8 * i);
    return b;
}

static gboolean vunpack(const GByteArray *frame, const char *fmt, va_list *ap)
{
    struct cursor r = {frame->data + 7, frame->len - 7, FALSE};

    for (; *fmt != '\0'; fmt++) {
        switch (*fmt) {
        case 'b':
            *va_arg(*ap, guint8 *) = take(&r, 1);
            break;
        case 'w':
            *va_arg(*ap, guint16 *) = take(&r, 2);
            break;
        case 'd':
            *va_arg(*ap, guint32 *) = take(&r, 4);
            break;
        case 'q':
            *va_arg(*ap, guint64 *) = take(&r, 8);
            break;
        case 's':
            *va_arg(*ap, char **) = take_string(&r);
            break;
        case 'D': {
            GByteArray **data = va_arg(*ap, GByteArray **);
            gsize len = take(&r, 4);
            const guint8 *at = take_bytes(&r, len);

            *data = g_byte_array_new();
            if (at != NULL)
                g_byte_array_append(*data, at, len);
            break;
        }
        case 'Q':
            take_qid(&r, va_arg(*ap, struct client_qid *));
            break;
        case 'A': {
            guint *n = va_arg(*ap, guint *);
            struct client_qid *qids = va_arg(*ap, struct client_qid *);

            *n = take(&r, 2);
            if (*n > 16)
                return FALSE;
            for (guint i = 0; i < *n; i++)
                take_qid(&r, &qids[i]);
            break;
        }
        default:
            g_error("client: no such format letter %c", *fmt);
        }
    }
    return !r.bad && r.left == 0;
}

GByteArray *client_pack(guint8 type, guint16 tag, const char *fmt, ...)
{
    GByteArray *b;
    va_list ap;

    va_start(ap, fmt);
    b = vpack(type, tag, fmt, ap);
    va_end(ap);
    return b;
}

gboolean client_unpack(const GByteArray *frame, const char *fmt, ...)
{
    gboolean ok;
    va_list ap;

    va_start(ap, fmt);
    ok = vunpack(frame, fmt, &ap);
    va_end(ap);
    return ok;
}

/* Frames. */

static int fill(struct client *c, gint64 deadline)
{
    guint8 chunk[65536];
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    gint64 left = (deadline - g_get_monotonic_time()) / 1000;
    ssize_t n;
    int rc = poll(&p, 1, left > 0 ? left : 0);

    if (rc == 0)
        return CLIENT_TIMEOUT;
    if (rc < 0)
        return errno == EINTR ? 0 : CLIENT_EOF;
    n = recv(c->fd, chunk, sizeof chunk, 0);
    if (n <= 0)
        return n < 0 && errno == EINTR ? 0 : CLIENT_EOF;
    if (c->in_pos > 0 && c->in_pos == c->in->len) {
        g_byte_array_set_size(c->in, 0);
        c->in_pos = 0;
    }
    g_byte_array_append(c->in, chunk, n);
    return 0;
}

/* A server that has many unread replies may stop reading: while there is no room to send, this
 * takes in what has come, as any client that pipelines must. */
int client_send_raw(struct client *c, const void *bytes, gsize len)
{
    gint64 deadline = g_get_monotonic_time() + c->timeout_ms * (gint64)1000;
    const guint8 *p = bytes;

    while (len > 0) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0) {
            p += n;
            len -= n;
        } else if (errno == EAGAIN) {
            struct pollfd room = {.fd = c->fd, .events = POLLIN | POLLOUT};
            gint64 left = (deadline - g_get_monotonic_time()) / 1000;
            int rc = poll(&room, 1, left > 0 ? left : 0);

            if (rc == 0)
                return CLIENT_TIMEOUT;
            if (rc > 0 && (room.revents & POLLIN) && (rc = fill(c, deadline)) != 0)
                return rc;
        } else if (errno != EINTR) {
            return CLIENT_EOF;
        }
    }
    return 0;
}

int client_recv(struct client *c, GByteArray **frame)
{
    gint64 deadline = g_get_monotonic_time() + c->timeout_ms * (gint64)1000;

    for (;;) {
        struct cursor r = {c->in->data + c->in_pos, c->in->len - c->in_pos, FALSE};
        int rc;

        if (r.left >= 4) {
            guint32 size = take(&r, 4);

            if (size < 7 || size > MAX(c->msize, 8192))
                return CLIENT_BAD;
            if (r.left >= size - 4) {
                *frame = g_byte_array_sized_new(size);
                g_byte_array_append(*frame, c->in->data + c->in_pos, size);
                c->in_pos += size;
                if (c->in_pos > 1 << 20) {
                    g_byte_array_remove_range(c->in, 0, c->in_pos);
                    c->in_pos = 0;
                }
                return 0;
            }
        }
        rc = fill(c, deadline);
        if (rc != 0)
            return rc;
    }
}

guint8 client_frame_type(const GByteArray *frame)
{
    return frame->data[4];
}

guint16 client_frame_tag(const GByteArray *frame)
{
    return frame->data[5] | frame->data[6] << 8;
}

/* Tags. */

static int recv_tag(struct client *c, guint16 tag, GByteArray **frame)
{
    gpointer found;

    if (g_hash_table_lookup_extended(c->parked, GUINT_TO_POINTER(tag), NULL, &found)) {
        *frame = g_byte_array_ref(found);
        g_hash_table_remove(c->parked, GUINT_TO_POINTER(tag));
        return 0;
    }
    for (;;) {
        int rc = client_recv(c, frame);

        if (rc != 0)
            return rc;
        if (client_frame_tag(*frame) == tag)
            return 0;
        g_hash_table_insert(c->parked, GUINT_TO_POINTER((guint)client_frame_tag(*frame)), *frame);
        *frame = NULL; /* the table's now */
    }
}

static int vwait(struct client *c, int tag, guint8 rtype, const char *fmt, va_list *ap)
{
    g_autoptr(GByteArray) frame = NULL;
    guint32 ecode = 0;
    int rc;

    if (tag < 0)
        return tag;
    rc = recv_tag(c, tag, &frame);
    if (rc != 0)
        return rc;
    if (client_frame_type(frame) == RLERROR) {
        if (!client_unpack(frame, "d", &ecode) || ecode == 0 || ecode > 4095)
            return CLIENT_BAD;
        return ecode;
    }
    if (client_frame_type(frame) != rtype || !vunpack(frame, fmt, ap))
        return CLIENT_BAD;
    return 0;
}

static int vpost(struct client *c, guint8 type, const char *fmt, va_list ap)
{
    guint16 tag = type == TVERSION ? NOTAG : c->next_tag;
    g_autoptr(GByteArray) frame = vpack(type, tag, fmt, ap);
    int rc;

    if (type != TVERSION)
        c->next_tag = c->next_tag >= 60000 ? 1 : c->next_tag + 1;
    rc = client_send_raw(c, frame->data, frame->len);
    return rc != 0 ? rc : tag;
}

int client_post(struct client *c, guint8 type, const char *fmt, ...)
{
    va_list ap;
    int tag;

    va_start(ap, fmt);
    tag = vpost(c, type, fmt, ap);
    va_end(ap);
    return tag;
}

int client_wait(struct client *c, int tag, guint8 rtype, const char *fmt, ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = vwait(c, tag, rtype, fmt, &ap);
    va_end(ap);
    return rc;
}

int client_rpc(struct client *c, guint8 type, const char *fmt, ...)
{
    va_list ap, reply;
    const char *reply_fmt;
    int rc;

    va_start(ap, fmt);
    va_copy(reply, ap);
    rc = vpost(c, type, fmt, ap);
    va_end(ap);
    /* how vpack advanced a va_list is not visible here: step over the request's fields again */
    for (; *fmt != '\0'; fmt++) {
        switch (*fmt) {
        case 'b':
        case 'w':
            (void)va_arg(reply, int);
            break;
        case 'd':
            (void)va_arg(reply, guint32);
            break;
        case 'q':
            (void)va_arg(reply, guint64);
            break;
        case 'S':
        case 'D':
            (void)va_arg(reply, gsize);
            (void)va_arg(reply, const void *);
            break;
        default:
            (void)va_arg(reply, const void *);
        }
    }
    reply_fmt = va_arg(reply, const char *);
    rc = vwait(c, rc, type + 1, reply_fmt, &reply);
    va_end(reply);
    return rc;
}

/* Messages. */

int client_version(struct client *c, guint32 msize, const char *version, guint32 *got,
                   char **got_version)
{
    return client_rpc(c, TVERSION, "ds", msize, version, "ds", got, got_version);
}

int client_hello(struct client *c, guint32 msize)
{
    g_autofree char *version = NULL;
    guint32 got = 0;
    int rc = client_version(c, msize, "9P2000.L", &got, &version);

    if (rc != 0)
        return rc;
    if (g_strcmp0(version, "9P2000.L") != 0 || got > msize)
        return CLIENT_BAD;
    c->msize = got;
    return 0;
}

int client_attach(struct client *c, guint32 fid, guint32 uid, const char *aname,
                  struct client_qid *qid)
{
    struct client_qid dummy;

    return client_rpc(c, TATTACH, "ddssd", fid, NOFID, "", aname, uid, "Q", qid ? qid : &dummy);
}

int client_walk(struct client *c, guint32 fid, guint32 newfid, const char *const *names, guint *n,
                struct client_qid *qids)
{
    return client_rpc(c, TWALK, "ddL", fid, newfid, names, "A", n, qids);
}

int client_walk_path(struct client *c, guint32 fid, guint32 newfid, const char *path,
                     struct client_qid *qid)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    const char **at = g_newa(const char *, g_strv_length(names) + 1);
    struct client_qid qids[16];
    guint total = 0, done = 0;

    for (guint i = 0; names[i] != NULL; i++) {
        if (names[i][0] != '\0')
            at[total++] = names[i];
    }
    do {
        const char *part[17] = {NULL};
        guint want = MIN(total - done, 16), n = 0;
        int rc;

        memcpy(part, at + done, want * sizeof *part);
        rc = client_walk(c, done == 0 ? fid : newfid, newfid, part, &n, qids);
        if (rc == 0 && n < want)
            rc = ENOENT;
        if (rc != 0) {
            if (done > 0)
                client_clunk(c, newfid);
            return rc;
        }
        done += want;
        if (want > 0 && qid != NULL)
            *qid = qids[want - 1];
    } while (done < total);
    if (total == 0 && qid != NULL) {
        struct client_attr attr;
        int rc = client_getattr(c, newfid, GETATTR_BASIC, &attr);

        if (rc != 0)
            return rc;
        *qid = attr.qid;
    }
    return 0;
}

int client_clunk(struct client *c, guint32 fid)
{
    return client_rpc(c, TCLUNK, "d", fid, "");
}

int client_remove(struct client *c, guint32 fid)
{
    return client_rpc(c, TREMOVE, "d", fid, "");
}

int client_getattr(struct client *c, guint32 fid, guint64 mask, struct client_attr *a)
{
    return client_rpc(c, TGETATTR, "dq", fid, mask, "qQdddqqqqqqqqqqqqqqq", &a->valid, &a->qid,
                      &a->mode, &a->uid, &a->gid, &a->nlink, &a->rdev, &a->size, &a->blksize,
                      &a->blocks, &a->atime, &a->atime_ns, &a->mtime, &a->mtime_ns, &a->ctime,
                      &a->ctime_ns, &a->btime, &a->btime_ns, &a->gen, &a->data_version);
}

int client_setattr(struct client *c, guint32 fid, guint32 valid, const struct client_attr *a)
{
    return client_rpc(c, TSETATTR, "dddddqqqqq", fid, valid, a->mode, a->uid, a->gid, a->size,
                      a->atime, a->atime_ns, a->mtime, a->mtime_ns, "");
}

int client_lopen(struct client *c, guint32 fid, guint32 flags, struct client_qid *qid)
{
    struct client_qid dummy;
    guint32 iounit;

    return client_rpc(c, TLOPEN, "dd", fid, flags, "Qd", qid ? qid : &dummy, &iounit);
}

int client_lcreate(struct client *c, guint32 fid, const char *name, guint32 flags, guint32 mode,
                   struct client_qid *qid)
{
    struct client_qid dummy;
    guint32 iounit;

    return client_rpc(c, TLCREATE, "dsddd", fid, name, flags, mode, (guint32)getegid(), "Qd",
                      qid ? qid : &dummy, &iounit);
}

int client_read(struct client *c, guint32 fid, guint64 offset, guint32 count, GByteArray **data)
{
    *data = NULL;
    return client_rpc(c, TREAD, "dqd", fid, offset, count, "D", data);
}

int client_write(struct client *c, guint32 fid, guint64 offset, gsize count, const void *data,
                 guint32 *written)
{
    return client_rpc(c, TWRITE, "dqD", fid, offset, count, data, "d", written);
}

int client_fsync(struct client *c, guint32 fid)
{
    return client_rpc(c, TFSYNC, "dd", fid, 0u, "");
}

int client_mkdir(struct client *c, guint32 dfid, const char *name, guint32 mode,
                 struct client_qid *qid)
{
    struct client_qid dummy;

    return client_rpc(c, TMKDIR, "dsdd", dfid, name, mode, (guint32)getegid(), "Q",
                      qid ? qid : &dummy);
}

int client_symlink(struct client *c, guint32 dfid, const char *name, const char *target,
                   struct client_qid *qid)
{
    struct client_qid dummy;

    return client_rpc(c, TSYMLINK, "dssd", dfid, name, target, (guint32)getegid(), "Q",
                      qid ? qid : &dummy);
}

int client_mknod(struct client *c, guint32 dfid, const char *name, guint32 mode, guint32 major,
                 guint32 minor, struct client_qid *qid)
{
    struct client_qid dummy;

    return client_rpc(c, TMKNOD, "dsdddd", dfid, name, mode, major, minor, (guint32)getegid(), "Q",
                      qid ? qid : &dummy);
}

int client_link(struct client *c, guint32 dfid, guint32 fid, const char *name)
{
    return client_rpc(c, TLINK, "dds", dfid, fid, name, "");
}

int client_readlink(struct client *c, guint32 fid, char **target)
{
    *target = NULL;
    return client_rpc(c, TREADLINK, "d", fid, "s", target);
}

int client_rename(struct client *c, guint32 fid, guint32 dfid, const char *name)
{
    return client_rpc(c, TRENAME, "dds", fid, dfid, name, "");
}

int client_renameat(struct client *c, guint32 odfid, const char *oname, guint32 ndfid,
                    const char *nname)
{
    return client_rpc(c, TRENAMEAT, "dsds", odfid, oname, ndfid, nname, "");
}

int client_unlinkat(struct client *c, guint32 dfid, const char *name, guint32 flags)
{
    return client_rpc(c, TUNLINKAT, "dsd", dfid, name, flags, "");
}

int client_lock(struct client *c, guint32 fid, guint8 type, guint64 start, guint64 length,
                guint32 proc, const char *id, guint8 *status)
{
    return client_rpc(c, TLOCK, "dbdqqds", fid, type, 0u, start, length, proc, id, "b", status);
}

int client_getlock(struct client *c, guint32 fid, guint8 *type, guint64 start, guint64 length,
                   guint32 proc, const char *id)
{
    g_autofree char *owner = NULL;

    return client_rpc(c, TGETLOCK, "dbqqds", fid, *type, start, length, proc, id, "bqqds", type,
                      &start, &length, &proc, &owner);
}

int client_xattrwalk(struct client *c, guint32 fid, guint32 newfid, const char *name, guint64 *size)
{
    return client_rpc(c, TXATTRWALK, "dds", fid, newfid, name, "q", size);
}

int client_xattrcreate(struct client *c, guint32 fid, const char *name, guint64 size, guint32 flags)
{
    return client_rpc(c, TXATTRCREATE, "dsqd", fid, name, size, flags, "");
}

int client_getxattr(struct client *c, guint32 fid, const char *name, GByteArray **value)
{
    guint32 newfid = client_fid(c);
    guint64 size = 0;
    int rc;

    *value = NULL;
    rc = client_xattrwalk(c, fid, newfid, name, &size);
    if (rc != 0)
        return rc;
    *value = g_byte_array_new();
    while ((*value)->len < size) {
        g_autoptr(GByteArray) part = NULL;

        rc = client_read(c, newfid, (*value)->len, MIN(size, c->msize - 24), &part);
        if (rc == 0 && part->len == 0)
            rc = CLIENT_BAD;
        if (rc != 0)
            break;
        g_byte_array_append(*value, part->data, part->len);
    }
    client_clunk(c, newfid);
    return rc;
}

int client_setxattr(struct client *c, guint32 fid, const char *name, const void *value, gsize len,
                    guint32 flags)
{
    guint32 newfid = client_fid(c), written = 0;
    int rc = client_walk_path(c, fid, newfid, "", NULL), rc2;

    if (rc != 0)
        return rc;
    rc = client_xattrcreate(c, newfid, name, len, flags);
    for (gsize done = 0; rc == 0 && done < len; done += written) {
        rc = client_write(c, newfid, done, MIN(len - done, c->msize - 24),
                          (const char *)value + done, &written);
        if (rc == 0 && written == 0)
            rc = CLIENT_BAD;
    }
    rc2 = client_clunk(c, newfid);
    return rc != 0 ? rc : rc2;
}

void client_dirent_free(struct client_dirent *entry)
{
    g_free(entry->name);
    g_free(entry);
}

int client_readdir(struct client *c, guint32 fid, guint64 offset, guint32 count, GPtrArray *entries)
{
    g_autoptr(GByteArray) data = NULL;
    struct cursor r = {0};
    int rc = client_rpc(c, TREADDIR, "dqd", fid, offset, count, "D", &data);

    if (rc != 0)
        return rc;
    if (data->len > count)
        return CLIENT_BAD;
    r.data = data->data;
    r.left = data->len;
    while (r.left > 0) {
        struct client_dirent *e = g_new0(struct client_dirent, 1);

        take_qid(&r, &e->qid);
        e->offset = take(&r, 8);
        e->type = take(&r, 1);
        e->name = take_string(&r);
        if (r.bad) {
            client_dirent_free(e);
            return CLIENT_BAD;
        }
        g_ptr_array_add(entries, e);
    }
    return 0;
}

int client_readdir_all(struct client *c, guint32 dfid, guint32 count, GPtrArray **entries)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    guint32 fid = client_fid(c);
    guint64 offset = 0;
    guint before;
    int rc = client_walk_path(c, dfid, fid, "", NULL);

    if (rc != 0)
        return rc;
    rc = client_lopen(c, fid, L_RDONLY | L_DIRECTORY, NULL);
    do {
        before = list->len;
        if (rc == 0)
            rc = client_readdir(c, fid, offset, count, list);
        if (list->len > before)
            offset = ((struct client_dirent *)list->pdata[list->len - 1])->offset;
    } while (rc == 0 && list->len > before);
    client_clunk(c, fid);
    if (rc == 0)
        *entries = g_steal_pointer(&list);
    return rc;
}
