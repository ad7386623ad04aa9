/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl top`: what a daemon does, now. A thread asks it again and again, so that a daemon that
 * does not answer keeps nobody from leaving; the other one paints.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
#include "tools/stats-source.h"
#include "tools/stats-view.h"
#include "tools/terminal.h"

#define INTERVAL_MAX 3600
#define ONCE_MORE    1000 /* ms between two paintings where nothing happens */

struct asker {
    char *path;
    gboolean is_named; /* by --control: no other one is meant */
    const char *uri;   /* the store that was named, or NULL */
    int interval;      /* seconds */
    int event;         /* written to when there is something new */

    pthread_mutex_t lock; /* of what is below */
    JsonObject *latest;   /* not fetched yet, or NULL */
    char *trouble;        /* why the last asking came to nothing, or NULL */
};

static void *ask(void *data)
{
    struct asker *a = data;

    for (;;) {
        struct qidmap_error error;
        JsonObject *result = NULL;
        struct timespec pause = {a->interval, 0};
        int code = stats_ask(a->path, TRUE, &result, &error);
        char *other = NULL;
        if (code < 0 && !a->is_named && stats_find_again(a->uri, &other)) {
            g_free(a->path);
            a->path = other;
            code = stats_ask(a->path, TRUE, &result, &error);
        }

        pthread_mutex_lock(&a->lock);
        g_clear_pointer(&a->trouble, g_free);
        if (code == 0) {
            g_clear_pointer(&a->latest, json_object_unref);
            a->latest = result;
        } else {
            a->trouble = g_strdup(error.text);
        }
        pthread_mutex_unlock(&a->lock);
        if (eventfd_write(a->event, 1) < 0) {
            return NULL;
        }
        nanosleep(&pause, NULL);
    }
}

/* What is on the screen. */
struct screen {
    JsonObject *now, *then; /* the latest two states; may be NULL */
    char *trouble;
};

static gboolean paint(const struct screen *screen, const char *path)
{
    g_autoptr(GPtrArray) lines = NULL;
    guint columns, rows;

    terminal_size(&columns, &rows);
    if (screen->now != NULL) {
        lines = stats_view(screen->now, screen->then, columns, rows > 2 ? rows - 1 : 1);
    } else {
        lines = g_ptr_array_new_with_free_func(g_free);
    }
    g_autofree char *last = screen->trouble != NULL
                                ? g_strdup_printf("NO ANSWER, trying again: %s", screen->trouble)
                            : screen->now == NULL  ? g_strdup_printf("asking %s; q ends", path)
                            : screen->then == NULL ? g_strdup("all that it did so far; q ends")
                                                   : g_strdup("q ends");
    g_ptr_array_insert(lines, screen->trouble != NULL ? 0 : -1, stats_fit(last, columns));
    if (lines->len > rows) {
        g_ptr_array_set_size(lines, (gint)rows);
    }
    return terminal_paint(lines, screen->trouble != NULL ? 0 : -1);
}

static void take_over(struct screen *screen, struct asker *a)
{
    eventfd_t value;

    (void)!eventfd_read(a->event, &value);
    pthread_mutex_lock(&a->lock);
    if (a->latest != NULL) {
        g_clear_pointer(&screen->then, json_object_unref);
        screen->then = screen->now;
        screen->now = g_steal_pointer(&a->latest);
    }
    g_free(screen->trouble);
    screen->trouble = g_strdup(a->trouble);
    pthread_mutex_unlock(&a->lock);
}

static int run_live(const struct cmd *cmd, const char *path, const char *uri, gboolean is_named,
                    int interval)
{
    static struct asker asker = {.lock = PTHREAD_MUTEX_INITIALIZER}; /* its thread may outlive us */
    struct screen screen = {NULL, NULL, NULL};
    gboolean alive = TRUE;
    pthread_t thread;

    asker.path = g_strdup(path);
    asker.uri = uri;
    asker.is_named = is_named;
    asker.interval = interval;
    asker.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (asker.event < 0) {
        return cmd_fail_code("eventfd", -errno);
    }
    if (!terminal_begin()) {
        return cmd_usage(cmd, "there is no terminal to paint on: --once prints one state, and "
                              "qidmapctl metrics is for programs");
    }
    int code = pthread_create(&thread, NULL, ask, &asker);
    if (code != 0) {
        terminal_end();
        return cmd_fail_code("a thread", -code);
    }
    pthread_detach(thread);
    for (gboolean going = TRUE; going && alive;) {
        alive = paint(&screen, path);
        switch (terminal_wait(asker.event, ONCE_MORE)) {
        case TERMINAL_WOKEN:
            take_over(&screen, &asker);
            break;
        case TERMINAL_QUIT:
            going = FALSE;
            break;
        case TERMINAL_RESIZE:
        case TERMINAL_TIME:
            break;
        }
    }
    terminal_end();
    g_clear_pointer(&screen.now, json_object_unref);
    g_clear_pointer(&screen.then, json_object_unref);
    g_free(screen.trouble);
    return CMD_OK;
}

static int run_once(const char *path, gboolean json)
{
    struct qidmap_error error;
    JsonObject *result;

    if (stats_ask(path, TRUE, &result, &error) < 0) {
        cmd_error("%s", error.text);
        return CMD_CANNOT;
    }
    if (json) {
        cmd_json_line(result);
        return CMD_OK;
    }
    g_autoptr(GPtrArray) lines = stats_view(result, NULL, 0, 0);
    for (guint i = 0; i < lines->len; i++) {
        puts(g_strchomp(lines->pdata[i]));
    }
    json_object_unref(result);
    return CMD_OK;
}

int cmd_top(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE};
    g_autofree char *control = NULL;
    gboolean once = FALSE;
    int interval = 1, status;
    const GOptionEntry extra[] = {
        {"control", 0, 0, G_OPTION_ARG_FILENAME, &control, "the control socket of the daemon",
         "PATH"},
        {"once", 0, 0, G_OPTION_ARG_NONE, &once, "print one state and end", NULL},
        {"interval", 'i', 0, G_OPTION_ARG_INT, &interval, "ask every N seconds; 1", "N"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    char *path = NULL, *uri = NULL; /* the asking thread uses it to the end */

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (interval < 1 || interval > INTERVAL_MAX) {
        return cmd_usage(cmd, "--interval is a number of seconds from 1 to 3600");
    }
    if (options.json && !once) {
        return cmd_usage(cmd, "--json goes with --once");
    }
    if (!once && !isatty(STDOUT_FILENO)) {
        return cmd_usage(cmd, "there is no terminal to paint on: --once prints one state, and "
                              "qidmapctl metrics is for programs");
    }
    status = stats_find(&options, control, &path);
    if (status == CMD_OK && !once && control == NULL && cmd_has_store(&options)) {
        status = cmd_uri(&options, &uri);
    }
    if (status == CMD_OK && !once) {
        return run_live(cmd, path, uri, control != NULL, interval);
    }
    if (status == CMD_OK) {
        status = run_once(path, options.json);
    }
    g_free(path);
    return status;
}
