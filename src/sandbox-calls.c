/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The system calls that the daemon makes, and those that the C library, glib and the modules of the
 * user database may make in it. All others fail with ENOSYS, which every library takes for an older
 * kernel and does without (EPERM it would report as an error). Rejected: killing, since a call that
 * a later C library tries first would end the daemon at an unforeseen moment.
 *
 * Names that libseccomp does not know are left out; calls newer than it stand here as numbers,
 * which are the same on all architectures.
 */
#include "config.h"

#include <errno.h>

#include "src/sandbox.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#if !defined(HAVE_SECCOMP) || defined(SANITIZED)

/* Sanitizers look for leaks from a process of their own. */
int sandbox_calls_filter(void)
{
    return -EOPNOTSUPP;
}

#else

#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif

static const char *const allowed[] = {
    /* files by descriptor */
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
    "pwritev2", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "copy_file_range", "lseek",
    "_llseek", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "fcntl64", "ioctl", "pipe",
    "pipe2", "fsync", "fdatasync", "sync_file_range", "syncfs", "fadvise64", "fadvise64_64",
    "readahead", "flock", "fallocate", "ftruncate", "ftruncate64", "getdents", "getdents64",
    "fchmod", "fchown", "fchown32", "fstat", "fstat64", "fstatfs", "fstatfs64", "fchdir",
    /* files by name */
    "open", "openat", "openat2", "creat", "stat", "stat64", "lstat", "lstat64", "newfstatat",
    "fstatat64", "statx", "statfs", "statfs64", "access", "faccessat", "faccessat2", "readlink",
    "readlinkat", "mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "truncate", "truncate64",
    "chmod", "fchmodat", "fchmodat2", "chown", "chown32", "lchown", "lchown32", "fchownat", "utime",
    "utimes", "utimensat", "utimensat_time64", "futimesat", "name_to_handle_at",
    "open_by_handle_at", "umask", "getcwd", "chdir", "setxattr", "lsetxattr", "fsetxattr",
    "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr", "removexattr",
    "lremovexattr", "fremovexattr", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
    /* memory */
    "brk", "mmap", "mmap2", "munmap", "mprotect", "mremap", "madvise", "mincore", "msync", "mlock",
    "mlock2", "munlock", "membarrier", "memfd_create",
    /* threads, signals, waiting, time */
    "futex", "futex_time64", "futex_waitv", "set_robust_list", "get_robust_list", "rseq",
    "set_tid_address", "exit", "exit_group", "gettid", "getpid", "getppid", "sched_yield",
    "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler",
    "sched_getattr", "sched_get_priority_min", "sched_get_priority_max", "getpriority", "tgkill",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_sigpending", "rt_sigsuspend", "sigaltstack", "signalfd",
    "signalfd4", "restart_syscall", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "ppoll_time64", "select", "_newselect",
    "pselect6", "pselect6_time64", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_settime64", "timerfd_gettime", "nanosleep", "clock_nanosleep",
    "clock_nanosleep_time64", "clock_gettime", "clock_gettime64", "clock_getres",
    "clock_getres_time64", "gettimeofday", "time", "timer_create", "timer_settime", "timer_delete",
    "timer_gettime",
    /* sockets; which ones may be made is below */
    "connect", "bind", "listen", "accept", "accept4", "getpeername", "getsockname", "getsockopt",
    "setsockopt", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg",
    "recvmmsg", "recvmmsg_time64", "shutdown", "socketpair", "socketcall",
    /* the process outside, when it has ended */
    "wait4", "waitid",
    /* who acts */
    "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32",
    "getresuid", "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setgroups",
    "setgroups32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "capget", "capset",
    /* the machine */
    "getrandom", "sysinfo", "uname", "getrlimit", "ugetrlimit", "setrlimit", "prlimit64",
    "getrusage", "getcpu", "times", "arch_prctl", "set_thread_area", "riscv_hwprobe"};

static const int allowed_numbers[] = {
    452, /* fchmodat2 */ 454,   /* futex_wake */ 455,    /* futex_wait */ 456,   /* futex_requeue */
    457, /* statmount */ 458,   /* listmount */ 463,     /* setxattrat */ 464,   /* getxattrat */
    465, /* listxattrat */ 466, /* removexattrat */ 468, /* file_getattr */ 469, /* file_setattr */
};

static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

static const int prctls[] = {PR_SET_NAME,         PR_GET_NAME, PR_GET_DUMPABLE, PR_CAPBSET_READ,
                             PR_GET_NO_NEW_PRIVS, 0x53564d41 /* PR_SET_VMA, by malloc */};

static int allow(scmp_filter_ctx filter, int number, unsigned count,
                 const struct scmp_arg_cmp *args)
{
    int error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, count, args);

    return error == -EDOM || error == -EEXIST ? 0 : error; /* not on this architecture; twice */
}

static int fill(scmp_filter_ctx filter)
{
    struct scmp_arg_cmp detached = {4, SCMP_CMP_EQ, 4 /* MOVE_MOUNT_F_EMPTY_PATH */, 0};
    struct scmp_arg_cmp detach = {1, SCMP_CMP_EQ, MNT_DETACH, 0};
    struct scmp_arg_cmp thread = {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD};
    int error = 0;

    for (gsize i = 0; error == 0 && i < G_N_ELEMENTS(allowed); i++) {
        int number = seccomp_syscall_resolve_name(allowed[i]);

        if (number != __NR_SCMP_ERROR)
            error = allow(filter, number, 0, NULL);
    }
    for (gsize i = 0; error == 0 && i < G_N_ELEMENTS(allowed_numbers); i++)
        error = allow(filter, allowed_numbers[i], 0, NULL);
    for (gsize i = 0; error == 0 && i < G_N_ELEMENTS(families); i++) {
        struct scmp_arg_cmp family = {0, SCMP_CMP_EQ, (scmp_datum_t)families[i], 0};

        error = allow(filter, SCMP_SYS(socket), 1, &family);
    }
    for (gsize i = 0; error == 0 && i < G_N_ELEMENTS(prctls); i++) {
        struct scmp_arg_cmp option = {0, SCMP_CMP_EQ, (scmp_datum_t)prctls[i], 0};

        error = allow(filter, SCMP_SYS(prctl), 1, &option);
    }
    /* Directories that reload adds and gives up (sandbox-host.c), in our own namespace. */
    if (error == 0)
        error = allow(filter, SYS_move_mount, 1, &detached);
    if (error == 0)
        error = allow(filter, SCMP_SYS(umount2), 1, &detach);
    /* clone3(2) hides its flags in memory; without it the C library takes clone(2). */
    if (error == 0)
        error = allow(filter, SCMP_SYS(clone), 1, &thread);
    return error;
}

int sandbox_calls_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int error;

    if (filter == NULL)
        return -ENOMEM;
    error = fill(filter);
#if SCMP_VER_MAJOR > 2 || SCMP_VER_MINOR >= 5
    /* A tree rather than a list, as each call is looked up before Linux 5.11; and no slower memory,
     * which kernels before 5.16 take a filter as a wish for: no code of others runs here. */
    if (error == 0) {
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    }
#endif
    if (error == 0)
        error = seccomp_load(filter);
    seccomp_release(filter);
    return error;
}

#endif
