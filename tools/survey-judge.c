/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each way of making ids would give the files of a survey. A way fills in the ids of a run of
 * files, in the order in which they were met, and gives the same ids when it is asked again: the
 * ids are sorted to count those that come twice, and then made once more to find two files that
 * have one.
 *
 * qidmap itself is tried as the server does it, with a store that is thrown away: in memory, or in
 * a temporary folder where millions of rows of the full map are to be expected, because the rows of
 * a store in memory are in memory.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tools/cmd.h"
#include "tools/qemu-remap.h"
#include "tools/survey.h"

#define RUN 65536 /* files at a time */
/* Rows of the full map that memory: may have to hold: about 400 MiB. */
#define MEMORY_ROWS 2000000

struct judge {
    struct survey *survey;
    qemu_remap *remap;
    qidmap_store *store;
    char *folder;         /* of the store, NULL: in memory */
    gsize special_offset; /* where the key of the next special file is */
    struct qidmap_item *items;
};

/* Fills paths[] and given[] for the files [start, start + count). FALSE after an error. */
typedef gboolean way(struct judge *judge, gsize start, gsize count, guint64 *paths, guint8 *given);

static const struct survey_fs *fs_of(const struct judge *judge, const struct survey_file *file)
{
    return judge->survey->fs->pdata[file->fs & ~SURVEY_SPECIAL];
}

static gboolean way_raw(struct judge *judge, gsize start, gsize count, guint64 *paths,
                        guint8 *given)
{
    for (gsize i = 0; i < count; i++) {
        paths[i] = judge->survey->files[start + i].ino;
        given[i] = TRUE;
    }
    return TRUE;
}

static gboolean way_xor(struct judge *judge, gsize start, gsize count, guint64 *paths,
                        guint8 *given)
{
    for (gsize i = 0; i < count; i++) {
        const struct survey_file *file = &judge->survey->files[start + i];
        paths[i] = file->ino ^ fs_of(judge, file)->st_dev << 32;
        given[i] = TRUE;
    }
    return TRUE;
}

static gboolean way_hash(struct judge *judge, gsize start, gsize count, guint64 *paths,
                         guint8 *given)
{
    for (gsize i = 0; i < count; i++) {
        const struct survey_file *file = &judge->survey->files[start + i];
        guint64 key[2] = {GUINT64_TO_LE(fs_of(judge, file)->st_dev), GUINT64_TO_LE(file->ino)};
        paths[i] = XXH3_64bits(key, sizeof key);
        given[i] = TRUE;
    }
    return TRUE;
}

static gboolean way_remap(struct judge *judge, gsize start, gsize count, guint64 *paths,
                          guint8 *given)
{
    for (gsize i = 0; i < count; i++) {
        const struct survey_file *file = &judge->survey->files[start + i];
        given[i] = qemu_remap_path(judge->remap, fs_of(judge, file)->st_dev, file->ino, &paths[i]);
    }
    return TRUE;
}

/* ---- a store in a folder, which must not stay behind ------------------------------------------
 */

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void catch_signals(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static void make_folder(struct judge *judge)
{
    judge->folder = g_build_filename(g_get_tmp_dir(), "qidmap-survey-XXXXXX", NULL);
    if (g_mkdtemp(judge->folder) == NULL) {
        g_clear_pointer(&judge->folder, g_free);
        return;
    }
    catch_signals(on_signal);
}

static void remove_folder(struct judge *judge)
{
    const char *const argv[] = {"rm", "-rf", "--", judge->folder, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
    g_clear_pointer(&judge->folder, g_free);
    catch_signals(SIG_DFL);
    if (interrupted != 0) {
        raise(interrupted);
    }
}

/* ---- qidmap ---------------------------------------------------------------------------------- */

static gboolean open_store(struct judge *judge)
{
    struct qidmap_error error;
    unsigned flags = QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE;

    if (judge->survey->n_full_likely > MEMORY_ROWS) {
        make_folder(judge);
    }
    if (judge->folder != NULL) {
        g_autofree char *uri = g_strdup_printf("lmdb:%s/store", judge->folder);
        if (qidmap_store_open(uri, flags, NULL, &judge->store, &error) == 0) {
            return TRUE;
        }
    }
    if (qidmap_store_open("memory:", flags, NULL, &judge->store, &error) < 0) {
        cmd_fail(&error);
        return FALSE;
    }
    return TRUE;
}

/* Gives the filesystems their numbers, all at once, as a server does at its start. */
static gboolean register_all(struct judge *judge)
{
    GPtrArray *all = judge->survey->fs;
    g_autofree struct qidmap_identity *identities = g_new0(struct qidmap_identity, all->len);
    g_autofree guint32 *numbers = g_new0(guint32, all->len);
    g_autofree guint *from = g_new0(guint, all->len);
    struct qidmap_error error;
    gsize count = 0;

    for (guint i = 0; i < all->len; i++) {
        const struct survey_fs *fs = all->pdata[i];
        if (fs->identity != NULL) {
            from[count] = i;
            identities[count++] = *fs->identity;
        }
    }
    if (count > 0 && qidmap_register(judge->store, identities, count, numbers, &error) < 0) {
        cmd_fail(&error);
        return FALSE;
    }
    for (gsize i = 0; i < count; i++) {
        struct survey_fs *fs = all->pdata[from[i]];
        fs->number = numbers[i];
    }
    return TRUE;
}

/* The object of a file with a key of its own; such files are asked for in their order. */
static void special_object(struct judge *judge, struct qidmap_object *object)
{
    const guint8 *bytes = judge->survey->specials->data + judge->special_offset;
    struct survey_special special;

    memcpy(&special, bytes, sizeof special);
    memset(object, 0, sizeof *object);
    const struct survey_fs *owner = judge->survey->fs->pdata[special.owner];
    object->fs = owner->number;
    object->kind = special.kind;
    object->ino = special.ino;
    object->ino2 = special.ino2;
    object->handle_type = special.handle_type;
    object->handle_size = special.handle_size;
    memcpy(object->handle, bytes + sizeof special, special.handle_size);
    judge->special_offset += sizeof special + special.handle_size;
}

/* A reason that ends the survey, and not one that concerns a file. */
static gboolean fatal(int code)
{
    return code == -EIO || code == -ENOSPC || code == -EUCLEAN;
}

static gboolean way_qidmap(struct judge *judge, gsize start, gsize count, guint64 *paths,
                           guint8 *given)
{
    gsize n_items = 0;
    int worst = 0;

    if (start == 0) {
        judge->special_offset = 0;
    }
    for (gsize i = 0; i < count; i++) {
        const struct survey_file *file = &judge->survey->files[start + i];
        guint32 number = fs_of(judge, file)->number;
        if ((file->fs & SURVEY_SPECIAL) != 0) {
            struct qidmap_object object;
            special_object(judge, &object);
            int code =
                object.fs != 0 ? qidmap_map_object(judge->store, &object, &paths[i]) : -ENODEV;
            given[i] = code == 0;
            worst = fatal(code) ? code : worst;
        } else {
            judge->items[n_items++] =
                (struct qidmap_item){.fs = number, .result = -ENODEV, .ino = file->ino};
        }
    }
    if (n_items > 0) {
        qidmap_map_batch(judge->store, judge->items, n_items);
    }
    for (gsize i = 0, item = 0; i < count; i++) {
        if ((judge->survey->files[start + i].fs & SURVEY_SPECIAL) == 0) {
            given[i] = judge->items[item].result == 0;
            paths[i] = judge->items[item].path;
            worst = fatal(judge->items[item].result) ? judge->items[item].result : worst;
            item++;
        }
    }
    if (worst != 0) {
        cmd_fail_code(judge->folder != NULL ? judge->folder : "the store in memory", worst);
        return FALSE;
    }
    return TRUE;
}

static gboolean count_rows(struct judge *judge)
{
    GPtrArray *all = judge->survey->fs;
    g_autoptr(qidmap_iter) iter = NULL;
    g_autoptr(GHashTable) owner = g_hash_table_new(NULL, NULL);
    struct qidmap_error error;
    struct qidmap_row row;
    int more;

    for (guint i = all->len; i-- > 0;) { /* the first of several st_dev of one filesystem wins */
        struct survey_fs *fs = all->pdata[i];
        g_hash_table_insert(owner, GUINT_TO_POINTER(fs->number), fs);
    }
    if (qidmap_iter_open(judge->store, &iter, &error) < 0) {
        cmd_fail(&error);
        return FALSE;
    }
    while ((more = qidmap_iter_next(iter, &row, &error)) > 0) {
        struct survey_fs *fs = g_hash_table_lookup(owner, GUINT_TO_POINTER(row.fs));
        if (fs != NULL) {
            fs->affix_rows += row.kind == QIDMAP_ROW_AFFIX;
            fs->full_rows += row.kind == QIDMAP_ROW_FULL;
        }
    }
    if (more < 0) {
        cmd_fail(&error);
    }
    return more == 0;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    guint64 x = *(const guint64 *)a, y = *(const guint64 *)b;
    return x < y ? -1 : x > y;
}

/* Finds two files that have the id of the verdict. */
static gboolean find_two(struct judge *judge, way *fill, guint64 *paths, guint8 *given,
                         struct survey_verdict *verdict)
{
    guint found = 0;

    for (gsize start = 0; start < judge->survey->n_files && found < 2; start += RUN) {
        gsize count = MIN(RUN, judge->survey->n_files - start);
        if (interrupted != 0 || !fill(judge, start, count, paths, given)) {
            return FALSE;
        }
        for (gsize i = 0; i < count && found < 2; i++) {
            if (given[i] && paths[i] == verdict->id) {
                verdict->files[found++] = start + i;
            }
        }
    }
    return TRUE;
}

static gboolean judge_way(struct judge *judge, way *fill, struct survey_verdict *verdict)
{
    struct survey *survey = judge->survey;
    g_autofree guint64 *ids = g_new(guint64, MAX(survey->n_files, RUN));
    g_autofree guint64 *paths = g_new0(guint64, RUN);
    g_autofree guint8 *given = g_new0(guint8, RUN);
    gsize n_ids = 0;

    progress_begin(survey->progress, verdict->name, "files");
    for (gsize start = 0; start < survey->n_files; start += RUN) {
        gsize count = MIN(RUN, survey->n_files - start);
        if (interrupted != 0 || !fill(judge, start, count, paths, given)) {
            return FALSE;
        }
        for (gsize i = 0; i < count; i++) {
            if (given[i]) {
                ids[n_ids++] = paths[i];
            }
            progress_tell(survey->progress, start + i, survey->n_files);
        }
    }
    verdict->refused = survey->n_files - n_ids;
    qsort(ids, n_ids, sizeof *ids, compare);
    for (gsize i = 1; i < n_ids; i++) {
        if (ids[i] == ids[i - 1] && verdict->collisions++ == 0) {
            verdict->id = ids[i];
        }
    }
    return verdict->collisions == 0 || find_two(judge, fill, paths, given, verdict);
}

static gboolean judge_all(struct judge *judge, struct survey_verdict *verdicts)
{
    static way *const ways[SURVEY_WAYS] = {way_raw, way_xor, way_hash, way_remap, way_qidmap};
    double files = (double)judge->survey->n_files;

    verdicts[SURVEY_RAW] = (struct survey_verdict){.name = "raw", .text = "raw inode number"};
    verdicts[SURVEY_XOR] =
        (struct survey_verdict){.name = "xor", .text = "st_ino ^ (st_dev << 32)"};
    verdicts[SURVEY_HASH] = (struct survey_verdict){.name = "hash",
                                                    .text = "64-bit hash, XXH3(st_dev, st_ino)",
                                                    .expected = files * (files - 1) / 2 / 0x1p64};
    verdicts[SURVEY_REMAP] =
        (struct survey_verdict){.name = "qemu-remap", .text = "QEMU, multidevs=remap"};
    verdicts[SURVEY_QIDMAP] = (struct survey_verdict){.name = "qidmap", .text = "qidmap"};
    for (int i = 0; i < SURVEY_WAYS; i++) {
        if (!judge_way(judge, ways[i], &verdicts[i])) {
            return FALSE;
        }
    }
    return TRUE;
}

int survey_judge(struct survey *survey, struct survey_verdict verdicts[SURVEY_WAYS])
{
    struct judge judge = {.survey = survey};
    gboolean good;

    judge.remap = qemu_remap_new();
    judge.items = g_new0(struct qidmap_item, RUN);
    good = open_store(&judge) && register_all(&judge) && judge_all(&judge, verdicts) &&
           count_rows(&judge);
    progress_hide(survey->progress);
    qidmap_store_close(judge.store);
    if (judge.folder != NULL) {
        remove_folder(&judge);
    }
    g_free(judge.items);
    qemu_remap_free(judge.remap);
    return good ? CMD_OK : CMD_CANNOT;
}
