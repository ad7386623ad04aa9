/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walks through the tree and the manifest at once, which both are in the order of paths: what is in
 * one of them only is missing or new. A file is the same where path and type are. Size and time are
 * compared and told, but the id follows the name: what was written to after the copy is the same
 * file still.
 *
 * Hard links: the names of one file in the manifest have one id. Where they are one file here as
 * well, all is well. Where they are several, the first name has the id, and the others are
 * conflicts; where names with different ids are one file here, it has the id of the first.
 *
 * Each run begins anew, also one after a kill: rsync replaces files, whose inode numbers may come
 * again at once, and nothing but looking at each file tells which one it is now. For the same
 * reason all are looked at once more before they are bound: an inode number that has another file
 * by then would bring the id to it.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/adopt.h"
#include "tools/tree.h"

#define STEP          8192 /* files of one transaction; bounds its pages in memory */
#define STATE_SECONDS 60   /* that one state of the store is used */

/* A filesystem of the manifest. */
struct source {
    guint64 files, found;       /* that have ids; of these, those that are here */
    struct qidmap_object first; /* of these */
    char *path;                 /* and its name */
};

struct match {
    const struct adopt *adopt;
    qidmap_store *store;
    gboolean absent; /* there is none, and `store` stands for it */
    gint64 renew_at;
    sight *sight;
    places *places;
    GArray *to;                /* struct qidmap_identity */
    GArray *numbers;           /* guint32, of the same in the store; 0: it has no row */
    GPtrArray *sources;        /* struct source, of each filesystem of the manifest, or NULL */
    struct manifest_file file; /* the next one of the manifest, */
    gboolean have;             /* if there is one */
    guint64 calls;
    guint32 turn;           /* of adopt_check(), */
    guint64 met, exchanged; /* and what it found */
    int status;             /* of an error that was told */
};

/* ---- telling --------------------------------------------------------------------------------- */

static void report(struct match *m, enum stage_count count, const char *what, const char *path,
                   const char *why)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_string_member(object, "row", what);
    cmd_json_name(object, "path", path);
    if (why != NULL) {
        json_object_set_string_member(object, "why", why);
    }
    json_node_take_object(node, object);
    g_autofree char *line = json_to_string(node, FALSE);
    json_node_unref(node);
    stage_report(m->adopt->stage, line);
    m->adopt->state->counts[count]++;
}

static int conflict(struct match *m, const char *path, const char *why)
{
    report(m, STAGE_CONFLICTS, "conflict", path, why);
    return 0;
}

static int stage_failed(struct match *m, int code)
{
    cmd_error("the stage cannot be written: %s", g_strerror(-code));
    m->status = CMD_CANNOT;
    return 1;
}

/* ---- the store ------------------------------------------------------------------------------- */

/* The state of the store of this moment; a store that is not there is an empty one. */
static int open_store(struct match *m)
{
    struct qidmap_stats stats = {.size = sizeof stats};
    struct qidmap_error error;
    int code = qidmap_store_open(m->adopt->uri, QIDMAP_OPEN_READ, NULL, &m->store, &error);

    m->absent = code == -ENOENT;
    if (m->absent) {
        code = qidmap_store_open("memory:", QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &m->store,
                                 &error);
    }
    if (code == 0 && !m->absent) {
        code = qidmap_store_stats(m->store, &stats, &error);
    }
    if (code < 0) {
        m->status = cmd_fail(&error);
        return 1;
    }
    m->renew_at = g_get_monotonic_time() + STATE_SECONDS * G_USEC_PER_SEC;
    if (m->places == NULL) { /* the first time */
        memcpy(m->adopt->state->here, stats.uuid, sizeof stats.uuid);
    } else if (memcmp(m->adopt->state->here, stats.uuid, sizeof stats.uuid) != 0) {
        cmd_error("another store was put in its place meanwhile; begin again");
        m->status = CMD_CANNOT;
        return 1;
    }
    return 0;
}

/* A server that uses the store cannot reuse pages that an old state of it needs. */
static int renew(struct match *m)
{
    if (m->absent || ++m->calls % 1024 != 0 || g_get_monotonic_time() < m->renew_at) {
        return 0;
    }
    g_clear_pointer(&m->store, qidmap_store_close);
    int code = open_store(m);
    if (code == 0) {
        places_set_store(m->places, m->store);
    }
    return code;
}

/* ---- objects --------------------------------------------------------------------------------- */

static gboolean same_fs(const struct qidmap_identity *a, const struct qidmap_identity *b)
{
    return a->count > 0 && b->count > 0 && a->superblock == b->superblock &&
           strcmp(a->hints.tree, b->hints.tree) == 0 && a->fsid[0].kind == b->fsid[0].kind &&
           a->fsid[0].size == b->fsid[0].size &&
           memcmp(a->fsid[0].bytes, b->fsid[0].bytes,
                  MIN(a->fsid[0].size, (guint32)QIDMAP_FSID_BYTES)) == 0;
}

/* The place of a filesystem in the list, where it comes for the first time at its end. */
static guint32 to_of(struct match *m, struct place *place)
{
    for (guint32 i = 0; place->n == 0 && i < m->to->len; i++) {
        if (same_fs(&g_array_index(m->to, struct qidmap_identity, i), place->identity)) {
            place->n = i + 1;
        }
    }
    if (place->n == 0) {
        place->identity->policy = place->policy;
        g_array_append_val(m->to, *place->identity);
        g_array_append_val(m->numbers, place->fs);
        place->n = m->to->len;
    }
    return place->n - 1;
}

/* The object key of a file, as the server makes it. 0 or a negative errno; -ENOTSUP: its filesystem
 * keeps no ids. */
static int object_of(struct match *m, const struct tree_file *file, struct qidmap_object *object)
{
    struct place *place = file->place;

    memset(object, 0, sizeof *object);
    if (place->identity == NULL ||
        (place->policy != QIDMAP_POLICY_AFFIX && place->policy != QIDMAP_POLICY_HANDLE)) {
        return -ENOTSUP;
    }
    if (file->placeholder) {
        object->fs = to_of(m, place);
        return sight_placeholder_at(file->fd, file->name, file->parent_ino, object) ? 0 : -ENOENT;
    }
    if (place->handles) {
        return qidmap_object_by_handle(to_of(m, place), file->fd, file->name,
                                       S_ISDIR(file->st->stx_mode) ? 0 : file->st->stx_ino, object);
    }
    object->fs = to_of(m, place);
    object->kind = QIDMAP_OBJECT_INODE;
    object->ino = file->st->stx_ino;
    return 0;
}

/* Whether the store gives the object this id already. */
static gboolean is_known(struct match *m, const struct qidmap_object *object, guint64 id)
{
    struct qidmap_object asked = *object;
    uint64_t own = 0;

    asked.fs = g_array_index(m->numbers, guint32, object->fs);
    if (asked.fs == 0 || qidmap_find_object(m->store, &asked, &own) != 0) {
        return FALSE;
    }
    m->adopt->state->counts[STAGE_RENUMBERED] += own != id;
    return own == id;
}

/* ---- files ----------------------------------------------------------------------------------- */

static enum manifest_type type_of(guint mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return MANIFEST_FILE;
    case S_IFDIR:
        return MANIFEST_DIR;
    case S_IFLNK:
        return MANIFEST_SYMLINK;
    case S_IFCHR:
        return MANIFEST_CHAR;
    case S_IFBLK:
        return MANIFEST_BLOCK;
    case S_IFIFO:
        return MANIFEST_FIFO;
    case S_IFSOCK:
        return MANIFEST_SOCKET;
    default:
        return MANIFEST_UNKNOWN;
    }
}

/* What is different, or NULL. Directories have a size of their filesystem's own. Whole seconds are
 * all that some filesystems and archives keep. */
static const char *difference(const struct manifest_file *file, const struct statx *st)
{
    if (file->type == MANIFEST_DIR) {
        return NULL;
    }
    if ((file->type == MANIFEST_FILE || file->type == MANIFEST_SYMLINK) &&
        file->size != st->stx_size) {
        return "size";
    }
    if (file->mtime_s != st->stx_mtime.tv_sec ||
        (file->mtime_ns != st->stx_mtime.tv_nsec && st->stx_mtime.tv_nsec != 0)) {
        return "time";
    }
    return st->stx_nlink > file->links ? "links" : NULL;
}

/* Ids of a filesystem in memory, which are not meant to last. */
static gboolean is_passing(guint64 id)
{
    return (id & 7) == 6;
}

/* Tells a file from a later one with its inode number. A filesystem without times of birth has
 * another time, which changes of the file move as well. */
static guint64 mark_of(const struct tree_file *is)
{
    const struct statx *st = is->st;
    gboolean folder = S_ISDIR(st->stx_mode);
    guint64 mark = (guint64)(st->stx_mode & S_IFMT) << 48;

    if (is->placeholder) { /* its times are those of this moment */
        return 0;
    }
    if ((st->stx_mask & STATX_BTIME) != 0) {
        return mark ^ ((guint64)st->stx_btime.tv_sec * 1000000000 + st->stx_btime.tv_nsec);
    }
    return folder ? mark
                  : mark ^ ((guint64)st->stx_ctime.tv_sec * 1000000000 + st->stx_ctime.tv_nsec);
}

static void source_free(gpointer data)
{
    struct source *source = data;

    if (source != NULL) {
        g_free(source->path);
        g_free(source);
    }
}

static struct source *source_of(struct match *m, guint32 fs)
{
    if (m->sources->len <= fs) {
        g_ptr_array_set_size(m->sources, (gint)fs + 1);
    }
    if (m->sources->pdata[fs] == NULL) {
        m->sources->pdata[fs] = g_new0(struct source, 1);
    }
    return m->sources->pdata[fs];
}

/* A file that is here: brings it to the stage. 0, or what is wrong with that. */
static int stage_file(struct match *m, const struct manifest_file *file, const struct tree_file *is,
                      const struct qidmap_object *object)
{
    guint64 *counts = m->adopt->state->counts;
    guint64 id = is_passing(file->id) ? 0 : file->id;
    struct stage_entry entry = {0};
    stage *stage = m->adopt->stage;
    int code = stage_get(stage, object, &entry);
    gboolean met = code == 0;

    if (code < 0 && code != -ENOENT) {
        return code;
    }
    entry.mark = mark_of(is);
    if (met && entry.id != 0 && id != 0 && entry.id != id) {
        return conflict(m, file->path,
                        "it is a hard link here to a file whose first name has another id");
    }
    if (met && (id == 0 || entry.id == id)) {
        return 0;
    }
    if (id == 0) {
        counts[STAGE_WITHOUT_ID]++;
        return stage_put(stage, object, &entry);
    }
    code = stage_claim(stage, id, object);
    if (code == -EEXIST) {
        conflict(m, file->path,
                 file->link != 0 ? "it was a hard link to a file that has the id, and is a file of "
                                   "its own here"
                                 : "another file of the manifest has its id");
        return met ? 0 : stage_put(stage, object, &entry);
    }
    if (code < 0) {
        return code;
    }
    struct source *source = source_of(m, file->fs);
    if (source->found++ == 0) {
        source->first = *object;
        source->path = g_strdup(file->path);
    }
    entry.id = id;
    entry.bind = !is_known(m, object, id);
    counts[STAGE_BINDINGS] += entry.bind;
    counts[STAGE_KNOWN] += !entry.bind;
    return stage_put(stage, object, &entry);
}

/* The file of the manifest and that of the tree have the same path. */
static int match_file(struct match *m, const struct manifest_file *file, const struct tree_file *is)
{
    struct qidmap_object object;
    const char *what;
    int code;

    if (is->st == NULL) {
        report(m, STAGE_UNREAD, "unread", is->path, g_strerror(is->code));
        return 0;
    }
    if (is->unread) {
        report(m, STAGE_UNREAD, "unread", is->path, g_strerror(is->code));
    }
    if (file->type == MANIFEST_UNKNOWN) {
        return 0;
    }
    if (type_of(is->st->stx_mode) != file->type) {
        g_autofree char *why =
            g_strdup_printf("it was a %s, and is a %s", manifest_type_name(file->type),
                            manifest_type_name(type_of(is->st->stx_mode)));
        return conflict(m, file->path, why);
    }
    m->adopt->state->counts[STAGE_MATCHED]++;
    what = difference(file, is->st);
    if (what != NULL) {
        report(m, STAGE_CHANGED, "changed", file->path, what);
    }
    code = object_of(m, is, &object);
    if (code == -ENOTSUP) {
        return file->id == 0 || is_passing(file->id)
                   ? 0
                   : conflict(m, file->path, "its filesystem keeps no ids");
    }
    if (code < 0) {
        report(m, STAGE_UNREAD, "unread", file->path, g_strerror(-code));
        return 0;
    }
    return stage_file(m, file, is, &object);
}

/* To the next file of the manifest. 0, or 1 after an error, which it told. */
static int advance(struct match *m)
{
    struct qidmap_error error;
    const struct manifest_file *file = &m->file;
    int r = manifest_reader_next(m->adopt->reader, &m->file, &error);

    if (r < 0) {
        cmd_error("%s", error.text);
        m->status = r == -EBADMSG || r == -EPROTO ? CMD_TROUBLE : CMD_CANNOT;
        return 1;
    }
    m->have = r > 0;
    if (!m->have) {
        return 0;
    }
    m->adopt->state->counts[STAGE_FILES]++;
    if (file->type == MANIFEST_UNKNOWN || file->unread) {
        report(m, STAGE_UNREAD, "unread", file->path, "when the manifest was made");
    }
    if (file->id != 0 && !is_passing(file->id)) {
        source_of(m, file->fs)->files++;
    }
    return 0;
}

static void tell(const struct match *m)
{
    progress_tell(m->adopt->line, m->adopt->state->counts[STAGE_FILES],
                  manifest_reader_expected(m->adopt->reader));
}

static int missing(struct match *m)
{
    tell(m);
    report(m, STAGE_MISSING, "missing", m->file.path, NULL);
    return advance(m);
}

static int commit_step(struct match *m)
{
    if (m->adopt->state->counts[STAGE_FILES] % STEP != 0) {
        return 0;
    }
    int code = stage_commit(m->adopt->stage, m->adopt->state);
    return code < 0 ? stage_failed(m, code) : 0;
}

/* A name of the tree. */
static int take(void *data, const struct tree_file *is)
{
    struct match *m = data;
    int order = 1, code = renew(m);

    while (code == 0 && m->have && (order = manifest_path_compare(m->file.path, is->path)) < 0) {
        code = missing(m);
    }
    if (code != 0) {
        return code;
    }
    tell(m);
    if (!m->have || order != 0) {
        report(m, STAGE_NEW, "new", is->path, NULL);
        return 0;
    }
    code = match_file(m, &m->file, is);
    if (code < 0) {
        return stage_failed(m, code);
    }
    code = commit_step(m);
    return code != 0 ? code : advance(m);
}

/* ---- filesystems ----------------------------------------------------------------------------- */

/* A filesystem that was mounted in the tree of the manifest, of which nothing is here but the
 * folder on which it was mounted: it did not move. It may be mounted there again, and keeps its
 * ids. */
static int leave_unmoved(struct match *m, struct source *source)
{
    guint64 *counts = m->adopt->state->counts;
    struct stage_entry entry;

    if (source->found != 1 || source->files < 2 || source->path[0] == '\0') {
        return 0;
    }
    int code = stage_get(m->adopt->stage, &source->first, &entry);
    if (code == 0) {
        counts[STAGE_BINDINGS] -= entry.bind;
        counts[STAGE_KNOWN] -= !entry.bind;
        counts[STAGE_MATCHED]--;
        entry.id = 0;
        entry.bind = FALSE;
        report(m, STAGE_MISSING, "missing", source->path,
               "nothing below it is here: what was mounted there did not move");
        source->found = 0;
        code = stage_put(m->adopt->stage, &source->first, &entry);
    }
    return code;
}

/* Filesystems that files have moved from: those of the manifest of which a file has its id here,
 * and that are not in the tree. */
static int store_tables(struct match *m)
{
    const struct adopt *adopt = m->adopt;
    g_autoptr(GByteArray) from = g_byte_array_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    gboolean own = !m->absent && memcmp(adopt->state->store, adopt->state->here, 16) == 0;
    const struct manifest_fs *fs;

    for (guint32 n = 1; (fs = manifest_reader_fs(adopt->reader, n)) != NULL; n++) {
        struct qidmap_moved_fs moved = {.fs = own ? fs->fs : 0, .fsid = fs->fsid};
        struct source *source = n < m->sources->len ? m->sources->pdata[n] : NULL;
        int code = source != NULL ? leave_unmoved(m, source) : 0;
        gboolean stays = source == NULL || source->found == 0;
        if (code < 0) {
            return code;
        }

        for (guint i = 0; own && i < m->numbers->len; i++) {
            stays = stays || g_array_index(m->numbers, guint32, i) == fs->fs;
        }
        if (stays || (own && !g_hash_table_add(seen, GUINT_TO_POINTER(fs->fs)))) {
            continue;
        }
        g_strlcpy(moved.type, fs->type, sizeof moved.type);
        g_byte_array_append(from, (const guint8 *)&moved, sizeof moved);
    }
    int code = stage_put_table(adopt->stage, "from", from->data, from->len);
    return code < 0 ? code
                    : stage_put_table(adopt->stage, "to", m->to->data,
                                      m->to->len * sizeof(struct qidmap_identity));
}

static int walk(struct match *m)
{
    const struct adopt *adopt = m->adopt;
    struct qidmap_error error;
    int code;

    m->places = places_new(m->store, m->sight, adopt->tree, adopt->distinct, &error);
    if (m->places == NULL) {
        return cmd_fail(&error);
    }
    progress_begin(adopt->line, "searching", "files");
    code = advance(m);
    if (code == 0) {
        code = tree_walk(adopt->tree, m->places, MANIFEST_PATH_MAX, take, m);
    }
    while (code == 0 && m->have) {
        code = missing(m);
    }
    progress_hide(adopt->line);
    if (code < 0) {
        cmd_error("the names of a folder cannot be sorted: %s", g_strerror(-code));
        return CMD_CANNOT;
    }
    if (code > 0) {
        return m->status;
    }
    code = store_tables(m);
    if (code == 0) {
        code = stage_commit(adopt->stage, adopt->state);
    }
    if (code < 0) {
        stage_failed(m, code);
    }
    return m->status;
}

int adopt_match(const struct adopt *adopt)
{
    struct match m = {.adopt = adopt, .status = CMD_OK};
    struct stage_state *state = adopt->state;
    int code = stage_empty(adopt->stage);

    memset(state, 0, sizeof *state);
    state->size = sizeof *state;
    state->phase = STAGE_MATCHING;
    g_strlcpy(state->version, VERSION, sizeof state->version);
    memcpy(state->store, manifest_reader_header(adopt->reader)->store, sizeof state->store);
    if (code == 0) {
        code = stage_commit(adopt->stage, state);
    }
    if (code < 0) {
        stage_failed(&m, code);
        return m.status;
    }
    if (open_store(&m) != 0) {
        return m.status;
    }
    m.sight = sight_new(m.store, adopt->fs_ids);
    m.to = g_array_new(FALSE, FALSE, sizeof(struct qidmap_identity));
    m.numbers = g_array_new(FALSE, FALSE, sizeof(guint32));
    m.sources = g_ptr_array_new_with_free_func(source_free);
    int status = m.sight != NULL ? walk(&m) : CMD_USAGE;
    g_array_unref(m.to);
    g_array_unref(m.numbers);
    g_ptr_array_unref(m.sources);
    g_clear_pointer(&m.places, places_free);
    g_clear_pointer(&m.sight, sight_free);
    g_clear_pointer(&m.store, qidmap_store_close);
    return status;
}

/* ---- once more ------------------------------------------------------------------------------- */

static int check_file(void *data, const struct tree_file *is)
{
    struct match *m = data;
    struct stage *stage = m->adopt->stage;
    struct qidmap_object object;
    struct stage_entry entry;
    int code = renew(m);

    if (code != 0) {
        return code;
    }
    progress_tell(m->adopt->line, m->met, m->adopt->state->counts[STAGE_BINDINGS]);
    if (is->st == NULL || object_of(m, is, &object) != 0) {
        return 0;
    }
    code = stage_get(stage, &object, &entry);
    if (code == -ENOENT || (code == 0 && (!entry.bind || entry.seen == m->turn))) {
        return 0;
    }
    if (code == 0 && entry.mark != mark_of(is)) {
        if (m->exchanged++ < 10) {
            g_autofree char *shown = cmd_escape(is->path, TRUE);
            progress_hide(m->adopt->line);
            cmd_error("%s: it came after adopt had looked at the file of this inode number", shown);
        }
        return 0;
    }
    if (code == 0) {
        entry.seen = m->turn;
        code = stage_put(stage, &object, &entry);
    }
    if (code == 0 && ++m->met % STEP == 0) {
        code = stage_commit(stage, m->adopt->state);
    }
    return code < 0 ? stage_failed(m, code) : 0;
}

static int check_tree(struct match *m)
{
    const struct adopt *adopt = m->adopt;
    struct qidmap_error error;

    m->places = places_new(m->store, m->sight, adopt->tree, adopt->distinct, &error);
    if (m->places == NULL) {
        return cmd_fail(&error);
    }
    progress_begin(adopt->line, "looking again", "files");
    int code = tree_walk(adopt->tree, m->places, MANIFEST_PATH_MAX, check_file, m);
    progress_hide(adopt->line);
    if (code < 0) {
        cmd_error("the names of a folder cannot be sorted: %s", g_strerror(-code));
        return CMD_CANNOT;
    }
    guint64 wanted = adopt->state->counts[STAGE_BINDINGS];
    if (code == 0 && m->met < wanted) {
        cmd_error("%" G_GUINT64_FORMAT
                  " files that would get their ids are gone or were replaced since "
                  "adopt looked at them; nothing was changed: run adopt MANIFEST EXPORT again",
                  wanted - m->met);
        return CMD_TROUBLE;
    }
    return m->status;
}

int adopt_check(const struct adopt *adopt)
{
    struct match m = {.adopt = adopt, .status = CMD_OK};
    g_autoptr(GByteArray) to = stage_get_table(adopt->stage, "to");

    if (adopt->state->counts[STAGE_BINDINGS] == 0) {
        return CMD_OK;
    }
    do {
        m.turn = g_random_int();
    } while (m.turn == 0);
    if (open_store(&m) != 0) {
        return m.status;
    }
    m.sight = sight_new(m.store, adopt->fs_ids);
    m.to = g_array_new(FALSE, FALSE, sizeof(struct qidmap_identity));
    m.numbers = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_array_append_vals(m.to, to->data, to->len / (guint)sizeof(struct qidmap_identity));
    g_array_set_size(m.numbers, m.to->len);
    int status = m.sight != NULL ? check_tree(&m) : CMD_USAGE;
    g_array_unref(m.to);
    g_array_unref(m.numbers);
    g_clear_pointer(&m.places, places_free);
    g_clear_pointer(&m.sight, sight_free);
    g_clear_pointer(&m.store, qidmap_store_close);
    return status;
}
