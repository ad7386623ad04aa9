/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An LMDB environment: sorted whatever the order in which files are met, memory that does not grow
 * with their number, and whole after a kill. Two databases map objects to ids and ids to objects,
 * so that neither an object nor an id is there twice. Values of our own machine's byte order.
 */
#include "config.h"

#include "tools/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Address space only; the file is as long as it has to be. */
#define MAP_MOST  ((gsize)256 << 30)
#define MAP_LEAST ((gsize)1 << 30)
#define KEY_MAX   (5 + 4 + QIDMAP_HANDLE_BYTES)

static const char *const files[] = {"data.mdb", "lock.mdb", "report.json", "bindings", "lock"};

struct stage {
    char *dir, *report_path;
    int lock;
    FILE *report;
    MDB_env *env;
    MDB_txn *txn; /* NULL: nothing was put */
    MDB_txn *reader;
    MDB_cursor *cursor;
    MDB_dbi meta, objects, ids;
    gboolean report_failed;
};

/* Errors of LMDB's own. */
static int code_of(int e)
{
    if (e <= 0) {
        return e == 0 ? 0 : e == MDB_MAP_FULL ? -ENOSPC : e == MDB_NOTFOUND ? -ENOENT : -EBADMSG;
    }
    return -e;
}

static int fail(struct qidmap_error *error, const char *dir, int code)
{
    error->code = code;
    g_snprintf(error->text, sizeof error->text, "the stage %s: %s", dir,
               code == -EBUSY     ? "another qidmapctl works on it"
               : code == -EBADMSG ? "it is damaged; throw it away with adopt --abandon"
                                  : g_strerror(-code));
    return code;
}

static int open_env(stage *s)
{
    gsize size = MAP_MOST;
    int e;

    do {
        e = mdb_env_create(&s->env);
        if (e == 0) {
            e = mdb_env_set_maxdbs(s->env, 4);
        }
        if (e == 0) {
            e = mdb_env_set_mapsize(s->env, size);
        }
        if (e == 0) {
            e = mdb_env_open(s->env, s->dir, MDB_NORDAHEAD, 0600);
        }
        if (e != 0) {
            mdb_env_close(s->env);
            s->env = NULL;
        }
        size /= 4;
    } while (e == ENOMEM && size >= MAP_LEAST);
    return e;
}

static int open_tables(stage *s)
{
    MDB_txn *txn;
    int e = mdb_txn_begin(s->env, NULL, 0, &txn);

    if (e != 0) {
        return e;
    }
    e = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta);
    if (e == 0) {
        e = mdb_dbi_open(txn, "objects", MDB_CREATE, &s->objects);
    }
    if (e == 0) {
        e = mdb_dbi_open(txn, "ids", MDB_CREATE, &s->ids);
    }
    if (e != 0) {
        mdb_txn_abort(txn);
        return e;
    }
    return mdb_txn_commit(txn);
}

int stage_open(const char *dir, gboolean make, stage **out, struct qidmap_error *error)
{
    stage *s = g_new0(stage, 1);
    g_autofree char *lock = g_build_filename(dir, "lock", NULL);
    int e = 0;

    s->lock = -1;
    s->dir = g_strdup(dir);
    s->report_path = g_build_filename(dir, "report.json", NULL);
    if (make && mkdir(dir, 0700) < 0 && errno != EEXIST) {
        e = errno;
    }
    if (e == 0) {
        s->lock = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0600);
        e = s->lock < 0 ? errno : flock(s->lock, LOCK_EX | LOCK_NB) < 0 ? errno : 0;
        e = e == EWOULDBLOCK ? EBUSY : e;
    }
    if (e == 0) {
        e = open_env(s);
    }
    if (e == 0) {
        e = open_tables(s);
    }
    if (e == 0) {
        int fd = open(s->report_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        s->report = fd >= 0 ? fdopen(fd, "r+") : NULL;
        e = s->report == NULL ? errno : 0;
    }
    if (e != 0) {
        int code = fail(error, dir, code_of(e));
        stage_close(s);
        return code;
    }
    *out = s;
    return 0;
}

static void end_reader(stage *s)
{
    if (s->cursor != NULL) {
        mdb_cursor_close(s->cursor);
        s->cursor = NULL;
    }
    if (s->reader != NULL) {
        mdb_txn_abort(s->reader);
        s->reader = NULL;
    }
}

void stage_close(stage *s)
{
    if (s == NULL) {
        return;
    }
    end_reader(s);
    if (s->txn != NULL) {
        mdb_txn_abort(s->txn);
    }
    if (s->env != NULL) {
        mdb_env_close(s->env);
    }
    if (s->report != NULL) {
        fclose(s->report);
    }
    if (s->lock >= 0) {
        close(s->lock);
    }
    g_free(s->dir);
    g_free(s->report_path);
    g_free(s);
}

static int begin(stage *s)
{
    end_reader(s);
    return s->txn != NULL ? 0 : mdb_txn_begin(s->env, NULL, 0, &s->txn);
}

int stage_empty(stage *s)
{
    int e = begin(s);

    if (e == 0) {
        e = mdb_drop(s->txn, s->meta, 0);
    }
    if (e == 0) {
        e = mdb_drop(s->txn, s->objects, 0);
    }
    if (e == 0) {
        e = mdb_drop(s->txn, s->ids, 0);
    }
    if (e == 0) {
        e = mdb_txn_commit(s->txn);
        s->txn = NULL;
    }
    if (e == 0 && fseeko(s->report, 0, SEEK_SET) < 0) {
        e = errno;
    }
    return code_of(e);
}

int stage_remove(const char *dir)
{
    int code = 0;

    for (gsize i = 0; code == 0 && i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i], NULL);
        if (unlink(path) < 0 && errno != ENOENT) {
            code = -errno;
        }
    }
    if (code == 0 && rmdir(dir) < 0 && errno != ENOENT) {
        code = -errno;
    }
    return code;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static int get(stage *s, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    int e = begin(s);
    return e == 0 ? mdb_get(s->txn, dbi, key, value) : e;
}

static int put(stage *s, MDB_dbi dbi, MDB_val *key, const void *bytes, gsize size)
{
    MDB_val value = {size, (void *)bytes};
    int e = begin(s);
    return e == 0 ? mdb_put(s->txn, dbi, key, &value, 0) : e;
}

static MDB_val name_key(const char *name)
{
    return (MDB_val){strlen(name), (void *)name};
}

int stage_put_table(stage *s, const char *name, gconstpointer rows, gsize size)
{
    MDB_val key = name_key(name);
    return code_of(put(s, s->meta, &key, rows, size));
}

GByteArray *stage_get_table(stage *s, const char *name)
{
    MDB_val key = name_key(name), value;
    GByteArray *rows = g_byte_array_new();

    if (get(s, s->meta, &key, &value) == 0) {
        g_byte_array_append(rows, value.mv_data, (guint)value.mv_size);
    }
    return rows;
}

gboolean stage_load(stage *s, struct stage_state *state)
{
    MDB_val key = name_key("state"), value;

    if (get(s, s->meta, &key, &value) != 0 || value.mv_size != sizeof *state) {
        return FALSE;
    }
    memcpy(state, value.mv_data, sizeof *state);
    return state->size == sizeof *state && strncmp(state->version, VERSION, 16) == 0 &&
           state->phase >= STAGE_MATCHING && state->phase <= STAGE_READY &&
           fseeko(s->report, (off_t)state->report, SEEK_SET) == 0;
}

/* Cuts off what a run that was killed wrote behind its last commit. */
static int sync_report(stage *s, guint64 *size)
{
    off_t end = ftello(s->report);

    if (end < 0 || fflush(s->report) != 0 || s->report_failed ||
        ftruncate(fileno(s->report), end) < 0 || fdatasync(fileno(s->report)) < 0) {
        return errno != 0 ? -errno : -EIO;
    }
    *size = (guint64)end;
    return 0;
}

int stage_commit(stage *s, struct stage_state *state)
{
    MDB_val key = name_key("state");
    int code = sync_report(s, &state->report);

    if (code < 0) {
        return code;
    }
    int e = put(s, s->meta, &key, state, sizeof *state);
    if (e == 0) {
        e = mdb_txn_commit(s->txn);
        s->txn = NULL;
    }
    return code_of(e);
}

void stage_report(stage *s, const char *line)
{
    if (fputs(line, s->report) < 0 || fputc('\n', s->report) == EOF) {
        s->report_failed = TRUE;
    }
}

const char *stage_report_path(const stage *s)
{
    return s->report_path;
}

/* ---- objects --------------------------------------------------------------------------------- */

static gsize put_be(guint8 *to, guint64 number, guint size)
{
    for (guint i = 0; i < size; i++) {
        to[i] = (guint8)(number >> (8 * (size - 1 - i)));
    }
    return size;
}

static guint64 take_be(const guint8 *from, guint size)
{
    guint64 number = 0;
    for (guint i = 0; i < size; i++) {
        number = number << 8 | from[i];
    }
    return number;
}

/* Sorts as qidmap_object_compare() does. */
static MDB_val key_of(const struct qidmap_object *object, guint8 bytes[KEY_MAX])
{
    gsize size = put_be(bytes, object->fs, 4);

    bytes[size++] = object->kind;
    if (object->kind == QIDMAP_OBJECT_HANDLE) {
        gsize length = MIN(object->handle_size, QIDMAP_HANDLE_BYTES);
        size += put_be(bytes + size, (guint32)object->handle_type, 4);
        memcpy(bytes + size, object->handle, length);
        size += length;
    } else {
        size += put_be(bytes + size, object->ino, 8);
        if (object->kind == QIDMAP_OBJECT_PLACEHOLDER) {
            size += put_be(bytes + size, object->ino2, 8);
        }
    }
    return (MDB_val){size, bytes};
}

static gboolean parse_key(const MDB_val *key, struct qidmap_object *object)
{
    const guint8 *bytes = key->mv_data;
    gsize size = key->mv_size;

    memset(object, 0, sizeof *object);
    if (size < 9 || size > KEY_MAX) {
        return FALSE;
    }
    object->fs = (guint32)take_be(bytes, 4);
    object->kind = bytes[4];
    if (object->kind == QIDMAP_OBJECT_HANDLE) {
        object->handle_type = (gint32)take_be(bytes + 5, 4);
        object->handle_size = (guint8)(size - 9);
        memcpy(object->handle, bytes + 9, size - 9);
        return TRUE;
    }
    if (size != (object->kind == QIDMAP_OBJECT_PLACEHOLDER ? 21u : 13u)) {
        return FALSE;
    }
    object->ino = take_be(bytes + 5, 8);
    object->ino2 = object->kind == QIDMAP_OBJECT_PLACEHOLDER ? take_be(bytes + 13, 8) : 0;
    return TRUE;
}

/* An entry: the id, the two of the caller, and whether it is to be bound. */
#define VALUE_SIZE 21

static gboolean parse_value(const MDB_val *value, struct stage_entry *entry)
{
    const guint8 *bytes = value->mv_data;

    if (value->mv_size != VALUE_SIZE) {
        return FALSE;
    }
    entry->id = take_be(bytes, 8);
    entry->mark = take_be(bytes + 8, 8);
    entry->seen = (guint32)take_be(bytes + 16, 4);
    entry->bind = bytes[20] != 0;
    return TRUE;
}

int stage_get(stage *s, const struct qidmap_object *object, struct stage_entry *entry)
{
    guint8 bytes[KEY_MAX];
    MDB_val key = key_of(object, bytes), value;
    int e = get(s, s->objects, &key, &value);

    return e != 0 ? code_of(e) : parse_value(&value, entry) ? 0 : -EBADMSG;
}

int stage_put(stage *s, const struct qidmap_object *object, const struct stage_entry *entry)
{
    guint8 bytes[KEY_MAX], value[VALUE_SIZE];
    MDB_val key = key_of(object, bytes);

    put_be(value, entry->id, 8);
    put_be(value + 8, entry->mark, 8);
    put_be(value + 16, entry->seen, 4);
    value[20] = entry->bind ? 1 : 0;
    return code_of(put(s, s->objects, &key, value, sizeof value));
}

int stage_claim(stage *s, guint64 id, const struct qidmap_object *object)
{
    guint8 bytes[KEY_MAX], name[8];
    MDB_val own = key_of(object, bytes), key = {put_be(name, id, 8), name}, value;
    int e = get(s, s->ids, &key, &value);

    if (e == MDB_NOTFOUND) {
        return code_of(put(s, s->ids, &key, own.mv_data, own.mv_size));
    }
    if (e != 0) {
        return code_of(e);
    }
    return value.mv_size == own.mv_size && memcmp(value.mv_data, own.mv_data, own.mv_size) == 0
               ? 0
               : -EEXIST;
}

int stage_next(stage *s, gboolean first, struct qidmap_object *object, struct stage_entry *entry)
{
    MDB_val key, value;
    int e = 0;

    if (first) {
        end_reader(s);
        if (s->txn != NULL) { /* nothing was put into it, or it was not to be kept */
            mdb_txn_abort(s->txn);
            s->txn = NULL;
        }
        e = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
        if (e == 0) {
            e = mdb_cursor_open(s->reader, s->objects, &s->cursor);
        }
    }
    if (e == 0) {
        e = mdb_cursor_get(s->cursor, &key, &value, first ? MDB_FIRST : MDB_NEXT);
    }
    if (e != 0) {
        return e == MDB_NOTFOUND ? 0 : code_of(e);
    }
    return parse_key(&key, object) && parse_value(&value, entry) ? 1 : -EBADMSG;
}
