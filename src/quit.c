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

static void fill_end(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

static void fill(sigset_t *set)
{
    fill_end(set);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGCHLD);
}

void quit_keep_hup(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void quit_prepare(void)
{
    sigset_t set;

    waiter = pthread_self();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* who started us may have had it ignored */
    fill(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int quit_wait(const struct quit_calls *calls)
{
    const struct timespec now = {0, 0};
    sigset_t set, end;
    int number;

    fill(&set);
    fill_end(&end);
    for (;;) {
        if (sigwait(&set, &number) != 0)
            continue;
        if (number == SIGTERM || number == SIGINT)
            return number;
        if (number == SIGUSR1)
            calls->on_usr1();
        else if (number == SIGHUP)
            calls->on_hup();
        else
            calls->on_chld();
        /* The lowest number comes first, and SIGHUP may come without end. */
        number = sigtimedwait(&end, NULL, &now);
        if (number > 0)
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
