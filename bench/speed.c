/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How fast qidmapd is, beside diod and beside what the machine can do, in one run.
 *
 *   speed [OPTION...]          see --help, and bench/README.md for what is said there
 *
 * The peers are asked in turn, slice by slice and round by round, so that what else the machine
 * does hits all of them; ratios are made within a round, and their medians shown. The limit of a
 * case is a bare exchange of messages of the same sizes over the same kind of socket, and the
 * system calls without which it cannot be answered (speed-case.c), measured apart and added.
 *
 * For one request at a time all processes are pinned to one CPU. A server that gives wrong ids has
 * not won: they are compared before and after, and the run fails where they differ.
 */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/speed.h"

static struct {
    char *qidmapd, *diod, *dir, *json, *only, *data_file;
    int rounds, entries, start_rows;
    double slice;
    gboolean quick, calls;
} opt = {.rounds = 15, .slice = 0.1, .entries = 100000};

static char *tmp, *data;
static GPtrArray *peers;
static FILE *json;
static guint failed, told;

static struct peer *find_peer(const char *name, const char *transport)
{
    for (guint i = 0; i < peers->len; i++) {
        struct peer *peer = peers->pdata[i];

        if (strcmp(peer->name, name) == 0 && strcmp(peer->transport, transport) == 0)
            return peer;
    }
    return NULL;
}

static GArray *doubles(void)
{
    return g_array_new(FALSE, FALSE, sizeof(double));
}

static void note(GArray *list, double value)
{
    g_array_append_val(list, value);
}

static double median(const GArray *list)
{
    g_autoptr(GArray) sorted = doubles();

    if (list->len == 0)
        return 0;
    g_array_append_vals(sorted, list->data, list->len);
    qsort(sorted->data, sorted->len, sizeof(double), speed_compare_doubles);
    return g_array_index(sorted, double, sorted->len / 2);
}

static double at(const GArray *list, guint i)
{
    return g_array_index(list, double, i);
}

/* The median of the ratios of two lists, round by round; 0 where there is none. */
static double ratio(const GArray *a, const GArray *b)
{
    g_autoptr(GArray) ratios = doubles();

    for (guint i = 0; i < a->len && i < b->len; i++)
        if (at(a, i) > 0 && at(b, i) > 0)
            note(ratios, at(a, i) / at(b, i));
    return median(ratios);
}

static gboolean wanted(const char *name)
{
    return opt.only == NULL || strstr(name, opt.only) != NULL;
}

/* A target: `value` must be at most (or at least) `target`. */
static const char *verdict(double value, double target, gboolean at_least)
{
    gboolean pass = at_least ? value >= target : value <= target;

    if (value == 0)
        return "not measured";
    told++;
    failed += !pass;
    return pass ? "PASS" : "short";
}

static void line(const char *what, const char *transport, double value, const char *unit,
                 double target, gboolean at_least)
{
    printf("%-44s %-5s %9.3f %-12s %s %.2f  %s\n", what, transport, value, unit,
           at_least ? "at least" : "at most ", target, verdict(value, target, at_least));
    if (json != NULL)
        fprintf(json,
                "{\"what\":\"%s\",\"transport\":\"%s\",\"value\":%.4f,\"unit\":\"%s\","
                "\"target\":%.3f}\n",
                what, transport, value, unit, target);
    fflush(stdout);
}

/* ---- one request at a time ------------------------------------------------------------------- */

struct measured {
    GArray *p50, *cpu; /* one for each round */
};

#define PEERS_MAX 8

/* One case, in all rounds. */
static void run_case(const struct speed_case *one, FILE *table)
{
    struct measured m[PEERS_MAX];
    g_autoptr(GArray) naked = doubles(), replies = g_array_new(FALSE, FALSE, sizeof(guint32));
    static const char *const transports[] = {"unix", "tcp"};
    const struct peer *diod = find_peer("diod", "tcp");

    for (guint p = 0; p < peers->len; p++)
        m[p] = (struct measured){doubles(), doubles()};
    for (int round = 0; round < opt.rounds; round++) {
        note(naked, speed_naked(one, opt.slice / 4));
        for (guint i = 0; i < peers->len; i++) {
            /* the server first: the floor is told the sizes of its replies */
            guint p = (i + 2) % peers->len;
            struct peer *peer = peers->pdata[p];
            struct speed_result result = {0};
            g_autoptr(GPtrArray) frames =
                g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);

            one->build(frames, peer->client->msize);
            if (round == 0 || m[p].p50->len > 0)
                result = speed_run(peer, frames, replies, opt.slice);
            if (result.p50 == 0) { /* cannot do it: begins anew for the next case */
                client_close(peer->client);
                speed_attach(peer);
                speed_clean();
                continue;
            }
            note(m[p].p50, result.p50);
            note(m[p].cpu, result.cpu);
        }
    }
    for (guint t = 0; t < G_N_ELEMENTS(transports); t++) {
        const struct peer *ours = find_peer("qidmapd", transports[t]);
        const struct peer *floor = find_peer("floor", transports[t]);
        g_autoptr(GArray) limit = doubles();
        guint o, f, d = 0;
        double to_limit, to_diod = 0, diod_to_limit = 0;

        g_ptr_array_find(peers, ours, &o);
        g_ptr_array_find(peers, floor, &f);
        for (guint i = 0; i < m[f].p50->len; i++)
            note(limit, at(m[f].p50, i) + at(naked, i));
        to_limit = ratio(m[o].p50, limit);
        printf("%-24s %-5s %8.2f %7.2f %8.2f %8.2f %6.2fx %-6s %8.2f", one->name, transports[t],
               median(m[f].p50), median(naked), median(limit), median(m[o].p50), to_limit,
               verdict(to_limit, one->at_most, FALSE), median(m[o].cpu));
        if (diod != NULL && strcmp(transports[t], "tcp") == 0) {
            g_ptr_array_find(peers, diod, &d);
            diod_to_limit = ratio(m[d].p50, limit);
            to_diod = ratio(m[o].cpu, m[d].cpu);
            printf(" %8.2f %6.2fx %8.2f %6.2fx %s", median(m[d].p50), diod_to_limit,
                   median(m[d].cpu), to_diod, verdict(to_diod, 0.5, FALSE));
            fprintf(table, "\"%s\" %.3f %.3f %.3f %.3f %.3f\n", one->name, median(m[f].p50),
                    median(naked), median(m[o].p50), median(m[d].p50), to_limit);
        }
        printf("\n");
        if (json != NULL)
            fprintf(json,
                    "{\"what\":\"%s\",\"transport\":\"%s\",\"exchange_us\":%.3f,\"naked_us\":%.3f,"
                    "\"p50_us\":%.3f,\"to_limit\":%.3f,\"cpu_us\":%.3f,\"diod_p50_us\":%.3f,"
                    "\"diod_cpu_us\":%.3f,\"diod_to_limit\":%.3f,\"cpu_to_diod\":%.3f}\n",
                    one->name, transports[t], median(m[f].p50), median(naked), median(m[o].p50),
                    to_limit, median(m[o].cpu), d > 0 ? median(m[d].p50) : 0,
                    d > 0 ? median(m[d].cpu) : 0, diod_to_limit, to_diod);
        fflush(stdout);
    }
    for (guint p = 0; p < peers->len; p++) {
        g_array_unref(m[p].p50);
        g_array_unref(m[p].cpu);
    }
}

static void run_cases(void)
{
    FILE *table = fopen(opt.data_file != NULL ? opt.data_file : "/dev/null", "w");
    cpu_set_t set;
    int cpu = 0;

    if (table == NULL)
        speed_die(opt.data_file);
    /* the last CPU: the first has the interrupts */
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET((size_t)i, &set))
                cpu = i;
    peer_pin(getpid(), cpu);
    for (guint p = 0; p < peers->len; p++)
        peer_pin(((struct peer *)peers->pdata[p])->pid, cpu);
    printf("one request at a time, all on CPU %d; microseconds, p50; CPU: of the server\n", cpu);
    printf("%-24s %-5s %8s %7s %8s %8s %14s %8s %8s %7s %8s %7s\n", "case", "", "exchange", "naked",
           "limit", "qidmapd", "to limit", "CPU", "diod", "limit", "CPU", "CPU to diod");
    for (guint i = 0; i < speed_case_count; i++)
        if (wanted(speed_cases[i].name))
            run_case(&speed_cases[i], table);
    fclose(table);
}

/* How many system calls a case takes; threads that wait, and wake up, count as well. */
static void run_calls(void)
{
    g_autofree char *file = g_build_filename(tmp, "calls", NULL);

    printf("system calls for each case, all threads (strace)\n");
    for (guint i = 0; i < speed_case_count; i++) {
        gboolean any = FALSE;

        if (!wanted(speed_cases[i].name))
            continue;
        for (guint p = 0; p < peers->len; p++) {
            struct peer *peer = peers->pdata[p];
            g_autoptr(GArray) replies = g_array_new(FALSE, FALSE, sizeof(guint32));
            g_autoptr(GPtrArray) frames =
                g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
            struct speed_result result;
            guint64 calls;
            pid_t tracer;

            if (peer->floor)
                continue;
            speed_cases[i].build(frames, peer->client->msize);
            tracer = peer_trace(peer->pid, file);
            if (tracer == 0)
                return;
            result = speed_run(peer, frames, replies, 0.1);
            calls = peer_trace_end(tracer, file);
            if (result.count == 0) {
                client_close(peer->client);
                speed_attach(peer);
                speed_clean();
                continue;
            }
            if (!any)
                printf("%-24s", speed_cases[i].name);
            printf("  %s %s %.1f", peer->name, peer->transport,
                   (double)calls / (double)(result.count + 5));
            any = TRUE;
        }
        printf("\n");
    }
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void unpin(void)
{
    peer_pin(getpid(), -1);
    for (guint p = 0; p < peers->len; p++)
        peer_pin(((struct peer *)peers->pdata[p])->pid, -1);
}

static void run_deep(gboolean walk)
{
    g_autoptr(GArray) unix_cpu = doubles(), tcp_cpu = doubles(), diod_cpu = doubles();
    const char *name = walk ? "depth 32: walk, clunk" : "depth 32: getattr";
    struct peer *diod = find_peer("diod", "tcp");

    if (!wanted(name))
        return;
    for (int round = 0; round < opt.rounds; round++) {
        note(unix_cpu, speed_deep(find_peer("qidmapd", "unix"), walk, 32, opt.slice));
        note(tcp_cpu, speed_deep(find_peer("qidmapd", "tcp"), walk, 32, opt.slice));
        if (diod != NULL)
            note(diod_cpu, speed_deep(diod, walk, 32, opt.slice));
    }
    printf("%s: server CPU for each, us: unix %.3f, tcp %.3f, diod %.3f\n", name, median(unix_cpu),
           median(tcp_cpu), median(diod_cpu));
    line(name, "tcp", ratio(tcp_cpu, diod_cpu), "of diod's", 0.3, FALSE);
}

static void run_readdir(void)
{
    g_autofree char *path = g_build_filename(data, "huge", NULL);
    g_autoptr(GArray) ours = doubles(), diods = doubles(), naked = doubles();
    struct peer *diod = find_peer("diod", "tcp");

    if (!wanted("readdir"))
        return;
    for (int round = 0; round < opt.rounds; round++) {
        note(naked, speed_getdents(path, opt.slice));
        note(ours, speed_readdir(find_peer("qidmapd", "tcp"), "huge", opt.slice));
        if (diod != NULL)
            note(diods, speed_readdir(diod, "huge", opt.slice));
    }
    printf("readdir of %d: server CPU for each entry, us: %.4f, diod %.4f, getdents %.4f\n",
           opt.entries, median(ours), median(diods), median(naked));
    line("readdir, CPU for each entry", "tcp", ratio(ours, diods), "of diod's", 0.9, FALSE);
    line("readdir, CPU for each entry", "tcp", ratio(ours, naked), "of getdents", 1.3, FALSE);
}

static void run_stream(gboolean write)
{
    const char *name = write ? "stream: writes of 512k" : "stream: reads of 512k";
    g_autoptr(GArray) ours = doubles(), local = doubles(), diods = doubles();
    struct peer *diod = find_peer("diod", "tcp");

    if (!wanted(name))
        return;
    for (int round = 0; round < opt.rounds; round++) {
        note(ours, speed_stream(find_peer("qidmapd", "tcp"), write, 512 * 1024, 4, opt.slice));
        note(local, speed_stream(find_peer("qidmapd", "unix"), write, 512 * 1024, 4, opt.slice));
        if (diod != NULL)
            note(diods, speed_stream(diod, write, 512 * 1024, 4, opt.slice));
    }
    printf("%s, 4 under way, MiB/s: tcp %.0f, unix %.0f, diod %.0f", name, median(ours) / 1048576,
           median(local) / 1048576, median(diods) / 1048576);
    if (diod != NULL)
        printf(" (in pieces as its msize of %u allows)", diod->client->msize);
    printf("\n");
    line(name, "tcp", ratio(ours, diods), "of diod's", write ? 1.2 : 1.5, TRUE);
}

/* The floor shows what the machine and this client, whose threads are as many, make of 64. */
static void run_connections(void)
{
    for (guint p = 0; p < peers->len && wanted("connections"); p++) {
        const struct peer *peer = peers->pdata[p];
        g_autoptr(GArray) few = doubles(), many = doubles(), few_cpu = doubles();
        g_autoptr(GArray) many_cpu = doubles(), own = doubles();

        for (int round = 0; round < MAX(opt.rounds / 3, 3); round++) {
            struct speed_many one = speed_connections(peer, 8, opt.slice * 2);

            note(few, one.rate);
            note(few_cpu, one.cpu);
            one = speed_connections(peer, 64, opt.slice * 2);
            note(many, one.rate);
            note(many_cpu, one.cpu);
            note(own, one.client_cpu);
        }
        printf("connections, %s, %s: 8 get %.0f answers/s (CPU %.2f us each), 64 get %.0f (%.2f; "
               "%.2f of the client)\n",
               peer->name, peer->transport, median(few), median(few_cpu), median(many),
               median(many_cpu), median(own));
        if (strcmp(peer->name, "qidmapd") == 0)
            line("64 connections to 8, rate", peer->transport, ratio(many, few), "x", 1.0, TRUE);
    }
}

static void run_memory(void)
{
    struct peer *peer = find_peer("qidmapd", "unix");
    guint fids = 200000;
    guint64 before, after;
    struct client *c;

    if (!wanted("memory"))
        return;
    c = client_connect(peer->addr);
    before = peer_memory(peer->pid);
    if (c == NULL || client_hello(c, 8192) != 0 ||
        client_attach(c, SPEED_ROOT, geteuid(), peer->aname, NULL) != 0)
        speed_die("attach");
    for (guint i = 0; i < fids; i++)
        if (client_walk_path(c, SPEED_ROOT, SPEED_NEW + i, "d/file", NULL) != 0)
            speed_die("walk");
    after = peer_memory(peer->pid);
    client_close(c);
    line("memory, sessions that rest", "-", (double)before / 1048576, "MiB", 64, FALSE);
    line("memory, for each live fid", "-", after > before ? (double)(after - before) / fids : 0.001,
         "bytes", 200, FALSE);
}

static void run_start(void)
{
    g_autofree char *uri = g_strdup_printf("lmdb:%s/large", tmp);
    g_autoptr(GArray) times = doubles(), cpu = doubles();

    if (!wanted("start") || opt.start_rows == 0)
        return;
    speed_store_make(uri, (guint64)opt.start_rows);
    for (int i = 0; i < 6; i++) {
        pid_t pid;
        double ms = peer_start_time(tmp, data, opt.qidmapd, uri, &pid);
        double own = (double)peer_cpu(pid) / 1e6;

        peer_end(pid);
        if (i > 0) { /* the first registers what is exported */
            note(times, ms);
            note(cpu, own);
        }
    }
    printf("start with a store of %d rows: %.1f ms of CPU\n", opt.start_rows, median(cpu));
    line("start to the first reply", "unix", median(times), "ms", 50, FALSE);
}

/* ---- main ------------------------------------------------------------------------------------ */

static void remove_all(void)
{
    const char *argv[] = {"rm", "-rf", tmp, NULL};

    peers_stop();
    g_spawn_sync(NULL, (char **)(void *)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL,
                 NULL, NULL);
}

static gboolean parse(int *argc, char ***argv)
{
    const GOptionEntry entries[] = {
        {"qidmapd", 0, 0, G_OPTION_ARG_FILENAME, &opt.qidmapd, "The server (src/qidmapd)", "FILE"},
        {"diod", 0, 0, G_OPTION_ARG_FILENAME, &opt.diod, "diod to compare with", "FILE"},
        {"dir", 'D', 0, G_OPTION_ARG_FILENAME, &opt.dir, "Where to make data (/var/tmp)", "DIR"},
        {"rounds", 'r', 0, G_OPTION_ARG_INT, &opt.rounds, "How often (15)", "N"},
        {"slice", 's', 0, G_OPTION_ARG_DOUBLE, &opt.slice, "For each peer (0.1)", "SECONDS"},
        {"quick", 'q', 0, G_OPTION_ARG_NONE, &opt.quick, "7 rounds of 0.05 s", NULL},
        {"calls", 'c', 0, G_OPTION_ARG_NONE, &opt.calls, "Count system calls, too", NULL},
        {"only", 'o', 0, G_OPTION_ARG_STRING, &opt.only, "What has this in its name", "TEXT"},
        {"entries", 'e', 0, G_OPTION_ARG_INT, &opt.entries, "Of the large directory", "N"},
        {"start-rows", 0, 0, G_OPTION_ARG_INT, &opt.start_rows,
         "Measure the start with a store of so many rows", "N"},
        {"json", 'j', 0, G_OPTION_ARG_FILENAME, &opt.json, "Figures, one object a line", "FILE"},
        {"table", 't', 0, G_OPTION_ARG_FILENAME, &opt.data_file, "For gnuplot", "FILE"},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "speed: %s\n", error->message);
        return FALSE;
    }
    if (opt.quick) {
        opt.rounds = 7;
        opt.slice = 0.05;
    }
    if (opt.qidmapd == NULL)
        opt.qidmapd = g_strdup("src/qidmapd");
    return *argc == 1 && opt.rounds > 0 && opt.slice > 0 && opt.entries >= 100;
}

int main(int argc, char **argv)
{
    struct rlimit files = {65536, 65536};
    g_autofree char *store = NULL;
    guint checked = 0;

    if (!parse(&argc, &argv)) {
        fprintf(stderr, "usage: speed [OPTION...]; see speed --help\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    tmp = g_build_filename(opt.dir != NULL ? opt.dir : "/var/tmp", "qidmap-speed-XXXXXX", NULL);
    if (g_mkdtemp_full(tmp, 0755) == NULL)
        speed_die(tmp);
    atexit(remove_all);
    data = g_build_filename(tmp, "data", NULL);
    store = g_strdup_printf("lmdb:%s/store", tmp);
    if (opt.json != NULL && (json = fopen(opt.json, "w")) == NULL)
        speed_die(opt.json);
    speed_data_make(data, (guint)opt.entries);
    spinners_start();
    peers = peers_start(tmp, data, opt.qidmapd, opt.diod, store);
    if (opt.diod == NULL)
        fprintf(stderr, "speed: no --diod is given: there is nothing to compare with\n");
    for (guint p = 0; p < peers->len; p++) {
        struct peer *peer = peers->pdata[p];

        if (!peer->floor)
            checked += speed_check_ids(peer, "many");
        speed_attach(peer);
    }
    run_cases();
    if (opt.calls)
        run_calls();
    unpin();
    run_deep(FALSE);
    run_deep(TRUE);
    run_readdir();
    run_stream(FALSE);
    run_stream(TRUE);
    run_connections();
    for (guint p = 0; p < peers->len; p++)
        if (!((struct peer *)peers->pdata[p])->floor)
            checked += speed_check_ids(peers->pdata[p], "many");
    run_memory();
    run_start();
    printf("%u ids compared; %u of %u targets are met\n", checked, told - failed, told);
    if (json != NULL)
        fclose(json);
    return 0;
}
