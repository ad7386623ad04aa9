/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows for identities. Owns the rules; knows nothing of how rows are stored.
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
 *        - whose policy the mount cannot keep (see keeps_policy());
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

#include <string.h>

#include <xxhash.h>

#include "store/fsindex.h"
#include "store/hints.h"

enum level { LEVEL_MARKER, LEVEL_DEVICE, LEVEL_PARTITION, LEVEL_NAMES, LEVELS };

enum match { MATCH_UNKNOWN, MATCH_FITS, MATCH_DIFFERS };

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

struct pair {
    guint claim;
    guint row;
    enum level level; /* of the strongest discriminator that fits */
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

/* ---- identities ------------------------------------------------------------------------------ */

static int compare_fsid(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return memcmp(a->bytes, b->bytes, MIN(a->size, QIDMAP_FSID_BYTES));
}

/* The first identity of a kind, or NULL. */
static const struct qidmap_fsid *of_kind(const struct qidmap_fsid *list, guint32 count,
                                         guint32 kind)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        if (list[i].kind == kind)
            return &list[i];
    }
    return NULL;
}

/* Both lists have identities of this kind, and none in common. */
static gboolean kind_differs(const struct qidmap_fsid *a, guint32 a_count,
                             const struct qidmap_fsid *b, guint32 b_count, guint32 kind)
{
    if (of_kind(a, a_count, kind) == NULL || of_kind(b, b_count, kind) == NULL)
        return FALSE;
    for (guint32 i = 0; i < MIN(a_count, QIDMAP_FSID_COUNT); i++) {
        if (a[i].kind == kind && qm_fsid_listed(b, b_count, &a[i]))
            return FALSE;
    }
    return TRUE;
}

enum shared { SHARED_NOTHING, SHARED_NAMES, SHARED_MORE };

static enum shared shares(const struct qidmap_fsid *a, guint32 a_count, const struct qidmap_fsid *b,
                          guint32 b_count)
{
    enum shared result = SHARED_NOTHING;

    for (guint32 i = 0; i < MIN(a_count, QIDMAP_FSID_COUNT); i++) {
        if (!qm_fsid_listed(b, b_count, &a[i]))
            continue;
        if (a[i].kind != QIDMAP_FSID_WEAK)
            return SHARED_MORE;
        result = SHARED_NAMES;
    }
    return result;
}

gboolean qm_identity_is_weak(const struct qidmap_identity *identity)
{
    for (guint32 i = 0; i < MIN(identity->count, QIDMAP_FSID_COUNT); i++) {
        if (identity->fsid[i].kind != QIDMAP_FSID_WEAK)
            return FALSE;
    }
    return TRUE;
}

static gboolean trees_differ(const char *a, const char *b)
{
    return a[0] != '\0' && b[0] != '\0' && !qm_hint_equal(a, b);
}

/* What divides a superblock into filesystems. */
static const guint32 dividing[] = {QIDMAP_FSID_BTRFS, QIDMAP_FSID_EPHEMERAL};

/* One filesystem? An equivalence: superblocks are equal, and so is what divides one. */
static gboolean same_filesystem(gconstpointer x, gconstpointer y)
{
    const struct qidmap_identity *a = x, *b = y;

    if (a->superblock != b->superblock || strcmp(a->hints.tree, b->hints.tree) != 0)
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *p = of_kind(a->fsid, a->count, dividing[i]);
        const struct qidmap_fsid *q = of_kind(b->fsid, b->count, dividing[i]);
        if ((p == NULL) != (q == NULL) || (p != NULL && compare_fsid(p, q) != 0))
            return FALSE;
    }
    return TRUE;
}

static guint hash_filesystem(gconstpointer x)
{
    const struct qidmap_identity *id = x;
    guint64 hash = XXH3_64bits_withSeed(id->hints.tree, strlen(id->hints.tree), id->superblock);

    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *f = of_kind(id->fsid, id->count, dividing[i]);
        if (f != NULL)
            hash = XXH3_64bits_withSeed(f->bytes, MIN(f->size, QIDMAP_FSID_BYTES), hash);
    }
    return (guint)hash;
}

/* The filesystem is that of a live row with its superblock. */
static gboolean is_live_row(const struct qidmap_identity *id, const struct qidmap_fs *row)
{
    if (id->hints.tree[0] != '\0' && !qm_hint_equal(id->hints.tree, row->hints.tree))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *f = of_kind(id->fsid, id->count, dividing[i]);
        if ((f == NULL) != (of_kind(row->fsid, row->fsid_count, dividing[i]) == NULL) ||
            (f != NULL && !qm_fsid_listed(row->fsid, row->fsid_count, f)))
            return FALSE;
    }
    if (shares(id->fsid, id->count, row->fsid, row->fsid_count) != SHARED_NOTHING)
        return TRUE;
    /* The mount path is part of a name; the superblock says more. */
    return qm_identity_is_weak(id) &&
           of_kind(row->fsid, row->fsid_count, QIDMAP_FSID_WEAK) != NULL &&
           strcmp(id->hints.type, row->hints.type) == 0 &&
           qm_hint_equal(id->hints.source, row->hints.source);
}

/* A total order over identities by what is stable from boot to boot. */
static int compare_identities(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    const struct qidmap_hints *x = &a->hints, *y = &b->hints;
    int c;

    for (guint32 i = 0; i < MIN(MIN(a->count, b->count), QIDMAP_FSID_COUNT); i++) {
        if ((c = compare_fsid(&a->fsid[i], &b->fsid[i])) != 0)
            return c;
    }
    if (a->count != b->count)
        return a->count < b->count ? -1 : 1;
    if ((c = memcmp(x->marker, y->marker, sizeof x->marker)) != 0 ||
        (c = strcmp(x->backing, y->backing)) != 0 || (c = strcmp(x->dm_uuid, y->dm_uuid)) != 0 ||
        (c = strcmp(x->wwid, y->wwid)) != 0)
        return c;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    if ((c = strcmp(x->part_uuid, y->part_uuid)) != 0 || (c = strcmp(x->tree, y->tree)) != 0 ||
        (c = strcmp(x->mount_path, y->mount_path)) != 0)
        return c;
    if (x->backing[0] == '\0' && (c = strcmp(x->source, y->source)) != 0)
        return c;
    /* Alike in all that lasts; the superblock makes the order total within this call. */
    return a->superblock < b->superblock ? -1 : a->superblock > b->superblock;
}

/* ---- discriminators -------------------------------------------------------------------------- */

static gboolean has_marker(const struct qidmap_hints *hints)
{
    static const guint8 zero[sizeof hints->marker];
    return memcmp(hints->marker, zero, sizeof zero) != 0;
}

static gboolean same_marker(const struct qidmap_hints *a, const struct qidmap_hints *b)
{
    return has_marker(a) && memcmp(a->marker, b->marker, sizeof a->marker) == 0;
}

static gboolean has_device(const struct qidmap_hints *hints)
{
    return hints->backing[0] != '\0' || hints->dm_uuid[0] != '\0' || hints->wwid[0] != '\0';
}

static enum match match_if(gboolean fits)
{
    return fits ? MATCH_FITS : MATCH_DIFFERS;
}

static enum match compare_level(const struct qidmap_hints *a, const struct qidmap_hints *b,
                                enum level level)
{
    switch (level) {
    case LEVEL_MARKER:
        if (!has_marker(a) || !has_marker(b))
            return MATCH_UNKNOWN;
        return match_if(same_marker(a, b));
    case LEVEL_DEVICE:
        if (!has_device(a) || !has_device(b))
            return MATCH_UNKNOWN;
        if (a->partition != b->partition)
            return MATCH_DIFFERS;
        /* Of the three names of a device the first that one side has counts. */
        if (a->backing[0] != '\0' || b->backing[0] != '\0')
            return match_if(qm_hint_equal(a->backing, b->backing));
        if (a->dm_uuid[0] != '\0' || b->dm_uuid[0] != '\0')
            return match_if(qm_hint_equal(a->dm_uuid, b->dm_uuid));
        return match_if(qm_hint_equal(a->wwid, b->wwid));
    case LEVEL_PARTITION:
        if (a->part_uuid[0] == '\0' || b->part_uuid[0] == '\0')
            return MATCH_UNKNOWN;
        return match_if(qm_hint_equal(a->part_uuid, b->part_uuid));
    case LEVEL_NAMES:
    default:
        if (a->mount_path[0] == '\0' || b->mount_path[0] == '\0')
            return MATCH_UNKNOWN;
        return match_if(qm_hint_equal(a->source, b->source) &&
                        qm_hint_equal(a->mount_path, b->mount_path));
    }
}

gboolean qm_same_device(const struct qidmap_hints *a, const struct qidmap_hints *b)
{
    return compare_level(a, b, LEVEL_DEVICE) == MATCH_FITS;
}

static const struct qidmap_identity *speaker(const struct context *ctx, const struct claim *claim)
{
    return &ctx->identities[claim->first];
}

static const struct claim *claim_at(const struct context *ctx, guint i)
{
    return g_ptr_array_index(ctx->claims, i);
}

static guint row_at(const struct claim *claim, guint i)
{
    return g_array_index(claim->rows, guint, i);
}

/* The members of a claim differ in their mount path alone: one that fits is enough. */
static enum match match_claim(const struct context *ctx, const struct claim *claim, guint row,
                              enum level level)
{
    const struct qidmap_hints *hints = &ctx->rows[row]->hints;
    enum match result = MATCH_UNKNOWN;

    for (guint i = 0; i < claim->members->len; i++) {
        guint m = g_array_index(claim->members, guint, i);
        enum match match = compare_level(&ctx->identities[m].hints, hints, level);
        if (match == MATCH_FITS)
            return match;
        if (match == MATCH_DIFFERS)
            result = match;
    }
    /* While a marker is being replaced another one says nothing. */
    return level == LEVEL_MARKER && ctx->rows[row]->marker_open ? MATCH_UNKNOWN : result;
}

static gboolean has_row(const struct claim *claim, guint row)
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
    enum match match = match_claim(ctx, claim, row, LEVEL_MARKER);

    if (match != MATCH_UNKNOWN)
        return match == MATCH_DIFFERS;
    if (has_marker(hints))
        return !ctx->rows[row]->marker_open;
    for (guint i = 0; i < claim->rows->len; i++) {
        if (same_marker(&ctx->rows[row_at(claim, i)]->hints, &speaker(ctx, claim)->hints))
            return TRUE;
    }
    return FALSE;
}

/* The marker of the claim is shown by another superblock, too. Seen from a subvolume of btrfs: that
 * of the original may not be here to contest the row. */
static gboolean is_copied(const struct context *ctx, const struct claim *claim)
{
    const struct qidmap_identity *id = speaker(ctx, claim);

    return of_kind(id->fsid, id->count, QIDMAP_FSID_BTRFS) != NULL && has_marker(&id->hints) &&
           g_hash_table_contains(ctx->copied, id->hints.marker);
}

/* Another claimant of the row, or another candidate of the claim, has the same value: it tells
 * nothing. What the marker rules out does not count. */
static gboolean is_shared(const struct context *ctx, const struct claim *claim, guint row,
                          enum level level)
{
    if (level == LEVEL_MARKER && is_copied(ctx, claim))
        return TRUE;
    for (guint i = 0; i < ctx->claims->len; i++) {
        const struct claim *other = claim_at(ctx, i);
        if (other != claim && has_row(other, row) &&
            match_claim(ctx, other, row, level) == MATCH_FITS && !marker_denies(ctx, other, row))
            return TRUE;
    }
    for (guint i = 0; i < claim->rows->len; i++) {
        guint other = row_at(claim, i);
        if (other != row && match_claim(ctx, claim, other, level) == MATCH_FITS &&
            !marker_denies(ctx, claim, other))
            return TRUE;
    }
    return FALSE;
}

/* Whether the claim may have the row, and by which discriminator. */
static gboolean fits(const struct context *ctx, const struct claim *claim, guint row,
                     enum level *level)
{
    gint best = -1;

    if (marker_denies(ctx, claim, row))
        return FALSE;
    for (enum level l = LEVEL_MARKER; l < LEVELS; l++) {
        enum match match = match_claim(ctx, claim, row, l);
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

/* ---- candidates ------------------------------------------------------------------------------ */

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
static enum shared claim_shares(const struct context *ctx, const struct claim *claim,
                                const struct qidmap_fs *row)
{
    static const guint32 telling[] = {QIDMAP_FSID_OVERRIDE, QIDMAP_FSID_BTRFS, QIDMAP_FSID_MARKER};
    enum shared result = SHARED_NOTHING;

    for (guint i = 0; i < claim->members->len; i++) {
        const struct qidmap_identity *id =
            &ctx->identities[g_array_index(claim->members, guint, i)];
        for (gsize k = 0; k < G_N_ELEMENTS(telling); k++) {
            if (kind_differs(id->fsid, id->count, row->fsid, row->fsid_count, telling[k]))
                return SHARED_NOTHING;
        }
        result = MAX(result, shares(id->fsid, id->count, row->fsid, row->fsid_count));
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
    if (of_kind(row->fsid, row->fsid_count, QIDMAP_FSID_MARKER) != NULL &&
        of_kind(id->fsid, id->count, QIDMAP_FSID_MARKER) == NULL)
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
        if (compare_level(&a->hints, &b->hints, l) == MATCH_DIFFERS)
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
static gboolean find_live(const struct context *ctx, struct claim *claim)
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
                if (is_live_row(&ctx->identities[id], ctx->rows[r])) {
                    claim->row = (gint)r;
                    return TRUE;
                }
            }
        }
    }
    return FALSE;
}

/* Step 2. */
static void find_candidates(const struct context *ctx, struct claim *claim)
{
    const struct qidmap_identity *id = speaker(ctx, claim);
    enum shared best = SHARED_NOTHING;

    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        const struct qidmap_fs *row = ctx->rows[r];
        if (row->retired || trees_differ(id->hints.tree, row->hints.tree))
            continue;
        enum shared shared = claim_shares(ctx, claim, row);
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
static void choose_trees(const struct context *ctx)
{
    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        const struct qidmap_hints *hints = &ctx->rows[r]->hints;
        if (hints->tree[0] != '\0')
            continue;
        for (guint c = 0; c < ctx->claims->len; c++) {
            struct claim *claim = g_ptr_array_index(ctx->claims, c);
            const struct qidmap_identity *id = speaker(ctx, claim);
            gboolean at_home = match_claim(ctx, claim, r, LEVEL_NAMES) == MATCH_FITS;
            gboolean worse = FALSE;
            if (id->hints.tree[0] == '\0' || !has_row(claim, r))
                continue;
            for (guint d = 0; d < ctx->claims->len && !worse; d++) {
                const struct claim *other = claim_at(ctx, d);
                const struct qidmap_identity *with = speaker(ctx, other);
                if (other == claim || with->superblock != id->superblock || !has_row(other, r))
                    continue;
                gboolean other_at_home = match_claim(ctx, other, r, LEVEL_NAMES) == MATCH_FITS;
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

/* ---- decisions ------------------------------------------------------------------------------- */

/* Two rows of two filesystems with one identity; not two trees of one, nor one that was mounted in
 * ways that need different policies. */
static gboolean are_doubles(const struct qidmap_fs *a, const struct qidmap_fs *b)
{
    return !a->retired && !b->retired && !trees_differ(a->hints.tree, b->hints.tree) &&
           (a->policy == b->policy || a->chosen || b->chosen || a->policy == QIDMAP_POLICY_DENY ||
            b->policy == QIDMAP_POLICY_DENY) &&
           !kind_differs(a->fsid, a->fsid_count, b->fsid, b->fsid_count, QIDMAP_FSID_OVERRIDE) &&
           shares(a->fsid, a->fsid_count, b->fsid, b->fsid_count) == SHARED_MORE;
}

/* Another row, not retired, shares an identity with this one. */
static gboolean is_split_row(const struct context *ctx, guint row)
{
    if (ctx->rows[row]->flags & QIDMAP_IDENTITY_DUPLICATE)
        return TRUE;
    for (guint i = 0; i < ctx->mine->len; i++) {
        guint r = g_array_index(ctx->mine, guint, i);
        if (r != row && are_doubles(ctx->rows[row], ctx->rows[r]))
            return TRUE;
    }
    return FALSE;
}

static guint count_claimants(const struct context *ctx, guint row)
{
    guint n = 0;

    for (guint i = 0; i < ctx->claims->len; i++)
        n += has_row(claim_at(ctx, i), row);
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
static gboolean decide_override(const struct context *ctx, struct claim *claim)
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
        claimants += has_row(other, row) && shares_override(ctx, other, row);
    }
    if (rows != 1 || claimants != 1 || ctx->held[row])
        return FALSE;
    claim->row = (gint)row;
    return TRUE;
}

/* Step 4. TRUE when the claim was a lone one on a lone row, and so is decided. */
static gboolean decide_lone(const struct context *ctx, struct claim *claim)
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
    if (of_kind(id->fsid, id->count, QIDMAP_FSID_EPHEMERAL) != NULL) {
        claim->row = (gint)row;
        return TRUE;
    }
    if (is_split_row(ctx, row))
        return FALSE;
    if (match_claim(ctx, claim, row, LEVEL_MARKER) == MATCH_DIFFERS)
        return TRUE;
    if (compare_level(old, &id->hints, LEVEL_DEVICE) == MATCH_DIFFERS &&
        (is_copied(ctx, claim) ||
         (match_claim(ctx, claim, row, LEVEL_MARKER) != MATCH_FITS && present(old, &id->hints))))
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
    return compare_identities(speaker(ctx, claim_at(ctx, x->claim)),
                              speaker(ctx, claim_at(ctx, y->claim)));
}

/* Step 5. `decided[i]`: claim i is settled. */
static void assign(struct context *ctx, const gboolean *decided)
{
    g_autoptr(GArray) pairs = g_array_new(FALSE, FALSE, sizeof(struct pair));
    g_autoptr(GHashTable) taken = g_hash_table_new(NULL, NULL);

    for (guint c = 0; c < ctx->claims->len; c++) {
        const struct claim *claim = claim_at(ctx, c);
        if (claim->row >= 0)
            g_hash_table_add(taken, GINT_TO_POINTER(claim->row));
        for (guint i = 0; !decided[c] && i < claim->rows->len; i++) {
            struct pair pair = {.claim = c, .row = row_at(claim, i)};
            if (!ctx->held[pair.row] && fits(ctx, claim, pair.row, &pair.level))
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

/* ---- what is told about a decision ----------------------------------------------------------- */

/* Two mounted filesystems, not two trees or other parts of one superblock, with one identity. */
static gboolean are_double_claims(const struct context *ctx, const struct claim *a,
                                  const struct claim *b)
{
    const struct qidmap_identity *x = speaker(ctx, a), *y = speaker(ctx, b);

    return x->superblock != y->superblock &&
           !kind_differs(x->fsid, x->count, y->fsid, y->count, QIDMAP_FSID_OVERRIDE) &&
           shares(x->fsid, x->count, y->fsid, y->count) != SHARED_NOTHING;
}

/* Sets whether the filesystem has a double, live or not, and whether its marker is its own. */
static void find_doubles(const struct context *ctx, struct claim *claim)
{
    const struct qidmap_hints *hints = &speaker(ctx, claim)->hints;
    const struct qidmap_fs *own = claim->row >= 0 ? ctx->rows[claim->row] : NULL;
    gboolean owner = own != NULL && !own->marker_open && same_marker(&own->hints, hints);

    for (guint i = 0; i < ctx->claims->len; i++) {
        const struct claim *other = claim_at(ctx, i);
        if (other == claim || !are_double_claims(ctx, claim, other))
            continue;
        claim->duplicate = TRUE;
        if (other->row >= 0)
            claim->other = ctx->rows[other->row]->fs;
        if (!same_marker(&speaker(ctx, other)->hints, hints))
            continue;
        /* One of them keeps the marker: whose row has it, then who has a row, then the first. */
        const struct qidmap_fs *theirs = other->row >= 0 ? ctx->rows[other->row] : NULL;
        gboolean other_owner =
            theirs != NULL && !theirs->marker_open && same_marker(&theirs->hints, hints);
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
        if (own != NULL ? are_doubles(own, row) : has_row(claim, r)) {
            if (!claim->duplicate || ctx->held[r])
                claim->other = row->fs;
            claim->duplicate = TRUE;
        }
        if (same_marker(&row->hints, hints) &&
            !trees_differ(row->hints.tree, speaker(ctx, claim)->hints.tree) &&
            claim_shares(ctx, claim, row) != SHARED_NOTHING && row->fs != claim->policy_row &&
            (own == NULL || are_doubles(own, row)))
            /* The one that can get another marker yields to the one that cannot. */
            claim->copied = claim->copied || !owner || row->fs < own->fs ||
                            (row->flags & QIDMAP_IDENTITY_READONLY);
    }
    if (own != NULL && (own->flags & QIDMAP_IDENTITY_DUPLICATE))
        claim->duplicate = TRUE;
}

/* ---- all together ---------------------------------------------------------------------------- */

static void claim_free(gpointer data)
{
    struct claim *claim = data;

    g_array_unref(claim->members);
    g_array_unref(claim->rows);
    g_free(claim);
}

/* Step 1. The least member speaks, so that the order of the input does not show. */
static GPtrArray *make_claims(const struct qm_scene *scene)
{
    GPtrArray *claims = g_ptr_array_new_with_free_func(claim_free);
    g_autoptr(GHashTable) homes = g_hash_table_new(hash_filesystem, same_filesystem);

    for (guint i = 0; i < scene->count; i++) {
        struct claim *claim = g_hash_table_lookup(homes, &scene->identities[i]);
        if (claim == NULL) {
            claim = g_new0(struct claim, 1);
            claim->first = i;
            claim->row = -1;
            claim->members = g_array_new(FALSE, FALSE, sizeof(guint));
            claim->rows = g_array_new(FALSE, FALSE, sizeof(guint));
            g_hash_table_insert(homes, (gpointer)&scene->identities[i], claim);
            g_ptr_array_add(claims, claim);
        }
        g_array_append_val(claim->members, i);
        if (compare_identities(&scene->identities[i], &scene->identities[claim->first]) < 0)
            claim->first = i;
    }
    return claims;
}

/* Sets of filesystems and rows: each points to another of its set, its root to itself. */
static guint root_of(guint *parent, guint i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

static guint hash_fsid(gconstpointer key)
{
    const struct qidmap_fsid *f = key;
    return (guint)XXH3_64bits_withSeed(f->bytes, MIN(f->size, QIDMAP_FSID_BYTES), f->kind);
}

static gboolean equal_fsid(gconstpointer a, gconstpointer b)
{
    return qm_fsid_equal(a, b);
}

static void connect_fsids(GHashTable *seen, guint *parent, const struct qidmap_fsid *list,
                          guint32 count, guint node)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        gpointer other;
        if (g_hash_table_lookup_extended(seen, &list[i], NULL, &other))
            parent[root_of(parent, node)] = root_of(parent, GPOINTER_TO_UINT(other));
        else
            g_hash_table_insert(seen, (gpointer)&list[i], GUINT_TO_POINTER(node));
    }
}

static void resolve_group(struct context *ctx)
{
    g_autofree gboolean *decided = g_new0(gboolean, ctx->claims->len + 1);

    for (guint c = 0; c < ctx->claims->len; c++) {
        struct claim *claim = g_ptr_array_index(ctx->claims, c);
        decided[c] = find_live(ctx, claim);
        if (!decided[c])
            find_candidates(ctx, claim);
    }
    choose_trees(ctx);
    for (guint c = 0; c < ctx->claims->len; c++) {
        struct claim *claim = g_ptr_array_index(ctx->claims, c);
        decided[c] =
            decided[c] || claim->hopeless || decide_override(ctx, claim) || decide_lone(ctx, claim);
    }
    assign(ctx, decided);
}

static void group_free(gpointer data)
{
    struct context *ctx = data;

    g_ptr_array_unref(ctx->claims);
    g_array_unref(ctx->mine);
    g_free(ctx);
}

/* Index of the row of that number, or -1. */
static gint find_row(const struct qm_scene *scene, guint32 fs)
{
    gsize low = 0, high = scene->n_rows;

    while (low < high) {
        gsize middle = low + (high - low) / 2;
        if (scene->rows[middle]->fs == fs)
            return (gint)middle;
        if (scene->rows[middle]->fs < fs)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static guint hash_marker(gconstpointer key)
{
    return (guint)XXH3_64bits(key, sizeof(((struct qidmap_hints *)0)->marker));
}

static gboolean equal_marker(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(((struct qidmap_hints *)0)->marker)) == 0;
}

/* `superblock` shows a marker; `shown` has who showed it first. */
static void note_marker(GHashTable *shown, GHashTable *copied, const guint8 *marker,
                        const guint64 *superblock)
{
    const guint64 *first = g_hash_table_lookup(shown, marker);

    if (first == NULL)
        g_hash_table_insert(shown, (gpointer)marker, (gpointer)superblock);
    else if (*first != *superblock)
        g_hash_table_add(copied, (gpointer)marker);
}

/* Markers of btrfs that more than one superblock shows. */
static GHashTable *find_copied(const struct qm_scene *scene)
{
    g_autoptr(GHashTable) shown = g_hash_table_new(hash_marker, equal_marker);
    GHashTable *copied = g_hash_table_new(hash_marker, equal_marker);

    for (gsize i = 0; i < scene->count; i++) {
        const struct qidmap_identity *id = &scene->identities[i];
        if (of_kind(id->fsid, id->count, QIDMAP_FSID_BTRFS) != NULL && has_marker(&id->hints))
            note_marker(shown, copied, id->hints.marker, &id->superblock);
    }
    for (gsize l = 0; g_hash_table_size(shown) > 0 && l < scene->n_live; l++) {
        gint r = find_row(scene, scene->live[l].fs);
        const struct qidmap_fs *row = r >= 0 ? scene->rows[r] : NULL;
        if (row != NULL && !row->marker_open && has_marker(&row->hints) &&
            of_kind(row->fsid, row->fsid_count, QIDMAP_FSID_BTRFS) != NULL)
            note_marker(shown, copied, row->hints.marker, &scene->live[l].superblock);
    }
    return copied;
}

static struct context *group_at(GPtrArray *groups, struct context **by_root, guint root,
                                const struct qm_scene *scene, const gboolean *held,
                                GHashTable *copied)
{
    if (by_root[root] == NULL) {
        struct context *ctx = g_new0(struct context, 1);
        *ctx = (struct context){.scene = scene,
                                .identities = scene->identities,
                                .rows = scene->rows,
                                .mine = g_array_new(FALSE, FALSE, sizeof(guint)),
                                .claims = g_ptr_array_new(),
                                .held = held,
                                .copied = copied};
        by_root[root] = ctx;
        g_ptr_array_add(groups, ctx);
    }
    return by_root[root];
}

static GPtrArray *make_groups(const struct qm_scene *scene, GPtrArray *claims, const gboolean *held,
                              GHashTable *copied)
{
    GPtrArray *groups = g_ptr_array_new_with_free_func(group_free);
    gsize nodes = claims->len + scene->n_rows;
    g_autofree guint *parent = g_new(guint, nodes + 1);
    g_autofree struct context **by_root = g_new0(struct context *, nodes + 1);
    g_autoptr(GHashTable) seen = g_hash_table_new(hash_fsid, equal_fsid);
    g_autoptr(GHashTable) live = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < nodes; i++)
        parent[i] = i;
    for (guint c = 0; c < claims->len; c++) {
        const struct claim *claim = g_ptr_array_index(claims, c);
        for (guint m = 0; m < claim->members->len; m++) {
            const struct qidmap_identity *id =
                &scene->identities[g_array_index(claim->members, guint, m)];
            connect_fsids(seen, parent, id->fsid, id->count, c);
            if (qm_identity_is_weak(id)) /* the superblock of a live one may say more */
                g_hash_table_insert(live, (gpointer)&id->superblock, GUINT_TO_POINTER(c + 1));
        }
    }
    for (guint r = 0; r < scene->n_rows; r++)
        connect_fsids(seen, parent, scene->rows[r]->fsid, scene->rows[r]->fsid_count,
                      claims->len + r);
    for (gsize l = 0; l < scene->n_live && scene->n_rows > 0; l++) {
        guint c = GPOINTER_TO_UINT(g_hash_table_lookup(live, &scene->live[l].superblock));
        gint r = c != 0 ? find_row(scene, scene->live[l].fs) : -1;
        if (r >= 0)
            parent[root_of(parent, c - 1)] = root_of(parent, claims->len + (guint)r);
    }
    for (guint c = 0; c < claims->len; c++)
        g_ptr_array_add(group_at(groups, by_root, root_of(parent, c), scene, held, copied)->claims,
                        g_ptr_array_index(claims, c));
    for (guint r = 0; r < scene->n_rows; r++) {
        struct context *ctx = by_root[root_of(parent, claims->len + r)];
        if (ctx != NULL)
            g_array_append_val(ctx->mine, r);
    }
    return groups;
}

static int compare_claims(gconstpointer a, gconstpointer b, gpointer data)
{
    const struct qm_scene *scene = data;
    return compare_identities(&scene->identities[(*(struct claim *const *)a)->first],
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
    g_autoptr(GPtrArray) claims = make_claims(scene);
    g_autofree gboolean *held = g_new0(gboolean, scene->n_rows + 1);
    g_autoptr(GHashTable) copied = find_copied(scene);

    for (gsize l = 0; l < scene->n_live && scene->n_rows > 0; l++) {
        gint r = find_row(scene, scene->live[l].fs);
        if (r >= 0)
            held[r] = TRUE;
    }
    g_autoptr(GPtrArray) groups = make_groups(scene, claims, held, copied);
    for (guint g = 0; g < groups->len; g++)
        resolve_group(g_ptr_array_index(groups, g));
    rank_new(scene, claims);
    for (guint g = 0; g < groups->len; g++) {
        const struct context *ctx = g_ptr_array_index(groups, g);
        for (guint c = 0; c < ctx->claims->len; c++)
            find_doubles(ctx, g_ptr_array_index(ctx->claims, c));
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

/* ---- keeping rows up to date ----------------------------------------------------------------- */

/* Takes a new value that is not empty; TRUE when it differed. */
static gboolean take_string(char *old, const char *now, gsize size)
{
    gboolean changed = now[0] != '\0' && !qm_hint_equal(old, now);

    if (now[0] != '\0')
        g_strlcpy(old, now, size); /* in full, where it was cut */
    return changed;
}
#define TAKE_STRING(old, now) take_string((old), (now), sizeof(old))

static gboolean take_hints(struct qidmap_hints *old, const struct qidmap_hints *now)
{
    gboolean changed = FALSE;

    /* The names of a device go together: a disk that has become an image has no wwid any more. */
    if (has_device(now) &&
        (old->partition != now->partition || !qm_hint_equal(old->backing, now->backing) ||
         !qm_hint_equal(old->dm_uuid, now->dm_uuid) || !qm_hint_equal(old->wwid, now->wwid))) {
        g_strlcpy(old->backing, now->backing, sizeof old->backing);
        g_strlcpy(old->dm_uuid, now->dm_uuid, sizeof old->dm_uuid);
        g_strlcpy(old->wwid, now->wwid, sizeof old->wwid);
        old->partition = now->partition;
        changed = TRUE;
    }
    changed |= TAKE_STRING(old->type, now->type);
    changed |= TAKE_STRING(old->source, now->source);
    changed |= TAKE_STRING(old->part_uuid, now->part_uuid);
    changed |= TAKE_STRING(old->mount_path, now->mount_path);
    changed |= TAKE_STRING(old->boot_id, now->boot_id);
    changed |= TAKE_STRING(old->machine_id, now->machine_id);
    if (old->tree[0] == '\0') /* another tree is another row; without trees it keeps its own */
        changed |= TAKE_STRING(old->tree, now->tree);
    if (has_marker(now) && memcmp(old->marker, now->marker, sizeof old->marker) != 0) {
        memcpy(old->marker, now->marker, sizeof old->marker);
        changed = TRUE;
    }
    if (now->root_ino != 0 && (old->root_ino != now->root_ino || old->root_gen != now->root_gen ||
                               old->root_btime_ns != now->root_btime_ns)) {
        old->root_ino = now->root_ino;
        old->root_gen = now->root_gen;
        old->root_btime_ns = now->root_btime_ns;
        changed = TRUE;
    }
    if (old->st_dev != now->st_dev) {
        old->st_dev = now->st_dev;
        changed = TRUE;
    }
    return changed;
}

gboolean qm_resolve_update(struct qidmap_fs *row, const struct qidmap_identity *identity,
                           gboolean fresh, gint64 now)
{
    gboolean changed = fresh;

    if (fresh) {
        row->policy = identity->policy;
        row->hints.first_seen = now;
    }
    for (guint32 i = 0; i < MIN(identity->count, QIDMAP_FSID_COUNT); i++) {
        if (row->fsid_count < QIDMAP_FSID_COUNT &&
            !qm_fsid_listed(row->fsid, row->fsid_count, &identity->fsid[i])) {
            row->fsid[row->fsid_count++] = identity->fsid[i];
            changed = TRUE;
        }
    }
    guint32 flags = (row->flags & QIDMAP_IDENTITY_DUPLICATE) | identity->flags;
    if (row->flags != flags) {
        row->flags = flags;
        changed = TRUE;
    }
    if (take_hints(&row->hints, &identity->hints))
        changed = TRUE;
    if (fresh || now - row->hints.last_seen >= 86400 || now < row->hints.last_seen)
        changed = TRUE;
    if (changed)
        row->hints.last_seen = now;
    return changed;
}
