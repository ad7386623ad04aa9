/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * System calls that each request makes, without the C library's points of cancellation: there a
 * thread says before and after each call whether it may be cancelled, in atomic operations that
 * cost a tenth of a small call. No thread of the daemon is ever cancelled.
 *
 * Sanitizers watch the library's functions, so they get these. As the library's, with errno.
 */
#ifndef CALL_H
#define CALL_H

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CALL_BY_LIBRARY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define CALL_BY_LIBRARY 1
#endif
#endif

/* Elsewhere arguments of 64 bits, or the calls themselves, are others. */
#if !defined(CALL_BY_LIBRARY) && !defined(__x86_64__) && !defined(__aarch64__)
#define CALL_BY_LIBRARY 1
#endif

#ifdef CALL_BY_LIBRARY

#define call_recv   recv
#define call_send   send
#define call_pread  pread
#define call_pwrite pwrite
#define call_openat openat
#define call_close  close

#else

static inline ssize_t call_recv(int fd, void *bytes, size_t size, int flags)
{
    return syscall(SYS_recvfrom, fd, bytes, size, flags, NULL, NULL);
}

static inline ssize_t call_send(int fd, const void *bytes, size_t size, int flags)
{
    return syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0);
}

static inline ssize_t call_pread(int fd, void *bytes, size_t size, off_t offset)
{
    return syscall(SYS_pread64, fd, bytes, size, offset);
}

static inline ssize_t call_pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

static inline int call_openat(int dir_fd, const char *name, int flags)
{
    return (int)syscall(SYS_openat, dir_fd, name, flags, 0);
}

static inline int call_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

#endif
#endif
