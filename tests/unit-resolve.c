/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: two filesystems that are live together never share a row, each keeps its row whatever
 * the order of mounting and whoever is missing, and the order of the input changes nothing.
 */
#include "config.h"

#include "store/resolve.h"

#include <string.h>

#include <glib.h>

#define MAX_ROWS 64

/* A store in small: rows, and registration as the store does it. */
struct world {
    struct qidmap_fs rows[MAX_ROWS];
    size_t n_rows;
    gint64 now;
};

/* Names of devices that are within sight, for the question whether a device is still there. */
static const char *present_names[8];

static gboolean present(const struct qidmap_hints *old, const struct qidmap_hints *now)
{
    const char *name = old->backing[0] != '\0'   ? old->backing
                       : old->dm_uuid[0] != '\0' ? old->dm_uuid
                                                 : old->wwid;
    (void)now;
    for (gsize i = 0; i < G_N_ELEMENTS(present_names); i++) {
        if (present_names[i] != NULL && strcmp(present_names[i], name) == 0)
            return TRUE;
    }
    return FALSE;
}

static void set_present(const char *a, const char *b)
{
    memset(present_names, 0, sizeof present_names);
    present_names[0] = a;
    present_names[1] = b;
}

static void decide(const struct world *world, const struct qidmap_identity *ids, size_t count,
                   struct qm_decision *decisions)
{
    const struct qidmap_fs *rows[MAX_ROWS];

    for (size_t i = 0; i < world->n_rows; i++)
        rows[i] = &world->rows[i];
    struct qm_scene scene = {.rows = rows,
                             .n_rows = world->n_rows,
                             .identities = ids,
                             .count = count,
                             .present = present};
    qm_resolve(&scene, decisions);
}

static void enroll(struct world *world, const struct qidmap_identity *ids, size_t count,
                   guint32 *numbers)
{
    struct qm_decision d[8];
    size_t fresh = 0;

    g_assert_cmpuint(count, <=, G_N_ELEMENTS(d));
    world->now++;
    decide(world, ids, count, d);
    for (size_t i = 0; i < count; i++) {
        if (d[i].same_as != i)
            continue;
        gboolean is_new = d[i].fs == 0;
        numbers[i] = is_new ? (guint32)(world->n_rows + d[i].rank + 1) : d[i].fs;
        struct qidmap_fs *row = &world->rows[numbers[i] - 1];
        row->fs = numbers[i];
        if (d[i].duplicate)
            row->flags |= QIDMAP_IDENTITY_DUPLICATE;
        qm_resolve_update(row, &ids[i], is_new, world->now);
        fresh += is_new;
    }
    world->n_rows += fresh;
    for (size_t i = 0; i < count; i++)
        numbers[i] = numbers[d[i].same_as];
}

/* An ext4 on a loop device; `minor` is what changes with the order of mounting. */
static struct qidmap_identity image(guint8 uuid, const char *backing, const char *path, guint minor)
{
    struct qidmap_identity id;

    memset(&id, 0, sizeof id);
    id.size = sizeof id;
    id.policy = QIDMAP_POLICY_AFFIX;
    id.count = 1;
    id.fsid[0].kind = QIDMAP_FSID_UUID;
    id.fsid[0].size = 16;
    memset(id.fsid[0].bytes, uuid, 16);
    id.superblock = (guint64)7 << 32 | minor;
    id.hints.st_dev = id.superblock;
    strcpy(id.hints.type, "ext4");
    g_snprintf(id.hints.source, sizeof id.hints.source, "/dev/loop%u", minor);
    if (backing != NULL)
        strcpy(id.hints.backing, backing);
    strcpy(id.hints.mount_path, path);
    return id;
}

static struct qidmap_identity subvolume(guint8 uuid, guint8 subvol, const char *backing,
                                        guint minor)
{
    struct qidmap_identity id = image(uuid, backing, "/srv/btrfs", minor);

    id.fsid[0].kind = QIDMAP_FSID_BTRFS;
    id.fsid[0].size = 32;
    memset(id.fsid[0].bytes + 16, subvol, 16);
    return id;
}

static void test_both_from_start(void)
{
    struct world w = {.n_rows = 0};
    guint32 first[2], again[2];
    struct qidmap_identity both[] = {image(1, "/img1", "/srv/a", 0),
                                     image(1, "/img2", "/srv/b", 1)};
    set_present("/img1", "/img2");
    enroll(&w, both, 2, first);
    g_assert_cmpuint(first[0], !=, first[1]);
    g_assert_true(w.rows[0].flags & w.rows[1].flags & QIDMAP_IDENTITY_DUPLICATE);

    /* Attached the other way round, and mounted at each other's place. */
    struct qidmap_identity swapped[] = {image(1, "/img2", "/srv/a", 0),
                                        image(1, "/img1", "/srv/b", 1)};
    enroll(&w, swapped, 2, again);
    g_assert_cmpuint(again[0], ==, first[1]);
    g_assert_cmpuint(again[1], ==, first[0]);
    enroll(&w, &swapped[1], 1, again);
    g_assert_cmpuint(again[0], ==, first[0]);
    enroll(&w, &swapped[0], 1, again);
    g_assert_cmpuint(again[0], ==, first[1]);
    g_assert_cmpuint(w.n_rows, ==, 2);
}

static void test_one_later(void)
{
    for (int turn = 0; turn < 2; turn++) {
        struct world w = {.n_rows = 0};
        guint32 a, n[2];
        const char *img1 = turn == 0 ? "/img1" : "/img2", *img2 = turn == 0 ? "/img2" : "/img1";
        struct qidmap_identity one = image(1, img1, "/srv/a", 0);
        set_present("/img1", "/img2");
        enroll(&w, &one, 1, &a);
        struct qidmap_identity both[] = {image(1, img2, "/srv/b", 0), image(1, img1, "/srv/a", 1)};
        enroll(&w, both, 2, n);
        g_assert_cmpuint(n[1], ==, a);
        g_assert_cmpuint(n[0], !=, a);
        guint32 b;
        enroll(&w, &both[0], 1, &b);
        g_assert_cmpuint(b, ==, n[0]);
        g_assert_cmpuint(w.n_rows, ==, 2);
    }
}

/* The copy alone, while the file that the row names is still there: a row of its own. */
static void test_copy_alone(void)
{
    struct world w = {.n_rows = 0};
    guint32 a, b, n[2];
    struct qidmap_identity one = image(1, "/img1", "/srv/a", 0);
    struct qidmap_identity two = image(1, "/img2", "/srv/a", 0);
    set_present("/img1", "/img2");
    enroll(&w, &one, 1, &a);
    enroll(&w, &two, 1, &b);
    g_assert_cmpuint(a, !=, b);
    struct qidmap_identity both[] = {image(1, "/img2", "/x", 4), image(1, "/img1", "/y", 5)};
    enroll(&w, both, 2, n);
    g_assert_cmpuint(n[0], ==, b);
    g_assert_cmpuint(n[1], ==, a);
}

/* The only one there is was moved: to another name, another disk, another port. */
static void test_moved(void)
{
    struct world w = {.n_rows = 0};
    guint32 a, b, n[2];
    struct qidmap_identity before = image(1, "/img1", "/srv/a", 0);
    struct qidmap_identity after = image(1, "/other/img1", "/srv/b", 3);
    set_present("/other/img1", NULL);
    enroll(&w, &before, 1, &a);
    enroll(&w, &after, 1, &b);
    g_assert_cmpuint(a, ==, b);
    g_assert_cmpstr(w.rows[0].hints.backing, ==, "/other/img1");

    /* The file of before comes back beside it: two live ones never share. */
    struct qidmap_identity both[] = {before, after};
    enroll(&w, both, 2, n);
    g_assert_cmpuint(n[1], ==, b);
    g_assert_cmpuint(n[0], !=, b);
}

/* Nothing strong is known: names decide, and a swap of names is no reason to guess. */
static void test_names_only(void)
{
    struct world w = {.n_rows = 0};
    guint32 n[2], again[2];
    struct qidmap_identity both[] = {image(1, NULL, "/srv/a", 0), image(1, NULL, "/srv/b", 1)};
    set_present(NULL, NULL);
    enroll(&w, both, 2, n);
    enroll(&w, both, 2, again);
    g_assert_cmpuint(again[0], ==, n[0]);
    g_assert_cmpuint(again[1], ==, n[1]);
    struct qidmap_identity moved = image(1, NULL, "/srv/c", 0);
    enroll(&w, &moved, 1, again);
    g_assert_cmpuint(again[0], !=, n[0]);
    g_assert_cmpuint(again[0], !=, n[1]);
}

/* A partition uuid that the copies share tells nothing; the disks' names do. */
static void test_shared_discriminator(void)
{
    struct world w = {.n_rows = 0};
    guint32 n[2], again[2];
    struct qidmap_identity both[] = {image(1, NULL, "/srv/a", 0), image(1, NULL, "/srv/b", 1)};
    for (int i = 0; i < 2; i++) {
        strcpy(both[i].hints.part_uuid, "11111111-01");
        both[i].hints.partition = 1;
        strcpy(both[i].hints.wwid, i == 0 ? "disk-x" : "disk-y");
    }
    set_present("disk-x", "disk-y");
    enroll(&w, both, 2, n);
    strcpy(both[0].hints.mount_path, "/srv/b");
    strcpy(both[1].hints.mount_path, "/srv/a");
    both[0].superblock = both[1].superblock + 5;
    enroll(&w, both, 2, again);
    g_assert_cmpuint(again[0], ==, n[0]);
    g_assert_cmpuint(again[1], ==, n[1]);

    /* Without them only the places are left, and these do not fit both. */
    struct qidmap_identity alone = both[0];
    alone.hints.wwid[0] = '\0';
    strcpy(alone.hints.mount_path, "/srv/z");
    enroll(&w, &alone, 1, again);
    g_assert_cmpuint(again[0], !=, n[0]);
    g_assert_cmpuint(again[0], !=, n[1]);
}

static void test_marker(void)
{
    struct world w = {.n_rows = 0};
    guint32 a, n[2];
    struct qidmap_identity one = image(1, "/img1", "/srv/a", 0);
    memset(one.hints.marker, 0xaa, 16);
    set_present(NULL, NULL);
    enroll(&w, &one, 1, &a);

    /* Moved, and a copy in the place where it was: the marker is stronger than the file. */
    struct qidmap_identity both[] = {image(1, "/img1", "/srv/a", 0), image(1, "/img9", "/x", 1)};
    memset(both[0].hints.marker, 0xbb, 16);
    memset(both[1].hints.marker, 0xaa, 16);
    enroll(&w, both, 2, n);
    g_assert_cmpuint(n[1], ==, a);
    g_assert_cmpuint(n[0], !=, a);

    struct world v = {.n_rows = 0};
    enroll(&v, &one, 1, &a);
    struct qidmap_identity moved = image(1, "/img9", "/x", 1);
    memset(moved.hints.marker, 0xaa, 16);
    set_present("/img1", NULL); /* some other file has its name now */
    enroll(&v, &moved, 1, n);
    g_assert_cmpuint(n[0], ==, a);
    memset(moved.hints.marker, 0xcc, 16);
    enroll(&v, &moved, 1, n);
    g_assert_cmpuint(n[0], !=, a);
}

static void test_mounted_twice(void)
{
    struct world w = {.n_rows = 0};
    guint32 n[3], again;
    struct qidmap_identity all[] = {image(1, "/img1", "/srv/b", 0), image(1, "/img1", "/srv/a", 0),
                                    image(2, "/img2", "/srv/c", 1)};
    set_present("/img1", "/img2");
    enroll(&w, all, 3, n);
    g_assert_cmpuint(n[0], ==, n[1]);
    g_assert_cmpuint(n[2], !=, n[0]);
    g_assert_cmpuint(w.n_rows, ==, 2);
    g_assert_false(w.rows[n[0] - 1].flags & QIDMAP_IDENTITY_DUPLICATE);
    g_assert_cmpstr(w.rows[n[0] - 1].hints.mount_path, ==, "/srv/a");
    enroll(&w, &all[0], 1, &again);
    g_assert_cmpuint(again, ==, n[0]);
}

static void test_btrfs(void)
{
    struct world w = {.n_rows = 0};
    guint32 n[4], again[4];
    struct qidmap_identity all[] = {
        subvolume(5, 1, "/img1", 40),
        subvolume(5, 2, "/img1", 40),
        subvolume(5, 1, "/img2", 41),
        subvolume(5, 2, "/img2", 41),
    };
    set_present("/img1", "/img2");
    enroll(&w, all, 4, n);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < i; k++)
            g_assert_cmpuint(n[i], !=, n[k]);
    }
    struct qidmap_identity other[] = {
        subvolume(5, 2, "/img2", 40),
        subvolume(5, 1, "/img2", 40),
        subvolume(5, 2, "/img1", 44),
        subvolume(5, 1, "/img1", 44),
    };
    enroll(&w, other, 4, again);
    for (int i = 0; i < 4; i++)
        g_assert_cmpuint(again[i], ==, n[3 - i]);
    g_assert_cmpuint(w.n_rows, ==, 4);
}

/* A second way to ask finds the same row by what the first one knew, and is noted. */
static void test_alias(void)
{
    struct world w = {.n_rows = 0};
    guint32 a, b;
    struct qidmap_identity one = image(1, "/img1", "/srv/a", 0);
    set_present("/img1", NULL);
    enroll(&w, &one, 1, &a);
    struct qidmap_identity more = image(2, "/img1", "/srv/a", 0);
    more.fsid[1] = one.fsid[0];
    more.count = 2;
    enroll(&w, &more, 1, &b);
    g_assert_cmpuint(a, ==, b);
    struct qidmap_identity later = image(2, "/img1", "/srv/a", 0);
    enroll(&w, &later, 1, &b);
    g_assert_cmpuint(a, ==, b);
}

/* Two rows by two identities that they do not share: neither, and the new row is found again. */
static void test_two_rows(void)
{
    struct world w = {.n_rows = 0};
    guint32 a, b, c, again;
    struct qidmap_identity one = image(1, "/img1", "/srv/a", 0),
                           two = image(2, "/img1", "/srv/a", 0);
    set_present(NULL, NULL);
    enroll(&w, &one, 1, &a);
    enroll(&w, &two, 1, &b);
    g_assert_cmpuint(a, !=, b);
    struct qidmap_identity both = one;
    both.fsid[1] = two.fsid[0];
    both.count = 2;
    enroll(&w, &both, 1, &c);
    g_assert_cmpuint(c, !=, a);
    g_assert_cmpuint(c, !=, b);
    enroll(&w, &both, 1, &again);
    g_assert_cmpuint(again, ==, c);
}

static void test_override(void)
{
    struct world w = {.n_rows = 0};
    guint32 n[2], again[2];
    struct qidmap_identity both[] = {image(1, "/img1", "/srv/a", 0),
                                     image(1, "/img2", "/srv/b", 1)};
    for (int i = 0; i < 2; i++) {
        both[i].fsid[1] = both[i].fsid[0];
        both[i].fsid[0].kind = QIDMAP_FSID_OVERRIDE;
        memset(both[i].fsid[0].bytes, 0xe0 + i, 16);
        both[i].count = 2;
    }
    set_present(NULL, NULL);
    enroll(&w, both, 2, n);
    g_assert_cmpuint(n[0], !=, n[1]);
    /* The files moved both, and one is there alone: what the operator says holds. */
    strcpy(both[0].hints.backing, "/moved1");
    strcpy(both[1].hints.backing, "/moved2");
    enroll(&w, &both[1], 1, again);
    g_assert_cmpuint(again[0], ==, n[1]);
}

static void test_retired_and_ephemeral(void)
{
    struct world w = {.n_rows = 0};
    guint32 a, b;
    struct qidmap_identity one = image(1, "/img1", "/srv/a", 0);
    set_present(NULL, NULL);
    enroll(&w, &one, 1, &a);
    w.rows[0].retired = 1;
    enroll(&w, &one, 1, &b);
    g_assert_cmpuint(a, !=, b);

    struct qidmap_identity tmp = image(9, NULL, "/srv/t", 30);
    tmp.fsid[0].kind = QIDMAP_FSID_EPHEMERAL;
    tmp.fsid[0].size = 32;
    tmp.policy = QIDMAP_POLICY_EPHEMERAL;
    enroll(&w, &tmp, 1, &a);
    g_assert_cmpuint(w.rows[a - 1].policy, ==, QIDMAP_POLICY_EPHEMERAL);
    strcpy(tmp.hints.mount_path, "/elsewhere");
    enroll(&w, &tmp, 1, &b);
    g_assert_cmpuint(a, ==, b);
    tmp.fsid[0].bytes[31] ^= 1;
    enroll(&w, &tmp, 1, &b);
    g_assert_cmpuint(a, !=, b);
}

/* All orders of a mixed batch, against rows and without: the same decisions. */
static void test_permutations(void)
{
    struct qidmap_identity base[6] = {
        image(1, "/img1", "/srv/a", 0), image(1, "/img2", "/srv/b", 1),
        image(1, "/img3", "/srv/c", 2), image(1, "/img1", "/srv/d", 0),
        subvolume(5, 1, "/img4", 40),   subvolume(5, 2, "/img4", 40),
    };
    for (int with_rows = 0; with_rows < 2; with_rows++) {
        struct world w = {.n_rows = 0};
        guint32 numbers[6];
        set_present("/img1", "/img2");
        if (with_rows) {
            struct qidmap_identity some[] = {base[1], base[5], image(1, "/img9", "/srv/c", 7)};
            enroll(&w, some, 3, numbers);
        }
        struct qm_decision want[6], got[6];
        decide(&w, base, 6, want);
        int order[6] = {0, 1, 2, 3, 4, 5}, count[6] = {0};
        for (int i = 0; i < 6;) { /* Heap's way through all orders */
            struct qidmap_identity ids[6];
            for (int k = 0; k < 6; k++)
                ids[k] = base[order[k]];
            decide(&w, ids, 6, got);
            for (int k = 0; k < 6; k++) {
                const struct qm_decision *x = &want[order[k]];
                g_assert_cmpuint(got[k].fs, ==, x->fs);
                g_assert_cmpuint(got[k].rank, ==, x->rank);
                g_assert_cmpint(got[k].duplicate, ==, x->duplicate);
                g_assert_cmpint(order[got[k].same_as], ==, (int)x->same_as);
            }
            while (i < 6 && count[i] >= i)
                count[i++] = 0;
            if (i < 6) {
                int j = i % 2 == 0 ? 0 : count[i], t = order[j];
                order[j] = order[i];
                order[i] = t;
                count[i]++;
                i = 0;
                continue;
            }
        }
    }
}

/* Random histories: whatever comes and goes, live ones never share, and while two clones are never
 * out of each other's sight each keeps its row. */
static void test_histories(void)
{
    for (int round = 0; round < 2000; round++) {
        struct world w = {.n_rows = 0};
        guint32 known[3] = {0};
        static const char *const files[] = {"/img1", "/img2", "/img3"};
        memset(present_names, 0, sizeof present_names);
        for (int i = 0; i < 3; i++)
            present_names[i] = files[i];
        for (int step = 0; step < 6; step++) {
            struct qidmap_identity ids[3];
            int who[3];
            guint32 n[3];
            size_t count = 0;
            guint minor = (guint)g_test_rand_int_range(0, 9);
            for (int i = 0; i < 3; i++) {
                if (!g_test_rand_bit())
                    continue;
                char path[32];
                g_snprintf(path, sizeof path, "/srv/%d", g_test_rand_int_range(0, 4));
                ids[count] = image(1, files[i], path, minor++);
                who[count++] = i;
            }
            enroll(&w, ids, count, n);
            for (size_t i = 0; i < count; i++) {
                for (size_t k = 0; k < i; k++)
                    g_assert_cmpuint(n[i], !=, n[k]);
                if (known[who[i]] != 0)
                    g_assert_cmpuint(n[i], ==, known[who[i]]);
                known[who[i]] = n[i];
            }
        }
    }
}

static void test_update(void)
{
    struct qidmap_fs row = {.fs = 1};
    struct qidmap_identity id = image(1, "/img1", "/srv/a", 0);
    g_assert_true(qm_resolve_update(&row, &id, TRUE, 1000000));
    g_assert_cmpint(row.hints.first_seen, ==, 1000000);
    g_assert_cmpuint(row.policy, ==, QIDMAP_POLICY_AFFIX);
    g_assert_false(qm_resolve_update(&row, &id, FALSE, 1000010));
    g_assert_true(qm_resolve_update(&row, &id, FALSE, 1000000 + 86400));
    g_assert_cmpint(row.hints.first_seen, ==, 1000000);
    id.policy = QIDMAP_POLICY_DENY;
    qm_resolve_update(&row, &id, FALSE, 2000000);
    g_assert_cmpuint(row.policy, ==, QIDMAP_POLICY_AFFIX);
    for (guint8 i = 2; i < 20; i++) {
        id = image(i, "/img1", "/srv/a", 0);
        qm_resolve_update(&row, &id, FALSE, 2000000);
    }
    g_assert_cmpuint(row.fsid_count, ==, QIDMAP_FSID_COUNT);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resolve/both-from-start", test_both_from_start);
    g_test_add_func("/resolve/one-later", test_one_later);
    g_test_add_func("/resolve/copy-alone", test_copy_alone);
    g_test_add_func("/resolve/moved", test_moved);
    g_test_add_func("/resolve/names-only", test_names_only);
    g_test_add_func("/resolve/shared-discriminator", test_shared_discriminator);
    g_test_add_func("/resolve/marker", test_marker);
    g_test_add_func("/resolve/mounted-twice", test_mounted_twice);
    g_test_add_func("/resolve/btrfs", test_btrfs);
    g_test_add_func("/resolve/alias", test_alias);
    g_test_add_func("/resolve/two-rows", test_two_rows);
    g_test_add_func("/resolve/override", test_override);
    g_test_add_func("/resolve/retired-and-ephemeral", test_retired_and_ephemeral);
    g_test_add_func("/resolve/permutations", test_permutations);
    g_test_add_func("/resolve/histories", test_histories);
    g_test_add_func("/resolve/update", test_update);
    return g_test_run();
}
