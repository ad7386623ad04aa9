/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Signals, and the messages to the service manager about the daemon's state. */
#ifndef QUIT_H
#define QUIT_H

/* First of all: from now on SIGHUP waits for quit_wait(), and does not end a daemon that starts. */
void quit_keep_hup(void);

/* Blocks the signals that end the daemon, and those that are called there, in this thread and those
 * started later; ignores SIGPIPE. */
void quit_prepare(void);

/* What is called for the other signals: by quit_wait(), and not by a signal handler. */
struct quit_calls {
    void (*on_usr1)(void);
    void (*on_hup)(void); /* must not wait for anything */
    void (*on_chld)(void);
};

/* Waits for SIGTERM or SIGINT, which come before any others; returns its number. */
int quit_wait(const struct quit_calls *calls);

/* Makes quit_wait() return, from any thread. */
void quit_now(void);

/* Says that the daemon listens: to systemd, and on `ready_fd` where it is not negative (closed). */
void quit_tell_ready(int ready_fd);
void quit_tell_stopping(void);

/* That it reads its configuration again, and that it has done so. */
void quit_tell_reloading(void);
void quit_tell_reloaded(void);

#endif
