/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The order in which the daemon starts and ends, and nothing else.
 *
 * Whatever can be refused is refused before a store is opened, as opening may create it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/accept.h"
#include "src/conn.h"
#include "src/control-verbs.h"
#include "src/control.h"
#include "src/export-set.h"
#include "src/export.h"
#include "src/fail.h"
#include "src/listen.h"
#include "src/lock.h"
#include "src/log.h"
#include "src/path.h"
#include "src/privs.h"
#include "src/qid.h"
#include "src/quit.h"
#include "src/reload.h"
#include "src/sandbox.h"
#include "src/security.h"
#include "src/server.h"
#include "src/settings.h"
#include "src/spare.h"
#include "src/stats.h"
#include "src/trace.h"
#include "src/tuning.h"
#include "src/worker.h"

#define CLOSE_SECONDS 20

static struct server server;

static void on_tick(void)
{
    conn_sweep();
    lock_sweep();
}

static gboolean open_exports(const struct settings *settings, struct qid_map *map, GError **error)
{
    g_autofree struct path_export **exports = g_new0(struct path_export *, settings->exports->len);
    size_t count = 0;

    while (count < settings->exports->len) {
        exports[count] =
            export_open(g_ptr_array_index(settings->exports, count), map, settings->trusted, error);
        if (exports[count] == NULL)
            break;
        count++;
    }
    export_publish(&server, exports, count);
    return count == settings->exports->len;
}

static gboolean open_listeners(const struct settings *settings, struct listen_set *listeners,
                               GError **error)
{
    if (!listen_open(settings->listen, listeners, error))
        return FALSE;
    if (listeners->fds->len == 0 && settings->connected->len == 0) {
        listen_close(listeners);
        return fail_start(error, "no address to listen on: give --listen ADDR");
    }
    if (!settings_is_guarded(settings))
        listen_tell_doors(listeners);
    accept_init(&server, listeners);
    return TRUE;
}

static gboolean serve(const struct settings *settings, struct listen_set *listeners,
                      struct control *control, GError **error)
{
    static const struct quit_calls calls = {stats_log, reload_ask, sandbox_host_reap};
    bool all_mapped = true;
    int ready_fd = settings->ready_fd; /* a reload by the control socket may free them */
    int failed = worker_pool_start(settings->threads, (const int *)(void *)listeners->fds->data,
                                   listeners->fds->len, accept_all);

    if (failed == 0)
        failed = worker_tick(tuning_tick(&server), on_tick);
    if (failed != 0)
        return fail_start(error, "cannot start threads: %s", g_strerror(-failed));
    if (!accept_inherited(settings->connected, error)) {
        conn_close_all(CLOSE_SECONDS);
        worker_pool_stop();
        return FALSE;
    }
    for (size_t i = 0; i < server.export_count; i++) {
        log_info("export '%s': %s", server.exports[i]->name, server.exports[i]->dir);
        all_mapped &= server.exports[i]->security->mode == SECURITY_MAPPED_XATTR;
    }
    if (!control_start(control, error)) {
        conn_close_all(CLOSE_SECONDS);
        worker_pool_stop();
        return FALSE;
    }
    security_tell_limits(all_mapped);
    log_info("%s", sandbox_status());
    log_info("ready");
    quit_tell_ready(ready_fd);
    if (listeners->fds->len == 0 && !accept_end_with_last(error))
        return FALSE;
    log_info("ending on signal %d", quit_wait(&calls));
    quit_tell_stopping();
    worker_pool_close_listeners();
    return TRUE;
}

/* What hangs in the kernel uses what would be freed. Mappings that were given out are stored; only
 * the mark of a clean stop is not. */
static void leave(struct listen_set *listeners, const char *what) G_GNUC_NORETURN;

static void leave(struct listen_set *listeners, const char *what)
{
    log_warning("%s did not end in %d seconds; leaving it", what, CLOSE_SECONDS);
    listen_close(listeners);
    _exit(EXIT_FAILURE);
}

static int fail(GError *error)
{
    log_error("%s", error != NULL ? error->message : "failed");
    g_clear_error(&error);
    return EXIT_FAILURE;
}

/* Where the caller closed one of the three, a store or a file of an export would take its number,
 * and the log be written into it. */
static void fill_standard(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            _exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    struct settings *settings = NULL;
    struct listen_set listeners = {NULL, NULL};
    struct qid_map *map = NULL;
    struct control *control = NULL;
    struct path_export *exp;
    GError *error = NULL;
    int status = EXIT_FAILURE, failed;

    quit_keep_hup();
    fill_standard();
    log_init(false);
    reload_keep_arguments(argc, argv);
    switch (settings_read(&argc, &argv, &settings, &error)) {
    case SETTINGS_OK:
        break;
    case SETTINGS_DONE:
        return EXIT_SUCCESS;
    case SETTINGS_USAGE:
        fail(error);
        return 2;
    default:
        return fail(error);
    }
    log_init(settings->debug);
    umask(0);
    quit_prepare();
    for (char **item = settings->traces; item != NULL && *item != NULL; item++)
        if (!trace_add(*item, &error)) {
            fail(error);
            settings_free(settings);
            return 2;
        }
    if (settings->debug)
        trace_all(true);
    /* Descriptors of the parent before any of ours, sockets before the exports. */
    if (!accept_check(settings->connected, &error) ||
        !open_listeners(settings, &listeners, &error) ||
        !control_open(settings->control, &control, &error)) {
        fail(error);
        goto out;
    }
    spare_init();
    /* Sockets have paths of the host; exports, stores and threads come after it. */
    if (!sandbox_enter(settings, &error)) {
        fail(error);
        goto out;
    }
    privs_init(settings->trusted);
    privs_user_set_threads(settings->threads);
    failed = path_init();
    if (failed != 0) {
        log_error("/proc/self/fd: %s; the daemon needs /proc", g_strerror(-failed));
        goto out;
    }
    server.threads = settings->threads;
    server.msize_max = settings->msize_max;
    server.trusted = settings->trusted;
    tuning_init(settings, &server);
    map = qid_map_new(settings->fs_ids, &error);
    if (control != NULL) {
        qid_set_contact(control_path(control));
        control_verbs_add(&server, map);
    }
    if (map == NULL || !open_exports(settings, map, &error) || !qid_map_start(map, &error) ||
        !reload_start(&server, map, settings, &listeners, &error) ||
        !serve(settings, &listeners, control, &error)) {
        fail(error);
        goto out;
    }
    /* What is at work on a store ends before the store is closed. */
    if (!reload_interrupt(CLOSE_SECONDS)) {
        conn_close_all(CLOSE_SECONDS);
        leave(&listeners, "a reload");
    }
    g_clear_pointer(&control, control_stop);
    settings = reload_stop(settings);
    if (!conn_close_all(CLOSE_SECONDS))
        leave(&listeners, "a request");
    worker_pool_stop();
    status = EXIT_SUCCESS;
out:
    control_stop(control);
    settings = reload_stop(settings);
    listen_close(&listeners);
    qid_map_free(map);
    export_publish(&server, NULL, 0);
    while ((exp = export_take_unused()) != NULL)
        export_close(exp, NULL);
    g_free(server.exports);
    server.exports = NULL;
    trace_free();
    settings_free(settings);
    return status;
}
