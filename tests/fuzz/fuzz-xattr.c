/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target: the xattrs of a store, and the table of 2019. Promise: no bytes make a reader read
 * beyond them; an image that is accepted says the same after it was written again.
 *
 * Input: a byte that chooses: 0: an image; 1: the table of 2019; others: headers and first chunks
 * of both slots, each behind a byte with its size (128: the checksum of a header is put right).
 */
#include "config.h"

#include <stdint.h>

#include "store/crc.h"
#include "store/virtfs.h"
#include "store/xattr-record.h"
#include "tests/lib/fake-xattr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct copy {
    struct qm_image_writer *w;
    gboolean brief;
};

static int copy_meta(const struct qm_meta *meta, uint64_t home, void *data)
{
    struct copy *c = data;

    c->w = qm_image_writer_new(meta, home, c->brief);
    return 0;
}

static int copy_fs(const struct qidmap_fs *fs, void *data)
{
    struct qm_record r;
    struct qidmap_fs back;
    gboolean has_full;

    /* As the backend does: what has no place in the tables is refused. */
    qm_record_fs(&r, fs, FALSE);
    if (qm_parse_fs((struct qm_bytes){r.key, r.key_size}, (struct qm_bytes){r.value, r.value_size},
                    &back, &has_full) != 0)
        return -EUCLEAN;
    qm_image_put_fs(((struct copy *)data)->w, fs);
    return 0;
}

static int copy_affix(uint32_t n, uint32_t fs, uint64_t top, void *data)
{
    qm_image_put_affix(((struct copy *)data)->w, n, fs, top);
    return 0;
}

/* Reads an image and writes it again; NULL where it is refused. */
static GByteArray *write_again(const void *data, size_t size, gboolean brief)
{
    struct copy c = {NULL, brief};
    const struct qm_image_sink sink = {copy_meta, copy_fs, copy_affix, &c};
    int e = qm_image_read((struct qm_bytes){data, size}, &sink);
    GByteArray *out = c.w ? qm_image_writer_end(c.w) : NULL;

    if (e != 0)
        g_clear_pointer(&out, g_byte_array_unref);
    return out;
}

static void try_image(const uint8_t *data, size_t size)
{
    gboolean brief;

    for (brief = FALSE; brief <= TRUE; brief++) {
        GByteArray *once = write_again(data, size, brief), *twice;

        if (!once)
            return;
        twice = write_again(once->data, once->len, brief);
        g_assert_nonnull(twice);
        g_assert_cmpmem(once->data, once->len, twice->data, twice->len);
        g_byte_array_unref(once);
        g_byte_array_unref(twice);
    }
}

static int ignore_row(const struct qidmap_virtfs_entry *entry, void *data)
{
    (void)entry;
    (void)data;
    return 0;
}

static void try_slots(uint8_t how, const uint8_t *data, size_t size)
{
    static const char *const names[] = {"trusted.qidmap.a", "trusted.qidmap.a0", "trusted.qidmap.b",
                                        "trusted.qidmap.b0"};
    struct qm_xattr_dir dir;
    GByteArray *image = NULL;
    unsigned i;

    fake_reset();
    qm_xattr_sys = &fake_sys;
    for (i = 0; i < G_N_ELEMENTS(names) && size > 0; i++) {
        size_t part = MIN((size_t)data[0], size - 1);
        g_autofree uint8_t *value = g_malloc(part + 1);

        memcpy(value, data + 1, part);
        if ((how & 128) && i % 2 == 0 && part >= 12) {
            uint32_t crc = qm_crc32c(qm_crc32c(0, i ? "b" : "a", 1), value, part - 4);
            int k;

            for (k = 0; k < 4; k++)
                value[part - 4 + (size_t)k] = (uint8_t)(crc >> 8 * k);
        }
        g_hash_table_insert(fake.now, g_strdup(names[i]), g_bytes_new(value, part));
        data += part + 1;
        size -= part + 1;
    }
    if (qm_xattr_read(&dir, 0, &image, NULL) == 0)
        try_image(image->data, image->len);
    g_clear_pointer(&image, g_byte_array_unref);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 0)
        try_image(data + 1, size - 1);
    else if (data[0] == 1)
        (void)qm_virtfs_parse(data + 1, size - 1, ignore_row, NULL);
    else
        try_slots(data[0], data + 1, size - 1);
    return 0;
}
