/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See terminal.h. Signals are blocked but while terminal_wait() sleeps, so that none is missed.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "tools/terminal.h"

/* Other screen and no cursor; the way back. */
#define ENTER "\033[?1049h\033[?25l\033[H\033[J"
#define LEAVE "\033[0m\033[?25h\033[?1049l"

static struct {
    gboolean ours, has_keys;
    struct termios before;
    sigset_t sleeping; /* signals that are blocked while it waits */
} terminal;

static volatile sig_atomic_t resized, stopped, quit;

static void on_signal(int number)
{
    if (number == SIGWINCH || number == SIGCONT) {
        resized = 1;
    } else if (number == SIGTSTP) {
        stopped = 1;
    } else {
        quit = 1;
    }
}

static gboolean write_all(const char *bytes, gsize size)
{
    while (size > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return FALSE;
        }
        bytes += n;
        size -= (gsize)n;
    }
    return TRUE;
}

static void enter(void)
{
    struct termios raw;

    if (terminal.has_keys) {
        raw = terminal.before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    }
    write_all(ENTER, strlen(ENTER));
    terminal.ours = TRUE;
}

static void leave(void)
{
    if (!terminal.ours) {
        return;
    }
    terminal.ours = FALSE;
    write_all(LEAVE, strlen(LEAVE));
    if (terminal.has_keys) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal.before);
    }
}

gboolean terminal_begin(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;

    if (!isatty(STDOUT_FILENO)) {
        return FALSE;
    }
    terminal.has_keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &terminal.before) == 0;
    sigemptyset(&blocked);
    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++) {
        sigaddset(&blocked, numbers[i]);
        sigaction(numbers[i], &action, NULL);
    }
    pthread_sigmask(SIG_BLOCK, &blocked, &terminal.sleeping);
    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++) {
        sigdelset(&terminal.sleeping, numbers[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    atexit(leave);
    enter();
    return TRUE;
}

void terminal_end(void)
{
    leave();
}

void terminal_size(guint *columns, guint *rows)
{
    struct winsize size;
    gboolean known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;

    *columns = known && size.ws_col > 0 ? size.ws_col : 80;
    *rows = known && size.ws_row > 0 ? size.ws_row : 24;
}

gboolean terminal_paint(const GPtrArray *lines, int loud)
{
    g_autoptr(GString) out = g_string_new("\033[H");

    for (guint i = 0; i < lines->len; i++) {
        gboolean set_off = loud >= 0 && i == (guint)loud;
        g_string_append_printf(out, "%s%s%s%s\033[K", i > 0 ? "\r\n" : "", set_off ? "\033[7m" : "",
                               (const char *)lines->pdata[i], set_off ? "\033[0m" : "");
    }
    g_string_append(out, "\033[J");
    return write_all(out->str, out->len);
}

/* Ctrl-Z: the terminal is the shell's until the program is continued. */
static void stop(void)
{
    leave();
    stopped = 0;
    raise(SIGSTOP);
    enter();
    resized = 1;
}

static gboolean is_quit(void)
{
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof keys);

    if (n <= 0) {
        return n == 0 || (errno != EINTR && errno != EAGAIN);
    }
    return memchr(keys, 'q', (size_t)n) != NULL || memchr(keys, 'Q', (size_t)n) != NULL ||
           memchr(keys, 3, (size_t)n) != NULL;
}

enum terminal_event terminal_wait(int fd, int milliseconds)
{
    struct pollfd fds[] = {{fd, POLLIN, 0}, {terminal.has_keys ? STDIN_FILENO : -1, POLLIN, 0}};
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    int n = quit || stopped || resized ? 0 : ppoll(fds, 2, &time, &terminal.sleeping);

    if (quit || (n > 0 && fds[1].revents != 0 && is_quit())) {
        return TERMINAL_QUIT;
    }
    if (stopped) {
        stop();
    }
    if (resized) {
        resized = 0;
        return TERMINAL_RESIZE;
    }
    return n > 0 && fds[0].revents != 0 ? TERMINAL_WOKEN : TERMINAL_TIME;
}
