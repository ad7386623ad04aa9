/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A descriptor in reserve. See spare.h. */
#include "config.h"

#include "src/spare.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/log.h"

#define TELL_US (10 * G_USEC_PER_SEC)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int reserve = -1;
static int64_t told;

static void refill(void)
{
    if (reserve < 0)
        reserve = eventfd(0, EFD_CLOEXEC); /* needs no path, whatever the sandbox */
}

void spare_init(void)
{
    pthread_mutex_lock(&lock);
    refill();
    pthread_mutex_unlock(&lock);
}

int spare_refuse(int fd)
{
    int64_t now = g_get_monotonic_time();
    bool tell = false;
    int got = -1, result = -1;

    pthread_mutex_lock(&lock);
    refill();
    if (reserve >= 0) {
        close(reserve);
        reserve = -1;
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
