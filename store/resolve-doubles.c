/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is told beside a decision: that a filesystem has a double, and which, and whether its marker
 * is its own or came with a copy. Owns what a double is.
 *
 * Changes no decision.
 */
#include "config.h"

#include "store/resolve-group.h"

/* Two rows of two filesystems with one identity; not two trees of one, nor one that was mounted in
 * ways that need different policies. */
gboolean qm_are_doubles(const struct qidmap_fs *a, const struct qidmap_fs *b)
{
    return !a->retired && !b->retired && !qm_trees_differ(a->hints.tree, b->hints.tree) &&
           (a->policy == b->policy || a->chosen || b->chosen || a->policy == QIDMAP_POLICY_DENY ||
            b->policy == QIDMAP_POLICY_DENY) &&
           !qm_fsid_kind_differs(a->fsid, a->fsid_count, b->fsid, b->fsid_count,
                                 QIDMAP_FSID_OVERRIDE) &&
           qm_fsid_shares(a->fsid, a->fsid_count, b->fsid, b->fsid_count) == SHARED_MORE;
}

/* Two mounted filesystems, not two trees or other parts of one superblock, with one identity. */
static gboolean are_double_claims(const struct context *ctx, const struct claim *a,
                                  const struct claim *b)
{
    const struct qidmap_identity *x = speaker(ctx, a), *y = speaker(ctx, b);

    return x->superblock != y->superblock &&
           !qm_fsid_kind_differs(x->fsid, x->count, y->fsid, y->count, QIDMAP_FSID_OVERRIDE) &&
           qm_fsid_shares(x->fsid, x->count, y->fsid, y->count) != SHARED_NOTHING;
}

/* Sets whether the filesystem has a double, live or not, and whether its marker is its own. */
void qm_claim_find_doubles(const struct context *ctx, struct claim *claim)
{
    const struct qidmap_hints *hints = &speaker(ctx, claim)->hints;
    const struct qidmap_fs *own = claim->row >= 0 ? ctx->rows[claim->row] : NULL;
    gboolean owner = own != NULL && !own->marker_open && qm_same_marker(&own->hints, hints);

    for (guint i = 0; i < ctx->claims->len; i++) {
        const struct claim *other = claim_at(ctx, i);
        if (other == claim || !are_double_claims(ctx, claim, other))
            continue;
        claim->duplicate = TRUE;
        if (other->row >= 0)
            claim->other = ctx->rows[other->row]->fs;
        if (!qm_same_marker(&speaker(ctx, other)->hints, hints))
            continue;
        /* One of them keeps the marker: whose row has it, then who has a row, then the first. */
        const struct qidmap_fs *theirs = other->row >= 0 ? ctx->rows[other->row] : NULL;
        gboolean other_owner =
            theirs != NULL && !theirs->marker_open && qm_same_marker(&theirs->hints, hints);
        if (owner != other_owner)
            claim->copied = claim->copied || other_owner;
        else if ((own != NULL) != (theirs != NULL))
            claim->copied = claim->copied || theirs != NULL;
        else
            claim->copied =
                claim->copied || (own != NULL ? theirs->fs < own->fs : other->rank < claim->rank);
    }
    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        const struct qidmap_fs *row = ctx->rows[r];
        if (row == own || row->retired)
            continue;
        if (own != NULL ? qm_are_doubles(own, row) : qm_claim_has_row(claim, r)) {
            if (!claim->duplicate || ctx->held[r])
                claim->other = row->fs;
            claim->duplicate = TRUE;
        }
        if (qm_same_marker(&row->hints, hints) &&
            !qm_trees_differ(row->hints.tree, speaker(ctx, claim)->hints.tree) &&
            qm_claim_shares(ctx, claim, row) != SHARED_NOTHING && row->fs != claim->policy_row &&
            (own == NULL || qm_are_doubles(own, row)))
            /* The one that can get another marker yields to the one that cannot. */
            claim->copied = claim->copied || !owner || row->fs < own->fs ||
                            (row->flags & QIDMAP_IDENTITY_READONLY);
    }
    if (own != NULL && (own->flags & QIDMAP_IDENTITY_DUPLICATE))
        claim->duplicate = TRUE;
}
