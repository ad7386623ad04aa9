/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: when the daemon reads its configuration again, sessions and what they have open go on;
 * new exports can be attached to, with the ids that their files had before; those that are gone
 * cannot; and where anything in the file is wrong, nothing at all changes, and the answer has file
 * and line. Reloads leave no descriptor and no thread behind, however many there are, and in
 * whatever they come together with.
 *
 * QIDMAP_RELOAD_COUNT (reloads under load) may be set.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 60000

struct place {
    struct server *s;
    char *conf, *control;
};

/* The text of the file: "@" stands for the folder of the test. */
static void write_conf(struct place *p, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "@", -1);
    g_autofree char *whole = g_strjoinv(p->s->tmp, parts);

    g_assert_true(g_file_set_contents(p->conf, whole, -1, NULL));
}

static void setup(struct place *p, gconstpointer data)
{
    (void)data;
    p->s = server_new("lmdb:", NULL);
    p->conf = g_build_filename(p->s->tmp, "conf", NULL);
    p->control = g_build_filename(p->s->tmp, "control", NULL);
    const char *extra[] = {"--config", p->conf, "--control", p->control, "--threads", "8", NULL};
    g_strfreev(p->s->extra);
    p->s->extra = g_strdupv((char **)extra);
    for (const char *name = "ab"; *name != '\0'; name++) {
        g_autofree char *dir = g_strdup_printf("%s/%c", p->s->tmp, *name);
        g_autofree char *file = g_strdup_printf("%s/f%c", dir, *name);

        g_assert_cmpint(g_mkdir(dir, 0755), ==, 0);
        g_assert_cmpint(g_chmod(dir, 0755), ==, 0);
        g_assert_true(g_file_set_contents(file, dir, -1, NULL));
    }
    write_conf(p, "[export a]\ndir=@/a\n");
    g_assert_true(server_start(p->s));
}

static void teardown(struct place *p, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(server_terminate(p->s), ==, 0);
    server_free(p->s);
    g_free(p->conf);
    g_free(p->control);
}

/* What the daemon answers. */
static char *ask(struct place *p)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const char line[] = "{\"verb\":\"reload\"}\n";
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    GString *reply = g_string_new(NULL);
    char buffer[4096];
    ssize_t n;

    g_strlcpy(address.sun_path, p->control, sizeof address.sun_path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(write(fd, line, sizeof line - 1), ==, sizeof line - 1);
    while (strchr(reply->str, '\n') == NULL && (n = read(fd, buffer, sizeof buffer)) > 0)
        g_string_append_len(reply, buffer, n);
    close(fd);
    return g_string_free(reply, FALSE);
}

static void reload(struct place *p, const char *conf, const char *answer)
{
    g_autofree char *reply = NULL;

    write_conf(p, conf);
    reply = ask(p);
    g_test_message("%s", reply);
    g_assert_nonnull(strstr(reply, answer));
}

static void refused(struct place *p, const char *conf, const char *where, const char *why)
{
    g_autofree char *reply = NULL, *place = g_strdup_printf("%s%s", p->conf, where);

    write_conf(p, conf);
    reply = ask(p);
    g_test_message("%s", reply);
    g_assert_true(g_str_has_prefix(reply, "{\"error\""));
    g_assert_nonnull(strstr(reply, place));
    g_assert_nonnull(strstr(reply, why));
}

static guint count_in_log(struct server *s, const char *word)
{
    g_autofree char *text = NULL;
    guint count = 0;

    g_file_get_contents(s->log, &text, NULL, NULL);
    for (const char *at = text; at != NULL && (at = strstr(at, word)) != NULL; at++)
        count++;
    return count;
}

static void wait_for_log(struct server *s, const char *word, guint times)
{
    for (int i = 0; i < WAIT_MS / 10 && count_in_log(s, word) < times; i++)
        poll(NULL, 0, 10);
    g_assert_cmpuint(count_in_log(s, word), >=, times);
}

static struct client *hello(struct server *s)
{
    struct client *c = client_connect(s->addr);

    g_assert_nonnull(c);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    return c;
}

static int attach(struct client *c, const char *aname, guint32 *fid)
{
    *fid = client_fid(c);
    return client_attach(c, *fid, geteuid(), aname, NULL);
}

/* Of a file in an export, by a session of its own. */
static guint64 id_of(struct server *s, const char *aname, const char *name)
{
    struct client *c = hello(s);
    struct client_qid qid;
    guint32 root;

    g_assert_cmpint(attach(c, aname, &root), ==, 0);
    g_assert_cmpint(client_walk_path(c, root, client_fid(c), name, &qid), ==, 0);
    client_leave(c);
    return qid.path;
}

static int try_attach(struct server *s, const char *aname)
{
    struct client *c = hello(s);
    guint32 fid;
    int error = attach(c, aname, &fid);

    client_leave(c);
    return error;
}

static void reads(struct client *c, guint32 fid, const char *text)
{
    g_autoptr(GByteArray) data = NULL;

    g_assert_cmpint(client_read(c, fid, 0, 4096, &data), ==, 0);
    g_assert_cmpmem(data->data, data->len, text, strlen(text));
}

/* ---- what changes, and what does not --------------------------------------------------------- */

static void sessions_go_on(struct place *p, gconstpointer data)
{
    g_autofree char *text = g_strdup_printf("%s/a", p->s->tmp);
    struct client *c = hello(p->s);
    guint32 root, open = client_fid(c), other = client_fid(c), fid;

    (void)data;
    g_assert_cmpint(attach(c, "a", &root), ==, 0);
    g_assert_cmpint(client_walk_path(c, root, open, "fa", NULL), ==, 0);
    g_assert_cmpint(client_lopen(c, open, O_RDWR, NULL), ==, 0);
    reload(p, "[export b]\ndir=@/b\n", "\"added\":[\"b\"],\"changed\":[],\"removed\":[\"a\"]");
    reads(c, open, text);
    g_assert_cmpint(client_walk_path(c, root, other, "fa", NULL), ==, 0);
    g_assert_cmpint(client_lcreate(c, root, "new", O_RDWR, 0644, NULL), ==, 0);
    /* the same session, and another: the name is gone, and there is a new one */
    g_assert_cmpint(attach(c, "a", &fid), ==, ENOENT);
    g_assert_cmpint(try_attach(p->s, "a"), ==, ENOENT);
    g_assert_cmpint(attach(c, "b", &fid), ==, 0);
    g_assert_cmpuint(count_in_log(p->s, "'a' of before is closed"), ==, 0);
    g_assert_cmpuint(count_in_log(p->s, "'a' is removed; what 1 attach"), ==, 1);
    client_close(c);
    wait_for_log(p->s, "'a' of before is closed", 1);
    g_assert_cmpint(try_attach(p->s, "data"), ==, 0);
}

/* Tversion ends a session as well as its connection does. */
static void version_lets_go(struct place *p, gconstpointer data)
{
    struct client *c = hello(p->s);
    guint32 fid;

    (void)data;
    g_assert_cmpint(attach(c, "a", &fid), ==, 0);
    reload(p, "", "\"removed\":[\"a\"]");
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    wait_for_log(p->s, "'a' of before is closed", 1);
    g_assert_cmpint(attach(c, "a", &fid), ==, ENOENT);
    client_close(c);
}

static void options_apply_to_later_attaches(struct place *p, gconstpointer data)
{
    struct client *c = hello(p->s);
    guint32 old, new, fid = client_fid(c);

    (void)data;
    g_assert_cmpint(attach(c, "a", &old), ==, 0);
    reload(p, "[export a]\ndir=@/a\nreadonly=true\n", "\"changed\":[\"a\"]");
    g_assert_cmpint(attach(c, "a", &new), ==, 0);
    g_assert_cmpint(client_mkdir(c, new, "x", 0755, NULL), ==, EROFS);
    g_assert_cmpint(client_mkdir(c, old, "x", 0755, NULL), ==, 0);
    reload(p, "[export a]\ndir=@/a\nreadonly=true\nallow=none\n", "\"changed\":[\"a\"]");
    g_assert_cmpint(attach(c, "a", &fid), ==, EACCES);
    g_assert_cmpint(client_mkdir(c, old, "y", 0755, NULL), ==, 0);
    /* words for the default change nothing */
    reload(p, "[export a]\ndir=@/a\nreadonly=true\nallow=none\nbind=same\n",
           "\"changed\":[],\"removed\":[],\"same\":\"2\"");
    client_close(c);
}

static void limits_apply_to_living_sessions(struct place *p, gconstpointer data)
{
    struct client *c = hello(p->s);
    guint32 root;

    (void)data;
    g_assert_cmpint(attach(c, "a", &root), ==, 0);
    reload(p, "[daemon]\nlimit=fids=3\n[export a]\ndir=@/a\n", "\"same\":\"2\"");
    g_assert_cmpint(client_walk_path(c, root, client_fid(c), "", NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, root, client_fid(c), "", NULL), ==, 0);
    g_assert_cmpint(client_walk_path(c, root, client_fid(c), "", NULL), ==, EMFILE);
    reload(p, "[export a]\ndir=@/a\n", "\"same\":\"2\"");
    g_assert_cmpint(client_walk_path(c, root, client_fid(c), "", NULL), ==, 0);
    client_close(c);
}

static void ids_stay(struct place *p, gconstpointer data)
{
    static const char both[] =
        "[export a]\ndir=@/a\n[export b]\ndir=@/b\nstore=lmdb:@/other-store\n";
    guint64 a = id_of(p->s, "a", "fa"), b;

    (void)data;
    reload(p, both, "\"added\":[\"b\"]");
    b = id_of(p->s, "b", "fb");
    reload(p, "", "\"removed\":[\"a\",\"b\"]");
    reload(p, both, "\"added\":[\"a\",\"b\"]");
    g_assert_cmpuint(id_of(p->s, "a", "fa"), ==, a);
    g_assert_cmpuint(id_of(p->s, "b", "fb"), ==, b);
    g_assert_cmpint(server_terminate(p->s), ==, 0);
    g_assert_true(server_start(p->s));
    g_assert_cmpuint(id_of(p->s, "a", "fa"), ==, a);
    g_assert_cmpuint(id_of(p->s, "b", "fb"), ==, b);
}

/* Who listens where anybody can connect, with an export that anybody may attach to, is told so: by
 * a reload in the words of a start. */
static void open_doors_are_told_of(void)
{
    static const char guarded[] = "[daemon]\nallow=unix\n[export a]\ndir=@/a\n";
    static const char open[] = "[export a]\ndir=@/a\nallow=unix\n";
    static const char words[] = "any user of this host may connect";
    struct place p = {.s = server_new("memory:", NULL)};
    g_autofree char *listen = g_strdup_printf("unix:%s/open,mode=0666", p.s->tmp);

    p.conf = g_build_filename(p.s->tmp, "conf", NULL);
    p.control = g_build_filename(p.s->tmp, "control", NULL);
    const char *extra[] = {"--config", p.conf, "--control", p.control, "--listen", listen, NULL};
    g_strfreev(p.s->extra);
    p.s->extra = g_strdupv((char **)extra);
    g_autofree char *dir = g_build_filename(p.s->tmp, "a", NULL);

    g_assert_cmpint(g_mkdir(dir, 0755), ==, 0);
    write_conf(&p, guarded);
    g_assert_true(server_start(p.s));
    g_assert_cmpuint(count_in_log(p.s, words), ==, 0);
    reload(&p, guarded, "\"same\":\"2\"");
    g_assert_cmpuint(count_in_log(p.s, words), ==, 0);
    reload(&p, open, "\"changed\":[\"data\"]"); /* that of the command line */
    g_assert_cmpuint(count_in_log(p.s, words), ==, 1);
    g_assert_cmpint(server_terminate(p.s), ==, 0);
    g_assert_true(server_start(p.s));
    g_assert_cmpuint(count_in_log(p.s, words), ==, 2);
    g_assert_cmpint(server_terminate(p.s), ==, 0);
    server_free(p.s);
    g_free(p.conf);
    g_free(p.control);
}

/* ---- what is wrong --------------------------------------------------------------------------- */

static void nothing_changes(struct place *p, gconstpointer data)
{
    struct client *c = hello(p->s);
    guint64 a = id_of(p->s, "a", "fa");
    guint32 root;

    (void)data;
    g_assert_cmpint(attach(c, "a", &root), ==, 0);
    refused(p, "[export b]\ndir=@/b\nnonsense\n", ":3: ", "expected KEY=VALUE");
    refused(p, "[export b]\ndir=@/b\nsubdirs=maybe\n", ":3: ", "none of no, yes");
    refused(p, "[export b]\ndir=@/b\n[export c]\ndir=@/nowhere\n", ":3: ", "nowhere");
    refused(p, "[export b]\ndir=@/b\n[export c]\ndir=@/b\nstore=lmdb:@/b/s\n", ":3: ", "inside");
    refused(p, "[export b]\ndir=@/b\nstore=lmdb:@/a/fa\n", ":1: ", "fa");
    refused(p, "[export b]\ndir=@/b\nstore=lmdb:@/s1\n[export c]\ndir=@/b\nstore=lmdb:@/a/fa\n",
            ": ", "fa");
    refused(p, "[export b]\ndir=@/b\nmarkers=no\n", ":1: ", "share a store");
    refused(p, "[export b]\ndir=@/b\n[export a]\ndir=@/a\nweak=split\n", ":5: ", "restart");
    refused(p, "[daemon]\naccess=trusted\n[export b]\ndir=@/b\n", ":2: ", "restart");
    refused(p, "[daemon]\nisolate=no\n[export b]\ndir=@/b\n", ":2: ", "restart");
    g_assert_cmpint(g_unlink(p->conf), ==, 0);
    g_autofree char *reply = ask(p);
    g_assert_nonnull(strstr(reply, "No such file"));
    /* the export of the command line is none of the file's: an empty one would be taken */
    g_assert_cmpint(mkfifo(p->conf, 0600), ==, 0);
    g_autofree char *pipe_reply = ask(p);
    g_assert_true(g_str_has_prefix(pipe_reply, "{\"error\""));
    g_assert_cmpint(g_unlink(p->conf), ==, 0);
    /* none of that left a trace */
    g_assert_cmpint(try_attach(p->s, "b"), ==, ENOENT);
    g_assert_cmpint(try_attach(p->s, "c"), ==, ENOENT);
    g_assert_cmpuint(id_of(p->s, "a", "fa"), ==, a);
    g_assert_cmpint(client_mkdir(c, root, "x", 0755, NULL), ==, 0);
    client_close(c);
    g_assert_cmpuint(count_in_log(p->s, "stays in force"), ==, 12);
    reload(p, "[export a]\ndir=@/a\n[export b]\ndir=@/b\n", "\"added\":[\"b\"]");
}

static void without_a_file(void)
{
    struct place p = {.s = server_new("memory:", NULL)};

    p.control = g_build_filename(p.s->tmp, "control", NULL);
    const char *extra[] = {"--control", p.control, NULL};
    g_strfreev(p.s->extra);
    p.s->extra = g_strdupv((char **)extra);
    g_assert_true(server_start(p.s));
    g_autofree char *reply = ask(&p);
    g_assert_nonnull(strstr(reply, "without a configuration file"));
    g_assert_cmpint(kill(p.s->pid, SIGHUP), ==, 0);
    wait_for_log(p.s, "stays in force", 2);
    g_assert_cmpint(try_attach(p.s, "data"), ==, 0);
    g_assert_cmpint(server_terminate(p.s), ==, 0);
    server_free(p.s);
    g_free(p.control);
}

/* ---- under load ------------------------------------------------------------------------------ */

static guint entries(pid_t pid, const char *what)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, what);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    guint count = 0;

    while (dir != NULL && g_dir_read_name(dir) != NULL)
        count++;
    return count;
}

struct traffic {
    struct server *s;
    const char *aname;
    gint stop; /* atomic */
    gint done; /* atomic */
    guint64 id;
};

/* Attaches and goes, or is refused; and never sees another id. */
static gpointer come_and_go(gpointer data)
{
    struct traffic *t = data;

    for (; !g_atomic_int_get(&t->stop); g_atomic_int_inc(&t->done)) {
        struct client *c = hello(t->s);
        struct client_qid qid;
        guint32 root;
        int error = attach(c, t->aname, &root);

        g_assert_true(error == 0 || error == ENOENT);
        for (int i = 0; error == 0 && i < 5; i++) {
            guint32 fid = client_fid(c);

            g_assert_cmpint(client_walk_path(c, root, fid, "fb", &qid), ==, 0);
            g_assert_cmpuint(qid.path, ==, t->id);
            g_assert_cmpint(client_clunk(c, fid), ==, 0);
        }
        client_close(c);
    }
    return NULL;
}

static void many_under_traffic(struct place *p, gconstpointer data)
{
    static const char with[] = "[export b]\ndir=@/b\nstore=lmdb:@/other\n[export a]\ndir=@/a\n";
    static const char changed[] =
        "[export b]\ndir=@/b\nstore=lmdb:@/other\nqid-version=mtime\n[export a]\ndir=@/a\n";
    const char *wanted = g_getenv("QIDMAP_RELOAD_COUNT");
    guint rounds = wanted != NULL ? (guint)atoi(wanted) / 3 : 8, fds = 0, threads = 0;
    struct traffic t[2] = {{.s = p->s, .aname = "b"}, {.s = p->s, .aname = "b"}};
    struct client *c = hello(p->s);
    GThread *workers[2];
    guint32 root;

    (void)data;
    g_assert_cmpint(attach(c, "a", &root), ==, 0);
    reload(p, with, "\"added\":[\"b\"]");
    t[0].id = t[1].id = id_of(p->s, "b", "fb");
    for (int i = 0; i < 2; i++)
        workers[i] = g_thread_new("traffic", come_and_go, &t[i]);
    for (int i = 0; i < 2; i++) /* they have begun */
        while (g_atomic_int_get(&t[i].done) == 0)
            poll(NULL, 0, 1);
    /* What a signal asked for may have been done already, with the same file. */
    for (guint i = 0; i < rounds; i++) {
        reload(p, "[export a]\ndir=@/a\n", "\"result\"");
        for (int k = 0; k < 5; k++)
            kill(p->s->pid, SIGHUP);
        reload(p, changed, "\"result\"");
        reload(p, with, "\"result\"");
        g_assert_cmpint(client_walk_path(c, root, client_fid(c), "fa", NULL), ==, 0);
    }
    for (int i = 0; i < 2; i++) {
        g_atomic_int_set(&t[i].stop, 1);
        g_thread_join(workers[i]);
    }
    client_close(c);
    /* All threads are there by now; from here on nothing may be added. */
    for (guint i = 0; i < 2 * rounds; i++) {
        reload(p, "[export a]\ndir=@/a\n", "\"result\"");
        reload(p, with, "\"result\"");
        if (i == 4) {
            fds = entries(p->s->pid, "fd");
            threads = entries(p->s->pid, "task");
        }
    }
    for (int i = 0; i < WAIT_MS / 10 && (entries(p->s->pid, "fd") > fds + 2 ||
                                         entries(p->s->pid, "task") > threads + 2);
         i++)
        poll(NULL, 0, 10);
    g_assert_cmpuint(entries(p->s->pid, "fd"), <=, fds + 2); /* who accepts, just now */
    g_assert_cmpuint(entries(p->s->pid, "task"), <=, threads + 2);
    g_assert_cmpuint(count_in_log(p->s, "not given back"), ==, 0);
}

static void killed_in_between(struct place *p, gconstpointer data)
{
    static const char with[] = "[export b]\ndir=@/b\nstore=lmdb:@/other\n[export a]\ndir=@/a\n";
    guint64 a = id_of(p->s, "a", "fa"), b;

    (void)data;
    reload(p, with, "\"added\":[\"b\"]");
    b = id_of(p->s, "b", "fb");
    for (int i = 0; i < 6; i++) {
        write_conf(p, i % 2 == 0 ? "[export a]\ndir=@/a\n" : with);
        g_assert_cmpint(kill(p->s->pid, SIGHUP), ==, 0);
        g_usleep((gulong)g_test_rand_int_range(0, 12000));
        server_kill(p->s);
        write_conf(p, with);
        g_assert_true(server_start(p->s));
        g_assert_cmpuint(id_of(p->s, "a", "fa"), ==, a);
        g_assert_cmpuint(id_of(p->s, "b", "fb"), ==, b);
    }
}

#define TEST(path, fn) g_test_add(path, struct place, NULL, setup, fn, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    TEST("/reload/sessions-go-on", sessions_go_on);
    TEST("/reload/version-lets-go", version_lets_go);
    TEST("/reload/options-apply-to-later-attaches", options_apply_to_later_attaches);
    TEST("/reload/limits-apply-to-living-sessions", limits_apply_to_living_sessions);
    TEST("/reload/ids-stay", ids_stay);
    g_test_add_func("/reload/open-doors-are-told-of", open_doors_are_told_of);
    TEST("/reload/nothing-changes", nothing_changes);
    g_test_add_func("/reload/without-a-file", without_a_file);
    TEST("/reload/many-under-traffic", many_under_traffic);
    TEST("/reload/killed-in-between", killed_in_between);
    return g_test_run();
}
