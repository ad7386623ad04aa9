/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl compact`: forgets what nobody needs any more where that is asked for, and rewrites the
 * store without the space that nobody uses. Where a daemon has the store, it does the work, with
 * the descriptors of mounts that it gets from here.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/daemon.h"
#include "tools/mounted.h"
#include "tools/progress.h"

#define ROW_BYTES 96 /* of both rows of an object, about */

struct compact {
    const struct cmd *cmd;
    cmd_options options;
    gboolean dry_run, missing, prune_fs;
    char *unseen_text;
    guint64 unseen_for;
    const char *fs_text;
    guint32 fs;          /* 0: all */
    char *uri, *socket;  /* socket: of the daemon that has the store and is to do it, or NULL */
    qidmap_store *store; /* for reading, where there is a daemon */
    struct progress *line;
    guint64 gone;     /* rows */
    gboolean trouble; /* something that is mounted could not be looked at */
};

/* "90d": a number with its unit. */
static gboolean parse_time(const char *text, guint64 *seconds)
{
    static const struct {
        char unit;
        guint64 seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    gsize length = strlen(text);

    for (gsize i = 0; length > 1 && i < G_N_ELEMENTS(units); i++) {
        g_autofree char *digits = g_strndup(text, length - 1);
        guint64 number;
        if (text[length - 1] == units[i].unit && g_ascii_isdigit(text[0]) &&
            cmd_number(digits, &number) && number <= G_MAXINT64 / units[i].seconds) {
            *seconds = number * units[i].seconds;
            return TRUE;
        }
    }
    return FALSE;
}

static int tell(void *data, uint64_t done, uint64_t total)
{
    progress_tell(data, done, total);
    return 0;
}

/* ---- what is shown --------------------------------------------------------------------------- */

static JsonObject *fs_object(const struct compact *c, const struct qidmap_fs *row)
{
    JsonObject *object = json_object_new();

    json_object_set_boolean_member(object, "dry_run", c->dry_run);
    json_object_set_int_member(object, "fs", row->fs);
    return object;
}

static void show_fs(struct compact *c, const struct qidmap_fs *row,
                    const struct qidmap_prune_result *r, const char *kept)
{
    progress_hide(c->line);
    if (c->options.json) {
        JsonObject *object = fs_object(c, row);
        cmd_json_u64(object, "rows", r->rows);
        cmd_json_u64(object, "missing", r->missing);
        if (kept != NULL) {
            json_object_set_string_member(object, "kept", kept);
        }
        cmd_json_line(object);
        return;
    }
    g_autofree char *what = cmd_fs_what(&row->hints);
    if (kept != NULL) {
        g_autofree char *shown = cmd_escape(kept, TRUE);
        printf("filesystem %u (%s): %" G_GUINT64_FORMAT " rows are left alone: %s\n", row->fs, what,
               (guint64)r->rows, shown);
    } else {
        printf("filesystem %u (%s): of %" G_GUINT64_FORMAT " rows %" G_GUINT64_FORMAT
               " are of files that are gone%s%s\n",
               row->fs, what, (guint64)r->rows, (guint64)r->missing,
               c->dry_run       ? ", and would be deleted"
               : r->missing > 0 ? ", and were deleted"
                                : "",
               row->has_bound ? "; rows of even numbers, bound by migration, stay" : "");
    }
}

static void show_retired(void *data, uint32_t fs, uint64_t unseen)
{
    struct compact *c = data;
    struct qidmap_fs row = {.size = sizeof row};

    if (qidmap_fs_get(c->store, fs, &row, NULL) != 0) {
        return;
    }
    if (c->options.json) {
        JsonObject *object = fs_object(c, &row);
        cmd_json_u64(object, "unseen_for", unseen);
        json_object_set_boolean_member(object, "retired", !c->dry_run);
        cmd_json_line(object);
        return;
    }
    g_autofree char *what = cmd_fs_what(&row.hints);
    printf("filesystem %u (%s): not seen for %" G_GUINT64_FORMAT
           " hours of service, and %s retired\n",
           fs, what, (guint64)(unseen / 3600), c->dry_run ? "would be" : "is");
}

static void show_size(const struct qidmap_compact_result *r, gboolean dry_run, gboolean json)
{
    if (json) {
        JsonObject *object = json_object_new();
        json_object_set_boolean_member(object, "dry_run", dry_run);
        cmd_json_u64(object, "bytes_before", r->bytes_before);
        cmd_json_u64(object, "bytes_after", r->bytes_after);
        cmd_json_line(object);
        return;
    }
    g_autofree char *before = g_format_size_full(r->bytes_before, G_FORMAT_SIZE_IEC_UNITS);
    g_autofree char *after = g_format_size_full(r->bytes_after, G_FORMAT_SIZE_IEC_UNITS);
    printf(dry_run ? "%s are in use; about %s would be\n" : "%s were in use; now %s are\n", before,
           after);
}

/* ---- the work -------------------------------------------------------------------------------- */

static int all_exist(void *data G_GNUC_UNUSED, const struct qidmap_object *objects G_GNUC_UNUSED,
                     size_t count G_GNUC_UNUSED, uint8_t *exists G_GNUC_UNUSED)
{
    return 0;
}

/* Rows of the full map that the filesystem has. */
static guint64 count_rows(qidmap_store *store, guint32 fs)
{
    struct qidmap_prune_options options = {
        .size = sizeof options, .flags = QIDMAP_DRY_RUN, .fs = fs, .look = all_exist};
    struct qidmap_prune_result result = {.size = sizeof result};

    return qidmap_prune(store, &options, &result, NULL) == 0 ? result.rows : 0;
}

/* The daemon does it: it gets the root as a descriptor. */
static int ask_missing(struct compact *c, const struct qidmap_missing_options *options,
                       const struct qidmap_identity *identity, struct qidmap_prune_result *result,
                       struct qidmap_error *error)
{
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *arguments = json_object_new();
    int bare, code;

    json_object_set_int_member(arguments, "fs", options->fs);
    cmd_json_u64(arguments, "superblock", identity->superblock);
    code = qidmap_open_bare(options->root, &bare, error);
    if (code < 0) {
        json_object_unref(arguments);
        return code;
    }
    code = cmd_ask(c->socket, c->uri, "prune-missing", arguments, &bare, 1, c->line, &reply, error);
    close(bare);
    if (code == 0) {
        result->rows = daemon_u64(reply, "rows");
        result->missing = daemon_u64(reply, "missing");
    }
    return code;
}

/* Through whichever of its mounts shows the whole. */
static int prune_mounted(struct compact *c, const struct mounted *mounts,
                         const struct qidmap_fs *row, struct qidmap_prune_result *result,
                         struct qidmap_error *error)
{
    struct qidmap_missing_options options = {.size = sizeof options,
                                             .flags = c->dry_run ? QIDMAP_DRY_RUN : 0,
                                             .fs = row->fs,
                                             .bare = -1,
                                             .progress = tell,
                                             .data = c->line};
    int code = -ENODEV;

    for (guint i = 0; i < mounts->fs->len && (code == -ENODEV || code == -EXDEV); i++) {
        if (g_array_index(mounts->fs, guint32, i) != row->fs) {
            continue;
        }
        options.root = g_array_index(mounts->fds, int, i);
        progress_begin(c->line, "looking at", "names");
        code = c->socket == NULL
                   ? qidmap_prune_missing(c->store, &options, result, error)
                   : ask_missing(c, &options,
                                 &g_array_index(mounts->identity, struct qidmap_identity, i),
                                 result, error);
        progress_hide(c->line);
    }
    return code;
}

static int prune_row(struct compact *c, const struct mounted *mounts, const struct qidmap_fs *row)
{
    struct qidmap_prune_result result = {.size = sizeof result};
    const char *doubt = mounted_doubt(mounts, row);
    struct qidmap_error error;
    int code;

    if (doubt != NULL) {
        result.rows = count_rows(c->store, row->fs);
        if (result.rows > 0 || c->fs != 0) {
            show_fs(c, row, &result, doubt);
        }
        return CMD_OK;
    }
    code = prune_mounted(c, mounts, row, &result, &error);
    if (code == -EIO || code == -EUCLEAN || code == -ENOSPC || code == -EROFS) {
        return cmd_fail(&error); /* of the store, or of a disk */
    }
    if (code < 0) {
        result.rows = count_rows(c->store, row->fs);
        show_fs(c, row, &result, error.text);
        c->trouble = TRUE;
    } else if (result.rows > 0 || c->fs != 0) {
        show_fs(c, row, &result, NULL);
        c->gone += result.missing;
    }
    return CMD_OK;
}

static int prune_missing(struct compact *c, const struct mounted *mounts)
{
    g_autoptr(GArray) numbers = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(qidmap_iter) iter = NULL;
    struct qidmap_error error;
    struct qidmap_row entry;
    int status = CMD_OK;

    if (qidmap_iter_open(c->store, &iter, &error) != 0) {
        return cmd_fail(&error);
    }
    while (qidmap_iter_next(iter, &entry, &error) == 1 && entry.kind == QIDMAP_ROW_FS) {
        g_array_append_val(numbers, entry.fs);
    }
    g_clear_pointer(&iter, qidmap_iter_close);
    for (guint i = 0; i < numbers->len && status == CMD_OK; i++) {
        struct qidmap_fs row = {.size = sizeof row};
        guint32 fs = g_array_index(numbers, guint32, i);
        if (qidmap_fs_get(c->store, fs, &row, NULL) != 0 || row.retired ||
            (c->fs != 0 && c->fs != row.fs)) {
            continue;
        }
        status = prune_row(c, mounts, &row);
    }
    return status;
}

/* A daemon knows what it serves, and the tool what is mounted: both must agree that it can go. */
static int ask_retire(struct compact *c, guint32 fs, guint64 unseen)
{
    g_autoptr(JsonObject) reply = NULL;
    JsonObject *arguments = json_object_new();
    struct qidmap_error error;

    json_object_set_int_member(arguments, "fs", fs);
    cmd_json_u64(arguments, "unseen_for", c->unseen_for);
    if (cmd_ask(c->socket, c->uri, "prune-fs", arguments, NULL, 0, NULL, &reply, &error) < 0) {
        return cmd_fail(&error);
    }
    if (daemon_u64(reply, "missing") > 0) {
        show_retired(c, fs, unseen);
    }
    return CMD_OK;
}

struct candidate {
    guint32 fs;
    guint64 unseen;
};

static void note_candidate(void *data, uint32_t fs, uint64_t unseen)
{
    struct candidate candidate = {fs, unseen};
    g_array_append_val((GArray *)data, candidate);
}

static int prune_fs(struct compact *c, const struct mounted *mounts)
{
    g_autoptr(GArray) candidates = g_array_new(FALSE, FALSE, sizeof(struct candidate));
    struct qidmap_prune_fs_options options = {
        .size = sizeof options,
        .flags = c->dry_run || c->socket != NULL ? QIDMAP_DRY_RUN : 0,
        .unseen_for = c->unseen_for,
        .mounted = (const struct qidmap_identity *)(const void *)mounts->identity->data,
        .n_mounted = mounts->identity->len,
        .retired = note_candidate,
        .data = candidates,
    };
    struct qidmap_error error;
    int status = CMD_OK, code = qidmap_prune_fs(c->store, &options, NULL, &error);

    for (guint i = 0; i < candidates->len && status == CMD_OK; i++) {
        const struct candidate *one = &g_array_index(candidates, struct candidate, i);
        if (c->socket != NULL) {
            status = ask_retire(c, one->fs, one->unseen);
        } else {
            show_retired(c, one->fs, one->unseen);
        }
    }
    return code < 0 ? cmd_fail(&error) : status;
}

static int prune(struct compact *c)
{
    g_autoptr(sight) sight = sight_new(c->store, c->options.fs_ids);
    g_autoptr(mounted) mounts = NULL;
    int status = CMD_OK;

    if (sight == NULL) {
        return CMD_USAGE;
    }
    mounts = mounted_look(sight, c->store);
    if (mounts == NULL) {
        return CMD_CANNOT;
    }
    if (c->missing) {
        status = prune_missing(c, mounts);
    }
    if (status == CMD_OK && c->prune_fs) {
        status = prune_fs(c, mounts);
    }
    return status;
}

static int ask_rewrite(struct compact *c, struct qidmap_compact_result *result)
{
    g_autoptr(JsonObject) reply = NULL;
    struct qidmap_error error;

    progress_wait(c->line, "rewriting");
    int code = cmd_ask(c->socket, c->uri, "compact", NULL, NULL, 0, NULL, &reply, &error);
    progress_hide(c->line);
    if (code < 0) {
        return cmd_fail(&error);
    }
    result->bytes_before = daemon_u64(reply, "bytes_before");
    result->bytes_after = daemon_u64(reply, "bytes_after");
    show_size(result, FALSE, c->options.json);
    return c->trouble ? CMD_TROUBLE : CMD_OK;
}

static int rewrite(struct compact *c)
{
    struct qidmap_compact_result result = {.size = sizeof result};
    struct qidmap_error error;

    if (c->socket != NULL) {
        return ask_rewrite(c, &result);
    }
    progress_wait(c->line, "rewriting");
    int code = qidmap_compact(c->store, c->dry_run ? QIDMAP_DRY_RUN : 0, &result, &error);
    progress_hide(c->line);
    if (code < 0) {
        return cmd_fail(&error);
    }
    if (c->dry_run) {
        result.bytes_after -= MIN(result.bytes_after / 2, c->gone * ROW_BYTES);
    }
    show_size(&result, c->dry_run, c->options.json);
    return c->trouble ? CMD_TROUBLE : CMD_OK;
}

static int check(struct compact *c)
{
    if (c->options.rest[0] != NULL) {
        return cmd_usage(c->cmd, "compact takes no arguments");
    }
    if (c->prune_fs != (c->unseen_text != NULL)) {
        return cmd_usage(c->cmd, "--prune-fs and --unseen-for belong together");
    }
    if (c->unseen_text != NULL && !parse_time(c->unseen_text, &c->unseen_for)) {
        return cmd_usage(c->cmd, "--unseen-for needs a number with s, m, h, d or w, as in 90d");
    }
    if (c->fs_text != NULL && (!cmd_fs_number(c->fs_text, &c->fs) || !c->missing)) {
        return cmd_usage(c->cmd, "--fs needs a number of a filesystem, and --prune-missing");
    }
    return CMD_OK;
}

int cmd_compact(const struct cmd *cmd, int argc, char **argv)
{
    g_autoptr(progress) line = progress_new();
    g_autoptr(qidmap_store) store = NULL;
    g_autofree char *unseen_text = NULL, *fs_text = NULL;
    struct compact c = {.cmd = cmd, .line = line, .options = {.writes = TRUE}};
    const GOptionEntry extra[] = {
        {"prune-missing", 0, 0, G_OPTION_ARG_NONE, &c.missing,
         "forget files that mounted filesystems no longer have", NULL},
        {"fs", 0, 0, G_OPTION_ARG_STRING, &fs_text, "with it: those of this filesystem alone", "N"},
        {"prune-fs", 0, 0, G_OPTION_ARG_NONE, &c.prune_fs,
         "retire filesystems that were not seen for long", NULL},
        {"unseen-for", 0, 0, G_OPTION_ARG_STRING, &unseen_text,
         "with it: how long, in time served: 90d; s, m, h, d or w", "TIME"},
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &c.options.fs_ids,
         "as the daemon's setting: the filesystem of PATH is UUID", "PATH=UUID"},
        {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &c.dry_run, "tell what it would do and save", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status = CMD_OK;

    if (cmd_parse(cmd, &c.options, extra, argc, argv, &status)) {
        c.unseen_text = unseen_text;
        c.fs_text = fs_text;
        status = check(&c);
        status = status == CMD_OK ? cmd_uri(&c.options, &c.uri) : status;
        if (status == CMD_OK && !c.dry_run) { /* a dry run reads beside a daemon */
            status = cmd_daemon(&c.options, c.uri, &c.socket);
        }
        if (status == CMD_OK) {
            status = c.dry_run || c.socket != NULL ? cmd_open(&c.options, &store)
                                                   : cmd_open_write(&c.options, &store);
        }
        c.store = store;
        if (status == CMD_OK && (c.missing || c.prune_fs)) {
            status = prune(&c);
        }
        if (c.socket != NULL) {
            c.store = NULL; /* a reader would keep the daemon from reusing pages */
            g_clear_pointer(&store, qidmap_store_close);
        }
        if (status == CMD_OK) {
            status = rewrite(&c);
        }
    }
    cmd_options_clear(&c.options);
    g_free(c.uri);
    g_free(c.socket);
    return status;
}
