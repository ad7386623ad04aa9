/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The threads. See worker.h. */
#include "config.h"

#include "src/worker.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "src/conn.h"
#include "src/log.h"
#include "src/privs.h"
#include "src/proto.h"

#define TICK_US       2000
#define QUIET_TICKS   50    /* the monitor sleeps after so many looks without a request */
#define FEW_FOR_CPU   8     /* more threads than these, times CPUs, only where these wait: */
#define MORE          4     /* as many at each look of the monitor */
#define STUCK_TICKS   25    /* or where none has made a move for so many looks */
#define CALM_TICKS    250   /* these end when none was to begin for so many looks */
#define SPARE_WORKERS 4     /* idle ones beyond these end after a while */
#define SPARE_TIMEOUT 10000 /* ms */
#define EVENT_QUEUE   0u    /* listeners are 1, 2, ... */
#define EVENT_TICK    (CONN_FIRST_ID - 1)

/* Reply buffers up to the first size are a worker's to keep; of larger ones all workers together
 * keep so many bytes. */
#define OUT_SMALL (128u * 1024)
#define OUT_KEPT  (8u * 1024 * 1024)
#define OUT_PAGE  4096u

struct worker {
    struct worker *next; /* pool.lock */
    struct request request;
    uint8_t *out;
    size_t out_size;
    size_t out_kept; /* what it has in pool.kept */

    struct conn *held; /* atomic: the role that may be taken away; who sets it to NULL has it */
    uint64_t sequence; /* atomic: of requests run with the role in hand */
    uint64_t seen;     /* the sequence at the monitor's last look */
};

static struct {
    int epoll, event, timer;
    void (*on_tick)(void);
    size_t kept; /* bytes of large reply buffers of workers that are at no request; atomic */
    unsigned max, few;
    const int *listeners;
    unsigned listener_count;
    void (*on_listener)(int fd);

    pthread_mutex_t lock;
    pthread_cond_t ended;
    struct worker *workers;
    unsigned count; /* atomic, too */
    bool stop;
    GQueue queue; /* of connections whose role waits for a worker */
    GQueue ready; /* of requests */
    unsigned turn;

    int queued;   /* length of both; atomic, a hint */
    int idle;     /* in epoll_wait; atomic */
    int rounds;   /* how often one was about to go there; atomic */
    int blocked;  /* in recv or send; atomic */
    int calm;     /* more than a few threads are not needed; atomic */
    int stopping; /* atomic copy of stop */

    pthread_mutex_t monitor_lock;
    pthread_cond_t monitor_wake;
    int monitor_asleep; /* atomic */
    int activity;       /* atomic: requests begun */
    pthread_t monitor;
} pool = {.timer = -1,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .ended = PTHREAD_COND_INITIALIZER,
          .monitor_lock = PTHREAD_MUTEX_INITIALIZER,
          .monitor_wake = PTHREAD_COND_INITIALIZER};

static void *worker_main(void *data);

int worker_epoll(void)
{
    return pool.epoll;
}

static void wake_one(void)
{
    uint64_t one = 1;

    if (write(pool.event, &one, sizeof one) < 0 && errno != EAGAIN)
        log_error("eventfd: %s", g_strerror(errno));
}

/* Starts one more worker, if there are fewer than `most`. */
static void grow(unsigned most)
{
    struct worker *worker = NULL;
    pthread_t thread;

    pthread_mutex_lock(&pool.lock);
    if (!pool.stop && pool.count < most) {
        worker = g_new0(struct worker, 1);
        worker->next = pool.workers;
        pool.workers = worker;
        __atomic_fetch_add(&pool.count, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&pool.lock);
    if (worker == NULL)
        return;
    if (pthread_create(&thread, NULL, worker_main, worker) == 0) {
        pthread_detach(thread);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    for (struct worker **at = &pool.workers; *at != NULL; at = &(*at)->next)
        if (*at == worker) {
            *at = worker->next;
            break;
        }
    __atomic_fetch_sub(&pool.count, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&pool.lock);
    g_free(worker);
    log_warning("cannot start another thread; going on with those that run");
}

static void queue_add(GQueue *queue, void *item, unsigned most)
{
    pthread_mutex_lock(&pool.lock);
    g_queue_push_tail(queue, item);
    __atomic_fetch_add(&pool.queued, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&pool.lock);
    if (__atomic_load_n(&pool.idle, __ATOMIC_SEQ_CST) == 0)
        grow(most);
    wake_one();
}

void worker_queue(struct conn *conn)
{
    queue_add(&pool.queue, conn, pool.few);
}

void worker_queue_first(struct conn *conn)
{
    queue_add(&pool.queue, conn, pool.max);
}

void worker_queue_request(struct request *request)
{
    queue_add(&pool.ready, request, pool.few);
}

bool worker_is_wanted(void)
{
    return __atomic_load_n(&pool.idle, __ATOMIC_SEQ_CST) == 0;
}

/* True: it did something of the queues, which take turns, as neither may be always full. */
static bool serve_queued(struct worker *worker)
{
    struct request *request = NULL;
    struct conn *conn = NULL;

    if (__atomic_load_n(&pool.queued, __ATOMIC_SEQ_CST) == 0)
        return false;
    pthread_mutex_lock(&pool.lock);
    if (pool.turn++ % 2 == 1)
        conn = g_queue_pop_head(&pool.queue);
    if (conn == NULL)
        request = g_queue_pop_head(&pool.ready);
    if (conn == NULL && request == NULL)
        conn = g_queue_pop_head(&pool.queue);
    if (request != NULL || conn != NULL)
        __atomic_fetch_sub(&pool.queued, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&pool.lock);
    if (request != NULL)
        conn_run_ready(request, worker);
    else if (conn != NULL)
        conn_serve(conn, worker);
    return request != NULL || conn != NULL;
}

static bool is_stopping(void)
{
    return __atomic_load_n(&pool.stopping, __ATOMIC_ACQUIRE) != 0;
}

static void serve_listener(unsigned index)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = index + 1};

    pool.on_listener(pool.listeners[index]);
    /* Fails once the listener was removed; that is the end of it. */
    epoll_ctl(pool.epoll, EPOLL_CTL_MOD, pool.listeners[index], &event);
}

/* True: this worker is one too many. */
static bool leave_if_spare(void)
{
    bool leave = false;

    pthread_mutex_lock(&pool.lock);
    if (!pool.stop && pool.count > SPARE_WORKERS &&
        __atomic_load_n(&pool.idle, __ATOMIC_SEQ_CST) >= SPARE_WORKERS)
        leave = true;
    pthread_mutex_unlock(&pool.lock);
    return leave;
}

static void worker_end(struct worker *worker)
{
    privs_thread_end();
    pthread_mutex_lock(&pool.lock);
    for (struct worker **at = &pool.workers; *at != NULL; at = &(*at)->next)
        if (*at == worker) {
            *at = worker->next;
            break;
        }
    pthread_mutex_unlock(&pool.lock);
    __atomic_fetch_sub(&pool.kept, worker->out_kept, __ATOMIC_RELAXED);
    g_free(worker->out);
    g_free(worker);
    pthread_mutex_lock(&pool.lock);
    __atomic_fetch_sub(&pool.count, 1, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&pool.ended);
    pthread_mutex_unlock(&pool.lock);
}

static void rouse_monitor(void)
{
    __atomic_fetch_add(&pool.activity, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool.monitor_asleep, __ATOMIC_SEQ_CST)) {
        pthread_mutex_lock(&pool.monitor_lock);
        pthread_cond_signal(&pool.monitor_wake);
        pthread_mutex_unlock(&pool.monitor_lock);
    }
}

static void *worker_main(void *data)
{
    struct worker *worker = data;

    while (!is_stopping()) {
        struct epoll_event event;
        bool served = serve_queued(worker);
        int n;

        __atomic_fetch_add(&pool.rounds, 1, __ATOMIC_RELAXED);
        if (__atomic_load_n(&pool.calm, __ATOMIC_RELAXED) &&
            __atomic_load_n(&pool.count, __ATOMIC_RELAXED) > pool.few && leave_if_spare())
            break;
        if (served && !worker_is_wanted())
            continue;
        /* The eventfd is edge-triggered: one write, one worker, and nobody reads it. */
        if (served) /* where nobody else looks for events, there may always be something queued */
            n = epoll_wait(pool.epoll, &event, 1, 0);
        else {
            __atomic_fetch_add(&pool.idle, 1, __ATOMIC_SEQ_CST);
            n = epoll_wait(pool.epoll, &event, 1, SPARE_TIMEOUT);
            if (__atomic_sub_fetch(&pool.idle, 1, __ATOMIC_SEQ_CST) == 0 && n > 0) {
                grow(pool.few);
                rouse_monitor(); /* there may be enough */
            }
            if (n == 0 && leave_if_spare())
                break;
        }
        if (n <= 0)
            continue;
        if (event.data.u64 == EVENT_QUEUE) {
            /* Several writes may have come as one edge. */
            if (__atomic_load_n(&pool.queued, __ATOMIC_SEQ_CST) > 1)
                wake_one();
            serve_queued(worker);
        } else if (event.data.u64 == EVENT_TICK) {
            uint64_t count;

            if (read(pool.timer, &count, sizeof count) == (ssize_t)sizeof count)
                pool.on_tick();
        } else if (event.data.u64 < CONN_FIRST_ID)
            serve_listener((unsigned)event.data.u64 - 1);
        else
            conn_event(event.data.u64, event.events, worker);
    }
    if (is_stopping())
        wake_one(); /* the next */
    worker_end(worker);
    return NULL;
}

/* ---- the role in hand, and the monitor ------------------------------------------------------- */

void worker_hold(struct worker *worker, struct conn *conn)
{
    __atomic_store_n(&worker->sequence, worker->sequence + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&worker->held, conn, __ATOMIC_RELEASE);
    rouse_monitor();
}

bool worker_let_go(struct worker *worker)
{
    return __atomic_exchange_n(&worker->held, NULL, __ATOMIC_ACQ_REL) != NULL;
}

/* Of all threads, in microseconds. */
static int64_t cpu_time(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * G_USEC_PER_SEC + ts.tv_nsec / 1000;
}

/* Returns whether any worker has a role in hand. */
static bool look_at_workers(void)
{
    struct conn *taken[16];
    unsigned count = 0;
    bool busy = false;

    pthread_mutex_lock(&pool.lock);
    for (struct worker *worker = pool.workers; worker != NULL && count < G_N_ELEMENTS(taken);
         worker = worker->next) {
        struct conn *held = __atomic_load_n(&worker->held, __ATOMIC_ACQUIRE);
        uint64_t sequence = __atomic_load_n(&worker->sequence, __ATOMIC_RELAXED);

        busy = busy || held != NULL;
        /* By now it may be the role of the next request: that is taken a little early then. */
        if (held != NULL && worker->seen == sequence &&
            __atomic_compare_exchange_n(&worker->held, &held, NULL, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            taken[count++] = held;
        worker->seen = sequence;
    }
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; i < count; i++)
        conn_taken(taken[i]);
    return busy;
}

/* Whether nobody waits for events, and yet the CPUs have had little of ours to do since the last
 * look: those at work wait for disks and the like. */
static bool are_waiting(bool nobody)
{
    static int64_t last, last_cpu; /* microseconds; 0: somebody waited */
    static int last_rounds;
    static unsigned still;
    int rounds = __atomic_load_n(&pool.rounds, __ATOMIC_RELAXED);
    int64_t now = 0, cpu = 0;
    bool waiting = false;

    if (nobody) {
        now = g_get_monotonic_time();
        cpu = cpu_time();
        still = last != 0 && rounds == last_rounds ? still + 1 : 0;
        waiting = last != 0 && (cpu - last_cpu < (now - last) / 2 || still >= STUCK_TICKS);
    }
    last = now;
    last_cpu = cpu;
    last_rounds = rounds;
    return waiting;
}

/* Starts others for those that wait. Returns whether nobody waits for events. */
static bool look_for_waiters(void)
{
    static unsigned calm;
    bool nobody = __atomic_load_n(&pool.idle, __ATOMIC_SEQ_CST) == 0;

    if (are_waiting(nobody)) {
        for (int i = 0; i < MORE; i++)
            grow(pool.max);
        calm = 0;
    } else if (calm < CALM_TICKS)
        calm++;
    __atomic_store_n(&pool.calm, calm == CALM_TICKS, __ATOMIC_RELAXED);
    return nobody;
}

static void *monitor_main(void *data)
{
    int last = 0;
    unsigned quiet = 0;

    (void)data;
    while (!is_stopping()) {
        int now = __atomic_load_n(&pool.activity, __ATOMIC_SEQ_CST);
        bool at_work = look_at_workers(), busy = look_for_waiters() || at_work;

        quiet = busy || now != last ? 0 : quiet + 1;
        last = now;
        if (quiet < QUIET_TICKS) {
            g_usleep(TICK_US);
            continue;
        }
        pthread_mutex_lock(&pool.monitor_lock);
        __atomic_store_n(&pool.monitor_asleep, 1, __ATOMIC_SEQ_CST);
        while (!is_stopping() && __atomic_load_n(&pool.activity, __ATOMIC_SEQ_CST) == last)
            pthread_cond_wait(&pool.monitor_wake, &pool.monitor_lock);
        __atomic_store_n(&pool.monitor_asleep, 0, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&pool.monitor_lock);
        quiet = 0;
    }
    return NULL;
}

/* ---- small things ---------------------------------------------------------------------------- */

bool worker_block_begin(void)
{
    /* Half of the first threads at most wait for one client each, and never when nobody is left to
     * wait for all the others. */
    if (__atomic_load_n(&pool.idle, __ATOMIC_SEQ_CST) == 0)
        return false;
    if (__atomic_add_fetch(&pool.blocked, 1, __ATOMIC_SEQ_CST) > (int)pool.few / 2) {
        __atomic_fetch_sub(&pool.blocked, 1, __ATOMIC_SEQ_CST);
        return false;
    }
    return true;
}

void worker_block_end(void)
{
    __atomic_fetch_sub(&pool.blocked, 1, __ATOMIC_SEQ_CST);
}

struct request *worker_request(struct worker *worker)
{
    return &worker->request;
}

/* Processors copy up to ten times as slowly where the target is a little after the source in its
 * page, as they take loads for ones of what was just stored. Files and fresh parts of sockets begin
 * at the start of a page: so the data of a read, after the header, begins in the middle of one. */
static uint8_t *out_start(const struct worker *worker)
{
    uintptr_t data = (uintptr_t)worker->out + P9_READ_HEADER;

    return worker->out + (OUT_PAGE + OUT_PAGE / 2 - data % OUT_PAGE) % OUT_PAGE;
}

uint8_t *worker_out(struct worker *worker, size_t size)
{
    if (worker->out_kept > 0) {
        __atomic_fetch_sub(&pool.kept, worker->out_kept, __ATOMIC_RELAXED);
        worker->out_kept = 0;
    }
    if (worker->out_size < size) {
        g_free(worker->out);
        worker->out = g_malloc(size + OUT_PAGE);
        worker->out_size = size;
    }
    return out_start(worker);
}

void worker_out_end(struct worker *worker)
{
    if (worker->out_size <= OUT_SMALL)
        return;
    if (__atomic_add_fetch(&pool.kept, worker->out_size, __ATOMIC_RELAXED) <= OUT_KEPT) {
        worker->out_kept = worker->out_size;
        return;
    }
    __atomic_fetch_sub(&pool.kept, worker->out_size, __ATOMIC_RELAXED);
    g_free(worker->out);
    worker->out = NULL;
    worker->out_size = 0;
}

int worker_set_tick(unsigned ms)
{
    struct itimerspec times = {
        .it_interval = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}};

    times.it_value = times.it_interval;
    return timerfd_settime(pool.timer, 0, &times, NULL) < 0 ? -errno : 0;
}

int worker_tick(unsigned ms, void (*on_tick)(void))
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = EVENT_TICK};

    pool.on_tick = on_tick;
    pool.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (pool.timer < 0 || worker_set_tick(ms) < 0 ||
        epoll_ctl(pool.epoll, EPOLL_CTL_ADD, pool.timer, &event) < 0)
        return -errno;
    return 0;
}

int worker_pool_start(unsigned max, const int *listeners, unsigned count,
                      void (*on_listener)(int fd))
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = EVENT_QUEUE};
    bool started;

    pool.epoll = epoll_create1(EPOLL_CLOEXEC);
    pool.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool.epoll < 0 || pool.event < 0 ||
        epoll_ctl(pool.epoll, EPOLL_CTL_ADD, pool.event, &event) < 0)
        return -errno;
    pool.max = max;
    pool.few = MIN(max, FEW_FOR_CPU * g_get_num_processors());
    pool.listeners = listeners;
    pool.listener_count = count;
    pool.on_listener = on_listener;
    for (unsigned i = 0; i < count; i++) {
        event = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u64 = i + 1};
        if (epoll_ctl(pool.epoll, EPOLL_CTL_ADD, listeners[i], &event) < 0)
            return -errno;
    }
    if (pthread_create(&pool.monitor, NULL, monitor_main, NULL) != 0)
        return -EAGAIN;
    grow(max);
    grow(max);
    pthread_mutex_lock(&pool.lock);
    started = pool.count > 0;
    pthread_mutex_unlock(&pool.lock);
    return started ? 0 : -EAGAIN;
}

void worker_pool_close_listeners(void)
{
    for (unsigned i = 0; i < pool.listener_count; i++)
        epoll_ctl(pool.epoll, EPOLL_CTL_DEL, pool.listeners[i], NULL);
}

void worker_pool_stop(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stop = true;
    __atomic_store_n(&pool.stopping, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_lock(&pool.monitor_lock);
    pthread_cond_signal(&pool.monitor_wake);
    pthread_mutex_unlock(&pool.monitor_lock);
    wake_one();
    pthread_mutex_lock(&pool.lock);
    while (pool.count > 0)
        pthread_cond_wait(&pool.ended, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_join(pool.monitor, NULL);
    close(pool.event);
    if (pool.timer >= 0)
        close(pool.timer);
    close(pool.epoll);
}
