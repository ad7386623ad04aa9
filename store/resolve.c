/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows for identities. Owns the rules, and the order in which they are asked; knows nothing of how
 * rows are stored. The steps themselves are in resolve-group.c (1), -candidates.c (2, 3), -decide.c
 * (4, 5) and -evidence.c (5); -identity.c and -hints.c compare, -doubles.c says what is told.
 *
 * Duplicates are everyday life: after dd or an LVM snapshot two filesystems show one uuid. The rule
 * above all others: two filesystems that are live together never share a row. A wrong split gives
 * new inode numbers, which can be mended; a wrong merge corrupts.
 *
 * The steps
 *   1. Identities with one superblock are one filesystem (a filesystem mounted twice); on btrfs and
 *      where device numbers are made up, one subvolume or one such number; with several trees, one
 *      tree. All that follows looks at groups: filesystems and rows that identities connect.
 *   2. Candidates of a filesystem: the rows, not retired, that share an identity with it. No
 *      candidate is a row
 *        - whose override, subvolume or marker is another one, or whose tree is;
 *        - whose policy the mount cannot keep (see keeps_policy() in resolve-candidates.c);
 *        - that it shares names alone with, when another candidate has more, when the row knows a
 *          marker or another root, or when filesystems known by names are to be split.
 *      Candidates that have no identity in common among them were two filesystems, and which one
 *      this is cannot be told: none is taken, unless one alone has all the identities.
 *   3. What has the superblock of a live one and fits its row, is that filesystem. The row of a
 *      live one is no other's: it stays among the candidates only to show that there are two.
 *   4. What the operator's override says holds. A lone claimant of a lone row, never split, takes
 *      it, even where its hints differ: disks and image files move. But not where the marker
 *      differs, nor where the device or file of the row is still there and is another one, unless
 *      the marker says that it moved: then this is a copy.
 *   5. Otherwise discriminators decide, strongest first: marker; loop backing file, dm uuid or
 *      wwid, with the partition; partition uuid; source with mount path. A marker that fits is
 *      enough. Below, a row is taken where the strongest discriminator known on both sides fits and
 *      none of the first three contradicts; a row that knows a marker is not for a filesystem
 *      without one. A value that two claimants, or two candidate rows, have in common tells nothing
 *      and is passed over. Best fits go first, over all filesystems at once, so that the order of
 *      the input, which is the order of mounting, has no say.
 *   6. Whoever is left gets a new row; these are ranked by identity and stable hints.
 *
 * What follows for two clones A and B: mounted together at any time, each keeps its row for ever,
 * in any order and at any mount path, also when only one of them comes back; once both have their
 * markers, with devices and files exchanged as well. B alone, when only A has a row so far, gets a
 * row of its own while A's device is within sight. When it is not, B is indistinguishable from A
 * moved, and takes A's row; so it does when it was copied together with A's marker. Should both be
 * live later, they are told apart from then on: the row stays with the one it was last seen with,
 * and the other gets a new one.
 *
 * Trees (bind=distinct). One filesystem has as many rows as trees. A row without a tree is taken by
 * the tree at the mount path where it was last seen, else by the first one by name. Without trees
 * again, the oldest of its rows is taken. Rows that differ in their tree are no duplicates.
 *
 * Subvolumes of btrfs have the marker of their superblock. While two superblocks show one marker it
 * tells nothing of their subvolumes either, even where that of the original is not mounted, or was
 * not met yet, and so does not contest its row.
 *
 * Ephemeral filesystems have an exact identity: only steps 2 and 3 matter to a lone claimant.
 */
#include "config.h"

#include "store/resolve.h"

#include "store/resolve-group.h"

static void resolve_group(struct context *ctx)
{
    g_autofree gboolean *decided = g_new0(gboolean, ctx->claims->len + 1);

    for (guint c = 0; c < ctx->claims->len; c++) {
        struct claim *claim = g_ptr_array_index(ctx->claims, c);
        decided[c] = qm_claim_find_live(ctx, claim);
        if (!decided[c])
            qm_claim_find_candidates(ctx, claim);
    }
    qm_group_choose_trees(ctx);
    for (guint c = 0; c < ctx->claims->len; c++) {
        struct claim *claim = g_ptr_array_index(ctx->claims, c);
        decided[c] = decided[c] || claim->hopeless || qm_claim_decide_override(ctx, claim) ||
                     qm_claim_decide_lone(ctx, claim);
    }
    qm_group_assign(ctx, decided);
}

static int compare_claims(gconstpointer a, gconstpointer b, gpointer data)
{
    const struct qm_scene *scene = data;
    return qm_identity_compare(&scene->identities[(*(struct claim *const *)a)->first],
                               &scene->identities[(*(struct claim *const *)b)->first]);
}

static void rank_new(const struct qm_scene *scene, GPtrArray *claims)
{
    g_autoptr(GPtrArray) fresh = g_ptr_array_new();

    for (guint c = 0; c < claims->len; c++) {
        struct claim *claim = g_ptr_array_index(claims, c);
        if (claim->row < 0)
            g_ptr_array_add(fresh, claim);
    }
    g_ptr_array_sort_with_data(fresh, compare_claims, (gpointer)scene);
    for (guint i = 0; i < fresh->len; i++)
        ((struct claim *)g_ptr_array_index(fresh, i))->rank = i;
}

void qm_resolve(const struct qm_scene *scene, struct qm_decision *decisions)
{
    g_autoptr(GPtrArray) claims = qm_make_claims(scene);
    g_autofree gboolean *held = g_new0(gboolean, scene->n_rows + 1);
    g_autoptr(GHashTable) copied = qm_find_copied(scene);

    for (gsize l = 0; l < scene->n_live && scene->n_rows > 0; l++) {
        gint r = qm_scene_find_row(scene, scene->live[l].fs);
        if (r >= 0)
            held[r] = TRUE;
    }
    g_autoptr(GPtrArray) groups = qm_make_groups(scene, claims, held, copied);
    for (guint g = 0; g < groups->len; g++)
        resolve_group(g_ptr_array_index(groups, g));
    rank_new(scene, claims);
    for (guint g = 0; g < groups->len; g++) {
        const struct context *ctx = g_ptr_array_index(groups, g);
        for (guint c = 0; c < ctx->claims->len; c++)
            qm_claim_find_doubles(ctx, g_ptr_array_index(ctx->claims, c));
    }
    for (guint c = 0; c < claims->len; c++) {
        const struct claim *claim = g_ptr_array_index(claims, c);
        gboolean fresh = claim->row < 0;
        struct qm_decision decision = {
            .same_as = claim->first,
            .fs = fresh ? 0 : scene->rows[claim->row]->fs,
            .rank = claim->rank,
            .other = claim->other,
            .duplicate = claim->duplicate,
            .conflict = fresh && claim->conflict,
            .policy = fresh && claim->policy_row != 0 && !claim->duplicate && !claim->conflict,
            .copied = claim->copied,
        };
        if (decision.policy)
            decision.other = claim->policy_row;
        for (guint i = 0; i < claim->members->len; i++)
            decisions[g_array_index(claim->members, guint, i)] = decision;
    }
}
