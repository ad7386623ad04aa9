/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: after the filter the system calls that would lead out of the daemon's place fail, and
 * those that it lives on work, threads included; after the cut there are no other capabilities, and
 * no way to them, and the systemd unit gives just these; a filter of others that does not know a
 * newer system call yet breaks nothing; a mount namespace is refused where it would not follow the
 * host's mounts.
 *
 * Each case does it in a process of its own, as there is no way back.
 */
#include "config.h"

#include "src/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "src/path.h"

#define SKIPPED 77

/* Runs `fn` in a child; its result, 0 for success. */
static int in_child(int (*fn)(void))
{
    pid_t pid = fork();
    int status = -1;

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        _exit(fn());
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "# line %d: %s (%s)\n", __LINE__, #condition, g_strerror(errno));      \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)
#define REFUSED(call) EXPECT((errno = 0, (call) < 0) && errno == ENOSYS)

static int filter(void)
{
    int rc;

    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    rc = sandbox_calls_filter();
    if (rc == -EOPNOTSUPP)
        return SKIPPED;
    EXPECT(rc == 0);
    return 0;
}

static int refused_calls(void)
{
    char *const none[] = {NULL};
    int rc = filter();

    if (rc != 0)
        return rc;
    REFUSED(execve("/bin/true", none, none));
    REFUSED(syscall(SYS_execveat, AT_FDCWD, "/bin/true", none, none, 0));
    REFUSED(mount("none", "/tmp", "tmpfs", 0, NULL));
    REFUSED(umount2("/tmp", 0));
    REFUSED(syscall(SYS_pivot_root, ".", "."));
    REFUSED(chroot("/"));
    REFUSED(unshare(CLONE_NEWNS));
    REFUSED(syscall(SYS_setns, 0, 0));
    REFUSED(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    REFUSED(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0));
    REFUSED(syscall(SYS_bpf, 0, NULL, 0));
    REFUSED(syscall(SYS_init_module, NULL, 0, ""));
    REFUSED(syscall(SYS_kexec_load, 0, 0, NULL, 0));
    REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    REFUSED(syscall(SYS_setuid, 0));
    REFUSED(syscall(SYS_kill, 1, 0));
    REFUSED(syscall(425 /* io_uring_setup */, 1, NULL));
    REFUSED(syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    REFUSED(socket(AF_PACKET, SOCK_RAW, 0));
    REFUSED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    REFUSED(fork());
    return 0;
}

static void *thread_main(void *data)
{
    return data;
}

static int allowed_calls(void)
{
    char name[] = "/tmp/qidmap-sandbox-XXXXXX";
    pthread_t thread;
    void *back = NULL;
    struct statx stx;
    int fd, pair[2], rc = filter();

    if (rc != 0)
        return rc;
    EXPECT(pthread_create(&thread, NULL, thread_main, name) == 0);
    EXPECT(pthread_join(thread, &back) == 0 && back == name);
    fd = mkstemp(name);
    EXPECT(fd >= 0);
    EXPECT(write(fd, "x", 1) == 1 && fsync(fd) == 0 && ftruncate(fd, 0) == 0);
    EXPECT(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx) == 0);
    EXPECT(fchmod(fd, 0600) == 0);
    EXPECT(fsetxattr(fd, "user.a", "1", 1, 0) == 0 || errno == EOPNOTSUPP);
    EXPECT(unlink(name) == 0);
    EXPECT(close(fd) == 0);
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    EXPECT(send(pair[0], "x", 1, 0) == 1);
    EXPECT(getpwuid(0) != NULL);
    EXPECT(syscall(SYS_setfsuid, geteuid()) >= 0);
    GThread *glib = g_thread_new("glib", thread_main, NULL);
    g_thread_join(glib);
    return 0;
}

/* As a service manager's or a container's that was built before these two: EPERM. */
static int old_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 452 /* fchmodat2 */, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 464 /* getxattrat */, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};

    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    EXPECT((errno = 0, syscall(452, -1, "", 0, 0)) < 0 && errno == EPERM);
    return 0;
}

static int new_calls(void)
{
    char name[] = "/tmp/qidmap-sandbox-XXXXXX", value[8];
    struct stat st;
    int file = mkstemp(name), fd, rc = old_filter();

    if (rc != 0)
        return rc;
    EXPECT(file >= 0 && path_init() == 0);
    fd = open(name, O_PATH | O_CLOEXEC);
    EXPECT(fd >= 0);
    for (mode_t mode = 0600; mode <= 0640; mode += 040) {
        EXPECT(path_chmod(fd, mode) == 0);
        EXPECT(fstat(fd, &st) == 0 && (st.st_mode & 07777) == mode);
    }
    if (fsetxattr(file, "user.a", "1", 1, 0) == 0)
        EXPECT(path_getxattr(fd, "user.a", value, sizeof value) == 1 && value[0] == '1');
    EXPECT(path_getxattr(fd, "user.none", value, sizeof value) != -EPERM);
    EXPECT(unlink(name) == 0);
    return 0;
}

static int cut(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    uint64_t keep = UINT64_C(1) << CAP_CHOWN, needed = sandbox_caps_needed();

    EXPECT((needed & (UINT64_C(1) << CAP_SYS_PTRACE)) == 0);
    EXPECT((needed & (UINT64_C(1) << CAP_SETPCAP)) == 0);
    EXPECT(sandbox_caps_cut(keep) == 0);
    EXPECT(syscall(SYS_capget, &header, caps) == 0);
    EXPECT((caps[0].permitted & ~(uint32_t)keep) == 0 && caps[1].permitted == 0);
    EXPECT((caps[0].effective & ~(uint32_t)keep) == 0 && caps[1].effective == 0);
    EXPECT(caps[0].inheritable == 0 && caps[1].inheritable == 0);
    if (geteuid() == 0) {
        EXPECT(caps[0].effective == (uint32_t)keep && sandbox_caps_count() == 1);
        EXPECT(prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) == 1);
        EXPECT(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0);
    }
    caps[0].permitted |= 1u << CAP_SYS_ADMIN;
    EXPECT(syscall(SYS_capset, &header, caps) < 0 && errno == EPERM);
    return 0;
}

static void run(gconstpointer data)
{
    int (*fn)(void) = *(int (*const *)(void))data;
    int rc = in_child(fn);

    if (rc == SKIPPED)
        g_test_skip("seccomp: not in this build");
    else
        g_assert_cmpint(rc, ==, 0);
}

static void refuses(void)
{
    char *root[] = {(char *)"/", NULL}, *gone[] = {(char *)"/nonexistent/dir", NULL};
    g_autofree char *a = sandbox_mounts_refuse(root), *b = sandbox_mounts_refuse(gone);

    g_assert_nonnull(strstr(a, "whole tree"));
    g_assert_nonnull(strstr(b, "/nonexistent/dir"));
}

/* The unit leaves the daemon what it keeps, and the one capability that is for the start alone. */
static void unit_is_right(void)
{
    static const struct {
        const char *name;
        unsigned cap;
    } caps[] = {{"CAP_CHOWN", CAP_CHOWN},
                {"CAP_DAC_OVERRIDE", CAP_DAC_OVERRIDE},
                {"CAP_DAC_READ_SEARCH", CAP_DAC_READ_SEARCH},
                {"CAP_FOWNER", CAP_FOWNER},
                {"CAP_FSETID", CAP_FSETID},
                {"CAP_SETUID", CAP_SETUID},
                {"CAP_SETGID", CAP_SETGID},
                {"CAP_MKNOD", CAP_MKNOD},
                {"CAP_SETFCAP", CAP_SETFCAP},
                {"CAP_SYS_ADMIN", CAP_SYS_ADMIN},
                {"CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE}};
    static const char key[] = "\nCapabilityBoundingSet=";
    const char *srcdir = g_getenv("top_srcdir");
    g_autofree char *path =
        g_build_filename(srcdir != NULL ? srcdir : ".", "dist", "qidmapd.service.in", NULL);
    g_autofree char *text = NULL;
    uint64_t mask = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        g_test_skip("top_srcdir is not set, as make check does");
        return;
    }
    g_assert_nonnull(strstr(text, key));
    g_auto(GStrv) lines = g_strsplit(strstr(text, key) + strlen(key), "\n", 2);
    g_auto(GStrv) words = g_strsplit(lines[0], " ", -1);
    for (char **word = words; *word != NULL; word++) {
        guint i = 0;

        while (i < G_N_ELEMENTS(caps) && strcmp(caps[i].name, *word) != 0)
            i++;
        if (i == G_N_ELEMENTS(caps))
            g_error("%s is for nothing that is known here", *word);
        mask |= UINT64_C(1) << caps[i].cap;
    }
    g_assert_cmphex(mask, ==, sandbox_caps_needed() | UINT64_C(1) << CAP_NET_BIND_SERVICE);
}

int main(int argc, char **argv)
{
    static int (*const fns[])(void) = {refused_calls, allowed_calls, cut, new_calls};

    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/sandbox/calls/refused", &fns[0], run);
    g_test_add_data_func("/sandbox/calls/allowed", &fns[1], run);
    g_test_add_data_func("/sandbox/calls/older-filter", &fns[3], run);
    g_test_add_data_func("/sandbox/caps", &fns[2], run);
    g_test_add_func("/sandbox/mounts/refused", refuses);
    g_test_add_func("/sandbox/unit", unit_is_right);
    return g_test_run();
}
