/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a fuzz target over files, or over all files of folders, where there is no libFuzzer; so
 * `make check` tries the corpus with every compiler. Each input is tried cut to every length, too,
 * as far as it is short. Prints TAP: one test for each argument.
 */
#include "config.h"

#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define CUT_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of just that size, so that sanitizers and valgrind see a read beyond the end. */
static void run_exact(const uint8_t *data, size_t size)
{
    g_autofree uint8_t *copy = g_malloc(size > 0 ? size : 1);

    if (size > 0)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
}

static unsigned run_file(const char *path)
{
    g_autofree char *data = NULL;
    gsize size;

    if (!g_file_get_contents(path, &data, &size, NULL))
        return 0;
    run_exact((const uint8_t *)data, size);
    for (gsize cut = 0; cut < size && cut < CUT_MAX; cut++)
        run_exact((const uint8_t *)data, cut);
    return 1;
}

static unsigned run_argument(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    unsigned count = 0;

    if (dir == NULL)
        return run_file(path);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        count += run_file(file);
    }
    return count;
}

int main(int argc, char **argv)
{
    int failed = 0;

    printf("1..%d\n", argc - 1);
    for (int i = 1; i < argc; i++) {
        unsigned count = run_argument(argv[i]);

        printf("%s %d - %s: %u inputs\n", count > 0 ? "ok" : "not ok", i, argv[i], count);
        failed |= count == 0;
    }
    return failed;
}
