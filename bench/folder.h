/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The folder in which a program that measures works: it is gone after the program's end, be that an
 * error, Ctrl-C or a kill. A process of its own, which signals of the terminal do not reach, waits
 * for that end, and removes it. One folder for a process. Knows nothing of what is measured.
 */
#ifndef BENCH_FOLDER_H
#define BENCH_FOLDER_H

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    pid_t owner, remover;
    int told; /* whoever has it open still works in the folder */
} folder_state;

/* What removes it; any end of the owner is the end of the pipe. */
static inline void folder_wait(int told, const char *path)
{
    char byte;
    ssize_t n;

    setsid();
    while ((n = read(told, &byte, 1)) < 0 && errno == EINTR)
        ;
    if (n == 0)
        g_usleep(300000); /* servers that are killed with their parent come to their end */
    execlp("rm", "rm", "-rf", "--", path, (char *)NULL);
    _exit(127);
}

/* Makes PARENT/NAME-XXXXXX; NULL and errno where that cannot be. The caller frees the path. */
static inline char *folder_make(const char *parent, const char *name)
{
    g_autofree char *pattern = g_strdup_printf("%s-XXXXXX", name);
    g_autofree char *path = g_build_filename(parent, pattern, NULL);
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    if (g_mkdtemp_full(path, 0755) == NULL) {
        int error = errno;

        close(ends[0]);
        close(ends[1]);
        errno = error;
        return NULL;
    }
    folder_state.owner = getpid();
    folder_state.told = ends[1];
    folder_state.remover = fork();
    if (folder_state.remover == 0) {
        close(ends[1]);
        folder_wait(ends[0], path);
    }
    close(ends[0]);
    return g_steal_pointer(&path);
}

/* Removes it now; nobody works in it any more. Of a child process: nothing. */
static inline void folder_remove(void)
{
    if (folder_state.remover <= 0 || folder_state.owner != getpid())
        return;
    if (write(folder_state.told, "", 1) == 1)
        waitpid(folder_state.remover, NULL, 0);
    folder_state.remover = 0;
}

#endif
