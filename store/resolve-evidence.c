/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether discriminators give a claim a row, or deny it: step 5 of resolve.c, for one claim and one
 * of its candidates. Owns when a value tells nothing, as others show it, too.
 *
 * Must not know who takes the row in the end (resolve-decide.c).
 */
#include "config.h"

#include "store/resolve-group.h"

/* The members of a claim differ in their mount path alone: one that fits is enough. */
enum match qm_claim_match(const struct context *ctx, const struct claim *claim, guint row,
                          enum level level)
{
    const struct qidmap_hints *hints = &ctx->rows[row]->hints;
    enum match result = MATCH_UNKNOWN;

    for (guint i = 0; i < claim->members->len; i++) {
        guint m = g_array_index(claim->members, guint, i);
        enum match match = qm_hints_compare(&ctx->identities[m].hints, hints, level);
        if (match == MATCH_FITS)
            return match;
        if (match == MATCH_DIFFERS)
            result = match;
    }
    /* While a marker is being replaced another one says nothing. */
    return level == LEVEL_MARKER && ctx->rows[row]->marker_open ? MATCH_UNKNOWN : result;
}

gboolean qm_claim_has_row(const struct claim *claim, guint row)
{
    for (guint i = 0; i < claim->rows->len; i++) {
        if (row_at(claim, i) == row)
            return TRUE;
    }
    return FALSE;
}

/* Markers say that the row is not the claim's: they differ; or only the row knows one; or only the
 * claim has one, and it is that of another candidate: no marker comes to a filesystem that is not
 * noted in its row, but with a copy. */
static gboolean marker_denies(const struct context *ctx, const struct claim *claim, guint row)
{
    const struct qidmap_hints *hints = &ctx->rows[row]->hints;
    enum match match = qm_claim_match(ctx, claim, row, LEVEL_MARKER);

    if (match != MATCH_UNKNOWN)
        return match == MATCH_DIFFERS;
    if (qm_has_marker(hints))
        return !ctx->rows[row]->marker_open;
    for (guint i = 0; i < claim->rows->len; i++) {
        if (qm_same_marker(&ctx->rows[row_at(claim, i)]->hints, &speaker(ctx, claim)->hints))
            return TRUE;
    }
    return FALSE;
}

/* The marker of the claim is shown by another superblock, too. Seen from a subvolume of btrfs: that
 * of the original may not be here to contest the row. */
gboolean qm_claim_is_copied(const struct context *ctx, const struct claim *claim)
{
    const struct qidmap_identity *id = speaker(ctx, claim);

    return qm_fsid_of_kind(id->fsid, id->count, QIDMAP_FSID_BTRFS) != NULL &&
           qm_has_marker(&id->hints) && g_hash_table_contains(ctx->copied, id->hints.marker);
}

/* Another claimant of the row, or another candidate of the claim, has the same value: it tells
 * nothing. What the marker rules out does not count. */
static gboolean is_shared(const struct context *ctx, const struct claim *claim, guint row,
                          enum level level)
{
    if (level == LEVEL_MARKER && qm_claim_is_copied(ctx, claim))
        return TRUE;
    for (guint i = 0; i < ctx->claims->len; i++) {
        const struct claim *other = claim_at(ctx, i);
        if (other != claim && qm_claim_has_row(other, row) &&
            qm_claim_match(ctx, other, row, level) == MATCH_FITS && !marker_denies(ctx, other, row))
            return TRUE;
    }
    for (guint i = 0; i < claim->rows->len; i++) {
        guint other = row_at(claim, i);
        if (other != row && qm_claim_match(ctx, claim, other, level) == MATCH_FITS &&
            !marker_denies(ctx, claim, other))
            return TRUE;
    }
    return FALSE;
}

/* Whether the claim may have the row, and by which discriminator. */
gboolean qm_claim_fits(const struct context *ctx, const struct claim *claim, guint row,
                       enum level *level)
{
    gint best = -1;

    if (marker_denies(ctx, claim, row))
        return FALSE;
    for (enum level l = LEVEL_MARKER; l < LEVELS; l++) {
        enum match match = qm_claim_match(ctx, claim, row, l);
        if (match == MATCH_UNKNOWN || (match == MATCH_FITS && is_shared(ctx, claim, row, l)))
            continue;
        if (match == MATCH_DIFFERS) {
            if (best < 0 || l < LEVEL_NAMES)
                return FALSE;
            continue; /* moved to another place, but known by more than its place */
        }
        if (best < 0)
            best = (gint)l;
        if (l == LEVEL_MARKER)
            break; /* written for this: devices and files may have changed places */
    }
    if (best < 0)
        return FALSE;
    *level = (enum level)best;
    return TRUE;
}
