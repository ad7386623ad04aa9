/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which claim takes which candidate: steps 4 and 5 of resolve.c. Owns what the operator's word and
 * a lone claimant count for, and that best fits go first.
 *
 * Must not know how candidates were found (resolve-candidates.c), nor what hints are made of.
 */
#include "config.h"

#include "store/resolve-group.h"

#include "store/fsindex.h"
#include "store/hints.h"

struct pair {
    guint claim;
    guint row;
    enum level level; /* of the strongest discriminator that fits */
};

/* Another row, not retired, shares an identity with this one. */
static gboolean is_split_row(const struct context *ctx, guint row)
{
    if (ctx->rows[row]->flags & QIDMAP_IDENTITY_DUPLICATE)
        return TRUE;
    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        if (r != row && qm_are_doubles(ctx->rows[row], ctx->rows[r]))
            return TRUE;
    }
    return FALSE;
}

static guint count_claimants(const struct context *ctx, guint row)
{
    guint n = 0;

    for (guint i = 0; i < ctx->claims->len; i++)
        n += qm_claim_has_row(claim_at(ctx, i), row);
    return n;
}

/* The operator gave the claim the identity that he gave the row. */
static gboolean shares_override(const struct context *ctx, const struct claim *claim, guint row)
{
    const struct qidmap_fs *r = ctx->rows[row];

    for (guint i = 0; i < claim->members->len; i++) {
        const struct qidmap_identity *id =
            &ctx->identities[g_array_index(claim->members, guint, i)];
        for (guint32 k = 0; k < MIN(id->count, QIDMAP_FSID_COUNT); k++) {
            if (id->fsid[k].kind == QIDMAP_FSID_OVERRIDE &&
                qm_fsid_listed(r->fsid, r->fsid_count, &id->fsid[k]))
                return TRUE;
        }
    }
    return FALSE;
}

/* What the operator said holds against all hints, unless he said it of two filesystems. */
gboolean qm_claim_decide_override(const struct context *ctx, struct claim *claim)
{
    guint rows = 0, claimants = 0, row = 0;

    for (guint i = 0; i < claim->rows->len; i++) {
        guint r = row_at(claim, i);
        if (shares_override(ctx, claim, r)) {
            row = r;
            rows++;
        }
    }
    for (guint i = 0; rows == 1 && i < ctx->claims->len; i++) {
        const struct claim *other = claim_at(ctx, i);
        claimants += qm_claim_has_row(other, row) && shares_override(ctx, other, row);
    }
    if (rows != 1 || claimants != 1 || ctx->held[row])
        return FALSE;
    claim->row = (gint)row;
    return TRUE;
}

/* Step 4. TRUE when the claim was a lone one on a lone row, and so is decided. */
gboolean qm_claim_decide_lone(const struct context *ctx, struct claim *claim)
{
    qm_device_present present =
        ctx->scene->present != NULL ? ctx->scene->present : qm_hints_device_present;

    if (claim->rows->len != 1)
        return FALSE;
    guint row = row_at(claim, 0);
    const struct qidmap_hints *old = &ctx->rows[row]->hints;
    const struct qidmap_identity *id = speaker(ctx, claim);
    if (ctx->held[row] || count_claimants(ctx, row) != 1)
        return FALSE;
    if (qm_fsid_of_kind(id->fsid, id->count, QIDMAP_FSID_EPHEMERAL) != NULL) {
        claim->row = (gint)row;
        return TRUE;
    }
    if (is_split_row(ctx, row))
        return FALSE;
    if (qm_claim_match(ctx, claim, row, LEVEL_MARKER) == MATCH_DIFFERS)
        return TRUE;
    if (qm_hints_compare(old, &id->hints, LEVEL_DEVICE) == MATCH_DIFFERS &&
        (qm_claim_is_copied(ctx, claim) ||
         (qm_claim_match(ctx, claim, row, LEVEL_MARKER) != MATCH_FITS && present(old, &id->hints))))
        return TRUE;
    claim->row = (gint)row;
    return TRUE;
}

static int compare_pairs(gconstpointer a, gconstpointer b, gpointer data)
{
    const struct context *ctx = data;
    const struct pair *x = a, *y = b;

    if (x->level != y->level)
        return x->level < y->level ? -1 : 1;
    if (ctx->rows[x->row]->fs != ctx->rows[y->row]->fs)
        return ctx->rows[x->row]->fs < ctx->rows[y->row]->fs ? -1 : 1;
    return qm_identity_compare(speaker(ctx, claim_at(ctx, x->claim)),
                               speaker(ctx, claim_at(ctx, y->claim)));
}

/* Step 5. `decided[i]`: claim i is settled. */
void qm_group_assign(struct context *ctx, const gboolean *decided)
{
    g_autoptr(GArray) pairs = g_array_new(FALSE, FALSE, sizeof(struct pair));
    g_autoptr(GHashTable) taken = g_hash_table_new(NULL, NULL);

    for (guint c = 0; c < ctx->claims->len; c++) {
        const struct claim *claim = claim_at(ctx, c);
        if (claim->row >= 0)
            g_hash_table_add(taken, GINT_TO_POINTER(claim->row));
        for (guint i = 0; !decided[c] && i < claim->rows->len; i++) {
            struct pair pair = {.claim = c, .row = row_at(claim, i)};
            if (!ctx->held[pair.row] && qm_claim_fits(ctx, claim, pair.row, &pair.level))
                g_array_append_val(pairs, pair);
        }
    }
    g_array_sort_with_data(pairs, compare_pairs, ctx);
    for (guint i = 0; i < pairs->len; i++) {
        const struct pair *pair = &g_array_index(pairs, struct pair, i);
        struct claim *claim = g_ptr_array_index(ctx->claims, pair->claim);
        if (claim->row < 0 && g_hash_table_add(taken, GINT_TO_POINTER((gint)pair->row)))
            claim->row = (gint)pair->row;
    }
}
