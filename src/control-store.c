/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Verbs about stores: compact, verify, backup, fs-alias, fs-policy, fs-retire, reset, load, adopt.
 * Each reads its request, has qid-admin.c do it safely, and writes the result. What the library
 * judges is not judged here.
 *
 * The daemon cannot write beside its store, as its own mounts show the store alone: dumps of what
 * was there go into a directory that comes as a descriptor, and are named by the path that
 * descriptor has in /proc.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/control-verbs.h"
#include "src/control.h"
#include "src/log.h"
#include "src/qid-admin.h"
#include "store/qidmap.h"

#define PROBLEMS_MAX 1000 /* that are listed */

static JsonObject *fail(struct control_call *call, const struct qidmap_error *error)
{
    return control_fail(call, error->code, "%s", error->text);
}

/* The store that the request names; NULL: told. */
static struct qid_store *find(struct control_call *call, JsonObject *request, struct qid_map *map)
{
    struct qidmap_error error;
    struct qid_store *store;
    g_autofree char *uri = NULL;

    if (!control_name(call, request, "store", false, &uri))
        return NULL;
    store = qid_admin_find(map, uri, &error);
    if (store == NULL)
        fail(call, &error);
    return store;
}

/* The same, with its handle. */
static qidmap_store *find_used(struct control_call *call, JsonObject *request, struct qid_map *map,
                               struct qid_store **store)
{
    struct qidmap_error error;
    qidmap_store *handle;

    *store = find(call, request, map);
    if (*store == NULL)
        return NULL;
    handle = qid_admin_use(*store, &error);
    if (handle == NULL)
        fail(call, &error);
    return handle;
}

/* ---- what changes no id ---------------------------------------------------------------------- */

static JsonObject *compact(struct control_call *call, JsonObject *request, void *data)
{
    struct qidmap_compact_result result = {.size = sizeof result};
    struct qidmap_error error;
    struct qid_store *store;
    qidmap_store *handle;
    JsonObject *object;
    bool dry_run = false;
    int rc;

    if (!control_flag(call, request, "dry_run", &dry_run))
        return NULL;
    handle = find_used(call, request, data, &store);
    if (handle == NULL)
        return NULL;
    rc = qidmap_compact(handle, dry_run ? QIDMAP_DRY_RUN : 0, &result, &error);
    qid_admin_unuse(store);
    if (rc < 0)
        return fail(call, &error);
    object = json_object_new();
    json_object_set_boolean_member(object, "dry_run", dry_run);
    control_set_u64(object, "bytes_before", result.bytes_before);
    control_set_u64(object, "bytes_after", result.bytes_after);
    return object;
}

struct verify {
    struct control_call *call;
    JsonArray *problems;
};

static void on_problem(void *data, const struct qidmap_problem *problem)
{
    struct verify *v = data;
    JsonObject *object;

    if (json_array_get_length(v->problems) >= PROBLEMS_MAX)
        return;
    object = json_object_new();
    json_object_set_string_member(object, "kind", qidmap_problem_name(problem->kind));
    json_object_set_string_member(object, "table", problem->table);
    json_object_set_boolean_member(object, "mendable",
                                   (problem->flags & QIDMAP_PROBLEM_MENDABLE) != 0);
    control_set_name(object, "text", problem->text);
    json_array_add_object_element(v->problems, object);
}

static int verify_progress(void *data, uint64_t done, uint64_t total)
{
    return control_progress(((struct verify *)data)->call, done, total);
}

static JsonObject *verify(struct control_call *call, JsonObject *request, void *data)
{
    struct qidmap_verify_result result = {.size = sizeof result};
    struct verify v = {.call = call};
    struct qidmap_verify_options how = {
        .size = sizeof how, .problem = on_problem, .progress = verify_progress, .data = &v};
    struct qidmap_error error;
    struct qid_store *store;
    qidmap_store *handle = find_used(call, request, data, &store);
    JsonObject *object;
    int rc;

    if (handle == NULL)
        return NULL;
    v.problems = json_array_new();
    rc = qidmap_store_verify(handle, &how, &result, &error);
    qid_admin_unuse(store);
    if (rc < 0) {
        json_array_unref(v.problems);
        return fail(call, &error);
    }
    object = json_object_new();
    control_set_u64(object, "rows", result.rows);
    control_set_u64(object, "fs_rows", result.fs_rows);
    control_set_u64(object, "affix_rows", result.affix_rows);
    control_set_u64(object, "full_rows", result.full_rows);
    control_set_u64(object, "problems", result.problems);
    control_set_u64(object, "mendable", result.mendable);
    json_object_set_array_member(object, "list", v.problems);
    return object;
}

/* A descriptor, and the request that it came with. */
struct stream {
    struct control_call *call;
    int fd;
    uint64_t bytes;
};

static int write_fd(void *data, const void *bytes, size_t size)
{
    struct stream *stream = data;
    const char *at = bytes;

    while (size > 0) {
        ssize_t n = write(stream->fd, at, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        size -= (size_t)n;
        stream->bytes += (uint64_t)n;
    }
    return 0;
}

static long read_fd(void *data, void *bytes, size_t size)
{
    struct stream *stream = data;
    ssize_t n;

    do
        n = read(stream->fd, bytes, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int stream_progress(void *data, uint64_t done, uint64_t total)
{
    return control_progress(((struct stream *)data)->call, done, total);
}

/* A pipe that nobody reads, or writes to, would keep the verb for ever. */
static bool is_file(struct control_call *call, int fd, const char *what)
{
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return true;
    control_fail(call, -EBADF, "%s must come with the request, as a descriptor of a regular file",
                 what);
    return false;
}

static JsonObject *backup(struct control_call *call, JsonObject *request, void *data)
{
    struct stream out = {call, control_take_fd(call, 0), 0};
    struct qidmap_error error;
    struct qid_store *store;
    qidmap_store *handle = NULL;
    JsonObject *object = NULL;
    int rc;

    if (is_file(call, out.fd, "the file for the dump"))
        handle = find_used(call, request, data, &store);
    if (handle != NULL) {
        rc = qidmap_dump(handle, write_fd, stream_progress, &out, &error);
        qid_admin_unuse(store);
        if (rc == 0 && fsync(out.fd) < 0) {
            rc = -errno;
            control_fail(call, rc, "cannot sync the dump: %s", g_strerror(-rc));
        } else if (rc < 0)
            fail(call, &error);
        if (rc == 0) {
            object = json_object_new();
            control_set_u64(object, "bytes", out.bytes);
        }
    }
    if (out.fd >= 0)
        close(out.fd);
    return object;
}

/* ---- rows of filesystems --------------------------------------------------------------------- */

struct change {
    uint32_t fs[2];
    uint32_t policy;
    bool renumber;
    uint32_t now;
};

static bool fs_number(struct control_call *call, JsonObject *request, const char *member,
                      uint32_t *fs)
{
    uint64_t number = 0;

    if (!control_number(call, request, member, true, &number))
        return false;
    if (number < 1 || number > G_MAXUINT32) {
        control_fail(call, -EINVAL, "\"%s\" is to be the number of a filesystem, from 1", member);
        return false;
    }
    *fs = (uint32_t)number;
    return true;
}

static JsonObject *changed(uint32_t fs)
{
    JsonObject *object = json_object_new();

    json_object_set_int_member(object, "fs", fs);
    return object;
}

static int work_alias(qidmap_store *store, void *data, struct qidmap_error *error)
{
    const struct change *change = data;

    return qidmap_fs_alias(store, change->fs[0], change->fs[1], error);
}

static JsonObject *fs_alias(struct control_call *call, JsonObject *request, void *data)
{
    struct change change = {.renumber = false};
    struct qidmap_error error;
    struct qid_store *store;

    if (!fs_number(call, request, "old", &change.fs[0]) ||
        !fs_number(call, request, "new", &change.fs[1]))
        return NULL;
    store = find(call, request, data);
    if (store == NULL)
        return NULL;
    if (qid_admin_change(data, store, change.fs, 2, work_alias, &change, &error) < 0)
        return fail(call, &error);
    log_info("%s: filesystem %u has the ids of %u now", qid_admin_uri(store), change.fs[1],
             change.fs[0]);
    return changed(change.fs[1]);
}

static int work_retire(qidmap_store *store, void *data, struct qidmap_error *error)
{
    return qidmap_fs_retire(store, ((const struct change *)data)->fs[0], error);
}

static JsonObject *retire(struct control_call *call, struct qid_map *map, struct qid_store *store,
                          uint32_t fs)
{
    struct change change = {.fs = {fs, 0}};
    struct qidmap_error error;

    if (qid_admin_change(map, store, change.fs, 1, work_retire, &change, &error) < 0)
        return fail(call, &error);
    log_info("%s: filesystem %u is retired", qid_admin_uri(store), fs);
    return changed(fs);
}

static JsonObject *fs_retire(struct control_call *call, JsonObject *request, void *data)
{
    struct qid_store *store;
    uint32_t fs;

    if (!fs_number(call, request, "fs", &fs))
        return NULL;
    store = find(call, request, data);
    return store != NULL ? retire(call, data, store, fs) : NULL;
}

static int work_policy(qidmap_store *store, void *data, struct qidmap_error *error)
{
    struct change *change = data;

    return qidmap_fs_set_policy(store, change->fs[0], change->policy, change->renumber,
                                &change->now, error);
}

static JsonObject *fs_policy(struct control_call *call, JsonObject *request, void *data)
{
    struct change change = {.policy = 0};
    struct qidmap_error error;
    struct qid_store *store;
    const char *name = NULL;

    if (!fs_number(call, request, "fs", &change.fs[0]) ||
        !control_text(call, request, "policy", true, &name) ||
        !control_flag(call, request, "renumber", &change.renumber))
        return NULL;
    for (uint32_t p = QIDMAP_POLICY_AFFIX; p <= QIDMAP_POLICY_DENY; p++)
        if (strcmp(name, qidmap_policy_name(p)) == 0)
            change.policy = p;
    if (change.policy == 0)
        return control_fail(call, -EINVAL, "the policies are affix, handle, ephemeral and deny");
    store = find(call, request, data);
    if (store == NULL)
        return NULL;
    if (qid_admin_change(data, store, change.fs, 1, work_policy, &change, &error) < 0)
        return fail(call, &error);
    log_info("%s: filesystem %u has the policy %s now", qid_admin_uri(store), change.now, name);
    return changed(change.now);
}

/* ---- the whole store ------------------------------------------------------------------------- */

/* Where the dump of what was there goes: a name in a directory that came as a descriptor. */
struct place {
    int dir;
    char path[64 + NAME_MAX];
    const char *given; /* for the options of the library: `path`, or NULL for its own */
};

static bool place_init(struct control_call *call, JsonObject *request, unsigned index,
                       struct place *place)
{
    g_autofree char *name = NULL;
    struct stat st;

    place->dir = control_take_fd(call, index);
    place->given = NULL;
    if (!control_name(call, request, "backup", place->dir >= 0, &name))
        return false;
    if (name == NULL)
        return true;
    if (place->dir < 0 || fstat(place->dir, &st) != 0 || !S_ISDIR(st.st_mode) || name[0] == '\0' ||
        strchr(name, '/') != NULL || strlen(name) > NAME_MAX - 16 || name[0] == '.') {
        control_fail(call, -EINVAL,
                     "\"backup\" is a name in the directory that comes as descriptor %u", index);
        return false;
    }
    g_snprintf(place->path, sizeof place->path, "/proc/self/fd/%d/%s", place->dir, name);
    place->given = place->path;
    return true;
}

static void place_clear(struct place *place)
{
    if (place->dir >= 0)
        close(place->dir);
}

/* In the words of who sent the request: the name alone. */
static void set_backup(JsonObject *object, const struct place *place, const char *path)
{
    if (place->given != NULL && strcmp(path, place->given) == 0)
        path = strrchr(path, '/') + 1;
    control_set_name(object, "backup", path);
}

struct whole {
    const struct place *place;
    struct stream in;
    unsigned flags;
    struct qidmap_load_result result;
};

static JsonObject *whole_result(const struct whole *whole)
{
    JsonObject *object = json_object_new();

    control_set_u64(object, "fs_rows", whole->result.fs_rows);
    control_set_u64(object, "affix_rows", whole->result.affix_rows);
    control_set_u64(object, "full_rows", whole->result.full_rows);
    json_object_set_boolean_member(object, "jumped", whole->result.jumped != 0);
    set_backup(object, whole->place, whole->result.backup);
    return object;
}

static int work_reset(const char *uri, qidmap_store **opened, void *data,
                      struct qidmap_error *error)
{
    struct whole *whole = data;
    struct qidmap_reset_options how = {
        .size = sizeof how, .flags = whole->flags, .backup = whole->place->given};

    (void)opened;
    return qidmap_reset(uri, &how, &whole->result, error);
}

static int work_load(const char *uri, qidmap_store **opened, void *data, struct qidmap_error *error)
{
    struct whole *whole = data;
    struct qidmap_load_options how = {.size = sizeof how,
                                      .flags = whole->flags,
                                      .read = read_fd,
                                      .backup = whole->place->given,
                                      .progress = stream_progress,
                                      .data = &whole->in};

    return qidmap_load(uri, &how, &whole->result, opened, error);
}

/* One filesystem begins anew: after a dump of the whole store, while clients of others go on. */
static JsonObject *reset_fs(struct control_call *call, JsonObject *request, struct qid_map *map,
                            uint32_t fs, const struct place *place)
{
    struct qidmap_fs row = {.size = sizeof row};
    char path[QIDMAP_ERROR_TEXT];
    struct qidmap_error error;
    struct qid_store *store;
    qidmap_store *handle = find_used(call, request, map, &store);
    JsonObject *result;
    int rc;

    if (handle == NULL)
        return NULL;
    rc = qidmap_fs_get(handle, fs, &row, &error);
    if (rc == 0 && row.retired) {
        rc = -ENOENT;
        control_fail(call, rc, "filesystem %u is retired already", fs);
    } else {
        if (rc == 0)
            rc = qidmap_backup(handle, place->given, 0, control_progress, call, path, &error);
        if (rc < 0)
            fail(call, &error);
    }
    qid_admin_unuse(store);
    if (rc < 0)
        return NULL;
    result = retire(call, map, store, fs);
    if (result != NULL)
        set_backup(result, place, path);
    return result;
}

static JsonObject *closed(struct control_call *call, JsonObject *request, struct qid_map *map,
                          int (*work)(const char *uri, qidmap_store **opened, void *data,
                                      struct qidmap_error *error),
                          struct whole *whole, const char *done)
{
    struct qid_store *store = find(call, request, map);
    struct qidmap_error error;

    if (store == NULL)
        return NULL;
    whole->result.size = sizeof whole->result;
    if (qid_admin_closed(map, store, work, whole, &error) < 0)
        return fail(call, &error);
    log_info("%s: the store was %s by the administrator", qid_admin_uri(store), done);
    return whole_result(whole);
}

static JsonObject *reset(struct control_call *call, JsonObject *request, void *data)
{
    struct place place = {.dir = -1};
    struct whole whole = {.place = &place};
    JsonObject *result = NULL;
    bool from_scratch = false, fine;
    uint32_t fs = 0;

    fine = place_init(call, request, 0, &place) &&
           control_flag(call, request, "from_scratch", &from_scratch) &&
           (!json_object_has_member(request, "fs") || fs_number(call, request, "fs", &fs));
    whole.flags = from_scratch ? QIDMAP_RESET_FROM_SCRATCH : 0;
    if (fine && fs != 0 && from_scratch)
        control_fail(call, -EINVAL, "\"from_scratch\" is for the whole store");
    else if (fine && fs != 0)
        result = reset_fs(call, request, data, fs, &place);
    else if (fine)
        result = closed(call, request, data, work_reset, &whole, "reset");
    place_clear(&place);
    return result;
}

static JsonObject *load(struct control_call *call, JsonObject *request, void *data)
{
    struct place place = {.dir = -1};
    struct whole whole = {.place = &place, .in = {call, control_take_fd(call, 0), 0}};
    JsonObject *result = NULL;
    bool latest = false;

    if (is_file(call, whole.in.fd, "the dump") && place_init(call, request, 1, &place) &&
        control_flag(call, request, "latest", &latest)) {
        whole.flags = QIDMAP_LOAD_REPLACE | (latest ? QIDMAP_LOAD_LATEST : 0);
        result = closed(call, request, data, work_load, &whole, "replaced");
    }
    place_clear(&place);
    if (whole.in.fd >= 0)
        close(whole.in.fd);
    return result;
}

/* ---- adopt ----------------------------------------------------------------------------------- */

struct adopt {
    const struct place *place;
    struct stream in;
    struct qidmap_bind_result result;
    uint64_t first; /* id of the first conflict */
    char why[128];  /* empty: there was none */
};

static void adopt_conflict(void *data, const struct qidmap_binding *binding, const char *text)
{
    struct adopt *adopt = data;

    if (adopt->why[0] != '\0')
        return;
    adopt->first = binding->path;
    g_strlcpy(adopt->why, text, sizeof adopt->why);
}

static int adopt_progress(void *data, uint64_t done, uint64_t total)
{
    return control_progress(((struct adopt *)data)->in.call, done, total);
}

static int work_adopt(const char *uri, qidmap_store **opened, void *data,
                      struct qidmap_error *error)
{
    struct adopt *adopt = data;
    struct qidmap_adopt_options how = {.size = sizeof how,
                                       .conflict = adopt_conflict,
                                       .backup = adopt->place->given,
                                       .progress = adopt_progress,
                                       .data = adopt};

    (void)opened;
    return qidmap_adopt(uri, adopt->in.fd, &how, &adopt->result, error);
}

static JsonObject *adopt_result(const struct adopt *adopt)
{
    JsonObject *object = json_object_new();

    control_set_u64(object, "bound", adopt->result.bound);
    control_set_u64(object, "known", adopt->result.known);
    control_set_u64(object, "dropped", adopt->result.dropped);
    set_backup(object, adopt->place, adopt->result.backup);
    return object;
}

/* Files that moved to other filesystems get the ids that they had: the bindings come as the first
 * descriptor. Clients would see the ids of both filesystems change, so none may be attached. */
static JsonObject *adopt(struct control_call *call, JsonObject *request, void *data)
{
    struct place place = {.dir = -1};
    struct adopt a = {.place = &place, .in = {call, control_take_fd(call, 0), 0}};
    struct qid_store *store = NULL;
    struct qidmap_error error;
    JsonObject *result = NULL;
    int rc;

    a.result.size = sizeof a.result;
    if (is_file(call, a.in.fd, "the file of bindings") && place_init(call, request, 1, &place))
        store = find(call, request, data);
    if (store != NULL) {
        rc = qid_admin_closed(data, store, work_adopt, &a, &error);
        if (rc == 0) {
            log_info("%s: %" G_GUINT64_FORMAT " files have the ids that they had elsewhere",
                     qid_admin_uri(store), a.result.bound + a.result.known);
            result = adopt_result(&a);
        } else if (rc == -EEXIST && a.why[0] != '\0')
            control_fail(call, rc,
                         "%" G_GUINT64_FORMAT
                         " ids cannot be bound, the first is %" G_GUINT64_FORMAT
                         ": %s; nothing was changed",
                         a.result.conflicts, a.first, a.why);
        else
            fail(call, &error);
    }
    if (a.in.fd >= 0)
        close(a.in.fd);
    place_clear(&place);
    return result;
}

void control_store_add(struct qid_map *map)
{
    control_add("compact", compact, map);
    control_add("verify", verify, map);
    control_add("backup", backup, map);
    control_add("fs-alias", fs_alias, map);
    control_add("fs-retire", fs_retire, map);
    control_add("fs-policy", fs_policy, map);
    control_add("adopt", adopt, map);
    control_add("reset", reset, map);
    control_add("load", load, map);
}
