/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stuck call cannot be taken back: only the death of the process, or of the other side, ends it.
 * So it is made by a thread that nothing depends on. No more than STUCK_MAX are ever stuck at a
 * time, so that a dead server that is asked again and again does not fill the machine.
 */
#include "config.h"

#include "store/patience.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define STUCK_MAX 32

static pthread_mutex_t stuck_lock = PTHREAD_MUTEX_INITIALIZER;
static guint stuck;

/* Shared by two; the last one frees it. */
struct task {
    void (*work)(void *data);
    void (*release)(void *data);
    void *data;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ended;
    gboolean done;
    gboolean left; /* the caller has gone */
};

static void task_free(struct task *task)
{
    pthread_cond_destroy(&task->ended);
    pthread_mutex_destroy(&task->lock);
    g_free(task);
}

static void *run(void *data)
{
    struct task *task = data;

    task->work(task->data);
    pthread_mutex_lock(&task->lock);
    task->done = TRUE;
    gboolean left = task->left;
    pthread_cond_signal(&task->ended);
    pthread_mutex_unlock(&task->lock);
    if (left) {
        task->release(task->data);
        task_free(task);
        pthread_mutex_lock(&stuck_lock);
        stuck--;
        pthread_mutex_unlock(&stuck_lock);
    }
    return NULL;
}

static gboolean start(struct task *task, pthread_t *thread)
{
    sigset_t all, old;

    sigfillset(&all); /* signals are the business of the threads that expect them */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(thread, NULL, run, task);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0;
}

int qm_patiently(void (*work)(void *data), void *data, void (*release)(void *data), guint ms)
{
    pthread_condattr_t attr;
    struct timespec until;
    pthread_t thread;

    pthread_mutex_lock(&stuck_lock);
    gboolean full = stuck >= STUCK_MAX;
    pthread_mutex_unlock(&stuck_lock);
    if (full) {
        release(data);
        return -EAGAIN;
    }
    struct task *task = g_new0(struct task, 1);
    task->work = work;
    task->release = release;
    task->data = data;
    pthread_mutex_init(&task->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&task->ended, &attr);
    pthread_condattr_destroy(&attr);
    if (!start(task, &thread)) {
        task_free(task);
        release(data);
        return -EAGAIN;
    }

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&task->lock);
    while (!task->done && pthread_cond_timedwait(&task->ended, &task->lock, &until) != ETIMEDOUT)
        ;
    gboolean done = task->done;
    task->left = !done;
    if (!done) { /* before the other one can end and count itself out */
        pthread_mutex_lock(&stuck_lock);
        stuck++;
        pthread_mutex_unlock(&stuck_lock);
    }
    pthread_mutex_unlock(&task->lock);
    if (!done) {
        pthread_detach(thread);
        return -ETIMEDOUT;
    }
    pthread_join(thread, NULL);
    task_free(task);
    return 0;
}
