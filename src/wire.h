/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes to messages and back: the only place that knows how 9P lays its integers and strings out.
 *
 * Pure: no I/O, no allocation, no fids. Every read is checked against the end of the message, as
 * every byte comes from a client that may be hostile; therefore fuzzed (tests/fuzz/fuzz-wire.c).
 */
#ifndef WIRE_H
#define WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "src/proto.h"
#include "src/qid.h"

/* One request. Strings are NUL-terminated, and point into the message that was decoded, as does
 * `data`. Which members are set depends on the type; the others are 0. */
struct wire_msg {
    uint32_t size; /* of the whole message */
    uint8_t type;
    uint16_t tag;
    uint32_t fid;   /* the fid, dfid, afid or directory that the message is about */
    uint32_t fid2;  /* newfid, dfid, newdirfid or afid: the second one */
    uint32_t flags; /* Tlopen, Tlcreate, Tunlinkat, Txattrcreate, Tlock; Tfsync: datasync */
    uint32_t mode;
    uint32_t uid; /* Tsetattr; Tattach: n_uname */
    uint32_t gid;
    uint32_t major, minor;
    uint32_t count;    /* Tread, Twrite, Treaddir */
    uint32_t msize;    /* Tversion */
    uint32_t valid;    /* Tsetattr */
    uint32_t proc_id;  /* Tlock, Tgetlock */
    uint16_t oldtag;   /* Tflush */
    uint16_t nwname;   /* Twalk */
    uint8_t lock_type; /* Tlock, Tgetlock */
    uint64_t offset;   /* Tread, Twrite, Treaddir; Tlock, Tgetlock: start */
    uint64_t length;   /* Tlock, Tgetlock; Tsetattr: size; Txattrcreate: attr_size */
    uint64_t mask;     /* Tgetattr */
    uint64_t atime_sec, atime_nsec, mtime_sec, mtime_nsec;
    const char *name;  /* the name; Trenameat: oldname; Tversion: version; Tattach, Tauth: aname */
    const char *name2; /* Trenameat: newname; Tsymlink: target; Tattach: uname; Tlock: client_id */
    uint16_t name_len, name2_len;
    const uint8_t *data; /* Twrite: `count` bytes */

    /* The first `nwname` of each; what follows them is not set at all. */
    const char *wname[P9_MAXWELEM];
    uint16_t wname_len[P9_MAXWELEM];
};

/* The size that a header declares; `bytes` has at least 4. */
uint32_t wire_peek_size(const uint8_t *bytes);

/*
 * Decodes the message of exactly `size` bytes (size[4] included, at least P9_HEADER). Strings are
 * moved over their length prefix inside `bytes`, to make room for their NUL: a message can be
 * decoded once.
 * Returns 0; -EOPNOTSUPP for a type that is not known; -EPROTO when it is truncated or has bytes
 * left over; -EINVAL for a NUL inside a string or too many names. type and tag are set always.
 */
int wire_decode(uint8_t *bytes, size_t size, struct wire_msg *msg);

/* The header alone: type, tag and size; the rest is 0. */
void wire_head(const uint8_t *bytes, size_t size, struct wire_msg *msg);

/* A reply being written. `overflow` is set once something did not fit, and nothing more is written.
 */
struct wire_out {
    uint8_t *bytes;
    size_t size; /* room */
    size_t used;
    bool overflow;
};

/* Begins a reply; the size is filled in by wire_finish(), which returns it (0: overflow). */
void wire_begin(struct wire_out *out, uint8_t *bytes, size_t size, uint8_t type, uint16_t tag);
size_t wire_finish(struct wire_out *out);
void wire_error(struct wire_out *out, uint16_t tag, int error); /* Rlerror; `error` is positive */

/* Room for so many bytes more, or NULL. What has many fields takes room for all of them at once. */
static inline uint8_t *wire_room(struct wire_out *out, size_t bytes)
{
    uint8_t *at;

    if (out->overflow || out->size - out->used < bytes) {
        out->overflow = true;
        return NULL;
    }
    at = out->bytes + out->used;
    out->used += bytes;
    return at;
}

/* Write an integer at `at`, and tell where the next one goes. */
static inline uint8_t *wire_at8(uint8_t *at, uint8_t value)
{
    *at = value;
    return at + 1;
}

static inline uint8_t *wire_at16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static inline uint8_t *wire_at32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static inline uint8_t *wire_at64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static inline uint8_t *wire_at_qid(uint8_t *at, const struct qid *qid)
{
    return wire_at64(wire_at32(wire_at8(at, qid->type), qid->version), qid->path);
}

void wire_put8(struct wire_out *out, uint8_t value);
void wire_put16(struct wire_out *out, uint16_t value);
void wire_put32(struct wire_out *out, uint32_t value);
void wire_put64(struct wire_out *out, uint64_t value);
void wire_put_str(struct wire_out *out, const char *str, size_t len);
void wire_put_qid(struct wire_out *out, const struct qid *qid);
/* An entry of Rreaddir. */
void wire_put_entry(struct wire_out *out, const struct qid *qid, uint64_t offset, uint8_t type,
                    const char *name, uint16_t len);
/* Overwrites 4 bytes that were written before, at `at`. */
void wire_patch32(struct wire_out *out, size_t at, uint32_t value);

/* "Twalk" and the like; "?" for what is not known. */
const char *wire_type_name(uint8_t type);

#endif
