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
 * A server that gives wrong ids has not won: each id in each reply is compared with what was told
 * before, and the run fails where one differs (speed-case.c).
 */
#include "config.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/folder.h"
#include "bench/speed-list.h"
#include "bench/speed.h"

static struct {
    char *qidmapd, *diod, *dir, *csv, *targets, *only;
    char **others;
    int rounds, entries, start_rows;
    double slice;
    gboolean quick, calls;
} opt = {.rounds = 30, .slice = 0.05, .entries = 100000};

static char *tmp, *data;
static GPtrArray *peers;

static struct peer *find_peer(const char *name, const char *transport)
{
    return peer_find(peers, name, transport);
}

static gboolean wanted(const char *name)
{
    return opt.only == NULL || strstr(name, opt.only) != NULL;
}

/* A target, and what the least that can be done would reach; 0: unknown. */
static void line_floor(const char *what, const char *transport, double value, const char *unit,
                       double target, gboolean at_least, double floor)
{
    const char *verdict = report_target(what, transport, value, unit, target, at_least, floor);

    printf("%-44s %-5s %9.3f %-12s %s %.2f  %s", what, transport, value, unit,
           at_least ? "at least" : "at most ", target, verdict);
    if (floor > 0)
        printf(" (floor %.3f)", floor);
    printf("\n");
    fflush(stdout);
}

static void line(const char *what, const char *transport, double value, const char *unit,
                 double target, gboolean at_least)
{
    line_floor(what, transport, value, unit, target, at_least, 0);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void unpin(void)
{
    peer_pin(getpid(), -1);
    for (guint p = 0; p < peers->len; p++)
        peer_pin(((struct peer *)peers->pdata[p])->pid, -1);
}

/* `at_most`: times diod's CPU; 0: told, without a target. */
static void run_deep(enum speed_deep deep, const char *name, double at_most)
{
    static const char *const transports[] = {"unix", "tcp"};

    for (guint t = 0; t < G_N_ELEMENTS(transports) && wanted(name); t++) {
        struct peer *ours = find_peer("qidmapd", transports[t]);
        struct peer *diod = find_peer("diod", transports[t]);
        struct peer *floor = find_peer("floor", transports[t]);
        g_autoptr(GArray) cpu = doubles(), diod_cpu = doubles(), floor_cpu = doubles();

        for (int round = 0; round < opt.rounds; round++) {
            note(cpu, speed_deep(ours, deep, 32, opt.slice));
            if (diod != NULL)
                note(diod_cpu, speed_deep(diod, deep, 32, opt.slice));
            note(floor_cpu, speed_deep(floor, deep, 32, opt.slice));
        }
        printf("%s for each, us, %s: %.3f, diod %.3f, floor %.3f\n", name, transports[t],
               median(cpu), median(diod_cpu), median(floor_cpu));
        if (at_most > 0)
            line_floor(name, transports[t], ratio(cpu, diod_cpu), "x diod", at_most, FALSE,
                       ratio(floor_cpu, diod_cpu));
    }
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
    line("readdir, CPU for each entry", "tcp", ratio(ours, diods), "x diod", 0.9, FALSE);
    line("readdir, CPU for each entry", "tcp", ratio(ours, naked), "x getdents", 1.3, FALSE);
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
    line(name, "tcp", ratio(ours, diods), "x diod", write ? 1.2 : 1.5, TRUE);
}

/* What a peer does for few connections and for many, round by round. */
struct crowd {
    const struct peer *peer; /* NULL: it is not here */
    GArray *few, *many, *few_cpu, *many_cpu, *own;
};

static void crowd_begin(struct crowd *crowd, const struct peer *peer)
{
    *crowd = (struct crowd){peer, doubles(), doubles(), doubles(), doubles(), doubles()};
}

static void crowd_ask(struct crowd *crowd)
{
    struct speed_many one;

    if (crowd->peer == NULL)
        return;
    one = speed_connections(crowd->peer, 8, opt.slice * 2);
    note(crowd->few, one.rate);
    note(crowd->few_cpu, one.cpu);
    one = speed_connections(crowd->peer, 64, opt.slice * 2);
    note(crowd->many, one.rate);
    note(crowd->many_cpu, one.cpu);
    note(crowd->own, one.client_cpu);
}

/* Returns the rate of many to that of few. */
static double crowd_end(struct crowd *crowd)
{
    double of = 0;

    if (crowd->peer != NULL) {
        printf("connections, %s, %s: 8 get %.0f answers/s (CPU %.2f us each), 64 get %.0f (%.2f; "
               "%.2f of the client)\n",
               crowd->peer->name, crowd->peer->transport, median(crowd->few),
               median(crowd->few_cpu), median(crowd->many), median(crowd->many_cpu),
               median(crowd->own));
        of = ratio(crowd->many, crowd->few);
    }
    g_array_unref(crowd->few);
    g_array_unref(crowd->many);
    g_array_unref(crowd->few_cpu);
    g_array_unref(crowd->many_cpu);
    g_array_unref(crowd->own);
    return of;
}

/* The floor shows what the machine and this client, whose threads are as many, make of 64. */
static void run_connections(void)
{
    static const char *const transports[] = {"unix", "tcp"};

    for (guint t = 0; t < G_N_ELEMENTS(transports) && wanted("connections"); t++) {
        struct crowd floor, ours, diods;
        double limit, of;

        crowd_begin(&floor, find_peer("floor", transports[t]));
        crowd_begin(&ours, find_peer("qidmapd", transports[t]));
        crowd_begin(&diods, find_peer("diod", transports[t]));
        for (int round = 0; round < MAX(opt.rounds / 2, 3); round++) {
            crowd_ask(&floor);
            crowd_ask(&ours);
            crowd_ask(&diods);
        }
        limit = crowd_end(&floor);
        of = crowd_end(&ours);
        crowd_end(&diods);
        line_floor("64 connections to 8, rate", transports[t], of, "x", 1.0, TRUE, limit);
    }
}

static struct client *attached(const struct peer *peer)
{
    struct client *c = client_connect(peer->addr);

    if (c == NULL || client_hello(c, 8192) != 0 ||
        client_attach(c, SPEED_ROOT, geteuid(), peer->aname, NULL) != 0)
        speed_die("attach");
    return c;
}

/* All that the server takes, where so many sessions have read a file and rest. */
static double memory_at_rest(const struct peer *peer, guint sessions)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    struct client_qid qid;
    guint64 memory;

    for (guint i = 0; i < sessions; i++) {
        struct client *c = attached(peer);
        g_autoptr(GByteArray) bytes = NULL;

        g_ptr_array_add(all, c);
        if (client_walk_path(c, SPEED_ROOT, SPEED_OPEN, "d/file", &qid) != 0 ||
            qid.path != peer->file_id || client_lopen(c, SPEED_OPEN, O_RDONLY, NULL) != 0 ||
            client_read(c, SPEED_OPEN, 0, 4096, &bytes) != 0)
            speed_die("read, or the id of what is read");
    }
    memory = peer_memory(peer->pid);
    for (guint i = 0; i < sessions; i++)
        client_close(g_ptr_array_index(all, i));
    return (double)memory;
}

/* What `fids` fids of one session take: of one file, or each of a file of its own. */
static double memory_of(const struct peer *peer, guint fids, gboolean one_file)
{
    struct client *c = attached(peer);
    guint64 before = peer_memory(peer->pid), after;

    for (guint i = 0; i < fids; i++) {
        g_autofree char *path =
            one_file ? g_strdup("d/file") : g_strdup_printf("huge/a-file-%06u", i);
        const char *name = strchr(path, '/') + 1;
        struct client_qid qid;

        if (client_walk_path(c, SPEED_ROOT, SPEED_NEW + i, path, &qid) != 0 ||
            (one_file && qid.path != peer->file_id))
            speed_die("walk, or its id");
        if (!one_file)
            speed_id_entry(peer, qid.path, (const guint8 *)name, (guint)strlen(name));
    }
    after = peer_memory(peer->pid);
    client_close(c);
    if (before == 0 || after <= before)
        speed_die("how much memory the server has");
    return (double)(after - before) / fids;
}

static void run_memory(void)
{
    struct peer *peer = find_peer("qidmapd", "unix");

    if (!wanted("memory"))
        return;
    peer_restart(peers, "qidmapd", tmp);
    line("memory, for each live fid, all of one file", "-", memory_of(peer, 200000, TRUE), "bytes",
         200, FALSE);
    peer_restart(peers, "qidmapd", tmp); /* it has nothing left to use again */
    line("memory, for each live fid, each of a file of its own", "-",
         memory_of(peer, (guint)opt.entries, FALSE), "bytes", 200, FALSE);
    peer_restart(peers, "qidmapd", tmp);
    line("memory, 500 sessions that rest", "-", memory_at_rest(peer, 500) / 1048576, "MiB", 64,
         FALSE);
}

static void run_start(void)
{
    g_autofree char *uri = g_strdup_printf("lmdb:%s/large", tmp), *what = NULL;
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
    what = g_strdup_printf("start to the first reply, %d rows", opt.start_rows);
    line(what, "unix", median(times), "ms", 50, FALSE);
}

/* ---- main ------------------------------------------------------------------------------------ */

static void remove_all(void)
{
    peers_stop();
    folder_remove();
}

static gboolean parse(int *argc, char ***argv)
{
    const GOptionEntry entries[] = {
        {"qidmapd", 0, 0, G_OPTION_ARG_FILENAME, &opt.qidmapd, "The server (src/qidmapd)", "FILE"},
        {"diod", 0, 0, G_OPTION_ARG_FILENAME, &opt.diod, "diod to compare with", "FILE"},
        {"peer", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &opt.others,
         "One more diod or qidmapd, measured as well", "NAME=FILE"},
        {"dir", 'D', 0, G_OPTION_ARG_FILENAME, &opt.dir, "Where to make data (/var/tmp)", "DIR"},
        {"rounds", 'r', 0, G_OPTION_ARG_INT, &opt.rounds, "How often (30)", "N"},
        {"slice", 's', 0, G_OPTION_ARG_DOUBLE, &opt.slice, "For each peer (0.05)", "SECONDS"},
        {"quick", 'q', 0, G_OPTION_ARG_NONE, &opt.quick, "5 rounds of 0.04 s", NULL},
        {"calls", 'c', 0, G_OPTION_ARG_NONE, &opt.calls, "Count system calls, too", NULL},
        {"only", 'o', 0, G_OPTION_ARG_STRING, &opt.only, "What has this in its name", "TEXT"},
        {"entries", 'e', 0, G_OPTION_ARG_INT, &opt.entries, "Of the large directory", "N"},
        {"start-rows", 0, 0, G_OPTION_ARG_INT, &opt.start_rows,
         "Measure the start with a store of so many rows", "N"},
        {"csv", 0, 0, G_OPTION_ARG_FILENAME, &opt.csv, "Figures of each case", "FILE"},
        {"targets", 0, 0, G_OPTION_ARG_FILENAME, &opt.targets, "All targets, as CSV", "FILE"},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "speed: %s\n", error->message);
        return FALSE;
    }
    if (opt.quick) {
        opt.rounds = 5;
        opt.slice = 0.04;
    }
    if (opt.qidmapd == NULL)
        opt.qidmapd = g_strdup("src/qidmapd");
    return *argc == 1 && opt.rounds > 0 && opt.slice > 0 && opt.entries >= 100 &&
           opt.start_rows >= 0;
}

static gboolean peer_spec_known(const GArray *specs, const char *name)
{
    gboolean known = strcmp(name, "exchange") == 0 || strcmp(name, "floor") == 0;

    for (guint i = 0; i < specs->len; i++)
        known = known || strcmp(g_array_index(specs, struct peer_spec, i).name, name) == 0;
    return known;
}

/* What is to be measured: qidmapd, diod, and what --peer says. */
static GArray *servers(void)
{
    GArray *specs = g_array_new(FALSE, FALSE, sizeof(struct peer_spec));
    struct peer_spec spec = {"qidmapd", opt.qidmapd};

    g_array_append_val(specs, spec);
    spec = (struct peer_spec){"diod", opt.diod};
    if (opt.diod != NULL)
        g_array_append_val(specs, spec);
    else
        fprintf(stderr, "speed: not there: diod: nothing to compare with\n");
    for (guint i = 0; opt.others != NULL && opt.others[i] != NULL; i++) {
        char *file = strchr(opt.others[i], '=');

        if (file != NULL)
            *file = '\0';
        if (file == NULL || opt.others[i][0] == '\0' || strpbrk(opt.others[i], "/,\"") != NULL ||
            peer_spec_known(specs, opt.others[i])) {
            fprintf(stderr, "speed: --peer: NAME=FILE is needed, with a name of its own\n");
            exit(2);
        }
        if (specs->len == SPEED_SERVERS_MAX) {
            fprintf(stderr, "speed: --peer: %u servers are measured at most\n", SPEED_SERVERS_MAX);
            exit(2);
        }
        spec = (struct peer_spec){opt.others[i], file + 1};
        g_array_append_val(specs, spec);
    }
    return specs;
}

/* All ids that a server can be asked for. */
static guint check_ids(gboolean attached)
{
    guint checked = 0;

    for (guint p = 0; p < peers->len; p++) {
        struct peer *peer = peers->pdata[p];
        guint many, huge;

        if (peer->bare)
            continue;
        many = speed_check_ids(peer, "many", 1);
        huge = speed_check_ids(peer, "huge", 997);
        if (many != 500 || huge != (guint)opt.entries) {
            errno = EPROTO;
            speed_die("a listing that is not whole");
        }
        checked += many + huge;
        if (attached)
            checked += speed_check_made(peer);
    }
    return checked;
}

int main(int argc, char **argv)
{
    struct rlimit files = {65536, 65536};
    g_autoptr(GArray) specs = NULL;
    guint checked = 0;

    if (!parse(&argc, &argv)) {
        fprintf(stderr, "usage: speed [OPTION...]; see speed --help\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    tmp = folder_make(opt.dir != NULL ? opt.dir : "/var/tmp", "qidmap-speed");
    if (tmp == NULL)
        speed_die(opt.dir != NULL ? opt.dir : "/var/tmp");
    atexit(remove_all);
    data = g_build_filename(tmp, "data", NULL);
    report_open(opt.csv, opt.targets);
    specs = servers();
    speed_data_make(data, (guint)opt.entries);
    if (!spinners_start())
        fprintf(stderr, "speed: not there: SCHED_IDLE: a halted CPU's wake-up is in all times\n");
    peers = peers_start(tmp, data, (void *)specs->data, specs->len);
    for (guint p = 0; p < peers->len; p++)
        speed_attach(peers->pdata[p]);
    checked += check_ids(TRUE);
    speed_one_run(peers, tmp, opt.only, opt.rounds, opt.slice, opt.calls);
    unpin();
    run_deep(SPEED_DEEP_GETATTR, "depth 32: getattr: CPU", 0.3);
    run_deep(SPEED_DEEP_WALK, "depth 32: walk, clunk: CPU", 0.3);
    run_deep(SPEED_DEEP_READ, "depth 32: read 4k: CPU", 0);
    run_readdir();
    run_stream(FALSE);
    run_stream(TRUE);
    run_connections();
    checked += check_ids(TRUE);
    run_memory();
    run_start();
    peer_restart(peers, "qidmapd", tmp);
    checked += check_ids(FALSE);
    printf("%u ids compared in listings, and all in replies; they stay after a restart\n", checked);
    report_close();
    return 0;
}
