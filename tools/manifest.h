/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The manifest of a tree: which id each file had, and how it is known again where its data was
 * copied to. qidmap-format(5) describes the file. A reader takes nothing on trust: bytes, ranges,
 * order and checksum are all looked at, and memory is bounded whatever is in the file.
 *
 * Must not know of stores, of the tree itself, nor of terminals.
 */
#ifndef TOOLS_MANIFEST_H
#define TOOLS_MANIFEST_H

#include <glib.h>

#include "store/qidmap.h"

#define MANIFEST_VERSION  1
#define MANIFEST_PATH_MAX (1024 * 1024) /* bytes of a path, and more than any path of a syscall */
#define MANIFEST_FS_MAX   1000000
/* An id below or from here on is none: see qidmap-format(5). */
#define MANIFEST_ID_MIN 32
#define MANIFEST_ID_END (G_MAXUINT64 - 255)

/* The first line. */
struct manifest_header {
    guint8 store[16]; /* uuid of the store that gave the ids */
    const char *tree; /* the folder that was exported, as it was named; any bytes */
    gint64 time;      /* seconds since 1970, when the reading began */
};

/* A filesystem of the tree. Two of one manifest may have the same `fs`: an overlay, whose files
 * show several device numbers. Inode numbers (`link`) are to be compared within one `n` only. */
struct manifest_fs {
    guint32 n;               /* its number here: 1, 2, 3 ... */
    guint32 fs;              /* its number in that store; 0: it has no row there */
    struct qidmap_fsid fsid; /* its strongest identity; kind 0: none was found */
    char type[32];           /* "ext4" */
    const char *path;        /* where it was met first, as in struct manifest_file */
};

enum manifest_type {
    MANIFEST_UNKNOWN, /* the file could not be looked at: it has a name, and nothing else */
    MANIFEST_FILE,
    MANIFEST_DIR,
    MANIFEST_SYMLINK,
    MANIFEST_CHAR,
    MANIFEST_BLOCK,
    MANIFEST_FIFO,
    MANIFEST_SOCKET
};

/* One name. A file with several hard links comes once for each. */
struct manifest_file {
    const char *path; /* below the tree, without a leading '/': "" is the tree itself. Any bytes */
    enum manifest_type type;
    guint32 fs; /* `n` of its filesystem, whose row came before; 0 with UNKNOWN */
    guint64 id; /* its qid path; 0: it has none */
    guint64 size;
    gint64 mtime_s; /* since 1970, and what is to be added: 0 ... 999,999,999 */
    guint32 mtime_ns;
    guint32 links;   /* names that the file has on its filesystem; 1: no hard-link group, and */
    guint64 link;    /* then 0; else the group: files of one `fs` with the same number are one */
    gboolean unread; /* DIR: not all that is in it could be listed */
};

/*
 * The order of paths: each name is compared as unsigned bytes, so a directory is followed by all
 * that is below it: "a", "a/z", "a.b". Less than, equal to, or greater than 0.
 */
int manifest_path_compare(const char *a, const char *b);

/* Counts of the last line. */
struct manifest_end {
    guint64 files;  /* names */
    guint64 ids;    /* of these, with an id */
    guint64 unread; /* directories not listed whole, and names of type UNKNOWN */
};

/* ---- reading ----------------------------------------------------------------------------------
 */

typedef struct manifest_reader manifest_reader;

/* Begins with the open file `fd`, from where it stands; takes the descriptor, also on failure.
 * Reads the first line. A pipe will do. 0 or a negative errno: -EBADMSG it is not a manifest, or
 * altered, or ends too early, -EPROTO it is of a newer version, and those of read(2). */
int manifest_reader_new(int fd, manifest_reader **reader, struct qidmap_error *error);

/* Opens the file `path`; "-": the standard input. */
int manifest_reader_open(const char *path, manifest_reader **reader, struct qidmap_error *error);

/*
 * 1 and the next file; 0 at the end, after the counts and the checksum were found right; or a
 * negative errno, as above, the text with the number of the line. Nothing that was read is to be
 * relied on before the 0 came. `file->path` is the reader's, until the next call.
 */
int manifest_reader_next(manifest_reader *reader, struct manifest_file *file,
                         struct qidmap_error *error);

/* The first line; with its strings valid as long as the reader is. */
const struct manifest_header *manifest_reader_header(const manifest_reader *reader);

/* The filesystem number `n`, of those that were met so far; NULL: there is none. The same life. */
const struct manifest_fs *manifest_reader_fs(const manifest_reader *reader, guint32 n);

/* How many names there will be, for people alone, as nothing of it is checked yet; 0: not known, as
 * with a pipe. */
guint64 manifest_reader_expected(const manifest_reader *reader);

/* The counts of the last line; all 0 before it was read. */
const struct manifest_end *manifest_reader_end(const manifest_reader *reader);

/* NULL is allowed. */
void manifest_reader_close(manifest_reader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(manifest_reader, manifest_reader_close)

/* ---- writing ----------------------------------------------------------------------------------
 */

typedef struct manifest_writer manifest_writer;

/* Begins a manifest in the open file `fd`, which stays the caller's. */
manifest_writer *manifest_writer_new(int fd, const struct manifest_header *header);

/* Adds a filesystem, in order of its number and before the first file that names it; its path is
 * that of a file that comes next. */
void manifest_writer_fs(manifest_writer *writer, const struct manifest_fs *fs);

/* Adds a file, in the order of paths. 0, or the negative errno of a write that failed, now or
 * before; what follows is then thrown away. */
int manifest_writer_file(manifest_writer *writer, const struct manifest_file *file);

/* Writes the last line, and all that waits to be written. 0 or a negative errno. */
int manifest_writer_end(manifest_writer *writer);

/* The counts so far. */
const struct manifest_end *manifest_writer_counts(const manifest_writer *writer);

/* Without manifest_writer_end() the manifest is not whole, and every reader sees that. */
void manifest_writer_free(manifest_writer *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(manifest_writer, manifest_writer_free)

/* "dir"; static storage. */
const char *manifest_type_name(enum manifest_type type);

#endif
