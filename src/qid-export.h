/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of the map hand to each other: an export, and what is asked about it. For qid.c
 * and qid-*.c alone; what the server may call is in qid.h.
 */
#ifndef QID_EXPORT_H
#define QID_EXPORT_H

#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <sys/stat.h>

#include "src/mount.h"
#include "src/qid.h"
#include "store/qidmap.h"

/* A qid is made of what never changes: a server that does not answer need not be asked. */
#define LOOK_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC)

struct qid_export;

/* A client that may have seen ids. */
struct qid_session {
    guint64 id;
    const struct qid_export *exp;
};

/* A store that the daemon has open, for all exports that share it. */
struct qid_store {
    char *uri;             /* with the real path */
    struct qid_map *map;   /* that it belongs to */
    pthread_mutex_t admin; /* held by a verb that changes rows, or closes it */
    pthread_rwlock_t use;  /* for reading: the handle is used by a verb; for writing: it is
                              closed */
    qidmap_store *handle;  /* NULL: closed, or lost */
    pthread_mutex_t lock;  /* the rest: the gate (qid-gate.c) */
    pthread_cond_t opened;
    gboolean closed; /* who would attach waits */
    gboolean lost;   /* it could not be opened again */
    guint users;     /* exports. Of who adds and removes them */
    gboolean parked; /* closed, as no export is left; may come back. Locks: admin and use, for
                        writing both; and map->stores_lock */
    guint waiting;
    GArray *sessions; /* struct qid_session */
};

struct qid_map {
    struct mount_watch *watch;
    GPtrArray *exports;          /* struct qid_export. Lock: the watch of mounts, held */
    GPtrArray *stores;           /* struct qid_store; they live as long as the map */
    pthread_mutex_t stores_lock; /* the list, taken last */
    guint admitted;              /* so many of the exports are */
};

struct qid_export {
    char *name;
    char *root_path;
    int root_fd;
    char *store_uri; /* NULL with multidevs=warn */
    enum qid_multidevs multidevs;
    enum qid_versions versions;
    struct mount_export *mounts;
    struct qid_store *home; /* borrowed from the map; NULL with multidevs=warn */
    qidmap_store *store;    /* its handle; nobody attached: it may change */
    struct statx root_stx;
    int warned;           /* atomic */
    int trouble;          /* atomic: the error of new mappings that was told last; 0: they go on */
    gboolean little_room; /* the store is one whose room is watched */
    int room_told;        /* atomic: 1: a tenth is left, 2: nothing */
};

/* ---- qid.c ----------------------------------------------------------------------------------- */

uint8_t qid_type_of_mode(mode_t mode);

#define QID_VERSION_STABLE 1

/* Never 0. */
uint32_t qid_version_of(const struct qid_export *exp, const struct statx *stx);

/* The id of an object that is no inode; new ones are made with the daemon's rights. */
int qid_map_object(struct qid_export *exp, const struct qidmap_object *object, uint64_t *path);

/* Whether ids on this filesystem are made from file handles. */
gboolean qid_wants_handle(const struct mount_entry *entry);

/* ---- qid-store.c ----------------------------------------------------------------------------- */

/* A guest that could reach the store could renumber everything: FALSE where it could. */
gboolean qid_store_check_outside(const char *root_path, const char *uri, GError **error);

/* The store of this URI, opened once however many exports share it; one user more. Borrowed. */
struct qid_store *qid_store_open_once(struct qid_map *map, const char *uri, GError **error);

/* Closes a store that has no users. FALSE: it is at work for an administrator. */
gboolean qid_store_park(struct qid_store *store);
void qid_store_free(gpointer data);

/* The directory that a URI names, or NULL. */
const char *qid_store_dir(const char *uri);

/* ---- qid-gate.c: any thread ------------------------------------------------------------------ */

void qid_gate_init(struct qid_store *store);
void qid_gate_clear(struct qid_store *store);

/* From now on whoever would attach waits, or is told to come again; until it is opened. */
void qid_gate_close(struct qid_store *store);
void qid_gate_open(struct qid_store *store, gboolean lost);

gboolean qid_gate_is_lost(struct qid_store *store);

/* While closed: adds the sessions of the export (NULL: of all) to `names`; how many there are. */
guint qid_gate_sessions(struct qid_store *store, const struct qid_export *exp, GString *names);

/* ---- qid-admin.c: any thread, with the daemon's rights ----------------------------------------
 */

/* Opens a store that was lost, where that can be by now. */
void qid_store_try_again(struct qid_store *store);

/* ---- qid-tell.c: from any thread ------------------------------------------------------------- */

/* After what may have made new mappings: says once when a store with little room has less than a
 * tenth of it left, and once when there is none. */
void qid_watch_room(struct qid_export *exp);

/* After what made, or should have made, new mappings, with its result: tells when they begin to
 * fail, and when they go on. */
void qid_watch_store(struct qid_export *exp, int rc);

/* multidevs=warn: once for each export, which two filesystems share the space of inode numbers. */
void qid_warn_once(struct qid_export *exp, const struct statx *stx);

/* ---- qid-count.c: from any thread ------------------------------------------------------------ */

/* The map is asked for the ids of so many objects. */
void qid_count(uint64_t objects);

/* ---- qid-placeholder.c ----------------------------------------------------------------------- */

/* Has the inode number of one, which can be something else on other filesystems. */
gboolean qid_may_be_placeholder(const struct statx *stx);
gboolean qid_is_placeholder(struct qid_export *exp, int fd, const struct statx *stx);

/* The id of that whose parent has inode `parent_ino` and which is `d_ino` there. */
int qid_map_placeholder(struct qid_export *exp, uint32_t fs, uint64_t parent_ino, uint64_t d_ino,
                        uint64_t *path);

/* The id of that which is open as `fd`. -ENODEV: it is none; -ESTALE: its name is gone. */
int qid_map_open_placeholder(struct qid_export *exp, int fd, const struct statx *stx,
                             uint64_t *path);

#endif
