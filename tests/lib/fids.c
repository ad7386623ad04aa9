/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See fids.h. */
#include "config.h"

#include "tests/lib/fids.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <unistd.h>

guint number(const char *name, guint normally)
{
    const char *text = g_getenv(name);

    return text != NULL ? (guint)g_ascii_strtoull(text, NULL, 10) : normally;
}

/* All daemons that are started from here on find files by place. */
gboolean by_name(gboolean wanted)
{
    if (wanted)
        prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0);
    return wanted;
}

/* Whether files are found by handle here. */
gboolean have_handles(struct server *s)
{
    struct statfs fs;
    /* ext, xfs, btrfs, tmpfs */
    static const guint32 local[] = {0xef53, 0x58465342, 0x9123683e, 0x01021994};

    if (geteuid() != 0 || prctl(PR_CAPBSET_READ, CAP_DAC_READ_SEARCH, 0, 0, 0) != 1 ||
        statfs(s->dir, &fs) != 0)
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(local); i++)
        if ((guint32)fs.f_type == local[i])
            return TRUE;
    return FALSE;
}

struct server *start(guint descriptors)
{
    g_autofree char *n = g_strdup_printf("%u", descriptors);
    const char *extra[] = {"--descriptors", n, NULL};
    struct server *s = server_new("memory:", descriptors > 0 ? extra : NULL);

    g_assert_true(server_start(s));
    return s;
}

void stop(struct server *s)
{
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

guint descriptors(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", s->pid);
    GDir *dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    if (dir == NULL)
        return 0;
    while (g_dir_read_name(dir) != NULL)
        count++;
    g_dir_close(dir);
    return count;
}

/* The reply to a Tgetattr: its error, or 0 and the qid path. */
int wait_attr(struct client *c, int tag, guint64 *path)
{
    struct client_qid qid = {0};
    guint64 q[17];
    guint32 d[3];
    int rc = client_wait(c, tag, TGETATTR + 1, "qQdddqqqqqqqqqqqqqqq", &q[0], &qid, &d[0], &d[1],
                         &d[2], &q[1], &q[2], &q[3], &q[4], &q[5], &q[6], &q[7], &q[8], &q[9],
                         &q[10], &q[11], &q[12], &q[13], &q[14], &q[15]);

    *path = qid.path;
    return rc;
}

/* Makes the daemon close what `fid` had: with a budget of 4, others come in between. */
void push_out(struct client *c)
{
    for (guint round = 0; round < 3; round++)
        for (guint i = 0; i < 20; i++) {
            g_autofree char *name = g_strdup_printf("other%u", i);
            guint32 fid = walk_new(c, name);

            g_assert_cmpint(client_getattr(c, fid, GETATTR_BASIC, &(struct client_attr){0}), ==, 0);
        }
}

struct server *start_with_others(void)
{
    struct server *s = start(4);

    for (guint i = 0; i < 20; i++) {
        g_autofree char *name = g_strdup_printf("other%u", i);
        make_file(s, name, "");
    }
    return s;
}

int run_fids_tests(int *argc, char ***argv, const struct fids_test *tests, guint n)
{
    g_test_init(argc, argv, NULL);
    for (guint i = 0; i < n; i++)
        g_test_add_data_func(tests[i].name, NULL, tests[i].run);
    /* Last, as a capability that was given up does not come back. */
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = g_strconcat(tests[i].name, "-by-name", NULL);

        if (tests[i].by_name)
            g_test_add_data_func(name, "by name", tests[i].run);
    }
    return g_test_run();
}
