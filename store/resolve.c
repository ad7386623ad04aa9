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
 *      where device numbers are made up, one subvolume or one such number.
 *   2. Candidates of a filesystem: the rows, not retired, that share an identity with it. A row
 * whose override or subvolume is another one is no candidate. Candidates that have no identity in
 *      common among them were two filesystems, and which one this is cannot be told: none is taken,
 *      unless one alone has all the identities.
 *   3. What the operator's override says holds. A lone claimant of a lone row, never split, takes
 * it, even where its hints differ: disks and image files move. But not where the marker differs,
 * nor where the device or file of the row is still there and is another one: then this is a copy.
 *   4. Otherwise discriminators decide, strongest first: marker; loop backing file, dm uuid or
 * wwid, with the partition; partition uuid; source with mount path. A row is taken where the
 *      strongest discriminator known on both sides fits and none of the first three contradicts. A
 *      value that two claimants, or two candidate rows, have in common tells nothing and is passed
 *      over. Best fits go first, over all filesystems at once, so that the order of the input,
 * which is the order of mounting, has no say.
 *   5. Whoever is left gets a new row; these are ranked by identity and stable hints.
 *
 * What follows for two clones A and B: mounted together at any time, each keeps its row for ever,
 * in any order and at any mount path, also when only one of them comes back. B alone, when only A
 * has a row so far, gets a row of its own while A's device is within sight. When it is not, B is
 * indistinguishable from A moved, and takes A's row; should both be live later, they are told apart
 * from then on: the row stays with the one it was last seen with, and the other gets a new one.
 *
 * Ephemeral filesystems have an exact identity, and only step 2 matters to them.
 */
#include "config.h"

#include "store/resolve.h"

#include <string.h>

#include "store/hints.h"

enum level { LEVEL_MARKER, LEVEL_DEVICE, LEVEL_PARTITION, LEVEL_NAMES, LEVELS };

enum match { MATCH_UNKNOWN, MATCH_FITS, MATCH_DIFFERS };

/* One filesystem: the identities that show it. */
struct claim {
    guint first;       /* of the group: index of the identity that speaks for it */
    GArray *members;   /* guint, indices of identities */
    GArray *rows;      /* guint, indices of candidates */
    gboolean split;    /* shares an identity with a row or claim that is another filesystem */
    gint row;          /* taken, or -1 */
    gboolean hopeless; /* gets a new row whatever its candidates are */
};

struct pair {
    guint claim;
    guint row;
    enum level level; /* of the strongest discriminator that fits */
};

struct context {
    const struct qidmap_fs *const *rows;
    size_t n_rows;
    const struct qidmap_identity *identities;
    size_t count;
    GArray *claims; /* struct claim */
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

static gboolean has_fsid(const struct qidmap_fsid *list, guint32 count,
                         const struct qidmap_fsid *fsid)
{
    for (guint32 i = 0; i < MIN(count, QIDMAP_FSID_COUNT); i++) {
        if (compare_fsid(&list[i], fsid) == 0)
            return TRUE;
    }
    return FALSE;
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
        if (a[i].kind == kind && has_fsid(b, b_count, &a[i]))
            return FALSE;
    }
    return TRUE;
}

static gboolean shares_fsid(const struct qidmap_fsid *a, guint32 a_count,
                            const struct qidmap_fsid *b, guint32 b_count)
{
    for (guint32 i = 0; i < MIN(a_count, QIDMAP_FSID_COUNT); i++) {
        if (has_fsid(b, b_count, &a[i]))
            return TRUE;
    }
    return FALSE;
}

/* One filesystem? An equivalence: superblocks are equal, and so is what divides one. */
static gboolean same_filesystem(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    static const guint32 dividing[] = {QIDMAP_FSID_BTRFS, QIDMAP_FSID_EPHEMERAL};

    if (a->superblock != b->superblock)
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(dividing); i++) {
        const struct qidmap_fsid *x = of_kind(a->fsid, a->count, dividing[i]);
        const struct qidmap_fsid *y = of_kind(b->fsid, b->count, dividing[i]);
        if ((x == NULL) != (y == NULL) || (x != NULL && compare_fsid(x, y) != 0))
            return FALSE;
    }
    return TRUE;
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
    if ((c = strcmp(x->part_uuid, y->part_uuid)) != 0 ||
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
        return match_if(memcmp(a->marker, b->marker, sizeof a->marker) == 0);
    case LEVEL_DEVICE:
        if (!has_device(a) || !has_device(b))
            return MATCH_UNKNOWN;
        if (a->partition != b->partition)
            return MATCH_DIFFERS;
        /* Of the three names of a device the first that one side has counts. */
        if (a->backing[0] != '\0' || b->backing[0] != '\0')
            return match_if(strcmp(a->backing, b->backing) == 0);
        if (a->dm_uuid[0] != '\0' || b->dm_uuid[0] != '\0')
            return match_if(strcmp(a->dm_uuid, b->dm_uuid) == 0);
        return match_if(strcmp(a->wwid, b->wwid) == 0);
    case LEVEL_PARTITION:
        if (a->part_uuid[0] == '\0' || b->part_uuid[0] == '\0')
            return MATCH_UNKNOWN;
        return match_if(strcmp(a->part_uuid, b->part_uuid) == 0);
    case LEVEL_NAMES:
    default:
        if (a->mount_path[0] == '\0' || b->mount_path[0] == '\0')
            return MATCH_UNKNOWN;
        return match_if(strcmp(a->source, b->source) == 0 &&
                        strcmp(a->mount_path, b->mount_path) == 0);
    }
}

/* The members of a claim differ in their mount path alone: one that fits is enough. */
static enum match match_claim(const struct context *ctx, const struct claim *claim,
                              const struct qidmap_hints *hints, enum level level)
{
    enum match result = MATCH_UNKNOWN;

    for (guint i = 0; i < claim->members->len; i++) {
        guint m = g_array_index(claim->members, guint, i);
        enum match match = compare_level(&ctx->identities[m].hints, hints, level);
        if (match == MATCH_FITS)
            return match;
        if (match == MATCH_DIFFERS)
            result = match;
    }
    return result;
}

static gboolean has_row(const struct claim *claim, guint row)
{
    for (guint i = 0; i < claim->rows->len; i++) {
        if (g_array_index(claim->rows, guint, i) == row)
            return TRUE;
    }
    return FALSE;
}

/* Another claimant of the row, or another candidate of the claim, has the same value: it tells
 * nothing. */
static gboolean is_shared(const struct context *ctx, guint claim_index, guint row, enum level level)
{
    const struct claim *claim = &g_array_index(ctx->claims, struct claim, claim_index);

    for (guint i = 0; i < ctx->claims->len; i++) {
        const struct claim *other = &g_array_index(ctx->claims, struct claim, i);
        if (i != claim_index && has_row(other, row) &&
            match_claim(ctx, other, &ctx->rows[row]->hints, level) == MATCH_FITS)
            return TRUE;
    }
    for (guint i = 0; i < claim->rows->len; i++) {
        guint other = g_array_index(claim->rows, guint, i);
        if (other != row && match_claim(ctx, claim, &ctx->rows[other]->hints, level) == MATCH_FITS)
            return TRUE;
    }
    return FALSE;
}

/* Whether the claim may have the row, and by which discriminator. */
static gboolean fits(const struct context *ctx, guint claim_index, guint row, enum level *level)
{
    const struct claim *claim = &g_array_index(ctx->claims, struct claim, claim_index);
    const struct qidmap_hints *hints = &ctx->rows[row]->hints;
    gint best = -1;

    for (enum level l = LEVEL_MARKER; l < LEVELS; l++) {
        enum match match = match_claim(ctx, claim, hints, l);
        if (match == MATCH_UNKNOWN || (match == MATCH_FITS && is_shared(ctx, claim_index, row, l)))
            continue;
        if (match == MATCH_DIFFERS) {
            if (best < 0 || l < LEVEL_NAMES)
                return FALSE;
            continue; /* moved to another place, but known by more than its place */
        }
        if (best < 0)
            best = (gint)l;
    }
    if (best < 0)
        return FALSE;
    *level = (enum level)best;
    return TRUE;
}

/* ---- the steps ------------------------------------------------------------------------------- */

static void claim_clear(gpointer data)
{
    struct claim *claim = data;
    g_array_unref(claim->members);
    g_array_unref(claim->rows);
}

/* Step 1. */
static void group(struct context *ctx)
{
    for (guint i = 0; i < ctx->count; i++) {
        struct claim *home = NULL;
        for (guint c = 0; c < ctx->claims->len && home == NULL; c++) {
            struct claim *claim = &g_array_index(ctx->claims, struct claim, c);
            if (same_filesystem(&ctx->identities[claim->first], &ctx->identities[i]))
                home = claim;
        }
        if (home == NULL) {
            struct claim claim = {.first = i, .row = -1};
            claim.members = g_array_new(FALSE, FALSE, sizeof(guint));
            claim.rows = g_array_new(FALSE, FALSE, sizeof(guint));
            g_array_append_val(ctx->claims, claim);
            home = &g_array_index(ctx->claims, struct claim, ctx->claims->len - 1);
        }
        g_array_append_val(home->members, i);
    }
}

static gboolean claim_matches_row(const struct context *ctx, const struct claim *claim,
                                  const struct qidmap_fs *row)
{
    gboolean shares = FALSE;

    for (guint i = 0; i < claim->members->len; i++) {
        const struct qidmap_identity *id =
            &ctx->identities[g_array_index(claim->members, guint, i)];
        if (kind_differs(id->fsid, id->count, row->fsid, row->fsid_count, QIDMAP_FSID_OVERRIDE) ||
            kind_differs(id->fsid, id->count, row->fsid, row->fsid_count, QIDMAP_FSID_BTRFS))
            return FALSE;
        shares = shares || shares_fsid(id->fsid, id->count, row->fsid, row->fsid_count);
    }
    return shares;
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
                const struct qidmap_fs *row = ctx->rows[g_array_index(claim->rows, guint, r)];
                all = has_fsid(row->fsid, row->fsid_count, &id->fsid[k]);
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
            if (!has_fsid(row->fsid, row->fsid_count, &id->fsid[k]))
                return FALSE;
        }
    }
    return TRUE;
}

/* Step 2. */
static void find_candidates(struct context *ctx, struct claim *claim)
{
    for (guint r = 0; r < ctx->n_rows; r++) {
        if (!ctx->rows[r]->retired && claim_matches_row(ctx, claim, ctx->rows[r]))
            g_array_append_val(claim->rows, r);
    }
    if (claim->rows->len < 2 || have_common(ctx, claim))
        return;
    claim->split = TRUE;
    for (guint i = claim->rows->len; i-- > 0;) {
        if (!has_every(ctx, claim, ctx->rows[g_array_index(claim->rows, guint, i)]))
            g_array_remove_index(claim->rows, i);
    }
    claim->hopeless = claim->rows->len == 0;
}

/* Another row, not retired, shares an identity with this one. */
static gboolean is_split_row(const struct context *ctx, guint row)
{
    const struct qidmap_fs *a = ctx->rows[row];

    if (a->flags & QIDMAP_IDENTITY_DUPLICATE)
        return TRUE;
    for (guint r = 0; r < ctx->n_rows; r++) {
        const struct qidmap_fs *b = ctx->rows[r];
        if (r != row && !b->retired && shares_fsid(a->fsid, a->fsid_count, b->fsid, b->fsid_count))
            return TRUE;
    }
    return FALSE;
}

static guint count_claimants(const struct context *ctx, guint row)
{
    guint n = 0;

    for (guint i = 0; i < ctx->claims->len; i++)
        n += has_row(&g_array_index(ctx->claims, struct claim, i), row);
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
                has_fsid(r->fsid, r->fsid_count, &id->fsid[k]))
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
        guint r = g_array_index(claim->rows, guint, i);
        if (shares_override(ctx, claim, r)) {
            row = r;
            rows++;
        }
    }
    for (guint i = 0; rows == 1 && i < ctx->claims->len; i++) {
        const struct claim *other = &g_array_index(ctx->claims, struct claim, i);
        claimants += has_row(other, row) && shares_override(ctx, other, row);
    }
    if (rows != 1 || claimants != 1)
        return FALSE;
    claim->row = (gint)row;
    return TRUE;
}

/* Step 3. TRUE when the claim was a lone one on a lone row, and so is decided. */
static gboolean decide_lone(const struct context *ctx, struct claim *claim,
                            qm_device_present present)
{
    if (claim->rows->len != 1)
        return FALSE;
    guint row = g_array_index(claim->rows, guint, 0);
    const struct qidmap_hints *old = &ctx->rows[row]->hints;
    const struct qidmap_hints *now = &ctx->identities[claim->first].hints;
    if (of_kind(ctx->identities[claim->first].fsid, ctx->identities[claim->first].count,
                QIDMAP_FSID_EPHEMERAL) != NULL) {
        claim->row = (gint)row;
        return TRUE;
    }
    if (count_claimants(ctx, row) != 1 || is_split_row(ctx, row))
        return FALSE;
    if (compare_level(old, now, LEVEL_MARKER) == MATCH_DIFFERS)
        return TRUE;
    if (compare_level(old, now, LEVEL_DEVICE) == MATCH_DIFFERS &&
        compare_level(old, now, LEVEL_MARKER) != MATCH_FITS && present(old, now))
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
    return compare_identities(
        &ctx->identities[g_array_index(ctx->claims, struct claim, x->claim).first],
        &ctx->identities[g_array_index(ctx->claims, struct claim, y->claim).first]);
}

/* Step 4. `decided[i]`: step 3 has settled claim i. */
static void assign(struct context *ctx, const gboolean *decided)
{
    g_autoptr(GArray) pairs = g_array_new(FALSE, FALSE, sizeof(struct pair));
    g_autofree gboolean *taken = g_new0(gboolean, ctx->n_rows + 1);

    for (guint c = 0; c < ctx->claims->len; c++) {
        const struct claim *claim = &g_array_index(ctx->claims, struct claim, c);
        if (claim->row >= 0)
            taken[claim->row] = TRUE;
        for (guint i = 0; !decided[c] && i < claim->rows->len; i++) {
            struct pair pair = {.claim = c, .row = g_array_index(claim->rows, guint, i)};
            if (fits(ctx, c, pair.row, &pair.level))
                g_array_append_val(pairs, pair);
        }
    }
    g_array_sort_with_data(pairs, compare_pairs, ctx);
    for (guint i = 0; i < pairs->len; i++) {
        const struct pair *pair = &g_array_index(pairs, struct pair, i);
        struct claim *claim = &g_array_index(ctx->claims, struct claim, pair->claim);
        if (claim->row < 0 && !taken[pair->row]) {
            claim->row = (gint)pair->row;
            taken[pair->row] = TRUE;
        }
    }
}

/* Whether the filesystem has a double: another live one, or a row that is not its own. */
static gboolean has_double(const struct context *ctx, const struct claim *claim)
{
    const struct qidmap_identity *id = &ctx->identities[claim->first];

    for (guint i = 0; i < ctx->claims->len; i++) {
        const struct claim *other = &g_array_index(ctx->claims, struct claim, i);
        const struct qidmap_identity *b = &ctx->identities[other->first];
        if (other != claim && shares_fsid(id->fsid, id->count, b->fsid, b->count))
            return TRUE;
    }
    for (guint i = 0; i < claim->rows->len; i++) {
        if ((gint)g_array_index(claim->rows, guint, i) != claim->row)
            return TRUE;
    }
    return claim->row >= 0 && is_split_row(ctx, (guint)claim->row);
}

static int compare_claims(gconstpointer a, gconstpointer b, gpointer data)
{
    const struct context *ctx = data;
    return compare_identities(
        &ctx->identities[g_array_index(ctx->claims, struct claim, *(const guint *)a).first],
        &ctx->identities[g_array_index(ctx->claims, struct claim, *(const guint *)b).first]);
}

/* Lets the least member speak for the claim, so that the order of the input does not show. */
static void choose_speaker(const struct context *ctx, struct claim *claim)
{
    for (guint i = 0; i < claim->members->len; i++) {
        guint m = g_array_index(claim->members, guint, i);
        if (compare_identities(&ctx->identities[m], &ctx->identities[claim->first]) < 0)
            claim->first = m;
    }
}

void qm_resolve_with(const struct qidmap_fs *const *rows, size_t n_rows,
                     const struct qidmap_identity *identities, size_t count,
                     qm_device_present present, struct qm_decision *decisions)
{
    g_autoptr(GArray) claims = g_array_new(FALSE, FALSE, sizeof(struct claim));
    g_autoptr(GArray) fresh = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autofree gboolean *decided = g_new0(gboolean, count + 1);
    struct context ctx = {rows, n_rows, identities, count, claims};

    g_array_set_clear_func(claims, claim_clear);
    group(&ctx);
    for (guint c = 0; c < claims->len; c++) {
        choose_speaker(&ctx, &g_array_index(claims, struct claim, c));
        find_candidates(&ctx, &g_array_index(claims, struct claim, c));
    }
    for (guint c = 0; c < claims->len; c++) {
        struct claim *claim = &g_array_index(claims, struct claim, c);
        decided[c] =
            claim->hopeless || decide_override(&ctx, claim) || decide_lone(&ctx, claim, present);
    }
    assign(&ctx, decided);

    for (guint c = 0; c < claims->len; c++) {
        if (g_array_index(claims, struct claim, c).row < 0)
            g_array_append_val(fresh, c);
    }
    g_array_sort_with_data(fresh, compare_claims, &ctx);
    g_autofree guint *rank = g_new0(guint, claims->len + 1);
    for (guint i = 0; i < fresh->len; i++)
        rank[g_array_index(fresh, guint, i)] = i;

    for (guint c = 0; c < claims->len; c++) {
        const struct claim *claim = &g_array_index(claims, struct claim, c);
        gboolean twin = claim->split || has_double(&ctx, claim);
        for (guint i = 0; i < claim->members->len; i++) {
            struct qm_decision *decision = &decisions[g_array_index(claim->members, guint, i)];
            decision->same_as = claim->first;
            decision->fs = claim->row >= 0 ? rows[claim->row]->fs : 0;
            decision->rank = rank[c];
            decision->duplicate = twin;
        }
    }
}

void qm_resolve(const struct qidmap_fs *const *rows, size_t n_rows,
                const struct qidmap_identity *identities, size_t count,
                struct qm_decision *decisions)
{
    qm_resolve_with(rows, n_rows, identities, count, qm_hints_device_present, decisions);
}

/* ---- keeping rows up to date ----------------------------------------------------------------- */

/* Takes a new value that is not empty; TRUE when it differed. */
static gboolean take_string(char *old, const char *now, gsize size)
{
    if (now[0] == '\0' || strcmp(old, now) == 0)
        return FALSE;
    g_strlcpy(old, now, size);
    return TRUE;
}
#define TAKE_STRING(old, now) take_string((old), (now), sizeof(old))

static gboolean take_hints(struct qidmap_hints *old, const struct qidmap_hints *now)
{
    gboolean changed = FALSE;

    /* The names of a device go together: a disk that has become an image has no wwid any more. */
    if (has_device(now) &&
        (old->partition != now->partition || strcmp(old->backing, now->backing) != 0 ||
         strcmp(old->dm_uuid, now->dm_uuid) != 0 || strcmp(old->wwid, now->wwid) != 0)) {
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
            !has_fsid(row->fsid, row->fsid_count, &identity->fsid[i])) {
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
