/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl fs identify`: what each rung of the ladder says about the filesystem of a path, which
 * one wins, and, given a store, which of its filesystems that is. Changes nothing.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/sight.h"

struct answer {
    struct qidmap_finding findings[QIDMAP_FINDINGS];
    size_t count;
    struct qidmap_identity identity;
    gboolean has_store;
    guint32 fs; /* with a store: the number there, 0: none */
};

static gboolean same_fsid(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size &&
           memcmp(a->bytes, b->bytes, MIN(a->size, QIDMAP_FSID_BYTES)) == 0;
}

/* Place of a finding in the identity that was taken: 0 wins; -1: not taken. */
static int place_of(const struct answer *answer, const struct qidmap_finding *finding)
{
    for (guint32 i = 0; i < MIN(answer->identity.count, QIDMAP_FSID_COUNT); i++) {
        if (finding->result == 0 && same_fsid(&answer->identity.fsid[i], &finding->fsid)) {
            return (int)i;
        }
    }
    return -1;
}

static const char *verdict(const struct answer *answer, const struct qidmap_finding *finding)
{
    if (finding->result == -ENODATA) {
        return "no answer";
    }
    if (finding->result < 0) {
        return "failed";
    }
    int place = place_of(answer, finding);
    return place == 0 ? "wins" : place > 0 ? "also known as" : "not used";
}

static const char *sureness(const struct answer *answer)
{
    return answer->identity.count == 0
               ? "unknown"
               : cmd_certainty(answer->identity.fsid[0].kind, answer->identity.flags,
                               answer->identity.policy);
}

static void print_json(const char *path, const struct answer *answer)
{
    JsonObject *object = json_object_new();
    JsonArray *rungs = json_array_new();

    cmd_json_name(object, "path", path);
    for (size_t i = 0; i < answer->count; i++) {
        const struct qidmap_finding *finding = &answer->findings[i];
        JsonObject *rung = json_object_new();
        json_object_set_string_member(rung, "rung", finding->rung);
        json_object_set_string_member(rung, "verdict", verdict(answer, finding));
        if (finding->result == 0) {
            g_autofree char *id = cmd_fsid_text(&finding->fsid);
            json_object_set_string_member(rung, "kind", qidmap_fsid_kind_name(finding->fsid.kind));
            json_object_set_string_member(rung, "id", id);
        }
        cmd_json_name(rung, "text", finding->text);
        json_array_add_object_element(rungs, rung);
    }
    json_object_set_array_member(object, "rungs", rungs);
    json_object_set_string_member(object, "certainty", sureness(answer));
    json_object_set_string_member(object, "policy", qidmap_policy_name(answer->identity.policy));
    json_object_set_boolean_member(object, "readonly",
                                   (answer->identity.flags & QIDMAP_IDENTITY_READONLY) != 0);
    cmd_json_name(object, "type", answer->identity.hints.type);
    cmd_json_name(object, "source", answer->identity.hints.source);
    cmd_json_name(object, "mount_path", answer->identity.hints.mount_path);
    if (answer->has_store) {
        json_object_set_int_member(object, "fs", answer->fs);
    }
    cmd_json_line(object);
}

static void print_text(const char *path, const struct answer *answer)
{
    const struct qidmap_identity *identity = &answer->identity;
    g_autofree char *shown = cmd_escape(path, TRUE);
    g_autofree char *what = cmd_fs_what(&identity->hints);
    g_autofree char *mount = cmd_escape(identity->hints.mount_path, TRUE);

    printf("%s\n", shown);
    printf("  filesystem     %s, mounted at %s\n", what, mount[0] != '\0' ? mount : "-");
    for (size_t i = 0; i < answer->count; i++) {
        const struct qidmap_finding *finding = &answer->findings[i];
        g_autofree char *text = cmd_escape(finding->text, TRUE);
        g_autofree char *id = finding->result == 0 ? cmd_fsid_text(&finding->fsid) : g_strdup("");
        printf("  %-14s %-13s %s%s%s\n", finding->rung, verdict(answer, finding), id,
               id[0] != '\0' && text[0] != '\0' ? "  " : "", text);
    }
    if (identity->count > 0) {
        printf("  certainty      %s: %s\n", sureness(answer),
               cmd_fsid_words(identity->fsid[0].kind));
        printf("  policy         %s, for a filesystem that is new\n",
               qidmap_policy_name(identity->policy));
    }
    if (answer->has_store && answer->fs != 0) {
        printf("  in store       filesystem %u\n", answer->fs);
    } else if (answer->has_store) {
        printf("  in store       not there: it would get a new number\n");
    }
}

/* What the ladder says of `fd`, with the identity that the operator gave, where there is one. */
static int ask(sight *sight, int fd, struct answer *answer, struct qidmap_error *error)
{
    struct qidmap_identify_options options = {.size = sizeof options};

    answer->identity.size = sizeof answer->identity;
    int code = qidmap_identify(fd, NULL, &answer->identity, error);
    if (code < 0) {
        return code;
    }
    options.override_uuid = sight_override(sight, &answer->identity);
    memset(&answer->identity, 0, sizeof answer->identity);
    answer->identity.size = sizeof answer->identity;
    return qidmap_explain(fd, &options, answer->findings, &answer->count, &answer->identity, error);
}

int cmd_fs_identify(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE};
    const GOptionEntry extra[] = {
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.fs_ids,
         "the identity that the daemon was given for the filesystem of PATH", "PATH=UUID"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(sight) sight = NULL;
    g_autofree struct answer *answer = g_new0(struct answer, 1);
    struct qidmap_error error;
    int status = CMD_OK;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
        return cmd_usage(cmd, "fs identify needs one path");
    }
    const char *path = options.rest[0];
    answer->has_store = cmd_has_store(&options);
    if (answer->has_store && (status = cmd_open(&options, &store)) != CMD_OK) {
        return status;
    }
    sight = sight_new(store, options.fs_ids);
    if (sight == NULL) {
        return CMD_USAGE;
    }
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return cmd_fail_code(path, -errno);
    }
    int code = ask(sight, fd, answer, &error);
    close(fd);
    if (code == 0 && answer->has_store) {
        code = qidmap_recognise(store, &answer->identity, 1, &answer->fs, &error);
    }
    if (code < 0) {
        g_autofree char *shown = cmd_escape(path, TRUE);
        cmd_error("%s: %s", shown, error.text);
        return CMD_CANNOT;
    }
    if (options.json) {
        print_json(path, answer);
    } else {
        print_text(path, answer);
    }
    return CMD_OK;
}
