/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * make-tree DIR FILES [--other]: fills DIR with so many names, as fast as the filesystem can, for
 * bench/tenmillion.sh. Of ten files one is in one large folder, the others are in folders of 2,000,
 * two levels down; of 64 names one is a second name of the file before it. Names have 2 to 120
 * bytes, some are no UTF-8 or have a newline. Files are empty; time and name of each are made from
 * its number.
 *
 * With --other the same tree is made in another order, and so with other inode numbers: a copy.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>

#define IN_FOLDER 2000u
#define LINK_EACH 64u
#define NAME_MOST 120u

static void fail(const char *what)
{
    fprintf(stderr, "make-tree: %s: %s\n", what, g_strerror(errno));
    exit(1);
}

static guint64 mix(guint64 n)
{
    n = (n ^ n >> 31) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
    return n ^ n >> 29;
}

static void name_of(guint64 number, char name[NAME_MOST + 1])
{
    guint64 bits = mix(number + 1);
    int size = g_snprintf(name, NAME_MOST, "%" PRIx64 ".", number);
    int longer = bits % 16 == 0 ? (int)(bits >> 8) % 100 : (int)(bits >> 8) % 24;

    if ((bits >> 32) % 1000 == 1) {
        name[size++] = '\n';
    } else if ((bits >> 32) % 1000 == 2) {
        name[size++] = (char)0xff;
    }
    for (; longer > 0 && size < (int)NAME_MOST; longer--) {
        bits = mix(bits);
        name[size++] = (char)('a' + bits % 26);
    }
    name[size] = '\0';
}

static int folder_at(int parent, const char *name)
{
    if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST) {
        fail(name);
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        fail(name);
    }
    return fd;
}

static void make_file(int folder, guint64 number, guint64 end)
{
    char name[NAME_MOST + 1], second[NAME_MOST + 1];
    const struct timespec at = {1600000000 + (time_t)(number % 100000000), 0}, times[2] = {at, at};

    name_of(number, name);
    if (mknodat(folder, name, S_IFREG | 0644, 0) < 0 ||
        utimensat(folder, name, times, AT_SYMLINK_NOFOLLOW) < 0) {
        fail(name);
    }
    if (number % LINK_EACH == LINK_EACH - 2 && number + 1 < end) {
        name_of(number + 1, second);
        if (linkat(folder, name, folder, second, 0) < 0) {
            fail(second);
        }
    }
}

/* Those from `from` on, `count` of them, in order or another one. */
static void fill(int folder, guint64 from, guint64 count, gboolean other)
{
    for (guint64 i = 0; i < count; i++) {
        /* 7919 is a prime, and no count a multiple of it but by chance; then the order is the same
         */
        guint64 at = other && count % 7919 != 0 ? (i * 7919 + 13) % count : i;
        if ((from + at) % LINK_EACH != LINK_EACH - 1 || at == 0) {
            make_file(folder, from + at, from + count);
        }
    }
}

/* The folder number `f` of those that are not the large one. */
static void fill_small(int top, guint64 f, guint64 large, guint64 files, gboolean other)
{
    g_autofree char *above = g_strdup_printf("d%02" PRIu64, f % 37);
    g_autofree char *name = g_strdup_printf("%" PRIu64, f);
    guint64 from = large + f * IN_FOLDER;
    int parent = folder_at(top, above), folder = folder_at(parent, name);
    fill(folder, from, MIN(IN_FOLDER, files - from), other);
    close(folder);
    close(parent);
}

int main(int argc, char **argv)
{
    guint64 files = argc > 2 ? g_ascii_strtoull(argv[2], NULL, 10) : 0;
    gboolean other = argc == 4 && strcmp(argv[3], "--other") == 0;

    if (files < 10 || argc > 4 || (argc == 4 && !other)) {
        fprintf(stderr, "usage: make-tree DIR FILES [--other]\n");
        return 2;
    }
    umask(0);
    int top = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) {
        fail(argv[1]);
    }
    guint64 large = files / 10, folders = (files - large + IN_FOLDER - 1) / IN_FOLDER;
    for (guint64 f = folders;
         other && f-- > 0;) { /* later folders first, and the large one in the end */
        fill_small(top, f, large, files, TRUE);
    }
    int folder = folder_at(top, "large");
    fill(folder, 0, large, other);
    close(folder);
    for (guint64 f = 0; !other && f < folders; f++) {
        fill_small(top, f, large, files, FALSE);
    }
    return 0;
}
