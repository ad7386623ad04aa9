/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All mounts whose type a row of the store has are identified, with the settings of the operator,
 * and recognised together, as the daemon does it. A mount that lies below another one, or does not
 * answer, is kept as one that cannot be told.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/mounted.h"

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static char *unescape(const char *text)
{
    return g_strcompress(text); /* knows \ooo; no other escape is written there */
}

/* The types of the rows of the store. */
static GHashTable *types_of(qidmap_store *store)
{
    GHashTable *types = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(qidmap_iter) iter = NULL;
    struct qidmap_row row;

    if (qidmap_iter_open(store, &iter, NULL) != 0) {
        return types;
    }
    while (qidmap_iter_next(iter, &row, NULL) == 1 && row.kind == QIDMAP_ROW_FS) {
        struct qidmap_fs fs = {.size = sizeof fs};
        if (qidmap_fs_get(store, row.fs, &fs, NULL) == 0) {
            g_hash_table_add(types, g_strdup(fs.hints.type));
        }
    }
    return types;
}

static gboolean is_visible(int fd, guint64 id)
{
    struct statx st;
    return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) == 0 &&
           (st.stx_mask & STATX_MNT_ID) != 0 && st.stx_mnt_id == id;
}

static int identify(const sight *sight, int fd, struct qidmap_identity *identity)
{
    struct qidmap_identify_options options = {.size = sizeof options};
    int code = qidmap_identify(fd, NULL, identity, NULL);

    if (code < 0) {
        return code;
    }
    options.override_uuid = sight_override(sight, identity);
    return options.override_uuid != NULL ? qidmap_identify(fd, &options, identity, NULL) : 0;
}

static void add(struct mounted *mounts, const sight *sight, char **fields, const char *type)
{
    struct qidmap_identity identity = {.size = sizeof identity};
    g_autofree char *path = unescape(fields[4]);
    guint64 id;
    guint32 none = 0;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || !cmd_number(fields[0], &id) || !is_visible(fd, id) ||
        identify(sight, fd, &identity) < 0) {
        memset(&identity, 0, sizeof identity);
        identity.size = sizeof identity;
        g_strlcpy(identity.hints.type, type, sizeof identity.hints.type);
        if (fd >= 0) {
            close(fd);
        }
        fd = -1;
    }
    g_ptr_array_add(mounts->paths, g_steal_pointer(&path));
    g_array_append_val(mounts->fds, fd);
    g_array_append_val(mounts->identity, identity);
    g_array_append_val(mounts->fs, none);
}

/* All that could be identified, together. */
static void recognise(struct mounted *mounts, qidmap_store *store)
{
    g_autoptr(GArray) known = g_array_new(FALSE, FALSE, sizeof(struct qidmap_identity));

    for (guint i = 0; i < mounts->identity->len; i++) {
        const struct qidmap_identity *one =
            &g_array_index(mounts->identity, struct qidmap_identity, i);
        if (one->count > 0) {
            g_array_append_val(known, *one);
        }
    }
    g_autofree guint32 *fs = g_new0(guint32, known->len + 1);
    if (known->len == 0 ||
        qidmap_recognise(store, (const struct qidmap_identity *)(const void *)known->data,
                         known->len, fs, NULL) != 0) {
        return;
    }
    for (guint i = 0, n = 0; i < mounts->identity->len; i++) {
        if (g_array_index(mounts->identity, struct qidmap_identity, i).count > 0) {
            g_array_index(mounts->fs, guint32, i) = fs[n++];
        }
    }
}

struct mounted *mounted_look(sight *sight, qidmap_store *store)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) types = types_of(store);

    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, &error)) {
        cmd_error("%s", error->message);
        return NULL;
    }
    struct mounted *mounts = g_new0(struct mounted, 1);
    mounts->paths = g_ptr_array_new_with_free_func(g_free);
    mounts->fds = g_array_new(FALSE, FALSE, sizeof(int));
    mounts->identity = g_array_new(FALSE, FALSE, sizeof(struct qidmap_identity));
    mounts->fs = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) fields = g_strsplit(*line, " ", -1);
        guint count = g_strv_length(fields), dash = 6;
        while (dash < count && strcmp(fields[dash], "-") != 0) {
            dash++;
        }
        if (dash + 1 < count && g_hash_table_contains(types, fields[dash + 1])) {
            add(mounts, sight, fields, fields[dash + 1]);
        }
    }
    recognise(mounts, store);
    return mounts;
}

void mounted_free(struct mounted *mounts)
{
    for (guint i = 0; i < mounts->fds->len; i++) {
        if (g_array_index(mounts->fds, int, i) >= 0) {
            close(g_array_index(mounts->fds, int, i));
        }
    }
    g_ptr_array_unref(mounts->paths);
    g_array_unref(mounts->fds);
    g_array_unref(mounts->identity);
    g_array_unref(mounts->fs);
    g_free(mounts);
}

static gboolean differ(const char *a, const char *b)
{
    return a[0] != '\0' && b[0] != '\0' && strcmp(a, b) != 0;
}

const char *mounted_doubt(const struct mounted *mounts, const struct qidmap_fs *row)
{
    const struct qidmap_identity *first = NULL;

    if (row->hints.tree[0] != '\0') {
        return "it is one tree of its filesystem (bind=distinct)";
    }
    for (guint i = 0; i < mounts->fs->len; i++) {
        const struct qidmap_identity *one =
            &g_array_index(mounts->identity, struct qidmap_identity, i);
        const struct qidmap_hints *now = &one->hints, *then = &row->hints;
        if (g_array_index(mounts->fs, guint32, i) != row->fs) {
            continue;
        }
        if (first != NULL && first->superblock != one->superblock) {
            return "two filesystems look like it: one is a clone";
        }
        first = one;
        if (differ(now->backing, then->backing) || differ(now->dm_uuid, then->dm_uuid) ||
            differ(now->wwid, then->wwid) || differ(now->part_uuid, then->part_uuid) ||
            now->partition != then->partition) {
            return "it is on another device than when it was served last, and may be a clone; "
                   "serve it once first";
        }
    }
    return first != NULL ? NULL : "it is not mounted";
}
