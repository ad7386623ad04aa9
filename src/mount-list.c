/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's list of mounts. The unique ids come without opening anything, so that a mount that
 * is known need not be touched again, and one that answers nobody holds up nobody.
 *
 * The two sources are read one after the other. A change between them shows as a change of
 * mountinfo, and the list is read once more.
 */
#include "config.h"

#include "src/mount-list.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif

#define LIST_ALL  G_MAXUINT64 /* LSMT_ROOT */
#define LIST_STEP 512
#define WANT_IDS  2u /* STATMOUNT_MNT_BASIC */

struct request { /* struct mnt_id_req of the kernel, first version */
    guint32 size;
    guint32 spare;
    guint64 id;
    guint64 param;
};

struct answer { /* struct statmount of the kernel */
    guint32 size;
    guint32 options;
    guint64 mask;
    guint32 major, minor;
    guint64 magic;
    guint32 sb_flags, type;
    guint64 id, parent;
    guint32 old_id, old_parent;
    guint64 rest[56];
};

static void line_free(gpointer data)
{
    struct mount_line *line = data;

    g_free(line->path);
    g_free(line);
}

/* Old id -> line. */
static GHashTable *by_id(const GPtrArray *lines)
{
    GHashTable *table = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < lines->len; i++) {
        struct mount_line *line = g_ptr_array_index(lines, i);
        g_hash_table_insert(table, &line->id, line);
    }
    return table;
}

static void add_unique_ids(GHashTable *lines)
{
    struct request request = {.size = sizeof request, .id = LIST_ALL};
    g_autofree guint64 *ids = g_new(guint64, LIST_STEP);
    long n;

    do {
        n = syscall(SYS_listmount, &request, ids, (size_t)LIST_STEP, 0u);
        for (long i = 0; i < n; i++) {
            struct request one = {.size = sizeof one, .id = ids[i], .param = WANT_IDS};
            struct answer answer;

            memset(&answer, 0, sizeof answer);
            if (syscall(SYS_statmount, &one, &answer, sizeof answer, 0u) != 0 ||
                !(answer.mask & WANT_IDS))
                continue; /* gone meanwhile */
            guint64 old = answer.old_id;
            struct mount_line *line = g_hash_table_lookup(lines, &old);
            if (line != NULL)
                line->unique = answer.id;
        }
        if (n > 0)
            request.param = ids[n - 1];
    } while (n == LIST_STEP);
}

GPtrArray *mount_list_read(void)
{
    g_autofree char *content = NULL;
    GPtrArray *lines = g_ptr_array_new_with_free_func(line_free);

    if (!g_file_get_contents("/proc/self/mountinfo", &content, NULL, NULL))
        return lines;
    for (char *at = content, *end; *at != '\0'; at = end) {
        end = strchrnul(at, '\n');
        if (*end == '\n')
            *end++ = '\0';
        g_auto(GStrv) fields = g_strsplit(at, " ", 6);
        if (g_strv_length(fields) < 6)
            continue;
        struct mount_line *line = g_new0(struct mount_line, 1);
        line->id = g_ascii_strtoull(fields[0], NULL, 10);
        line->parent = g_ascii_strtoull(fields[1], NULL, 10);
        line->path = g_strcompress(fields[4]);
        g_ptr_array_add(lines, line);
    }
    g_autoptr(GHashTable) table = by_id(lines);
    for (guint i = 0; i < lines->len; i++) {
        const struct mount_line *line = g_ptr_array_index(lines, i);
        struct mount_line *under = g_hash_table_lookup(table, &line->parent);
        if (under != NULL && under != line && strcmp(under->path, line->path) == 0)
            under->covered = TRUE;
    }
    for (guint i = 0; i < lines->len; i++) {
        struct mount_line *line = g_ptr_array_index(lines, i);
        const struct mount_line *under = line;
        do {
            line->holder = under->parent;
            under = g_hash_table_lookup(table, &line->holder);
        } while (under != NULL && under->id != under->parent &&
                 strcmp(under->path, line->path) == 0);
    }
    add_unique_ids(table);
    return lines;
}
