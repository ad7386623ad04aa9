/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All connections that there are: how many may be and when one is accepted, finding one by its id,
 * cutting off those that keep us waiting, and the end of all. See conn.h.
 */
#include "config.h"

#include <sys/socket.h>
#include <time.h>

#include "src/conn.h"
#include "src/log.h"

#define DRAIN_SECONDS 5    /* for queued replies when the daemon ends */
#define PROGRESS      4096 /* bytes: what moves slower stands still */
#define ACCEPT_MS     1000 /* at most: for who is being accepted */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_empty = PTHREAD_COND_INITIALIZER;
static GHashTable *registry; /* &conn->id -> conn */
static uint64_t next_id = CONN_FIRST_ID;
static bool ending;        /* no more connections; registry_lock */
static bool told_too_many; /* since there was room; registry_lock */
static int64_t held_until; /* monotonic microseconds: none is accepted before; registry_lock */
static unsigned accepting; /* threads that do so just now; registry_lock */

/* ---- which there are ------------------------------------------------------------------------- */

bool conn_register(struct conn *conn, unsigned max)
{
    bool tell = false, fits;

    pthread_mutex_lock(&registry_lock);
    if (registry == NULL)
        registry = g_hash_table_new(g_int64_hash, g_int64_equal);
    fits = g_hash_table_size(registry) < max;
    if (fits) {
        conn->id = conn->account.id = next_id++;
        g_hash_table_insert(registry, &conn->id, conn);
        if (g_hash_table_size(registry) < max / 2 + 1)
            told_too_many = false;
        if (ending) /* accepted while the others were told to end: nobody else tells this one */
            shutdown(conn->fd, SHUT_RDWR);
    } else {
        tell = !told_too_many;
        told_too_many = true;
    }
    pthread_mutex_unlock(&registry_lock);
    if (tell)
        log_warning("there are %u connections already, and more are refused; raise the limit "
                    "connections if all of them are wanted",
                    max);
    return fits;
}

void conn_unregister(const struct conn *conn)
{
    pthread_mutex_lock(&registry_lock);
    g_hash_table_remove(registry, &conn->id);
    pthread_mutex_unlock(&registry_lock);
}

void conn_tell_empty(void)
{
    pthread_mutex_lock(&registry_lock);
    if (g_hash_table_size(registry) == 0)
        pthread_cond_broadcast(&registry_empty);
    pthread_mutex_unlock(&registry_lock);
}

struct conn *conn_find(uint64_t id)
{
    struct conn *conn;

    pthread_mutex_lock(&registry_lock);
    conn = registry != NULL ? g_hash_table_lookup(registry, &id) : NULL;
    if (conn != NULL) {
        pthread_mutex_lock(&conn->lock);
        if (conn->holders == 0) { /* being freed */
            pthread_mutex_unlock(&conn->lock);
            conn = NULL;
        } else
            conn->holders++;
    }
    pthread_mutex_unlock(&registry_lock);
    return conn;
}

/* ---- when one is accepted -------------------------------------------------------------------- */

bool conn_accept_begin(void)
{
    bool may;

    pthread_mutex_lock(&registry_lock);
    may = held_until == 0 || g_get_monotonic_time() >= held_until;
    accepting += may;
    pthread_mutex_unlock(&registry_lock);
    return may;
}

void conn_accept_end(void)
{
    pthread_mutex_lock(&registry_lock);
    accepting--;
    pthread_mutex_unlock(&registry_lock);
}

/* With the registry locked. */
static unsigned count_all(void)
{
    return registry != NULL ? g_hash_table_size(registry) : 0;
}

unsigned conn_hold(unsigned seconds)
{
    unsigned count;

    pthread_mutex_lock(&registry_lock);
    count = count_all();
    if (seconds == 0)
        held_until = 0;
    else if (count == 0) {
        held_until = g_get_monotonic_time() + seconds * (int64_t)G_USEC_PER_SEC;
        for (int i = 0; accepting > 0 && i < ACCEPT_MS; i++) {
            pthread_mutex_unlock(&registry_lock);
            g_usleep(1000);
            pthread_mutex_lock(&registry_lock);
        }
        count = count_all() + accepting;
        if (count > 0)
            held_until = 0;
    }
    pthread_mutex_unlock(&registry_lock);
    return count;
}

/* ---- cutting off ----------------------------------------------------------------------------- */

bool conn_disconnect(uint64_t id)
{
    struct conn *conn = conn_find(id);

    if (conn == NULL)
        return false;
    pthread_mutex_unlock(&conn->lock);
    conn_hang_up(conn, SHUT_RD);
    conn_release(conn);
    return true;
}

/* With the registry locked: connections for which `wanted` says so, held for the caller. */
static GPtrArray *collect(bool (*wanted)(struct conn *conn, int64_t now), int64_t now)
{
    GPtrArray *held = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    if (registry == NULL)
        return held;
    g_hash_table_iter_init(&iter, registry);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct conn *conn = value;

        pthread_mutex_lock(&conn->lock);
        if (conn->holders > 0 && wanted(conn, now)) {
            conn->holders++;
            g_ptr_array_add(held, conn);
        }
        pthread_mutex_unlock(&conn->lock);
    }
    return held;
}

/* The registry must not be locked. */
static void hang_up_all(GPtrArray *held, int how)
{
    for (guint i = 0; i < held->len; i++) {
        conn_hang_up(g_ptr_array_index(held, i), how);
        conn_release(g_ptr_array_index(held, i));
    }
    g_ptr_array_free(held, TRUE);
}

/* Whether what is watched did not move by `step` for `seconds`. */
static bool stands_still(struct conn_watch *watch, bool watched, uint64_t value, uint64_t step,
                         unsigned seconds, int64_t now)
{
    if (!watched || seconds == 0) {
        watch->since = 0;
        return false;
    }
    if (watch->since == 0 || value - watch->mark >= step) {
        watch->since = now;
        watch->mark = value;
        return false;
    }
    return now - watch->since >= (int64_t)seconds * G_USEC_PER_SEC;
}

static bool is_late(struct conn *conn, int64_t now)
{
    unsigned idle = __atomic_load_n(&conn->server->idle_seconds, __ATOMIC_RELAXED);
    unsigned stall = __atomic_load_n(&conn->server->stall_seconds, __ATOMIC_RELAXED);
    bool attached = __atomic_load_n(&conn->account.used[LIMIT_FIDS], __ATOMIC_RELAXED) > 0;
    const char *why = NULL;

    /* Each whole message counts as a step of its own. */
    if (stands_still(&conn->quiet, !attached && conn->inflight == 0, conn->messages, 1, idle, now))
        why = "attached nothing";
    if (stands_still(&conn->half, conn->parked && conn->partial,
                     conn->messages * PROGRESS + conn->parked_count, PROGRESS, stall, now))
        why = "stopped in the midst of a message";
    if (stands_still(&conn->unread, conn->want_out, conn->out_count, PROGRESS, stall, now))
        why = "did not read its replies";
    if (why != NULL)
        log_warning("connection %" G_GUINT64_FORMAT ": the client %s for too long; it is cut off",
                    conn->id, why);
    return why != NULL;
}

void conn_sweep(void)
{
    GPtrArray *late;

    pthread_mutex_lock(&registry_lock);
    late = collect(is_late, g_get_monotonic_time());
    pthread_mutex_unlock(&registry_lock);
    hang_up_all(late, SHUT_RDWR);
}

/* ---- the end --------------------------------------------------------------------------------- */

void conn_wait_none(void)
{
    pthread_mutex_lock(&registry_lock);
    while (registry != NULL && g_hash_table_size(registry) > 0)
        pthread_cond_wait(&registry_empty, &registry_lock);
    pthread_mutex_unlock(&registry_lock);
}

static bool is_any(struct conn *conn, int64_t now)
{
    (void)conn;
    (void)now;
    return true;
}

static bool is_unread(struct conn *conn, int64_t now)
{
    (void)now;
    return conn->want_out;
}

/* Waits until all are gone. */
static bool wait_for_all(unsigned seconds)
{
    struct timespec deadline;
    bool all = true;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += seconds;
    pthread_mutex_lock(&registry_lock);
    while (registry != NULL && g_hash_table_size(registry) > 0 && all)
        all = pthread_cond_timedwait(&registry_empty, &registry_lock, &deadline) == 0;
    pthread_mutex_unlock(&registry_lock);
    return all;
}

bool conn_close_all(unsigned seconds)
{
    GPtrArray *held;

    pthread_mutex_lock(&registry_lock);
    ending = true;
    held = collect(is_any, 0);
    pthread_mutex_unlock(&registry_lock);
    hang_up_all(held, SHUT_RD);
    while (seconds > 0) {
        unsigned step = MIN(seconds, DRAIN_SECONDS);

        if (wait_for_all(step))
            return true;
        seconds -= step;
        pthread_mutex_lock(&registry_lock);
        held = collect(is_unread, 0);
        pthread_mutex_unlock(&registry_lock);
        hang_up_all(held, SHUT_RDWR);
    }
    return wait_for_all(1);
}
