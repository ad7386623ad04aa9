/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The 9P2000.L protocol: message numbers, flags and limits, as they stand on the wire.
 *
 * Owns no state and no code. Linux puts its own numbers into 9P2000.L (of x86 and the generic
 * architectures); they are repeated here so that the server is right on every architecture.
 */
#ifndef PROTO_H
#define PROTO_H

#include <stdint.h>

enum {
    P9_TLERROR = 6, /* never sent */
    P9_RLERROR = 7,
    P9_TSTATFS = 8,
    P9_RSTATFS,
    P9_TLOPEN = 12,
    P9_RLOPEN,
    P9_TLCREATE = 14,
    P9_RLCREATE,
    P9_TSYMLINK = 16,
    P9_RSYMLINK,
    P9_TMKNOD = 18,
    P9_RMKNOD,
    P9_TRENAME = 20,
    P9_RRENAME,
    P9_TREADLINK = 22,
    P9_RREADLINK,
    P9_TGETATTR = 24,
    P9_RGETATTR,
    P9_TSETATTR = 26,
    P9_RSETATTR,
    P9_TXATTRWALK = 30,
    P9_RXATTRWALK,
    P9_TXATTRCREATE = 32,
    P9_RXATTRCREATE,
    P9_TREADDIR = 40,
    P9_RREADDIR,
    P9_TFSYNC = 50,
    P9_RFSYNC,
    P9_TLOCK = 52,
    P9_RLOCK,
    P9_TGETLOCK = 54,
    P9_RGETLOCK,
    P9_TLINK = 70,
    P9_RLINK,
    P9_TMKDIR = 72,
    P9_RMKDIR,
    P9_TRENAMEAT = 74,
    P9_RRENAMEAT,
    P9_TUNLINKAT = 76,
    P9_RUNLINKAT,
    P9_TVERSION = 100,
    P9_RVERSION,
    P9_TAUTH = 102,
    P9_RAUTH,
    P9_TATTACH = 104,
    P9_RATTACH,
    P9_TFLUSH = 108,
    P9_RFLUSH,
    P9_TWALK = 110,
    P9_RWALK,
    P9_TREAD = 116,
    P9_RREAD,
    P9_TWRITE = 118,
    P9_RWRITE,
    P9_TCLUNK = 120,
    P9_RCLUNK,
    P9_TREMOVE = 122,
    P9_RREMOVE
};

#define P9_NOTAG    0xFFFFu
#define P9_NOFID    0xFFFFFFFFu
#define P9_NONUNAME 0xFFFFFFFFu
#define P9_MAXWELEM 16
#define P9_NAME_MAX 255

#define P9_HEADER      7u  /* size[4] type[1] tag[2] */
#define P9_READ_HEADER 11u /* Rread, Rreaddir: header, count[4] */
#define P9_IOHDRSZ     24u /* what Linux and others take off msize for the payload of I/O */
#define P9_QID_SIZE    13u
#define P9_MSIZE_MIN   4096u
#define P9_VERSION     "9P2000.L"

/* Tlopen, Tlcreate */
#define P9_DOTL_ACCMODE   00000003u
#define P9_DOTL_WRONLY    00000001u
#define P9_DOTL_RDWR      00000002u
#define P9_DOTL_CREATE    00000100u
#define P9_DOTL_EXCL      00000200u
#define P9_DOTL_NOCTTY    00000400u
#define P9_DOTL_TRUNC     00001000u
#define P9_DOTL_APPEND    00002000u
#define P9_DOTL_NONBLOCK  00004000u
#define P9_DOTL_DSYNC     00010000u
#define P9_DOTL_FASYNC    00020000u
#define P9_DOTL_DIRECT    00040000u
#define P9_DOTL_LARGEFILE 00100000u
#define P9_DOTL_DIRECTORY 00200000u
#define P9_DOTL_NOFOLLOW  00400000u
#define P9_DOTL_NOATIME   01000000u
#define P9_DOTL_CLOEXEC   02000000u
#define P9_DOTL_SYNC      04000000u

#define P9_DOTL_AT_REMOVEDIR 0x200u

/* Tgetattr */
#define P9_GETATTR_MODE         0x00000001u
#define P9_GETATTR_NLINK        0x00000002u
#define P9_GETATTR_UID          0x00000004u
#define P9_GETATTR_GID          0x00000008u
#define P9_GETATTR_RDEV         0x00000010u
#define P9_GETATTR_ATIME        0x00000020u
#define P9_GETATTR_MTIME        0x00000040u
#define P9_GETATTR_CTIME        0x00000080u
#define P9_GETATTR_INO          0x00000100u
#define P9_GETATTR_SIZE         0x00000200u
#define P9_GETATTR_BLOCKS       0x00000400u
#define P9_GETATTR_BTIME        0x00000800u
#define P9_GETATTR_GEN          0x00001000u
#define P9_GETATTR_DATA_VERSION 0x00002000u
#define P9_GETATTR_BASIC        0x000007ffu

/* Tsetattr */
#define P9_SETATTR_MODE      0x00000001u
#define P9_SETATTR_UID       0x00000002u
#define P9_SETATTR_GID       0x00000004u
#define P9_SETATTR_SIZE      0x00000008u
#define P9_SETATTR_ATIME     0x00000010u
#define P9_SETATTR_MTIME     0x00000020u
#define P9_SETATTR_CTIME     0x00000040u
#define P9_SETATTR_ATIME_SET 0x00000080u
#define P9_SETATTR_MTIME_SET 0x00000100u
#define P9_SETATTR_ALL       0x000001ffu

/* Tlock, Tgetlock */
#define P9_LOCK_TYPE_RDLCK    0
#define P9_LOCK_TYPE_WRLCK    1
#define P9_LOCK_TYPE_UNLCK    2
#define P9_LOCK_SUCCESS       0
#define P9_LOCK_BLOCKED       1
#define P9_LOCK_ERROR         2
#define P9_LOCK_GRACE         3
#define P9_LOCK_FLAGS_BLOCK   1u
#define P9_LOCK_FLAGS_RECLAIM 2u

/* Txattrcreate */
#define P9_XATTR_CREATE  1u
#define P9_XATTR_REPLACE 2u

#define P9_STATFS_TYPE 0x01021997u /* V9FS_MAGIC */

#endif
