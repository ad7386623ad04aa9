/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which rows could be a claim's: steps 2 and 3 of resolve.c. Owns what rules a row out before
 * discriminators are asked: identities, policy, names, trees.
 *
 * Must not know which candidate is taken (resolve-decide.c).
 */
#include "config.h"

#include "store/resolve-group.h"

#include <string.h>

#include "store/fsindex.h"
#include "store/hints.h"

/* A policy outlives remounts: what was found at first sight holds, as long as the mount can do it.
 *   row        mount says  kept?
 *   chosen, or deny  any   yes: the operator's word
 *   equal                  yes
 *   handle     affix       yes: handles are there still (overlay, xino switched on)
 *   affix      handle      no: inode numbers are not the file's any more (xino switched off)
 *   ephemeral  others      no, nor the other way: ids were not, or are not, to outlive the boot */
static gboolean keeps_policy(const struct qidmap_fs *row, const struct qidmap_identity *id)
{
    return row->chosen || row->policy == QIDMAP_POLICY_DENY || row->policy == id->policy ||
           (row->policy == QIDMAP_POLICY_HANDLE && id->policy == QIDMAP_POLICY_AFFIX);
}

/* What a row shares with the claim. */
enum shared qm_claim_shares(const struct context *ctx, const struct claim *claim,
                            const struct qidmap_fs *row)
{
    static const guint32 telling[] = {QIDMAP_FSID_OVERRIDE, QIDMAP_FSID_BTRFS, QIDMAP_FSID_MARKER};
    enum shared result = SHARED_NOTHING;

    for (guint i = 0; i < claim->members->len; i++) {
        const struct qidmap_identity *id =
            &ctx->identities[g_array_index(claim->members, guint, i)];
        for (gsize k = 0; k < G_N_ELEMENTS(telling); k++) {
            if (qm_fsid_kind_differs(id->fsid, id->count, row->fsid, row->fsid_count, telling[k]))
                return SHARED_NOTHING;
        }
        result = MAX(result, qm_fsid_shares(id->fsid, id->count, row->fsid, row->fsid_count));
    }
    return result;
}

/* By names alone: the row must know nothing that speaks against it. */
static gboolean names_suffice(const struct context *ctx, const struct claim *claim,
                              const struct qidmap_fs *row)
{
    const struct qidmap_identity *id = speaker(ctx, claim);
    const struct qidmap_hints *old = &row->hints, *now = &id->hints;

    if (ctx->scene->split_weak && qm_identity_is_weak(id))
        return FALSE;
    if (qm_fsid_of_kind(row->fsid, row->fsid_count, QIDMAP_FSID_MARKER) != NULL &&
        qm_fsid_of_kind(id->fsid, id->count, QIDMAP_FSID_MARKER) == NULL)
        return FALSE;
    return old->root_ino == 0 || now->root_ino == 0 || old->root_ino == now->root_ino;
}

/* Some identity of the claim is in all its candidates. */
static gboolean have_common(const struct context *ctx, const struct claim *claim)
{
    for (guint i = 0; i < claim->members->len; i++) {
        const struct qidmap_identity *id =
            &ctx->identities[g_array_index(claim->members, guint, i)];
        for (guint32 k = 0; k < MIN(id->count, QIDMAP_FSID_COUNT); k++) {
            gboolean all = TRUE;
            for (guint r = 0; r < claim->rows->len && all; r++) {
                const struct qidmap_fs *row = ctx->rows[row_at(claim, r)];
                all = qm_fsid_listed(row->fsid, row->fsid_count, &id->fsid[k]);
            }
            if (all)
                return TRUE;
        }
    }
    return FALSE;
}

/* The row has every identity of the claim. */
static gboolean has_every(const struct context *ctx, const struct claim *claim,
                          const struct qidmap_fs *row)
{
    for (guint i = 0; i < claim->members->len; i++) {
        const struct qidmap_identity *id =
            &ctx->identities[g_array_index(claim->members, guint, i)];
        for (guint32 k = 0; k < MIN(id->count, QIDMAP_FSID_COUNT); k++) {
            if (!qm_fsid_listed(row->fsid, row->fsid_count, &id->fsid[k]))
                return FALSE;
        }
    }
    return TRUE;
}

/* Nothing but the tree tells these rows apart: one filesystem. */
static gboolean same_but_tree(const struct qidmap_fs *a, const struct qidmap_fs *b)
{
    for (enum level l = LEVEL_MARKER; l < LEVEL_NAMES; l++) {
        if (qm_hints_compare(&a->hints, &b->hints, l) == MATCH_DIFFERS)
            return FALSE;
    }
    return TRUE;
}

/* Takes rows away for which a better one of the same filesystem is there: the exact tree, else the
 * oldest one. */
static void prefer_tree(const struct context *ctx, struct claim *claim)
{
    const char *tree = speaker(ctx, claim)->hints.tree;

    for (guint i = claim->rows->len; i-- > 0;) {
        const struct qidmap_fs *row = ctx->rows[row_at(claim, i)];
        gboolean exact = qm_hint_equal(tree, row->hints.tree), better = FALSE;
        for (guint k = 0; !exact && !better && k < claim->rows->len; k++) {
            const struct qidmap_fs *other = ctx->rows[row_at(claim, k)];
            if (other == row || qm_hint_equal(other->hints.tree, row->hints.tree) ||
                !same_but_tree(row, other))
                continue;
            better = qm_hint_equal(tree, other->hints.tree) || other->fs < row->fs;
        }
        if (better)
            g_array_remove_index(claim->rows, i);
    }
}

/* Where the mount suggests a policy that one row has and another merely allows, the first is it. */
static void prefer_policy(const struct context *ctx, struct claim *claim)
{
    guint32 policy = speaker(ctx, claim)->policy;
    gboolean exact = FALSE;

    for (guint i = 0; i < claim->rows->len; i++) {
        const struct qidmap_fs *row = ctx->rows[row_at(claim, i)];
        exact = exact || (!row->chosen && row->policy == policy);
    }
    for (guint i = claim->rows->len; exact && i-- > 0;) {
        const struct qidmap_fs *row = ctx->rows[row_at(claim, i)];
        if (!row->chosen && row->policy != policy && row->policy != QIDMAP_POLICY_DENY)
            g_array_remove_index(claim->rows, i);
    }
}

/* The live filesystem that the claim is; TRUE where it is one. */
gboolean qm_claim_find_live(const struct context *ctx, struct claim *claim)
{
    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        if (!ctx->held[r])
            continue;
        for (gsize l = 0; l < ctx->scene->n_live; l++) {
            const struct qidmap_live *live = &ctx->scene->live[l];
            if (live->fs != ctx->rows[r]->fs || live->superblock != speaker(ctx, claim)->superblock)
                continue;
            for (guint m = 0; m < claim->members->len; m++) {
                guint id = g_array_index(claim->members, guint, m);
                if (qm_is_live_row(&ctx->identities[id], ctx->rows[r])) {
                    claim->row = (gint)r;
                    return TRUE;
                }
            }
        }
    }
    return FALSE;
}

/* Step 2. */
void qm_claim_find_candidates(const struct context *ctx, struct claim *claim)
{
    const struct qidmap_identity *id = speaker(ctx, claim);
    enum shared best = SHARED_NOTHING;

    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        const struct qidmap_fs *row = ctx->rows[r];
        if (row->retired || qm_trees_differ(id->hints.tree, row->hints.tree))
            continue;
        enum shared shared = qm_claim_shares(ctx, claim, row);
        if (shared == SHARED_NOTHING || (shared == SHARED_NAMES && !names_suffice(ctx, claim, row)))
            continue;
        if (!keeps_policy(row, id)) {
            if (claim->policy_row == 0 && !ctx->held[r])
                claim->policy_row = row->fs;
            continue;
        }
        if (shared > best)
            g_array_set_size(claim->rows, 0);
        if (shared >= best)
            g_array_append_val(claim->rows, r);
        best = MAX(best, shared);
    }
    prefer_policy(ctx, claim);
    prefer_tree(ctx, claim);
    if (claim->rows->len < 2 || have_common(ctx, claim))
        return;
    claim->conflict = TRUE;
    claim->other = ctx->rows[row_at(claim, 0)]->fs;
    for (guint i = claim->rows->len; i-- > 0;) {
        if (!has_every(ctx, claim, ctx->rows[row_at(claim, i)]))
            g_array_remove_index(claim->rows, i);
    }
    claim->hopeless = claim->rows->len == 0;
}

/* A row without a tree goes to one tree of a filesystem: that which is where the row was last seen,
 * else the first by name. The others must not contest it. */
void qm_group_choose_trees(const struct context *ctx)
{
    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        const struct qidmap_hints *hints = &ctx->rows[r]->hints;
        if (hints->tree[0] != '\0')
            continue;
        for (guint c = 0; c < ctx->claims->len; c++) {
            struct claim *claim = g_ptr_array_index(ctx->claims, c);
            const struct qidmap_identity *id = speaker(ctx, claim);
            gboolean at_home = qm_claim_match(ctx, claim, r, LEVEL_NAMES) == MATCH_FITS;
            gboolean worse = FALSE;
            if (id->hints.tree[0] == '\0' || !qm_claim_has_row(claim, r))
                continue;
            for (guint d = 0; d < ctx->claims->len && !worse; d++) {
                const struct claim *other = claim_at(ctx, d);
                const struct qidmap_identity *with = speaker(ctx, other);
                if (other == claim || with->superblock != id->superblock ||
                    !qm_claim_has_row(other, r))
                    continue;
                gboolean other_at_home = qm_claim_match(ctx, other, r, LEVEL_NAMES) == MATCH_FITS;
                worse = at_home == other_at_home ? strcmp(with->hints.tree, id->hints.tree) < 0
                                                 : other_at_home;
            }
            for (guint k = claim->rows->len; worse && k-- > 0;) {
                if (row_at(claim, k) == r)
                    g_array_remove_index(claim->rows, k);
            }
        }
    }
}
