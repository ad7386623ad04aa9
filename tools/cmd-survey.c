/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl survey`: says of a tree that somebody thinks of exporting which filesystems it has,
 * how well each is recognised, and what ids its files would get here and elsewhere.
 */
#include "config.h"

#include <stdio.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/survey.h"

static const char *certainty(const struct survey_fs *fs)
{
    return fs->identity == NULL || fs->identity->count == 0
               ? "unknown"
               : cmd_certainty(fs->identity->fsid[0].kind, fs->identity->flags,
                               fs->identity->policy);
}

static const char *words(const struct survey_fs *fs)
{
    return fs->identity == NULL || fs->identity->count == 0
               ? "not at all"
               : cmd_fsid_words(fs->identity->fsid[0].kind);
}

static gboolean found_trouble(const struct survey_verdict *verdicts)
{
    return verdicts[SURVEY_RAW].collisions > 0 || verdicts[SURVEY_REMAP].collisions > 0 ||
           verdicts[SURVEY_QIDMAP].collisions > 0;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static JsonObject *fs_json(const struct survey_fs *fs)
{
    JsonObject *object = json_object_new();

    cmd_json_name(object, "path", fs->path);
    cmd_json_u64(object, "st_dev", fs->st_dev);
    cmd_json_u64(object, "files", fs->files);
    json_object_set_string_member(object, "certainty", certainty(fs));
    json_object_set_string_member(object, "identified_by", words(fs));
    if (fs->identity != NULL && fs->identity->count > 0) {
        g_autofree char *id = cmd_fsid_text(&fs->identity->fsid[0]);
        json_object_set_string_member(object, "kind",
                                      qidmap_fsid_kind_name(fs->identity->fsid[0].kind));
        json_object_set_string_member(object, "id", id);
        json_object_set_string_member(object, "policy", qidmap_policy_name(fs->identity->policy));
        cmd_json_name(object, "type", fs->identity->hints.type);
        cmd_json_name(object, "source", fs->identity->hints.source);
    } else {
        cmd_json_name(object, "problem", fs->problem != NULL ? fs->problem : "");
    }
    json_object_set_int_member(object, "fs", fs->number);
    json_object_set_int_member(object, "affix_rows", fs->affix_rows);
    cmd_json_u64(object, "full_rows", fs->full_rows);
    return object;
}

static JsonObject *verdict_json(const struct survey *survey, const struct survey_verdict *verdict,
                                int way)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "way", verdict->name);
    json_object_set_string_member(object, "computes", verdict->text);
    cmd_json_u64(object, "collisions", verdict->collisions);
    cmd_json_u64(object, "refused", verdict->refused);
    if (way == SURVEY_HASH) {
        json_object_set_double_member(object, "expected", verdict->expected);
    }
    if (verdict->collisions > 0) {
        JsonArray *paths = json_array_new();
        cmd_json_u64(object, "qid_path", verdict->id);
        for (int i = 0; i < 2; i++) {
            g_autofree char *name = survey_name(survey, verdict->files[i]);
            g_autofree char *escaped = cmd_escape(name, FALSE);
            json_array_add_string_element(paths, escaped);
        }
        json_object_set_array_member(object, "paths", paths);
    }
    return object;
}

static void print_json(const struct survey *survey, const struct survey_verdict *verdicts)
{
    JsonObject *object = json_object_new();
    JsonArray *all = json_array_new(), *ways = json_array_new();
    guint64 affix = 0, full = 0;

    cmd_json_name(object, "path", survey->root);
    cmd_json_u64(object, "names", survey->n_names);
    cmd_json_u64(object, "files", survey->n_files);
    cmd_json_u64(object, "directories", survey->n_directories);
    cmd_json_u64(object, "unread", survey->unread);
    if (survey->unread > 0) {
        cmd_json_name(object, "first_unread", survey->first_unread);
    }
    for (guint i = 0; i < survey->fs->len; i++) {
        const struct survey_fs *fs = survey->fs->pdata[i];
        if (fs->placeholders) {
            continue;
        }
        json_array_add_object_element(all, fs_json(fs));
        affix += fs->affix_rows;
        full += fs->full_rows;
    }
    json_object_set_array_member(object, "filesystems", all);
    for (int i = 0; i < SURVEY_WAYS; i++) {
        json_array_add_object_element(ways, verdict_json(survey, &verdicts[i], i));
    }
    json_object_set_array_member(object, "ways", ways);
    cmd_json_u64(object, "affix_rows", affix);
    cmd_json_u64(object, "full_rows", full);
    json_object_set_boolean_member(object, "root", geteuid() == 0);
    cmd_json_line(object);
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Files of a filesystem under all its device numbers: an overlay can have several. */
static guint64 files_of(const struct survey *survey, const struct survey_fs *fs)
{
    guint64 files = 0;

    for (guint i = 0; i < survey->fs->len; i++) {
        const struct survey_fs *other = survey->fs->pdata[i];
        files += other == fs || (fs->number != 0 && other->number == fs->number) ? other->files : 0;
    }
    return files;
}

static void print_fs(const struct survey *survey, const struct survey_fs *fs)
{
    g_autofree char *path = cmd_escape(fs->path, TRUE);

    printf("  %s\n", path);
    if (fs->identity == NULL) {
        g_autofree char *problem = cmd_escape(fs->problem, TRUE);
        printf("    not recognised: %s\n", problem);
    } else {
        g_autofree char *what = cmd_fs_what(&fs->identity->hints);
        printf("    %s: %s, by: %s\n", what, certainty(fs), words(fs));
    }
    printf("    %" G_GUINT64_FORMAT " files%s%s; qidmap needs %u affix entries, %" G_GUINT64_FORMAT
           " rows of the full map\n",
           files_of(survey, fs), fs->identity != NULL ? ", policy " : "",
           fs->identity != NULL ? qidmap_policy_name(fs->identity->policy) : "", fs->affix_rows,
           fs->full_rows);
}

static void print_verdict(const struct survey *survey, const struct survey_verdict *verdict,
                          int way)
{
    printf("  %-34s %12" G_GUINT64_FORMAT, verdict->text, verdict->collisions);
    if (way == SURVEY_HASH) {
        printf("   (%.2g expected)", verdict->expected);
    }
    if (verdict->refused > 0) {
        printf("   (%" G_GUINT64_FORMAT " files get no id)", verdict->refused);
    }
    putchar('\n');
    for (int i = 0; i < 2 && verdict->collisions > 0; i++) {
        g_autofree char *name = survey_name(survey, verdict->files[i]);
        g_autofree char *shown = cmd_escape(name, TRUE);
        printf("      %s  %s\n", i == 0 ? "for example" : "        and", shown);
    }
}

static void print_advice(const struct survey_verdict *verdicts)
{
    if (verdicts[SURVEY_QIDMAP].collisions > 0) {
        printf("qidmap gives two files one id: that must not be; please report it.\n");
    } else if (verdicts[SURVEY_RAW].collisions > 0 && verdicts[SURVEY_REMAP].collisions > 0) {
        printf("Raw inode numbers do not do here, and QEMU's remap does not either.\n");
    } else if (verdicts[SURVEY_RAW].collisions > 0) {
        printf("Raw inode numbers do not do here. QEMU's remap does as long as files are met in "
               "this order;\nits ids change with that order, and after a restart.\n");
    } else if (verdicts[SURVEY_REMAP].collisions > 0) {
        printf("Raw inode numbers do here, as the tree is now; QEMU's remap does not.\n");
    } else {
        printf("No two files share an inode number, as the tree is now.\n");
    }
}

static void print_text(const struct survey *survey, const struct survey_verdict *verdicts)
{
    g_autofree char *root = cmd_escape(survey->root, TRUE);
    guint shown = 0;

    printf("%s: %" G_GUINT64_FORMAT " names, %" G_GSIZE_FORMAT " files, %" G_GUINT64_FORMAT
           " of them directories\n",
           root, survey->n_names, survey->n_files, survey->n_directories);
    if (survey->unread > 0) {
        g_autofree char *first = cmd_escape(survey->first_unread, TRUE);
        printf("not read: %" G_GUINT64_FORMAT
               " places, the first is %s (%s); what is below them is "
               "not counted\n",
               survey->unread, first, g_strerror(survey->first_errno));
    }
    if (geteuid() != 0) {
        printf("not run by root: filesystems may be recognised less surely than by the server\n");
    }
    for (guint i = 0; i < survey->fs->len; i++) {
        const struct survey_fs *fs = survey->fs->pdata[i];
        shown += fs->first;
    }
    printf("\nFilesystems: %u\n", shown);
    for (guint i = 0; i < survey->fs->len; i++) {
        const struct survey_fs *fs = survey->fs->pdata[i];
        if (fs->first) {
            print_fs(survey, fs);
        }
    }
    printf("\nFiles whose id another file has already:\n");
    for (int i = 0; i < SURVEY_WAYS; i++) {
        print_verdict(survey, &verdicts[i], i);
    }
    putchar('\n');
    print_advice(verdicts);
}

int cmd_survey(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_NONE};
    struct survey survey;
    struct survey_verdict verdicts[SURVEY_WAYS] = {0};
    int status;

    if (!cmd_parse(cmd, &options, NULL, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) != 1) {
        return cmd_usage(cmd, "survey needs one directory");
    }
    g_autoptr(progress) progress = progress_new();
    survey_init(&survey, options.rest[0], progress);
    status = survey_scan(&survey) ? survey_judge(&survey, verdicts) : CMD_CANNOT;
    if (status == CMD_OK) {
        if (options.json) {
            print_json(&survey, verdicts);
        } else {
            print_text(&survey, verdicts);
        }
        status = found_trouble(verdicts) ? CMD_TROUBLE : CMD_OK;
    }
    survey_clear(&survey);
    return status;
}
