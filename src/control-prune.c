/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Verbs that forget what nobody needs any more: prune-missing and prune-fs. The tool knows the
 * host's mounts, and tells which filesystem is where; the daemon, whose mounts are not the host's,
 * gets descriptors. What is served the daemon knows better, and what the tool says is held against
 * that.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "src/control-verbs.h"
#include "src/control.h"
#include "src/qid-admin.h"
#include "store/qidmap.h"

/* What every request has. */
struct prune {
    struct qid_map *map;
    struct qid_store *store;
    uint64_t fs, unseen_for;
    unsigned flags;
    struct qidmap_prune_result result;
};

static JsonObject *fail(struct control_call *call, const struct qidmap_error *error)
{
    return control_fail(call, error->code, "%s", error->text);
}

static gboolean read_request(struct control_call *call, JsonObject *request, struct prune *p)
{
    struct qidmap_error error;
    const char *uri = NULL;
    bool dry_run = false;

    p->result.size = sizeof p->result;
    if (!control_text(call, request, "store", false, &uri) ||
        !control_flag(call, request, "dry_run", &dry_run) ||
        !control_number(call, request, "fs", true, &p->fs))
        return FALSE;
    if (p->fs == 0 || p->fs > G_MAXUINT32) {
        control_fail(call, -EINVAL, "fs is no number of a filesystem");
        return FALSE;
    }
    p->flags = dry_run ? QIDMAP_DRY_RUN : 0;
    p->store = qid_admin_find(p->map, uri, &error);
    if (p->store == NULL)
        fail(call, &error);
    return p->store != NULL;
}

static JsonObject *result_of(const struct prune *p)
{
    JsonObject *object = json_object_new();

    json_object_set_boolean_member(object, "dry_run", (p->flags & QIDMAP_DRY_RUN) != 0);
    json_object_set_int_member(object, "fs", (gint64)p->fs);
    control_set_u64(object, "rows", p->result.rows);
    control_set_u64(object, "missing", p->result.missing);
    return object;
}

/* ---- prune-missing --------------------------------------------------------------------------- */

/* Where the filesystem is served, it is on this superblock. */
static gboolean is_served_elsewhere(const struct prune *p, qidmap_store *handle,
                                    uint64_t superblock)
{
    g_autoptr(GArray) live = qid_admin_live(p->map, handle, FALSE);

    for (guint i = 0; i < live->len; i++) {
        const struct qidmap_live *one = &g_array_index(live, struct qidmap_live, i);

        if (one->fs == p->fs && one->superblock != superblock)
            return TRUE;
    }
    return FALSE;
}

static JsonObject *prune_missing(struct control_call *call, JsonObject *request, void *data)
{
    struct prune p = {.map = data};
    struct qidmap_missing_options options = {
        .size = sizeof options, .root = -1, .progress = control_progress, .data = call};
    struct qidmap_error error;
    uint64_t superblock = 0;
    qidmap_store *handle;
    int rc;

    if (!read_request(call, request, &p) ||
        !control_number(call, request, "superblock", true, &superblock))
        return NULL;
    options.fs = (uint32_t)p.fs;
    options.flags = p.flags;
    options.bare = control_take_fd(call, 0);
    if (options.bare < 0)
        return control_fail(call, -EINVAL, "the root of the filesystem must come as a descriptor");
    /* A filesystem that became this one meanwhile (fs-alias) would lose its rows. */
    handle = qid_admin_use_alone(p.store, &error);
    if (handle == NULL) {
        close(options.bare);
        return fail(call, &error);
    }
    if (is_served_elsewhere(&p, handle, superblock)) {
        error.code = rc = -EXDEV;
        g_strlcpy(error.text, "another filesystem is served under this number: one is a clone",
                  sizeof error.text);
    } else {
        rc = qidmap_prune_missing(handle, &options, &p.result, &error);
    }
    qid_admin_unuse_alone(p.store);
    close(options.bare);
    return rc < 0 ? fail(call, &error) : result_of(&p);
}

/* ---- prune-fs -------------------------------------------------------------------------------- */

static int retire(qidmap_store *handle, void *data, struct qidmap_error *error)
{
    struct prune *p = data;
    g_autoptr(GArray) live = qid_admin_live(p->map, handle, TRUE);
    struct qidmap_prune_fs_options options = {
        .size = sizeof options,
        .flags = p->flags,
        .fs = (uint32_t)p->fs,
        .unseen_for = p->unseen_for,
        .live = (const struct qidmap_live *)(const void *)live->data,
        .n_live = live->len,
    };

    return qidmap_prune_fs(handle, &options, &p->result, error);
}

static JsonObject *prune_fs(struct control_call *call, JsonObject *request, void *data)
{
    struct prune p = {.map = data};
    struct qidmap_error error;

    if (!read_request(call, request, &p) ||
        !control_number(call, request, "unseen_for", true, &p.unseen_for))
        return NULL;
    if (qid_admin_change(p.map, p.store, NULL, 0, retire, &p, &error) < 0)
        return fail(call, &error);
    return result_of(&p);
}

void control_prune_add(struct qid_map *map)
{
    control_add("prune-missing", prune_missing, map);
    control_add("prune-fs", prune_fs, map);
}
