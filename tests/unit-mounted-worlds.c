/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever is cloned, swapped, moved, mounted, unmounted, remounted and rebooted, two
 * filesystems that are live together never share a row, and a filesystem that anything tells apart
 * keeps its row: by its marker where it could be written, else by its device; in every order, and
 * cut short between any two of the steps in which markers are written.
 *
 * The oracle is a world in small: images of filesystems, with what a disk remembers of them, that
 * are changed at random; a server that registers what is mounted; and a list of who had which row.
 */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "store/qidmap.h"
#include "store/resolve.h"
#include "store/store.h"
#include "tests/lib/marked.h"
#include "tests/lib/store-fixture.h"

#define IMAGES 8
#define SUBS   3
#define PATHS  10

/* What is on a disk: one filesystem, or the subvolumes of one. */
struct sub {
    guint8 marker[16]; /* that of the image */
    guint32 row;       /* that it had last, or 0 */
    guint32 seen_path; /* path of the image when it was last registered */
};

struct image {
    gboolean exists, writable, weak;
    guint8 uuid;
    guint path; /* where its file is */
    guint subs; /* 0: no subvolumes, one filesystem */
    struct sub sub[SUBS];
    /* while mounted */
    guint minor; /* 0: not mounted */
    guint places[2], n_places;
};

struct world {
    GRand *rand;
    qidmap_store *store;
    struct image image[IMAGES];
    guint8 next_uuid;
    guint next_minor, next_marker;
    gboolean stopped; /* in the middle of writing markers */
    guint32 steps, kept, marked, stops;
};

static struct world *the_world; /* of the fakes */

static guint pick(struct world *w, guint n)
{
    return (guint)g_rand_int_range(w->rand, 0, (gint32)n);
}

static guint subs_of(const struct image *im)
{
    return MAX(im->subs, 1);
}

static gboolean path_used(const struct world *w, guint path)
{
    for (guint i = 0; i < IMAGES; i++) {
        if (w->image[i].exists && w->image[i].path == path)
            return TRUE;
    }
    return FALSE;
}

static void backing_name(char *out, gsize size, guint path)
{
    g_snprintf(out, size, "/img/%u", path);
}

static gboolean fake_present(const struct qidmap_hints *old, const struct qidmap_hints *now)
{
    unsigned path;

    return sscanf(old->backing, "/img/%u", &path) == 1 && strcmp(old->backing, now->backing) != 0 &&
           path_used(the_world, path);
}

static const guint8 zero[16];

/* Descriptors are numbers of image and subvolume. Now and then the disk says no; or the server is
 * stopped just behind the writing, and starts again. */
static int fake_mark(int fd, struct qidmap_identity *id, struct qidmap_error *error)
{
    struct world *w = the_world;
    struct image *im = &w->image[(fd - 1000) / SUBS];
    struct sub *sub = &im->sub[(fd - 1000) % SUBS];
    guint luck = pick(w, 20);

    error->code = 0;
    g_assert_true(im->exists && im->writable && im->minor != 0);
    if (w->stopped)
        return -EIO;
    if (luck == 0)
        return -EOPNOTSUPP;
    w->next_marker++;
    for (guint s = 0; s < SUBS; s++) { /* it is on the root, and all show it */
        memset(im->sub[s].marker, 0, 16);
        memcpy(im->sub[s].marker, &w->next_marker, sizeof w->next_marker);
    }
    if (luck == 1) {
        w->stopped = TRUE;
        w->stops++;
        return -EIO;
    }
    set_marker(id, sub->marker);
    w->marked++;
    return 0;
}

static const struct qm_outside fakes = {fake_mark, fake_present};

static void identify(const struct image *im, guint image, guint sub, guint place,
                     struct qidmap_mounted *m)
{
    struct qidmap_identity *id = &m->identity;

    memset(m, 0, sizeof *m);
    m->fd = (int)(1000 + image * SUBS + sub);
    id->size = sizeof *id;
    id->policy = QIDMAP_POLICY_AFFIX;
    id->count = 1;
    id->superblock = (guint64)7 << 32 | im->minor;
    id->hints.st_dev = id->superblock;
    id->flags = im->writable ? 0 : QIDMAP_IDENTITY_READONLY;
    g_snprintf(id->hints.mount_path, sizeof id->hints.mount_path, "/srv/%u", place);
    strcpy(id->hints.type, im->weak ? "fuse.x" : im->subs != 0 ? "btrfs" : "ext4");
    if (im->weak) {
        id->fsid[0].kind = QIDMAP_FSID_WEAK;
        id->fsid[0].size = 16;
        memset(id->fsid[0].bytes, (int)place + 1, 16);
        id->flags |= QIDMAP_IDENTITY_WEAK;
        strcpy(id->hints.source, "x");
    } else {
        id->fsid[0].kind = im->subs != 0 ? QIDMAP_FSID_BTRFS : QIDMAP_FSID_UUID;
        id->fsid[0].size = im->subs != 0 ? 32 : 16;
        memset(id->fsid[0].bytes, im->uuid, 16);
        if (im->subs != 0)
            memset(id->fsid[0].bytes + 16, (int)sub + 1, 16);
        g_snprintf(id->hints.source, sizeof id->hints.source, "/dev/loop%u", im->minor);
        backing_name(id->hints.backing, sizeof id->hints.backing, im->path);
    }
    if (memcmp(im->sub[sub].marker, zero, 16) != 0)
        set_marker(id, im->sub[sub].marker);
}

/* ---- what must hold -------------------------------------------------------------------------- */

/* No other row, and nothing else that had a row, has this marker; and its row knows it. */
static gboolean marker_tells(struct world *w, const struct image *im, const struct sub *sub)
{
    gboolean own = FALSE, other = FALSE;

    if (memcmp(sub->marker, zero, 16) == 0)
        return FALSE;
    for (guint i = 0; i < w->store->map.list->len; i++) {
        const struct qm_fs *fs = g_ptr_array_index(w->store->map.list, i);
        if (memcmp(fs->row.hints.marker, sub->marker, 16) != 0)
            continue;
        gboolean part = FALSE;
        for (guint s = 0; s < subs_of(im); s++)
            part = part || fs->number == im->sub[s].row;
        if (fs->number == sub->row)
            own = !fs->row.marker_open;
        else if (!part)
            other = TRUE;
    }
    for (guint i = 0; i < IMAGES; i++) {
        for (guint s = 0; w->image[i].exists && s < subs_of(&w->image[i]); s++) {
            const struct sub *x = &w->image[i].sub[s];
            if (&w->image[i] != im && x->row != 0 && memcmp(x->marker, sub->marker, 16) == 0)
                other = TRUE;
        }
    }
    return own && !other;
}

/* A filesystem that had a row must have it again. */
static gboolean must_keep(struct world *w, const struct image *im, guint s)
{
    const struct sub *sub = &im->sub[s];
    struct qidmap_fs row = {.size = sizeof row};

    if (sub->row == 0)
        return FALSE;
    if (marker_tells(w, im, sub))
        return TRUE;
    if (im->weak) /* by its place; another one may have been there */
        return FALSE;
    if (sub->seen_path == im->path)
        return TRUE;
    g_assert_cmpint(qm_store_fs_get(w->store, sub->row, &row), ==, 0);
    if (qm_fsindex_find(&w->store->map.index, &row.fsid[0])->len > 1) /* a copy was seen */
        return FALSE;
    return !(row.flags & QIDMAP_IDENTITY_DUPLICATE) && !row.marker_open &&
           !path_used(w, sub->seen_path) && memcmp(sub->marker, row.hints.marker, 16) == 0;
}

/* ---- the server ------------------------------------------------------------------------------ */

struct batch {
    struct qidmap_mounted m[IMAGES * SUBS * 2];
    guint image[IMAGES * SUBS * 2], sub[IMAGES * SUBS * 2];
    guint n;
};

static void batch_add(struct world *w, struct batch *b, guint image)
{
    struct image *im = &w->image[image];

    for (guint s = 0; s < subs_of(im); s++) {
        for (guint p = 0; p < im->n_places; p++) {
            identify(im, image, s, im->places[p], &b->m[b->n]);
            b->image[b->n] = image;
            b->sub[b->n++] = s;
        }
    }
}

static void shuffle(struct world *w, struct batch *b)
{
    for (guint i = b->n; i > 1; i--) {
        guint k = pick(w, i), image = b->image[i - 1], sub = b->sub[i - 1];
        struct qidmap_mounted m = b->m[i - 1];
        b->m[i - 1] = b->m[k];
        b->image[i - 1] = b->image[k];
        b->sub[i - 1] = b->sub[k];
        b->m[k] = m;
        b->image[k] = image;
        b->sub[k] = sub;
    }
}

static guint list_live(struct world *w, const struct batch *new, struct qidmap_live *live)
{
    guint n = 0;

    for (guint i = 0; i < IMAGES; i++) {
        gboolean is_new = FALSE;
        for (guint k = 0; new != NULL &&k < new->n; k++)
            is_new = is_new || new->image[k] == i;
        for (guint s = 0;
             !is_new && w->image[i].exists && w->image[i].minor != 0 && s < subs_of(&w->image[i]);
             s++)
            live[n++] = (struct qidmap_live){w->image[i].sub[s].row, 0,
                                             (guint64)7 << 32 | w->image[i].minor};
    }
    return n;
}

static void check_live(struct world *w)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < IMAGES; i++) {
        for (guint s = 0; w->image[i].exists && w->image[i].minor != 0 && s < subs_of(&w->image[i]);
             s++) {
            g_assert_cmpuint(w->image[i].sub[s].row, !=, 0);
            g_assert_true(g_hash_table_add(seen, GUINT_TO_POINTER((guint)w->image[i].sub[s].row)));
        }
    }
}

/* What there is to know about a failure. */
static void tell_all(struct world *w, const struct batch *b, guint k)
{
    g_printerr("image %u subvolume %u has row %u, had %u; batch of %u\n", b->image[k], b->sub[k],
               b->m[k].fs, w->image[b->image[k]].sub[b->sub[k]].row, b->n);
    for (guint i = 0; i < IMAGES; i++) {
        const struct image *im = &w->image[i];
        for (guint s = 0; im->exists && s < subs_of(im); s++)
            g_printerr("image %u.%u uuid %u%s%s path %u seen %u minor %u row %u marker %u\n", i, s,
                       im->uuid, im->weak ? " weak" : "", im->writable ? "" : " ro", im->path,
                       im->sub[s].seen_path, im->minor, im->sub[s].row,
                       *(const guint *)im->sub[s].marker);
    }
    for (guint i = 0; i < w->store->map.list->len; i++) {
        const struct qidmap_fs *row =
            &((const struct qm_fs *)g_ptr_array_index(w->store->map.list, i))->row;
        g_printerr("row %u: uuid %u marker %u backing %s at %s flags %u\n", row->fs,
                   row->fsid[0].bytes[0], *(const guint *)row->hints.marker, row->hints.backing,
                   row->hints.mount_path, row->flags);
    }
}

static void start_again(struct world *w);

static void call(struct world *w, struct batch *b, const struct qidmap_live *live, guint n_live)
{
    struct qidmap_register_options o = {
        .size = sizeof o, .markers = 1, .live = live, .n_live = n_live};
    g_autofree gboolean *keep = g_new0(gboolean, b->n + 1);
    GError *error = NULL;

    for (guint k = 0; k < b->n; k++)
        keep[k] = must_keep(w, &w->image[b->image[k]], b->sub[k]);
    the_world = w;
    if (qm_store_register_mounted(w->store, b->m, b->n, &o, &fakes, &error) != 0)
        g_error("%s", error->message);
    for (guint k = 0; k < b->n; k++) {
        struct image *im = &w->image[b->image[k]];
        struct sub *sub = &im->sub[b->sub[k]];
        if (keep[k]) {
            if (b->m[k].fs != sub->row)
                tell_all(w, b, k);
            g_assert_cmpuint(b->m[k].fs, ==, sub->row);
            w->kept++;
        }
        g_assert_cmpint(b->m[k].result, ==, 0);
    }
    for (guint k = 0; k < b->n; k++) {
        struct sub *sub = &w->image[b->image[k]].sub[b->sub[k]];
        sub->row = b->m[k].fs;
        sub->seen_path = w->image[b->image[k]].path;
    }
    check_live(w);
    if (w->stopped)
        start_again(w);
}

static void start_again(struct world *w)
{
    g_autofree struct batch *all = g_new0(struct batch, 1);

    w->stopped = FALSE;
    for (guint i = 0; i < IMAGES; i++) {
        if (w->image[i].exists && w->image[i].minor != 0)
            batch_add(w, all, i);
    }
    shuffle(w, all);
    call(w, all, NULL, 0);
}

/* Registers what is new, then gives those again that turned out to have a double. */
static void serve(struct world *w, struct batch *b, gboolean all)
{
    struct qidmap_live live[IMAGES * SUBS];
    gboolean again[IMAGES] = {FALSE};

    shuffle(w, b);
    call(w, b, live, all ? 0 : list_live(w, b, live));
    for (guint k = 0; k < b->n; k++) {
        for (guint i = 0; (b->m[k].flags & QIDMAP_MOUNTED_DUPLICATE) && i < IMAGES; i++) {
            for (guint s = 0; w->image[i].exists && w->image[i].minor != 0 &&
                              s < subs_of(&w->image[i]) && b->m[k].other != 0;
                 s++)
                again[i] = again[i] || w->image[i].sub[s].row == b->m[k].other;
        }
    }
    for (guint i = 0; i < IMAGES; i++) {
        g_autofree struct batch *one = g_new0(struct batch, 1);
        if (!again[i] || pick(w, 10) == 0) /* or the server was stopped before */
            continue;
        batch_add(w, one, i);
        call(w, one, live, list_live(w, NULL, live));
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

static gboolean is_fresh(const struct image *im)
{
    for (guint s = 0; s < subs_of(im); s++) {
        if (im->sub[s].row != 0)
            return FALSE;
    }
    return TRUE;
}

/* A copy that was never seen may come when those of its uuid are live: alone it could be the
 * original, moved. (Or in one batch with them where they were, when `batch`.) */
static gboolean may_come(struct world *w, guint image, gboolean batch)
{
    const struct image *im = &w->image[image];

    if (im->weak)
        return TRUE;
    for (guint i = 0; i < IMAGES; i++) {
        const struct image *x = &w->image[i];
        if (i == image || !x->exists || x->weak || x->uuid != im->uuid || is_fresh(x))
            continue;
        for (guint s = 0; s < MAX(subs_of(im), subs_of(x)); s++) {
            gboolean fresh = s < subs_of(im) && im->sub[s].row == 0;
            if (fresh && (x->minor == 0 || (batch && x->sub[0].seen_path != x->path)))
                return FALSE;
        }
    }
    return TRUE;
}

static guint free_path(struct world *w)
{
    guint path;

    do
        path = pick(w, 2 * IMAGES);
    while (path_used(w, path));
    return path;
}

static guint free_place(struct world *w)
{
    for (;;) {
        guint place = pick(w, PATHS);
        gboolean used = FALSE;
        for (guint i = 0; i < IMAGES; i++) {
            for (guint p = 0; w->image[i].minor != 0 && p < w->image[i].n_places; p++)
                used = used || w->image[i].places[p] == place;
        }
        if (!used)
            return place;
    }
}

static void attach(struct world *w, struct image *im)
{
    guint place = free_place(w);

    im->n_places = 1;
    im->places[0] = place;
    im->minor = ++w->next_minor;
    if (!im->weak && pick(w, 5) == 0 && w->next_minor % 3 == 0) {
        guint live = 0;
        for (guint i = 0; i < IMAGES; i++)
            live += w->image[i].minor != 0 ? w->image[i].n_places : 0;
        if (live < PATHS - 1) {
            im->places[1] = free_place(w);
            im->n_places = 2;
        }
    }
}

static guint mounted_places(const struct world *w)
{
    guint n = 0;

    for (guint i = 0; i < IMAGES; i++)
        n += w->image[i].minor != 0 ? w->image[i].n_places : 0;
    return n;
}

static void make_image(struct world *w, guint slot)
{
    struct image *im = &w->image[slot];

    memset(im, 0, sizeof *im);
    im->path = free_path(w);
    im->exists = TRUE;
    im->uuid = ++w->next_uuid;
    im->writable = pick(w, 4) != 0;
    im->weak = pick(w, 6) == 0;
    im->subs = !im->weak && pick(w, 3) == 0 ? 1 + pick(w, SUBS) : 0;
    if (im->weak)
        im->writable = TRUE;
}

static void clone_image(struct world *w, guint slot, const struct image *from)
{
    struct image *im = &w->image[slot];
    guint path = free_path(w);

    *im = *from;
    im->path = path;
    im->minor = 0;
    for (guint s = 0; s < SUBS; s++)
        im->sub[s].row = 0;
    im->writable = pick(w, 4) != 0;
}

static void mount_some(struct world *w, guint limit, gboolean all)
{
    g_autofree struct batch *b = g_new0(struct batch, 1);
    guint chosen[IMAGES], n = 0;

    for (guint i = 0; i < IMAGES && n < limit; i++) {
        guint k = pick(w, IMAGES);
        struct image *im = &w->image[k];
        if (!im->exists || im->minor != 0 || mounted_places(w) >= PATHS - 1)
            continue;
        attach(w, im);
        chosen[n++] = k;
    }
    for (gboolean changed = TRUE; changed;) { /* until nobody is left who must not come */
        changed = FALSE;
        for (guint i = 0; i < n; i++) {
            if (chosen[i] == IMAGES || may_come(w, chosen[i], TRUE))
                continue;
            w->image[chosen[i]].minor = 0;
            chosen[i] = IMAGES;
            changed = TRUE;
        }
    }
    for (guint i = 0; i < n; i++) {
        if (chosen[i] != IMAGES)
            batch_add(w, b, chosen[i]);
    }
    if (all) {
        memset(b, 0, sizeof *b);
        for (guint i = 0; i < IMAGES; i++) {
            if (w->image[i].exists && w->image[i].minor != 0)
                batch_add(w, b, i);
        }
    }
    if (b->n > 0)
        serve(w, b, all);
}

static void reboot(struct world *w)
{
    for (guint i = 0; i < IMAGES; i++) {
        w->image[i].minor = 0;
        if (w->image[i].exists && !w->image[i].weak && pick(w, 6) == 0)
            w->image[i].writable = !w->image[i].writable;
    }
    w->next_minor = pick(w, 50);
    mount_some(w, 1 + pick(w, IMAGES), TRUE);
}

static void step(struct world *w)
{
    guint a = pick(w, IMAGES), c = pick(w, IMAGES), path;
    struct image *x = &w->image[a], *y = &w->image[c];
    g_autofree struct batch *b = g_new0(struct batch, 1);

    w->steps++;
    switch (pick(w, 12)) {
    case 0:
        if (!x->exists && w->next_uuid < 250)
            make_image(w, a);
        break;
    case 1: /* dd; of a mounted one, too */
    case 2:
        if (!x->exists && y->exists && !y->weak)
            clone_image(w, a, y);
        break;
    case 3:
        if (x->exists && x->minor == 0 && pick(w, 4) == 0)
            x->exists = FALSE;
        break;
    case 4: /* files change places */
        if (x->exists && y->exists && x->minor == 0 && y->minor == 0) {
            path = x->path;
            x->path = y->path;
            y->path = path;
        }
        break;
    case 5:
        if (x->exists && x->minor == 0)
            x->path = free_path(w);
        break;
    case 6:
        if (x->exists && x->minor != 0)
            x->minor = 0;
        break;
    case 7: /* a snapshot */
        if (x->exists && x->minor != 0 && x->subs > 0 && x->subs < SUBS && x->n_places == 1) {
            for (guint i = 0; i < IMAGES; i++) { /* a new subvolume has a new uuid: no copies */
                if (i != a && w->image[i].exists && w->image[i].uuid == x->uuid)
                    return;
            }
            memset(&x->sub[x->subs], 0, sizeof x->sub[0]);
            memcpy(x->sub[x->subs].marker, x->sub[0].marker, 16);
            x->subs++;
            batch_add(w, b, a);
            /* The others are live; only the new one is given. */
            b->m[0] = b->m[b->n - 1];
            b->image[0] = a;
            b->sub[0] = x->subs - 1;
            b->n = 1;
            struct qidmap_live live[IMAGES * SUBS];
            guint n = list_live(w, b, live);
            for (guint s = 0; s + 1 < x->subs; s++)
                live[n++] = (struct qidmap_live){x->sub[s].row, 0, (guint64)7 << 32 | x->minor};
            call(w, b, live, n);
        }
        break;
    case 8: /* the server is started again */
        mount_some(w, 0, TRUE);
        break;
    case 9:
        if (pick(w, 3) == 0)
            reboot(w);
        break;
    default:
        mount_some(w, 1 + pick(w, 3), FALSE);
        break;
    }
}

static void run_world(guint32 seed, guint steps, guint32 *kept, guint32 *marked, guint32 *stops)
{
    struct world w = {.rand = g_rand_new_with_seed(seed)};

    w.store = fixture_open("memory:", FIXTURE_WRITE, 0);
    g_test_message("seed %u", seed);
    while (w.steps < steps)
        step(&w);
    qidmap_store_close(w.store);
    g_rand_free(w.rand);
    *kept += w.kept;
    *marked += w.marked;
    *stops += w.stops;
}

static void test_worlds(void)
{
    guint32 kept = 0, marked = 0, stops = 0;

    for (guint32 seed = 1; seed <= (g_test_slow() ? 2000 : 200); seed++)
        run_world(seed, 250, &kept, &marked, &stops);
    g_test_message("%u rows kept, %u markers written", kept, marked);
    g_assert_cmpuint(kept, >, 20000); /* the oracle had something to say */
    g_assert_cmpuint(marked, >, 500);
    g_assert_cmpuint(stops, >, 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mounted/worlds", test_worlds);
    return g_test_run();
}
