/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qids of a directory's entries: what each is made of is found out first, from d_ino where that
 * can be trusted, and all new mappings are made in one commit. Owns which entries are looked at,
 * and what keeps one out of a listing.
 *
 * Must not know how messages look, nor how one listing is cut into several (op-dir.c).
 */
#include "config.h"

#include "src/qid-export.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/privs.h"

#define QUESTIONS_MAX 256 /* descriptors that a listing holds open at a time */

static uint8_t type_of_d_type(uint8_t d_type)
{
    return d_type == DT_DIR ? QID_TYPE_DIR : d_type == DT_LNK ? QID_TYPE_SYMLINK : QID_TYPE_FILE;
}

/* A listing that is being made. */
struct listing {
    struct qid_export *exp;
    int fd;
    const struct statx *stx;
    int parent_fd;
    struct mount_entry dir;
    struct qid_dirent *entries;
    gboolean has_mounts;       /* perhaps, at some of the names */
    struct qidmap_item *items; /* at most one for each entry */
    size_t *item_owner;        /* whose they are */
    guint item_count;
    GArray *objects; /* struct qidmap_object */
    GArray *object_owner;
    GArray *questions; /* struct mount_question: about files that are open for them */
    GArray *question_owner;
};

static gboolean is_dotdot(const char *name)
{
    return name[0] == '.' && name[1] == '.' && name[2] == '\0';
}

static gboolean is_dot(const char *name)
{
    return name[0] == '.' && name[1] == '\0';
}

static uint8_t d_type_of_mode(mode_t mode)
{
    return (uint8_t)((mode & S_IFMT) >> 12);
}

/* Whether d_ino can be taken as it stands, at a name that is no mount point. */
static gboolean is_trusted(const struct mount_entry *dir, const struct qid_dirent *e)
{
    if (e->d_type == DT_UNKNOWN)
        return FALSE;
    return dir->trust == MOUNT_TRUST_ALL ||
           (dir->trust == MOUNT_TRUST_BTRFS && e->d_type != DT_DIR);
}

static void set_types(struct qid_dirent *e, mode_t mode)
{
    e->d_type = d_type_of_mode(mode);
    e->qid.type = qid_type_of_mode(mode);
}

static void add_item(struct listing *l, size_t owner, uint32_t fs, uint64_t ino)
{
    l->items[l->item_count] = (struct qidmap_item){.fs = fs, .ino = ino};
    l->item_owner[l->item_count++] = owner;
}

/* The entry is `name` in `fd`, or `fd`, on the filesystem of `at`. */
static void add_file(struct listing *l, size_t owner, const struct mount_entry *at, int fd,
                     const char *name, uint64_t ino)
{
    struct qid_dirent *e = &l->entries[owner];
    struct qidmap_object object;

    if (at->refused) {
        e->result = -ENODEV;
    } else if (!qid_wants_handle(at)) {
        add_item(l, owner, at->fs, ino);
    } else {
        e->result = qidmap_object_by_handle(at->fs, fd, name, e->qid.type == QID_TYPE_DIR ? 0 : ino,
                                            &object);
        if (e->result == 0) {
            g_array_append_val(l->objects, object);
            g_array_append_val(l->object_owner, owner);
        }
    }
}

/* What keeps an entry out of a listing, and what the whole listing must not hide. */
static int of_entry(int error)
{
    return error == -ENFILE || error == -EMFILE || error == -ENOMEM || error == -ENOSPC ||
                   error == -EUCLEAN || error == -ENODEV || error == 0
               ? error
               : -ENOENT;
}

static void answer_questions(struct listing *l)
{
    struct mount_question *questions = (struct mount_question *)(void *)l->questions->data;
    guint count = l->questions->len;

    if (count > 0)
        mount_lookup_many(l->exp->mounts, questions, count);
    for (guint i = 0; i < count; i++) {
        struct mount_question *q = &questions[i];
        size_t owner = g_array_index(l->question_owner, size_t, i);
        struct qid_dirent *e = &l->entries[owner];
        struct statx stx;

        if (q->result == 0 && /* see qid_from_stat() */
            statx(q->fd, "", LOOK_FLAGS | AT_EMPTY_PATH, QID_STATX_MASK, &stx) != 0)
            q->result = -errno;
        e->result = of_entry(q->result);
        if (e->result == 0) {
            set_types(e, stx.stx_mode);
            add_file(l, owner, &q->entry, q->fd, "", stx.stx_ino);
        }
        close(q->fd);
        g_free((struct statx *)q->stx);
    }
    g_array_set_size(l->questions, 0);
    g_array_set_size(l->question_owner, 0);
}

/* An entry of a filesystem not met before: what is to be identified must be held open. */
static void add_question(struct listing *l, size_t owner, int fd, const char *name)
{
    struct mount_question q = {.fd = -1};
    struct statx *stx = g_new(struct statx, 1);

    q.stx = stx;
    q.fd = name[0] == '\0' ? fcntl(fd, F_DUPFD_CLOEXEC, 0)
                           : openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (q.fd < 0 || statx(q.fd, "", LOOK_FLAGS | AT_EMPTY_PATH, QID_STATX_MASK, stx) != 0) {
        l->entries[owner].result = of_entry(-errno);
        if (q.fd >= 0)
            close(q.fd);
        g_free(stx);
        return;
    }
    g_array_append_val(l->questions, q);
    g_array_append_val(l->question_owner, owner);
    if (l->questions->len >= QUESTIONS_MAX)
        answer_questions(l);
}

/* Looks at an entry: `name` in `fd`, or `fd` itself. */
static void look_at(struct listing *l, size_t owner, int fd, const char *name)
{
    struct qid_dirent *e = &l->entries[owner];
    struct qid_export *exp = l->exp;
    struct mount_entry at;
    struct statx stx;

    if (statx(fd, name, LOOK_FLAGS | (name[0] == '\0' ? AT_EMPTY_PATH : 0), QID_STATX_MASK, &stx) !=
        0) {
        e->result = of_entry(-errno); /* a dead mount point, say: the other names are shown */
        return;
    }
    set_types(e, stx.stx_mode);
    e->qid.version = qid_version_of(exp, &stx);
    if (exp->multidevs == QID_MULTIDEVS_WARN) {
        qid_warn_once(exp, &stx);
        e->qid.path = stx.stx_ino;
    } else if (qid_may_be_placeholder(&stx) && name[0] != '\0' && l->dir.btrfs &&
               stx.stx_mnt_id == l->stx->stx_mnt_id) {
        e->result = qid_map_placeholder(exp, l->dir.fs, l->stx->stx_ino, e->d_ino, &e->qid.path);
    } else if (qid_may_be_placeholder(&stx) && name[0] == '\0' &&
               qid_is_placeholder(exp, fd, &stx)) {
        e->result = qid_map_open_placeholder(exp, fd, &stx, &e->qid.path);
    } else if (mount_find(exp->mounts, fd, name, &stx, &at)) {
        add_file(l, owner, &at, fd, name, stx.stx_ino);
    } else {
        add_question(l, owner, fd, name);
    }
}

/* A name at which something is mounted, whose root is known: it is not touched. */
static void show_mount(struct listing *l, size_t owner, const struct statx *root)
{
    struct qid_dirent *e = &l->entries[owner];
    struct mount_entry at;

    if (l->exp->versions == QID_VERSIONS_MTIME) { /* what is known of it is old */
        look_at(l, owner, l->fd, e->name);
        return;
    }
    set_types(e, root->stx_mode);
    if (l->exp->multidevs == QID_MULTIDEVS_WARN) {
        qid_warn_once(l->exp, root);
        e->qid.path = root->stx_ino;
    } else if (!mount_find(l->exp->mounts, -1, "", root, &at) || qid_wants_handle(&at)) {
        look_at(l, owner, l->fd, e->name);
    } else {
        add_file(l, owner, &at, -1, "", root->stx_ino);
    }
}

/* Finds out about one entry what its qid is made of. */
static void prepare(struct listing *l, size_t owner)
{
    gboolean warn = l->exp->multidevs == QID_MULTIDEVS_WARN;
    struct qid_dirent *e = &l->entries[owner];
    struct statx root;

    e->result = 0;
    e->qid.version = qid_version_of(l->exp, l->stx);
    if (is_dot(e->name)) {
        set_types(e, S_IFDIR);
        if (warn)
            e->qid.path = l->stx->stx_ino;
        else if (qid_is_placeholder(l->exp, l->fd, l->stx))
            e->result = qid_map_open_placeholder(l->exp, l->fd, l->stx, &e->qid.path);
        else
            add_file(l, owner, &l->dir, l->fd, "", l->stx->stx_ino);
        return;
    }
    if (is_dotdot(e->name)) {
        look_at(l, owner, l->parent_fd, "");
        return;
    }
    switch (l->has_mounts ? mount_name_find(l->exp->mounts, l->stx, e->name, &root)
                          : MOUNT_NAME_PLAIN) {
    case MOUNT_NAME_KNOWN:
        show_mount(l, owner, &root);
        return;
    case MOUNT_NAME_SILENT:
        e->result = -ENODEV;
        return;
    case MOUNT_NAME_LOOK:
        look_at(l, owner, l->fd, e->name);
        return;
    case MOUNT_NAME_PLAIN:
        break;
    }
    if (l->exp->versions == QID_VERSIONS_MTIME) { /* only the file knows */
        look_at(l, owner, l->fd, e->name);
        return;
    }
    if (e->d_type != DT_UNKNOWN && !warn && !l->dir.overlay &&
        l->dir.policy == QIDMAP_POLICY_HANDLE &&
        (!l->dir.btrfs || e->d_type != DT_DIR)) { /* it may be a subvolume, of another filesystem */
        e->qid.type = type_of_d_type(e->d_type);
        add_file(l, owner, &l->dir, l->fd, e->name, 0);
    } else if (is_trusted(&l->dir, e)) {
        e->qid.type = type_of_d_type(e->d_type);
        if (warn)
            e->qid.path = e->d_ino;
        else
            add_item(l, owner, l->dir.fs, e->d_ino);
    } else {
        look_at(l, owner, l->fd, e->name);
    }
}

static void map_all(struct listing *l)
{
    int rc = 0;
    qid_count(l->item_count + l->objects->len);
    if (l->item_count > 0)
        rc = qidmap_map_batch(l->exp->store, l->items, l->item_count);
    if (rc < 0)
        qid_watch_store(l->exp, rc);
    for (guint i = 0; i < l->item_count; i++) {
        struct qid_dirent *e = &l->entries[l->item_owner[i]];
        e->result = l->items[i].result;
        e->qid.path = l->items[i].path;
    }
    if (l->objects->len == 0)
        return;
    g_autofree uint64_t *paths = g_new0(uint64_t, l->objects->len);
    g_autofree int32_t *results = g_new0(int32_t, l->objects->len);
    rc = qidmap_map_objects(l->exp->store,
                            (const struct qidmap_object *)(const void *)l->objects->data,
                            l->objects->len, paths, results);
    if (rc < 0)
        qid_watch_store(l->exp, rc);
    for (guint i = 0; i < l->objects->len; i++) {
        struct qid_dirent *e = &l->entries[g_array_index(l->object_owner, size_t, i)];
        e->result = rc == -ENOMEM ? rc : results[i];
        e->qid.path = paths[i];
    }
}

/* What the directory itself is on. */
static int find_dir(struct listing *l)
{
    struct statx parent;
    int rc;

    if (l->exp->multidevs != QID_MULTIDEVS_WARN && qid_is_placeholder(l->exp, l->fd, l->stx)) {
        /* it lists nothing but itself and its parent */
        rc = statx(l->parent_fd, "", AT_EMPTY_PATH, QID_STATX_MASK, &parent) == 0
                 ? mount_lookup_dir(l->exp->mounts, l->parent_fd, &parent, &l->dir)
                 : -errno;
    } else {
        rc = mount_lookup_dir(l->exp->mounts, l->fd, l->stx, &l->dir);
    }
    if (rc < 0 && l->exp->multidevs == QID_MULTIDEVS_WARN) {
        memset(&l->dir, 0, sizeof l->dir); /* no d_ino is trusted */
        rc = 0;
    }
    return rc < 0 ? rc : l->dir.refused ? -ENODEV : 0;
}

int qid_from_dirents(struct qid_export *exp, int dir_fd, const struct statx *dir_stx, int parent_fd,
                     struct qid_dirent *entries, size_t count)
{
    struct listing l = {
        .exp = exp, .fd = dir_fd, .stx = dir_stx, .parent_fd = parent_fd, .entries = entries};

    int rc = find_dir(&l);
    if (rc < 0)
        return rc;
    g_autofree struct qidmap_item *items = g_new(struct qidmap_item, count);
    g_autofree size_t *item_owner = g_new(size_t, count);
    g_autoptr(GArray) objects = g_array_new(FALSE, FALSE, sizeof(struct qidmap_object));
    g_autoptr(GArray) object_owner = g_array_new(FALSE, FALSE, sizeof(size_t));
    g_autoptr(GArray) questions = g_array_new(FALSE, FALSE, sizeof(struct mount_question));
    g_autoptr(GArray) question_owner = g_array_new(FALSE, FALSE, sizeof(size_t));
    l.has_mounts = mount_names_in(exp->mounts, dir_stx);
    l.items = items;
    l.item_owner = item_owner;
    l.objects = objects;
    l.object_owner = object_owner;
    l.questions = questions;
    l.question_owner = question_owner;
    for (size_t i = 0; i < count; i++)
        prepare(&l, i);
    answer_questions(&l);
    if (exp->multidevs == QID_MULTIDEVS_WARN)
        return 0;
    struct privs_pause pause;
    privs_suspend(&pause); /* the store is the daemon's */
    map_all(&l);
    rc = privs_resume(&pause);
    qid_watch_room(exp);
    return rc;
}
