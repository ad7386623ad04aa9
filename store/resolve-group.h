/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the steps of the resolver hand to each other: claims, and groups of claims and rows. For
 * resolve.c and the steps alone; resolve.c says what the steps are.
 */
#ifndef QM_RESOLVE_GROUP_H
#define QM_RESOLVE_GROUP_H

#include "store/resolve-hints.h"
#include "store/resolve-identity.h"
#include "store/resolve.h"

/* One filesystem: the identities that show it. */
struct claim {
    guint first;        /* of the group: index of the identity that speaks for it */
    GArray *members;    /* guint, indices of identities */
    GArray *rows;       /* guint, indices of candidates, ascending */
    gint row;           /* taken, or -1 */
    gboolean conflict;  /* its identities belong to several rows */
    gboolean hopeless;  /* gets a new row whatever its candidates are */
    guint32 policy_row; /* number of a row whose policy it cannot keep, or 0 */
    guint rank;         /* among the new ones */
    gboolean duplicate, copied;
    guint32 other;
};

/* One group: what identities connect. */
struct context {
    const struct qm_scene *scene;
    const struct qidmap_identity *identities; /* of the scene */
    const struct qidmap_fs *const *rows;      /* of the scene */
    GArray *mine;                             /* guint, rows of the group, ascending */
    GPtrArray *claims;                        /* struct claim * of the group */
    const gboolean *held;                     /* by row: a live one has it */
    GHashTable *copied;                       /* markers that several superblocks show */
};

static inline const struct qidmap_identity *speaker(const struct context *ctx,
                                                    const struct claim *claim)
{
    return &ctx->identities[claim->first];
}

static inline const struct claim *claim_at(const struct context *ctx, guint i)
{
    return g_ptr_array_index(ctx->claims, i);
}

static inline guint row_at(const struct claim *claim, guint i)
{
    return g_array_index(claim->rows, guint, i);
}

/* ---- resolve-group.c: step 1 ----------------------------------------------------------------- */

/* Claims on all identities of the scene: struct claim, owned by the result. */
GPtrArray *qm_make_claims(const struct qm_scene *scene);

/* Markers of btrfs that more than one superblock shows. They stay the scene's. */
GHashTable *qm_find_copied(const struct qm_scene *scene);

/* Groups of the claims and rows: struct context, owned by the result; all else is borrowed. */
GPtrArray *qm_make_groups(const struct qm_scene *scene, GPtrArray *claims, const gboolean *held,
                          GHashTable *copied);

/* Index of the row of that number, or -1. */
gint qm_scene_find_row(const struct qm_scene *scene, guint32 fs);

/* ---- resolve-candidates.c: steps 2 and 3 ----------------------------------------------------- */

/* The live filesystem that the claim is; TRUE where it is one. */
gboolean qm_claim_find_live(const struct context *ctx, struct claim *claim);

void qm_claim_find_candidates(const struct context *ctx, struct claim *claim);

/* After the candidates of all claims were found. */
void qm_group_choose_trees(const struct context *ctx);

/* What a row shares with the claim. */
enum shared qm_claim_shares(const struct context *ctx, const struct claim *claim,
                            const struct qidmap_fs *row);

/* ---- resolve-decide.c: steps 4 and 5 --------------------------------------------------------- */

/* TRUE: the claim is decided; it has the row, or `row` stays -1. */
gboolean qm_claim_decide_override(const struct context *ctx, struct claim *claim);
gboolean qm_claim_decide_lone(const struct context *ctx, struct claim *claim);

/* `decided[i]`: claim i is settled. */
void qm_group_assign(struct context *ctx, const gboolean *decided);

/* ---- resolve-evidence.c: discriminators of a claim ------------------------------------------- */

enum match qm_claim_match(const struct context *ctx, const struct claim *claim, guint row,
                          enum level level);

/* The row is a candidate of the claim. */
gboolean qm_claim_has_row(const struct claim *claim, guint row);

/* The marker of the claim is shown by another superblock, too. */
gboolean qm_claim_is_copied(const struct context *ctx, const struct claim *claim);

/* Whether the claim may have the row, and by which discriminator. */
gboolean qm_claim_fits(const struct context *ctx, const struct claim *claim, guint row,
                       enum level *level);

/* ---- resolve-doubles.c: what is told --------------------------------------------------------- */

/* Two rows of two filesystems with one identity. */
gboolean qm_are_doubles(const struct qidmap_fs *a, const struct qidmap_fs *b);

/* Sets whether the filesystem has a double, live or not, and whether its marker is its own. */
void qm_claim_find_doubles(const struct context *ctx, struct claim *claim);

#endif
