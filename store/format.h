/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stored bytes of format version 1. This comment is normative; qidmap-format(5) repeats it.
 *
 * A store is seven tables of rows; a row is a key and a value. Tables are ordered by key, compared
 * byte by byte. Numbers in keys are big-endian, so that this order is theirs; numbers in values are
 * little-endian; i64 is two's complement. There is no padding.
 *
 * Every value ends in a u32: the CRC32C (RFC 3720) over the name of the table with its NUL, the
 * key, and the value without these 4 bytes. Below, "value" is what stands before it.
 *
 *   table    key                               value
 *   meta     "meta" (4 bytes)                  the record below
 *   fs       u32 fs                            the record below
 *   fsid     u8 kind, u8 size, bytes[size],    u32 fs
 *            u32 fs
 *   affix    u32 fs, u8 L, u64 top             u32 n
 *   byaffix  u32 n                             u32 fs, u64 top
 *   full     object key                        u64 id
 *   byfull   u64 id                            object key
 *
 * Object key (5 ... 255 bytes): u32 fs, u8 kind, then by kind
 *   0 inode:       u64 inode
 *   1 handle:      u32 type, bytes of the file handle (1 ... 128)
 *   2 placeholder: u64 inode of the parent, u64 d_ino
 *
 * Record of meta (132 bytes):
 *     0 u8[4] "QIDM"            44 u64 next_affix       84 u64 affix rows
 *     4 u32 format              52 u64 next_serial      92 u64 full rows
 *     8 u8[16] uuid             60 u64 next_instance   100 i64 created
 *    24 u32 affix budget        68 u64 fs rows         108 i64 last clean stop, else 0
 *    28 u64 epoch               76 u64 fsid rows       116 u64 transaction
 *    36 u64 next_fs           124 u64 served
 *   epoch: number of commits. transaction: the backend's own number of the transaction that wrote
 *   the record; at open it must be the one that the backend is at, else an old state came back.
 *   served: seconds that writers had the store open so far, by a clock that nobody can set.
 *   The format number stays at offset 4, below the same table and key, in every later version; a
 *   reader that meets a larger one reads nothing else.
 *
 * Record of fs (112 bytes, then lists):
 *     0 u32 policy       24 u32 root_gen         64 i64 last_seen
 *     4 u32 flags        28 u32 alias, else 0    72 u8[16] marker
 *     8 u32 state        32 u64 root_ino         88 u64 first session
 *    12 u32 instance     40 i64 root_btime_ns    96 u64 last session
 *    16 u32 identities   48 u64 st_dev          104 u64 seen
 *    20 u32 partition    56 i64 first_seen      112 identities: u8 kind, u8 size, bytes[size]
 *   then ten strings, each u16 length and bytes without NUL: type, source, backing, dm_uuid, wwid,
 *   part_uuid, mount_path, boot_id, machine_id, tree; then the rows met: u16 number (0 ... 16), u32
 *   fs of each, ascending.
 *   state: 1 retired, 2 left its affix budget, 4 has bound rows, 8 has rows in the full map, 16
 *   policy chosen by the operator, 32 met more rows than are listed, 64 its marker
 *   is being replaced, 128 superseded: its ids may be bound to objects elsewhere, and it has no
 * rows in the full map. The identities of a row that is retired have no rows in fsid; they are kept
 * for people. alias: a retired row of the same policy, alias of one row at most, whose ids are
 * asked first. A row of the full map belongs to a fs with state 8; state 8 without such rows is
 * allowed. sessions: epoch at the beginning of the first and last time that a writer registered the
 * fs. seen: `served` of meta when the fs was last known to be mounted.
 *
 * Ids: see store/map.c. The suffix of index n: see store/affix.c.
 */
#ifndef QM_FORMAT_H
#define QM_FORMAT_H

#define QM_FORMAT_VERSION 1u
#define QM_FORMAT_MAGIC   "QIDM"

#define QM_META_KEY      "meta"
#define QM_META_SIZE     132u
#define QM_FS_FIXED_SIZE 112u

#define QM_STATE_RETIRED     1u
#define QM_STATE_LEFT_BUDGET 2u
#define QM_STATE_HAS_BOUND   4u
#define QM_STATE_HAS_FULL    8u
#define QM_STATE_CHOSEN      16u
#define QM_STATE_MET_MANY    32u
#define QM_STATE_MARKER_OPEN 64u
#define QM_STATE_SUPERSEDED  128u
#define QM_STATE_ALL         255u

#define QM_FS_LAST ((1u << 24) - 1u) /* largest fs number */

/* Largest key and value, checksum included. */
#define QM_KEY_MAX   255u
#define QM_VALUE_MAX 4096u

#endif
