/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl adopt`: files that were copied to another filesystem keep their ids. It finds the
 * files of a manifest in another tree and stages the ids that they had; --commit makes them valid,
 * all at once. Until then the store is only read.
 *
 * Each run of the first kind begins anew, with a new manifest after a last rsync, or after a kill.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/adopt.h"
#include "tools/cmd.h"
#include "tools/export-arg.h"

struct verb {
    const struct cmd *cmd;
    struct cmd_options options;
    struct export_arg arg;
    gboolean commit, status, abandon, skip, yes;
    int list;
    char *uri, *dir;
};

static const struct {
    enum stage_count count;
    const char *name;  /* for programs */
    const char *words; /* for people */
    gboolean always;   /* who asks wants to read that there are none */
} rows[] = {
    {STAGE_FILES, "files", "names in the manifest", TRUE},
    {STAGE_MATCHED, "matched", "found, of the same type", TRUE},
    {STAGE_MISSING, "missing", "not found: no file will have their ids", TRUE},
    {STAGE_NEW, "new", "not in the manifest: they get new ids", TRUE},
    {STAGE_CHANGED, "changed", "found with another size, time or more names", TRUE},
    {STAGE_BINDINGS, "bindings", "ids to be taken over", TRUE},
    {STAGE_KNOWN, "known", "files that have their id already", FALSE},
    {STAGE_WITHOUT_ID, "without_id", "files that had no lasting id: they get new ones", FALSE},
    {STAGE_RENUMBERED, "renumbered", "files that may have been met here: they lose another id",
     FALSE},
    {STAGE_CONFLICTS, "conflicts", "in conflict: they cannot have their id", TRUE},
    {STAGE_UNREAD, "unread", "could not be looked at", FALSE},
};

/* ---- telling --------------------------------------------------------------------------------- */

/* Names in JSON are escaped already, but for control characters. */
static char *printable(const char *path)
{
    GString *out = g_string_new(path[0] == '\0' ? "." : NULL);

    for (; *path != '\0'; path++) {
        if (g_ascii_iscntrl(*path)) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)*path);
        } else {
            g_string_append_c(out, *path);
        }
    }
    return g_string_free(out, FALSE);
}

/* The first lines of the report of each kind. */
static void show_report(const struct verb *verb, const struct stage_state *state, FILE *report)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(JsonParser) parser = json_parser_new();
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    guint64 at = 0;

    while (at < state->report && (length = getline(&line, &room, report)) > 0) {
        at += (guint64)length;
        if (!json_parser_load_from_data(parser, line, length, NULL) ||
            !JSON_NODE_HOLDS_OBJECT(json_parser_get_root(parser))) {
            continue;
        }
        JsonObject *object = json_node_get_object(json_parser_get_root(parser));
        const char *what = json_object_get_string_member_with_default(object, "row", "");
        int count = GPOINTER_TO_INT(g_hash_table_lookup(seen, what));
        if (count >= verb->list) {
            continue;
        }
        g_hash_table_insert(seen, g_strdup(what), GINT_TO_POINTER(count + 1));
        if (verb->options.json) {
            fwrite(line, 1, (gsize)length, stdout);
            continue;
        }
        const char *path = json_object_get_string_member_with_default(object, "path", NULL);
        const char *id = json_object_get_string_member_with_default(object, "qid_path", "");
        const char *why = json_object_get_string_member_with_default(object, "why", "");
        g_autofree char *shown = path != NULL ? printable(path) : NULL;
        printf("%-9s %s%s%s%s\n", what, path != NULL ? shown : "qid path ", path != NULL ? "" : id,
               why[0] != '\0' ? ": " : "", why);
    }
    free(line);
}

static const char *phase_words(const struct stage_state *state)
{
    return state->phase == STAGE_READY ? "ready" : "unfinished";
}

/* Tells what is not as it should be. An exit status. */
static int judge_counts(const struct stage_state *state)
{
    const guint64 *counts = state->counts;

    if (state->phase != STAGE_READY) {
        cmd_error("the stage is unfinished; run adopt MANIFEST EXPORT again");
        return CMD_TROUBLE;
    }
    if (counts[STAGE_MISSING] + counts[STAGE_CHANGED] + counts[STAGE_CONFLICTS] +
            counts[STAGE_UNREAD] ==
        0) {
        return CMD_OK;
    }
    cmd_error("%" G_GUINT64_FORMAT " files are missing, %" G_GUINT64_FORMAT
              " were changed, %" G_GUINT64_FORMAT " cannot have their ids, %" G_GUINT64_FORMAT
              " could not be looked at",
              counts[STAGE_MISSING], counts[STAGE_CHANGED], counts[STAGE_CONFLICTS],
              counts[STAGE_UNREAD]);
    return CMD_TROUBLE;
}

static void show_moved(const struct verb *verb, stage *stage, JsonObject *end)
{
    g_autoptr(GByteArray) from = stage_get_table(stage, "from");
    JsonArray *numbers = json_array_new();

    for (gsize i = 0; i < from->len / sizeof(struct qidmap_moved_fs); i++) {
        struct qidmap_moved_fs moved;
        memcpy(&moved, from->data + i * sizeof moved, sizeof moved);
        json_array_add_int_element(numbers, moved.fs);
        if (!verb->options.json && moved.fs != 0) {
            printf("to be superseded: filesystem %u (%s)\n", moved.fs, moved.type);
        } else if (!verb->options.json) {
            printf("to be superseded: a filesystem of another store (%s)\n", moved.type);
        }
    }
    json_object_set_array_member(end, "superseded", numbers);
}

static void show(const struct verb *verb, stage *stage, const struct stage_state *state)
{
    const char *path = stage_report_path(stage);
    FILE *report = fopen(path, "re");
    JsonObject *end = json_object_new();

    json_object_set_string_member(end, "row", "end");
    json_object_set_string_member(end, "state", phase_words(state));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint64 count = state->counts[rows[i].count];
        cmd_json_u64(end, rows[i].name, count);
        if (!verb->options.json && (count > 0 || rows[i].always)) {
            printf("%12" G_GUINT64_FORMAT "  %s\n", count, rows[i].words);
        }
    }
    show_moved(verb, stage, end);
    if (report != NULL) {
        show_report(verb, state, report);
        fclose(report);
    }
    cmd_json_name(end, "report", path);
    if (verb->options.json) {
        cmd_json_line(end);
        return;
    }
    json_object_unref(end);
    g_autofree char *shown = cmd_escape(path, TRUE);
    printf("report: %s\n", shown);
    if (state->phase == STAGE_READY) {
        puts("nothing is changed yet; adopt --commit makes the ids valid");
    }
}

/* ---- staging --------------------------------------------------------------------------------- */

/* What --commit needs to look at the tree again. */
static int note_tree(const struct verb *verb, stage *stage)
{
    g_autofree char *path = g_canonicalize_filename(verb->arg.folder, NULL);
    g_autoptr(GByteArray) ids = g_byte_array_new();
    int code = stage_put_table(stage, "tree", path, strlen(path) + 1);

    for (char **id = verb->options.fs_ids; id != NULL && *id != NULL; id++) {
        g_byte_array_append(ids, (const guint8 *)*id, (guint)strlen(*id) + 1);
    }
    if (code == 0) {
        code = stage_put_table(stage, "fs-ids", ids->data, ids->len);
    }
    return code != 0 ? code : stage_put_table(stage, "distinct", "", verb->arg.distinct ? 1 : 0);
}

/* Takes out what the store cannot take, and then the stage is ready. */
static int judge(const struct verb *verb, const struct adopt *adopt)
{
    struct stage_state *state = adopt->state;
    struct qidmap_error error;
    int fd = -1, code = 0;

    if (state->counts[STAGE_BINDINGS] > 0) {
        fd = adopt_bindings(adopt->stage, state, verb->dir, adopt->line, &error);
        code = fd < 0 ? fd : adopt_judge(adopt->stage, state, verb->uri, fd, adopt->line, &error);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (code < 0) {
        return cmd_fail(&error);
    }
    state->phase = STAGE_READY;
    code = note_tree(verb, adopt->stage);
    if (code == 0) {
        code = stage_commit(adopt->stage, state);
    }
    if (code < 0) {
        cmd_error("the stage cannot be written: %s", g_strerror(-code));
        return CMD_CANNOT;
    }
    return CMD_OK;
}

static int fill_stage(const struct verb *verb, int tree, manifest_reader *reader)
{
    g_autoptr(stage) stage = NULL;
    g_autoptr(progress) line = progress_new();
    struct qidmap_error error;
    struct stage_state state;
    struct adopt adopt = {.uri = verb->uri,
                          .fs_ids = verb->options.fs_ids,
                          .tree = tree,
                          .distinct = verb->arg.distinct,
                          .reader = reader,
                          .state = &state,
                          .line = line};
    int code = stage_open(verb->dir, TRUE, &stage, &error);

    if (code < 0) {
        return cmd_fail(&error);
    }
    adopt.stage = stage;
    int status = adopt_match(&adopt);
    if (status == CMD_OK) {
        status = judge(verb, &adopt);
    }
    if (status == CMD_OK) {
        show(verb, stage, &state);
        status = judge_counts(&state);
    }
    return status;
}

static int do_stage(const struct verb *verb)
{
    g_autoptr(manifest_reader) reader = NULL;
    struct qidmap_error error;
    int code = manifest_reader_open(verb->options.rest[0], &reader, &error);

    if (code < 0) {
        cmd_error("%s", error.text);
        return code == -EBADMSG || code == -EPROTO ? CMD_TROUBLE : CMD_CANNOT;
    }
    int tree = open(verb->arg.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree < 0) {
        g_autofree char *shown = cmd_escape(verb->arg.folder, TRUE);
        cmd_error("cannot read %s: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    int status = fill_stage(verb, tree, reader);
    close(tree);
    return status;
}

/* ---- the others ------------------------------------------------------------------------------ */

static int open_stage(const struct verb *verb, stage **stage, struct stage_state *state)
{
    struct qidmap_error error;
    int code = stage_open(verb->dir, FALSE, stage, &error);

    if (code == -ENOENT || (code == 0 && !stage_load(*stage, state))) {
        g_autofree char *shown = cmd_escape(verb->dir, TRUE);
        cmd_error("nothing is staged in %s; qidmapctl adopt MANIFEST EXPORT does it", shown);
        return CMD_TROUBLE;
    }
    return code < 0 ? cmd_fail(&error) : CMD_OK;
}

static int do_status(const struct verb *verb)
{
    g_autoptr(stage) stage = NULL;
    struct stage_state state;
    int status = open_stage(verb, &stage, &state);

    if (status == CMD_OK) {
        show(verb, stage, &state);
        status = judge_counts(&state);
    }
    return status;
}

static int do_abandon(const struct verb *verb)
{
    int code = stage_remove(verb->dir);
    return code < 0 ? cmd_fail_code(verb->dir, code) : CMD_OK;
}

static void show_result(const struct verb *verb, const struct qidmap_bind_result *r)
{
    if (verb->options.json) {
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "row", "end");
        json_object_set_string_member(object, "state", "adopted");
        cmd_json_u64(object, "bound", r->bound);
        cmd_json_u64(object, "known", r->known);
        cmd_json_u64(object, "dropped", r->dropped);
        cmd_json_name(object, "backup", r->backup);
        cmd_json_line(object);
        return;
    }
    g_autofree char *shown = cmd_escape(r->backup, TRUE);
    printf("what was there: %s\nadopted: %" G_GUINT64_FORMAT " files have their old ids", shown,
           r->bound + r->known);
    if (r->known > 0) {
        printf(" (%" G_GUINT64_FORMAT " of them had them before)", r->known);
    }
    puts("");
}

static int check_ready(const struct verb *verb, const struct stage_state *state)
{
    static const guint8 none[16];
    struct qidmap_stats stats = {.size = sizeof stats};
    g_autoptr(qidmap_store) store = NULL;

    if (state->phase != STAGE_READY) {
        cmd_error("the stage is unfinished; run adopt MANIFEST EXPORT again");
        return CMD_TROUBLE;
    }
    if (state->counts[STAGE_CONFLICTS] > 0 && !verb->skip) {
        cmd_error("%" G_GUINT64_FORMAT " files cannot have their ids, see adopt --status; "
                  "--skip-conflicts adopts the others",
                  state->counts[STAGE_CONFLICTS]);
        return CMD_TROUBLE;
    }
    if (state->counts[STAGE_BINDINGS] + state->counts[STAGE_KNOWN] == 0) {
        cmd_error("no file has an id to be taken over; was it the right manifest and folder?");
        return CMD_TROUBLE;
    }
    if (memcmp(state->here, none, sizeof none) != 0 &&
        (qidmap_store_open(verb->uri, QIDMAP_OPEN_READ, NULL, &store, NULL) < 0 ||
         qidmap_store_stats(store, &stats, NULL) < 0 ||
         memcmp(stats.uuid, state->here, sizeof none) != 0)) {
        cmd_error("the store is not the one that the stage was made for; run adopt again");
        return CMD_TROUBLE;
    }
    return CMD_OK;
}

/* A commit that was killed may have left a store that has given no id yet, and that goes far ahead
 * with its counters, since it cannot tell a crash from a backup: ids of another store would not be
 * free any more. Where there was no store when the stage was made, it begins anew. */
static int clear_remains(const struct verb *verb, const struct stage_state *state)
{
    static const guint8 none[16];
    struct qidmap_reset_options how = {.size = sizeof how, .flags = QIDMAP_RESET_FROM_SCRATCH};
    struct qidmap_load_result result = {.size = sizeof result};
    struct qidmap_stats stats = {.size = sizeof stats};
    struct qidmap_error error;
    qidmap_store *store = NULL;

    if (memcmp(state->here, none, sizeof none) != 0 ||
        qidmap_store_open(verb->uri, QIDMAP_OPEN_READ, NULL, &store, NULL) < 0) {
        return CMD_OK;
    }
    int code = qidmap_store_stats(store, &stats, &error);
    qidmap_store_close(store);
    if (code == 0 && stats.affix_rows == 0 && stats.full_rows == 0) {
        code = qidmap_reset(verb->uri, &how, &result, &error);
        if (code == 0) {
            unlink(result.backup); /* of nothing */
        }
    }
    return code < 0 ? cmd_fail(&error) : CMD_OK;
}

static int ask(const struct verb *verb, const struct stage_state *state)
{
    g_autofree char *question = g_strdup_printf(
        "%" G_GUINT64_FORMAT " files get the ids that they had on the old filesystem, which is "
        "refused from then on (%" G_GUINT64_FORMAT " missing, %" G_GUINT64_FORMAT
        " new, %" G_GUINT64_FORMAT " changed). Do it?",
        state->counts[STAGE_BINDINGS], state->counts[STAGE_MISSING], state->counts[STAGE_NEW],
        state->counts[STAGE_CHANGED]);
    return cmd_confirm(verb->cmd, verb->yes, question);
}

static int check_tree(const struct verb *verb, stage *stage, struct stage_state *state,
                      progress *line)
{
    g_autoptr(GByteArray) path = stage_get_table(stage, "tree");
    g_autoptr(GByteArray) ids = stage_get_table(stage, "fs-ids");
    g_autoptr(GByteArray) distinct = stage_get_table(stage, "distinct");
    g_autoptr(GPtrArray) fs_ids = g_ptr_array_new();
    const char *folder = (const char *)path->data;
    struct adopt adopt = {.uri = verb->uri,
                          .distinct = distinct->len > 0,
                          .stage = stage,
                          .state = state,
                          .line = line};

    if (path->len == 0 || folder[path->len - 1] != '\0' ||
        (ids->len > 0 && ids->data[ids->len - 1] != '\0')) {
        cmd_error("the stage is damaged; throw it away with adopt --abandon");
        return CMD_CANNOT;
    }
    for (gsize at = 0; at < ids->len; at += strlen((char *)ids->data + at) + 1) {
        g_ptr_array_add(fs_ids, ids->data + at);
    }
    g_ptr_array_add(fs_ids, NULL);
    adopt.fs_ids = fs_ids->len > 1 ? (char **)fs_ids->pdata : NULL;
    adopt.tree = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (adopt.tree < 0) {
        g_autofree char *shown = cmd_escape(folder, TRUE);
        cmd_error("cannot look at %s again: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    int status = adopt_check(&adopt);
    close(adopt.tree);
    return status;
}

static int do_commit(const struct verb *verb)
{
    g_autoptr(stage) stage = NULL;
    g_autoptr(progress) line = progress_new();
    struct qidmap_bind_result result = {.size = sizeof result};
    struct qidmap_error error;
    g_autofree char *socket = NULL;
    struct stage_state state;
    int status = open_stage(verb, &stage, &state), fd, code;

    if (status == CMD_OK) {
        status = check_ready(verb, &state);
    }
    if (status == CMD_OK) {
        status = ask(verb, &state);
    }
    if (status == CMD_OK) {
        status = cmd_daemon(&verb->options, verb->uri, &socket);
    }
    if (status == CMD_OK) {
        status = check_tree(verb, stage, &state, line);
    }
    if (status == CMD_OK && socket == NULL) {
        status = clear_remains(verb, &state);
    }
    if (status != CMD_OK) {
        return status;
    }
    fd = adopt_bindings(stage, &state, verb->dir, line, &error);
    if (fd < 0) {
        return cmd_fail(&error);
    }
    code = socket != NULL ? adopt_there(socket, verb->uri, fd, line, &result, &error)
                          : adopt_here(verb->uri, fd, line, &result, &error);
    close(fd);
    if (code < 0) {
        cmd_error("%s", error.text);
        return code == -EEXIST || code == -ENODEV ? CMD_TROUBLE : CMD_CANNOT;
    }
    show_result(verb, &result);
    stage_remove(verb->dir); /* what is left of it can be committed again, and changes nothing */
    return CMD_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int check(const struct verb *verb)
{
    guint words = g_strv_length(verb->options.rest);
    int kinds = (verb->commit ? 1 : 0) + (verb->status ? 1 : 0) + (verb->abandon ? 1 : 0);

    if (kinds > 1) {
        return cmd_usage(verb->cmd, "one of --commit, --status and --abandon");
    }
    if (kinds == 1 && words > 0) {
        return cmd_usage(verb->cmd, "--commit, --status and --abandon take no arguments");
    }
    if (kinds == 0 && (words < 1 || words > 2)) {
        return cmd_usage(verb->cmd, "adopt needs a MANIFEST, and the EXPORT with the copies");
    }
    if (!verb->commit && (verb->skip || verb->yes)) {
        return cmd_usage(verb->cmd, "--skip-conflicts and --yes are for --commit");
    }
    return verb->list < 0 ? cmd_usage(verb->cmd, "--list takes a number from 0 on") : CMD_OK;
}

/* The folder of the stage, beside the store. */
static int find_dir(struct verb *verb)
{
    if (!g_str_has_prefix(verb->uri, "lmdb:")) {
        cmd_error("only an lmdb: store can take over ids; see qidmapctl copy");
        return CMD_CANNOT;
    }
    gsize size = strlen(verb->uri);
    while (size > 6 && verb->uri[size - 1] == '/') {
        size--;
    }
    verb->dir = g_strdup_printf("%.*s.adopt", (int)(size - 5), verb->uri + 5);
    return CMD_OK;
}

static int run(struct verb *verb)
{
    int status = check(verb);

    if (status == CMD_OK && verb->options.rest[0] != NULL) {
        status = export_arg_read(verb->cmd, &verb->options, verb->options.rest[1], &verb->arg);
    } else if (status == CMD_OK && !cmd_has_store(&verb->options)) {
        status = cmd_usage(verb->cmd, "--store URI or --export NAME says which store");
    }
    if (status == CMD_OK) {
        status = cmd_uri(&verb->options, &verb->uri);
    }
    if (status == CMD_OK) {
        status = find_dir(verb);
    }
    if (status != CMD_OK) {
        return status;
    }
    return verb->commit    ? do_commit(verb)
           : verb->status  ? do_status(verb)
           : verb->abandon ? do_abandon(verb)
                           : do_stage(verb);
}

int cmd_adopt(const struct cmd *cmd, int argc, char **argv)
{
    struct verb verb = {
        .cmd = cmd, .options = {.use = CMD_STORE_MAYBE, .writes = TRUE}, .list = 10};
    const GOptionEntry extra[] = {
        {"commit", 0, 0, G_OPTION_ARG_NONE, &verb.commit, "make what is staged valid", NULL},
        {"status", 0, 0, G_OPTION_ARG_NONE, &verb.status, "tell what is staged", NULL},
        {"abandon", 0, 0, G_OPTION_ARG_NONE, &verb.abandon, "throw away what is staged", NULL},
        {"skip-conflicts", 0, 0, G_OPTION_ARG_NONE, &verb.skip,
         "with --commit: files that cannot have their ids get new ones", NULL},
        {"list", 0, 0, G_OPTION_ARG_INT, &verb.list,
         "name N files of each kind; the report names all", "N"},
        {"yes", 'y', 0, G_OPTION_ARG_NONE, &verb.yes, "with --commit: do not ask", NULL},
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &verb.options.fs_ids,
         "the identity that the daemon is given for the filesystem of PATH", "PATH=UUID"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;

    if (cmd_parse(cmd, &verb.options, extra, argc, argv, &status)) {
        status = run(&verb);
    }
    export_arg_clear(&verb.arg);
    g_free(verb.uri);
    g_free(verb.dir);
    cmd_options_clear(&verb.options);
    return status;
}
