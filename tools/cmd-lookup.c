/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl lookup`: from a path on the host to the id that clients see, or from an id back to the
 * file. It asks the library what the filesystem of a path is, as the daemon does, and never makes a
 * mapping: a file that no client has met may have no id yet.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/scan.h"
#include "tools/sight.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

/* Linux guests show the qid path plus this as st_ino. */
#define GUEST_OFFSET 2

struct lookup {
    struct cmd_options *options;
    qidmap_store *store;
    sight *sight;
    gboolean no_scan;
};

static int status_of_open(int code)
{
    return code == ENOENT || code == ENOTDIR || code == ELOOP || code == ENAMETOOLONG ? CMD_TROUBLE
                                                                                      : CMD_CANNOT;
}

static char *describe(const struct qidmap_identity *identity)
{
    const struct qidmap_hints *hints = &identity->hints;
    g_autofree char *type = cmd_escape(hints->type, TRUE);
    g_autofree char *source = cmd_escape(hints->source, TRUE);
    g_autofree char *id =
        identity->count > 0 ? cmd_fsid_text(&identity->fsid[0]) : g_strdup("none");
    return g_strdup_printf(
        "%s%s%s, %s %s", type[0] != '\0' ? type : "unknown type", source[0] != '\0' ? " on " : "",
        source, identity->count > 0 ? qidmap_fsid_kind_name(identity->fsid[0].kind) : "identity",
        id);
}

/* What the map is asked for: the inode, or on filesystems of that policy the file handle. Where a
 * placeholder was found, the object has its inodes already. */
static int object_of(const struct qidmap_fs *row, const struct qidmap_identity *identity, int fd,
                     const struct stat *st, struct qidmap_object *object)
{
    guint64 ino = st->st_ino;

    object->fs = row->fs;
    if (object->kind == QIDMAP_OBJECT_PLACEHOLDER) {
        return 0;
    }
    object->kind = QIDMAP_OBJECT_INODE;
    object->ino = ino;
    if (!sight_wants_handle(row->policy, identity, st->st_dev)) {
        return 0;
    }
    return qidmap_object_by_handle(row->fs, fd, "", S_ISDIR(st->st_mode) ? 0 : ino, object);
}

static void print_path(const struct lookup *lookup, const char *path, guint32 fs, guint64 ino,
                       guint64 qid_path, const struct qidmap_identity *identity)
{
    if (lookup->options->json) {
        JsonObject *json = json_object_new();
        cmd_json_name(json, "path", path);
        json_object_set_int_member(json, "fs", fs);
        cmd_json_u64(json, "inode", ino);
        cmd_json_u64(json, "qid_path", qid_path);
        cmd_json_u64(json, "guest_inode", qid_path + GUEST_OFFSET);
        cmd_json_line(json);
        return;
    }
    g_autofree char *shown = cmd_escape(path, TRUE);
    g_autofree char *what = describe(identity);
    printf("%s\n", shown);
    printf("  filesystem   %u (%s)\n", fs, what);
    printf("  host inode   %" G_GUINT64_FORMAT "\n", ino);
    printf("  qid path     %" G_GUINT64_FORMAT "\n", qid_path);
    printf("  guest inode  %" G_GUINT64_FORMAT "\n", qid_path + GUEST_OFFSET);
}

static int lookup_fd(const struct lookup *lookup, const char *path, int fd)
{
    struct qidmap_fs row = {.size = sizeof row};
    struct qidmap_identity identity;
    struct qidmap_object object = {.kind = QIDMAP_OBJECT_INODE};
    struct qidmap_error error;
    struct stat st;
    guint64 qid_path;
    guint32 fs;
    g_autofree char *shown = cmd_escape(path, TRUE);

    if (fstat(fd, &st) < 0) {
        return cmd_fail_code(path, -errno);
    }
    int parent = sight_placeholder(fd, &st, &object);
    int code = sight_of(lookup->sight, parent >= 0 ? parent : fd, &fs, &identity, &error);
    if (parent >= 0) {
        close(parent);
    }
    if (code < 0) {
        cmd_error("%s: %s", shown, error.text);
        return error.code == -EUCLEAN ? CMD_TROUBLE : CMD_CANNOT;
    }
    if (fs == 0) {
        g_autofree char *what = describe(&identity);
        cmd_error("%s: its filesystem (%s) is not in this store; it was never served from it",
                  shown, what);
        return CMD_TROUBLE;
    }
    if (qidmap_fs_get(lookup->store, fs, &row, &error) < 0) {
        return cmd_fail(&error);
    }
    code = object_of(&row, &identity, fd, &st, &object);
    if (code == 0) {
        code = qidmap_find_object(lookup->store, &object, &qid_path);
    }
    if (code == -ENOENT) {
        cmd_error("%s: inode %" G_GUINT64_FORMAT " of filesystem %u has no id yet; no client has "
                  "met it",
                  shown, (guint64)st.st_ino, fs);
        return CMD_TROUBLE;
    }
    if (code < 0) {
        return cmd_fail_code(path, code);
    }
    print_path(lookup, path, fs, st.st_ino, qid_path, &identity);
    return CMD_OK;
}

static int lookup_path(const struct lookup *lookup, const char *path)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        int code = errno;
        g_autofree char *shown = cmd_escape(path, TRUE);
        cmd_error("%s: %s", shown, g_strerror(code));
        return status_of_open(code);
    }
    int status = lookup_fd(lookup, path, fd);
    close(fd);
    return status;
}

static char *hex(const guint8 *bytes, guint count)
{
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < count; i++) {
        g_string_append_printf(out, "%02x", bytes[i]);
    }
    return g_string_free(out, FALSE);
}

static void print_object_json(guint64 qid_path, const struct qidmap_object *object,
                              const struct scan *scan)
{
    JsonObject *json = json_object_new();
    cmd_json_u64(json, "qid_path", qid_path);
    cmd_json_u64(json, "guest_inode", qid_path + GUEST_OFFSET);
    json_object_set_int_member(json, "fs", object->fs);
    if (object->kind == QIDMAP_OBJECT_HANDLE) {
        g_autofree char *text = hex(object->handle, MIN(object->handle_size, QIDMAP_HANDLE_BYTES));
        json_object_set_string_member(json, "object", "handle");
        json_object_set_int_member(json, "handle_type", object->handle_type);
        json_object_set_string_member(json, "handle", text);
    } else {
        gboolean inode = object->kind == QIDMAP_OBJECT_INODE;
        json_object_set_string_member(json, "object", inode ? "inode" : "placeholder");
        cmd_json_u64(json, "inode", object->ino);
        if (!inode) {
            cmd_json_u64(json, "d_ino", object->ino2);
        }
    }
    if (scan->paths != NULL) {
        JsonArray *paths = json_array_new();
        for (guint i = 0; i < scan->paths->len; i++) {
            g_autofree char *escaped = cmd_escape(scan->paths->pdata[i], FALSE);
            json_array_add_string_element(paths, escaped);
        }
        json_object_set_array_member(json, "paths", paths);
    }
    cmd_json_line(json);
}

static void print_object_text(guint64 qid_path, const struct qidmap_object *object,
                              const struct qidmap_fs *row, const struct scan *scan)
{
    g_autofree char *type = cmd_escape(row->hints.type, TRUE);
    g_autofree char *source = cmd_escape(row->hints.source, TRUE);
    g_autofree char *id = row->fsid_count > 0 ? cmd_fsid_text(&row->fsid[0]) : g_strdup("-");

    printf("qid path %" G_GUINT64_FORMAT "\n", qid_path);
    printf("  guest inode  %" G_GUINT64_FORMAT "\n", qid_path + GUEST_OFFSET);
    printf("  filesystem   %u (%s%s%s, %s %s)\n", object->fs, type[0] != '\0' ? type : "-",
           source[0] != '\0' ? " on " : "", source,
           row->fsid_count > 0 ? qidmap_fsid_kind_name(row->fsid[0].kind) : "identity", id);
    if (object->kind == QIDMAP_OBJECT_HANDLE) {
        g_autofree char *text = hex(object->handle, MIN(object->handle_size, QIDMAP_HANDLE_BYTES));
        printf("  host handle  type %d, %s\n", object->handle_type, text);
    } else if (object->kind == QIDMAP_OBJECT_PLACEHOLDER) {
        printf("  placeholder  %" G_GUINT64_FORMAT " in directory inode %" G_GUINT64_FORMAT "\n",
               object->ino2, object->ino);
    } else {
        printf("  host inode   %" G_GUINT64_FORMAT "\n", object->ino);
    }
    for (guint i = 0; scan->paths != NULL && i < scan->paths->len; i++) {
        g_autofree char *shown = cmd_escape(scan->paths->pdata[i], TRUE);
        printf("  %-12s %s\n",
               object->kind == QIDMAP_OBJECT_PLACEHOLDER ? "directory"
               : i == 0                                  ? "name"
                                                         : "also named",
               shown);
    }
}

/* Says why there is no name; the id itself has been printed. */
static int tell_no_name(guint64 qid_path, const struct scan *scan)
{
    if (scan->mounts == 0) {
        cmd_error("qid path %" G_GUINT64_FORMAT ": filesystem %u is not mounted here, so that its "
                  "file has no name now",
                  qid_path, scan->fs);
    } else if (scan->unread > 0) {
        cmd_error("qid path %" G_GUINT64_FORMAT ": no name found, but %" G_GUINT64_FORMAT
                  " directories could not be read",
                  qid_path, scan->unread);
        return CMD_CANNOT;
    } else {
        cmd_error("qid path %" G_GUINT64_FORMAT ": filesystem %u holds no such file now", qid_path,
                  scan->fs);
    }
    return CMD_TROUBLE;
}

static int lookup_id(const struct lookup *lookup, guint64 qid_path)
{
    struct qidmap_fs row = {.size = sizeof row};
    struct qidmap_object object;
    struct qidmap_error error;
    struct scan scan = {.sight = lookup->sight};
    int status = CMD_OK;

    int code = qidmap_reverse(lookup->store, qid_path, &object);
    if (code == -ENOENT || code == -EINVAL) {
        cmd_error("qid path %" G_GUINT64_FORMAT " (guest inode %" G_GUINT64_FORMAT
                  ") belongs to no file of this store",
                  qid_path, qid_path + GUEST_OFFSET);
        return CMD_TROUBLE;
    }
    if (code < 0) {
        g_autofree char *what = g_strdup_printf("qid path %" G_GUINT64_FORMAT, qid_path);
        return cmd_fail_code(what, code);
    }
    if (qidmap_fs_get(lookup->store, object.fs, &row, &error) < 0) {
        return cmd_fail(&error);
    }
    scan.fs = object.fs;
    scan.type = row.hints.type;
    scan.ino = object.ino;
    if (object.kind == QIDMAP_OBJECT_HANDLE) {
        scan.handle = object.handle;
        scan.handle_type = object.handle_type;
        scan.handle_size = MIN(object.handle_size, QIDMAP_HANDLE_BYTES);
    }
    if (!lookup->no_scan) {
        scan_run(&scan);
    }
    if (lookup->options->json) {
        print_object_json(qid_path, &object, &scan);
    } else {
        print_object_text(qid_path, &object, &row, &scan);
    }
    if (scan.paths != NULL && scan.paths->len == 0) {
        status = tell_no_name(qid_path, &scan);
    }
    scan_clear(&scan);
    return status;
}

static gboolean is_number(const char *text)
{
    gboolean hexadecimal = g_str_has_prefix(text, "0x");
    const char *digits = hexadecimal ? text + 2 : text;
    if (*digits == '\0') {
        return FALSE;
    }
    for (const char *p = digits; *p != '\0'; p++) {
        if (hexadecimal ? !g_ascii_isxdigit(*p) : !g_ascii_isdigit(*p)) {
            return FALSE;
        }
    }
    return TRUE;
}

/* One argument that is a number, `offset` above the qid path. */
static int lookup_number(const struct lookup *lookup, const char *text, guint64 offset)
{
    guint64 number;
    if (!cmd_number(text, &number)) {
        g_autofree char *shown = cmd_escape(text, TRUE);
        cmd_error("%s is not a number of 64 bits", shown);
        return CMD_USAGE;
    }
    if (number < offset) {
        cmd_error("guest inode %s belongs to no file of this store", text);
        return CMD_TROUBLE;
    }
    return lookup_id(lookup, number - offset);
}

int cmd_lookup(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {0};
    g_auto(GStrv) guest = NULL;
    gboolean no_scan = FALSE;
    const GOptionEntry extra[] = {
        {"guest-inode", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &guest,
         "look up the file that a Linux guest shows as inode N", "N"},
        {"no-scan", 0, 0, G_OPTION_ARG_NONE, &no_scan, "do not search the filesystem for names",
         NULL},
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.fs_ids,
         "the identity that the daemon was given for the filesystem of PATH", "PATH=UUID"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(sight) sight = NULL;
    int status, worst;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (options.rest[0] == NULL && guest == NULL) {
        return cmd_usage(cmd, "lookup needs a path, a qid path, or --guest-inode N");
    }
    worst = cmd_open(&options, &store);
    if (worst != CMD_OK) {
        return worst;
    }
    sight = sight_new(store, options.fs_ids);
    if (sight == NULL) {
        return CMD_USAGE;
    }
    struct lookup lookup = {&options, store, sight, no_scan};
    for (char **arg = options.rest; *arg != NULL; arg++) {
        status = is_number(*arg) ? lookup_number(&lookup, *arg, 0) : lookup_path(&lookup, *arg);
        worst = MAX(worst, status);
    }
    for (char **arg = guest; arg != NULL && *arg != NULL; arg++) {
        status = lookup_number(&lookup, *arg, GUEST_OFFSET);
        worst = MAX(worst, status);
    }
    return worst;
}
