/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a start that cannot succeed ends with a status that is not 0 and one line that names
 * what is wrong, and leaves nothing behind; usage mistakes give status 2.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct place {
    char *tmp, *dir, *export, *store_dir, *store, *sock, *listen;
};

static void setup(struct place *p, gconstpointer data)
{
    (void)data;
    p->tmp = g_dir_make_tmp("qidmap-start-XXXXXX", NULL);
    p->dir = g_build_filename(p->tmp, "data", NULL);
    p->export = g_strdup_printf("data=%s", p->dir);
    p->store_dir = g_build_filename(p->tmp, "store", NULL);
    p->store = g_strdup_printf("lmdb:%s", p->store_dir);
    p->sock = g_build_filename(p->tmp, "sock", NULL);
    p->listen = g_strdup_printf("unix:%s", p->sock);
    g_assert_cmpint(g_mkdir(p->dir, 0755), ==, 0);
}

static void teardown(struct place *p, gconstpointer data)
{
    const char *rm[] = {"rm", "-rf", p->tmp, NULL};

    (void)data;
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(p->tmp);
    g_free(p->dir);
    g_free(p->export);
    g_free(p->store_dir);
    g_free(p->store);
    g_free(p->sock);
    g_free(p->listen);
}

/* runs it, expects this status and a line with this word (as the only one unless it is usage) */
static void fails(const char *const *args, int want, const char *word)
{
    g_autofree char *err = NULL;
    int status = server_run(args, &err);
    g_auto(GStrv) lines = NULL;

    g_test_message("status %d: %s", status, err);
    g_assert_cmpint(status, ==, want);
    g_assert_nonnull(strstr(err, word));
    lines = g_strsplit(g_strchomp(err), "\n", -1);
    if (want == 1)
        g_assert_cmpuint(g_strv_length(lines), ==, 1);
}
#define FAILS(want, word, ...) fails((const char *const[]){__VA_ARGS__, NULL}, want, word)

static void usage_mistakes(struct place *p, gconstpointer data)
{
    (void)data;
    FAILS(2, "--no-such-option", "--no-such-option");
    FAILS(2, "stray", "--export", p->export, "--store", "memory:", "--listen", p->listen, "stray");
    FAILS(2, "no-equals-sign", "--export", "no-equals-sign", "--store", "memory:", "--listen",
          p->listen);
    FAILS(2, "elsewhere", "--export", p->export, "--store", "memory:", "--listen", "elsewhere:1");
    FAILS(2, "sometimes", "--export", p->export, "--store", "memory:", "--listen", p->listen,
          "--multidevs", "sometimes");
    FAILS(2, "everyone", "--export", p->export, "--store", "memory:", "--listen", p->listen,
          "--access", "everyone");
    FAILS(2, "many", "--export", p->export, "--store", "memory:", "--listen", p->listen,
          "--threads", "many");
    FAILS(2, "--store", "--export", p->export, "--listen", p->listen);
    FAILS(2, "--listen", "--export", p->export, "--store", "memory:");
    g_assert_cmpint(g_access(p->sock, F_OK), !=, 0);
}

static void same_export_name_twice(struct place *p, gconstpointer data)
{
    g_autofree char *other = g_strdup_printf("data=%s", p->tmp);

    (void)data;
    FAILS(2, "data", "--export", p->export, "--export", other, "--store", "memory:", "--listen",
          p->listen);
}

static void missing_directory(struct place *p, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(g_rmdir(p->dir), ==, 0);
    FAILS(1, p->dir, "--export", p->export, "--store", p->store, "--listen", p->listen);
    g_assert_cmpint(g_access(p->store_dir, F_OK), !=, 0);
    g_assert_cmpint(g_access(p->sock, F_OK), !=, 0);
    g_assert_cmpint(g_access(p->dir, F_OK), !=, 0);
}

static void not_a_directory(struct place *p, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(g_rmdir(p->dir), ==, 0);
    g_assert_true(g_file_set_contents(p->dir, "file", -1, NULL));
    FAILS(1, p->dir, "--export", p->export, "--store", p->store, "--listen", p->listen);
    g_assert_cmpint(g_access(p->store_dir, F_OK), !=, 0);
}

static void busy_address(void)
{
    struct server *s = server_new("memory:", NULL);
    g_autofree char *export = g_strdup_printf("data=%s", s->dir);
    g_autofree char *fresh_dir = g_build_filename(s->tmp, "fresh", NULL);
    g_autofree char *fresh = g_strdup_printf("lmdb:%s", fresh_dir);
    struct client *c;

    g_assert_true(server_start(s));
    FAILS(1, s->addr + 5, "--export", export, "--store", fresh, "--listen", s->addr);
    FAILS(1, s->tcp + 4, "--export", export, "--store", fresh, "--listen", s->tcp);
    FAILS(2, "1 to 65535", "--export", export, "--store", fresh, "--listen", "tcp:127.0.0.1:65537");
    g_assert_cmpint(g_access(fresh_dir, F_OK), !=, 0);
    /* and the one that holds it goes on */
    c = server_client(s);
    client_close(c);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

/* A socket that a killed server left behind is no reason to fail; another's file is. */
static void left_over_socket(void)
{
    struct server *s = server_new("memory:", NULL);

    g_assert_true(server_start(s));
    server_kill(s);
    g_assert_true(server_start(s));
    g_assert_cmpint(server_terminate(s), ==, 0);
    g_assert_cmpint(g_access(s->addr + 5, F_OK), !=, 0);
    g_assert_true(g_file_set_contents(s->addr + 5, "precious", -1, NULL));
    g_assert_false(server_start(s));
    g_assert_cmpint(WEXITSTATUS(server_wait(s)), ==, 1);
    {
        g_autofree char *text = NULL;

        g_assert_true(g_file_get_contents(s->addr + 5, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, "precious");
    }
    server_free(s);
}

static void bad_store_uris(struct place *p, gconstpointer data)
{
    (void)data;
    FAILS(1, "nonsense:x", "--export", p->export, "--store", "nonsense:x", "--listen", p->listen);
    FAILS(1, "/nonexistent/deep/store", "--export", p->export, "--store",
          "lmdb:/nonexistent/deep/store", "--listen", p->listen);
    g_assert_cmpint(g_access(p->sock, F_OK), !=, 0);
}

/* The first file with this ending below a directory. */
static char *find_file(const char *dir, const char *suffix)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name;
    char *found = NULL;

    while (d != NULL && found == NULL && (name = g_dir_read_name(d)) != NULL) {
        g_autofree char *path = g_build_filename(dir, name, NULL);

        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            found = find_file(path, suffix);
        else if (g_str_has_suffix(path, suffix))
            found = g_steal_pointer(&path);
    }
    return found;
}

static void damaged_store(void)
{
    struct server *s = server_new("lmdb:", NULL);
    g_autofree char *export = g_strdup_printf("data=%s", s->dir);
    g_autofree char *file = NULL, *before = NULL, *after = NULL;
    gsize len = 0, len_after = 0;
    struct client *c;

    make_file(s, "file", "x");
    g_assert_true(server_start(s));
    c = server_client(s);
    walk_new(c, "file");
    client_close(c);
    g_assert_cmpint(server_terminate(s), ==, 0);
    file = find_file(s->store + strlen("lmdb:"), "data.mdb");
    g_assert_nonnull(file);
    g_assert_true(g_file_get_contents(file, &before, &len, NULL));
    for (gsize i = 0; i < len; i++)
        before[i] ^= 0x5a;
    g_assert_true(g_file_set_contents(file, before, len, NULL));
    FAILS(1, "store", "--export", export, "--store", s->store, "--listen", s->addr);
    g_assert_true(g_file_get_contents(file, &after, &len_after, NULL));
    g_assert_cmpmem(before, len, after, len_after);
    /* an empty file instead is no fresh store, either */
    g_assert_true(g_file_set_contents(file, "", 0, NULL));
    FAILS(1, "store", "--export", export, "--store", s->store, "--listen", s->addr);
    server_free(s);
}

static void store_in_use(void)
{
    struct server *s = server_new("lmdb:", NULL);
    g_autofree char *export = g_strdup_printf("data=%s", s->dir);
    g_autofree char *addr = g_strdup_printf("unix:%s/second", s->tmp);

    g_assert_true(server_start(s));
    FAILS(1, "store", "--export", export, "--store", s->store, "--listen", addr);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

static void bad_configuration(struct place *p, gconstpointer data)
{
    static const struct {
        const char *text, *word;
    } bad[] = {
        {"[daemon\n", "conf"},
        {"[daemon]\nlisten=unix:/tmp/never\nstore=memory:\nno-such-key=1\n[export a]\ndir=/\n",
         "no-such-key"},
        {"[daemon]\nlisten=unix:/tmp/never\nstore=memory:\n[exprot a]\ndir=/\n", "exprot"},
        {"[daemon]\nlisten=unix:/tmp/never\nstore=memory:\n[export a]\n", "dir"},
        {"[daemon]\nlisten=unix:/tmp/never\nstore=memory:\nthreads=-5\n[export a]\ndir=/\n",
         "threads"},
    };
    g_autofree char *conf = g_build_filename(p->tmp, "conf", NULL);

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        const char *args[] = {"--config", conf, NULL};
        g_autofree char *err = NULL;
        int status;

        g_assert_true(g_file_set_contents(conf, bad[i].text, -1, NULL));
        status = server_run(args, &err);
        g_test_message("status %d: %s", status, err);
        g_assert_true(status == 1 || status == 2);
        g_assert_nonnull(strstr(err, bad[i].word));
    }
    FAILS(1, "/nonexistent.conf", "--config", "/nonexistent.conf");
}

/* A bad value is told with its file and line, whatever the key is. */
static void values_of_the_file(struct place *p, gconstpointer data)
{
    static const char *const bad[] = {"idle-timeout=-3",  "stall-timeout=99999999",
                                      "descriptors=-1",   "isolate=perhaps",
                                      "seccomp=perhaps",  "limit=fids=10;fidds=3",
                                      "trace=all;nobody", "access=x",
                                      "threads=1",        "threads=many",
                                      "msize-max=5",      "squash=root",
                                      "squash-user=root", "security=x",
                                      "xattrs=user,x",    "qid-version=1",
                                      "subdirs=maybe",    "allow=unix,x",
                                      "fs-id=x",          "multidevs=x",
                                      "readonly=maybe",   "bind=x"};
    g_autofree char *conf = g_build_filename(p->tmp, "conf", NULL);
    g_autofree char *where = g_strdup_printf("%s:6: ", conf);

    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        gboolean of_export = g_str_has_prefix(bad[i], "readonly");
        g_autofree char *text =
            g_strdup_printf("%s[daemon]\nlisten=%s\nstore=memory:\n%s%s[export a]\ndir=%s\n%s\n",
                            of_export ? "" : "# a comment\n\n", p->listen, of_export ? "" : bad[i],
                            of_export ? "" : "\n", p->dir, of_export ? bad[i] : "");

        g_assert_true(g_file_set_contents(conf, text, -1, NULL));
        FAILS(1, where, "--config", conf);
    }
}

static void help_and_version(void)
{
    g_autofree char *err = NULL, *err2 = NULL;

    g_assert_cmpint(server_run((const char *const[]){"--help", NULL}, &err), ==, 0);
    g_assert_cmpint(server_run((const char *const[]){"--version", NULL}, &err2), ==, 0);
    g_assert_cmpstr(err, ==, "");
    g_assert_cmpstr(err2, ==, "");
}

static void signals_end_in_order(void)
{
    static const int signals[] = {SIGTERM, SIGINT};

    for (guint i = 0; i < G_N_ELEMENTS(signals); i++) {
        struct server *s = server_new("lmdb:", NULL);
        struct client *c;

        g_assert_true(server_start(s));
        c = server_client(s);
        kill(s->pid, signals[i]);
        g_assert_cmpint(server_wait(s), ==, 0);
        g_assert_cmpint(client_clunk(c, ROOT_FID), ==, CLIENT_EOF);
        client_close(c);
        server_free(s);
    }
}

int main(int argc, char **argv)
{
    g_autofree char *runtime = g_dir_make_tmp("qidmap-runtime-XXXXXX", NULL);
    const char *rm[] = {"rm", "-rf", runtime, NULL};
    int rc;

    /* A user who has no such folder is told so, in a line of its own. */
    g_setenv("XDG_RUNTIME_DIR", runtime, TRUE);
#define PLACE_TEST(path, fn) g_test_add(path, struct place, NULL, setup, fn, teardown)
    g_test_init(&argc, &argv, NULL);
    PLACE_TEST("/startup/usage", usage_mistakes);
    PLACE_TEST("/startup/name-twice", same_export_name_twice);
    PLACE_TEST("/startup/missing-directory", missing_directory);
    PLACE_TEST("/startup/not-a-directory", not_a_directory);
    g_test_add_func("/startup/busy-address", busy_address);
    g_test_add_func("/startup/left-over-socket", left_over_socket);
    PLACE_TEST("/startup/bad-store", bad_store_uris);
    g_test_add_func("/startup/damaged-store", damaged_store);
    g_test_add_func("/startup/store-in-use", store_in_use);
    PLACE_TEST("/startup/configuration", bad_configuration);
    PLACE_TEST("/startup/configuration-values", values_of_the_file);
    g_test_add_func("/startup/help", help_and_version);
    g_test_add_func("/startup/signals", signals_end_in_order);
    rc = g_test_run();
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    return rc;
}
