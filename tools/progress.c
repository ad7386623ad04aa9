/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The line has a bar where the end is known, else the number alone; the rate is that of the whole
 * piece of work, and so is what is said of the time left.
 */
#include "config.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tools/progress.h"

#define BAR        20
#define LINE_WIDTH 200
#define FIRST      (G_USEC_PER_SEC)     /* what ends sooner is not talked about */
#define AGAIN      (G_USEC_PER_SEC / 4) /* between two lines */

struct progress {
    gboolean terminal;
    gboolean shown;
    const char *doing, *unit;
    gint64 begun, next;

    /* progress_wait(): the thread that writes the line until it is to stop. */
    gboolean waiting, stop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* Some milliseconds coarse, and nearly free. */
static gint64 clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (gint64)now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

progress *progress_new(void)
{
    progress *p = g_new0(progress, 1);
    p->terminal = isatty(STDERR_FILENO);
    progress_begin(p, "working", "steps");
    return p;
}

static void stop_waiting(progress *p)
{
    if (!p->waiting) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->stop = TRUE;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    p->waiting = FALSE;
}

void progress_hide(progress *p)
{
    if (p == NULL) {
        return;
    }
    stop_waiting(p);
    if (p->shown) {
        fputs("\r\033[K", stderr);
        p->shown = FALSE;
    }
}

void progress_free(progress *p)
{
    progress_hide(p);
    g_free(p);
}

void progress_begin(progress *p, const char *doing, const char *unit)
{
    if (p == NULL) {
        return;
    }
    progress_hide(p);
    p->doing = doing;
    p->unit = unit;
    p->begun = clock_now();
    p->next = p->begun + FIRST;
}

/* "40 s", "12 min", "3 h 5 min". */
static char *duration(double seconds)
{
    guint64 s = seconds < 1e9 ? (guint64)(seconds + 0.5) : 1000000000;

    if (s < 100) {
        return g_strdup_printf("%" G_GUINT64_FORMAT " s", s);
    }
    if (s < 6000) {
        return g_strdup_printf("%" G_GUINT64_FORMAT " min", (s + 30) / 60);
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT " h %" G_GUINT64_FORMAT " min", s / 3600,
                           s % 3600 / 60);
}

static void write_line(progress *p, const char *line)
{
    struct winsize size;
    int width = 80;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        width = size.ws_col;
    }
    fprintf(stderr, "\r%.*s\033[K", width - 1, line);
    fflush(stderr);
    p->shown = TRUE;
}

static void show(progress *p, guint64 done, guint64 total, gint64 now)
{
    char bar[BAR + 1], line[LINE_WIDTH];
    double seconds = (double)(now - p->begun) / G_USEC_PER_SEC;
    double rate = (double)done / seconds;

    if (total > 0) {
        guint share = (guint)((double)MIN(done, total) / (double)total * 100);
        g_autofree char *left =
            done > 0 && done < total ? duration((double)(total - done) / rate) : NULL;
        for (guint i = 0; i < BAR; i++) {
            bar[i] = i < share * BAR / 100 ? '#' : '.';
        }
        bar[BAR] = '\0';
        g_snprintf(line, sizeof line, "%s [%s] %3u%%  %" G_GUINT64_FORMAT " %s, %.0f/s%s%s%s",
                   p->doing, bar, share, done, p->unit, rate, left != NULL ? ", " : "",
                   left != NULL ? left : "", left != NULL ? " left" : "");
    } else {
        g_autofree char *taken = duration(seconds);
        g_snprintf(line, sizeof line, "%s: %" G_GUINT64_FORMAT " %s, %.0f/s, %s", p->doing, done,
                   p->unit, rate, taken);
    }
    write_line(p, line);
}

void progress_tell(progress *p, guint64 done, guint64 total)
{
    if (p == NULL || !p->terminal) {
        return;
    }
    gint64 now = clock_now();
    if (now >= p->next) {
        p->next = now + AGAIN;
        show(p, done, total, now);
    }
}

int progress_step(void *p, uint64_t done, uint64_t total)
{
    progress_tell(p, done, total);
    return 0;
}

static void *tick(void *data)
{
    progress *p = data;
    struct timespec until;

    pthread_mutex_lock(&p->lock);
    clock_gettime(CLOCK_MONOTONIC, &until);
    for (until.tv_sec++; !p->stop; until.tv_sec++) {
        if (pthread_cond_timedwait(&p->changed, &p->lock, &until) != 0 && !p->stop) {
            double seconds = (double)(clock_now() - p->begun) / G_USEC_PER_SEC;
            g_autofree char *taken = duration(seconds);
            g_autofree char *line = g_strdup_printf("%s: %s", p->doing, taken);
            write_line(p, line);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void progress_wait(progress *p, const char *doing)
{
    pthread_condattr_t how;

    if (p == NULL || !p->terminal) {
        return;
    }
    progress_begin(p, doing, "");
    p->stop = FALSE;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&how);
    pthread_condattr_setclock(&how, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &how);
    pthread_condattr_destroy(&how);
    p->waiting = pthread_create(&p->thread, NULL, tick, p) == 0;
}
