/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The runner of the conformance suite: options, the order of the cases, a process and a directory
 * for each, what is known to fail, and what to do when the server has gone. Results are told by
 * report.c; it must not know what a case does.
 */
#include "config.h"

#include "tests/conform/report.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_DEADLINE_S 120
#define LONG_DEADLINE_S 900
#define REVIVE_TRIES    100

static const struct conform_case *const areas[] = {
    session_cases, walk_cases,  io_cases,        unlinked_cases, create_cases,
    rename_cases,  dir_cases,   attr_cases,      setattr_cases,  xattr_cases,
    lock_cases,    order_cases, malformed_cases, torture_cases,
};

static struct {
    gboolean list, tap, json;
    char *only, *expected, *revive;
} options;

/* ---- known failures -------------------------------------------------------------------------- */

static GHashTable *known; /* name -> reason */

static gboolean is_case(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(areas); i++)
        for (const struct conform_case *c = areas[i]; c->name != NULL; c++)
            if (strcmp(c->name, name) == 0)
                return TRUE;
    return FALSE;
}

/* Lines "NAME REASON", and comments with '#'. FALSE, and a word on stderr, for any other. */
static gboolean load_known(const char *path)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (path == NULL)
        return TRUE;
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        fprintf(stderr, "conform: cannot read %s\n", path);
        return FALSE;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) parts = NULL;

        g_strstrip(*line);
        if ((*line)[0] == '\0' || (*line)[0] == '#')
            continue;
        parts = g_strsplit_set(*line, " \t", 2);
        if (parts[1] == NULL || g_strstrip(parts[1])[0] == '\0') {
            fprintf(stderr, "conform: %s: no reason is given for %s\n", path, parts[0]);
            return FALSE;
        }
        if (!is_case(parts[0])) {
            fprintf(stderr, "conform: %s: no such case: %s\n", path, parts[0]);
            return FALSE;
        }
        g_hash_table_insert(known, g_strdup(parts[0]), g_strdup(parts[1]));
    }
    return TRUE;
}

/* ---- one case -------------------------------------------------------------------------------- */

static const char *missing(const struct conform_case *c)
{
    if ((c->needs & CASE_WRITES) && !env.writable)
        return "no --writable";
    if ((c->needs & CASE_HOST) && env.dir == NULL)
        return "no --dir";
    if ((c->needs & CASE_ROOT) && env.uid != 0)
        return "no root";
    if ((c->needs & CASE_PID) && env.pid == 0)
        return "no --pid";
    return NULL;
}

/* The case's directory, made in a process of its own, as a failure there ends it. */
static void prepare(void)
{
    const char *at = env.at;
    struct client *c;
    guint32 fid;
    int rc;

    env.at = NULL;
    c = session();
    rc = client_mkdir(c, ROOT, env.work, 0777, NULL);
    if (rc != 0 && rc != EEXIST)
        fail("cannot make the directory %s in the export: %s", env.work, rc_name(rc));
    fid = walk_to(c, ROOT, env.work);
    rc = client_mkdir(c, fid, at, 0777, NULL);
    if (rc != 0)
        fail("cannot make the directory %s/%s in the export: %s", env.work, at, rc_name(rc));
    client_close(c);
    env.at = at;
}

static void run_child(const struct conform_case *c, int out)
{
    signal(SIGPIPE, SIG_IGN);
    dup2(out, 1);
    alarm(c->needs & CASE_LONG ? LONG_DEADLINE_S : CASE_DEADLINE_S);
    if (c->needs & CASE_WRITES)
        prepare();
    else
        env.at = NULL;
    c->run(c->arg);
    _exit(0);
}

static struct result run_case(const struct conform_case *c)
{
    struct result r = {.c = c, .reason = g_hash_table_lookup(known, c->name)};
    GString *text = g_string_new("");
    g_autofree char *at = g_strdelimit(g_strdup(c->name), "/", '-');
    const char *lack = missing(c);
    gint64 began = g_get_monotonic_time();
    int out[2], status = 0;
    char buffer[4096];
    ssize_t n;
    pid_t pid;

    if (lack != NULL) {
        r.outcome = SKIPPED;
        r.text = g_string_free(g_string_assign(text, lack), FALSE);
        return r;
    }
    env.at = at;
    if (pipe2(out, O_CLOEXEC) != 0)
        g_error("pipe: %s", g_strerror(errno));
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        g_error("fork: %s", g_strerror(errno));
    if (pid == 0)
        run_child(c, out[1]);
    close(out[1]);
    while ((n = read(out[0], buffer, sizeof buffer)) > 0)
        g_string_append_len(text, buffer, n);
    close(out[0]);
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        g_string_append_printf(text, "the case ended with signal %d%s", WTERMSIG(status),
                               WTERMSIG(status) == SIGALRM ? ": it did not come to its end" : "");
    env.at = NULL;
    r.ms = (g_get_monotonic_time() - began) / 1000;
    r.text = g_string_free(text, FALSE);
    r.outcome = WIFEXITED(status) && WEXITSTATUS(status) == 0    ? PASSED
                : WIFEXITED(status) && WEXITSTATUS(status) == 77 ? SKIPPED
                                                                 : FAILED;
    return r;
}

/* ---- the server's life ----------------------------------------------------------------------- */

/* Asks in a process of its own whether the server still answers. */
static gboolean answers(void)
{
    int status = 1;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct client *c;

        env.at = NULL;
        c = session_or_null();
        _exit(c == NULL);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* FALSE: it does not come back. */
static gboolean revive(void)
{
    if (options.revive == NULL || system(options.revive) != 0)
        return FALSE;
    for (int i = 0; i < REVIVE_TRIES; i++) {
        if (answers())
            return TRUE;
        poll(NULL, 0, 100);
    }
    return FALSE;
}

/* ---- cleaning up ----------------------------------------------------------------------------- */

static void remove_below(struct client *c, guint32 dfid)
{
    GPtrArray *entries = NULL;
    struct client_attr attr = {.mode = 0700};

    client_setattr(c, dfid, SETATTR_MODE, &attr);
    if (client_readdir_all(c, dfid, 8000, &entries) != 0)
        return;
    for (guint i = 0; i < entries->len; i++) {
        const struct client_dirent *e = entries->pdata[i];
        const char *names[] = {e->name, NULL};
        struct client_qid qids[16];
        guint32 fid = client_fid(c);
        guint n;

        if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
            continue;
        if (!(e->qid.type & QTDIR)) {
            remove_name(c, dfid, e->name, 0);
        } else if (client_walk(c, dfid, fid, names, &n, qids) == 0) {
            remove_below(c, fid);
            client_clunk(c, fid);
            remove_name(c, dfid, e->name, 0x200);
        }
    }
    g_ptr_array_unref(entries);
}

static void clean_up(void)
{
    struct client *c;
    guint32 fid = 3;

    if (env.dir != NULL) {
        g_autofree char *path = g_build_filename(env.dir, env.work, NULL);
        const char *argv[] = {"rm", "-rf", "--one-file-system", path, NULL};

        g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                     NULL);
        return;
    }
    env.at = NULL;
    c = session_or_null();
    if (c != NULL && client_walk_path(c, ROOT, fid, env.work, NULL) == 0) {
        remove_below(c, fid);
        remove_name(c, ROOT, env.work, 0x200);
    }
    client_close(c);
}

/* ---- options --------------------------------------------------------------------------------- */

static gboolean parse(int argc, char **argv)
{
    gint uid = -1, rounds = 300, pid = 0, timeout = 20;
    gint64 seed = 1;
    const GOptionEntry entries[] = {
        {"aname", 0, 0, G_OPTION_ARG_STRING, &env.aname, "Name of the export to attach", "NAME"},
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &env.dir, "The exported directory on this host",
         "HOSTDIR"},
        {"uid", 0, 0, G_OPTION_ARG_INT, &uid, "Act as this user (default: who runs this)", "N"},
        {"writable", 0, 0, G_OPTION_ARG_NONE, &env.writable,
         "Make a directory in the export, and change things there", NULL},
        {"torture", 0, 0, G_OPTION_ARG_NONE, &env.torture, "Also cases that take minutes", NULL},
        {"pid", 0, 0, G_OPTION_ARG_INT, &pid, "The server's process, whose memory is looked at",
         "PID"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Of the seeded mutations (default 1)", "N"},
        {"rounds", 0, 0, G_OPTION_ARG_INT, &rounds, "Of the seeded mutations (default 300)", "N"},
        {"timeout", 0, 0, G_OPTION_ARG_INT, &timeout,
         "Seconds after which a reply is taken to be missing (default 20)", "S"},
        {"list", 0, 0, G_OPTION_ARG_NONE, &options.list, "Print the cases, and run none", NULL},
        {"only", 0, 0, G_OPTION_ARG_STRING, &options.only, "Only cases whose name matches",
         "PATTERN"},
        {"tap", 0, 0, G_OPTION_ARG_NONE, &options.tap, "Print TAP (default)", NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &options.json, "Print JSON, an object for each line",
         NULL},
        {"expected", 0, 0, G_OPTION_ARG_FILENAME, &options.expected,
         "Cases known to fail: lines of NAME REASON", "FILE"},
        {"revive", 0, 0, G_OPTION_ARG_STRING, &options.revive,
         "What to run when the server has gone", "COMMAND"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("ADDRESS");
    g_autoptr(GError) error = NULL;

    g_option_context_set_summary(context, "Tries whether a 9P2000.L server keeps the protocol.\n"
                                          "ADDRESS is unix:PATH or tcp:HOST:PORT.");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "conform: %s\n", error->message);
        return FALSE;
    }
    if (argc != (options.list ? 1 : 2)) {
        fprintf(stderr, "conform: give one ADDRESS; see --help\n");
        return FALSE;
    }
    if (rounds < 0 || timeout < 1 || timeout > CASE_DEADLINE_S || (options.tap && options.json)) {
        fprintf(stderr, "conform: an option is out of its range; see --help\n");
        return FALSE;
    }
    env.addr = argv[1];
    env.uid = uid >= 0 ? (guint32)uid : geteuid();
    env.pid = pid;
    env.seed = (guint32)seed;
    env.rounds = (guint)rounds;
    env.timeout_ms = timeout * 1000;
    if (env.aname == NULL)
        env.aname = "";
    return load_known(options.expected);
}

int main(int argc, char **argv)
{
    g_autofree char *work = NULL;
    gboolean good = TRUE, gone = FALSE;

    if (!parse(argc, argv))
        return 2;
    if (options.list) {
        for (gsize i = 0; i < G_N_ELEMENTS(areas); i++)
            for (const struct conform_case *c = areas[i]; c->name != NULL; c++)
                printf("%s\n    %s\n    [%s]\n", c->name, c->proves, c->rule);
        return 0;
    }
    umask(0);
    env.work = work = g_strdup_printf("conform.%d", (int)getpid());
    report_begin(options.json);
    for (gsize i = 0; i < G_N_ELEMENTS(areas) && !gone; i++)
        for (const struct conform_case *c = areas[i]; c->name != NULL && !gone; c++) {
            struct result r;

            if (options.only != NULL && !g_pattern_match_simple(options.only, c->name))
                continue;
            if ((c->needs & CASE_LONG) && !env.torture)
                continue; /* not asked for, which is no skip */
            r = run_case(c);
            if (r.outcome != SKIPPED && !answers()) {
                char *text = g_strdup_printf("%s%safter this case the server answers nobody",
                                             r.text, r.text[0] != '\0' ? "\n" : "");
                g_free(r.text);
                r.text = text;
                r.outcome = FAILED;
                gone = !revive();
            }
            good = report_result(&r) && good;
            g_free(r.text);
        }
    if (gone)
        report_gone();
    else if (env.writable)
        clean_up();
    good = report_end() && good && !gone;
    g_hash_table_unref(known);
    return good ? 0 : 1;
}
