/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See id-space.h. The shares follow from the suffixes of format 1, qidmap-format(5): a suffix of L
 * bits owns one number in 2^L.
 */
#include "config.h"

#include <langinfo.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"
#include "tools/id-space.h"

#define FULL      0.5   /* odd numbers */
#define EPHEMERAL 0.125 /* suffix 110 */
#define RESERVED  0.125 /* suffix 010 */
#define AFFIX     (1 - FULL - EPHEMERAL - RESERVED)
#define SHOWN     16 /* filesystems in a picture */
#define LABEL     30 /* columns of a name */
#define BEFORE    48 /* columns of a line before its bar */

struct picture {
    guint width; /* of a bar that is full; 0: none is drawn */
    gboolean blocks;
};

/* A bar for `part` of `whole`; what is not nothing is seen. */
static void print_bar(const struct picture *picture, double part, double whole)
{
    static const char *const eighths[] = {"",
                                          "\xe2\x96\x8f",
                                          "\xe2\x96\x8e",
                                          "\xe2\x96\x8d",
                                          "\xe2\x96\x8c",
                                          "\xe2\x96\x8b",
                                          "\xe2\x96\x8a",
                                          "\xe2\x96\x89"};
    double columns = whole > 0 ? part / whole * picture->width : 0;
    guint full = (guint)columns, rest = (guint)((columns - full) * 8);

    if (picture->width > 0 && part > 0) {
        fputs("  ", stdout);
        for (guint i = 0; i < full; i++) {
            fputs(picture->blocks ? "\xe2\x96\x88" : "#", stdout);
        }
        if (picture->blocks) {
            fputs(eighths[full == 0 && rest == 0 ? 1 : rest], stdout);
        } else if (full == 0) {
            putchar('|');
        }
    }
    putchar('\n');
}

static void print_share(const struct picture *picture, const char *label, double share,
                        double whole)
{
    printf("  %-*.*s %11.6f %%", LABEL, LABEL, label, share * 100);
    print_bar(picture, share, whole);
}

static void print_count(const struct picture *picture, const char *label, guint64 count,
                        guint64 whole)
{
    printf("  %-*.*s %13" G_GUINT64_FORMAT, LABEL, LABEL, label, count);
    print_bar(picture, (double)count, (double)whole);
}

static double share_of(const struct fs_rows_one *one)
{
    return one->share;
}

static double full_of(const struct fs_rows_one *one)
{
    return (double)one->full;
}

static int by_size(gconstpointer a, gconstpointer b, gpointer data)
{
    double (*size)(const struct fs_rows_one *) = data;
    double x = size(*(const struct fs_rows_one *const *)a);
    double y = size(*(const struct fs_rows_one *const *)b);
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The filesystems that have any, the largest first. */
static GPtrArray *sorted(const GPtrArray *rows, double (*size)(const struct fs_rows_one *))
{
    GPtrArray *some = g_ptr_array_new();

    for (guint i = 0; i < rows->len; i++) {
        struct fs_rows_one *one = g_ptr_array_index(rows, i);
        if (size(one) > 0) {
            g_ptr_array_add(some, one);
        }
    }
    /* stable: filesystems of equal size stay in the order of their numbers */
    g_ptr_array_sort_with_data(some, by_size, size);
    return some;
}

/* Names are of the disk or the network: what would confuse a terminal, or is cut, is ASCII. */
static char *label_of(const struct fs_rows_one *one)
{
    g_autofree char *what = cmd_fs_what(&one->row.hints);
    g_autofree char *ascii = g_str_to_ascii(what, "C");
    return g_strdup_printf("fs %u%s  %s", one->row.fs, one->row.retired ? " (retired)" : "", ascii);
}

static double affix_shares(const GPtrArray *rows)
{
    double sum = 0;

    for (guint i = 0; i < rows->len; i++) {
        sum += ((const struct fs_rows_one *)g_ptr_array_index(rows, i))->share;
    }
    return sum;
}

static void print_affix(const struct picture *picture, const GPtrArray *rows)
{
    g_autoptr(GPtrArray) some = sorted(rows, share_of);
    double others = 0, left = AFFIX - affix_shares(rows);

    printf("\naffix entries by filesystem\n");
    for (guint i = 0; i < some->len; i++) {
        const struct fs_rows_one *one = g_ptr_array_index(some, i);
        if (picture->width > 0 && i >= SHOWN) {
            others += one->share;
            continue;
        }
        g_autofree char *label = label_of(one);
        print_share(picture, label, one->share, AFFIX);
    }
    if (others > 0) {
        g_autofree char *label = g_strdup_printf("%u others", some->len - SHOWN);
        print_share(picture, label, others, AFFIX);
    }
    print_share(picture, "not given yet", MAX(left, 0), AFFIX);
}

static void print_full(const struct picture *picture, const GPtrArray *rows, guint64 whole)
{
    g_autoptr(GPtrArray) some = sorted(rows, full_of);
    guint64 others = 0;

    if (some->len == 0) {
        return;
    }
    printf("\nfull map by filesystem, rows\n");
    for (guint i = 0; i < some->len; i++) {
        const struct fs_rows_one *one = g_ptr_array_index(some, i);
        if (picture->width > 0 && i >= SHOWN) {
            others += one->full;
            continue;
        }
        g_autofree char *label = label_of(one);
        print_count(picture, label, one->full, whole);
    }
    if (others > 0) {
        g_autofree char *label = g_strdup_printf("%u others", some->len - SHOWN);
        print_count(picture, label, others, whole);
    }
}

void id_space_print(const struct qidmap_stats *stats, const GPtrArray *rows, guint columns)
{
    struct picture picture = {0, strcmp(nl_langinfo(CODESET), "UTF-8") == 0};

    if (columns > 0) {
        picture.width = columns > BEFORE + 10 ? MIN(columns - BEFORE - 3, 60) : 8;
    }
    printf("\nid space, of 2^64 numbers\n");
    print_share(&picture, "full map (odd numbers)", FULL, 1);
    print_share(&picture, "affix entries", AFFIX, 1);
    print_share(&picture, "ephemeral filesystems", EPHEMERAL, 1);
    print_share(&picture, "kept free", RESERVED, 1);
    print_affix(&picture, rows);
    print_full(&picture, rows, stats->full_rows);
}

JsonObject *id_space_json(const GPtrArray *rows)
{
    JsonObject *object = json_object_new();
    double given = affix_shares(rows);

    json_object_set_double_member(object, "full_map", FULL);
    json_object_set_double_member(object, "affix", AFFIX);
    json_object_set_double_member(object, "affix_given", given);
    json_object_set_double_member(object, "ephemeral", EPHEMERAL);
    json_object_set_double_member(object, "reserved", RESERVED);
    return object;
}
