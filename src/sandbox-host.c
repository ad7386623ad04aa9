/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way back to the host for a daemon in its own mount namespace, for reload alone: a small
 * process, made before the namespace is entered, that stays in the host's. It opens a configuration
 * file, or hands over a copy of a directory with what is mounted below, which the daemon puts at
 * the same path of its own. Both come as descriptors; nobody but the daemon can ask.
 *
 * Each question is answered by a process of its own, which a dead filesystem may hold: it is killed
 * when its time is over, and the next question is answered.
 *
 * The copies are slaves of the host's mounts, as those of the start are (sandbox-mounts.c). What is
 * no longer needed is unmounted, so that the host's filesystem is not busy because of us.
 *
 * Rejected: a thread that stays outside (it would be without a filter of system calls in the same
 * memory), and setns(2) (which needs CAP_SYS_CHROOT for good). Must not know what an export is.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/log.h"
#include "src/sandbox.h"

/* Older headers of the C library do not have these. */
#ifndef SYS_open_tree
#define SYS_open_tree  428
#define SYS_move_mount 429
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define TREE_CLONE     1u
#define TREE_CLOEXEC   ((unsigned)O_CLOEXEC)
#define TREE_RECURSIVE 0x8000u /* AT_RECURSIVE */
#define ATTR_PLAIN     0x0eu   /* MOUNT_ATTR_NOSUID, NODEV, NOEXEC */
#define LOOK_SECONDS   20      /* a filesystem may take so long */
#define ANSWER_SECONDS 30      /* the process outside; it has stopped, or the host stands still */
#define UNMOUNTS_MAX   64      /* over each other at one place */

struct attributes { /* struct mount_attr of the kernel */
    uint64_t set, clear, propagation, userns;
};

enum wish { WISH_FILE, WISH_PLAIN_TREE, WISH_TREE };

struct question {
    uint64_t number;
    int wish;
    char path[PATH_MAX];
};

struct reply {
    uint64_t number;
    int error;           /* negative errno */
    char text[PATH_MAX]; /* the real path, or why it cannot be */
};

/* ---- the process outside --------------------------------------------------------------------- */

static int refuse(struct reply *reply, int error, const char *why)
{
    reply->error = error;
    g_strlcpy(reply->text, why, sizeof reply->text);
    return 0;
}

static int open_file(const struct question *question, struct reply *reply, int fds[2])
{
    fds[0] = open(question->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fds[0] < 0)
        return refuse(reply, -errno, g_strerror(errno));
    return 1;
}

/* The copy, and a descriptor that holds the mount of the host. */
static int copy_tree(const struct question *question, struct reply *reply, int fds[2])
{
    struct attributes slave = {.propagation = MS_SLAVE}, plain = {.set = ATTR_PLAIN};
    char *dirs[2] = {reply->text, NULL};
    g_autofree char *why = NULL;

    if (realpath(question->path, reply->text) == NULL)
        return refuse(reply, -errno, g_strerror(errno));
    why = sandbox_mounts_refuse(dirs);
    if (why != NULL)
        return refuse(reply, -EOPNOTSUPP, why);
    fds[1] = open(reply->text, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fds[1] < 0)
        return refuse(reply, -errno, g_strerror(errno));
    fds[0] = (int)syscall(SYS_open_tree, AT_FDCWD, reply->text,
                          TREE_CLONE | TREE_CLOEXEC | TREE_RECURSIVE | AT_SYMLINK_NOFOLLOW);
    if (fds[0] < 0 ||
        syscall(SYS_mount_setattr, fds[0], "", AT_EMPTY_PATH | TREE_RECURSIVE, &slave,
                sizeof slave) != 0 ||
        (question->wish == WISH_PLAIN_TREE &&
         syscall(SYS_mount_setattr, fds[0], "", AT_EMPTY_PATH, &plain, sizeof plain) != 0)) {
        int error = -errno;

        for (int i = 0; i < 2; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        fds[0] = fds[1] = -1;
        return refuse(reply, -EOPNOTSUPP, g_strerror(-error));
    }
    return 2;
}

static bool send_reply(int sock, struct reply *reply, const int *fds, int count)
{
    struct iovec part = {reply, sizeof *reply};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {.header = {.cmsg_len = 0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        control.header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.header), fds, (size_t)count * sizeof(int));
    }
    return sendmsg(sock, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *reply;
}

static bool answer(int sock, const struct question *question)
{
    struct reply reply = {.number = question->number};
    int fds[2] = {-1, -1}, count;

    count = question->wish == WISH_FILE ? open_file(question, &reply, fds)
                                        : copy_tree(question, &reply, fds);
    return send_reply(sock, &reply, fds, count);
}

/* Whether it ends within so many seconds. SIGCHLD is blocked. */
static bool ends_within(pid_t pid, unsigned seconds, int *status)
{
    struct timespec end, now, rest;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds;
    while (waitpid(pid, status, WNOHANG) == 0) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec >= end.tv_sec)
            return false;
        rest = (struct timespec){.tv_sec = end.tv_sec - now.tv_sec};
        sigtimedwait(&set, NULL, &rest);
    }
    return true;
}

/* For who could not, or was killed at it. */
static void answer_error(int sock, const struct question *question, int error, const char *why)
{
    struct reply reply = {.number = question->number};

    refuse(&reply, error, why);
    send_reply(sock, &reply, NULL, 0);
}

static void answer_all(int sock)
{
    struct question question;

    while (recv(sock, &question, sizeof question, 0) == (ssize_t)sizeof question) {
        int status = 0;
        pid_t pid;

        question.path[PATH_MAX - 1] = '\0';
        while (waitpid(-1, NULL, WNOHANG) > 0) /* one that could not be killed at once */
            ;
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(answer(sock, &question) ? 0 : 1);
        }
        if (pid < 0)
            answer_error(sock, &question, -errno, "the daemon's process for the host cannot fork");
        else if (!ends_within(pid, LOOK_SECONDS, &status)) {
            kill(pid, SIGKILL);
            ends_within(pid, 1, &status);
            answer_error(sock, &question, -ETIMEDOUT, "its filesystem does not answer");
        } else if (status != 0)
            answer_error(sock, &question, -EIO, "who looked at it for the daemon was killed");
    }
}

/* Nothing of the daemon's stays open here: neither its sockets nor the pipe of its log. */
static void leave_all(int sock)
{
    int null = open("/dev/null", O_RDWR);

    for (int fd = 0; null >= 0 && fd <= 2; fd++)
        dup2(null, fd);
    if (sock > 3)
        syscall(SYS_close_range, 3u, (unsigned)sock - 1, 0u);
    syscall(SYS_close_range, (unsigned)sock + 1, ~0u, 0u);
    prctl(PR_SET_NAME, "qidmapd-host");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sandbox_caps_cut(UINT64_C(1) << CAP_SYS_ADMIN | UINT64_C(1) << CAP_DAC_READ_SEARCH);
    if (chdir("/") != 0)
        _exit(1);
}

/* ---- the daemon's end ------------------------------------------------------------------------ */

static int host = -1; /* the socket; -1: not in a namespace of our own */
static pid_t host_pid;
static bool gone; /* atomic: the process has ended */
static uint64_t asked;

bool sandbox_host_start(void)
{
    struct timeval timeout = {.tv_sec = ANSWER_SECONDS};
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    pid = fork();
    if (pid == 0) {
        leave_all(pair[1]);
        answer_all(pair[1]);
        _exit(0);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return false;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    host = pair[0];
    host_pid = pid;
    return true;
}

bool sandbox_host_is_gone(void)
{
    return __atomic_load_n(&gone, __ATOMIC_ACQUIRE);
}

void sandbox_host_hang_up(void)
{
    if (host >= 0)
        shutdown(host, SHUT_RDWR);
}

void sandbox_host_reap(void)
{
    int status;

    if (host_pid <= 0 || waitpid(host_pid, &status, WNOHANG) != host_pid)
        return;
    log_error("the daemon's process for the host (qidmapd-host, process %ld) has ended (%s %d): "
              "sessions go on, but a reload cannot bring in new directories until the daemon is "
              "restarted",
              (long)host_pid, WIFSIGNALED(status) ? "signal" : "status",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    host_pid = 0;
    __atomic_store_n(&gone, true, __ATOMIC_RELEASE);
}

static int take_fds(struct msghdr *message, int fds[2])
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    size_t count;

    if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
        return 0;
    count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), MIN(count, 2) * sizeof(int));
    return (int)MIN(count, 2);
}

/* One answer, to this question or to an earlier one. 0 or a negative errno: none came. */
static int receive(struct reply *reply, int fds[2])
{
    struct iovec part = {reply, sizeof *reply};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n;

    do
        n = recvmsg(host, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    fds[0] = fds[1] = -1;
    if (n > 0)
        take_fds(&message, fds);
    if (n == (ssize_t)sizeof *reply)
        return 0;
    return n < 0 && errno == EAGAIN ? -ETIMEDOUT : -ESTALE;
}

static int no_answer(struct reply *reply, int error)
{
    if (error == -ESTALE)
        __atomic_store_n(&gone, true, __ATOMIC_RELEASE);
    refuse(reply, error,
           error == -ETIMEDOUT ? "the daemon's process for the host does not answer"
                               : "the daemon's process for the host is gone");
    return error;
}

static int ask(enum wish wish, const char *path, struct reply *reply, int fds[2])
{
    struct question question = {.number = ++asked, .wish = wish};

    if (g_strlcpy(question.path, path, sizeof question.path) >= sizeof question.path)
        return refuse(reply, -ENAMETOOLONG, g_strerror(ENAMETOOLONG)), -ENAMETOOLONG;
    if (send(host, &question, sizeof question, MSG_NOSIGNAL) != (ssize_t)sizeof question)
        return no_answer(reply, errno == EAGAIN ? -ETIMEDOUT : -ESTALE);
    for (;;) {
        int error = receive(reply, fds);

        if (error != 0)
            return no_answer(reply, error);
        if (reply->number == question.number)
            return reply->error;
        for (int i = 0; i < 2; i++) /* too late */
            if (fds[i] >= 0)
                close(fds[i]);
    }
}

int sandbox_open_file(const char *path)
{
    struct reply reply;
    int fds[2] = {-1, -1}, error;

    if (host < 0)
        return -ESTALE;
    error = ask(WISH_FILE, path, &reply, fds);
    return error != 0 ? error : fds[0];
}

/* ---- what is mounted here -------------------------------------------------------------------- */

struct held {
    char *path;
    int fd; /* of the mount of the host */
    bool tree, system;
    bool made;   /* the directory itself, by the change that is at work */
    uint64_t id; /* of our own mount; 0: not known */
};

static GPtrArray *helds;
static int root_fd = -1; /* of the tmpfs, writable */

void sandbox_set_root(int fd)
{
    root_fd = fd;
}

static void held_free(gpointer data)
{
    struct held *held = data;

    if (held->fd >= 0)
        close(held->fd);
    g_free(held->path);
    g_free(held);
}

void sandbox_note_held(const char *path, int fd, bool tree, bool system)
{
    struct held *held = g_new0(struct held, 1);

    held->path = g_strdup(path);
    held->fd = fd;
    held->tree = tree;
    held->system = system;
    if (helds == NULL)
        helds = g_ptr_array_new_with_free_func(held_free);
    g_ptr_array_add(helds, held);
}

void sandbox_host_stop(void)
{
    if (host >= 0)
        close(host);
    host = -1;
    if (host_pid > 0) /* it ends with the socket */
        waitpid(host_pid, NULL, 0);
    host_pid = 0;
    g_clear_pointer(&helds, g_ptr_array_unref);
}

bool sandbox_is_below(const char *path, const char *dir)
{
    gsize size = strlen(dir);

    while (size > 0 && dir[size - 1] == '/')
        size--;
    return strncmp(path, dir, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

/* An export is with what is mounted below. */
static bool is_shown(enum wish wish, const char *path)
{
    for (guint i = 0; helds != NULL && i < helds->len; i++) {
        const struct held *held = g_ptr_array_index(helds, i);

        if ((held->tree && sandbox_is_below(path, held->path)) ||
            (wish == WISH_TREE && strcmp(held->path, path) == 0))
            return true;
    }
    return false;
}

/* Directories of our own tmpfs, where there is nothing yet. */
static void make_place(const char *path)
{
    g_autofree char *part = g_strdup(path + 1);
    struct stat st;

    if (lstat(path, &st) == 0)
        return;
    for (char *slash = strchr(part, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdirat(root_fd, part, 0755);
        *slash = '/';
    }
    mkdirat(root_fd, part, 0755);
}

static void remove_place(const char *path)
{
    g_autofree char *part = g_strdup(path + 1);
    char *slash;

    while (unlinkat(root_fd, part, AT_REMOVEDIR) == 0 && (slash = strrchr(part, '/')) != NULL)
        *slash = '\0';
}

/* 0: not known. */
static uint64_t mount_id(int dir_fd, const char *path)
{
    struct statx stx;

    if (statx(dir_fd, path, AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID,
              &stx) != 0 ||
        !(stx.stx_mask & STATX_MNT_ID))
        return 0;
    return stx.stx_mnt_id;
}

/* 0 or a negative errno; *why says it for people. */
static int bring(enum wish wish, const char *path, char **real, char **why)
{
    struct reply reply;
    int fds[2] = {-1, -1}, error = ask(wish, path, &reply, fds);

    if (error != 0) {
        *why = g_strdup(reply.text);
        return error;
    }
    *real = g_strdup(reply.text);
    if (is_shown(wish, *real)) {
        close(fds[0]);
        close(fds[1]);
        return 0;
    }
    make_place(*real);
    if (syscall(SYS_move_mount, fds[0], "", AT_FDCWD, *real, 4u /* F_EMPTY_PATH */) != 0) {
        error = -errno;
        *why = g_strdup_printf("it cannot be mounted: %s", g_strerror(-error));
        close(fds[1]);
        remove_place(*real);
        g_clear_pointer(real, g_free);
        error = -EOPNOTSUPP;
    } else {
        sandbox_note_held(*real, fds[1], true, false);
        ((struct held *)g_ptr_array_index(helds, helds->len - 1))->id = mount_id(fds[0], "");
    }
    close(fds[0]);
    return error;
}

static gboolean fail(const char *path, int code, const char *why, GError **error)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-code), "%s: %s%s", path, why,
                code == -EOPNOTSUPP || code == -ESTALE
                    ? "; the daemon needs a restart to reach it, as it is isolated"
                    : "");
    return FALSE;
}

gboolean sandbox_bring_dir(char **path, GError **error)
{
    g_autofree char *real = NULL, *why = NULL;
    int code;

    if (host < 0)
        return TRUE;
    code = bring(WISH_PLAIN_TREE, *path, &real, &why);
    if (code != 0)
        return fail(*path, code, why, error);
    g_free(*path);
    *path = g_steal_pointer(&real);
    return TRUE;
}

/* Its name is lasting, too, as who opens a store that is there relies on that. */
static int make_in(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

    if (fd < 0 || (mkdirat(fd, name, 0700) != 0 && errno != EEXIST) || fsync(fd) != 0)
        error = -errno;
    if (fd >= 0)
        close(fd);
    return error;
}

/* Makes a directory of the host, by way of the one above: only the directory itself is to be seen
 * here, and nothing that stands beside it. 0 or a negative errno; *why says it for people. */
static int make_dir(const char *path, char **why)
{
    g_autofree char *parent = g_path_get_dirname(path), *name = g_path_get_basename(path);
    struct reply reply;
    int fds[2] = {-1, -1}, error = ask(WISH_TREE, parent, &reply, fds);

    if (error != 0) {
        *why = g_strdup(reply.text);
        return error;
    }
    error = make_in(fds[1], name);
    if (error != 0)
        *why = g_strdup_printf("it cannot be made: %s", g_strerror(-error));
    close(fds[0]);
    close(fds[1]);
    return error;
}

gboolean sandbox_bring_store(char **uri, GError **error)
{
    g_autofree char *real = NULL, *why = NULL, *scheme = NULL;
    const char *path = sandbox_store_path(*uri);
    guint before = helds != NULL ? helds->len : 0;
    int code;

    if (host < 0 || path == NULL)
        return TRUE;
    scheme = g_strndup(*uri, (gsize)(path - *uri));
    code = bring(WISH_TREE, path, &real, &why);
    if (code == -ENOENT &&
        g_str_has_prefix(scheme, "lmdb")) { /* to be made, where there is one above */
        g_clear_pointer(&why, g_free);
        code = make_dir(path, &why);
        if (code == 0)
            code = bring(WISH_TREE, path, &real, &why);
        if (code == 0 && helds->len > before)
            ((struct held *)g_ptr_array_index(helds, before))->made = true;
    }
    if (code != 0)
        return fail(path, code, why, error);
    path = NULL;
    g_free(*uri);
    *uri = g_strconcat(scheme, real, NULL);
    return TRUE;
}

static bool is_needed(guint index, const GPtrArray *paths)
{
    const struct held *held = g_ptr_array_index(helds, index);

    for (guint i = 0; i < paths->len; i++)
        if (sandbox_is_below(g_ptr_array_index(paths, i), held->path))
            return true;
    /* Under one that came later: the path means that one's content. */
    for (guint i = index + 1; i < helds->len; i++) {
        const struct held *other = g_ptr_array_index(helds, i);

        if (sandbox_is_below(held->path, other->path))
            return true;
    }
    return false;
}

/* With what the host has mounted over it since, but not what was there before. */
static void give_up(guint index)
{
    const struct held *held = g_ptr_array_index(helds, index);

    for (int k = 0; k < UNMOUNTS_MAX; k++) {
        uint64_t top = mount_id(AT_FDCWD, held->path);

        if (umount2(held->path, MNT_DETACH) != 0 || (top != 0 && top == held->id))
            break;
    }
    remove_place(held->path);
    g_ptr_array_remove_index(helds, index);
}

unsigned sandbox_mark(void)
{
    guint count = helds != NULL ? helds->len : 0;

    for (guint i = 0; i < count; i++) /* that change is over */
        ((struct held *)g_ptr_array_index(helds, i))->made = false;
    return count;
}

/* Of the host, where nothing has come into it. */
static void remove_made(const struct held *held)
{
    g_autofree char *name = g_path_get_basename(held->path);
    int fd = openat(held->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    unlinkat(fd, name, AT_REMOVEDIR);
    close(fd);
}

void sandbox_undo(unsigned mark)
{
    while (helds != NULL && helds->len > mark) {
        const struct held *held = g_ptr_array_index(helds, helds->len - 1);

        if (held->made)
            remove_made(held);
        give_up(helds->len - 1);
    }
}

void sandbox_keep_only(const GPtrArray *paths)
{
    if (host < 0 || helds == NULL)
        return;
    for (guint i = helds->len; i-- > 0;) { /* what came last may stand over the others */
        const struct held *held = g_ptr_array_index(helds, i);

        if (!held->system && !is_needed(i, paths))
            give_up(i);
    }
}
