/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From the stage to the library: the bindings as a file, which the library judges, or adopts. The
 * file is in the folder of the stage, where there is room for it, and has no name.
 */
#include "config.h"

#include "tools/adopt.h"
#include "tools/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SHOWN 10

/* What goes into the file. */
struct reading {
    stage *stage;
    progress *line;
    guint64 total;
    gboolean first;
};

static int next_binding(void *data, struct qidmap_binding *binding)
{
    struct reading *reading = data;
    struct stage_entry entry;
    int r;

    do {
        r = stage_next(reading->stage, reading->first, &binding->object, &entry);
        reading->first = FALSE;
    } while (r > 0 && !entry.bind);
    binding->path = entry.id;
    return r;
}

static int tell_reading(void *data, uint64_t done, uint64_t total)
{
    struct reading *reading = data;
    (void)total;
    progress_tell(reading->line, done, reading->total);
    return 0;
}

static int open_file(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "bindings", NULL);
    int fd;

    unlink(path); /* of a run that was killed */
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    unlink(path);
    return fd;
}

int adopt_bindings(stage *stage, const struct stage_state *state, const char *dir, progress *line,
                   struct qidmap_error *error)
{
    g_autoptr(GByteArray) to = stage_get_table(stage, "to");
    g_autoptr(GByteArray) from = stage_get_table(stage, "from");
    struct reading reading = {stage, line, state->counts[STAGE_BINDINGS], TRUE};
    struct qidmap_bindings all = {.size = sizeof all,
                                  .n_to = to->len / (guint)sizeof(struct qidmap_identity),
                                  .n_from = from->len / (guint)sizeof(struct qidmap_moved_fs),
                                  .to = (const struct qidmap_identity *)(const void *)to->data,
                                  .from = (const struct qidmap_moved_fs *)(const void *)from->data,
                                  .next = next_binding,
                                  .progress = tell_reading,
                                  .data = &reading};
    int fd = open_file(dir);

    if (fd < 0) {
        error->code = fd;
        g_snprintf(error->text, sizeof error->text, "%s: %s", dir, g_strerror(-fd));
        return fd;
    }
    progress_begin(line, "sorting", "files");
    int code = qidmap_bindings_write(fd, &all, error);
    progress_hide(line);
    if (code < 0) {
        close(fd);
        return code;
    }
    return fd;
}

/* ---- judging --------------------------------------------------------------------------------- */

struct judging {
    stage *stage;
    struct stage_state *state;
    progress *line;
    int code;
};

static char *words_of(const struct qidmap_binding *binding, const char *why)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    char *line;

    json_object_set_string_member(object, "row", "conflict");
    cmd_json_u64(object, "qid_path", binding->path);
    if (binding->object.kind == QIDMAP_OBJECT_INODE) {
        cmd_json_u64(object, "inode", binding->object.ino);
    }
    json_object_set_string_member(object, "why", why);
    json_node_take_object(node, object);
    line = json_to_string(node, FALSE);
    json_node_unref(node);
    return line;
}

/* Takes a binding that is not possible out of the stage. */
static void take_out(void *data, const struct qidmap_binding *binding, const char *text)
{
    struct judging *judging = data;
    struct stage_entry entry;
    g_autofree char *line = words_of(binding, text);
    int code = stage_get(judging->stage, &binding->object, &entry);

    if (code == 0) {
        entry.bind = FALSE;
        code = stage_put(judging->stage, &binding->object, &entry);
    }
    stage_report(judging->stage, line);
    judging->state->counts[STAGE_CONFLICTS]++;
    judging->state->counts[STAGE_BINDINGS]--;
    judging->code = judging->code != 0 ? judging->code : code;
}

static int tell_judging(void *data, uint64_t done, uint64_t total)
{
    progress_tell(((struct judging *)data)->line, done, total);
    return 0;
}

int adopt_judge(stage *stage, struct stage_state *state, const char *uri, int fd, progress *line,
                struct qidmap_error *error)
{
    struct judging judging = {stage, state, line, 0};
    struct qidmap_adopt_options options = {.size = sizeof options,
                                           .flags = QIDMAP_DRY_RUN,
                                           .conflict = take_out,
                                           .progress = tell_judging,
                                           .data = &judging};

    progress_begin(line, "checking ids", "files");
    int code = qidmap_adopt(uri, fd, &options, NULL, error);
    progress_hide(line);
    if (judging.code < 0) {
        error->code = judging.code;
        g_snprintf(error->text, sizeof error->text, "the stage cannot be written: %s",
                   g_strerror(-judging.code));
        return judging.code;
    }
    return code == -EEXIST ? 0 : code;
}

/* ---- adopting -------------------------------------------------------------------------------- */

struct adopting {
    progress *line;
    guint told;
};

static void tell_conflict(void *data, const struct qidmap_binding *binding, const char *text)
{
    struct adopting *adopting = data;

    if (adopting->told++ < SHOWN) {
        progress_hide(adopting->line);
        cmd_error("qid path %" G_GUINT64_FORMAT ": %s", binding->path, text);
    }
}

static int tell_adopting(void *data, uint64_t done, uint64_t total)
{
    progress_tell(((struct adopting *)data)->line, done, total);
    return 0;
}

int adopt_here(const char *uri, int fd, progress *line, struct qidmap_bind_result *result,
               struct qidmap_error *error)
{
    struct adopting adopting = {line, 0};
    struct qidmap_adopt_options options = {.size = sizeof options,
                                           .conflict = tell_conflict,
                                           .progress = tell_adopting,
                                           .data = &adopting};

    progress_begin(line, "adopting", "files");
    int code = qidmap_adopt(uri, fd, &options, result, error);
    progress_hide(line);
    return code;
}

int adopt_there(const char *socket, const char *uri, int fd, progress *line,
                struct qidmap_bind_result *result, struct qidmap_error *error)
{
    g_autoptr(JsonObject) reply = NULL;
    g_autofree char *name = NULL, *path = NULL;
    JsonObject *arguments;
    int fds[2] = {fd, -1}, code = cmd_beside(uri, "adopt", &fds[1], &name, &path);

    if (code < 0) {
        error->code = code;
        g_snprintf(error->text, sizeof error->text, "the directory of %s: %s", uri,
                   g_strerror(-code));
        return code;
    }
    arguments = json_object_new();
    cmd_json_name(arguments, "backup", name);
    progress_begin(line, "adopting", "files");
    code = cmd_ask(socket, uri, "adopt", arguments, fds, 2, line, &reply, error);
    progress_hide(line);
    close(fds[1]);
    if (code == 0) {
        result->bound = daemon_u64(reply, "bound");
        result->known = daemon_u64(reply, "known");
        result->dropped = daemon_u64(reply, "dropped");
        g_strlcpy(result->backup, path, sizeof result->backup);
    }
    return code;
}
