/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: a disk that is full, or fails, at any call that changes a file, makes new mappings fail
 * and nothing else: what was told is answered all the time, holds after the store was opened again,
 * and is given to nothing else. Likewise a process that ends at any such call.
 *
 * The workload runs under tests/lib/inject.c, again and again: first the first call fails, then the
 * second, and so on until a run has no call that fails. Each in several ways: once, from there on
 * for ever, torn in the middle, done and yet reported as failed, or the process killed. In one run
 * of this test each fifth call does, from a start that the seed gives: many runs try them all. An
 * xattr store finds out by hundreds of trials how much room it has: of these only some fail.
 *
 * CRASH_SEED, CRASH_FAULT_STEP (each so manieth call; 1: all), CRASH_ROUNDS, CRASH_BACKENDS
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/crash/lab.h"
#include "tests/lib/store-fixture.h"

#define CALLS_LAST 20000u
#define TRIAL      ":trusted.qidmap.t"
#define TRIAL_USER ":user.virtfs.system.qidmap.t"
#define TRIAL_STEP 17u

/* What writes bytes; and how many of them a torn one leaves: part of a page of LMDB's, part of a
 * header of an xattr store. */
#define WRITES     "calls=write,pwrite,writev,pwritev,setxattr"
#define TORN       " torn=700 " WRITES
#define TORN_XATTR " torn=21 " WRITES
#define NEEDS_ROOM " " WRITES ",fallocate,open,mkdir,ftruncate"

static const struct {
    const char *name;
    const char *spec;
    const char *xattr; /* in its place for an xattr store; NULL: the same */
    gboolean stay;     /* the handle is used on after an error; else closed, and the store opened */
} ways[] = {
    {"eio", "error=EIO", NULL, FALSE},
    {"eio-stay", "error=EIO", NULL, TRUE},
    {"eio-on", "error=EIO count=0", NULL, TRUE},
    {"eio-torn", "error=EIO" TORN, "error=EIO" TORN_XATTR, FALSE},
    {"torn-stay", "error=EIO" TORN, "error=EIO" TORN_XATTR, TRUE},
    {"eio-after", "error=EIO after=1", NULL, FALSE},
    {"aft-stay", "error=EIO after=1", NULL, TRUE},
    {"nospc", "error=ENOSPC", NULL, FALSE},
    {"full-stay", "error=ENOSPC", NULL, TRUE},
    {"nospc-on", "error=ENOSPC count=0" NEEDS_ROOM, NULL, TRUE},
    {"killed", "error=KILL", NULL, FALSE},
};

static const struct {
    const char *name;
    const char *scenarios[5];
} backends[] = {
    {"lmdb", {"affix", "full", "reopen", "load", NULL}},
    {"xattr", {"affix", "reopen", "load", NULL}}, /* it has no full map */
};

/* One test: a backend and a way. */
struct combination {
    unsigned backend, way;
};

static char *top;
static guint64 seed;
static unsigned step = 5, rounds = 3;

static char *program(const char *name)
{
    const char *build = g_getenv("top_builddir");

    return g_build_filename(build ? build : ".", "tests", name, NULL);
}

/* How often a call that counts was made, by the injector's log. */
static unsigned calls_in(const char *log)
{
    g_autofree char *text = NULL;
    unsigned n = 0;
    char *p;

    if (!g_file_get_contents(log, &text, NULL, NULL))
        return 0;
    for (p = text; *p; p++)
        n += *p == '\n';
    return n;
}

static const char *spec_of(const char *backend, unsigned way)
{
    return ways[way].xattr && strcmp(backend, "xattr") == 0 ? ways[way].xattr : ways[way].spec;
}

/* Can directories here hold an xattr store? */
static gboolean has_xattrs(void)
{
    return setxattr(top, "trusted.qidmap-try", "1", 1, 0) == 0 ||
           setxattr(top, "user.qidmap-try", "1", 1, 0) == 0;
}

/* One run with the nth call failing. Gives how many calls there were; violations go to `why`. */
static unsigned one_run(const char *backend, const char *scenario, unsigned way, unsigned nth,
                        struct lab_tally *tally, GString *why)
{
    const char *fails = spec_of(backend, way);
    g_autofree char *dir = g_build_filename(top, "run", NULL);
    g_autofree char *store = g_strdup_printf("%s:%s/store", backend, dir);
    g_autofree char *journal = g_build_filename(top, "journal", NULL);
    g_autofree char *log = g_build_filename(top, "calls", NULL);
    g_autofree char *workload = program("crash/workload");
    g_autofree char *module = program("lib/.libs/inject.so");
    g_autofree char *spec = g_strdup_printf("path=%s nth=%u log=%s %s", dir, nth, log, fails);
    g_autofree char *count = g_strdup_printf("%u", rounds);
    g_autofree char *output = NULL;
    g_autofree struct lab_told *told = NULL;
    g_auto(GStrv) env = g_get_environ();
    const char *argv[] = {workload,
                          "--store",
                          store,
                          "--journal",
                          journal,
                          "--scenario",
                          scenario,
                          "--rounds",
                          count,
                          "--tolerate",
                          ways[way].stay ? "--stay" : NULL,
                          NULL};
    g_autoptr(GError) error = NULL;
    size_t n_told = 0;
    int status;
    pid_t pid;

    fixture_remove(dir);
    g_remove(log);
    g_remove(journal);
    g_assert_cmpint(g_mkdir(dir, 0700), ==, 0);
    env = g_environ_setenv(env, "LD_PRELOAD", module, TRUE);
    env = g_environ_setenv(env, "QIDMAP_INJECT", spec, TRUE);
    if (!g_spawn_sync(NULL, (char **)argv, env, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                      &output, &status, &error)) {
        g_string_append(why, error->message);
        return 0;
    }
    if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) &&
        !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) {
        g_string_append_printf(why, "while it ran: %s (status %x)", output, (unsigned)status);
        return 0;
    }
    if (g_file_test(journal, G_FILE_TEST_EXISTS)) {
        told = lab_journal_read(journal, &n_told, why);
        if (!told)
            return 0;
    }
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        g_autoptr(GString) text = g_string_new("");
        gboolean opened = FALSE, kept;

        kept = lab_check(store, told, n_told, UINT64_MAX, seed + nth, &opened, text);
        if (!kept) {
            g_autofree char *file = g_build_filename(top, "why", NULL);

            g_file_set_contents(file, text->str, -1, NULL);
        }
        _exit(kept ? (opened ? 0 : 2) : 1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFSIGNALED(status)) {
        g_string_append_printf(why, "the check ended by signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status) == 1) {
        g_autofree char *file = g_build_filename(top, "why", NULL);
        g_autofree char *text = NULL;

        if (g_file_get_contents(file, &text, NULL, NULL))
            g_string_append(why, text);
    }
    tally->states++;
    tally->stores += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return calls_in(log);
}

/* The calls of the run that just ended, a line for each. */
static char **call_lines(void)
{
    g_autofree char *log = g_build_filename(top, "calls", NULL);
    g_autofree char *text = NULL;

    return g_strsplit(g_file_get_contents(log, &text, NULL, NULL) ? text : "", "\n", -1);
}

/* One of very many, and not this one's turn? */
static gboolean left_out(char **lines, unsigned n_lines, unsigned nth)
{
    const char *line = nth <= n_lines ? lines[nth - 1] : "";

    return (nth + seed) % TRIAL_STEP != 0 && (strstr(line, TRIAL) || strstr(line, TRIAL_USER));
}

static void every_call(gconstpointer data)
{
    const struct combination *c = data;
    const char *backend = backends[c->backend].name, *scenario;
    unsigned way = c->way, nth, calls, i;
    struct lab_tally tally = {0, 0, 0, lab_now()};

    if (strcmp(backend, "xattr") == 0 && !has_xattrs()) {
        g_autofree char *why = g_strdup_printf("no extended attributes in %s", top);

        g_test_skip(why);
        return;
    }
    for (i = 0; (scenario = backends[c->backend].scenarios[i]); i++) {
        g_autoptr(GString) calm = g_string_new("");
        g_auto(GStrv) lines = NULL;
        unsigned n_lines;

        (void)one_run(backend, scenario, way, 0, &tally, calm); /* nothing fails */
        g_assert_cmpstr(calm->str, ==, "");
        lines = call_lines();
        n_lines = g_strv_length(lines);
        for (nth = 1 + (unsigned)((seed + way + i) % step); nth < CALLS_LAST; nth += step) {
            g_autoptr(GString) why = g_string_new("");

            if (left_out(lines, n_lines, nth))
                continue;
            calls = one_run(backend, scenario, way, nth, &tally, why);
            if (why->len > 0) {
                g_test_message("violation: %s, %s: call %u, %s: %s", backend, scenario, nth,
                               spec_of(backend, way), why->str);
                if (++tally.violations % 5 == 0)
                    break;
                continue;
            }
            if (calls < nth)
                break; /* none was left to fail */
        }
        g_assert_cmpuint(nth, >, step); /* at least one call was there */
    }
    tally.seconds = lab_now() - tally.seconds;
    lab_tally_print("faults", ways[way].name, "host", backend, seed, &tally);
    if (tally.violations > 0)
        g_test_fail();
}

int main(int argc, char **argv)
{
    const char *given = g_getenv("CRASH_SEED"), *text;
    g_autofree char **args = g_new0(char *, (gsize)argc + 2);
    static struct combination all[G_N_ELEMENTS(backends) * G_N_ELEMENTS(ways)];
    const char *only = g_getenv("CRASH_BACKENDS");
    g_auto(GStrv) chosen = g_strsplit(only ? only : "lmdb xattr", " ", -1);
    unsigned b, i;
    int r, n = argc + 1;

    /* Keep going: all ways are tried, whatever one of them finds. */
    memcpy(args, argv, (gsize)argc * sizeof(*argv));
    args[argc] = g_strdup("-k");
    argv = args;
    g_test_init(&n, &argv, NULL);
    seed = given ? g_ascii_strtoull(given, NULL, 10) : g_random_int();
    if ((text = g_getenv("CRASH_FAULT_STEP")))
        step = (unsigned)MAX(atoi(text), 1);
    if ((text = g_getenv("CRASH_ROUNDS")))
        rounds = (unsigned)atoi(text);
    g_test_message("seed %" G_GUINT64_FORMAT " (CRASH_SEED repeats this)", seed);
    if (access("/dev/shm", W_OK) == 0 && !g_getenv("TMPDIR"))
        g_setenv("TMPDIR", "/dev/shm", TRUE);
    top = fixture_dir();
    for (b = 0; b < G_N_ELEMENTS(backends); b++) {
        if (!g_strv_contains((const char *const *)chosen, backends[b].name))
            continue;
        for (i = 0; i < G_N_ELEMENTS(ways); i++) {
            struct combination *c = &all[b * G_N_ELEMENTS(ways) + i];
            g_autofree char *name =
                g_strdup_printf("/crash/faults/%s/%s", backends[b].name, ways[i].name);

            *c = (struct combination){b, i};
            g_test_add_data_func(name, c, every_call);
        }
    }
    r = g_test_run();
    fixture_remove(top);
    return r;
}
