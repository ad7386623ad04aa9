/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * race ADDR ANAME EXPORT OUTSIDE SECONDS: attacks the border of an export, with clients, and with a
 * host that moves things across it at the same time; prints what was tried, and what came through.
 * With ADDR "naive" there is no server: files are opened by their path, after a look at what they
 * are, as a server does that believes its own look.
 *
 * OUTSIDE is a directory beside EXPORT, on its filesystem, with a file `file` of the content SECRET
 * and of the group MARK, and an empty `dir`. All things outside are marked by that group, so that
 * one is recognised by its attributes alone. It knows the protocol, and nothing of any server.
 */
#include "config.h"

#include "tests/lib/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOT   1u
#define SECRET "SECRET-OUTSIDE"
#define MARK   54321u
#define DEPTH  6

static const char *address, *aname, *export_dir, *outside;
static gint stop;
static guint64 tried, moved, contents, attributes, listings, answered; /* atomic */

static gboolean go_on(void)
{
    return !g_atomic_int_get(&stop);
}

static void count(guint64 *what)
{
    __atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

static char *at(const char *dir, const char *name)
{
    return g_build_filename(dir, name, NULL);
}

/* ---- the host -------------------------------------------------------------------------------- */

/* Two names that change places: `name` in the export, and a symbolic link to `target` outside. */
static gpointer exchange(gpointer data)
{
    char *const *pair = data;
    g_autofree char *name = at(export_dir, pair[0]), *link = at(export_dir, pair[1]);

    while (go_on()) {
        if (renameat2(AT_FDCWD, name, AT_FDCWD, link, RENAME_EXCHANGE) == 0)
            count(&moved);
        if (g_random_int_range(0, 16) == 0)
            g_usleep((gulong)g_random_int_range(0, 200));
    }
    return NULL;
}

/* A tree that goes out of the export, and comes back. */
static gpointer carry(gpointer data)
{
    g_autofree char *in = at(export_dir, data), *out = at(outside, data);

    while (go_on()) {
        if (rename(in, out) == 0)
            count(&moved);
        g_usleep((gulong)g_random_int_range(0, 300));
        if (rename(out, in) == 0)
            count(&moved);
        g_usleep((gulong)g_random_int_range(0, 300));
    }
    rename(out, in);
    return NULL;
}

/* A directory in the export, and one outside, that change places. */
static gpointer swap_across(gpointer data)
{
    char *const *pair = data;
    g_autofree char *in = at(export_dir, pair[0]), *out = at(outside, pair[1]);

    while (go_on()) {
        /* The one outside comes in only for a moment without its content: it is empty. */
        if (renameat2(AT_FDCWD, in, AT_FDCWD, out, RENAME_EXCHANGE) == 0)
            count(&moved);
        g_usleep((gulong)g_random_int_range(0, 300));
    }
    return NULL;
}

/* ---- clients --------------------------------------------------------------------------------- */

static void check_attributes(struct client *c, guint32 fid)
{
    struct client_attr attr;

    if (client_getattr(c, fid, GETATTR_BASIC, &attr) != 0)
        return;
    count(&answered);
    if (attr.gid == MARK)
        count(&attributes);
}

static void check_content(struct client *c, guint32 fid)
{
    g_autoptr(GByteArray) bytes = NULL;

    if (client_lopen(c, fid, L_RDONLY, NULL) != 0 || client_read(c, fid, 0, 100, &bytes) != 0)
        return;
    count(&answered);
    if (memmem(bytes->data, bytes->len, SECRET, strlen(SECRET)) != NULL)
        count(&contents);
}

static void check_listing(struct client *c, guint32 fid)
{
    g_autoptr(GPtrArray) entries = NULL;

    if (client_readdir_all(c, fid, c->msize - 24, &entries) != 0)
        return;
    count(&answered);
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = entries->pdata[i];

        if (strcmp(e->name, "only-outside") == 0) {
            count(&listings);
            return;
        }
    }
}

static void look(struct client *c, const char *path)
{
    guint32 fid = client_fid(c);

    count(&tried);
    if (client_walk_path(c, ROOT, fid, path, NULL) != 0)
        return;
    check_attributes(c, fid);
    check_content(c, fid);
    client_clunk(c, fid);
}

/* Names walked in one message, whatever is in them. */
static void look_names(struct client *c, guint32 from, const char *const *names)
{
    struct client_qid qids[16];
    guint32 fid = client_fid(c);
    guint n = 0;

    count(&tried);
    if (client_walk(c, from, fid, names, &n, qids) != 0 || n < g_strv_length((char **)names))
        return;
    check_attributes(c, fid);
    check_listing(c, fid);
    check_content(c, fid);
    client_clunk(c, fid);
}

/* Changes whatever `dir` is now: what lands outside is seen at the end. */
static void change(struct client *c, const char *dir)
{
    g_autofree char *name = g_strdup_printf("made-%u", g_random_int());
    const char *const none[] = {NULL};
    guint32 fid = client_fid(c), other = client_fid(c), n;
    struct client_qid qids[16];

    count(&tried);
    if (client_walk_path(c, ROOT, fid, dir, NULL) != 0)
        return;
    client_mkdir(c, fid, name, 0755, NULL);
    client_unlinkat(c, fid, name, 0x200);
    client_symlink(c, fid, name, "/etc", NULL);
    client_renameat(c, fid, name, ROOT, "stray");
    client_unlinkat(c, ROOT, "stray", 0);
    client_unlinkat(c, fid, name, 0);
    if (client_walk(c, fid, other, none, &n, qids) == 0) {
        if (client_lcreate(c, other, name, L_RDWR, 0644, NULL) == 0)
            client_write(c, other, 0, 4, "made", &n);
        client_remove(c, other);
    }
    client_clunk(c, fid);
}

/* From deep in the tree that is carried, up as far as it goes, and down into the outside. */
static void climb(struct client *c, const char *tree)
{
    const char *names[DEPTH + 4];
    g_autofree char *path = g_strconcat(tree, "/a/b", NULL);
    guint32 fid = client_fid(c);

    if (client_walk_path(c, ROOT, fid, path, NULL) != 0)
        return;
    for (guint ups = 1; ups < DEPTH; ups++) {
        guint n = 0;

        while (n < ups)
            names[n++] = "..";
        names[n] = NULL;
        look_names(c, fid, names);
        names[n++] = "file";
        names[n] = NULL;
        look_names(c, fid, names);
        names[n - 1] = "outside";
        names[n++] = "file";
        names[n] = NULL;
        look_names(c, fid, names);
    }
    client_clunk(c, fid);
}

static void bad_names(struct client *c)
{
    static const char *const list[][4] = {{"..", "outside", "file", NULL},
                                          {"../outside/file", NULL},
                                          {"..", "..", NULL},
                                          {"swap/../../outside/file", NULL},
                                          {"swap", "file", NULL},
                                          {"swapfile", NULL},
                                          {"link", "file", NULL}};

    for (guint i = 0; i < G_N_ELEMENTS(list); i++)
        look_names(c, ROOT, list[i]);
}

/* The guest makes links and moves them, too. */
static void own_links(struct client *c)
{
    g_autofree char *dir = g_strdup_printf("own-%u", g_random_int_range(0, 4));
    g_autofree char *link = g_strconcat(dir, "-link", NULL),
                    *file = g_strconcat(dir, "/file", NULL);

    client_mkdir(c, ROOT, dir, 0755, NULL);
    client_symlink(c, ROOT, link, outside, NULL);
    client_renameat(c, ROOT, dir, ROOT, "own-away");
    client_renameat(c, ROOT, link, ROOT, dir);
    look(c, file);
    change(c, dir);
    client_unlinkat(c, ROOT, dir, 0);
    client_unlinkat(c, ROOT, "own-away", 0x200);
}

static gpointer attack(gpointer data)
{
    struct client *c = client_connect(address);

    if (c == NULL || client_hello(c, 65536) != 0 ||
        client_attach(c, ROOT, geteuid(), aname, NULL) != 0) {
        fprintf(stderr, "race: cannot attach\n");
        exit(EXIT_FAILURE);
    }
    while (go_on()) {
        switch ((GPOINTER_TO_UINT(data) + g_random_int_range(0, 2) * 3) % 6) {
        case 0:
            look(c, "swap/file");
            break;
        case 1:
            look(c, "swapfile");
            break;
        case 2:
            change(c, g_random_boolean() ? "swap" : "across");
            break;
        case 3:
            climb(c, "carried");
            break;
        case 4:
            bad_names(c);
            break;
        default:
            own_links(c);
            break;
        }
    }
    client_close(c);
    return NULL;
}

/* The control: looks, and then opens by path. */
static gpointer attack_naively(gpointer data)
{
    g_autofree char *path = at(export_dir, data);

    while (go_on()) {
        char text[100];
        struct stat st;
        int fd;

        count(&tried);
        if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_gid == MARK)
            continue;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t n = read(fd, text, sizeof text);
        count(&answered);
        if (n > 0 && memmem(text, (size_t)n, SECRET, strlen(SECRET)) != NULL)
            count(&contents);
        close(fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static char *dir_pair[] = {(char *)"swap", (char *)"swap-link"};
    static char *file_pair[] = {(char *)"swapfile", (char *)"swapfile-link"};
    static char *across[] = {(char *)"across", (char *)"across-out"};
    GThread *threads[12];
    guint n = 0;

    if (argc != 6) {
        fprintf(stderr, "usage: race ADDR|naive ANAME EXPORT OUTSIDE SECONDS\n");
        return 2;
    }
    address = argv[1];
    aname = argv[2];
    export_dir = argv[3];
    outside = argv[4];
    threads[n++] = g_thread_new("exchange", exchange, dir_pair);
    threads[n++] = g_thread_new("exchange", exchange, file_pair);
    if (strcmp(address, "naive") == 0) {
        threads[n++] = g_thread_new("naive", attack_naively, (gpointer) "swapfile");
        threads[n++] = g_thread_new("naive", attack_naively, (gpointer) "swap/file");
    } else {
        threads[n++] = g_thread_new("carry", carry, (gpointer) "carried");
        threads[n++] = g_thread_new("across", swap_across, across);
        for (guint i = 0; i < 6; i++)
            threads[n++] = g_thread_new("attack", attack, GUINT_TO_POINTER(i));
    }
    g_usleep((gulong)atoi(argv[5]) * G_USEC_PER_SEC);
    g_atomic_int_set(&stop, 1);
    while (n > 0)
        g_thread_join(threads[--n]);
    printf("tried=%" G_GUINT64_FORMAT " answered=%" G_GUINT64_FORMAT " moved=%" G_GUINT64_FORMAT
           " contents=%" G_GUINT64_FORMAT " attributes=%" G_GUINT64_FORMAT
           " listings=%" G_GUINT64_FORMAT "\n",
           tried, answered, moved, contents, attributes, listings);
    return 0;
}
