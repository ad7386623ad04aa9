/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The gate of a store: which clients may have seen ids of it, and who would attach while an
 * administrator changes it.
 *
 * A client counts from its attach until it ends the session, or says Tversion: by then all its fids
 * are gone. It is not counted by fids, since each walk makes one, and the count would be a cache
 * line that all threads write to. Who waits has a thread of the server: few may, and not for long.
 */
#include "config.h"

#include "src/qid-export.h"

#include <errno.h>
#include <time.h>

#include "src/privs.h"

#define WAIT_SECONDS 5
#define WAIT_MAX     2

void qid_gate_init(struct qid_store *store)
{
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->opened, NULL);
    store->sessions = g_array_new(FALSE, FALSE, sizeof(struct qid_session));
}

void qid_gate_clear(struct qid_store *store)
{
    g_array_unref(store->sessions);
    pthread_cond_destroy(&store->opened);
    pthread_mutex_destroy(&store->lock);
}

void qid_gate_close(struct qid_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->closed = TRUE;
    pthread_mutex_unlock(&store->lock);
}

void qid_gate_open(struct qid_store *store, gboolean lost)
{
    pthread_mutex_lock(&store->lock);
    store->closed = FALSE;
    store->lost = lost;
    pthread_cond_broadcast(&store->opened);
    pthread_mutex_unlock(&store->lock);
}

gboolean qid_gate_is_lost(struct qid_store *store)
{
    gboolean lost;

    pthread_mutex_lock(&store->lock);
    lost = store->lost;
    pthread_mutex_unlock(&store->lock);
    return lost;
}

guint qid_gate_sessions(struct qid_store *store, const struct qid_export *exp, GString *names)
{
    guint count = 0;

    pthread_mutex_lock(&store->lock);
    for (guint i = 0; i < store->sessions->len; i++) {
        const struct qid_session *s = &g_array_index(store->sessions, struct qid_session, i);

        if (exp != NULL && s->exp != exp)
            continue;
        if (count < 8)
            g_string_append_printf(names, "%s%" G_GUINT64_FORMAT " (export %s)",
                                   names->len > 0 ? ", " : "", s->id, s->exp->name);
        count++;
    }
    pthread_mutex_unlock(&store->lock);
    return count;
}

/* With the lock held: 0, or -EAGAIN where it stays closed for too long. */
static int wait_until_open(struct qid_store *store)
{
    struct timespec end;
    int error = store->waiting >= WAIT_MAX ? -EAGAIN : 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += WAIT_SECONDS;
    store->waiting++;
    while (store->closed && error == 0)
        error = -pthread_cond_timedwait(&store->opened, &store->lock, &end);
    store->waiting--;
    return store->closed ? -EAGAIN : 0;
}

int qid_attach(struct qid_export *exp, uint64_t session)
{
    const struct qid_session entry = {session, exp};
    struct qid_store *store = exp->home;
    int error;

    if (store == NULL)
        return 0;
    if (qid_gate_is_lost(store)) {
        struct privs_pause pause;

        privs_suspend(&pause);
        qid_store_try_again(store);
        error = privs_resume(&pause);
        if (error != 0)
            return error;
    }
    pthread_mutex_lock(&store->lock);
    error = store->closed ? wait_until_open(store) : 0;
    if (error == 0 && store->lost)
        error = -EIO;
    if (error == 0)
        g_array_append_val(store->sessions, entry);
    pthread_mutex_unlock(&store->lock);
    return error;
}

void qid_detach(struct qid_export *exp, uint64_t session)
{
    struct qid_store *store = exp->home;

    if (store == NULL)
        return;
    pthread_mutex_lock(&store->lock);
    for (guint i = 0; i < store->sessions->len; i++) {
        const struct qid_session *s = &g_array_index(store->sessions, struct qid_session, i);

        if (s->id == session && s->exp == exp) {
            g_array_remove_index_fast(store->sessions, i);
            break;
        }
    }
    pthread_mutex_unlock(&store->lock);
}
