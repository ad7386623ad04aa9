/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages in words. See trace.h.
 *
 * Each message is one line of a table: words, and after a % a letter for a field. For requests the
 * letters are those of wire.c, as a request is decoded already; a reply is read here, byte by byte,
 * and every read is checked against its end.
 */
#include "config.h"

#include "src/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
    char *at;
    size_t size, used;
    bool full;
};

static void put(struct text *text, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void put(struct text *text, const char *format, ...)
{
    size_t room = text->size - text->used;
    va_list args;
    int n;

    if (text->full)
        return;
    va_start(args, format);
    n = vsnprintf(text->at + text->used, room, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < room) {
        text->used += (size_t)n;
        return;
    }
    text->full = true;
    if (text->used > text->size - 4)
        text->used = text->size - 4;
    memcpy(text->at + text->used, "...", 4);
}

static void put_name(struct text *text, const char *name, size_t len)
{
    put(text, "'");
    for (size_t i = 0; i < len && !text->full; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c < 0x20 || c >= 0x7f || c == '\'' || c == '\\')
            put(text, "\\x%02x", c);
        else
            put(text, "%c", c);
    }
    put(text, "'");
}

static void put_fid(struct text *text, uint32_t fid)
{
    if (fid == P9_NOFID)
        put(text, "none");
    else
        put(text, "%u", fid);
}

static void put_id(struct text *text, uint32_t id)
{
    if (id == P9_NONUNAME)
        put(text, "none");
    else
        put(text, "%u", id);
}

static void put_lock_type(struct text *text, uint8_t type)
{
    static const char *const names[] = {"read", "write", "unlock"};

    if (type < G_N_ELEMENTS(names))
        put(text, "%s", names[type]);
    else
        put(text, "%u", type);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* f fid   F fid2   n name   N name2   W names   l, x flags, octal and hexadecimal   d flags
 * m mode   u uid   g gid   c count   o offset   L length   M mask   v valid   t oldtag   z msize
 * y lock type   p proc_id   j major   k minor   T times */
static const char *const requests[256] = {
    [P9_TVERSION] = "msize %z version %n",
    [P9_TAUTH] = "afid %F uname %N aname %n uid %u",
    [P9_TATTACH] = "fid %f afid %F uname %N aname %n uid %u",
    [P9_TFLUSH] = "oldtag %t",
    [P9_TWALK] = "fid %f newfid %F names%W",
    [P9_TREAD] = "fid %f offset %o count %c",
    [P9_TWRITE] = "fid %f offset %o count %c",
    [P9_TCLUNK] = "fid %f",
    [P9_TREMOVE] = "fid %f",
    [P9_TSTATFS] = "fid %f",
    [P9_TLOPEN] = "fid %f flags %l",
    [P9_TLCREATE] = "fid %f name %n flags %l mode %m gid %g",
    [P9_TSYMLINK] = "fid %f name %n target %N gid %g",
    [P9_TMKNOD] = "dfid %f name %n mode %m major %j minor %k gid %g",
    [P9_TRENAME] = "fid %f dfid %F name %n",
    [P9_TREADLINK] = "fid %f",
    [P9_TGETATTR] = "fid %f mask %M",
    [P9_TSETATTR] = "fid %f valid %v mode %m uid %u gid %g size %L %T",
    [P9_TXATTRWALK] = "fid %f newfid %F name %n",
    [P9_TXATTRCREATE] = "fid %f name %n size %L flags %x",
    [P9_TREADDIR] = "fid %f offset %o count %c",
    [P9_TFSYNC] = "fid %f datasync %d",
    [P9_TLOCK] = "fid %f type %y flags %d start %o length %L proc %p client %N",
    [P9_TGETLOCK] = "fid %f type %y start %o length %L proc %p client %N",
    [P9_TLINK] = "dfid %F fid %f name %n",
    [P9_TMKDIR] = "dfid %f name %n mode %m gid %g",
    [P9_TRENAMEAT] = "olddirfid %f name %n newdirfid %F newname %N",
    [P9_TUNLINKAT] = "dirfid %f name %n flags %x",
};

static void put_field(struct text *text, const struct wire_msg *msg, char field)
{
    switch (field) {
    case 'f':
        put_fid(text, msg->fid);
        break;
    case 'F':
        put_fid(text, msg->fid2);
        break;
    case 'n':
        put_name(text, msg->name, msg->name_len);
        break;
    case 'N':
        put_name(text, msg->name2, msg->name2_len);
        break;
    case 'W':
        for (unsigned i = 0; i < msg->nwname; i++) {
            put(text, " ");
            put_name(text, msg->wname[i], msg->wname_len[i]);
        }
        break;
    case 'l':
        put(text, "0%o", msg->flags);
        break;
    case 'x':
        put(text, "0x%x", msg->flags);
        break;
    case 'd':
        put(text, "%u", msg->flags);
        break;
    case 'm':
        put(text, "0%o", msg->mode);
        break;
    case 'u':
        put_id(text, msg->uid);
        break;
    case 'g':
        put_id(text, msg->gid);
        break;
    case 'c':
        put(text, "%u", msg->count);
        break;
    case 'o':
        put(text, "%" G_GUINT64_FORMAT, msg->offset);
        break;
    case 'L':
        put(text, "%" G_GUINT64_FORMAT, msg->length);
        break;
    case 'M':
        put(text, "0x%" G_GINT64_MODIFIER "x", msg->mask);
        break;
    case 'v':
        put(text, "0x%x", msg->valid);
        break;
    case 't':
        put(text, "%u", msg->oldtag);
        break;
    case 'z':
        put(text, "%u", msg->msize);
        break;
    case 'y':
        put_lock_type(text, msg->lock_type);
        break;
    case 'p':
        put(text, "%u", msg->proc_id);
        break;
    case 'j':
        put(text, "%u", msg->major);
        break;
    case 'k':
        put(text, "%u", msg->minor);
        break;
    case 'T':
        put(text,
            "atime %" G_GUINT64_FORMAT ".%09" G_GUINT64_FORMAT " mtime %" G_GUINT64_FORMAT
            ".%09" G_GUINT64_FORMAT,
            msg->atime_sec, msg->atime_nsec, msg->mtime_sec, msg->mtime_nsec);
        break;
    default:
        g_assert_not_reached();
    }
}

void trace_format_request(const struct wire_msg *msg, char *line, size_t size)
{
    const char *at = requests[msg->type];
    struct text text = {line, size, 0, false};

    put(&text, "tag %u ", msg->tag);
    if (at == NULL) {
        put(&text, "type %u, unknown; %u bytes", msg->type, msg->size);
        return;
    }
    put(&text, "%s ", wire_type_name(msg->type));
    for (; *at != '\0'; at++)
        if (*at == '%')
            put_field(&text, msg, *++at);
        else
            put(&text, "%c", *at);
}

/* ---- replies --------------------------------------------------------------------------------- */

/* 1 2 4 8 integers   o 4 bytes, octal   X 8 bytes, hexadecimal   x 4 bytes, hexadecimal   s string
 * q qid   w nwqid and qids   D count of data   e errno   y lock type   S status of a lock */
static const struct {
    uint8_t type;
    const char *name, *layout;
} replies[] = {
    {P9_RLERROR, "Rlerror", "%e"},
    {P9_RVERSION, "Rversion", "msize %4 version %s"},
    {P9_RAUTH, "Rauth", "qid %q"},
    {P9_RATTACH, "Rattach", "qid %q"},
    {P9_RFLUSH, "Rflush", ""},
    {P9_RWALK, "Rwalk", "qids%w"},
    {P9_RREAD, "Rread", "count %D"},
    {P9_RWRITE, "Rwrite", "count %4"},
    {P9_RCLUNK, "Rclunk", ""},
    {P9_RREMOVE, "Rremove", ""},
    {P9_RSTATFS, "Rstatfs",
     "type %x bsize %4 blocks %8 bfree %8 bavail %8 files %8 ffree %8 fsid %X namelen %4"},
    {P9_RLOPEN, "Rlopen", "qid %q iounit %4"},
    {P9_RLCREATE, "Rlcreate", "qid %q iounit %4"},
    {P9_RSYMLINK, "Rsymlink", "qid %q"},
    {P9_RMKNOD, "Rmknod", "qid %q"},
    {P9_RRENAME, "Rrename", ""},
    {P9_RREADLINK, "Rreadlink", "target %s"},
    {P9_RGETATTR, "Rgetattr",
     "valid %X qid %q mode %o uid %4 gid %4 nlink %8 rdev %X size %8 blksize %8 blocks %8 "
     "atime %8.%8 mtime %8.%8 ctime %8.%8 btime %8.%8 gen %8 data_version %8"},
    {P9_RSETATTR, "Rsetattr", ""},
    {P9_RXATTRWALK, "Rxattrwalk", "size %8"},
    {P9_RXATTRCREATE, "Rxattrcreate", ""},
    {P9_RREADDIR, "Rreaddir", "count %D"},
    {P9_RFSYNC, "Rfsync", ""},
    {P9_RLOCK, "Rlock", "%S"},
    {P9_RGETLOCK, "Rgetlock", "type %y start %8 length %8 proc %4 client %s"},
    {P9_RLINK, "Rlink", ""},
    {P9_RMKDIR, "Rmkdir", "qid %q"},
    {P9_RRENAMEAT, "Rrenameat", ""},
    {P9_RUNLINKAT, "Runlinkat", ""},
};

struct bytes {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static uint64_t take(struct bytes *in, unsigned size)
{
    uint64_t value = 0;

    if (in->left < size) {
        in->bad = true;
        in->left = 0;
        return 0;
    }
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)in->at[i] << (8 * i);
    in->at += size;
    in->left -= size;
    return value;
}

static void put_string(struct text *text, struct bytes *in)
{
    size_t len = take(in, 2);

    if (in->left < len) {
        in->bad = true;
        return;
    }
    put_name(text, (const char *)in->at, len);
    in->at += len;
    in->left -= len;
}

/* d directory, l symlink, f anything else; then version and path. */
static void put_qid(struct text *text, struct bytes *in)
{
    unsigned type = (unsigned)take(in, 1), version = (unsigned)take(in, 4);
    uint64_t path = take(in, 8);

    if (!in->bad)
        put(text, "%s:%u:0x%" G_GINT64_MODIFIER "x",
            type & 0x80   ? "dir"
            : type & 0x02 ? "link"
                          : "file",
            version, path);
}

static void put_errno(struct text *text, uint32_t number)
{
#ifdef HAVE_STRERRORNAME_NP
    const char *name = number <= INT32_MAX ? strerrorname_np((int)number) : NULL;

    if (name != NULL) {
        put(text, "%s", name);
        return;
    }
#endif
    put(text, "errno %u", number);
}

static void put_status(struct text *text, uint8_t status)
{
    static const char *const names[] = {"success", "blocked", "error", "grace"};

    if (status < G_N_ELEMENTS(names))
        put(text, "%s", names[status]);
    else
        put(text, "status %u", status);
}

static void put_reply_field(struct text *text, struct bytes *in, char field)
{
    unsigned count;

    switch (field) {
    case '1':
    case '2':
    case '4':
    case '8':
        put(text, "%" G_GUINT64_FORMAT, take(in, (unsigned)(field - '0')));
        break;
    case 'o':
        put(text, "0%o", (unsigned)take(in, 4));
        break;
    case 'x':
        put(text, "0x%x", (unsigned)take(in, 4));
        break;
    case 'X':
        put(text, "0x%" G_GINT64_MODIFIER "x", take(in, 8));
        break;
    case 's':
        put_string(text, in);
        break;
    case 'q':
        put_qid(text, in);
        break;
    case 'w':
        count = (unsigned)take(in, 2);
        for (unsigned i = 0; i < count && !in->bad; i++) {
            put(text, " ");
            put_qid(text, in);
        }
        break;
    case 'D':
        put(text, "%u", (unsigned)take(in, 4));
        in->left = 0; /* what follows is data */
        break;
    case 'e':
        put_errno(text, (uint32_t)take(in, 4));
        break;
    case 'y':
        put_lock_type(text, (uint8_t)take(in, 1));
        break;
    case 'S':
        put_status(text, (uint8_t)take(in, 1));
        break;
    default:
        g_assert_not_reached();
    }
}

void trace_format_reply(const uint8_t *bytes, size_t bytes_size, char *line, size_t size)
{
    struct text text = {line, size, 0, false};
    struct bytes in = {bytes, bytes_size, false};
    const char *layout = NULL, *name = NULL;
    unsigned type, tag;

    take(&in, 4);
    type = (unsigned)take(&in, 1);
    tag = (unsigned)take(&in, 2);
    for (size_t i = 0; i < G_N_ELEMENTS(replies) && layout == NULL; i++)
        if (replies[i].type == type) {
            layout = replies[i].layout;
            name = replies[i].name;
        }
    if (in.bad || layout == NULL) {
        put(&text, "tag %u type %u, unknown; %zu bytes", tag, type, bytes_size);
        return;
    }
    put(&text, "tag %u %s", tag, name);
    if (layout[0] != '\0')
        put(&text, " ");
    for (; *layout != '\0' && !in.bad; layout++)
        if (*layout == '%')
            put_reply_field(&text, &in, *++layout);
        else
            put(&text, "%c", *layout);
    if (in.bad)
        put(&text, " (cut short)");
    else if (in.left > 0)
        put(&text, " (and %zu bytes)", in.left);
}
