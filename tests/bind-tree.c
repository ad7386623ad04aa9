/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * bind-tree STORE FS DIR: gives every file of the mounted filesystem below DIR the id that it has
 * already in the affix entries of FS plus 2^40, made odd: a row of the full map for each inode, as
 * after a migration.
 */
#include "config.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <glib.h>

#include "store/qidmap.h"

static GArray *inodes;

static int visit(const char *path G_GNUC_UNUSED, const struct stat *st, int type G_GNUC_UNUSED,
                 struct FTW *ftw G_GNUC_UNUSED)
{
    uint64_t ino = st->st_ino;

    g_array_append_val(inodes, ino);
    return 0;
}

static gint ascending(gconstpointer a, gconstpointer b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

struct list {
    uint32_t fs;
    guint at;
    uint64_t id;
};

static int first(void *data)
{
    struct list *list = data;

    list->at = 0;
    return 0;
}

static int next(void *data, struct qidmap_binding *binding)
{
    struct list *list = data;

    while (list->at > 0 && list->at < inodes->len &&
           g_array_index(inodes, uint64_t, list->at) ==
               g_array_index(inodes, uint64_t, list->at - 1))
        list->at++; /* a second name */
    if (list->at >= inodes->len)
        return 0;
    memset(binding, 0, sizeof(*binding));
    binding->object.fs = list->fs;
    binding->object.ino = g_array_index(inodes, uint64_t, list->at);
    binding->path = list->id + 2 * (uint64_t)list->at;
    list->at++;
    return 1;
}

int main(int argc, char **argv)
{
    struct list list = {.id = (UINT64_C(1) << 40) + 1};
    struct qidmap_bind_options options = {
        .size = sizeof(options), .rewind = first, .next = next, .data = &list};
    struct qidmap_bind_result result = {.size = sizeof(result)};
    struct qidmap_error error;

    if (argc != 4) {
        fprintf(stderr, "usage: bind-tree STORE FS DIR\n");
        return 2;
    }
    list.fs = (uint32_t)strtoul(argv[2], NULL, 10);
    inodes = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    if (nftw(argv[3], visit, 64, FTW_PHYS | FTW_MOUNT) != 0) {
        perror(argv[3]);
        return 1;
    }
    g_array_sort(inodes, ascending);
    if (qidmap_bind(argv[1], &options, &result, &error) < 0) {
        fprintf(stderr, "bind-tree: %s\n", error.text);
        return 1;
    }
    printf("%" G_GUINT64_FORMAT "\n", (guint64)result.bound);
    g_array_free(inodes, TRUE);
    return 0;
}
