/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes a manifest, in large pieces, and keeps the checksum of all lines. Memory does not grow
 * with the number of files.
 */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include <xxhash.h>

#include "tools/manifest-line.h"

#define PIECE (256 * 1024)

struct manifest_writer {
    int fd;
    int failed; /* 0, or the negative errno of the first write that failed */
    GString *waiting;
    XXH3_state_t *sum;
    struct manifest_end end;
};

static void flush(manifest_writer *w)
{
    const char *at = w->waiting->str;
    gsize left = w->waiting->len;

    while (left > 0 && w->failed == 0) {
        ssize_t written = write(w->fd, at, left);
        if (written >= 0) {
            at += written;
            left -= (gsize)written;
        } else if (errno != EINTR) {
            w->failed = -errno;
        }
    }
    g_string_truncate(w->waiting, 0);
}

/* Takes the line that was put behind `from`. */
static void added(manifest_writer *w, gsize from)
{
    XXH3_128bits_update(w->sum, w->waiting->str + from, w->waiting->len - from);
    if (w->waiting->len >= PIECE) {
        flush(w);
    }
}

manifest_writer *manifest_writer_new(int fd, const struct manifest_header *header)
{
    manifest_writer *w = g_new0(manifest_writer, 1);

    w->fd = fd;
    w->waiting = g_string_sized_new(PIECE + 4096);
    w->sum = XXH3_createState();
    XXH3_128bits_reset(w->sum);
    manifest_line_header(w->waiting, header);
    added(w, 0);
    return w;
}

void manifest_writer_fs(manifest_writer *w, const struct manifest_fs *fs)
{
    gsize from = w->waiting->len;
    manifest_line_fs(w->waiting, fs);
    added(w, from);
}

int manifest_writer_file(manifest_writer *w, const struct manifest_file *file)
{
    gsize from = w->waiting->len;

    if (w->failed == 0) {
        w->end.files++;
        w->end.ids += file->id != 0;
        w->end.unread += file->unread || file->type == MANIFEST_UNKNOWN;
        manifest_line_file(w->waiting, file);
        added(w, from);
    }
    return w->failed;
}

int manifest_writer_end(manifest_writer *w)
{
    XXH128_canonical_t sum;

    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(w->sum));
    manifest_line_end(w->waiting, &w->end, sum.digest);
    flush(w);
    return w->failed;
}

const struct manifest_end *manifest_writer_counts(const manifest_writer *w)
{
    return &w->end;
}

void manifest_writer_free(manifest_writer *w)
{
    if (w == NULL) {
        return;
    }
    g_string_free(w->waiting, TRUE);
    XXH3_freeState(w->sum);
    g_free(w);
}
