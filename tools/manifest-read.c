/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads a manifest line by line, and looks at what one line alone cannot show: that paths ascend
 * and stand below a directory that came before, that filesystems are counted through, that the
 * counts and the checksum of the last line are right, and that it is the last.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "tools/manifest-line.h"

#define PIECE (256 * 1024)
#define TAIL  1024 /* more than the last line has */

struct manifest_reader {
    int fd;
    guint8 *bytes; /* what was read; the next line begins at `at` */
    gsize room, at, filled;
    gboolean eof;
    guint64 lines; /* number of the line that was read last */
    int failed;    /* an error is told once more */
    gboolean done;
    struct manifest_line line;
    GString *again;
    GString *before;     /* path of the file before */
    gboolean before_dir; /* that one is a directory */
    GArray *fs;          /* struct manifest_fs, their paths owned */
    char *tree;
    struct manifest_header header;
    struct manifest_end counted, end;
    guint64 expected; /* names, as the last line says; 0: not known */
    XXH3_state_t *sum;
};

int manifest_path_compare(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    /* '/' ends a name, and so comes before all that a name can go on with */
    guint x = *a == '/' ? 1 : *a == '\0' ? 0 : (guint)(guint8)*a + 1;
    guint y = *b == '/' ? 1 : *b == '\0' ? 0 : (guint)(guint8)*b + 1;
    return x < y ? -1 : x > y;
}

static int fail(manifest_reader *r, int code, struct qidmap_error *error, const char *text)
{
    r->failed = code;
    if (error != NULL) {
        error->code = code;
        if (r->lines > 0) {
            g_snprintf(error->text, sizeof error->text,
                       "the manifest is not right in line %" G_GUINT64_FORMAT
                       ": %s; nothing of it was used: make it again",
                       r->lines, text);
        } else {
            g_snprintf(error->text, sizeof error->text, "the manifest cannot be read: %s", text);
        }
    }
    return code;
}

/* ---- lines -----------------------------------------------------------------------------------
 */

/* Makes room for more bytes behind the line that begins at `at`. */
static void make_room(manifest_reader *r)
{
    if (r->at > 0) {
        memmove(r->bytes, r->bytes + r->at, r->filled - r->at);
        r->filled -= r->at;
        r->at = 0;
    }
    if (r->room - r->filled < PIECE / 2) {
        r->room *= 2;
        r->bytes = g_realloc(r->bytes, r->room);
    }
}

/* 1 and a line, without its newline; 0 at the end of the file, or a negative errno. */
static int next_line(manifest_reader *r, const char **bytes, gsize *size,
                     struct qidmap_error *error)
{
    gsize seen = 0;

    while (TRUE) {
        guint8 *begin = r->bytes + r->at;
        gsize have = r->filled - r->at;
        guint8 *newline = have > seen ? memchr(begin + seen, '\n', have - seen) : NULL;
        if (newline != NULL) {
            r->lines++;
            *bytes = (const char *)begin;
            *size = (gsize)(newline - begin);
            r->at += *size + 1;
            return 1;
        }
        seen = have;
        if (seen > MANIFEST_LINE_MAX) {
            r->lines++;
            return fail(r, -EBADMSG, error, "it is too long");
        }
        if (r->eof) {
            r->lines += have > 0;
            return have == 0 ? 0 : fail(r, -EBADMSG, error, "it ends in the middle");
        }
        make_room(r);
        ssize_t got = read(r->fd, r->bytes + r->filled, r->room - r->filled);
        if (got < 0 && errno != EINTR) {
            r->lines = 0;
            return fail(r, -errno, error, g_strerror(errno));
        }
        r->eof = got == 0;
        r->filled += got > 0 ? (gsize)got : 0;
    }
}

/* As next_line(), and parsed. The checksum covers all but the last line. */
static int next_row(manifest_reader *r, struct qidmap_error *error)
{
    const char *bytes;
    gsize size;
    int more = next_line(r, &bytes, &size, error);

    if (more <= 0) {
        return more;
    }
    const char *wrong = manifest_line_parse(bytes, size, &r->line, r->again);
    if (wrong != NULL) {
        return fail(r, -EBADMSG, error, wrong);
    }
    if (r->line.row != MANIFEST_ROW_END) {
        XXH3_128bits_update(r->sum, bytes, size + 1);
    }
    return 1;
}

/* ---- rows ------------------------------------------------------------------------------------
 */

/* Names between slashes, none of them empty, "." or "..". "" is the tree itself. */
static gboolean is_path(const char *path)
{
    while (*path != '\0') {
        gsize size = strcspn(path, "/");
        if (size == 0 || (size == 1 && path[0] == '.') ||
            (size == 2 && path[0] == '.' && path[1] == '.')) {
            return FALSE;
        }
        path += size;
        if (*path == '/' && *++path == '\0') {
            return FALSE;
        }
    }
    return TRUE;
}

/* Whether the file may come after the one before: behind it, and in a directory that is open. */
static const char *check_order(const manifest_reader *r, const struct manifest_file *file)
{
    const char *slash = strrchr(file->path, '/');
    gsize parent = slash != NULL ? (gsize)(slash - file->path) : 0;

    if (r->counted.files == 0) {
        return file->path[0] == '\0' ? NULL : "the tree itself does not come first";
    }
    if (manifest_path_compare(r->before->str, file->path) >= 0) {
        return "the paths do not ascend";
    }
    if (r->before->len < parent || memcmp(r->before->str, file->path, parent) != 0) {
        return "its directory did not come before it";
    }
    if (r->before->len == parent) {
        return r->before_dir ? NULL : "it stands below something that is no directory";
    }
    return parent == 0 || r->before->str[parent] == '/' ? NULL
                                                        : "its directory did not come before it";
}

static int take_file(manifest_reader *r, struct manifest_file *file, struct qidmap_error *error)
{
    const struct manifest_file *met = &r->line.file;
    const char *wrong = NULL;

    if (!is_path(met->path)) {
        wrong = "path is not a path below the tree";
    } else if (met->type != MANIFEST_UNKNOWN && (met->fs == 0 || met->fs > r->fs->len)) {
        wrong = "fs is of no filesystem that came before";
    } else {
        wrong = check_order(r, met);
    }
    if (wrong != NULL) {
        return fail(r, -EBADMSG, error, wrong);
    }
    g_string_assign(r->before, met->path);
    r->before_dir = met->type == MANIFEST_DIR;
    r->counted.files++;
    r->counted.ids += met->id != 0;
    r->counted.unread += met->unread || met->type == MANIFEST_UNKNOWN;
    *file = *met;
    return 1;
}

static int take_fs(manifest_reader *r, struct qidmap_error *error)
{
    struct manifest_fs fs = r->line.fs;

    if (fs.n != r->fs->len + 1 || fs.n > MANIFEST_FS_MAX) {
        return fail(r, -EBADMSG, error, "filesystems are not counted from 1 on");
    }
    if (!is_path(fs.path)) {
        return fail(r, -EBADMSG, error, "path is not a path below the tree");
    }
    fs.path = g_strdup(fs.path);
    g_array_append_val(r->fs, fs);
    return 1;
}

static int take_end(manifest_reader *r, struct qidmap_error *error)
{
    const struct manifest_end *end = &r->line.end;
    XXH128_canonical_t sum;
    const char *bytes;
    gsize size;

    XXH128_canonicalFromHash(&sum, XXH3_128bits_digest(r->sum));
    if (memcmp(sum.digest, r->line.sum, sizeof sum.digest) != 0) {
        return fail(r, -EBADMSG, error, "the checksum is another one: it was altered");
    }
    if (end->files != r->counted.files || end->ids != r->counted.ids ||
        end->unread != r->counted.unread) {
        return fail(r, -EBADMSG, error, "the counts are other ones");
    }
    if (r->counted.files == 0) {
        return fail(r, -EBADMSG, error, "the tree itself is missing");
    }
    int more = next_line(r, &bytes, &size, error);
    if (more != 0) {
        return more < 0 ? more : fail(r, -EBADMSG, error, "it comes after the last one");
    }
    r->end = *end;
    r->done = TRUE;
    return 0;
}

int manifest_reader_next(manifest_reader *r, struct manifest_file *file, struct qidmap_error *error)
{
    while (r->failed == 0 && !r->done) {
        int more = next_row(r, error);
        if (more < 0) {
            return more;
        }
        if (more == 0) {
            r->lines++;
            return fail(r, -EBADMSG, error, "the end is missing");
        }
        switch (r->line.row) {
        case MANIFEST_ROW_FILE:
            return take_file(r, file, error);
        case MANIFEST_ROW_END:
            return take_end(r, error);
        case MANIFEST_ROW_FS:
            if (take_fs(r, error) < 0) {
                return r->failed;
            }
            break;
        default:
            return fail(r, -EBADMSG, error, "a second first line");
        }
    }
    return r->failed != 0 ? fail(r, r->failed, error, "it was read before") : 0;
}

/* ---- the reader ------------------------------------------------------------------------------
 */

static int read_header(manifest_reader *r, struct qidmap_error *error)
{
    int more = next_row(r, error);

    if (more < 0) {
        return more;
    }
    if (more == 0 || r->line.row != MANIFEST_ROW_HEADER) {
        r->lines = 1;
        return fail(r, -EBADMSG, error, "it does not begin as a manifest does");
    }
    if (r->line.version != MANIFEST_VERSION) {
        return fail(r, -EPROTO, error, "it is of another version; use a newer qidmap");
    }
    r->header = r->line.header;
    r->tree = g_strdup(r->header.tree);
    r->header.tree = r->tree;
    return 0;
}

/* The last line of a file that is there as a whole; the reader goes on where it was. */
static guint64 read_expected(manifest_reader *r)
{
    char bytes[TAIL];
    struct stat st;
    gboolean is_file = fstat(r->fd, &st) == 0 && S_ISREG(st.st_mode);
    ssize_t n = is_file ? pread(r->fd, bytes, sizeof bytes, MAX(st.st_size - TAIL, 0)) : -1;
    const char *line = n > 1 && bytes[n - 1] == '\n' ? memrchr(bytes, '\n', (gsize)n - 1) : NULL;

    if (line == NULL ||
        manifest_line_parse(line + 1, (gsize)(bytes + n - 2 - line), &r->line, r->again) != NULL) {
        return 0;
    }
    return r->line.row == MANIFEST_ROW_END ? r->line.end.files : 0;
}

int manifest_reader_new(int fd, manifest_reader **reader, struct qidmap_error *error)
{
    manifest_reader *r = g_new0(manifest_reader, 1);

    r->fd = fd;
    r->room = PIECE;
    r->bytes = g_malloc(r->room);
    r->line.text = g_string_new(NULL);
    r->again = g_string_new(NULL);
    r->before = g_string_new(NULL);
    r->fs = g_array_new(FALSE, TRUE, sizeof(struct manifest_fs));
    r->sum = XXH3_createState();
    XXH3_128bits_reset(r->sum);
    r->expected = read_expected(r);
    int code = read_header(r, error);
    if (code < 0) {
        manifest_reader_close(r);
        return code;
    }
    *reader = r;
    return 0;
}

int manifest_reader_open(const char *path, manifest_reader **reader, struct qidmap_error *error)
{
    int fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                                    : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        int code = -errno;
        if (error != NULL) {
            error->code = code;
            g_snprintf(error->text, sizeof error->text, "the manifest cannot be opened: %s",
                       g_strerror(-code));
        }
        return code;
    }
    return manifest_reader_new(fd, reader, error);
}

const struct manifest_header *manifest_reader_header(const manifest_reader *r)
{
    return &r->header;
}

const struct manifest_fs *manifest_reader_fs(const manifest_reader *r, guint32 n)
{
    return n >= 1 && n <= r->fs->len ? &g_array_index(r->fs, struct manifest_fs, n - 1) : NULL;
}

guint64 manifest_reader_expected(const manifest_reader *r)
{
    return r->expected;
}

const struct manifest_end *manifest_reader_end(const manifest_reader *r)
{
    return &r->end;
}

void manifest_reader_close(manifest_reader *r)
{
    if (r == NULL) {
        return;
    }
    for (guint i = 0; i < r->fs->len; i++) {
        g_free((char *)g_array_index(r->fs, struct manifest_fs, i).path);
    }
    g_array_unref(r->fs);
    g_string_free(r->line.text, TRUE);
    g_string_free(r->again, TRUE);
    g_string_free(r->before, TRUE);
    XXH3_freeState(r->sum);
    g_free(r->bytes);
    g_free(r->tree);
    close(r->fd);
    g_free(r);
}
