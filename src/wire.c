/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes to messages and back. See wire.h.
 *
 * A message is described by a string, one character for each field, in the order of the wire; the
 * decoder walks over that string. So each message is one line, and all checks stand in one place.
 */
#include "config.h"

#include "src/wire.h"

#include <errno.h>

struct reader {
    uint8_t *at;
    uint8_t *end;
    int error;
};

static inline uint64_t take(struct reader *in, unsigned bytes)
{
    uint64_t value = 0;

    if (in->error != 0 || (size_t)(in->end - in->at) < bytes) {
        if (in->error == 0)
            in->error = -EPROTO;
        return 0;
    }
    memcpy(&value, in->at, bytes);
    in->at += bytes;
    return le64toh(value);
}

static const char *take_str(struct reader *in, uint16_t *len)
{
    uint16_t n = (uint16_t)take(in, 2);
    uint8_t *str;

    *len = 0;
    if (in->error != 0)
        return "";
    if ((size_t)(in->end - in->at) < n) {
        in->error = -EPROTO;
        return "";
    }
    /* The two bytes of the length make room for the NUL. */
    str = in->at - 2;
    memmove(str, in->at, n);
    str[n] = 0;
    in->at += n;
    if (memchr(str, 0, n) != NULL) {
        in->error = -EINVAL;
        return "";
    }
    *len = n;
    return (const char *)str;
}

/*
 * The fields, by letter:
 *   f fid      F fid2     g gid      u uid      m mode     l flags    c count    o offset
 *   L length   M mask     v valid    t oldtag   z msize    y lock_type p proc_id j major  k minor
 *   n name     N name2    W nwname and names    D count and that many bytes  T times of Tsetattr
 *   ? the message may end here
 */
static const char *layout_of(uint8_t type)
{
    switch (type) {
    case P9_TVERSION:
        return "zn";
    case P9_TAUTH:
        return "FNnu";
    case P9_TATTACH:
        return "fFNnu";
    case P9_TFLUSH:
        return "t";
    case P9_TWALK:
        return "fFW";
    case P9_TREAD:
        return "foc";
    case P9_TWRITE:
        return "foD";
    case P9_TCLUNK:
        return "f";
    case P9_TREMOVE:
        return "f";
    case P9_TSTATFS:
        return "f";
    case P9_TLOPEN:
        return "fl";
    case P9_TLCREATE:
        return "fnlmg";
    case P9_TSYMLINK:
        return "fnNg";
    case P9_TMKNOD:
        return "fnmjkg";
    case P9_TRENAME:
        return "fFn";
    case P9_TREADLINK:
        return "f";
    case P9_TGETATTR:
        return "fM";
    case P9_TSETATTR:
        return "fvmugLT";
    case P9_TXATTRWALK:
        return "fFn";
    case P9_TXATTRCREATE:
        return "fnLl";
    case P9_TREADDIR:
        return "foc";
    case P9_TFSYNC:
        return "f?l"; /* some clients leave datasync out */
    case P9_TLOCK:
        return "fyloLpN";
    case P9_TGETLOCK:
        return "fyoLpN";
    case P9_TLINK:
        return "Ffn"; /* dfid, fid */
    case P9_TMKDIR:
        return "fnmg";
    case P9_TRENAMEAT:
        return "fnFN";
    case P9_TUNLINKAT:
        return "fnl";
    default:
        return NULL;
    }
}

static void take_names(struct reader *in, struct wire_msg *msg)
{
    uint16_t count = (uint16_t)take(in, 2);

    if (in->error == 0 && count > P9_MAXWELEM)
        in->error = -EINVAL;
    for (uint16_t i = 0; i < count && in->error == 0; i++) {
        msg->wname[i] = take_str(in, &msg->wname_len[i]);
        msg->nwname = (uint16_t)(i + 1);
    }
}

static void take_data(struct reader *in, struct wire_msg *msg)
{
    uint32_t count = (uint32_t)take(in, 4);

    if (in->error != 0)
        return;
    if ((size_t)(in->end - in->at) < count) {
        in->error = -EPROTO;
        return;
    }
    msg->count = count;
    msg->data = in->at;
    in->at += count;
}

static void take_field(struct reader *in, struct wire_msg *msg, char field)
{
    switch (field) {
    case 'f':
        msg->fid = (uint32_t)take(in, 4);
        break;
    case 'F':
        msg->fid2 = (uint32_t)take(in, 4);
        break;
    case 'g':
        msg->gid = (uint32_t)take(in, 4);
        break;
    case 'u':
        msg->uid = (uint32_t)take(in, 4);
        break;
    case 'm':
        msg->mode = (uint32_t)take(in, 4);
        break;
    case 'l':
        msg->flags = (uint32_t)take(in, 4);
        break;
    case 'c':
        msg->count = (uint32_t)take(in, 4);
        break;
    case 'v':
        msg->valid = (uint32_t)take(in, 4);
        break;
    case 'z':
        msg->msize = (uint32_t)take(in, 4);
        break;
    case 'p':
        msg->proc_id = (uint32_t)take(in, 4);
        break;
    case 'j':
        msg->major = (uint32_t)take(in, 4);
        break;
    case 'k':
        msg->minor = (uint32_t)take(in, 4);
        break;
    case 't':
        msg->oldtag = (uint16_t)take(in, 2);
        break;
    case 'y':
        msg->lock_type = (uint8_t)take(in, 1);
        break;
    case 'o':
        msg->offset = take(in, 8);
        break;
    case 'L':
        msg->length = take(in, 8);
        break;
    case 'M':
        msg->mask = take(in, 8);
        break;
    case 'T':
        msg->atime_sec = take(in, 8);
        msg->atime_nsec = take(in, 8);
        msg->mtime_sec = take(in, 8);
        msg->mtime_nsec = take(in, 8);
        break;
    case 'n':
        msg->name = take_str(in, &msg->name_len);
        break;
    case 'N':
        msg->name2 = take_str(in, &msg->name2_len);
        break;
    case 'W':
        take_names(in, msg);
        break;
    case 'D':
        take_data(in, msg);
        break;
    default:
        break;
    }
}

uint32_t wire_peek_size(const uint8_t *bytes)
{
    uint32_t size;

    memcpy(&size, bytes, sizeof size);
    return le32toh(size);
}

void wire_head(const uint8_t *bytes, size_t size, struct wire_msg *msg)
{
    memset(msg, 0, offsetof(struct wire_msg, wname));
    msg->name = msg->name2 = "";
    msg->size = (uint32_t)size;
    msg->type = bytes[4];
    msg->tag = (uint16_t)(bytes[5] | bytes[6] << 8);
}

int wire_decode(uint8_t *bytes, size_t size, struct wire_msg *msg)
{
    struct reader in = {bytes + P9_HEADER, bytes + size, 0};
    const char *layout;

    if (size < P9_HEADER)
        return -EPROTO;
    wire_head(bytes, size, msg);
    layout = layout_of(msg->type);
    if (layout == NULL)
        return -EOPNOTSUPP;
    for (; *layout != '\0' && in.error == 0; layout++) {
        if (*layout == '?' && in.at == in.end)
            break;
        take_field(&in, msg, *layout);
    }
    if (in.error == 0 && in.at != in.end)
        in.error = -EPROTO;
    return in.error;
}

void wire_begin(struct wire_out *out, uint8_t *bytes, size_t size, uint8_t type, uint16_t tag)
{
    uint8_t *at;

    *out = (struct wire_out){bytes, size, 0, false};
    at = wire_room(out, P9_HEADER);
    if (at != NULL)
        wire_at16(wire_at8(wire_at32(at, 0), type), tag);
}

size_t wire_finish(struct wire_out *out)
{
    if (out->overflow)
        return 0;
    wire_patch32(out, 0, (uint32_t)out->used);
    return out->used;
}

void wire_error(struct wire_out *out, uint16_t tag, int error)
{
    wire_begin(out, out->bytes, out->size, P9_RLERROR, tag);
    wire_put32(out, (uint32_t)error);
}

void wire_put8(struct wire_out *out, uint8_t value)
{
    uint8_t *at = wire_room(out, sizeof value);

    if (at != NULL)
        wire_at8(at, value);
}

void wire_put16(struct wire_out *out, uint16_t value)
{
    uint8_t *at = wire_room(out, sizeof value);

    if (at != NULL)
        wire_at16(at, value);
}

void wire_put32(struct wire_out *out, uint32_t value)
{
    uint8_t *at = wire_room(out, sizeof value);

    if (at != NULL)
        wire_at32(at, value);
}

void wire_put64(struct wire_out *out, uint64_t value)
{
    uint8_t *at = wire_room(out, sizeof value);

    if (at != NULL)
        wire_at64(at, value);
}

void wire_put_str(struct wire_out *out, const char *str, size_t len)
{
    uint8_t *at;

    if (len > UINT16_MAX) {
        out->overflow = true;
        return;
    }
    wire_put16(out, (uint16_t)len);
    at = wire_room(out, len);
    if (at != NULL && len > 0)
        memcpy(at, str, len);
}

void wire_put_qid(struct wire_out *out, const struct qid *qid)
{
    uint8_t *at = wire_room(out, P9_QID_SIZE);

    if (at != NULL)
        wire_at_qid(at, qid);
}

void wire_put_entry(struct wire_out *out, const struct qid *qid, uint64_t offset, uint8_t type,
                    const char *name, uint16_t len)
{
    uint8_t *at = wire_room(out, (size_t)P9_QID_SIZE + 8 + 1 + 2 + len);

    if (at == NULL)
        return;
    at = wire_at16(wire_at8(wire_at64(wire_at_qid(at, qid), offset), type), len);
    memcpy(at, name, len);
}

void wire_patch32(struct wire_out *out, size_t at, uint32_t value)
{
    if (out->overflow || out->used < 4 || at > out->used - 4)
        return;
    wire_at32(out->bytes + at, value);
}

const char *wire_type_name(uint8_t type)
{
    switch (type) {
    case P9_TVERSION:
        return "Tversion";
    case P9_TAUTH:
        return "Tauth";
    case P9_TATTACH:
        return "Tattach";
    case P9_TFLUSH:
        return "Tflush";
    case P9_TWALK:
        return "Twalk";
    case P9_TREAD:
        return "Tread";
    case P9_TWRITE:
        return "Twrite";
    case P9_TCLUNK:
        return "Tclunk";
    case P9_TREMOVE:
        return "Tremove";
    case P9_TSTATFS:
        return "Tstatfs";
    case P9_TLOPEN:
        return "Tlopen";
    case P9_TLCREATE:
        return "Tlcreate";
    case P9_TSYMLINK:
        return "Tsymlink";
    case P9_TMKNOD:
        return "Tmknod";
    case P9_TRENAME:
        return "Trename";
    case P9_TREADLINK:
        return "Treadlink";
    case P9_TGETATTR:
        return "Tgetattr";
    case P9_TSETATTR:
        return "Tsetattr";
    case P9_TXATTRWALK:
        return "Txattrwalk";
    case P9_TXATTRCREATE:
        return "Txattrcreate";
    case P9_TREADDIR:
        return "Treaddir";
    case P9_TFSYNC:
        return "Tfsync";
    case P9_TLOCK:
        return "Tlock";
    case P9_TGETLOCK:
        return "Tgetlock";
    case P9_TLINK:
        return "Tlink";
    case P9_TMKDIR:
        return "Tmkdir";
    case P9_TRENAMEAT:
        return "Trenameat";
    case P9_TUNLINKAT:
        return "Tunlinkat";
    default:
        return "?";
    }
}
