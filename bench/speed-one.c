/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One request at a time: how long it takes, what it costs the server, and how many system calls it
 * makes, for each case, server and kind of socket, in rounds. Nothing else of this program measures
 * while client and server share a CPU.
 *
 * The limit is a bare exchange of messages of the same sizes and the naked system calls, measured
 * apart and added. What the floor costs is the CPU of a process that does both.
 */
#include "config.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/speed-list.h"
#include "bench/speed.h"

#define PEERS_MAX  (PEERS_BARE + 2 * SPEED_SERVERS_MAX)
#define CPU_TARGET 0.5

static const char *const transports[] = {"unix", "tcp"};

struct measured {
    GArray *p50, *cpu; /* one for each round; empty: the peer cannot do it */
    double calls;
    char *which;
};

struct outcome {
    const struct speed_case *one;
    struct measured m[PEERS_MAX];
    GArray *naked;
};

/* The case failed here: the connection begins anew for the next one. */
static void begin_anew(struct peer *peer)
{
    client_close(peer->client);
    speed_attach(peer);
    speed_clean();
}

static GPtrArray *frames_of(const struct speed_case *one, const struct peer *peer)
{
    GPtrArray *frames = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);

    one->build(frames, peer->client->msize);
    return frames;
}

/* Each round begins with another, so that none has always the same one before it. In the first the
 * servers come first: the others are told the sizes of their replies. */
static guint in_turn(guint i, int round, const GPtrArray *peers)
{
    return (i + PEERS_BARE + (guint)round) % peers->len;
}

/* ---- system calls ---------------------------------------------------------------------------- */

static int more_often(gconstpointer a, gconstpointer b, gpointer names)
{
    gsize x = GPOINTER_TO_SIZE(g_hash_table_lookup(names, a)),
          y = GPOINTER_TO_SIZE(g_hash_table_lookup(names, b));

    return (x < y) - (x > y);
}

/* Those that come at least once in twenty cases, as "recvfrom 2.0 statx 1.0". */
static char *list_calls(GHashTable *names, double count)
{
    g_autoptr(GList) sorted =
        g_list_sort_with_data(g_hash_table_get_keys(names), more_often, names);
    GString *text = g_string_new("");

    for (const GList *at = sorted; at != NULL; at = at->next) {
        double each = (double)GPOINTER_TO_SIZE(g_hash_table_lookup(names, at->data)) / count;

        if (each >= 0.05)
            g_string_append_printf(text, "%s%s %.1f", text->len > 0 ? " " : "",
                                   (const char *)at->data, each);
    }
    return g_string_free(text, FALSE);
}

/* Threads that wait, and wake up, count as well. False: there is no strace, or it may not. */
static gboolean count_calls(const GPtrArray *peers, struct outcome *outcome, const char *file)
{
    g_autoptr(GArray) replies = g_array_new(FALSE, FALSE, sizeof(guint32));

    for (guint i = 0; i < peers->len; i++) {
        guint p = in_turn(i, 0, peers);
        struct peer *peer = peers->pdata[p];
        g_autoptr(GPtrArray) frames = frames_of(outcome->one, peer);
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        struct speed_result result;
        guint64 calls;
        pid_t tracer;

        if (peer->bare && !peer->floor)
            continue;
        tracer = peer_trace(peer->pid, file);
        if (tracer == 0)
            return FALSE;
        result = speed_run(peer, outcome->one, frames, replies, 0.05);
        calls = peer_trace_end(tracer, file, names);
        if (result.count == 0) {
            begin_anew(peer);
            continue;
        }
        outcome->m[p].calls = (double)calls / (double)(result.count + 5);
        outcome->m[p].which = list_calls(names, (double)(result.count + 5));
    }
    return TRUE;
}

/* ---- time ------------------------------------------------------------------------------------ */

static void measure(const GPtrArray *peers, struct outcome *outcome, int rounds, double slice)
{
    g_autoptr(GArray) replies = g_array_new(FALSE, FALSE, sizeof(guint32));

    for (int round = 0; round < rounds; round++) {
        note(outcome->naked, speed_naked(outcome->one, slice / 4));
        for (guint i = 0; i < peers->len; i++) {
            guint p = in_turn(i, round, peers);
            struct peer *peer = peers->pdata[p];
            g_autoptr(GPtrArray) frames = frames_of(outcome->one, peer);
            struct speed_result result = {0};

            if (round == 0 || outcome->m[p].p50->len > 0)
                result = speed_run(peer, outcome->one, frames, replies, slice);
            if (result.p50 == 0) {
                if (round == 0)
                    begin_anew(peer);
                continue;
            }
            note(outcome->m[p].p50, result.p50);
            note(outcome->m[p].cpu, result.cpu);
        }
    }
}

/* ---- telling --------------------------------------------------------------------------------- */

static guint index_of(const GPtrArray *peers, const char *name, const char *transport)
{
    guint index = PEERS_MAX;

    g_ptr_array_find((GPtrArray *)(void *)peers, peer_find(peers, name, transport), &index);
    return index;
}

/* Of a server and of the floor, what report_figure takes. */
static struct report_figure figure(const GPtrArray *peers, const struct outcome *o,
                                   const char *name, const char *transport)
{
    const struct measured *m = &o->m[index_of(peers, name, transport)];
    const struct measured *bare = &o->m[index_of(peers, "exchange", transport)];
    const struct measured *floor = &o->m[index_of(peers, "floor", transport)];
    guint d = index_of(peers, "diod", transport);
    g_autoptr(GArray) limit = doubles();

    for (guint i = 0; i < bare->p50->len; i++)
        note(limit, at(bare->p50, i) + at(o->naked, i));
    return (struct report_figure){
        .p50 = median(m->p50),
        .exchange = median(bare->p50),
        .naked = median(o->naked),
        .to_limit = ratio(m->p50, limit),
        .cpu = median(m->cpu),
        .cpu_to_diod = d < PEERS_MAX ? ratio(m->cpu, o->m[d].cpu) : 0,
        .cpu_to_floor = ratio(m->cpu, floor->cpu),
        .calls = m->calls,
        .which = m->which,
    };
}

static gboolean first_of_name(const GPtrArray *peers, guint p)
{
    const struct peer *peer = peers->pdata[p];

    return !peer->bare && strcmp(peer->transport, "unix") == 0;
}

/* Where the value is 0: a dash. */
static void cell(int width, int digits, double value, const char *unit)
{
    if (value > 0)
        printf(" %*.*f%s", width, digits, value, unit);
    else
        printf(" %*s%*s", width, "-", (int)strlen(unit), "");
}

static void tell_times(const GPtrArray *peers, const struct outcome *o, guint count)
{
    printf(
        "\nTime of one case, p50, microseconds; the target is 1.2 times the limit\n%-24s %-5s %8s "
        "%7s %8s %8s",
        "", "", "exchange", "naked", "limit", "floor");
    for (guint p = 0; p < peers->len; p++)
        if (first_of_name(peers, p))
            printf(" %9s to limit%s", ((struct peer *)peers->pdata[p])->name,
                   p == PEERS_BARE ? "      " : "");
    printf("\n");
    for (guint i = 0; i < count; i++)
        for (guint t = 0; t < G_N_ELEMENTS(transports); t++) {
            const char *name = o[i].one->name;
            struct report_figure floor = figure(peers, &o[i], "floor", transports[t]);
            g_autofree char *what = g_strdup_printf("%s: time", name);

            printf("%-24s %-5s", name, transports[t]);
            cell(8, 2, floor.exchange, "");
            cell(7, 2, floor.naked, "");
            cell(8, 2, floor.exchange + floor.naked, "");
            cell(8, 2, floor.p50, "");
            report_figure(name, transports[t], "floor", &floor);
            for (guint p = 0; p < peers->len; p++) {
                const struct peer *peer = peers->pdata[p];
                struct report_figure f;

                if (!first_of_name(peers, p))
                    continue;
                f = figure(peers, &o[i], peer->name, transports[t]);
                report_figure(name, transports[t], peer->name, &f);
                cell(9, 2, f.p50, "");
                cell(7, 2, f.to_limit, "x");
                if (p == PEERS_BARE)
                    printf(" %-5s", report_target(what, transports[t], f.to_limit, "x limit",
                                                  o[i].one->at_most, FALSE, floor.to_limit));
            }
            printf("\n");
        }
}

static void tell_costs(const GPtrArray *peers, const struct outcome *o, guint count)
{
    gboolean diod = peer_find(peers, "diod", "unix") != NULL;
    const char *ours = ((struct peer *)peers->pdata[PEERS_BARE])->name;

    printf(
        "\nCPU of the server for one case, microseconds, and its system calls (all threads); the "
        "target is %.1f of diod's\n%-24s %-5s %8s %6s",
        CPU_TARGET, "", "", "floor", "calls");
    for (guint p = 0; p < peers->len; p++)
        if (first_of_name(peers, p))
            printf(" %9s %6s %7s", ((struct peer *)peers->pdata[p])->name, "calls", "floor");
    printf("  %s%s\n", ours, diod ? " to diod; the floor" : "");
    for (guint i = 0; i < count; i++)
        for (guint t = 0; t < G_N_ELEMENTS(transports); t++) {
            const char *name = o[i].one->name;
            struct report_figure floor = figure(peers, &o[i], "floor", transports[t]);
            struct report_figure mine = figure(peers, &o[i], ours, transports[t]);
            g_autofree char *what = g_strdup_printf("%s: CPU", name);

            printf("%-24s %-5s", name, transports[t]);
            cell(8, 2, floor.cpu, "");
            cell(6, 1, floor.calls, "");
            for (guint p = 0; p < peers->len; p++) {
                struct report_figure f;

                if (!first_of_name(peers, p))
                    continue;
                f = figure(peers, &o[i], ((struct peer *)peers->pdata[p])->name, transports[t]);
                cell(9, 2, f.cpu, "");
                cell(6, 1, f.calls, "");
                cell(6, 2, f.cpu_to_floor, "x");
            }
            if (diod && mine.cpu_to_diod == 0)
                printf(" diod cannot do it");
            else if (diod) {
                cell(8, 2, mine.cpu_to_diod, "x");
                printf(" %-5s", report_target(what, transports[t], mine.cpu_to_diod, "x diod",
                                              CPU_TARGET, FALSE, floor.cpu_to_diod));
                cell(6, 2, floor.cpu_to_diod, "x");
            }
            printf("\n");
        }
}

/* ---- all ---------------------------------------------------------------------------------------
 */

/* The last CPU: the first has the interrupts. */
static int choose_cpu(void)
{
    cpu_set_t set;
    int cpu = 0;

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET((size_t)i, &set))
                cpu = i;
    return cpu;
}

void speed_one_run(GPtrArray *peers, const char *tmp, const char *only, int rounds, double slice,
                   gboolean calls)
{
    g_autofree struct outcome *outcomes = g_new0(struct outcome, speed_case_count);
    g_autofree char *file = g_build_filename(tmp, "calls", NULL);
    guint count = 0;
    int cpu = choose_cpu();

    g_assert(peers->len <= PEERS_MAX);
    peer_pin(getpid(), cpu);
    for (guint p = 0; p < peers->len; p++)
        peer_pin(((struct peer *)peers->pdata[p])->pid, cpu);
    printf("one request at a time, client and servers on CPU %d\n", cpu);
    for (guint i = 0; i < speed_case_count; i++) {
        struct outcome *outcome = &outcomes[count];

        if (only != NULL && strstr(speed_cases[i].name, only) == NULL)
            continue;
        outcome->one = &speed_cases[i];
        outcome->naked = doubles();
        for (guint p = 0; p < peers->len; p++)
            outcome->m[p] = (struct measured){.p50 = doubles(), .cpu = doubles()};
        if (calls && !count_calls(peers, outcome, file)) {
            fprintf(stderr, "speed: not there: strace (or it may not look): no system calls\n");
            calls = FALSE;
        }
        measure(peers, outcome, rounds, slice);
        count++;
    }
    if (count > 0) {
        tell_times(peers, outcomes, count);
        tell_costs(peers, outcomes, count);
    }
    fflush(stdout);
    for (guint i = 0; i < count; i++) {
        g_array_unref(outcomes[i].naked);
        for (guint p = 0; p < peers->len; p++) {
            g_array_unref(outcomes[i].m[p].p50);
            g_array_unref(outcomes[i].m[p].cpu);
            g_free(outcomes[i].m[p].which);
        }
    }
}
