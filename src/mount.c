/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of mounts below the exports.
 *
 * All mounts below all exports are identified and registered together, at start and whenever
 * mountinfo changes, so that the order of access never decides which row a filesystem gets. What
 * the mount table does not show (subvolumes of btrfs within one mount) is identified when it is
 * first met, a whole directory at once, and added.
 *
 * Readers look into a table that only ever grows, and never wait for each other. Where something
 * is to be taken out, or the table is full, a new one is swapped in, and the old one freed once
 * each shard of the reader counts was seen at zero after the swap: whoever comes later takes the
 * new table. Rejected: a lock for reading (its cache line is contended by every request), keeping
 * old tables (a host where containers come and go makes many).
 *
 * One thread, the watcher, has all identifying done, by helpers that keep the rights of the daemon
 * (the threads that serve act as their guests' users, who may not be allowed to open what must be
 * looked into) and that a filesystem which answers nobody may keep for ever (mount-probe.h). It
 * first raises the generation, which closes the old table to readers, then reads mountinfo, then
 * answers. A reader whose file is not in the table, or who finds the table closed, asks the
 * watcher.
 *
 * Ids of mounts are given again as soon as a mount is gone, and so are device numbers; a table that
 * is a moment old would take the new mount for the old one. Where the statx results carry unique
 * ids (STATX_MNT_ID_UNIQUE, Linux 6.8) these are the key, and an old table merely lacks the new
 * mount. Elsewhere each lookup first polls mountinfo, on a descriptor of its thread: a call of some
 * 0.2 us beside the statx that came before it. What changed before the poll is seen by it; what is
 * mounted after the caller's statx cannot have taken the id, since the caller holds the file open.
 * A change shows once on each descriptor: the thread remembers it until the watcher has answered,
 * and a process has one watch at a time. Device numbers of deleted subvolumes are given again even
 * within one mount; there the number of the subvolume, which is not, is part of the key.
 *
 * A mount that was detached (umount -l) is in no table any more: -ENODEV for what is still open
 * there.
 */
#include "config.h"

#include "src/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/mount-list.h"
#include "src/mount-override.h"
#include "src/mount-probe.h"
#include "src/mount-register.h"
#include "src/mount-scan.h"
#include "src/mount-table.h"

#define SHARDS     32
#define NOTE_PAUSE (60 * 60 * 1000) /* ms between notes that filesystems are served */

struct mount_export {
    struct mount_watch *watch;
    struct mount_scan scan;    /* Lock: watch->work */
    struct mount_table *table; /* atomic */
    guint in_table;            /* so many of scan.lives are. Lock: watch->work */
};

/* A question to the watcher; lives on the stack of who asks. */
struct request {
    struct mount_export *exp;
    struct mount_question *questions;
    gsize count;
    gboolean done;
    struct request *next;
};

struct shard {
    guint readers;
    char padding[64 - sizeof(guint)];
};

struct mount_watch {
    struct shard shards[SHARDS];
    guint generation;   /* atomic; raised before mountinfo is read anew */
    GArray *overrides;  /* of mount_overrides_parse() */
    GPtrArray *exports; /* struct mount_export */
    GPtrArray *scans;   /* theirs, in the same order */
    struct mount_registry *registry;
    struct mount_prober *prober;
    int mountinfo_fd;
    int wake_fd;
    GThread *thread;
    pthread_mutex_t work; /* held by whoever changes lives; taken before `lock` */
    pthread_mutex_t lock; /* requests, stop */
    pthread_cond_t answered;
    struct request *requests;
    gboolean stop;
    gboolean failed; /* the last renewal, so that the next look is one. Lock: work */
};

/* Waits until nobody reads what was read before the call. Readers are quick. */
static void wait_for_readers(struct mount_watch *watch)
{
    for (guint i = 0; i < SHARDS; i++) {
        while (__atomic_load_n(&watch->shards[i].readers, __ATOMIC_SEQ_CST) != 0)
            g_thread_yield();
    }
}

/* What stands before the first that waits for its number need not be added again. */
static void note_in_table(struct mount_export *exp)
{
    const GPtrArray *lives = exp->scan.lives;

    while (exp->in_table < lives->len &&
           ((const struct mount_live *)g_ptr_array_index(lives, exp->in_table))->served)
        exp->in_table++;
}

static void publish(struct mount_export *exp, guint generation)
{
    struct mount_table *table = mount_scan_table(&exp->scan, generation);
    struct mount_table *old = __atomic_exchange_n(&exp->table, table, __ATOMIC_SEQ_CST);

    exp->in_table = 0;
    note_in_table(exp);
    wait_for_readers(exp->watch);
    mount_table_free(old);
}

static void close_poll_fd(gpointer data)
{
    close(GPOINTER_TO_INT(data) - 1);
}

/* Whether mountinfo may have changed since the watcher last answered this thread. Each thread has a
 * descriptor of its own, since a change shows once on each; on the first call nobody knows. */
static __thread gboolean is_dirty;

static gboolean may_have_changed(void)
{
    static GPrivate poll_fd = G_PRIVATE_INIT(close_poll_fd); /* + 1 */
    struct pollfd pfd = {.fd = GPOINTER_TO_INT(g_private_get(&poll_fd)) - 1, .events = POLLPRI};

    if (pfd.fd < 0) {
        pfd.fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (pfd.fd >= 0)
            g_private_set(&poll_fd, GINT_TO_POINTER(pfd.fd + 1));
        is_dirty = TRUE;
    } else if (!is_dirty && poll(&pfd, 1, 0) != 0) {
        is_dirty = TRUE;
    }
    return is_dirty;
}

static const struct mount_table *enter(struct mount_export *exp, guint **readers)
{
    static guint next_shard;
    static __thread guint my_shard; /* + 1 */

    if (my_shard == 0)
        my_shard = __atomic_fetch_add(&next_shard, 1, __ATOMIC_RELAXED) % SHARDS + 1;
    *readers = &exp->watch->shards[my_shard - 1].readers;
    __atomic_fetch_add(*readers, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&exp->table, __ATOMIC_SEQ_CST);
}

static void leave(guint *readers)
{
    __atomic_fetch_sub(readers, 1, __ATOMIC_SEQ_CST);
}

/* Looks into the table as it is. `current`: a table that is just being renewed does not count;
 * unique ids need that only where mount points in a directory matter. */
static gboolean find_subvol(struct mount_export *exp, const struct statx *stx, guint64 subvol,
                            struct mount_entry *entry, gboolean current, gboolean *needs_subvol)
{
    struct mount_watch *watch = exp->watch;
    gboolean found = FALSE;
    guint *readers;
    const struct mount_table *table = enter(exp, &readers);

    *needs_subvol = FALSE;
    if (table != NULL &&
        (!current || table->generation == __atomic_load_n(&watch->generation, __ATOMIC_SEQ_CST)))
        found = mount_table_find(table, stx, subvol, entry, needs_subvol);
    leave(readers);
    return found;
}

static gboolean find(struct mount_export *exp, int fd, const char *name, const struct statx *stx,
                     struct mount_entry *entry, gboolean current)
{
    gboolean needs_subvol;

    if (find_subvol(exp, stx, 0, entry, current, &needs_subvol))
        return TRUE;
    if (!needs_subvol) /* the kernel does not tell it in statx: before 6.10 */
        return FALSE;
    guint64 subvol = mount_handle_subvol(fd, name);
    return subvol != 0 && find_subvol(exp, stx, subvol, entry, current, &needs_subvol);
}

gboolean mount_find(struct mount_export *exp, int fd, const char *name, const struct statx *stx,
                    struct mount_entry *entry)
{
    gboolean unique = mount_stx_is_unique(stx);

    if (!unique && may_have_changed())
        return FALSE;
    return find(exp, fd, name, stx, entry, !unique);
}

gboolean mount_names_in(struct mount_export *exp, const struct statx *dir)
{
    gboolean any = TRUE;
    guint *readers;
    const struct mount_table *table = enter(exp, &readers);

    if (table != NULL)
        any = mount_table_has_names(table, dir);
    leave(readers);
    return any;
}

enum mount_name mount_name_find(struct mount_export *exp, const struct statx *dir, const char *name,
                                struct statx *root)
{
    enum mount_name result = MOUNT_NAME_LOOK;
    guint *readers;
    const struct mount_table *table = enter(exp, &readers);

    if (table != NULL)
        result = mount_table_find_name(table, dir, name, root);
    leave(readers);
    return result;
}

/* Closes the tables, finds everything anew, and opens new ones. */
static int renew(struct mount_watch *watch)
{
    guint generation = __atomic_add_fetch(&watch->generation, 1, __ATOMIC_SEQ_CST);
    g_autoptr(GPtrArray) lines = mount_list_read();
    int first = 0;

    for (guint i = 0; i < watch->exports->len; i++) {
        int rc = mount_scan_all(g_ptr_array_index(watch->scans, i), lines, watch->prober);
        if (first == 0)
            first = rc;
    }
    mount_registry_renew(watch->registry, watch->scans);
    int rc = mount_register(watch->registry, watch->scans, watch->prober);
    if (first == 0)
        first = rc;
    for (guint i = 0; i < watch->exports->len; i++)
        publish(g_ptr_array_index(watch->exports, i), generation);
    return first;
}

/* ---- the watcher ----------------------------------------------------------------------------- */

static gboolean has_changed(struct mount_watch *watch, int timeout)
{
    struct pollfd fds[2] = {
        {.fd = watch->mountinfo_fd, .events = POLLPRI},
        {.fd = watch->wake_fd, .events = POLLIN},
    };
    eventfd_t count;

    if (poll(fds, timeout == 0 ? 1 : 2, timeout) <= 0)
        return FALSE;
    if (fds[1].revents & POLLIN)
        eventfd_read(watch->wake_fd, &count);
    return (fds[0].revents & (POLLPRI | POLLERR)) != 0;
}

/* A job for each filesystem that is asked about and is not in the table; owners[i] is the scan of
 * jobs[i]. The results are 0, or the number of the job from 1, or an error. */
static void gather(struct request *requests, GPtrArray *jobs, GPtrArray *owners)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (struct request *r = requests; r != NULL; r = r->next) {
        for (gsize i = 0; i < r->count; i++) {
            struct mount_question *q = &r->questions[i];

            q->result = find(r->exp, q->fd, "", q->stx, &q->entry, TRUE) ? 0 : -ENODEV;
            if (q->result == 0 || r->exp->scan.lives->len == 0)
                continue;
            if (mount_scan_is_silent(&r->exp->scan, q->stx)) {
                q->result = -EIO;
                continue;
            }
            g_autofree char *key = g_strdup_printf(
                "%p %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, (void *)r->exp,
                mount_stx_key(q->stx), mount_stx_dev(q->stx), mount_stx_subvol(q->stx));
            guint number = GPOINTER_TO_UINT(g_hash_table_lookup(seen, key));
            if (number == 0) {
                struct mount_job *job = mount_scan_job(&r->exp->scan, q->fd, q->stx);
                if (job == NULL) {
                    q->result = -EMFILE;
                    continue;
                }
                g_ptr_array_add(jobs, job);
                g_ptr_array_add(owners, &r->exp->scan);
                number = jobs->len;
                g_hash_table_insert(seen, g_steal_pointer(&key), GUINT_TO_POINTER(number));
            }
            q->result = (int)number;
        }
    }
}

/* Adds the lives that are new to the table of the export. */
static void extend(struct mount_export *exp)
{
    struct mount_table *table = exp->table;
    gboolean room = TRUE;

    for (guint i = exp->in_table; i < exp->scan.lives->len && room; i++)
        room = mount_table_add(table, g_ptr_array_index(exp->scan.lives, i));
    if (!room)
        publish(exp, table->generation);
    else
        note_in_table(exp);
}

static void answer(struct mount_watch *watch, struct request *requests)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)mount_job_unref);
    g_autoptr(GPtrArray) owners = g_ptr_array_new();

    gather(requests, jobs, owners);
    gboolean waiting = FALSE; /* for a store that failed */
    for (guint i = 0; i < watch->exports->len; i++) {
        const struct mount_scan *scan = g_ptr_array_index(watch->scans, i);
        waiting = waiting || scan->fresh->len > 0;
    }
    if (jobs->len == 0 && !waiting)
        return;
    mount_probe_run(watch->prober, jobs);
    g_autofree int *results = g_new(int, jobs->len + 1);
    for (guint i = 0; i < jobs->len; i++)
        results[i] = mount_scan_take(owners->pdata[i], jobs->pdata[i]);
    int rc = mount_register(watch->registry, watch->scans, watch->prober);
    for (guint i = 0; i < watch->exports->len; i++)
        extend(g_ptr_array_index(watch->exports, i));

    for (struct request *r = requests; r != NULL; r = r->next) {
        for (gsize i = 0; i < r->count; i++) {
            struct mount_question *q = &r->questions[i];
            if (q->result <= 0)
                continue;
            int job = results[q->result - 1];
            q->result = find(r->exp, q->fd, "", q->stx, &q->entry, TRUE) ? 0
                        : job < 0                                        ? job
                        : rc < 0                                         ? rc
                                                                         : -ENODEV;
        }
    }
}

static gpointer watch_main(gpointer data)
{
    struct mount_watch *watch = data;
    gint64 noted = g_get_monotonic_time();
    gboolean changed = FALSE;

    for (;;) {
        changed = has_changed(watch, changed ? 0 : NOTE_PAUSE) || changed;
        pthread_mutex_lock(&watch->lock);
        gboolean stop = watch->stop;
        struct request *requests = watch->requests;
        watch->requests = NULL;
        pthread_mutex_unlock(&watch->lock);

        /* Whatever was asked, was asked after the mount it is about was made: look once more. */
        changed = has_changed(watch, 0) || changed;
        if (stop && requests == NULL)
            return NULL;
        pthread_mutex_lock(&watch->work);
        if (mount_prober_has_late(watch->prober) || watch->failed)
            changed = TRUE;
        if (changed)
            watch->failed = renew(watch) < 0;
        changed = FALSE;
        answer(watch, requests);
        if (g_get_monotonic_time() - noted >= NOTE_PAUSE * (gint64)1000) {
            mount_registry_note(watch->registry);
            noted = g_get_monotonic_time();
        }
        pthread_mutex_unlock(&watch->work);

        if (requests != NULL) {
            pthread_mutex_lock(&watch->lock);
            for (struct request *r = requests, *next; r != NULL; r = next) {
                next = r->next; /* once done, it may be gone as soon as the lock is released */
                r->done = TRUE;
            }
            pthread_cond_broadcast(&watch->answered);
            pthread_mutex_unlock(&watch->lock);
        }
    }
}

/* Asks the watcher, and waits for its answers. */
static void ask(struct mount_export *exp, struct mount_question *questions, gsize count)
{
    struct mount_watch *watch = exp->watch;
    struct request request = {.exp = exp, .questions = questions, .count = count};

    for (gsize i = 0; i < count; i++)
        questions[i].result = -ENODEV;
    pthread_mutex_lock(&watch->lock);
    if (!watch->stop && watch->thread != NULL) {
        request.next = watch->requests;
        watch->requests = &request;
        eventfd_write(watch->wake_fd, 1);
        while (!request.done)
            pthread_cond_wait(&watch->answered, &watch->lock);
    }
    pthread_mutex_unlock(&watch->lock);
    is_dirty = FALSE;
}

void mount_lookup_many(struct mount_export *exp, struct mount_question *questions, gsize count)
{
    gboolean all = TRUE;

    for (gsize i = 0; i < count; i++) {
        struct mount_question *q = &questions[i];
        q->result = 0;
        all = mount_find(exp, q->fd, "", q->stx, &q->entry) && all;
    }
    if (!all)
        ask(exp, questions, count);
}

int mount_lookup(struct mount_export *exp, int fd, const struct statx *stx,
                 struct mount_entry *entry)
{
    struct mount_question question = {.fd = fd, .stx = stx};

    if (mount_find(exp, fd, "", stx, entry))
        return 0;
    ask(exp, &question, 1);
    *entry = question.entry;
    return question.result;
}

int mount_lookup_dir(struct mount_export *exp, int fd, const struct statx *stx,
                     struct mount_entry *entry)
{
    struct mount_question question = {.fd = fd, .stx = stx};

    if (!may_have_changed() && find(exp, fd, "", stx, entry, TRUE))
        return 0;
    ask(exp, &question, 1);
    *entry = question.entry;
    return question.result;
}

char *mount_describe(struct mount_export *exp, const struct statx *stx)
{
    pthread_mutex_lock(&exp->watch->work);
    const struct mount_live *live = mount_scan_find(&exp->scan, stx);
    char *text = live != NULL ? g_strdup(live->label) : NULL;
    pthread_mutex_unlock(&exp->watch->work);
    return text != NULL ? text
                        : g_strdup_printf("device %u:%u", stx->stx_dev_major, stx->stx_dev_minor);
}

GArray *mount_watch_live(struct mount_watch *watch, qidmap_store *store)
{
    GArray *copy = g_array_new(FALSE, FALSE, sizeof(struct qidmap_live));
    const struct qidmap_live *live;
    gsize n;

    live = mount_registry_live(watch->registry, store, &n);
    if (n > 0)
        g_array_append_vals(copy, live, (guint)n);
    return copy;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void export_free(gpointer data)
{
    struct mount_export *exp = data;

    mount_table_free(exp->table);
    mount_scan_clear(&exp->scan);
    g_free(exp);
}

struct mount_watch *mount_watch_new(char *const *overrides, GError **error)
{
    struct mount_watch *watch = g_new0(struct mount_watch, 1);

    watch->generation = 1;
    watch->mountinfo_fd = -1;
    watch->wake_fd = -1;
    watch->exports = g_ptr_array_new_with_free_func(export_free);
    watch->scans = g_ptr_array_new();
    pthread_mutex_init(&watch->work, NULL);
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->answered, NULL);
    watch->registry = mount_registry_new();
    watch->overrides = mount_overrides_parse(overrides, error);
    if (watch->overrides == NULL) {
        mount_watch_free(watch);
        return NULL;
    }
    return watch;
}

struct mount_export *mount_watch_add(struct mount_watch *watch, const char *name, int root_fd,
                                     enum mount_mode mode, const struct mount_settings *settings)
{
    struct mount_export *exp = g_new0(struct mount_export, 1);

    exp->watch = watch;
    mount_scan_init(&exp->scan, name, root_fd, mode, settings, watch->overrides);
    g_ptr_array_add(watch->exports, exp);
    g_ptr_array_add(watch->scans, &exp->scan);
    return exp;
}

void mount_export_set_store(struct mount_export *exp, qidmap_store *store)
{
    exp->scan.store = store;
}

/* ---- for an administrator's verbs ------------------------------------------------------------ */

void mount_watch_hold(struct mount_watch *watch)
{
    pthread_mutex_lock(&watch->work);
}

void mount_watch_resume(struct mount_watch *watch)
{
    pthread_mutex_unlock(&watch->work);
}

gboolean mount_export_serves(const struct mount_export *exp, guint32 fs)
{
    for (guint i = 0; fs != 0 && i < exp->scan.lives->len; i++) {
        const struct mount_live *live = g_ptr_array_index(exp->scan.lives, i);

        if (live->fs == fs)
            return TRUE;
    }
    return FALSE;
}

void mount_export_forget(struct mount_export *exp, guint32 fs)
{
    mount_scan_forget(&exp->scan, fs);
}

void mount_export_change_store(struct mount_export *exp, qidmap_store *store)
{
    mount_scan_forget(&exp->scan, 0);
    exp->in_table = 0;
    exp->scan.store = store;
    /* The list of what is served has the store that is about to be closed, too. */
    mount_registry_renew(exp->watch->registry, exp->watch->scans);
}

int mount_watch_renew(struct mount_watch *watch)
{
    int rc = renew(watch);

    watch->failed = watch->failed || rc < 0;
    return rc;
}

static gboolean check_root(const struct mount_scan *scan, GError **error)
{
    const struct mount_live *root = scan->lives->len > 0 ? g_ptr_array_index(scan->lives, 0) : NULL;

    if (root != NULL && !root->refused && root->served)
        return TRUE;
    if (root != NULL && root->refused)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NODEV,
                    "export %s: its own filesystem, %s, is refused as a duplicate; see "
                    "on-duplicate in qidmapd(8)",
                    scan->name, root->label);
    else
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "export %s: its own filesystem %s",
                    scan->name,
                    root != NULL ? "cannot be registered in the store" : "cannot be identified");
    return FALSE;
}

gboolean mount_watch_admit(struct mount_watch *watch, guint count, GError **error)
{
    if (!mount_registry_check(watch->scans, error))
        return FALSE;
    if (renew(watch) < 0)
        watch->failed = TRUE; /* maybe of another export: it is tried again */
    for (guint i = watch->exports->len - count; i < watch->exports->len; i++)
        if (!check_root(g_ptr_array_index(watch->scans, i), error))
            return FALSE;
    return TRUE;
}

void mount_watch_remove(struct mount_watch *watch, struct mount_export *exp)
{
    mount_registry_note(watch->registry);
    g_ptr_array_remove(watch->scans, &exp->scan);
    g_ptr_array_remove(watch->exports, exp); /* frees it */
    mount_registry_renew(watch->registry, watch->scans);
}

void mount_watch_forget_stores(struct mount_watch *watch)
{
    mount_registry_renew(watch->registry, watch->scans);
}

gboolean mount_watch_start(struct mount_watch *watch, GError **error)
{
    watch->mountinfo_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    watch->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch->mountinfo_fd < 0 || watch->wake_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "cannot watch /proc/self/mountinfo: %s; is /proc mounted?", g_strerror(errno));
        return FALSE;
    }
    if (!mount_registry_check(watch->scans, error))
        return FALSE;
    watch->prober = mount_prober_new(watch->wake_fd);
    int rc = renew(watch);
    if (rc < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-rc),
                    "cannot learn which filesystems the exports are on: %s", g_strerror(-rc));
        return FALSE;
    }
    for (guint i = 0; i < watch->exports->len; i++)
        if (!check_root(g_ptr_array_index(watch->scans, i), error))
            return FALSE;
    watch->thread = g_thread_new("mounts", watch_main, watch);
    return TRUE;
}

void mount_watch_free(struct mount_watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->thread != NULL) {
        pthread_mutex_lock(&watch->lock);
        watch->stop = TRUE;
        pthread_mutex_unlock(&watch->lock);
        eventfd_write(watch->wake_fd, 1);
        g_thread_join(watch->thread);
        mount_registry_note(watch->registry);
    }
    if (watch->mountinfo_fd >= 0)
        close(watch->mountinfo_fd);
    if (watch->wake_fd >= 0)
        close(watch->wake_fd);
    mount_prober_free(watch->prober);
    g_ptr_array_unref(watch->scans);
    g_ptr_array_unref(watch->exports);
    mount_registry_free(watch->registry);
    g_clear_pointer(&watch->overrides, g_array_unref);
    pthread_mutex_destroy(&watch->work);
    pthread_mutex_destroy(&watch->lock);
    pthread_cond_destroy(&watch->answered);
    g_free(watch);
}
