/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * After a failure: what a store still does when a write to it failed or damage was met, how it
 * comes back, and how far its counters go on, so that no id is given twice whatever is on the disk.
 * Knows nothing of how the backend makes a new place.
 */
#include "config.h"

#include "store/store.h"

#include <errno.h>

#include "store/error.h"

/* How far the counters of a store go on, at least, that somebody copied: more than was given since
 * the copy was made. One copy may be put back many times, and ids are given after each: so every
 * leap ends elsewhere. Serials go where the clock is: nobody gives 256 in each microsecond. Where
 * it was set back, and for the other counters, whose numbers are few, chance takes its place: the
 * leap is longer by up to SHARE of what is left, so that it never uses up all. */
#define LEAP_FS       1024u
#define LEAP_AFFIX    1024u
#define LEAP_SERIAL   (UINT64_C(1) << 40)
#define LEAP_INSTANCE 4096u
#define SHARE         16u
#define NEAR          (UINT64_C(1) << 32)                    /* too near to trust the clock */
#define CLOCK_BEGIN   (INT64_C(1577836800) * G_USEC_PER_SEC) /* 2020 */

#define PAUSE_FIRST (G_USEC_PER_SEC)
#define PAUSE_LAST  (60 * (gint64)G_USEC_PER_SEC)

static void tell(struct qidmap_store *store, char *text)
{
    pthread_mutex_lock(&store->lock);
    g_free(store->trouble);
    store->trouble = text;
    pthread_mutex_unlock(&store->lock);
}

void qm_store_damaged(struct qidmap_store *store)
{
    atomic_store(&store->broken, -EUCLEAN);
    atomic_fetch_add(&store->rewrites, 1);
}

static uint64_t leap(uint64_t next, uint64_t least, uint64_t last)
{
    uint64_t left = last > next + least ? (last - next - least) / SHARE : 0;
    uint64_t draw = (uint64_t)g_random_int() << 32 | g_random_int();

    return MIN(next + least + (left ? draw % left : 0), last + 1);
}

static uint64_t clock_now(void)
{
    int64_t now = g_get_real_time() - CLOCK_BEGIN;

    return now > 0 ? (uint64_t)now << 8 : 0;
}

gboolean qm_beyond_clock(uint64_t next_serial)
{
    return next_serial > clock_now();
}

static uint64_t leap_serial(uint64_t next)
{
    uint64_t clock = clock_now();

    return clock > next + NEAR && clock <= QM_SERIAL_LAST ? clock
                                                          : leap(next, LEAP_SERIAL, QM_SERIAL_LAST);
}

void qm_pass_bound(const struct qm_meta *m, uint64_t *next_serial, uint64_t *next_affix)
{
    if (*next_serial > m->next_serial && qm_beyond_clock(*next_serial))
        *next_serial = leap(*next_serial, LEAP_SERIAL, QM_SERIAL_LAST);
    if (*next_affix > m->next_affix && *next_affix > LEAP_AFFIX)
        *next_affix = leap(*next_affix, LEAP_AFFIX, QM_AFFIX_LAST);
}

void qm_floor_leap(struct qm_floor *floor, const struct qm_meta *m)
{
    floor->next_fs = MIN(m->next_fs + LEAP_FS, (uint64_t)QM_FS_LAST + 1);
    floor->next_affix = leap(m->next_affix, LEAP_AFFIX, QM_AFFIX_LAST);
    floor->next_serial = leap_serial(m->next_serial);
    floor->next_instance = leap(m->next_instance, LEAP_INSTANCE, QM_INSTANCE_LAST);
}

static void raise_counters(struct qm_meta *meta, const struct qm_floor *floor)
{
    meta->next_fs = MAX(meta->next_fs, floor->next_fs);
    meta->next_affix = MAX(meta->next_affix, floor->next_affix);
    meta->next_serial = MAX(meta->next_serial, floor->next_serial);
    meta->next_instance = MAX(meta->next_instance, floor->next_instance);
}

/* A commit failed: nobody knows what is on the disk. Another process may read, or a power cut bring
 * back, what the transaction wrote: its ids are never given to other objects. */
void qm_store_failed(struct qidmap_store *store, const struct qm_meta *meta, int e)
{
    struct qm_floor *floor = &store->floor;

    floor->next_fs = MAX(floor->next_fs, meta->next_fs);
    floor->next_affix = MAX(floor->next_affix, meta->next_affix);
    floor->next_serial = MAX(floor->next_serial, meta->next_serial);
    floor->next_instance = MAX(floor->next_instance, meta->next_instance);
    store->pause = store->pause_first ? store->pause_first : PAUSE_FIRST;
    store->retry_at = g_get_monotonic_time() + store->pause;
    atomic_store(&store->broken, e);
    atomic_fetch_add(&store->rewrites, 1);
    tell(store, g_strdup_printf("a write to the store failed (%s): known ids are served, new ones "
                                "after what is stored has been copied",
                                g_strerror(-e)));
}

/* Brings the last good state to a new place. */
static int renew(struct qidmap_store *store, GError **error)
{
    struct qm_meta meta = store->meta;
    int e;

    raise_counters(&meta, &store->floor);
    meta.epoch++;
    meta.last_clean_stop = 0;
    e = store->backend->ops->recover(store->backend, &meta, error);
    if (e != 0)
        return e;
    pthread_mutex_lock(&store->lock);
    store->meta = meta;
    g_clear_pointer(&store->trouble, g_free);
    pthread_mutex_unlock(&store->lock);
    atomic_store(&store->given, meta.next_serial);
    atomic_fetch_add(&store->rewrites, 1);
    return 0;
}

int qm_store_renew(struct qidmap_store *store, GError **error)
{
    int e = renew(store, error);

    if (e != 0 && store->backend->doubtful)
        qm_store_failed(store, &store->meta, -EIO);
    if (e == -EUCLEAN)
        qm_store_damaged(store);
    return e;
}

static int recover(struct qidmap_store *store)
{
    GError *error = NULL;
    int e;

    if (!store->backend->ops->recover || g_get_monotonic_time() < store->retry_at)
        return -EIO;
    e = renew(store, &error);
    if (e != 0) {
        tell(store,
             g_strdup_printf("a write to the store failed, and to copy what is stored to a new "
                             "generation failed, too (%s): known ids are served, new ones are not",
                             error ? error->message : g_strerror(-e)));
        g_clear_error(&error);
        store->pause = MIN(2 * store->pause, PAUSE_LAST);
        store->retry_at = g_get_monotonic_time() + store->pause;
        if (e == -EUCLEAN)
            qm_store_damaged(store);
        return e == -EUCLEAN || e == -ENOSPC ? e : -EIO;
    }
    e = atomic_load(&store->broken);
    /* Damage that a reader met meanwhile stays. */
    return e == -EUCLEAN || !atomic_compare_exchange_strong(&store->broken, &e, 0) ? -EUCLEAN : 0;
}

/* Stores counters that were raised. */
static int store_floor(struct qidmap_store *store)
{
    const struct qm_backend_ops *ops = store->backend->ops;
    struct qm_meta meta;
    struct qm_txn *txn;
    int e;

    do {
        meta = store->meta;
        raise_counters(&meta, &store->floor);
        if (meta.next_fs == store->meta.next_fs && meta.next_affix == store->meta.next_affix &&
            meta.next_serial == store->meta.next_serial &&
            meta.next_instance == store->meta.next_instance)
            return 0;
        meta.last_clean_stop = 0;
        e = ops->begin(store->backend, QM_TXN_WRITE, 1, &txn);
        if (e == 0)
            e = qm_store_commit(store, txn, &meta);
        if (e == QM_GROW) {
            e = ops->grow(store->backend);
            e = e == 0 ? QM_GROW : e;
        }
    } while (e == QM_GROW);
    return e;
}

int qm_store_ready(struct qidmap_store *store)
{
    int e = atomic_load(&store->broken);

    if (!store->writable)
        return -EROFS;
    if (e == -EUCLEAN)
        return e;
    if (e != 0)
        e = recover(store);
    return e == 0 ? store_floor(store) : e;
}

int qm_store_blocked(struct qidmap_store *store, GError **error)
{
    int e = qm_store_health(store, error);

    if (e != 0)
        return e == -EUCLEAN ? e : -EIO;
    return store->blocked == 0 ? 0
                               : qm_set_error(error, store->blocked, "cannot write to it: %s",
                                              g_strerror(-store->blocked));
}

int qm_store_health(struct qidmap_store *store, GError **error)
{
    int e = atomic_load(&store->broken);

    if (e == 0)
        return 0;
    pthread_mutex_lock(&store->lock);
    if (!store->trouble)
        qm_set_error(error, e,
                     "the store is damaged: what is known and whole is served, nothing new is "
                     "mapped; stop the daemon, and restore the store from a backup");
    else
        qm_set_error(error, e, "%s", store->trouble);
    pthread_mutex_unlock(&store->lock);
    return e;
}
