/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libqidmap: a map from (filesystem, inode) to a 64-bit qid path that never collides, and that
 * stays the same for ever.
 *
 * This is the only header that is installed, and the manual of the library; libqidmap(3) says the
 * same with examples. It is plain C99 and can be used from C++.
 *
 * Conventions
 *   - A function returns 0, or a negative errno. Out-parameters are written on success only.
 *   - `struct qidmap_error *error` belongs to the caller and may be NULL. On failure it gets the
 *     same code and a line of text that names the object and says what to do.
 *   - Strings are UTF-8 or bytes as the host gave them, terminated by NUL.
 *   - Structs that may grow begin with their size, so that later versions can add fields at the
 * end: initialise them with their _INIT macro.
 *
 * Threads: every function may be called from any thread. A store may be used by many threads at
 * once; lookups of known inodes do not wait for each other, nor for a commit. Closing a store is
 * the caller's promise that no other thread uses it or will use it.
 *
 * Processes: one process at a time may hold a store open for writing (QIDMAP_OPEN_WRITE); any
 * number may read it meanwhile. A store handle must not be used in a child after fork(). A process
 * opens one store once: a second open gives -EBUSY. Stores on network filesystems are refused.
 *
 * Rights: what may write to a store (mapping, registering, closing) must be called with the rights
 * of the thread that opened it; a server whose threads act for users takes its own back for the
 * call.
 *
 * Memory: when none is left the process ends (glib's rule). Sizes that come from a store or from a
 * caller's data are limited and checked first.
 */
#ifndef QIDMAP_H
#define QIDMAP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors ---------------------------------------------------------------------------------- */

#define QIDMAP_ERROR_TEXT 512

/* What went wrong: a negative errno and a line for people, always terminated. */
struct qidmap_error {
    int code;
    char text[QIDMAP_ERROR_TEXT];
};

/* clang-format off */
/* Error codes with a meaning of their own (beside the usual ones of the system calls used):
 *   -EINVAL     an argument is out of its range, or a URI cannot be understood
 *   -ENOENT     no such store, row or id
 *   -EBUSY      another process has the store open for writing (the text has its name and pid)
 *   -EPROTO     the store has a format that this library does not know
 *   -EUCLEAN    the store is damaged; nothing was changed
 *   -EREMOTE    the directory is on a filesystem that cannot hold a store
 *   -EROFS      the handle was opened for reading only
 *   -ENFILE     nothing more can be mapped: counters are used up, or the object needs a row in the
 *               full map, which an xattr: store does not have
 *   -EPERM      the policy of the filesystem is `deny`; from qidmap_store_open(): others could write
 *               to the store, or it belongs to somebody else (the text says which part)
 *   -EAGAIN     too many processes read the store at once
 *   -EEXIST     a filesystem was refused: it is a duplicate of another
 *   -ESTALE     from qidmap_iter_next(): the store had to grow meanwhile; begin again
 *   -ENOTEMPTY  the directory holds something that is no store, and none is made there
 *   -ENOSPC     the disk, or the xattrs, have no room for a new mapping; nothing was changed, and
 *               the handle can be used on: known inodes go on, and new ones as soon as there is room
 *   -EIO        a commit failed: what is on the disk is not known. Known inodes go on. What is stored
 *               is copied to a new generation of the store when something new is to be mapped a
 *               little later, and new inodes go on then; qidmap_store_health() has the words
 */
/* clang-format on */

/* Version of the library at run time, for example "0.1.0". Static storage. */
const char *qidmap_version(void);

/* ---- stores ---------------------------------------------------------------------------------- */

/* An open store. Opened by qidmap_store_open(), closed by qidmap_store_close(). */
typedef struct qidmap_store qidmap_store;

enum {
    QIDMAP_OPEN_READ = 0,  /* look only, at the state of this moment; works while another process
                              writes. Close it soon: the writer cannot reuse pages meanwhile */
    QIDMAP_OPEN_WRITE = 1, /* be the one writer */
    QIDMAP_OPEN_CREATE = 2 /* with WRITE: make the store when it is absent (a damaged one, or one
                              with a part missing, is not absent) */
};

/* Parameters of a store, fixed when it is created, kept in it, and ignored by later opens. */
struct qidmap_params {
    size_t size;           /* sizeof (struct qidmap_params) */
    uint32_t affix_budget; /* affix entries that one fs may use before its further inodes go to the
                              full map; 1 ... 65,535; default 16 */
    uint32_t reserved;     /* 0 */
};
#define QIDMAP_PARAMS_INIT                                                                         \
    {                                                                                              \
        sizeof(struct qidmap_params), 16, 0                                                        \
    }

/*
 * Opens the store that `uri` names:
 *   lmdb:DIR   a directory with an LMDB environment; survives crashes and power cuts
 *   xattr:DIR  the extended attributes of the directory DIR, which must exist; travels with the
 *              tree; survives crashes and power cuts; has little room and no full map. -EEXIST:
 *              there are two, in different name spaces; -EOPNOTSUPP, -EROFS: none can be kept there
 *   memory:    nothing persistent; gone with the handle
 * `params` may be NULL. On success *store is the caller's, to be closed with qidmap_store_close().
 */
int qidmap_store_open(const char *uri, unsigned flags, const struct qidmap_params *params,
                      qidmap_store **store, struct qidmap_error *error);

/* Closes a store, and notes a clean stop in one that was open for writing. NULL is allowed. */
void qidmap_store_close(qidmap_store *store);

/* Whether new mappings can be made: 0, or the errno of what keeps them from it, with a line for the
 * log in `error`. To be asked after a mapping failed; a store that is open for reading only is
 * well. */
int qidmap_store_health(qidmap_store *store, struct qidmap_error *error);

/* A process that has a store open for writing. */
struct qidmap_holder {
    size_t size; /* in: sizeof (struct qidmap_holder) */
    int64_t pid; /* 0: not known */
    char name[64];
    char contact[256]; /* what it said with qidmap_set_contact(), or "" */
};

/* Who has the store open for writing now; by the time of the answer that may have changed. An
 * xattr: store does not tell the contact. -ENOENT: nobody, as far as can be seen. */
int qidmap_store_holder(const char *uri, struct qidmap_holder *holder, struct qidmap_error *error);

/* What a process that will have stores open for writing tells others: where it is reached, for
 * example the path of a socket. Less than 256 bytes, no control characters (-EINVAL). Before stores
 * are opened. */
int qidmap_set_contact(const char *contact);

/* Numbers about a store. Sizes in bytes. */
struct qidmap_stats {
    size_t size;     /* in: sizeof (struct qidmap_stats) */
    uint32_t format; /* version of the stored format */
    uint32_t affix_budget;
    uint8_t uuid[16]; /* of the store, made at its creation */
    uint64_t epoch;   /* commits of the store so far */
    uint64_t fs_rows;
    uint64_t affix_rows;
    uint64_t full_rows;
    uint64_t next_fs; /* counters: what the next row of each kind will get */
    uint64_t next_affix;
    uint64_t next_serial;
    uint64_t next_instance;
    uint64_t bytes_used;     /* 0 for memory: */
    uint64_t bytes_room;     /* what the store may grow to; 0: no limit of its own */
    uint64_t rows_room;      /* affix entries that still fit, about; 0: no limit, or full (then
                                bytes_room is not 0) */
    int64_t created;         /* seconds since 1970 */
    int64_t last_clean_stop; /* 0: never, or open for writing now, or not stopped cleanly */
    char uri[512];
    char backend[16]; /* "lmdb", "xattr", "memory" */
    uint64_t made;    /* since this handle was opened: affix entries and rows of the full map that
                         were made for objects that were new */
    uint64_t commits; /* since then; all of them */
    uint64_t commit_nanoseconds; /* they took, all together, until they were on stable storage */
    uint64_t commit_slowest;     /* nanoseconds */
    uint64_t served;             /* seconds that it was open for writing, in all */
};
int qidmap_store_stats(qidmap_store *store, struct qidmap_stats *stats, struct qidmap_error *error);

/* ---- filesystems ----------------------------------------------------------------------------- */

/* How an identity was found. The numbers are stored; they never change meaning. */
enum qidmap_fsid_kind {
    QIDMAP_FSID_OVERRIDE = 1, /* the operator said so: 16 bytes of uuid */
    QIDMAP_FSID_UUID = 2,     /* uuid of the superblock: 16 bytes (ext*, xfs, f2fs, ...) */
    QIDMAP_FSID_BTRFS = 3,    /* metadata uuid, subvolume uuid: 32 bytes */
    QIDMAP_FSID_ZFS = 4,
    QIDMAP_FSID_OVERLAY = 5,
    QIDMAP_FSID_NFS = 6,
    QIDMAP_FSID_CEPH = 7,
    QIDMAP_FSID_CIFS = 8,
    QIDMAP_FSID_MARKER = 9,    /* random uuid that we wrote to the root: 16 bytes */
    QIDMAP_FSID_WEAK = 10,     /* hash of type, source and mount path: 16 bytes */
    QIDMAP_FSID_EPHEMERAL = 11 /* boot id, then what tells instances of one boot apart: 16 + 16 */
};

#define QIDMAP_FSID_BYTES 64
#define QIDMAP_FSID_COUNT 8

struct qidmap_fsid {
    uint32_t kind; /* enum qidmap_fsid_kind */
    uint32_t size; /* bytes used, 1 ... QIDMAP_FSID_BYTES */
    uint8_t bytes[QIDMAP_FSID_BYTES];
};

/* How ids of a filesystem are made. Decided at first sight and stored; never derived again. */
enum qidmap_policy {
    QIDMAP_POLICY_AFFIX = 1,     /* affix entries, then the full map */
    QIDMAP_POLICY_HANDLE = 2,    /* full map, keyed by file handle */
    QIDMAP_POLICY_EPHEMERAL = 3, /* ids that last as long as this instance of the filesystem */
    QIDMAP_POLICY_DENY = 4       /* nothing is mapped */
};

enum {
    QIDMAP_IDENTITY_WEAK = 1,      /* found by names only: another filesystem could look the same */
    QIDMAP_IDENTITY_READONLY = 2,  /* mounted read-only where it was seen */
    QIDMAP_IDENTITY_DUPLICATE = 4, /* in a row: another row has the same identity */
    QIDMAP_IDENTITY_UNTESTED = 8   /* found by a rung that was never tried on a real filesystem of
                                      this type (zfs, nfs, ceph, cifs) */
};

/* What explains a filesystem to people and tells duplicates apart. Empty or 0: not known. Longer
 * strings are cut and end in a digest of the whole, so that they still compare. */
struct qidmap_hints {
    char type[32];     /* "ext4" */
    char source[256];  /* "/dev/sda1" */
    char backing[256]; /* file behind a loop device */
    char dm_uuid[160];
    char wwid[128];
    char part_uuid[40];
    char mount_path[256];
    char tree[256];     /* with bind=distinct: which of the trees of one filesystem this is, the
                           mount path below the export; else empty */
    uint8_t marker[16]; /* from our marker on the root, where one is; else 0 */
    uint32_t partition; /* number of the partition, 0: whole device */
    uint32_t root_gen;
    uint64_t root_ino;
    int64_t root_btime_ns; /* since 1970, 0: not known */
    uint64_t st_dev;       /* of the last sight: explains, never identifies */
    char boot_id[37];
    char machine_id[33];
    int64_t first_seen; /* seconds since 1970 */
    int64_t last_seen;
};

/* What qidmap_identify() found out about one mounted filesystem. */
struct qidmap_identity {
    size_t size;     /* sizeof (struct qidmap_identity) */
    uint32_t flags;  /* QIDMAP_IDENTITY_* */
    uint32_t policy; /* suggested for a filesystem that is new */
    uint32_t count;  /* of fsid[], in order of the ladder: [0] wins; 1 ... */
    uint32_t reserved;
    struct qidmap_fsid fsid[QIDMAP_FSID_COUNT];
    struct qidmap_hints hints;
    uint64_t superblock; /* equal for two mounts of one superblock, at one moment of one boot:
                            major:minor of mountinfo. Never stored. */
};

struct qidmap_identify_options {
    size_t size;                  /* sizeof (struct qidmap_identify_options) */
    const uint8_t *override_uuid; /* 16 bytes that the operator gave for this path, or NULL */
    const char *tree;             /* goes to hints.tree: filesystems of one superblock and different
                                     trees get rows of their own. NULL: the same everywhere */
};

/*
 * Finds out what filesystem the open directory or file `fd` (O_PATH is enough) lives on. Changes
 * nothing. Sources: mountinfo of this process, statx(2), statfs(2), FS_IOC_GETFSUUID and the ioctls
 * of the filesystems, libblkid, sysfs; see libqidmap(3). `options` may be NULL.
 *
 * identity->policy says how objects of the filesystem are known. QIDMAP_POLICY_HANDLE: by their
 * file handle (name_to_handle_at(2) with AT_HANDLE_FID, and without it where the kernel does not
 * know it), whatever st_dev they show: the files of an overlay without xino show several, and are
 * one filesystem all the same. On an overlay of another policy than EPHEMERAL, a file whose st_dev
 * is not that of identity->superblock (major << 32 | minor) is known by its handle, too. EPHEMERAL:
 * each (mount, st_dev) is an identity of its own, and is to be asked about on its own. DENY: files
 * of this mount cannot be told apart.
 *
 * A FUSE or network filesystem is asked by a thread of its own, and given up after 20 seconds.
 * Errors: -ENODEV when the mount cannot be found or nothing identifies it, -ETIMEDOUT and -EAGAIN
 * when its server does not answer (too many such calls are stuck already), -EAGAIN also where the
 * file is not, or no longer, in the mounts of qidmap_keep_mounts(), and those of the system calls.
 */
int qidmap_identify(int fd, const struct qidmap_identify_options *options,
                    struct qidmap_identity *identity, struct qidmap_error *error);

/*
 * For a server that is about to enter a mount namespace of its own: from now on filesystems are
 * identified by the mounts that the process has at the moment of the call, and by what becomes of
 * them later; what it has itself then does not change what a filesystem is. Paths must be the same
 * in both. Keeps two descriptors for the life of the process (its root directory, with O_PATH, and
 * mountinfo). Call it once, before threads are started. Errors: those of open(2).
 */
int qidmap_keep_mounts(struct qidmap_error *error);

/* What one rung of the ladder said about a filesystem. */
struct qidmap_finding {
    const char *rung; /* its name: "btrfs", "uuid"; static storage */
    int32_t result;   /* 0: it answered; -ENODATA: it has no say here; else what went wrong */
    struct qidmap_fsid fsid; /* where result is 0 */
    char text[256];          /* for people: by which call it answered, or why it did not */
};
#define QIDMAP_FINDINGS 16

/*
 * Asks every rung of the ladder, those behind the first answer as well, and tells what each said.
 * `findings` has room for QIDMAP_FINDINGS; *count gets their number. The rungs that
 * qidmap_identify() takes are those of `identity`, which is filled as by that call; fsid[0] wins.
 * For tools.
 */
int qidmap_explain(int fd, const struct qidmap_identify_options *options,
                   struct qidmap_finding *findings, size_t *count, struct qidmap_identity *identity,
                   struct qidmap_error *error);

/*
 * Writes a new marker to the root of the filesystem that `fd` is on: an xattr with a random uuid,
 * the root's own inode and generation, and a checksum, so that a marker copied to another inode
 * shows itself. A marker that is there is replaced; but on FUSE one that `identity` does not know
 * is taken: two FUSE filesystems may show one folder, which has been marked by the other. On
 * success identity->hints.marker has it, and, where nothing better than names identified the
 * filesystem, identity->fsid[] as well. Errors: -EROFS, -EOPNOTSUPP (no xattrs there), -ENODEV (the
 * mount does not show the root), -EPERM, -ENOSPC.
 */
int qidmap_mark(int fd, struct qidmap_identity *identity, struct qidmap_error *error);

/* Name of a kind or of a policy for people: "uuid", "affix". Static storage; "unknown" for others.
 */
const char *qidmap_fsid_kind_name(uint32_t kind);
const char *qidmap_policy_name(uint32_t policy);

/*
 * Registers the filesystems of `identities[0 ... count - 1]`: gives each its fs number, that of its
 * row where one fits, else of a new row. The result does not depend on their order; therefore all
 * that are mounted together should be given together, before any id is asked for. Two entries with
 * the same `superblock` and the same identity are one filesystem and get one number. One commit.
 */
int qidmap_register(qidmap_store *store, const struct qidmap_identity *identities, size_t count,
                    uint32_t *fs_numbers, struct qidmap_error *error);

/* A filesystem that is mounted and has its number: it keeps it as long as it stays mounted. */
struct qidmap_live {
    uint32_t fs;
    uint32_t reserved; /* 0 */
    uint64_t superblock;
};

/* struct qidmap_mounted, flags */
enum {
    QIDMAP_MOUNTED_NEW = 1,       /* out: its row was made now */
    QIDMAP_MOUNTED_DUPLICATE = 2, /* out: another row has the same identity, see `other` */
    QIDMAP_MOUNTED_POLICY = 4,    /* out, with NEW: row `other` is this filesystem's, but this mount
                                     cannot keep its policy (overlay whose xino was switched off,
                                     say): its files have other ids now. That row is not retired,
                                     and comes back with the old mount options */
    QIDMAP_MOUNTED_CONFLICT = 8   /* out, with NEW: its identities belong to several rows, `other`
                                     among them, and which one it is cannot be told: all its files
                                     have new ids */
};

/* One mounted filesystem that is to get its number. */
struct qidmap_mounted {
    int fd;                          /* an open file or directory on it, or -1: gets no marker */
    uint32_t fs;                     /* out; 0 where it was refused */
    int32_t result;                  /* out: 0, or -EEXIST: refused, a duplicate of another */
    uint32_t flags;                  /* out: QIDMAP_MOUNTED_* */
    struct qidmap_identity identity; /* from qidmap_identify(); out: with the marker written */
    uint32_t other;                  /* out: number of the row that `flags` speak of, or 0. Where
                                        they say DUPLICATE and `other` is live, that one should be
                                        given again, left in `live` as well: it keeps its number,
                                        and gets its marker, too */
};

enum qidmap_on_duplicate {
    QIDMAP_SPLIT = 0, /* each gets a row of its own */
    QIDMAP_REFUSE = 1 /* whichever has no row yet is refused; all of them, where none has one */
};

struct qidmap_register_options {
    size_t size;           /* sizeof (struct qidmap_register_options) */
    uint32_t on_duplicate; /* enum qidmap_on_duplicate */
    uint32_t markers;      /* 1: write markers to duplicates, and to filesystems that nothing but
                              names identifies, where they can be written */
    uint32_t split_weak;   /* 1: a filesystem identified by names only gets a new row each time
                              it is given here and is not live */
    uint32_t reserved;     /* 0 */
    const struct qidmap_live *live; /* all that are mounted and have their numbers already */
    size_t n_live;
};

/*
 * What a server calls at its start, with everything that is mounted below its exports, and at each
 * change of mounts, with what is new (`live` has the others): as qidmap_register(), and writes the
 * markers that tell duplicates apart: rows first, then markers, then the rows with them, so that
 * whatever is cut short leaves each filesystem with its row. Read-only duplicates get no marker;
 * their device and mount path tell them apart, where these do. A live one keeps its number, and
 * nothing else gets it; a mount with the superblock of a live one and its identity is that
 * filesystem. `options` may be NULL: split, no markers, nothing live. Time: grows with the number
 * of new filesystems and of those that share an identity with them, not with those that are known.
 */
int qidmap_register_mounted(qidmap_store *store, struct qidmap_mounted *mounted, size_t count,
                            const struct qidmap_register_options *options,
                            struct qidmap_error *error);

/*
 * For a server, about hourly and before it closes the store: these filesystems are mounted still.
 * Notes the time served in their rows, by which qidmap_prune_fs() judges. A row that was noted
 * within the last minute is left as it is. Errors: those of a commit.
 */
int qidmap_seen(qidmap_store *store, const struct qidmap_live *live, size_t n_live,
                struct qidmap_error *error);

/* As qidmap_register(), but makes and changes nothing: *fs_numbers are 0 where no row fits. For
 * tools. */
int qidmap_recognise(qidmap_store *store, const struct qidmap_identity *identities, size_t count,
                     uint32_t *fs_numbers, struct qidmap_error *error);

#define QIDMAP_FS_MET 16

/* A filesystem as it stands in the store. */
struct qidmap_fs {
    size_t size; /* in: sizeof (struct qidmap_fs) */
    uint32_t fs; /* its number, from 1 */
    uint32_t policy;
    uint32_t flags;   /* QIDMAP_IDENTITY_* */
    uint32_t retired; /* 1: it is no longer found: retired, or the alias of another */
    uint32_t affix_rows;
    uint32_t left_budget; /* 1: gets no further affix entry */
    uint32_t has_bound;   /* 1: has rows bound by migration, which are asked first */
    uint32_t instance;    /* serial of an ephemeral filesystem */
    uint32_t fsid_count;
    uint32_t alias; /* number of the row whose ids are asked first, see qidmap_fs_alias(); or 0 */
    struct qidmap_fsid fsid[QIDMAP_FSID_COUNT]; /* with those found later */
    struct qidmap_hints hints;
    uint32_t chosen; /* 1: its policy was set by qidmap_fs_set_policy(), and holds against what
                        the mount suggests */
    uint32_t
        marker_open;    /* 1: a new marker is being written: it may have that of the hints still */
    uint32_t met_many;  /* 1: it was live together with more rows than met[] has */
    uint32_t met_count; /* rows that it was seen live together with, ascending; each pair is in one
                           of its two rows, or in both */
    uint32_t met[QIDMAP_FS_MET];
    uint32_t superseded; /* 1: its files moved elsewhere with their ids, see qidmap_bind(): nothing
                            is mapped, -EPERM */
    uint32_t reserved;
    uint64_t first_session; /* first and last time that a store was open for writing and the */
    uint64_t last_session;  /* filesystem was registered: the epoch at which that time began */
    uint64_t seen; /* time served (qidmap_stats) when it was last known to be mounted, seconds */
};
/* -ENOENT where no such row is. */
int qidmap_fs_get(qidmap_store *store, uint32_t fs, struct qidmap_fs *row,
                  struct qidmap_error *error);

/*
 * Mends a split: the filesystem of row `new_fs` is that of `old_fs`, which no longer comes under
 * its own identity. From now on the ids of `old_fs` are asked first, then those of `new_fs`; new
 * ones are made for `new_fs`, and qidmap_reverse() names it for both. `old_fs` is retired, and its
 * identities go to `new_fs`. Where `new_fs` has an alias, `old_fs` is asked before that one, too.
 * An `old_fs` that was retired before gives back the ids of its affix entries.
 * -EEXIST where both are, were, or may have been live together (two filesystems then); -ENOENT;
 * -EINVAL (the same row, a ring, a row that has its successor already, different policies,
 * ephemeral filesystems, `new_fs` retired, one of both superseded).
 */
int qidmap_fs_alias(qidmap_store *store, uint32_t old_fs, uint32_t new_fs,
                    struct qidmap_error *error);

/* Retires a row: its filesystem gets a new row when it comes again, and its ids are never given to
 * anything else. Its affix entries stay, and speak again when the row becomes the alias of another;
 * its rows of the full map are deleted. -ENOENT; -EINVAL where it is retired already. The caller
 * sees to it that the filesystem is not served. */
int qidmap_fs_retire(qidmap_store *store, uint32_t fs, struct qidmap_error *error);

/* Chooses the policy of a row: it then holds against what a mount suggests. A row that has given
 * ids is refused with -ENOTEMPTY, unless `renumber` is 1: then it is retired, and its identity gets
 * a new row with this policy, whose number goes to *new_fs (may be NULL; `fs` itself where no new
 * row was needed). -ENOENT; -EINVAL for a retired row, for `ephemeral` on a filesystem that
 * outlives the boot, and for `affix` or `handle` on one that does not. */
int qidmap_fs_set_policy(qidmap_store *store, uint32_t fs, uint32_t policy, int renumber,
                         uint32_t *new_fs, struct qidmap_error *error);

/* ---- the map --------------------------------------------------------------------------------- */

enum qidmap_object_kind {
    QIDMAP_OBJECT_INODE = 0,
    QIDMAP_OBJECT_HANDLE = 1,     /* a file handle, as name_to_handle_at(2) gives it */
    QIDMAP_OBJECT_PLACEHOLDER = 2 /* btrfs: where a snapshot shows a nested subvolume; ino is the
                                     parent's, ino2 the d_ino */
};

#define QIDMAP_HANDLE_BYTES 128

struct qidmap_object {
    uint32_t fs;
    uint8_t kind; /* enum qidmap_object_kind */
    uint8_t handle_size;
    uint16_t reserved;
    int32_t handle_type;
    uint64_t ino;
    uint64_t ino2;
    uint8_t handle[QIDMAP_HANDLE_BYTES];
};

/*
 * The object key of `name` in the directory `fd`, or of `fd` itself where it is "", on a filesystem
 * whose files are known by handle: those of policy HANDLE, and on overlays those of which
 * qidmap_identify() says so. `ino`: st_ino of a file that is no directory; 0 for a directory, and
 * where the filesystem is no overlay. Sources: name_to_handle_at(2), with AT_HANDLE_FID where the
 * kernel knows it (Linux 6.5). Errors: those of the call; -EOVERFLOW: the handle is too long.
 */
int qidmap_object_by_handle(uint32_t fs, int fd, const char *name, uint64_t ino,
                            struct qidmap_object *object);

/*
 * Maps one inode: gives its qid path, and makes the mapping first where there is none. Returns
 * after the mapping is on stable storage (lmdb:). A known inode costs a few compares. On a handle
 * opened for reading an unknown inode gives -ENOENT. Errors: -EINVAL (unknown or retired fs, or its
 * policy is `handle`: such a one is asked for handles), -EPERM, -ENFILE, -EUCLEAN, -ENOSPC, -EIO.
 */
int qidmap_map(qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t *path);

/* One entry of a batch. */
struct qidmap_item {
    uint32_t fs;
    int32_t result; /* out: 0 or a negative errno, for this entry */
    uint64_t ino;
    uint64_t path; /* out, where result is 0 */
};

/* Maps many inodes; all new mappings share one commit. Returns 0 when every entry was mapped, else
 * the first entry's error. Concurrent calls share commits, too. */
int qidmap_map_batch(qidmap_store *store, struct qidmap_item *items, size_t count);

/* Maps many objects of any kind, as qidmap_map_batch() does inodes: results[i] is 0 and paths[i]
 * the qid path, or results[i] a negative errno. */
int qidmap_map_objects(qidmap_store *store, const struct qidmap_object *objects, size_t count,
                       uint64_t *paths, int32_t *results);

/* Maps an object of any kind: an inode as above; a handle or placeholder in the full map. Inodes
 * are not for policy `handle`, and handles not for `ephemeral` (-EINVAL). Under `affix` the caller
 * sees to it that a file is always known by the same key. */
int qidmap_map_object(qidmap_store *store, const struct qidmap_object *object, uint64_t *path);

/* The qid path of an inode, or of an object, that is mapped already; else -ENOENT. Makes nothing.
 */
int qidmap_find(qidmap_store *store, uint32_t fs, uint64_t ino, uint64_t *path);
int qidmap_find_object(qidmap_store *store, const struct qidmap_object *object, uint64_t *path);

/* The object behind a qid path. -ENOENT where the path belongs to none. For an id made from an
 * affix entry the object is what the id means, whether or not such a file exists. */
int qidmap_reverse(qidmap_store *store, uint64_t path, struct qidmap_object *object);

/* ---- rows ------------------------------------------------------------------------------------ */

enum qidmap_row_kind {
    QIDMAP_ROW_FS = 1,    /* number: fs */
    QIDMAP_ROW_AFFIX = 2, /* an affix entry */
    QIDMAP_ROW_FULL = 3   /* a row of the full map */
};

struct qidmap_row {
    uint32_t kind;               /* enum qidmap_row_kind */
    uint32_t fs;                 /* the filesystem of the row */
    uint32_t index;              /* AFFIX: n */
    uint32_t bits;               /* AFFIX: L, number of high bits of the inode that are compared */
    uint64_t top;                /* AFFIX: their value */
    uint64_t path;               /* FULL: the id; AFFIX: the suffix */
    struct qidmap_object object; /* FULL: the object key */
};

/* Walks over all rows of one consistent state: filesystems, then affix entries, then the full map,
 * each ascending. Close it soon: an lmdb: store cannot reuse pages meanwhile. */
typedef struct qidmap_iter qidmap_iter;
int qidmap_iter_open(qidmap_store *store, qidmap_iter **iter, struct qidmap_error *error);
/* 1 and a row, 0 at the end, or a negative errno. One thread at a time. */
int qidmap_iter_next(qidmap_iter *iter, struct qidmap_row *row, struct qidmap_error *error);
void qidmap_iter_close(qidmap_iter *iter);

/* ---- the layout of 2019 ---------------------------------------------------------------------- */

/* An entry of the table that a patch of 2019 for another server kept in xattrs. */
struct qidmap_virtfs_entry {
    uint32_t index; /* its place in the table, from 1: the index of its suffix */
    uint16_t ino_prefix;
    uint16_t reserved;
    uint64_t dev; /* the st_dev of one boot of one host */
};

/*
 * Reads the xattrs user.virtfs.system.qidp.N of directory `dir`, and calls `row` for each entry, in
 * order; what is not 0 ends the reading and comes back. Nothing of it can be taken over into a
 * store: st_dev numbers change from boot to boot, so nobody knows which filesystems the entries
 * mean. For tools. -ENOENT: there are none; -EUCLEAN: damaged, `row` was not called; -EPROTO: of
 * another version.
 */
int qidmap_virtfs_read(const char *dir,
                       int (*row)(const struct qidmap_virtfs_entry *entry, void *data), void *data,
                       struct qidmap_error *error);

/* ---- verify ---------------------------------------------------------------------------------- */

/* What is wrong with a store. The numbers never change meaning. */
enum qidmap_problem_kind {
    QIDMAP_PROBLEM_STRUCTURE = 1, /* files, pages or tables: no row could be looked at */
    QIDMAP_PROBLEM_RECORD = 2,    /* the record of the store itself */
    QIDMAP_PROBLEM_ROW = 3,       /* a row whose checksum or content is wrong */
    QIDMAP_PROBLEM_COUNT = 4,     /* not as many rows as noted */
    QIDMAP_PROBLEM_COUNTER = 5,   /* a counter that is not beyond what was given */
    QIDMAP_PROBLEM_IDENTITY = 6,  /* filesystems and the table of identities differ */
    QIDMAP_PROBLEM_AFFIX = 7,     /* affix entries and their reverse rows differ */
    QIDMAP_PROBLEM_OVERLAP = 8,   /* two affix entries of one filesystem cover one inode */
    QIDMAP_PROBLEM_FULL = 9,      /* the full map and its reverse rows differ */
    QIDMAP_PROBLEM_TWICE = 10,    /* one id for two objects, or two ids for one */
    QIDMAP_PROBLEM_FLAG = 11,     /* a row of a filesystem does not say what its other rows show */
    QIDMAP_PROBLEM_ALIAS = 12,    /* an alias that leads nowhere, or in a ring */
    QIDMAP_PROBLEM_ORPHAN = 13,   /* a row of a filesystem that is not there */
    QIDMAP_PROBLEM_BUDGET = 14    /* more affix entries than the budget of the store allows */
};

/* Name of a kind for programs: "row", "twice". Static storage; "unknown" for others. */
const char *qidmap_problem_name(uint32_t kind);

enum {                              /* struct qidmap_problem, flags */
       QIDMAP_PROBLEM_MENDABLE = 1, /* QIDMAP_VERIFY_REPAIR would mend it */
       QIDMAP_PROBLEM_MENDED = 2    /* it was mended */
};

struct qidmap_problem {
    size_t size;
    uint32_t kind;                /* enum qidmap_problem_kind */
    uint32_t flags;               /* QIDMAP_PROBLEM_MENDABLE, _MENDED */
    const char *table;            /* "full"; "" where it is none. Static storage */
    char text[QIDMAP_ERROR_TEXT]; /* which row, and what is wrong with it */
};

/* How far a long piece of work is. Rows; `total` is an estimate. What is not 0 ends the work, which
 * then returns -ECANCELED. Called by the thread that works, every few rows: it had better be quick.
 */
typedef int (*qidmap_progress_func)(void *data, uint64_t done, uint64_t total);

enum {
    QIDMAP_VERIFY_REPAIR = 1 /* mend what the other rows prove, after a backup: reverse rows, flags
                                and counts of rows, counters that are too low */
};

struct qidmap_verify_options {
    size_t size;    /* sizeof (struct qidmap_verify_options) */
    uint32_t flags; /* QIDMAP_VERIFY_* */
    uint32_t reserved;
    const char *backup; /* REPAIR: the file for the backup, which must not exist; NULL: a name of
                           ours beside the store */
    void (*problem)(void *data, const struct qidmap_problem *problem); /* may be NULL */
    qidmap_progress_func progress;                                     /* may be NULL */
    void *data;
};

struct qidmap_verify_result {
    size_t size;       /* in: sizeof (struct qidmap_verify_result) */
    uint64_t rows;     /* looked at, of all tables */
    uint64_t problems; /* found; with REPAIR: that are left */
    uint64_t mendable; /* of these, those that REPAIR would mend */
    uint64_t mended;
    uint64_t fs_rows, affix_rows, full_rows;
    char backup[512]; /* the file of the backup; empty: none was made */
};

/*
 * Checks every row of the store and every invariant of the map, in one consistent state, while
 * another process may write. A store that is too damaged to be opened is looked at as well: that is
 * a problem, and not an error. `options` may be NULL. Returns 0 when the work was done, whatever it
 * found: see result->problems. Errors: -ENOENT, -EACCES, -EPROTO and others that keep it from
 * looking; -EBUSY with REPAIR where another process writes; -ECANCELED.
 *
 * REPAIR changes the store in one transaction, and looks again afterwards. What the other rows do
 * not prove is told and left as it is.
 */
int qidmap_verify(const char *uri, const struct qidmap_verify_options *options,
                  struct qidmap_verify_result *result, struct qidmap_error *error);

/* The same for an open store; REPAIR is refused. -ESTALE: the store had to grow meanwhile; begin
 * again. */
int qidmap_store_verify(qidmap_store *store, const struct qidmap_verify_options *options,
                        struct qidmap_verify_result *result, struct qidmap_error *error);

/* ---- dump and load --------------------------------------------------------------------------- */

/* Takes or gives bytes of a dump. A writer takes all `size` bytes and returns 0, or a negative
 * errno; a reader returns how many it gave, 0 at the end, or a negative errno. */
typedef int (*qidmap_write_func)(void *data, const void *bytes, size_t size);
typedef long (*qidmap_read_func)(void *data, void *bytes, size_t size);

/*
 * Writes one consistent state of the store as text: JSON lines, the first with the parameters and
 * counters, then one for each row, the last with counts and a checksum. qidmap-format(5) describes
 * it. qidmap_load() makes the same store of it, with any backend on any machine. Memory does not
 * grow with the store. `progress` may be NULL. Errors: -EUCLEAN at a damaged row, -ESTALE as for
 * qidmap_iter_next(), -ECANCELED, and those of `write`.
 */
int qidmap_dump(qidmap_store *store, qidmap_write_func write, qidmap_progress_func progress,
                void *data, struct qidmap_error *error);

/*
 * The same into the file `path`, which only its owner can read: synced, and there as a whole or not
 * at all. NULL: a name of ours beside the store. `replace` 0: a file that is there stays, -EEXIST.
 * `written` (QIDMAP_ERROR_TEXT bytes, may be NULL) gets the path. `progress` may be NULL.
 */
int qidmap_backup(qidmap_store *store, const char *path, int replace, qidmap_progress_func progress,
                  void *data, char *written, struct qidmap_error *error);

enum {
    QIDMAP_LOAD_REPLACE = 1, /* put it in the place of the store that is there, whose state is
                                dumped first; it may be damaged */
    QIDMAP_LOAD_LATEST = 2   /* the dump is the last state of its store: no id was given after it,
                                so the counters can go on where it ends */
};

struct qidmap_load_options {
    size_t size;    /* sizeof (struct qidmap_load_options) */
    uint32_t flags; /* QIDMAP_LOAD_* */
    uint32_t reserved;
    qidmap_read_func read;
    const char *backup;            /* REPLACE: as for qidmap_verify() */
    qidmap_progress_func progress; /* may be NULL */
    void *data;
};

struct qidmap_load_result {
    size_t size; /* in: sizeof (struct qidmap_load_result) */
    uint64_t fs_rows, affix_rows, full_rows;
    uint32_t jumped; /* 1: the counters jumped ahead of what the dump says */
    uint32_t reserved;
    char backup[512]; /* of the store that was replaced, a dump, or the files themselves where it
                         could not be read; empty: none was made */
};

/*
 * Makes a store of a dump. Either all of it is there afterwards, or what was there before; others
 * see nothing of it until it is whole. Every line, the checksum and every invariant are checked
 * first. Counters: the larger ones of the dump and of the store that is replaced; where there is
 * none, or it cannot be read, they jump far ahead, since ids may have been given after the dump was
 * written (but see LATEST). `result` may be NULL.
 * `store` is NULL, or gets the handle of the new store, open for writing.
 * Errors: -EBADMSG the dump is truncated, altered or not one (the text names the line), -EPROTO it
 * is of a newer version, -EEXIST there is a store and no REPLACE, -EBUSY, -ENOSPC, -EOPNOTSUPP the
 * backend cannot hold such rows, -ECANCELED.
 */
int qidmap_load(const char *uri, const struct qidmap_load_options *options,
                struct qidmap_load_result *result, qidmap_store **store,
                struct qidmap_error *error);

/* ---- copies ---------------------------------------------------------------------------------- */

struct qidmap_copy_options {
    size_t size;    /* sizeof (struct qidmap_copy_options) */
    uint32_t flags; /* QIDMAP_LOAD_REPLACE, QIDMAP_LOAD_LATEST: the store is not used any more, and
                       the copy goes on in its place */
    uint32_t reserved;
    const char *backup;            /* REPLACE: as for qidmap_load() */
    qidmap_progress_func progress; /* may be NULL */
    void *data;
};

/*
 * Copies one consistent state of an open store to `uri`, with any backend, while others use the
 * store: a dump that is loaded at once. The copy is whole afterwards, or nothing has changed there.
 * Its counters jump far ahead, since the store may give further ids, unless LATEST says that it
 * will not. `options` and `result` may be NULL. Errors: those of qidmap_dump() and qidmap_load();
 * -EBUSY also where `uri` names the store itself.
 */
int qidmap_store_copy(qidmap_store *store, const char *uri,
                      const struct qidmap_copy_options *options, struct qidmap_load_result *result,
                      struct qidmap_error *error);

/* ---- making a store smaller ------------------------------------------------------------------ */

enum { QIDMAP_DRY_RUN = 1 /* tell what would be done, and change nothing */ };

struct qidmap_compact_result {
    size_t size;           /* in: sizeof (struct qidmap_compact_result) */
    uint64_t bytes_before; /* in use */
    uint64_t bytes_after;  /* DRY_RUN: about */
};

/*
 * Rewrites an open store without the space that nobody uses, and puts that in its place in one
 * step; processes that read it finish on what they have. Known objects are found meanwhile; new
 * mappings wait. Stores that have no such space (xattr:, memory:) stay as they are. `flags`:
 * QIDMAP_DRY_RUN, for which the store may be open for reading. Errors: -EROFS, -ENOSPC (the disk
 * must hold both for a moment), -EUCLEAN, -EIO; the store is as it was then.
 */
int qidmap_compact(qidmap_store *store, unsigned flags, struct qidmap_compact_result *result,
                   struct qidmap_error *error);

struct qidmap_prune_options {
    size_t size;    /* sizeof (struct qidmap_prune_options) */
    uint32_t flags; /* QIDMAP_DRY_RUN */
    uint32_t fs;    /* whose rows of the full map are looked at */
    /* Says of each of `count` objects of the fs whether it exists: sets exists[i] to 0 where it
     * surely does not. What is not 0 ends the work, with that as its result. No lock is held. */
    int (*look)(void *data, const struct qidmap_object *objects, size_t count, uint8_t *exists);
    qidmap_progress_func progress; /* may be NULL; rows of this fs */
    void *data;
};

struct qidmap_prune_result {
    size_t size;      /* in: sizeof (struct qidmap_prune_result) */
    uint64_t rows;    /* looked at */
    uint64_t missing; /* of these, deleted; DRY_RUN: to be deleted */
};

/*
 * Deletes the rows of the full map whose objects are gone. Their ids are never given again; an
 * object that comes back (from a snapshot, say) gets a new one. In steps of some thousand rows,
 * each a transaction: what ends the work leaves a store that is whole. Rows that are made meanwhile
 * stay. Errors: -ENOENT (no such fs), -EROFS, -ECANCELED, those of `look` and of a commit.
 */
int qidmap_prune(qidmap_store *store, const struct qidmap_prune_options *options,
                 struct qidmap_prune_result *result, struct qidmap_error *error);

/*
 * The root directory of the filesystem that is mounted at the open directory `mounted` (O_PATH is
 * enough), without what is mounted upon it, for the caller to close. Errors: -EXDEV the mount shows
 * a part of the filesystem only, -EPERM (open_tree(2) needs CAP_SYS_ADMIN), -ENODEV.
 */
int qidmap_open_bare(int mounted, int *bare, struct qidmap_error *error);

struct qidmap_missing_options {
    size_t size;    /* sizeof (struct qidmap_missing_options) */
    uint32_t flags; /* QIDMAP_DRY_RUN */
    uint32_t fs;    /* whose rows of the full map are looked at */
    int root; /* the mount point of the filesystem, open; O_PATH is enough. The caller has seen
                 to it that it is `fs`, by qidmap_identify() and qidmap_recognise() */
    int bare; /* -1; or what qidmap_open_bare() gave, perhaps to another process: then `root`
                 is not used */
    qidmap_progress_func progress; /* may be NULL; names looked at, of an unknown total */
    void *data;
};

/*
 * qidmap_prune() of what the mounted filesystem no longer has. All of it is read, also what mounts
 * hide, twice or more until nothing has been renamed meanwhile; where something cannot be read, or
 * may be hidden, nothing is deleted. The store may be in use meanwhile, and the filesystem too:
 * what lives, is born, moved or asked for stays. Files without a name stay where this process has
 * them open. Rows with an even id, bound by migration, stay. Errors: those of qidmap_prune(),
 * -EXDEV the mount shows a part only, -EBUSY the filesystem changes all the time, or is hidden by
 * others, or rows are being looked for already, -EACCES.
 */
int qidmap_prune_missing(qidmap_store *store, const struct qidmap_missing_options *options,
                         struct qidmap_prune_result *result, struct qidmap_error *error);

struct qidmap_prune_fs_options {
    size_t size;         /* sizeof (struct qidmap_prune_fs_options) */
    uint32_t flags;      /* QIDMAP_DRY_RUN */
    uint32_t fs;         /* this one alone; 0: all */
    uint64_t unseen_for; /* seconds of time served */
    /* Whatever is mounted now, as qidmap_identify() says it. One that cannot be identified: count
     * 0, and the type in the hints: then no filesystem of that type goes. */
    const struct qidmap_identity *mounted;
    size_t n_mounted;
    const struct qidmap_live *live; /* what is served now */
    size_t n_live;
    /* May be NULL. A filesystem that goes, and for how many seconds served it was not seen. */
    void (*retired)(void *data, uint32_t fs, uint64_t unseen);
    void *data;
};

/*
 * Retires filesystems that were not seen for so much time served, as qidmap_fs_retire() does, one
 * after the other. Time served is measured by a clock that nobody can set, while a writer has the
 * store open. Never one that is mounted or served, or shares an identity (on btrfs: a superblock)
 * with one that is; nor one whose policy was chosen by the operator, or that is superseded.
 * result->rows: filesystems that were looked at; missing: that went. Errors: -EROFS, those of a
 * commit.
 */
int qidmap_prune_fs(qidmap_store *store, const struct qidmap_prune_fs_options *options,
                    struct qidmap_prune_result *result, struct qidmap_error *error);

/* ---- ids given elsewhere --------------------------------------------------------------------- */

/* The order in which objects are to be bound: less than, equal to or greater than 0. */
int qidmap_object_compare(const struct qidmap_object *a, const struct qidmap_object *b);

struct qidmap_binding {
    struct qidmap_object object; /* of a filesystem that has its row in the store */
    uint64_t path;               /* the id that it shall have */
};

struct qidmap_bind_options {
    size_t size;    /* sizeof (struct qidmap_bind_options) */
    uint32_t flags; /* QIDMAP_DRY_RUN */
    uint32_t reserved;
    /* Filesystems of this store whose files have moved: their ids may be bound. From then on they
     * map nothing (-EPERM), also where they come back. */
    const uint32_t *superseded;
    size_t n_superseded;
    /* The bindings, ascending by object, none twice: 1 and one, 0 at the end, or a negative errno;
     * rewind() begins again. They are read twice. */
    int (*rewind)(void *data);
    int (*next)(void *data, struct qidmap_binding *binding);
    /* May be NULL: a binding that is not possible, and why. */
    void (*conflict)(void *data, const struct qidmap_binding *binding, const char *text);
    const char *backup;            /* the file for the dump of what was there; NULL: ours */
    qidmap_progress_func progress; /* may be NULL; `total` is 0 at first: not known */
    void *data;
};

struct qidmap_bind_result {
    size_t size;      /* in: sizeof (struct qidmap_bind_result) */
    uint64_t bound;   /* objects that get another id than they had, or their first */
    uint64_t known;   /* that had the id already */
    uint64_t dropped; /* rows of superseded filesystems that go */
    uint64_t conflicts;
    char backup[512];
};

/*
 * Gives objects ids that were given elsewhere: by this store to a superseded filesystem, or by
 * another store. All bindings become valid at once, after a dump of what was there; where one is
 * not possible, none does, and all that are not are told (-EEXIST). An object that has an id
 * already gets the other one; not one that an alias of its filesystem knows, whose id is told
 * first. An id can be bound where no other object has it or ever gets it: odd ids of superseded
 * rows or beyond what this store gave; even ids of affix entries of superseded filesystems, or of
 * indices beyond what this store gave. An alias cannot be superseded without its heir. The store
 * must not be open anywhere, and be of a backend with a full map. Errors: -EEXIST, -EINVAL (the
 * order; ephemeral filesystems, aliases), -ENOENT, -EUCLEAN, -EBUSY, -EOPNOTSUPP, -ECANCELED, and
 * others of qidmap_load().
 */
int qidmap_bind(const char *uri, const struct qidmap_bind_options *options,
                struct qidmap_bind_result *result, struct qidmap_error *error);

/* A filesystem whose files have moved away. */
struct qidmap_moved_fs {
    uint32_t fs; /* its number in the store, which gave the ids; 0: another store gave them */
    uint32_t reserved;
    struct qidmap_fsid fsid; /* its identity; kind 0: not known */
    char type[32];
};

/* Bindings that are kept in a file, with the filesystems that they are about. */
struct qidmap_bindings {
    size_t size;       /* sizeof (struct qidmap_bindings) */
    uint32_t reserved; /* 0 */
    uint32_t n_to;     /* filesystems that files have moved to; 1 ... 65,536 */
    uint32_t n_from;   /* that they have moved from */
    uint32_t unused;
    const struct qidmap_identity *to;
    const struct qidmap_moved_fs *from;
    /* The bindings: 1 and one, 0 at the end, or a negative errno. object.fs is the place in `to`,
     * 0, 1 ...; ascending by object, none twice. */
    int (*next)(void *data, struct qidmap_binding *binding);
    qidmap_progress_func progress; /* may be NULL */
    void *data;
};

/* Writes bindings to the start of the open file `fd`, which has to be empty. They can be adopted by
 * this version of the library on this machine only: the file is to be kept for a while, or handed
 * to another process. Errors: -EINVAL, -ECANCELED, those of `next` and of pwrite(2). */
int qidmap_bindings_write(int fd, const struct qidmap_bindings *bindings,
                          struct qidmap_error *error);

struct qidmap_adopt_options {
    size_t size;    /* sizeof (struct qidmap_adopt_options) */
    uint32_t flags; /* QIDMAP_DRY_RUN */
    uint32_t reserved;
    /* May be NULL: a binding that is not possible, and why; object.fs is the place in `to`. */
    void (*conflict)(void *data, const struct qidmap_binding *binding, const char *text);
    const char *backup;            /* as for qidmap_bind() */
    qidmap_progress_func progress; /* may be NULL; `total` is 0 at first: not known */
    void *data;
};

/*
 * Does what qidmap_bind() does with the bindings of the open file `fd`, whose offset stays as it
 * is: gives the filesystems that files have moved to their rows first, in a store that is made
 * where it is absent; and supersedes those that they have moved from. One of these that has no row,
 * since another store gave the ids, gets one, so that it is refused where it comes; but not one
 * that is known by names only. `options` and `result` may be NULL. Where bindings are refused, rows
 * of filesystems may have been made, as at the start of a server, and nothing else. QIDMAP_DRY_RUN
 * changes nothing, and works while another process writes. Errors: those of qidmap_bind(),
 * -EBADMSG the file is damaged, or was written by another version; -EINVAL a filesystem is in `to`
 * and `from`; -ENODEV a number in `from` is that of another filesystem.
 */
int qidmap_adopt(const char *uri, int fd, const struct qidmap_adopt_options *options,
                 struct qidmap_bind_result *result, struct qidmap_error *error);

/* ---- beginning anew -------------------------------------------------------------------------- */

enum {
    QIDMAP_RESET_FROM_SCRATCH = 1 /* forget which ids were given, too: only where no client has any
                                     of them any more */
};

struct qidmap_reset_options {
    size_t size;    /* sizeof (struct qidmap_reset_options) */
    uint32_t flags; /* QIDMAP_RESET_* */
    uint32_t reserved;
    const char *backup; /* as for qidmap_load() */
};

/*
 * Empties the store `uri`, after a dump of what is there. New ids begin where the old ones ended;
 * where the store is damaged, far ahead. result->backup names the dump. Either all is done, or
 * nothing. `options` may be NULL. Errors: -ENOENT, -EBUSY, -ENOSPC, -EUCLEAN (not even its first
 * record can be read, and no FROM_SCRATCH) and others of qidmap_load().
 */
int qidmap_reset(const char *uri, const struct qidmap_reset_options *options,
                 struct qidmap_load_result *result, struct qidmap_error *error);

#ifdef __cplusplus
}
#endif

#endif
