/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds the filesystems that are mounted below an export. What is new is looked at by the prober;
 * a mount that is known by its unique id, at the same place, is not touched again. Before Linux 6.8
 * there are no such ids, and everything is looked at anew when mounts change.
 *
 * Knows nothing of threads: who scans, and when, is mount.c's business.
 */
#include "config.h"

#include "src/mount-scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/log.h"
#include "src/mount-override.h"

/* More subvolumes than this that were met on the way are forgotten when mounts change; who comes
 * again is found by its identity. */
#define MET_MAX 100000

static void point_free(gpointer data)
{
    struct mount_point *point = data;

    if (point == NULL)
        return;
    g_free(point->path);
    g_free(point->tree);
    g_free(point);
}

static void live_free(gpointer data)
{
    struct mount_live *live = data;

    if (live == NULL)
        return;
    if (live->fd >= 0)
        close(live->fd);
    g_free(live->label);
    g_free(live->identity);
    g_free(live);
}

static void live_free_each(gpointer data, gpointer unused)
{
    (void)unused;
    live_free(data);
}

static guint live_hash(gconstpointer data)
{
    const struct mount_live *live = data;
    guint64 mixed = live->key * 31 + live->dev * 7 + live->subvol;

    return g_int64_hash(&mixed);
}

static gboolean live_equal(gconstpointer a, gconstpointer b)
{
    const struct mount_live *x = a, *y = b;

    return x->key == y->key && x->dev == y->dev && x->subvol == y->subvol;
}

/* What follows `dir` in `path`, without leading '/'; NULL when `path` is not below `dir`. */
static const char *path_below(const char *path, const char *dir)
{
    gsize size = strlen(dir);

    while (size > 0 && dir[size - 1] == '/')
        size--;
    if (strncmp(path, dir, size) != 0 || path[size] != '/' || path[size + 1] == '\0')
        return NULL;
    return path + size + 1;
}

static char *path_of(int fd)
{
    char link[64];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return g_file_read_link(link, NULL);
}

/* ---- lives ----------------------------------------------------------------------------------- */

static struct mount_live *find_live(const struct mount_scan *scan, guint64 key, guint64 dev,
                                    guint64 subvol)
{
    const struct mount_live wanted = {.key = key, .dev = dev, .subvol = subvol};
    struct mount_live *live = g_hash_table_lookup(scan->by_key, &wanted);

    if (live == NULL) {
        const struct mount_live any = {.key = key, .dev = MOUNT_ANY_DEV};
        live = g_hash_table_lookup(scan->by_key, &any);
    }
    return live;
}

struct mount_live *mount_scan_find(const struct mount_scan *scan, const struct statx *stx)
{
    return find_live(scan, mount_stx_key(stx), mount_stx_dev(stx), mount_stx_subvol(stx));
}

static const struct qidmap_fsid *btrfs_fsid(const struct qidmap_identity *identity)
{
    for (guint32 i = 0; i < identity->count; i++) {
        if (identity->fsid[i].kind == QIDMAP_FSID_BTRFS)
            return &identity->fsid[i];
    }
    return NULL;
}

/* On the root's filesystem? Bind mounts of it are, other subvolumes are not. */
static gboolean is_foreign(const struct mount_scan *scan, const struct qidmap_identity *identity)
{
    if (scan->mode != MOUNT_ROOT_ONLY || scan->root_identity == NULL)
        return FALSE;
    if (scan->root_identity->superblock != identity->superblock)
        return TRUE;
    const struct qidmap_fsid *a = btrfs_fsid(scan->root_identity), *b = btrfs_fsid(identity);
    return a != NULL && b != NULL &&
           (a->size != b->size || memcmp(a->bytes, b->bytes, a->size) != 0);
}

static guint8 trust_of(const char *type)
{
    static const char *const all[] = {"ext2", "ext3", "ext4", "xfs", "tmpfs"};

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        if (strcmp(type, all[i]) == 0)
            return MOUNT_TRUST_ALL;
    }
    return strcmp(type, "btrfs") == 0 ? MOUNT_TRUST_BTRFS : MOUNT_TRUST_NONE;
}

static void add_live(struct mount_scan *scan, struct mount_live *live)
{
    g_ptr_array_add(scan->lives, live);
    g_hash_table_add(scan->by_key, live);
    if (!live->served)
        g_ptr_array_add(scan->fresh, live);
}

/* Without unique ids a mount is the one of before when all that is found out about it is. */
static gboolean is_same_identity(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    struct qidmap_hints x = a->hints, y = b->hints;

    x.first_seen = y.first_seen = x.last_seen = y.last_seen = 0;
    if (a->superblock != b->superblock || a->count != b->count || memcmp(&x, &y, sizeof x) != 0)
        return FALSE;
    for (guint32 i = 0; i < a->count; i++) {
        if (a->fsid[i].kind != b->fsid[i].kind || a->fsid[i].size != b->fsid[i].size ||
            memcmp(a->fsid[i].bytes, b->fsid[i].bytes, a->fsid[i].size) != 0)
            return FALSE;
    }
    return TRUE;
}

/* Keeps the number of a live of before, where it is the same. */
static void keep_number(const struct mount_scan *scan, struct mount_live *live,
                        const struct qidmap_identity *identity)
{
    const struct mount_live *before =
        scan->previous != NULL ? g_hash_table_lookup(scan->previous, live) : NULL;

    if (before == NULL || (live->key & MOUNT_UNIQUE_KEY) || before->fs == 0 ||
        before->identity == NULL || !is_same_identity(before->identity, identity))
        return;
    live->fs = before->fs;
    live->policy = before->policy;
    live->served = TRUE;
    live->identity = g_new(struct qidmap_identity, 1);
    *live->identity = *identity;
}

int mount_scan_take(struct mount_scan *scan, struct mount_job *job)
{
    if (job->result < 0)
        return job->result == -ETIMEDOUT ? -EIO : job->result;

    const struct qidmap_hints *hints = &job->identity->hints;
    /* One overlay is one filesystem, whatever st_dev its files show; where its inode numbers say
     * nothing beyond this boot, each st_dev is an instance of its own. */
    gboolean one =
        strcmp(hints->type, "overlay") == 0 && job->identity->policy != QIDMAP_POLICY_EPHEMERAL;
    struct mount_live *live = g_new0(struct mount_live, 1);
    live->fd = -1;
    live->key = mount_stx_key(&job->stx);
    live->root_dev = mount_stx_dev(&job->stx);
    live->dev = one ? MOUNT_ANY_DEV : live->root_dev;
    live->btrfs = strcmp(hints->type, "btrfs") == 0;
    live->subvol = live->btrfs ? job->subvol : 0;
    if (g_hash_table_contains(scan->by_key, live)) {
        live_free(live);
        return 0;
    }
    live->needs_subvol = job->needs_subvol;
    live->superblock = job->identity->superblock;
    live->trust = trust_of(hints->type);
    live->label = g_strdup_printf("%s %s on %s", hints->type, hints->source, hints->mount_path);
    live->refused = is_foreign(scan, job->identity);
    live->served = live->refused || scan->mode == MOUNT_LOOK_ONLY;
    if (!live->served)
        keep_number(scan, live, job->identity);
    if (!live->served) {
        live->identity = g_steal_pointer(&job->identity);
        live->fd = job->open_fd;
        job->open_fd = -1;
    }
    add_live(scan, live);
    return 0;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

struct mount_job *mount_scan_job(const struct mount_scan *scan, int fd, const struct statx *stx)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy < 0)
        return NULL;
    struct mount_job *job = mount_job_new(copy);
    guint64 key = mount_stx_key(stx), dev = mount_stx_dev(stx), subvol = mount_stx_subvol(stx);
    job->key = g_strdup_printf(
        "file %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, key, dev, subvol);
    for (guint i = 0; scan->settings.distinct && i < scan->points->len; i++) {
        const struct mount_point *point = g_ptr_array_index(scan->points, i);
        if (point->found && mount_stx_key(&point->root) == key)
            job->tree = g_strdup(point->tree);
    }
    return job;
}

gboolean mount_scan_is_silent(const struct mount_scan *scan, const struct statx *stx)
{
    guint64 key = mount_stx_key(stx);

    for (guint i = 0; scan->silent > 0 && i < scan->points->len; i++) {
        const struct mount_point *point = g_ptr_array_index(scan->points, i);
        if (point->silent &&
            key == (mount_stx_is_unique(stx) ? point->unique | MOUNT_UNIQUE_KEY : point->id))
            return TRUE;
    }
    return FALSE;
}

static void set_override(struct mount_job *job, const GArray *overrides, const char *path)
{
    const struct mount_override *o = mount_override_find(overrides, path);

    job->has_override = o != NULL;
    if (o != NULL)
        memcpy(job->override, o->uuid, sizeof job->override);
}

/* `below`: NULL for the root itself. */
static void add_job(const struct mount_scan *scan, GPtrArray *jobs, const struct mount_point *point,
                    const char *below)
{
    struct mount_job *job = mount_job_new(fcntl(scan->root_fd, F_DUPFD_CLOEXEC, 0));

    job->below = g_strdup(below);
    job->path = g_strdup(point->path);
    job->tree = g_strdup(point->tree);
    job->id = point->id;
    job->holder = point->holder;
    job->key = g_strdup_printf(
        "mount %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %d %s", point->id,
        point->unique, point->holder, scan->root_fd, point->path != NULL ? point->path : "");
    if (point->path != NULL)
        set_override(job, scan->overrides, point->path);
    g_ptr_array_add(jobs, job);
}

/* What is at the place now may be another mount: the job says what it found. */
void mount_scan_again(const struct mount_scan *scan, guint64 superblock, GPtrArray *jobs,
                      GPtrArray *lives)
{
    g_autofree char *root = path_of(scan->root_fd);

    for (guint i = 0; root != NULL && i < scan->points->len; i++) {
        struct mount_point *point = g_ptr_array_index(scan->points, i);
        struct mount_live *live = point->found ? mount_scan_find(scan, &point->root) : NULL;
        const char *below = i > 0 ? path_below(point->path, root) : NULL;
        if (live == NULL || live->superblock != superblock || live->fs == 0 ||
            (i > 0 && below == NULL))
            continue;
        add_job(scan, jobs, point, below);
        g_ptr_array_add(lives, live);
    }
}

/* ---- points ---------------------------------------------------------------------------------- */

static struct mount_point *find_point(const GPtrArray *points, GHashTable *by_unique,
                                      const struct mount_line *line)
{
    if (points == NULL || line->unique == 0)
        return NULL;
    return g_hash_table_lookup(by_unique, &line->unique);
}

/* The same mount at the same place: nothing of it has changed. */
static gboolean is_same(const struct mount_point *point, const struct mount_line *line)
{
    return point->found && mount_stx_is_unique(&point->root) && point->holder == line->holder &&
           strcmp(point->path, line->path) == 0;
}

static struct mount_point *point_new(const struct mount_scan *scan, const struct mount_line *line,
                                     const char *below)
{
    struct mount_point *point = g_new0(struct mount_point, 1);

    point->id = line->id;
    point->unique = line->unique;
    point->holder = line->holder;
    point->path = g_strdup(line->path);
    if (scan->settings.distinct)
        point->tree = g_strconcat("/", below, NULL);
    return point;
}

/* Takes over what the jobs found; jobs[i] is that of todo[i]. */
static int take_all(struct mount_scan *scan, GPtrArray *jobs, GPtrArray *todo)
{
    int first = 0;

    for (guint i = 0; i < jobs->len; i++) {
        struct mount_job *job = g_ptr_array_index(jobs, i);
        struct mount_point *point = g_ptr_array_index(todo, i);
        int rc = mount_scan_take(scan, job);

        if (i == 0)
            first = rc;
        if (point == NULL) /* a subvolume that the operator named */
            continue;
        point->found = rc == 0;
        point->silent = job->result == -ETIMEDOUT;
        scan->silent += point->silent ? 1 : 0;
        point->root = job->stx;
        point->has_dir = job->has_dir;
        point->dir = job->dir;
        if (job->result == -ETIMEDOUT && job->started != 0)
            log_warning("export %s: %s does not answer; it is left out until it does", scan->name,
                        point->path);
        else if (job->found && job->result < 0)
            log_warning("export %s: %s cannot be identified: %s", scan->name, point->path,
                        job->error.text);
    }
    return first;
}

/* What was met on the way stays while its mount, told by its unique id, does. */
static void keep_met(struct mount_scan *scan, const GPtrArray *old)
{
    g_autoptr(GHashTable) mounts = g_hash_table_new(g_int64_hash, g_int64_equal);
    guint met = 0;

    for (guint i = 0; i < scan->lives->len; i++) {
        struct mount_live *live = g_ptr_array_index(scan->lives, i);
        g_hash_table_add(mounts, &live->key);
    }
    for (guint i = 0; i < old->len && met < MET_MAX; i++) {
        struct mount_live *live = g_ptr_array_index(old, i);
        if (live->kept || !(live->key & MOUNT_UNIQUE_KEY) || !live->served ||
            !g_hash_table_contains(mounts, &live->key) || g_hash_table_contains(scan->by_key, live))
            continue;
        live->kept = TRUE;
        add_live(scan, live);
        met++;
    }
}

/* The live of a point that is kept, moved over from those of before. */
static gboolean keep_live(struct mount_scan *scan, const struct mount_point *point)
{
    struct mount_live wanted = {.key = mount_stx_key(&point->root),
                                .dev = mount_stx_dev(&point->root),
                                .subvol = mount_stx_subvol(&point->root)};

    if (find_live(scan, wanted.key, wanted.dev, wanted.subvol) != NULL)
        return TRUE;
    struct mount_live *live = g_hash_table_lookup(scan->previous, &wanted);
    if (live == NULL) {
        wanted.dev = MOUNT_ANY_DEV;
        wanted.subvol = 0;
        live = g_hash_table_lookup(scan->previous, &wanted);
    }
    if (live == NULL || !live->served || (live->refused && scan->mode == MOUNT_REGISTER))
        return FALSE;
    g_hash_table_remove(scan->previous, live);
    live->kept = TRUE;
    add_live(scan, live);
    return TRUE;
}

static int scan_all(struct mount_scan *scan, const GPtrArray *lines, struct mount_prober *prober,
                    const GPtrArray *old_points, const GPtrArray *old_lives)
{
    g_autoptr(GPtrArray) jobs = g_ptr_array_new_with_free_func((GDestroyNotify)mount_job_unref);
    g_autoptr(GPtrArray) todo = g_ptr_array_new();
    g_autoptr(GHashTable) by_unique = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autofree char *root = path_of(scan->root_fd);

    for (guint i = 0; i < old_points->len; i++) {
        struct mount_point *point = g_ptr_array_index(old_points, i);
        if (point->unique != 0)
            g_hash_table_insert(by_unique, &point->unique, point);
    }
    scan->unsure = root == NULL;

    struct mount_point *top = g_new0(struct mount_point, 1);
    const struct mount_point *before = old_points->len > 0 ? old_points->pdata[0] : NULL;
    top->path = g_strdup(root);
    if (scan->settings.distinct)
        top->tree = g_strdup("/");
    g_ptr_array_add(scan->points, top);
    if (before != NULL && before->found && mount_stx_is_unique(&before->root) &&
        keep_live(scan, before)) {
        top->found = TRUE;
        top->root = before->root;
    } else {
        g_clear_pointer(&scan->root_identity, g_free);
        add_job(scan, jobs, top, NULL);
        g_ptr_array_add(todo, top);
        mount_probe_run(prober, jobs); /* the others are compared with it */
        const struct mount_job *job = jobs->pdata[0];
        struct qidmap_identity *identity =
            job->result == 0 ? g_new(struct qidmap_identity, 1) : NULL;
        if (identity != NULL)
            *identity = *job->identity;
        int rc = take_all(scan, jobs, todo);
        scan->root_identity = identity;
        g_ptr_array_set_size(jobs, 0);
        g_ptr_array_set_size(todo, 0);
        if (rc < 0)
            return rc;
    }

    for (guint i = 0; root != NULL && i < lines->len; i++) {
        const struct mount_line *line = g_ptr_array_index(lines, i);
        const char *below = path_below(line->path, root);
        if (below == NULL || line->covered)
            continue;
        struct mount_point *point = point_new(scan, line, below);
        g_ptr_array_add(scan->points, point);
        struct mount_point *known = find_point(old_points, by_unique, line);
        if (known != NULL && is_same(known, line) && keep_live(scan, known)) {
            point->found = TRUE;
            point->root = known->root;
            point->has_dir = known->has_dir;
            point->dir = known->dir;
            continue;
        }
        add_job(scan, jobs, point, below);
        g_ptr_array_add(todo, point);
    }
    /* Subvolumes that the operator named: before any is met, as the order must not matter. */
    for (guint i = 0; root != NULL && i < scan->overrides->len; i++) {
        const struct mount_override *o = &g_array_index(scan->overrides, struct mount_override, i);
        const char *below = path_below(o->path, root);
        struct mount_point named = {.path = o->path};
        if (below == NULL)
            continue;
        add_job(scan, jobs, &named, below);
        g_ptr_array_add(todo, NULL);
    }
    mount_probe_run(prober, jobs);
    take_all(scan, jobs, todo);
    for (guint i = 1; i < scan->points->len; i++) {
        const struct mount_point *point = g_ptr_array_index(scan->points, i);
        /* Where it cannot be told which name of which directory it is: covered by another mount, or
         * moved meanwhile. A name that is gone is no name. */
        if (!point->has_dir && !g_str_has_suffix(point->path, "//deleted"))
            scan->unsure = TRUE;
    }
    keep_met(scan, old_lives);
    return 0;
}

int mount_scan_all(struct mount_scan *scan, const GPtrArray *lines, struct mount_prober *prober)
{
    GPtrArray *old_lives = scan->lives;
    g_autoptr(GPtrArray) old_points = scan->points;

    scan->previous = scan->by_key;
    scan->by_key = g_hash_table_new(live_hash, live_equal);
    scan->points = g_ptr_array_new_with_free_func(point_free);
    scan->lives = g_ptr_array_new();
    g_ptr_array_set_size(scan->fresh, 0);
    scan->silent = 0;
    int rc = scan_all(scan, lines, prober, old_points, old_lives);
    g_clear_pointer(&scan->previous, g_hash_table_unref);
    for (guint i = 0; i < old_lives->len; i++) {
        struct mount_live *live = g_ptr_array_index(old_lives, i);
        if (!live->kept)
            live_free(live);
    }
    g_ptr_array_unref(old_lives);
    for (guint i = 0; i < scan->lives->len; i++)
        ((struct mount_live *)g_ptr_array_index(scan->lives, i))->kept = FALSE;
    return rc;
}

void mount_scan_forget(struct mount_scan *scan, guint32 fs)
{
    guint kept = 0;

    for (guint i = 0; i < scan->lives->len; i++) {
        struct mount_live *live = g_ptr_array_index(scan->lives, i);

        if (fs == 0 || live->fs == fs || (live->refused && scan->mode == MOUNT_REGISTER)) {
            g_hash_table_remove(scan->by_key, live);
            g_ptr_array_remove(scan->fresh, live);
            live_free(live);
        } else
            scan->lives->pdata[kept++] = live;
    }
    g_ptr_array_set_size(scan->lives, (gint)kept);
}

/* ---- the table ------------------------------------------------------------------------------- */

struct mount_table *mount_scan_table(const struct mount_scan *scan, guint generation)
{
    gsize count = 0;

    for (guint i = 0; i < scan->lives->len; i++) {
        const struct mount_live *live = g_ptr_array_index(scan->lives, i);
        count += live->needs_subvol ? 2 : 1;
    }
    struct mount_table *table = mount_table_new(count);
    table->generation = generation;
    table->unsure = scan->unsure;
    for (guint i = 0; i < scan->lives->len; i++)
        mount_table_add(table, g_ptr_array_index(scan->lives, i));
    for (guint i = 1; i < scan->points->len; i++) {
        const struct mount_point *point = g_ptr_array_index(scan->points, i);
        if (!point->has_dir)
            continue;
        g_autofree char *base = g_path_get_basename(point->path);
        struct mount_point_name name = {
            .key = mount_stx_key(&point->dir),
            .dev = mount_stx_dev(&point->dir),
            .ino = point->dir.stx_ino,
            .name = base,
            .state = point->found    ? MOUNT_NAME_KNOWN
                     : point->silent ? MOUNT_NAME_SILENT
                                     : MOUNT_NAME_LOOK,
            .root = point->root,
        };
        mount_table_add_name(table, &name);
    }
    return table;
}

void mount_scan_init(struct mount_scan *scan, const char *name, int root_fd, enum mount_mode mode,
                     const struct mount_settings *settings, const GArray *overrides)
{
    memset(scan, 0, sizeof *scan);
    scan->name = name;
    scan->root_fd = root_fd;
    scan->mode = mode;
    scan->settings = *settings;
    scan->overrides = overrides;
    scan->points = g_ptr_array_new_with_free_func(point_free);
    scan->lives = g_ptr_array_new();
    scan->by_key = g_hash_table_new(live_hash, live_equal);
    scan->fresh = g_ptr_array_new();
}

void mount_scan_clear(struct mount_scan *scan)
{
    g_hash_table_unref(scan->by_key);
    g_ptr_array_unref(scan->fresh);
    g_ptr_array_unref(scan->points);
    g_ptr_array_foreach(scan->lives, live_free_each, NULL);
    g_ptr_array_unref(scan->lives);
    g_free(scan->root_identity);
}
