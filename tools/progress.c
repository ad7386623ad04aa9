/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The line has a bar where the end is known, else the number alone; the rate is that of the whole
 * piece of work.
 */
#include "config.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/progress.h"

#define BAR        24
#define CALLS      1024 /* between two looks at the clock */
#define LINE_WIDTH 160

struct progress {
    gboolean terminal;
    gboolean shown;
    const char *doing, *unit;
    gint64 begun, next;
    guint calls;
};

progress *progress_new(void)
{
    progress *p = g_new0(progress, 1);
    p->terminal = isatty(STDERR_FILENO);
    return p;
}

void progress_hide(progress *p)
{
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
    p->doing = doing;
    p->unit = unit;
    p->begun = g_get_monotonic_time();
    p->next = p->begun + G_USEC_PER_SEC / 4;
    p->calls = 0;
}

static void show(progress *p, guint64 done, guint64 total, gint64 now)
{
    char bar[BAR + 1], line[LINE_WIDTH];
    double seconds = (double)(now - p->begun) / G_USEC_PER_SEC;
    struct winsize size;
    int width = 80;

    g_autofree char *count = g_strdup_printf("%" G_GUINT64_FORMAT " %s, %.0f/s, %.0f s", done,
                                             p->unit, (double)done / seconds, seconds);
    if (total > 0) {
        guint share = (guint)(MIN(done, total) * 100 / total);
        for (guint i = 0; i < BAR; i++) {
            bar[i] = i < share * BAR / 100 ? '#' : '.';
        }
        bar[BAR] = '\0';
        g_snprintf(line, sizeof line, "%s [%s] %3u%%  %s", p->doing, bar, share, count);
    } else {
        g_snprintf(line, sizeof line, "%s: %s", p->doing, count);
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
        width = size.ws_col;
    }
    fprintf(stderr, "\r%.*s\033[K", width - 1, line);
    p->shown = TRUE;
}

void progress_tell(progress *p, guint64 done, guint64 total)
{
    if (!p->terminal || ++p->calls % CALLS != 0) {
        return;
    }
    gint64 now = g_get_monotonic_time();
    if (now >= p->next) {
        p->next = now + G_USEC_PER_SEC / 4;
        show(p, done, total, now);
    }
}
