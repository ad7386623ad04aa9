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

#include "src/conn.h"
#include "src/limit.h"
#include "src/listen.h"
#include "src/log.h"
#include "src/path.h"
#include "src/privs.h"
#include "src/qid.h"
#include "src/quit.h"
#include "src/server.h"
#include "src/settings.h"
#include "src/spare.h"
#include "src/worker.h"

#define FIDS_MAX      1000000u
#define CLOSE_SECONDS 20

static struct server server;

static uint64_t raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 512;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    /* One session may have half of the descriptors: the others must go on. */
    return limit.rlim_cur / 2 > FIDS_MAX ? FIDS_MAX : limit.rlim_cur / 2;
}

static void set_limits(const struct settings *settings)
{
    struct limit_settings limits;
    uint64_t files = raise_descriptor_limit();

    limit_defaults(&limits, files);
    limits.session[LIMIT_FIDS] = files; /* each fid has a descriptor */
    /* A session has room for a message that is received, and for others that are answered. */
    limits.session[LIMIT_MEMORY] =
        MAX(limits.session[LIMIT_MEMORY], 4 * (uint64_t)settings->msize_max);
    limits.daemon[LIMIT_MEMORY] =
        MAX(limits.daemon[LIMIT_MEMORY], 2 * limits.session[LIMIT_MEMORY]);
    for (guint i = 0; i < settings->limits->len; i++)
        limit_set(&limits, g_ptr_array_index(settings->limits, i));
    limit_init(&limits);
    server.connections_max = (unsigned)MIN(limits.connections, (uint64_t)G_MAXINT);
    server.idle_seconds = settings->idle_seconds;
    server.stall_seconds = settings->stall_seconds;
}

/* Often enough for the time limits to be kept to a quarter. */
static unsigned tick_ms(void)
{
    unsigned seconds = 60;

    if (server.idle_seconds > 0)
        seconds = MIN(seconds, server.idle_seconds);
    if (server.stall_seconds > 0)
        seconds = MIN(seconds, server.stall_seconds);
    return seconds * 1000 / 4;
}

static gboolean open_export(const struct settings_export *from, struct path_export *to,
                            struct qid_map *map, GError **error)
{
    char *path = realpath(from->dir, NULL);

    to->root_fd = path == NULL ? -1 : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (to->root_fd < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "export '%s': %s: %s; give a directory that exists", from->name, from->dir,
                    g_strerror(errno));
        free(path);
        return FALSE;
    }
    to->name = from->name;
    to->dir = path; /* until the end of the process */
    to->readonly = from->readonly;
    to->qids = qid_map_add_export(map, from->name, path, to->root_fd, from->store, from->multidevs,
                                  &from->mounts, error);
    return to->qids != NULL;
}

static gboolean open_exports(const struct settings *settings, struct qid_map *map, GError **error)
{
    server.export_count = settings->exports->len;
    server.exports = g_new0(struct path_export, server.export_count);
    for (size_t i = 0; i < server.export_count; i++)
        if (!open_export(g_ptr_array_index(settings->exports, i), &server.exports[i], map, error))
            return FALSE;
    return TRUE;
}

static void accept_all(int fd)
{
    for (;;) {
        int got = listen_accept(fd);

        if (got >= 0) {
            conn_new(&server, got);
            continue;
        }
        if (got == -EINTR || got == -ECONNABORTED)
            continue;
        if (got == -EMFILE) {
            int refused = spare_refuse(fd);

            if (refused > 0)
                continue;
            if (refused == 0)
                return;
        }
        if (got != -EAGAIN) {
            log_error("cannot accept a connection: %s", g_strerror(-got));
            g_usleep(100 * 1000); /* the client waits; do not spin */
        }
        return;
    }
}

static gboolean serve(const struct settings *settings, struct listen_set *listeners, GError **error)
{
    int failed = worker_pool_start(settings->threads, (const int *)(void *)listeners->fds->data,
                                   listeners->fds->len, accept_all);

    if (failed == 0)
        failed = worker_tick(tick_ms(), conn_sweep);
    if (failed != 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot start threads: %s",
                    g_strerror(-failed));
        return FALSE;
    }
    for (size_t i = 0; i < server.export_count; i++)
        log_info("export '%s': %s", server.exports[i].name, server.exports[i].dir);
    log_info("ready");
    quit_tell_ready(settings->ready_fd);
    log_info("ending on signal %d", quit_wait());
    quit_tell_stopping();
    worker_pool_close_listeners();
    return TRUE;
}

static int fail(GError *error)
{
    log_error("%s", error != NULL ? error->message : "failed");
    g_clear_error(&error);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct settings *settings = NULL;
    struct listen_set listeners = {NULL, NULL};
    struct qid_map *map = NULL;
    GError *error = NULL;
    int status = EXIT_FAILURE, failed;

    log_init(false);
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
    spare_init();
    privs_init(settings->trusted);
    failed = path_init();
    if (failed != 0) {
        log_error("/proc/self/fd: %s; the daemon needs /proc", g_strerror(-failed));
        goto out;
    }
    server.threads = settings->threads;
    server.msize_max = settings->msize_max;
    server.trusted = settings->trusted;
    set_limits(settings);
    map = qid_map_new(settings->fs_ids, &error);
    if (map == NULL || !open_exports(settings, map, &error) ||
        !listen_open(settings->listen, &listeners, &error) || !qid_map_start(map, &error) ||
        !serve(settings, &listeners, &error)) {
        fail(error);
        goto out;
    }
    if (!conn_close_all(CLOSE_SECONDS)) {
        /* A request hangs in the kernel: what it uses must not be freed. Mappings that were given
         * out are stored; only the mark of a clean stop is not. */
        log_warning("a request did not end in %d seconds; leaving it", CLOSE_SECONDS);
        listen_close(&listeners);
        _exit(EXIT_FAILURE);
    }
    worker_pool_stop();
    status = EXIT_SUCCESS;
out:
    listen_close(&listeners);
    qid_map_free(map);
    for (size_t i = 0; i < server.export_count; i++) {
        if (server.exports[i].root_fd >= 0 && server.exports[i].dir != NULL)
            close(server.exports[i].root_fd);
        free((char *)server.exports[i].dir);
    }
    g_free(server.exports);
    settings_free(settings);
    return status;
}
