/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of mounts below the exports.
 *
 * All mounts below all exports are identified and registered together, at start and whenever
 * mountinfo changes, so that the order of access never decides which row a filesystem gets. What
 * the mount table does not show (subvolumes of btrfs within one mount) is identified when it is
 * first met, and registered together with everything that is live.
 *
 * Readers look into an immutable table and never wait for each other. A new table is swapped in,
 * and the old one freed once each shard of the reader counts was seen at zero after the swap:
 * whoever comes later takes the new table. Rejected: a lock for reading (its cache line is
 * contended by every request), keeping old tables (a host where containers come and go makes many).
 *
 * One thread, the watcher, does all identifying: it keeps the rights of the daemon, while the
 * threads that serve act as their guests' users, who may not be allowed to open what must be looked
 * into. It first raises the generation, which closes the old table to readers, then reads
 * mountinfo, then answers. A reader whose file is not in the table, or who finds the table closed,
 * asks the watcher.
 *
 * Ids of mounts are given again as soon as a mount is gone, and so are device numbers; a table that
 * is a moment old would take the new mount for the old one. Where the statx results carry unique
 * ids (STATX_MNT_ID_UNIQUE, Linux 6.8) these are the key, and an old table merely lacks the new
 * mount. Elsewhere each lookup first polls mountinfo, on a descriptor of its thread: a call of some
 * 0.2 us beside the statx that came before it. What changed before the poll is seen by it; what is
 * mounted after the caller's statx cannot have taken the id, since the caller holds the file open.
 * Changes show once on each descriptor, so a process has one watch at a time.
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

#include "src/mount-scan.h"
#include "src/mount-table.h"

#define SHARDS 32

struct mount_export {
    struct mount_watch *watch;
    struct mount_scan scan;    /* Lock: watch->work */
    struct mount_table *table; /* atomic */
};

/* A question to the watcher; lives on the stack of who asks. */
struct request {
    struct mount_export *exp;
    int fd;
    const struct statx *stx;
    struct mount_entry *entry;
    int result;
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
    int mountinfo_fd;
    int wake_fd;
    GThread *thread;
    pthread_mutex_t work; /* held by whoever changes lives; taken before `lock` */
    pthread_mutex_t lock; /* requests, stop */
    pthread_cond_t answered;
    struct request *requests;
    gboolean stop;
};

/* Waits until nobody reads what was read before the call. Readers are quick. */
static void wait_for_readers(struct mount_watch *watch)
{
    for (guint i = 0; i < SHARDS; i++) {
        while (__atomic_load_n(&watch->shards[i].readers, __ATOMIC_SEQ_CST) != 0)
            g_thread_yield();
    }
}

static void publish(struct mount_export *exp)
{
    struct mount_watch *watch = exp->watch;
    struct mount_table *table = mount_table_new(exp->scan.lives, exp->scan.dirs, exp->scan.any_dir);
    table->generation = __atomic_load_n(&watch->generation, __ATOMIC_SEQ_CST);
    struct mount_table *old = __atomic_exchange_n(&exp->table, table, __ATOMIC_SEQ_CST);

    wait_for_readers(watch);
    mount_table_free(old);
}

static void close_poll_fd(gpointer data)
{
    close(GPOINTER_TO_INT(data) - 1);
}

/* Whether mountinfo may have changed since this thread last asked. Each thread has a descriptor of
 * its own, since a change shows once on each; on the first call nobody knows. */
static gboolean may_have_changed(void)
{
    static GPrivate poll_fd = G_PRIVATE_INIT(close_poll_fd); /* + 1 */
    struct pollfd pfd = {.fd = GPOINTER_TO_INT(g_private_get(&poll_fd)) - 1, .events = POLLPRI};

    if (pfd.fd < 0) {
        pfd.fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (pfd.fd >= 0)
            g_private_set(&poll_fd, GINT_TO_POINTER(pfd.fd + 1));
        return TRUE;
    }
    return poll(&pfd, 1, 0) != 0;
}

/* Looks into the table as it is. `current`: a table that is just being renewed does not count;
 * unique ids need that only where mount points in a directory matter, so that a mount that answers
 * nobody and holds up the watcher does not hold up the others. */
static gboolean find(struct mount_export *exp, const struct statx *stx, struct mount_entry *entry,
                     gboolean current)
{
    static guint next_shard;
    static __thread guint my_shard; /* + 1 */
    struct mount_watch *watch = exp->watch;
    gboolean found = FALSE;

    if (my_shard == 0)
        my_shard = __atomic_fetch_add(&next_shard, 1, __ATOMIC_RELAXED) % SHARDS + 1;
    guint *readers = &watch->shards[my_shard - 1].readers;
    __atomic_fetch_add(readers, 1, __ATOMIC_SEQ_CST);
    const struct mount_table *table = __atomic_load_n(&exp->table, __ATOMIC_SEQ_CST);
    if (table != NULL &&
        (!current || table->generation == __atomic_load_n(&watch->generation, __ATOMIC_SEQ_CST)))
        found = mount_table_find(table, stx, entry);
    __atomic_fetch_sub(readers, 1, __ATOMIC_SEQ_CST);
    return found;
}

gboolean mount_find(struct mount_export *exp, const struct statx *stx, struct mount_entry *entry)
{
    gboolean unique = mount_stx_is_unique(stx);

    if (!unique && may_have_changed())
        return FALSE;
    return find(exp, stx, entry, !unique);
}

/* Closes the tables, finds everything anew, and opens new ones. */
static int renew(struct mount_watch *watch)
{
    int first = 0;

    __atomic_fetch_add(&watch->generation, 1, __ATOMIC_SEQ_CST);
    g_autoptr(GPtrArray) mounts = mount_lines_read();
    for (guint i = 0; i < watch->exports->len; i++) {
        int rc = mount_scan_all(g_ptr_array_index(watch->scans, i), mounts);
        if (first == 0)
            first = rc;
    }
    int rc = mount_scan_register(watch->scans);
    if (first == 0)
        first = rc;
    for (guint i = 0; i < watch->exports->len; i++)
        publish(g_ptr_array_index(watch->exports, i));
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

static int answer(struct request *request)
{
    struct mount_export *exp = request->exp;
    struct mount_live *live;

    if (find(exp, request->stx, request->entry, TRUE))
        return 0;
    int rc = mount_scan_one(&exp->scan, request->fd, &live);
    if (rc < 0)
        return rc;
    if (!live->served) {
        rc = mount_scan_register(exp->watch->scans);
        if (rc < 0)
            return rc;
    }
    publish(exp);
    return find(exp, request->stx, request->entry, TRUE) ? 0 : -ENODEV;
}

static gpointer watch_main(gpointer data)
{
    struct mount_watch *watch = data;
    gboolean changed = FALSE;

    for (;;) {
        changed = has_changed(watch, changed ? 0 : -1) || changed;
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
        if (changed)
            renew(watch);
        changed = FALSE;
        for (struct request *r = requests; r != NULL; r = r->next)
            r->result = answer(r);
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

/* Asks the watcher, and waits for its answer. */
static int ask(struct mount_export *exp, int fd, const struct statx *stx, struct mount_entry *entry)
{
    struct mount_watch *watch = exp->watch;

    if (mount_stx_key(stx) == 0)
        return -ENODEV;
    struct request request = {.exp = exp, .fd = fd, .stx = stx, .entry = entry};
    pthread_mutex_lock(&watch->lock);
    if (watch->stop || watch->thread == NULL) {
        pthread_mutex_unlock(&watch->lock);
        return -ENODEV;
    }
    request.next = watch->requests;
    watch->requests = &request;
    eventfd_write(watch->wake_fd, 1);
    while (!request.done)
        pthread_cond_wait(&watch->answered, &watch->lock);
    pthread_mutex_unlock(&watch->lock);
    return request.result;
}

int mount_lookup(struct mount_export *exp, int fd, const struct statx *stx,
                 struct mount_entry *entry)
{
    return mount_find(exp, stx, entry) ? 0 : ask(exp, fd, stx, entry);
}

int mount_lookup_dir(struct mount_export *exp, int fd, const struct statx *stx,
                     struct mount_entry *entry)
{
    return !may_have_changed() && find(exp, stx, entry, TRUE) ? 0 : ask(exp, fd, stx, entry);
}

char *mount_describe(struct mount_export *exp, const struct statx *stx)
{
    char *text = NULL;

    pthread_mutex_lock(&exp->watch->work);
    for (guint i = 0; i < exp->scan.lives->len && text == NULL; i++) {
        const struct mount_live *live = g_ptr_array_index(exp->scan.lives, i);
        const struct qidmap_hints *hints = &live->identity.hints;
        guint64 id = mount_stx_key(stx);
        if (live->dev == mount_stx_dev(stx) &&
            (live->id == id || (live->unique | MOUNT_UNIQUE_KEY) == id))
            text = g_strdup_printf("%s %s on %s", hints->type, hints->source, hints->mount_path);
    }
    pthread_mutex_unlock(&exp->watch->work);
    return text != NULL ? text
                        : g_strdup_printf("device %u:%u", stx->stx_dev_major, stx->stx_dev_minor);
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
    watch->overrides = mount_overrides_parse(overrides, error);
    if (watch->overrides == NULL) {
        mount_watch_free(watch);
        return NULL;
    }
    return watch;
}

struct mount_export *mount_watch_add(struct mount_watch *watch, const char *name, int root_fd,
                                     enum mount_mode mode)
{
    struct mount_export *exp = g_new0(struct mount_export, 1);

    exp->watch = watch;
    mount_scan_init(&exp->scan, name, root_fd, mode, watch->overrides);
    g_ptr_array_add(watch->exports, exp);
    g_ptr_array_add(watch->scans, &exp->scan);
    return exp;
}

void mount_export_set_store(struct mount_export *exp, qidmap_store *store)
{
    exp->scan.store = store;
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
    int rc = renew(watch);
    if (rc < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-rc),
                    "cannot learn which filesystems the exports are on: %s", g_strerror(-rc));
        return FALSE;
    }
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
    }
    if (watch->mountinfo_fd >= 0)
        close(watch->mountinfo_fd);
    if (watch->wake_fd >= 0)
        close(watch->wake_fd);
    g_ptr_array_unref(watch->scans);
    g_ptr_array_unref(watch->exports);
    g_clear_pointer(&watch->overrides, g_array_unref);
    pthread_mutex_destroy(&watch->work);
    pthread_mutex_destroy(&watch->lock);
    pthread_cond_destroy(&watch->answered);
    g_free(watch);
}
