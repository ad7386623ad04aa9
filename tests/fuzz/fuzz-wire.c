/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the wire codec. Promise: whatever bytes a client sends, decoding reads nothing
 * outside of the message, every string that it gives is terminated and lies inside of it, and
 * writing a reply of any size into any room never goes beyond that room.
 *
 * The input is a stream of messages, as a connection gets them.
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "src/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

static void check_str(const uint8_t *bytes, size_t size, const char *str, uint16_t len)
{
    const uint8_t *at = (const uint8_t *)str;

    check(strlen(str) == len);
    if (len > 0)
        check(at >= bytes && at + len < bytes + size);
}

static void write_reply(const struct wire_msg *msg, size_t room)
{
    uint8_t *bytes = malloc(room > 0 ? room : 1);
    struct qid qid = {1, 2, 3};
    struct wire_out out;
    size_t used;

    check(bytes != NULL);
    wire_begin(&out, bytes, room, (uint8_t)(msg->type + 1), msg->tag);
    wire_put_str(&out, msg->name, msg->name_len);
    for (uint16_t i = 0; i < msg->nwname; i++) {
        wire_put_qid(&out, &qid);
        wire_put_str(&out, msg->wname[i], msg->wname_len[i]);
    }
    wire_put64(&out, msg->offset);
    wire_patch32(&out, P9_HEADER, msg->count);
    used = wire_finish(&out);
    check(used <= room);
    if (used > 0)
        check(wire_peek_size(bytes) == used);
    free(bytes);
}

static void one_message(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size);
    struct wire_msg msg;

    check(bytes != NULL);
    memcpy(bytes, data, size);
    if (wire_decode(bytes, size, &msg) == 0) {
        check_str(bytes, size, msg.name, msg.name_len);
        check_str(bytes, size, msg.name2, msg.name2_len);
        check(msg.nwname <= P9_MAXWELEM);
        for (uint16_t i = 0; i < msg.nwname; i++)
            check_str(bytes, size, msg.wname[i], msg.wname_len[i]);
        if (msg.data != NULL)
            check(msg.data >= bytes && msg.data + msg.count == bytes + size);
        check(wire_type_name(msg.type)[0] == 'T');
        for (size_t room = 0; room < 64; room += 7)
            write_reply(&msg, room);
        write_reply(&msg, 8192);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size >= 4) {
        uint32_t length = wire_peek_size(data);

        if (length < P9_HEADER || length > size)
            break;
        one_message(data, length);
        data += length;
        size -= length;
    }
    /* And the rest as if its size were right. */
    if (size >= P9_HEADER && size <= 65536)
        one_message(data, size);
    return 0;
}
