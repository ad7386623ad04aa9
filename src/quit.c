/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Signals and states. See quit.h. */
#include "config.h"

#include "src/quit.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

static pthread_t waiter; /* who calls quit_wait() */

static void fill(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGHUP);
}

void quit_prepare(void)
{
    sigset_t set;

    waiter = pthread_self();
    signal(SIGPIPE, SIG_IGN);
    fill(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int quit_wait(void (*on_usr1)(void), void (*on_hup)(void))
{
    sigset_t set;
    int number;

    fill(&set);
    for (;;) {
        if (sigwait(&set, &number) != 0)
            continue;
        if (number == SIGUSR1)
            on_usr1();
        else if (number == SIGHUP)
            on_hup();
        else
            return number;
    }
}

void quit_now(void)
{
    pthread_kill(waiter, SIGTERM);
}

void quit_tell_ready(int ready_fd)
{
#ifdef HAVE_SYSTEMD
    sd_notify(0, "READY=1\nSTATUS=Serving");
#endif
    if (ready_fd >= 0) {
        if (write(ready_fd, "READY\n", 6) < 0) {
            /* Whoever asked for it is gone. */
        }
        close(ready_fd);
    }
}

void quit_tell_stopping(void)
{
#ifdef HAVE_SYSTEMD
    sd_notify(0, "STOPPING=1");
#endif
}

void quit_tell_reloading(void)
{
#ifdef HAVE_SYSTEMD
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld",
               (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
#endif
}

void quit_tell_reloaded(void)
{
#ifdef HAVE_SYSTEMD
    sd_notify(0, "READY=1");
#endif
}
