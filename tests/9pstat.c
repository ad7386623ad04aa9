/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 9pstat ADDR ANAME [-R] [PATH...]: shows the ids that a 9P2000.L server gives.
 *
 * One line for each path: qid path, the inode number that a Linux guest shows (qid path + 2), the
 * type (d, l or -), the path.  With -R each directory is followed down through Treaddir, and the
 * ids seen by Treaddir, Twalk and Tgetattr are compared: exit status 1 where two differ.  Entries
 * that vanish meanwhile are passed over.  With -w it keeps the session, and a fid for each PATH,
 * until the end of its input; with -o the last PATH is open meanwhile.  It knows the protocol only,
 * nothing of qidmap.
 */
#include "config.h"

#include "tests/lib/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROOT 1u

static struct client *conn;
static int failures;
static gboolean hold;
static guint32 last; /* fid of the last path that is kept */

static void fail(const char *path, const char *what, int rc)
{
    fprintf(stderr, "9pstat: %s: %s: %s\n", path, what,
            rc > 0 ? g_strerror(rc) : "the server broke off");
    failures++;
}

static void show(const char *path, const struct client_qid *qid)
{
    char type = qid->type & QTDIR ? 'd' : qid->type & QTSYMLINK ? 'l' : '-';

    printf("%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %c %s\n", qid->path, qid->path + 2, type,
           path);
}

static void stat_at(guint32 dfid, const char *name, const char *shown, gboolean recurse,
                    const struct client_qid *listed);

static void list_below(guint32 fid, const char *shown, const struct client_qid *qid)
{
    g_autoptr(GPtrArray) entries = NULL;
    int rc = client_readdir_all(conn, fid, conn->msize - 24, &entries);

    if (rc != 0) {
        fail(shown, "readdir", rc);
        return;
    }
    for (guint i = 0; i < entries->len; i++) {
        struct client_dirent *e = entries->pdata[i];
        g_autofree char *below = NULL;

        if (strcmp(e->name, ".") == 0) {
            if (e->qid.path != qid->path)
                fail(shown, "id of \".\" in readdir differs", EINVAL);
            continue;
        }
        if (strcmp(e->name, "..") == 0) {
            guint32 up = client_fid(conn);
            struct client_qid above;

            rc = client_walk_path(conn, fid, up, "..", &above);
            if (rc != 0)
                fail(shown, "walk to ..", rc);
            else if (above.path != e->qid.path)
                fail(shown, "id of \"..\" in readdir differs", EINVAL);
            if (rc == 0)
                client_clunk(conn, up);
            continue;
        }
        below = g_strdup_printf("%s%s%s", shown, g_str_has_suffix(shown, "/") ? "" : "/", e->name);
        stat_at(fid, e->name, below, TRUE, &e->qid);
    }
}

static void stat_at(guint32 dfid, const char *name, const char *shown, gboolean recurse,
                    const struct client_qid *listed)
{
    guint32 fid = client_fid(conn);
    struct client_qid qid;
    struct client_attr attr;
    int rc = client_walk_path(conn, dfid, fid, name, &qid);

    if (rc != 0) {
        if (listed == NULL || rc != ENOENT)
            fail(shown, "walk", rc);
        return;
    }
    rc = client_getattr(conn, fid, GETATTR_BASIC, &attr);
    if (rc != 0)
        fail(shown, "getattr", rc);
    else if (attr.qid.path != qid.path || attr.qid.type != qid.type)
        fail(shown, "ids of walk and getattr differ", EINVAL);
    else if (listed != NULL && (listed->path != qid.path || listed->type != qid.type))
        fail(shown, "ids of readdir and walk differ", EINVAL);
    show(shown, &qid);
    if (recurse && rc == 0 && (qid.type & QTDIR))
        list_below(fid, shown, &qid);
    if (hold && dfid == ROOT)
        last = fid;
    else
        client_clunk(conn, fid);
}

int main(int argc, char **argv)
{
    gboolean recurse = FALSE, open_last = FALSE;
    struct client_qid qid;
    GOptionEntry options[] = {
        {"recursive", 'R', 0, G_OPTION_ARG_NONE, &recurse, "Follow directories down", NULL},
        {"wait", 'w', 0, G_OPTION_ARG_NONE, &hold, "Stay until the input ends", NULL},
        {"open", 'o', 0, G_OPTION_ARG_NONE, &open_last, "Open the last PATH", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("ADDR ANAME [PATH...]");
    g_autoptr(GError) error = NULL;
    int rc;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || argc < 3) {
        fprintf(stderr, "9pstat: %s\n",
                error ? error->message
                      : "usage: 9pstat [-R] ADDR ANAME "
                        "[PATH...]");
        return 2;
    }
    conn = client_connect(argv[1]);
    if (conn == NULL) {
        fprintf(stderr, "9pstat: %s: nobody listens\n", argv[1]);
        return 1;
    }
    rc = client_hello(conn, 1 << 16);
    if (rc == 0)
        rc = client_attach(conn, ROOT, geteuid(), argv[2], NULL);
    if (rc != 0)
        fail(argv[2], "attach", rc);
    else if (argc == 3)
        stat_at(ROOT, "", "/", recurse, NULL);
    for (int i = 3; rc == 0 && i < argc; i++)
        stat_at(ROOT, argv[i], argv[i], recurse, NULL);
    if (rc == 0 && open_last && (rc = client_lopen(conn, last, O_RDONLY, &qid)) != 0)
        fail(argv[argc - 1], "open", rc);
    fflush(stdout);
    while (hold && rc == 0 && getchar() != EOF)
        ;
    client_leave(conn);
    return failures > 0;
}
