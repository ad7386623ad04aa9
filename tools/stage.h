/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stage of a migration: what `adopt` has found so far, in a folder beside the store, until
 * `adopt --commit`. Objects sorted by their key, and their ids; filesystems; how far the work is;
 * and the report, a file of JSON lines. It is written in transactions, so that a kill or a power
 * cut leaves it as it was at the last of them. It can be thrown away at any time.
 *
 * Must not know of manifests, of trees, nor what a match is.
 */
#ifndef TOOLS_STAGE_H
#define TOOLS_STAGE_H

#include <glib.h>

#include "store/qidmap.h"

enum stage_phase {
    STAGE_MATCHING = 1, /* files are being searched */
    STAGE_READY = 2
};

enum stage_count {
    STAGE_FILES,      /* names in the manifest that were looked at */
    STAGE_MATCHED,    /* of these, found, with the same type */
    STAGE_BINDINGS,   /* ids that are to be bound */
    STAGE_KNOWN,      /* files that have their id already */
    STAGE_RENUMBERED, /* files that have another id in the store, and lose it */
    STAGE_WITHOUT_ID, /* found, without an id of their own in the manifest */
    STAGE_CHANGED,    /* found, with another size or time, or with more names */
    STAGE_MISSING,    /* not found */
    STAGE_NEW,        /* files of the tree that are not in the manifest */
    STAGE_CONFLICTS,  /* ids that cannot be bound */
    STAGE_UNREAD,     /* what could not be looked at, here or when the manifest was made */
    STAGE_COUNTS
};

/* How far it is. Stored as it is: of one version of the tool, on one machine. */
struct stage_state {
    guint32 size; /* of this struct */
    guint32 phase;
    char version[16];
    guint8 store[16]; /* uuid of the store that gave the ids */
    guint8 here[16];  /* and of that which they are for; 0: there was none */
    guint64 report;   /* bytes of it that belong to the rest */
    guint64 counts[STAGE_COUNTS];
};

/* What is known of one object. */
struct stage_entry {
    guint64 id;    /* 0: none */
    gboolean bind; /* it does not have that id yet */
    guint64 mark;  /* the caller's: which file has the key */
    guint32 seen;  /* the caller's: when it was met last */
};

typedef struct stage stage;

/* Opens the stage in the folder `dir`, which is made where `make` is set. -ENOENT: there is none;
 * -EBUSY: another process works on it. */
int stage_open(const char *dir, gboolean make, stage **stage, struct qidmap_error *error);
/* What was not committed is gone. NULL is allowed. */
void stage_close(stage *stage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(stage, stage_close)

/* Takes away all that is in it, the report too; it stays open. */
int stage_empty(stage *stage);
/* Removes the folder `dir`, which has no other files than those of a stage. 0 also where it is not
 * there. */
int stage_remove(const char *dir);

/* FALSE: it is empty, or of another version. */
gboolean stage_load(stage *stage, struct stage_state *state);
/* Makes all that was put since the last time valid, together with `state`. */
int stage_commit(stage *stage, struct stage_state *state);

/* Adds a line to the report; it is valid after the next stage_commit(). */
void stage_report(stage *stage, const char *line);
/* The name of the report. */
const char *stage_report_path(const stage *stage);

/* object.fs is the place in the table of filesystems. 0, -ENOENT, or another errno. */
int stage_get(stage *stage, const struct qidmap_object *object, struct stage_entry *entry);
int stage_put(stage *stage, const struct qidmap_object *object, const struct stage_entry *entry);
/* Notes that `id` is the id of `object`: 0, or -EEXIST where it is that of another one. */
int stage_claim(stage *stage, guint64 id, const struct qidmap_object *object);

/* The tables of filesystems: `to`, `from`; and names. Values that are not there: 0 elements, "". */
int stage_put_table(stage *stage, const char *name, gconstpointer rows, gsize size);
GByteArray *stage_get_table(stage *stage, const char *name);

/* All objects in their order, in the state of the last commit: 1 and one, 0 at the end, or a
 * negative errno. `first`: begins anew. */
int stage_next(stage *stage, gboolean first, struct qidmap_object *object,
               struct stage_entry *entry);

#endif
