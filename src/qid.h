/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a host file to its 9P qid: the one place where the server meets libqidmap.
 *
 * Owns the stores that the daemon has open, and the cache from (mount id, st_dev) to fs number with
 * the watch on mountinfo that keeps it true (mount.c). Knows nothing of fids or messages.
 *
 * Threads: qid_from_stat() and qid_from_dirents() may be called from all workers at once, and what
 * says so from any thread; qid_map_add_export(), qid_map_admit() and qid_map_remove_export() by one
 * thread at a time, whatever others do; the rest from the main thread, before the workers start or
 * after they ended.
 */
#ifndef QID_H
#define QID_H

#include <glib.h>
#include <stdint.h>
#include <sys/stat.h>

/* Values of qid.type (9P2000.L: directory, symlink, else file). */
#define QID_TYPE_DIR     0x80
#define QID_TYPE_SYMLINK 0x02
#define QID_TYPE_FILE    0x00

struct qid {
    uint8_t type;
    uint32_t version; /* never 0; stable for an unchanged identity, or as qid_versions says */
    uint64_t path;
};

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

/* What every statx(2) whose result comes here must ask for. Kernels before 6.8 give the mount id
 * that can come again, later ones the unique one; those before 6.10 do not tell the subvolume of a
 * file on btrfs. */
#ifndef STATX_SUBVOL
#define STATX_SUBVOL 0x00008000U
#endif
#define QID_STATX_MASK                                                                             \
    (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID | STATX_MNT_ID_UNIQUE | STATX_SUBVOL)

/* What the version of a qid says: nothing, or when the content changed last. */
enum qid_versions { QID_VERSIONS_STABLE, QID_VERSIONS_MTIME };

enum qid_multidevs { QID_MULTIDEVS_REMAP, QID_MULTIDEVS_FORBID, QID_MULTIDEVS_WARN };

struct mount_settings; /* src/mount.h */
struct qid_map;        /* all stores and exports of the daemon */
struct qid_export;     /* one export */

/* Before the daemon enters a mount namespace of its own: filesystems are identified by the mounts
 * of now, so that they stay the same ones at each start. */
gboolean qid_keep_mounts(GError **error);

/* What others are told who find a store that the daemon has open: where its control socket is.
 * Before stores are opened. */
void qid_set_contact(const char *path);

/* A new, empty map. `overrides`: "PATH=UUID" strings of fs-id, NULL-terminated, may be NULL;
 * copied. */
struct qid_map *qid_map_new(char *const *overrides, GError **error);

/* Adds the export `name` with the open root directory `root_fd` (borrowed until the export is gone;
 * O_PATH is enough) and `root_path`, its absolute path. Checks that it can be served; opens no
 * store. */
struct qid_export *qid_map_add_export(struct qid_map *map, const char *name, const char *root_path,
                                      int root_fd, const char *store_uri,
                                      enum qid_multidevs multidevs,
                                      const struct mount_settings *settings, GError **error);

/* Default: QID_VERSIONS_STABLE. */
void qid_export_set_versions(struct qid_export *exp, enum qid_versions versions);

/* Opens (or creates) the stores, resolves every mount below every export, and begins to watch
 * mountinfo. After this, ids may be asked for. */
gboolean qid_map_start(struct qid_map *map, GError **error);

/* The same for what was added after qid_map_start(). FALSE: all of it is gone again, and nothing of
 * the others was touched; the mapping of a filesystem that was met for the first time may be
 * stored. */
gboolean qid_map_admit(struct qid_map *map, GError **error);

/* Removes an export, of whose ids nobody is told any more. */
void qid_map_remove_export(struct qid_map *map, struct qid_export *exp);

/* Closes the stores of which no export is left. FALSE: an administrator's verb uses one; to be
 * called again. */
gboolean qid_map_close_unused(struct qid_map *map);

/* Stops watching, closes the stores (clean stop). NULL is allowed. */
void qid_map_free(struct qid_map *map);

/* A client is about to attach: from now on it may see ids, and these do not change until
 * qid_detach(), as often as this was called. Waits while an administrator changes the store, and
 * gives up with -EAGAIN; -EIO: the store could not be opened again. */
int qid_attach(struct qid_export *exp, uint64_t session);
void qid_detach(struct qid_export *exp, uint64_t session);

/* How often all stores were asked for the id of an object. From any thread. */
uint64_t qid_counted(void);

/* The qid of the file open as `fd` (O_PATH is enough), whose statx result with QID_STATX_MASK is
 * `stx`. Returns 0 or a negative errno: -ENODEV (multidevs=forbid, on-duplicate=refuse), -EPERM
 * (policy deny), -EIO (its filesystem does not answer), -ENFILE,
 * -ENOSPC, -EIO, -EUCLEAN as qidmap_map(). */
int qid_from_stat(struct qid_export *exp, int fd, const struct statx *stx, struct qid *qid);

/* The rest of a qid whose path is known already, of a file of this type. FALSE: its version is made
 * from what only the file tells. */
gboolean qid_without_asking(const struct qid_export *exp, mode_t mode, struct qid *qid);

/* One directory entry, as getdents64(2) gives it. */
struct qid_dirent {
    const char *name; /* in; NUL-terminated */
    uint64_t d_ino;   /* in */
    uint8_t d_type;   /* in: DT_*; out: filled where it was DT_UNKNOWN */
    int result;       /* out: 0, or a negative errno: this entry cannot be shown */
    struct qid qid;   /* out */
};

/* The qids of `count` entries of the directory open as `dir_fd` (readable or O_PATH), all new
 * mappings in one commit. `dir_stx`: its own statx; `parent_fd`: the directory that `..` must mean
 * (the export's root is its own parent). d_ino is taken where it is known to equal st_ino; mount
 * points,
 * `..`, and what the filesystem type makes doubtful are looked at with statx. An entry that
 * vanished meanwhile gets -ENOENT. Returns 0, or a negative errno for the call as a whole. */
int qid_from_dirents(struct qid_export *exp, int dir_fd, const struct statx *dir_stx, int parent_fd,
                     struct qid_dirent *entries, size_t count);

/* A number that tells the file `fd` from an earlier one with its inode number, and never changes
 * while it lives. FALSE: its filesystem has none. */
gboolean qid_generation(int fd, const struct statx *stx, uint32_t *generation);

/* True for names of xattrs that guests must neither see nor touch: the stores' and the markers'. */
gboolean qid_xattr_is_hidden(const char *name);

#endif
