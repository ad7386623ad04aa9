/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 9pload: asks a 9P2000.L server for the same thing over and over, and tells how fast it answers.
 *
 *   9pload [OPTION...] ADDR ANAME
 *
 * Operations: getattr (of one file), walk (to one file below the root, and clunk), readdir (of the
 * whole directory, in replies as large as msize allows).  --depth requests of each connection are
 * under way at a time; --connections connections run at once, each in a thread of its own.  With
 * --pid the CPU time of the server is read from /proc, for the cost of one operation.
 *
 * A server that is fast by giving wrong ids has not won: before and after the measurement each
 * entry of the directory is walked to, and its id in readdir, walk and getattr compared; exit
 * status 1 where two differ.  The client is that of the tests.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "tests/lib/client.h"

#define ROOT        1u
#define FILE_FID    2u
#define DIR_FID     3u
#define WALK_FID    100u
#define SAMPLES_MAX 4000000u
#define DEPTH_MAX   4096

enum op { OP_GETATTR, OP_WALK, OP_READDIR };

static struct {
    char *op, *file, *dir;
    int depth, connections, pid, uid, msize;
    double seconds;
    gboolean json;
} opt = {.depth = 1, .connections = 1, .uid = -1, .msize = 131072, .seconds = 2};

static enum op op;
static const char *addr, *aname;
static gint phase, failed; /* phase 0: wait for the others; 1: ask; 2: stop; 3: go */
static gint stopped;

struct load {
    GThread *thread;
    GArray *samples; /* nanoseconds, float */
    guint64 done, entries;
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "9pload: %s: %s\n", what,
            rc > 0    ? g_strerror(rc)
            : rc == 0 ? "wrong answer"
                      : "the server broke off");
    exit(1);
}

static void must(const char *what, int rc)
{
    if (rc != 0)
        die(what, rc);
}

static struct client *attach(void)
{
    struct client *c = client_connect(addr);

    if (c == NULL)
        die(addr, CLIENT_EOF);
    must("version", client_hello(c, opt.msize));
    must("attach",
         client_attach(c, ROOT, opt.uid >= 0 ? (guint32)opt.uid : geteuid(), aname, NULL));
    must("walk to the file", client_walk_path(c, ROOT, FILE_FID, opt.file ? opt.file : "", NULL));
    return c;
}

static gint64 now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * G_GINT64_CONSTANT(1000000000) + ts.tv_nsec;
}

/* ---- the ids --------------------------------------------------------------------------------- */

static guint check_ids(void)
{
    struct client *c = attach();
    g_autoptr(GPtrArray) entries = NULL;
    guint checked = 0;

    must("walk to the directory", client_walk_path(c, ROOT, DIR_FID, opt.dir ? opt.dir : "", NULL));
    must("readdir", client_readdir_all(c, DIR_FID, c->msize - 24, &entries));
    for (guint i = 0; i < entries->len; i++) {
        struct client_dirent *e = entries->pdata[i];
        struct client_qid qid;
        struct client_attr attr;

        if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
            continue;
        must("walk to an entry", client_walk_path(c, DIR_FID, WALK_FID, e->name, &qid));
        must("getattr of an entry", client_getattr(c, WALK_FID, GETATTR_BASIC, &attr));
        must("clunk", client_clunk(c, WALK_FID));
        if (qid.path != e->qid.path || attr.qid.path != e->qid.path) {
            fprintf(stderr,
                    "9pload: %s: readdir %" G_GUINT64_FORMAT ", walk %" G_GUINT64_FORMAT
                    ", getattr %" G_GUINT64_FORMAT "\n",
                    e->name, e->qid.path, qid.path, attr.qid.path);
            g_atomic_int_set(&failed, 1);
        }
        checked++;
    }
    client_close(c);
    return checked;
}

/* ---- the load -------------------------------------------------------------------------------- */

static void sample(struct load *load, gint64 ns)
{
    float value = ns;

    load->done++;
    if (load->samples->len < SAMPLES_MAX)
        g_array_append_val(load->samples, value);
}

static int post(struct client *c, const char *const *names, guint32 fid)
{
    if (op == OP_GETATTR)
        return client_post(c, TGETATTR, "dq", FILE_FID, GETATTR_BASIC);
    return client_post(c, TWALK, "ddL", ROOT, fid, names);
}

/* One walk is Twalk and, once that is answered, Tclunk of the new fid: what a client does that
 * looks at a name once.  (Both at once would be allowed, but diod ends over it.) */
static void run_small(struct load *load, struct client *c)
{
    g_auto(GStrv) names = g_strsplit(opt.file ? opt.file : "", "/", -1);
    g_autofree gint64 *begun = g_new(gint64, 65536);
    g_autofree guint32 *fids = g_new(guint32, 65536);
    const char *const *path = names[0] != NULL && names[0][0] != '\0' ? (void *)names : NULL;
    int under_way = 0;
    guint32 next = 0;

    while (g_atomic_int_get(&phase) == 1 || under_way > 0) {
        g_autoptr(GByteArray) frame = NULL;
        guint16 tag;

        while (under_way < opt.depth && g_atomic_int_get(&phase) == 1) {
            guint32 fid = WALK_FID + next++ % (DEPTH_MAX * 2);
            gint64 start = now_ns();
            int sent = post(c, path, fid);

            if (sent < 0)
                die("send", sent);
            begun[sent] = start;
            fids[sent] = fid;
            under_way++;
        }
        if (under_way == 0)
            break;
        must("receive", client_recv(c, &frame));
        tag = client_frame_tag(frame);
        if (client_frame_type(frame) == RLERROR)
            die("Rlerror", 0);
        if (client_frame_type(frame) == TWALK + 1) {
            int sent = client_post(c, TCLUNK, "d", fids[tag]);

            if (sent < 0)
                die("send", sent);
            begun[sent] = begun[tag];
        } else {
            sample(load, now_ns() - begun[tag]);
            under_way--;
        }
    }
}

/* Directories are read in a row; the depth is that of fids that read at once, one after another. */
static void run_readdir(struct load *load, struct client *c)
{
    must("walk to the directory", client_walk_path(c, ROOT, DIR_FID, opt.dir ? opt.dir : "", NULL));
    while (g_atomic_int_get(&phase) == 1) {
        g_autoptr(GPtrArray) entries = NULL;
        gint64 start = now_ns();

        must("readdir", client_readdir_all(c, DIR_FID, c->msize - 24, &entries));
        sample(load, now_ns() - start);
        load->entries += entries->len;
    }
}

static gpointer run(gpointer data)
{
    struct load *load = data;
    struct client *c = attach();

    while (g_atomic_int_get(&phase) == 0)
        g_thread_yield();
    if (op == OP_READDIR)
        run_readdir(load, c);
    else
        run_small(load, c);
    /* A server may have a thread for each connection, whose CPU time goes with it. */
    g_atomic_int_inc(&stopped);
    while (g_atomic_int_get(&phase) == 2)
        g_usleep(200);
    client_close(c);
    return NULL;
}

/* ---- the account ----------------------------------------------------------------------------- */

/* Nanoseconds that the server has run, its ended threads included; 0 where that cannot be read. */
static guint64 server_cpu(void)
{
    struct timespec time;
    clockid_t clock;

    if (opt.pid <= 0 || clock_getcpuclockid(opt.pid, &clock) != 0 ||
        clock_gettime(clock, &time) != 0)
        return 0;
    return (guint64)time.tv_sec * 1000000000 + (guint64)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

static double quantile(GArray *sorted, double q)
{
    if (sorted->len == 0)
        return 0;
    return g_array_index(sorted, float, MIN(sorted->len - 1, (guint)(q * sorted->len))) / 1000;
}

static void report(struct load *loads, double seconds, guint64 cpu_ns, guint checked)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(float));
    guint64 done = 0, entries = 0;
    double rate, cpu;

    for (int i = 0; i < opt.connections; i++) {
        g_array_append_vals(all, loads[i].samples->data, loads[i].samples->len);
        done += loads[i].done;
        entries += loads[i].entries;
    }
    qsort(all->data, all->len, sizeof(float), compare);
    /* of readdir the unit is an entry, as directories differ */
    rate = (op == OP_READDIR ? entries : done) / seconds;
    cpu = done > 0 ? (double)cpu_ns / 1000 / (op == OP_READDIR ? entries : done) : 0;
    if (opt.json)
        printf("{\"op\":\"%s\",\"depth\":%d,\"connections\":%d,\"seconds\":%.3f,"
               "\"operations\":%" G_GUINT64_FORMAT ",\"entries\":%" G_GUINT64_FORMAT
               ",\"per_second\":%.1f,\"p50_us\":%.2f,\"p99_us\":%.2f,\"cpu_us\":%.4f,"
               "\"ids_checked\":%u,\"ids_agree\":%s}\n",
               opt.op, opt.depth, opt.connections, seconds, done, entries, rate, quantile(all, 0.5),
               quantile(all, 0.99), cpu, checked, failed ? "false" : "true");
    else
        printf(
            "%s depth %d connections %d: %.0f %s/s, p50 %.1f us, p99 %.1f us, server CPU %.3f us "
            "each; %u ids %s\n",
            opt.op, opt.depth, opt.connections, rate, op == OP_READDIR ? "entries" : "ops",
            quantile(all, 0.5), quantile(all, 0.99), cpu, checked, failed ? "DIFFER" : "agree");
}

static gboolean parse(int *argc, char ***argv)
{
    const GOptionEntry entries[] = {
        {"op", 'o', 0, G_OPTION_ARG_STRING, &opt.op, "getattr (default), walk or readdir", "OP"},
        {"file", 'f', 0, G_OPTION_ARG_FILENAME, &opt.file, "For getattr and walk", "PATH"},
        {"dir", 'D', 0, G_OPTION_ARG_FILENAME, &opt.dir, "For readdir and the ids", "PATH"},
        {"depth", 'd', 0, G_OPTION_ARG_INT, &opt.depth, "Requests under way (1)", "N"},
        {"connections", 'c', 0, G_OPTION_ARG_INT, &opt.connections, "Connections (1)", "N"},
        {"seconds", 's', 0, G_OPTION_ARG_DOUBLE, &opt.seconds, "How long (2)", "S"},
        {"msize", 'm', 0, G_OPTION_ARG_INT, &opt.msize, "Asked for (131072)", "BYTES"},
        {"uid", 'u', 0, G_OPTION_ARG_INT, &opt.uid, "Attach as (own)", "UID"},
        {"pid", 'p', 0, G_OPTION_ARG_INT, &opt.pid, "Of the server, for its CPU time", "PID"},
        {"json", 'j', 0, G_OPTION_ARG_NONE, &opt.json, "One line of JSON", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("ADDR ANAME");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "9pload: %s\n", error->message);
        return FALSE;
    }
    if (opt.op == NULL)
        opt.op = g_strdup("getattr");
    if (strcmp(opt.op, "walk") == 0)
        op = OP_WALK;
    else if (strcmp(opt.op, "readdir") == 0)
        op = OP_READDIR;
    else if (strcmp(opt.op, "getattr") != 0)
        return FALSE;
    return *argc == 3 && opt.depth >= 1 && opt.depth <= DEPTH_MAX && opt.connections >= 1 &&
           opt.connections <= 1024 && opt.seconds > 0 && opt.msize >= 4096;
}

int main(int argc, char **argv)
{
    g_autofree struct load *loads = NULL;
    guint64 cpu;
    gint64 start;
    guint checked;
    double seconds;

    if (!parse(&argc, &argv)) {
        fprintf(stderr, "usage: 9pload [OPTION...] ADDR ANAME; see 9pload --help\n");
        return 2;
    }
    addr = argv[1];
    aname = argv[2];
    checked = check_ids();
    loads = g_new0(struct load, opt.connections);
    for (int i = 0; i < opt.connections; i++) {
        loads[i].samples = g_array_new(FALSE, FALSE, sizeof(float));
        loads[i].thread = g_thread_new("load", run, &loads[i]);
    }
    cpu = server_cpu();
    start = now_ns();
    g_atomic_int_set(&phase, 1);
    g_usleep((gulong)(opt.seconds * G_USEC_PER_SEC));
    g_atomic_int_set(&phase, 2);
    while (g_atomic_int_get(&stopped) < opt.connections)
        g_usleep(200);
    seconds = (now_ns() - start) / 1e9;
    cpu = server_cpu() - cpu;
    g_atomic_int_set(&phase, 3);
    for (int i = 0; i < opt.connections; i++)
        g_thread_join(loads[i].thread);
    checked += check_ids();
    report(loads, seconds, cpu, checked);
    for (int i = 0; i < opt.connections; i++)
        g_array_unref(loads[i].samples);
    return failed;
}
