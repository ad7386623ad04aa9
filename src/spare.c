/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors in reserve. See spare.h. */
#include "config.h"

#include "src/spare.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/log.h"

#define TELL_US (10 * G_USEC_PER_SEC)

/* A request needs about four at once (two fids, a step on the way up); some come together. */
#define RESERVE_MAX 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int reserve[RESERVE_MAX];
static int wanted = 1; /* set before any thread starts */
static int count;      /* atomic for those without the lock */
static int64_t told;

/* With the lock held. */
static void set_count(int n)
{
    __atomic_store_n(&count, n, __ATOMIC_RELAXED);
}

static void refill(void)
{
    while (count < wanted) {
        int fd = eventfd(0, EFD_CLOEXEC); /* needs no path, whatever the sandbox */

        if (fd < 0)
            return;
        reserve[count] = fd;
        set_count(count + 1);
    }
}

/* With the lock held: false: there is none. */
static bool take_one(void)
{
    if (count == 0)
        return false;
    set_count(count - 1);
    close(reserve[count]);
    return true;
}

void spare_init(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        wanted = (int)CLAMP(limit.rlim_max / 32, 1, RESERVE_MAX);
    (void)spare_refill();
}

bool spare_lend(void)
{
    bool lent;

    pthread_mutex_lock(&lock);
    lent = take_one();
    pthread_mutex_unlock(&lock);
    return lent;
}

bool spare_is_short(void)
{
    return __atomic_load_n(&count, __ATOMIC_RELAXED) < wanted;
}

bool spare_refill(void)
{
    bool whole;

    pthread_mutex_lock(&lock);
    refill();
    whole = count == wanted;
    pthread_mutex_unlock(&lock);
    return whole;
}

int spare_refuse(int fd)
{
    int64_t now = g_get_monotonic_time();
    bool tell = false;
    int got = -1, result = -1;

    pthread_mutex_lock(&lock);
    refill();
    if (take_one()) {
        got = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (got >= 0)
            close(got);
        result = got >= 0 ? 1 : errno == EAGAIN ? 0 : -1;
        refill();
        tell = got >= 0 && (told == 0 || now - told > TELL_US);
        if (tell)
            told = now;
    }
    pthread_mutex_unlock(&lock);
    if (tell)
        log_error("a client was turned away, as the process has no descriptors left; raise "
                  "LimitNOFILE of the service, or lower the limits files and connections");
    return result;
}
