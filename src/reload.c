/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The change from one configuration to the next. See reload.h.
 *
 * `work` is held by who changes exports; clients that attach meanwhile wait for export.c's lock
 * alone, and that is held for the exchange of a list. A thread of its own does what SIGHUP asks for
 * and closes what nobody holds any more, since the last to let go is a worker with a guest's
 * rights.
 */
#include "config.h"

#include "src/reload.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "src/config-lines.h"
#include "src/export-set.h"
#include "src/export.h"
#include "src/fail.h"
#include "src/listen.h"
#include "src/log.h"
#include "src/privs.h"
#include "src/qid-admin.h"
#include "src/qid.h"
#include "src/quit.h"
#include "src/reach.h"
#include "src/sandbox.h"
#include "src/tuning.h"

#define RETRY_SECONDS 2 /* for a store that is at work for an administrator */

static struct server *server;
static struct qid_map *map;
static struct settings *current;
static const struct listen_set *listeners;
static char **arguments;
static char *base; /* where relative paths begin */

static pthread_mutex_t work = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the rest */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, idle = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static bool started, stopping, asked, unused;
static unsigned at_work; /* threads that change exports, or wait to */

/* ---- reading --------------------------------------------------------------------------------- */

void reload_keep_arguments(int argc, char *const *argv)
{
    arguments = g_new0(char *, argc + 1);
    for (int i = 0; i < argc; i++)
        arguments[i] = g_strdup(argv[i]);
    base = g_get_current_dir();
}

/* The daemon is in another directory by now. */
static char *absolute(const char *path)
{
    return path[0] == '/' ? g_strdup(path) : g_build_filename(base, path, NULL);
}

static int open_host_file(const char *path)
{
    g_autofree char *whole = absolute(path);
    int fd = sandbox_open_file(whole), failed;
    struct stat st;

    if (fd == -ESTALE) /* without a process outside, or a namespace of our own */
        fd = reach_open(whole);
    else if (fd >= 0 && (failed = reach_file(whole, fd)) != 0)
        return failed;
    /* What came by a pipe is read already: it would be a file without exports now. */
    if (fd >= 0 && (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))) {
        close(fd);
        log_error("%s: is no regular file, and cannot be read again", whole);
        return -EINVAL;
    }
    return fd;
}

static struct settings *read_settings(GError **error)
{
    int argc = (int)g_strv_length(arguments);
    g_autofree char **argv = g_new0(char *, argc + 1); /* what is read is taken out of it */
    struct settings *settings = NULL;

    if (current->config == NULL) {
        fail_start(error, "the daemon was started without a configuration file: there is nothing "
                          "to read again");
        return NULL;
    }
    memcpy(argv, arguments, (size_t)argc * sizeof *argv);
    if (settings_read_again(&argc, &argv, &settings, error) == SETTINGS_OK)
        return settings;
    if (sandbox_host_is_gone() && error != NULL && *error != NULL &&
        (*error)->domain == G_FILE_ERROR) { /* or else it was read, and has a mistake */
        g_autoptr(GError) problem = g_steal_pointer(error);

        fail_start(error,
                   "%s (the daemon's process for the host is gone, and it sees only what is in "
                   "its own mounts: restart the daemon)",
                   problem->message);
    }
    return NULL;
}

static gboolean fail_at(const struct settings *settings, const char *group, const char *key,
                        GError **error)
{
    g_autofree char *where = settings_where(settings, group, key);

    g_prefix_error(error, "%s", where);
    return FALSE;
}

static const struct settings_export *find_settings(const struct settings *settings,
                                                   const char *name)
{
    for (guint i = 0; i < settings->exports->len; i++) {
        const struct settings_export *one = g_ptr_array_index(settings->exports, i);

        if (strcmp(one->name, name) == 0)
            return one;
    }
    return NULL;
}

/* What is written in the store's rows is decided once for all exports of it. */
static const char *fixed_of_export(const struct settings_export *before,
                                   const struct settings_export *after)
{
    if (before->mounts.on_duplicate != after->mounts.on_duplicate)
        return "on-duplicate";
    if (before->mounts.markers != after->mounts.markers)
        return "markers";
    return before->mounts.split_weak != after->mounts.split_weak ? "weak" : NULL;
}

static gboolean check_fixed(const struct settings *next, GError **error)
{
    g_autofree char *key = settings_fixed_change(current, next);

    if (key != NULL) {
        fail_start(error,
                   "%s: cannot change while the daemon runs; restart it, or put back what "
                   "it was",
                   key);
        return fail_at(next, "daemon", key, error);
    }
    for (guint i = 0; i < next->exports->len; i++) {
        const struct settings_export *after = g_ptr_array_index(next->exports, i);
        const struct settings_export *before = find_settings(current, after->name);
        const char *fixed = before != NULL ? fixed_of_export(before, after) : NULL;
        g_autofree char *group = g_strconcat("export ", after->name, NULL);

        if (fixed == NULL)
            continue;
        fail_start(error,
                   "%s: cannot change while the daemon runs; restart it, or put back what "
                   "it was",
                   fixed);
        return fail_at(next, group, fixed, error);
    }
    return TRUE;
}

/* ---- changing -------------------------------------------------------------------------------- */

/* The export of this name that can be found now. */
static struct path_export *find_current(const char *name)
{
    for (size_t i = 0; i < server->export_count; i++)
        if (strcmp(server->exports[i]->name, name) == 0)
            return server->exports[i];
    return NULL;
}

/* FALSE: who opened it might never come back. */
static gboolean answers(const char *dir, GError **error)
{
    int failed = reach_dir(dir);

    if (failed == 0)
        return TRUE;
    if (failed == -ETIMEDOUT)
        return fail_start(error,
                          "%s: its filesystem does not answer; mend or unmount it, and reload "
                          "again",
                          dir);
    return fail_start(error, "%s: %s", dir,
                      failed == -ECANCELED ? "the daemon is ending" : g_strerror(-failed));
}

static gboolean store_answers(const char *uri, GError **error)
{
    const char *path = sandbox_store_path(uri);

    return path == NULL || answers(path, error);
}

static gboolean bring(struct settings_export *from, GError **error)
{
    const char *path = sandbox_store_path(from->store);
    char *dir = absolute(from->dir);

    g_free(from->dir);
    from->dir = dir;
    if (path != NULL && path[0] != '/') {
        g_autofree char *whole = absolute(path);
        char *uri = g_strdup_printf("%.*s%s", (int)(path - from->store), from->store, whole);

        g_free(from->store);
        from->store = uri;
    }
    if (!sandbox_bring_dir(&from->dir, error)) {
        g_prefix_error(error, "dir: ");
        return FALSE;
    }
    if (!answers(from->dir, error))
        return FALSE;
    if (from->multidevs == QID_MULTIDEVS_WARN)
        return TRUE;
    if (sandbox_bring_store(&from->store, error) && store_answers(from->store, error))
        return TRUE;
    g_prefix_error(error, "store: ");
    return FALSE;
}

/* `all` gets the exports of `next`, in its order; `fresh` those that are new among them. */
static gboolean open_all(struct settings *next, GPtrArray *all, GPtrArray *fresh, GError **error)
{
    for (guint i = 0; i < next->exports->len; i++) {
        struct settings_export *one = g_ptr_array_index(next->exports, i);
        const struct settings_export *before = find_settings(current, one->name);
        g_autofree char *group = g_strconcat("export ", one->name, NULL);
        struct path_export *exp;

        if (before != NULL && strcmp(before->words, one->words) == 0) {
            g_ptr_array_add(all, find_current(one->name));
            continue;
        }
        exp = bring(one, error) ? export_open(one, map, server->trusted, error) : NULL;
        if (exp == NULL)
            return fail_at(next, group, NULL, error);
        g_ptr_array_add(all, exp);
        g_ptr_array_add(fresh, exp);
    }
    if (fresh->len == 0 || qid_map_admit(map, error))
        return TRUE;
    if (fresh->len == 1) {
        const struct path_export *only = g_ptr_array_index(fresh, 0);
        g_autofree char *group = g_strconcat("export ", only->name, NULL);

        return fail_at(next, group, NULL, error);
    }
    g_prefix_error(error, "%s: ", next->config);
    return FALSE;
}

static void add_dir(const struct path_export *exp, void *data)
{
    g_ptr_array_add(data, g_strdup(exp->dir));
}

/* Closes what nobody needs any more. FALSE: a store must wait. */
static gboolean sweep(void)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    struct path_export *exp;
    struct qid_store *store;
    gboolean all;

    while ((exp = export_take_unused()) != NULL) {
        log_info("export '%s' of before is closed: %s", exp->name, exp->dir);
        export_close(exp, map);
    }
    all = qid_map_close_unused(map);
    export_each(server, add_dir, paths);
    export_each_retired(add_dir, paths);
    for (unsigned i = 0; (store = qid_admin_store(map, i)) != NULL; i++) {
        const char *path = sandbox_store_path(qid_admin_uri(store));

        if (path != NULL)
            g_ptr_array_add(paths, g_strdup(path));
    }
    sandbox_keep_only(paths);
    return all;
}

static void tell_sessions(const char *name, const char *what, unsigned sessions)
{
    if (sessions > 0)
        log_info("export '%s' %s; what %u attach%s of before hold%s goes on as it was until the "
                 "session ends",
                 name, what, sessions, sessions == 1 ? "" : "es", sessions == 1 ? "s" : "");
    else
        log_info("export '%s' %s", name, what);
}

static void tell(const struct settings *next, struct reload_result *result)
{
    for (size_t i = 0; i < server->export_count; i++) {
        const struct path_export *old = server->exports[i];
        const struct settings_export *after = find_settings(next, old->name);
        const struct settings_export *before = find_settings(current, old->name);

        if (after == NULL) {
            tell_sessions(old->name, "is removed", export_holds(old));
            g_ptr_array_add(result->removed, g_strdup(old->name));
        } else if (strcmp(before->words, after->words) != 0) {
            tell_sessions(old->name, "is changed", export_holds(old));
            g_ptr_array_add(result->changed, g_strdup(old->name));
        } else
            result->same++;
    }
    for (guint i = 0; i < next->exports->len; i++) {
        const struct settings_export *after = g_ptr_array_index(next->exports, i);

        if (find_settings(current, after->name) != NULL)
            continue;
        log_info("export '%s' is new: %s", after->name, after->dir);
        g_ptr_array_add(result->added, g_strdup(after->name));
    }
}

static gboolean change(struct settings *next, struct reload_result *result, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new(), fresh = g_ptr_array_new();
    bool guarded = settings_is_guarded(next); /* exports take their lists with them */
    unsigned mark = sandbox_mark();

    if (!check_fixed(next, error))
        return FALSE;
    if (!open_all(next, all, fresh, error)) {
        for (guint i = 0; i < fresh->len; i++)
            export_close(g_ptr_array_index(fresh, i), map);
        /* One that stays for a moment, at work for an administrator, is given up by the thread. */
        if (qid_map_close_unused(map))
            sandbox_undo(mark);
        sweep();
        return FALSE;
    }
    tell(next, result);
    if (!guarded)
        listen_tell_doors(listeners);
    tuning_change(next, server);
    export_publish(server, (struct path_export *const *)all->pdata, all->len);
    GPtrArray *listen = current->listen; /* the same; listeners borrow their allow lists */
    current->listen = next->listen;
    next->listen = listen;
    settings_free(current);
    current = next;
    return TRUE;
}

void reload_result_clear(struct reload_result *result)
{
    g_clear_pointer(&result->added, g_ptr_array_unref);
    g_clear_pointer(&result->changed, g_ptr_array_unref);
    g_clear_pointer(&result->removed, g_ptr_array_unref);
}

static void wake_up(bool *why)
{
    pthread_mutex_lock(&lock);
    *why = true;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}

static gboolean is_stopping(void)
{
    gboolean yes;

    pthread_mutex_lock(&lock);
    yes = stopping;
    pthread_mutex_unlock(&lock);
    return yes;
}

/* FALSE: no more. To be followed by end_work() in any case. */
static gboolean begin_work(void)
{
    pthread_mutex_lock(&lock);
    at_work++;
    pthread_mutex_unlock(&lock);
    pthread_mutex_lock(&work);
    return !is_stopping();
}

static void end_work(void)
{
    pthread_mutex_unlock(&work);
    pthread_mutex_lock(&lock);
    at_work--;
    pthread_cond_broadcast(&idle);
    pthread_mutex_unlock(&lock);
}

gboolean reload_now(struct reload_result *result, GError **error)
{
    struct settings *next;
    gboolean fine;

    *result = (struct reload_result){.added = g_ptr_array_new_with_free_func(g_free),
                                     .changed = g_ptr_array_new_with_free_func(g_free),
                                     .removed = g_ptr_array_new_with_free_func(g_free)};
    if (!begin_work()) {
        end_work();
        return fail_start(error, "the daemon is ending: nothing has changed");
    }
    quit_tell_reloading();
    next = read_settings(error);
    fine = next != NULL && change(next, result, error);
    if (!fine)
        settings_free(next);
    if (!fine && is_stopping()) { /* what it waited for was cut short */
        g_clear_error(error);
        fail_start(error, "the daemon is ending: nothing has changed");
    }
    if (fine)
        log_info("the configuration is read again; exports: %u new, %u changed, %u removed, %u as "
                 "before",
                 result->added->len, result->changed->len, result->removed->len, result->same);
    else
        log_error("the configuration is not taken, that of before stays in force: %s",
                  error != NULL && *error != NULL ? (*error)->message : "failed");
    quit_tell_reloaded();
    end_work();
    wake_up(&unused);
    return fine;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void on_unused(void)
{
    wake_up(&unused);
}

void reload_ask(void)
{
    wake_up(&asked);
}

static void do_asked(void)
{
    g_autoptr(GError) error = NULL;
    struct reload_result result;

    reload_now(&result, &error);
    reload_result_clear(&result);
}

static void wait_for(bool again)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += RETRY_SECONDS;
    while (!stopping && !asked && !unused)
        if (!again)
            pthread_cond_wait(&wake, &lock);
        else if (pthread_cond_timedwait(&wake, &lock, &end) == ETIMEDOUT)
            unused = true;
}

static void *reload_main(void *data)
{
    bool again = false;

    (void)data;
    pthread_mutex_lock(&lock);
    for (;;) {
        wait_for(again);
        if (stopping)
            break;
        bool reload = asked, close = unused;
        asked = unused = false;
        pthread_mutex_unlock(&lock);
        if (reload)
            do_asked();
        if (close) {
            again = begin_work() && !sweep();
            end_work();
        }
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    privs_thread_end();
    return NULL;
}

gboolean reload_start(struct server *the_server, struct qid_map *the_map, struct settings *settings,
                      const struct listen_set *the_listeners, GError **error)
{
    int failed;

    server = the_server;
    map = the_map;
    current = settings;
    listeners = the_listeners;
    config_lines_open_by(open_host_file);
    export_on_unused(on_unused);
    failed = pthread_create(&thread, NULL, reload_main, NULL);
    if (failed != 0)
        return fail_start(error, "cannot start threads: %s", g_strerror(failed));
    started = true;
    return TRUE;
}

gboolean reload_interrupt(unsigned seconds)
{
    struct timespec end;
    int failed = 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += seconds;
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
    reach_stop();
    sandbox_host_hang_up();
    pthread_mutex_lock(&lock);
    while (at_work > 0 && failed == 0)
        failed = pthread_cond_timedwait(&idle, &lock, &end);
    pthread_mutex_unlock(&lock);
    return failed == 0;
}

struct settings *reload_stop(struct settings *settings)
{
    struct settings *last = current != NULL ? current : settings;

    export_on_unused(NULL);
    if (started) {
        wake_up(&stopping);
        pthread_join(thread, NULL);
        started = false;
    }
    g_clear_pointer(&arguments, g_strfreev);
    g_clear_pointer(&base, g_free);
    current = NULL;
    return last;
}
