/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a survey of a tree found: its filesystems, and a compact record for each file. Filled by
 * survey_scan(), judged by survey_judge(), printed by cmd-survey.c.
 *
 * Memory: 16 bytes for each file and 4 to 12 for the table that finds hard links and bind mounts,
 * which is freed before the judging takes 8 to 16 for each file; for each directory its name and 16
 * bytes. No name of a file is kept: it is searched in its directory when it is wanted.
 */
#ifndef TOOLS_SURVEY_H
#define TOOLS_SURVEY_H

#include <glib.h>

#include "store/qidmap.h"
#include "tools/progress.h"

/* One filesystem as it was met: one st_dev with one identity. */
struct survey_fs {
    struct qidmap_identity *identity; /* NULL: could not be identified */
    char *problem;                    /* then: why */
    char *path;                       /* where it was first met */
    guint64 st_dev;
    guint64 files;
    guint32 number;     /* in the store that the judging makes */
    guint32 affix_rows; /* what qidmap needs, by the judging */
    guint64 full_rows;
    gboolean placeholders; /* no filesystem: the device number of btrfs placeholders */
    gboolean first;        /* not another st_dev of a filesystem that is listed above */
};

/* One file. `fs` is an index, with SURVEY_SPECIAL where survey.specials has the object key. */
#define SURVEY_SPECIAL 0x80000000u
#define SURVEY_NONE    G_MAXUINT32
struct survey_file {
    guint64 ino;
    guint32 fs;
    guint32 dir; /* that it is in; SURVEY_NONE: the surveyed tree itself */
};

struct survey {
    const char *root; /* as the caller named it */
    int root_fd;
    progress *progress;

    GPtrArray *fs;             /* of struct survey_fs */
    struct survey_file *files; /* in the order in which they were met */
    gsize n_files, files_room;
    GByteArray *specials; /* the keys of files that have one of their own, in order of the files:
                             struct survey_special, then the bytes of the handle */
    guint32 *slots;       /* hash table of `files`: index + 1, 0: empty */
    gsize n_slots;        /* a power of two */

    struct survey_dir *dirs;
    gsize n_dirs, dirs_room;
    char *names; /* of the directories, each with its NUL */
    gsize names_size, names_room;

    guint64 n_names;       /* names met, hard links counted apart */
    guint64 n_directories; /* among the files */
    guint64 unread;        /* directories that could not be read, or files not looked at */
    char *first_unread;
    int first_errno;
    guint64 n_full_likely; /* files that will probably need a row in the full map */
};

struct survey_dir {
    gsize name; /* offset */
    guint32 parent;
};

struct survey_special {
    guint8 kind; /* enum qidmap_object_kind: HANDLE or PLACEHOLDER */
    guint8 handle_size;
    guint8 reserved[2];
    gint32 handle_type;
    guint32 owner; /* index of the filesystem whose file it is */
    guint64 ino;   /* PLACEHOLDER: of the parent */
    guint64 ino2;
};

/* `root` and `progress` must outlive the survey. */
void survey_init(struct survey *survey, const char *root, progress *progress);
/* Scans the tree; FALSE after an error, which it told. */
gboolean survey_scan(struct survey *survey);
void survey_clear(struct survey *survey);

/* Adds a file; FALSE where it has been met. `special` may be NULL; its handle is behind it. */
gboolean survey_add(struct survey *survey, guint32 fs, guint64 ino, guint32 dir,
                    const struct survey_special *special, const guint8 *handle);
guint32 survey_add_dir(struct survey *survey, guint32 parent, const char *name);
void survey_forget_slots(struct survey *survey);

/* A name of the file number `at`; where it is gone, its directory and a note. Free with g_free().
 */
char *survey_name(const struct survey *survey, gsize at);

/* The path of a directory. Free with g_free(). */
char *survey_dir_path(const struct survey *survey, guint32 dir);

enum survey_way { SURVEY_RAW, SURVEY_XOR, SURVEY_HASH, SURVEY_REMAP, SURVEY_QIDMAP, SURVEY_WAYS };

/* What one way of making ids comes to. */
struct survey_verdict {
    const char *name;   /* for programs */
    const char *text;   /* for people: exactly what is computed */
    guint64 collisions; /* files whose id another file has as well, but for one of each id */
    guint64 refused;    /* files that get no id */
    double expected;    /* HASH: collisions by the birthday formula */
    guint64 id;         /* where there are collisions: one of the ids */
    gsize files[2];     /* and two files that have it */
};

/* Judges all ways; returns an exit status, and has told any error. */
int survey_judge(struct survey *survey, struct survey_verdict verdicts[SURVEY_WAYS]);

#endif
