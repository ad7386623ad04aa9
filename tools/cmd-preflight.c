/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl preflight`: what the server would make of the filesystems of an export with this
 * store, told before it is started: after a store was copied to another host, or storage was moved.
 * It asks the library which row each filesystem has, and looks at the rows to say why.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/export-arg.h"
#include "tools/places.h"

/* What becomes of a filesystem. */
enum verdict {
    KNOWN,      /* its files keep their ids */
    EPHEMERAL,  /* its ids end with the boot or the mount, here as there */
    NEW,        /* it would get a row of its own, and its files new ids */
    DENIED,     /* its policy is deny */
    SUPERSEDED, /* its files have moved elsewhere with their ids */
    NO_HANDLES, /* its files are known by handles, which cannot be had here */
    UNKNOWN     /* nothing identifies it */
};
static const char *const verdict_names[] = {"known",      "ephemeral",  "new",    "denied",
                                            "superseded", "no-handles", "unknown"};

struct flight {
    qidmap_store *store;
    struct qidmap_stats stats;
    GArray *rows; /* struct qidmap_fs: all of the store */
    const struct export_arg *arg;
    int folder;
    gboolean json;
    guint counts[G_N_ELEMENTS(verdict_names)];
};

/* ---- rows ------------------------------------------------------------------------------------
 */

static const struct qidmap_fs *row_of(const struct flight *flight, guint32 fs)
{
    for (guint i = 0; i < flight->rows->len; i++) {
        const struct qidmap_fs *row = &g_array_index(flight->rows, struct qidmap_fs, i);
        if (row->fs == fs) {
            return row;
        }
    }
    return NULL;
}

static int read_rows(struct flight *flight)
{
    struct qidmap_error error;

    flight->stats.size = sizeof flight->stats;
    if (qidmap_store_stats(flight->store, &flight->stats, &error) < 0) {
        return cmd_fail(&error);
    }
    for (guint64 fs = 1; fs < flight->stats.next_fs; fs++) {
        struct qidmap_fs row = {.size = sizeof row};
        int code = qidmap_fs_get(flight->store, (guint32)fs, &row, &error);
        if (code == 0) {
            g_array_append_val(flight->rows, row);
        } else if (code != -ENOENT) {
            return cmd_fail(&error);
        }
    }
    return CMD_OK;
}

static gboolean same_fsid(const struct qidmap_fsid *a, const struct qidmap_fsid *b)
{
    return a->kind == b->kind && a->size == b->size &&
           memcmp(a->bytes, b->bytes, MIN(a->size, QIDMAP_FSID_BYTES)) == 0;
}

/* The strongest identity that the filesystem and the row have in common; NULL: none. */
static const struct qidmap_fsid *common(const struct qidmap_identity *identity,
                                        const struct qidmap_fs *row)
{
    for (guint32 i = 0; i < MIN(identity->count, QIDMAP_FSID_COUNT); i++) {
        for (guint32 j = 0; j < MIN(row->fsid_count, QIDMAP_FSID_COUNT); j++) {
            if (same_fsid(&identity->fsid[i], &row->fsid[j])) {
                return &identity->fsid[i];
            }
        }
    }
    return NULL;
}

/* ---- words -----------------------------------------------------------------------------------
 */

static void add_hint(GPtrArray *fits, GPtrArray *moved, const char *what, const char *then,
                     const char *now)
{
    if (then[0] == '\0' || now[0] == '\0') {
        return;
    }
    if (strcmp(then, now) == 0) {
        g_ptr_array_add(fits, g_strdup(what));
    } else {
        g_autofree char *before = cmd_escape(then, TRUE);
        g_ptr_array_add(moved, g_strdup_printf("%s (was %s)", what, before));
    }
}

/* What of the hints is as it was, and what is not. */
static void compare_hints(const struct qidmap_hints *then, const struct qidmap_hints *now,
                          GPtrArray *fits, GPtrArray *moved)
{
    static const guint8 none[16];

    if (memcmp(then->marker, none, sizeof none) != 0) {
        g_ptr_array_add(memcmp(then->marker, now->marker, sizeof none) == 0 ? fits : moved,
                        g_strdup("marker"));
    }
    add_hint(fits, moved, "file behind the loop device", then->backing, now->backing);
    add_hint(fits, moved, "dm uuid", then->dm_uuid, now->dm_uuid);
    add_hint(fits, moved, "wwid", then->wwid, now->wwid);
    add_hint(fits, moved, "partition uuid", then->part_uuid, now->part_uuid);
    add_hint(fits, moved, "source", then->source, now->source);
    add_hint(fits, moved, "mount path", then->mount_path, now->mount_path);
    add_hint(fits, moved, "machine", then->machine_id, now->machine_id);
    if (then->st_dev != now->st_dev) {
        g_ptr_array_add(moved, g_strdup("device number"));
    }
}

static char *joined(GPtrArray *words)
{
    g_autoptr(GPtrArray) copy = g_ptr_array_new();
    for (guint i = 0; i < words->len; i++) {
        g_ptr_array_add(copy, words->pdata[i]);
    }
    g_ptr_array_add(copy, NULL);
    return g_strjoinv(", ", (char **)copy->pdata);
}

/* Why the row, which has an identity in common with a filesystem, is not its row. */
static char *why_not(const struct qidmap_identity *identity, const struct qidmap_fs *row)
{
    if (row->superseded) {
        return g_strdup_printf("its files moved from filesystem %u to another one, with their ids",
                               row->fs);
    }
    if (row->retired) {
        return g_strdup_printf("filesystem %u, which it was, is retired", row->fs);
    }
    if (row->policy != identity->policy && !row->chosen) {
        return g_strdup_printf("it was filesystem %u with the policy %s, which this mount cannot "
                               "keep: its mount options are others",
                               row->fs, qidmap_policy_name(row->policy));
    }
    return g_strdup_printf("filesystem %u has the same identity, but is another copy of it, or it "
                           "cannot be told which of several this is; fs alias %u NEW mends it if "
                           "they are one",
                           row->fs, row->fs);
}

static char *why_new(const struct flight *flight, const struct place_mount *mount)
{
    GString *why = g_string_new(NULL);

    for (guint i = 0; i < flight->rows->len; i++) {
        const struct qidmap_fs *row = &g_array_index(flight->rows, struct qidmap_fs, i);
        if (common(mount->identity, row) != NULL) {
            g_autofree char *one = why_not(mount->identity, row);
            g_string_append_printf(why, "%s%s", why->len > 0 ? "; " : "", one);
        }
    }
    if (why->len == 0) {
        g_string_append(why, "no filesystem of the store has its identity");
    }
    return g_string_free(why, FALSE);
}

static gboolean has_handles(const struct flight *flight, const struct place_mount *mount)
{
    struct qidmap_object object;
    int fd = mount->path[0] == '\0'
                 ? fcntl(flight->folder, F_DUPFD_CLOEXEC, 0)
                 : openat(flight->folder, mount->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return FALSE;
    }
    int code = qidmap_object_by_handle(1, fd, "", 0, &object);
    close(fd);
    return code == 0;
}

static gboolean only_names(const struct qidmap_identity *identity)
{
    return identity->count > 0 && identity->fsid[0].kind == QIDMAP_FSID_WEAK;
}

static enum verdict judge(const struct flight *flight, const struct place_mount *mount,
                          const struct qidmap_fs *row)
{
    if (mount->identity == NULL) {
        return UNKNOWN;
    }
    guint32 policy = row != NULL ? row->policy : mount->identity->policy;
    if (row != NULL && row->superseded) {
        return SUPERSEDED;
    }
    if (policy == QIDMAP_POLICY_DENY) {
        return DENIED;
    }
    if (policy == QIDMAP_POLICY_EPHEMERAL) {
        return EPHEMERAL;
    }
    if (row == NULL || (flight->arg->split_weak && only_names(mount->identity))) {
        return NEW;
    }
    return policy == QIDMAP_POLICY_HANDLE && !has_handles(flight, mount) ? NO_HANDLES : KNOWN;
}

static gboolean is_trouble(enum verdict verdict)
{
    return verdict != KNOWN && verdict != EPHEMERAL;
}

/* What is to be said of a filesystem, in a line. */
static char *reason(const struct flight *flight, const struct place_mount *mount,
                    const struct qidmap_fs *row, enum verdict verdict)
{
    switch (verdict) {
    case UNKNOWN:
        return g_strdup(mount->problem);
    case NEW:
        return row != NULL ? g_strdup("it is known by names only, and weak=split")
                           : why_new(flight, mount);
    case DENIED:
        return g_strdup("its policy is deny: its files cannot be told apart, or fs policy says so");
    case SUPERSEDED:
        return g_strdup("its files moved to another filesystem, with their ids; it is served no "
                        "more");
    case NO_HANDLES:
        return g_strdup("its files are known by file handles, which cannot be had here");
    case EPHEMERAL:
        return g_strdup(row != NULL ? "this instance is known; its ids end with it"
                                    : "its ids end with the boot or the mount anyway");
    default:
        return g_strdup("");
    }
}

/* Other mounts of the export that show the same filesystem, or a copy of it. */
static void find_others(const places *places, const struct place_mount *mount, GPtrArray *same,
                        GPtrArray *copies)
{
    const GPtrArray *mounts = places_mounts(places);

    for (guint i = 0; i < mounts->len && mount->identity != NULL; i++) {
        const struct place_mount *other = mounts->pdata[i];
        if (other == mount || other->identity == NULL ||
            !same_fsid(&other->identity->fsid[0], &mount->identity->fsid[0])) {
            continue;
        }
        g_ptr_array_add(other->identity->superblock == mount->identity->superblock ? same : copies,
                        other->path);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------
 */

static void add_words(JsonObject *object, const char *member, const GPtrArray *words)
{
    JsonArray *array = json_array_new();
    for (guint i = 0; i < words->len; i++) {
        g_autofree char *escaped = cmd_escape(words->pdata[i], FALSE);
        json_array_add_string_element(array, escaped);
    }
    json_object_set_array_member(object, member, array);
}

static void print_json(const struct flight *flight, const places *places,
                       const struct place_mount *mount, const struct qidmap_fs *row,
                       enum verdict verdict)
{
    JsonObject *object = json_object_new();
    const struct qidmap_identity *identity = mount->identity;
    g_autoptr(GPtrArray) fits = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) moved = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) same = g_ptr_array_new(), copies = g_ptr_array_new();
    g_autofree char *why = reason(flight, mount, row, verdict);

    json_object_set_string_member(object, "row", "fs");
    cmd_json_name(object, "path", mount->path);
    json_object_set_string_member(object, "verdict", verdict_names[verdict]);
    cmd_json_name(object, "reason", why);
    json_object_set_int_member(object, "fs", row != NULL ? row->fs : 0);
    if (identity != NULL) {
        const struct qidmap_fsid *by = row != NULL ? common(identity, row) : NULL;
        by = by != NULL ? by : &identity->fsid[0];
        g_autofree char *id = cmd_fsid_text(by);
        cmd_json_name(object, "type", identity->hints.type);
        cmd_json_name(object, "source", identity->hints.source);
        json_object_set_string_member(object, "kind", qidmap_fsid_kind_name(by->kind));
        json_object_set_string_member(object, "id", id);
        json_object_set_string_member(
            object, "certainty",
            cmd_certainty(by->kind, identity->flags, row != NULL ? row->policy : identity->policy));
        json_object_set_string_member(
            object, "policy", qidmap_policy_name(row != NULL ? row->policy : identity->policy));
    }
    if (identity != NULL && row != NULL) {
        compare_hints(&row->hints, &identity->hints, fits, moved);
        json_object_set_int_member(object, "alias", row->alias);
        json_object_set_boolean_member(object, "duplicate",
                                       (row->flags & QIDMAP_IDENTITY_DUPLICATE) != 0);
    }
    find_others(places, mount, same, copies);
    add_words(object, "fits", fits);
    add_words(object, "moved", moved);
    add_words(object, "same_as", same);
    add_words(object, "copies", copies);
    cmd_json_line(object);
}

/* ---- text ------------------------------------------------------------------------------------
 */

static void print_list(const char *head, GPtrArray *words)
{
    if (words->len > 0) {
        g_autofree char *text = joined(words);
        g_autofree char *shown = cmd_escape(text, TRUE);
        printf("    %s %s\n", head, shown);
    }
}

static void print_text(const struct flight *flight, const places *places,
                       const struct place_mount *mount, const struct qidmap_fs *row,
                       enum verdict verdict)
{
    g_autofree char *path = cmd_escape(mount->path[0] != '\0' ? mount->path : ".", TRUE);
    const struct qidmap_identity *identity = mount->identity;
    g_autofree char *why = reason(flight, mount, row, verdict);
    g_autofree char *shown = cmd_escape(why, TRUE);
    g_autoptr(GPtrArray) fits = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) moved = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) same = g_ptr_array_new(), copies = g_ptr_array_new();

    printf("%s\n    %s", path, verdict_names[verdict]);
    if (row != NULL) {
        printf(", filesystem %u", row->fs);
    }
    printf("%s%s\n", shown[0] != '\0' ? ": " : "", shown);
    if (identity != NULL) {
        const struct qidmap_fsid *by = row != NULL ? common(identity, row) : NULL;
        by = by != NULL ? by : &identity->fsid[0];
        g_autofree char *what = cmd_fs_what(&identity->hints);
        printf(
            "    %s; %s, by: %s; policy %s\n", what,
            cmd_certainty(by->kind, identity->flags, row != NULL ? row->policy : identity->policy),
            cmd_fsid_words(by->kind),
            qidmap_policy_name(row != NULL ? row->policy : identity->policy));
    }
    if (identity != NULL && row != NULL) {
        compare_hints(&row->hints, &identity->hints, fits, moved);
        print_list("as before:", fits);
        print_list("moved:", moved);
        if (row->alias != 0) {
            printf("    alias: the ids of filesystem %u are asked first\n", row->alias);
        }
        if ((row->flags & QIDMAP_IDENTITY_DUPLICATE) != 0) {
            printf("    copies: the store has other filesystems with its identity\n");
        }
    }
    find_others(places, mount, same, copies);
    print_list("the same filesystem is mounted at:", same);
    print_list("a copy of it is mounted at:", copies);
}

/* ---- the store and the kernel ----------------------------------------------------------------
 */

/* Room on the disk of an lmdb: store; 0: another one. */
static guint64 disk_room(const struct flight *flight)
{
    struct statvfs vfs;
    const char *path = flight->stats.uri;

    return g_str_has_prefix(path, "lmdb:") && statvfs(path + 5, &vfs) == 0
               ? (guint64)vfs.f_bavail * vfs.f_frsize
               : 0;
}

/* What the kernel can tell that makes filesystems and files known more surely. */
static gboolean has_mount_ids(const struct flight *flight, guint mask)
{
    struct statx st;
    return statx(flight->folder, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, mask, &st) == 0 &&
           (st.stx_mask & mask) == mask;
}

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000
#endif

/* TRUE where the row is of a filesystem that was found. */
static gboolean is_found(const places *places, guint32 fs)
{
    const GPtrArray *mounts = places_mounts(places);
    for (guint i = 0; i < mounts->len; i++) {
        if (((const struct place_mount *)mounts->pdata[i])->fs == fs) {
            return TRUE;
        }
    }
    return FALSE;
}

/* Rows whose filesystem is not below the export: other exports may have it. */
static void print_absent(const struct flight *flight, const places *places)
{
    for (guint i = 0; i < flight->rows->len; i++) {
        const struct qidmap_fs *row = &g_array_index(flight->rows, struct qidmap_fs, i);
        if (row->retired || row->superseded || row->policy == QIDMAP_POLICY_EPHEMERAL ||
            is_found(places, row->fs)) {
            continue;
        }
        if (flight->json) {
            JsonObject *object = json_object_new();
            json_object_set_string_member(object, "row", "absent");
            json_object_set_int_member(object, "fs", row->fs);
            cmd_json_name(object, "type", row->hints.type);
            cmd_json_name(object, "source", row->hints.source);
            cmd_json_name(object, "mount_path", row->hints.mount_path);
            cmd_json_line(object);
        } else {
            g_autofree char *what = cmd_fs_what(&row->hints);
            g_autofree char *path = cmd_escape(row->hints.mount_path, TRUE);
            printf("not here: filesystem %u of the store, %s, last seen at %s\n", row->fs, what,
                   path);
        }
    }
}

static guint count_trouble(const struct flight *flight)
{
    guint count = 0;
    for (guint i = 0; i < G_N_ELEMENTS(verdict_names); i++) {
        count += is_trouble((enum verdict)i) ? flight->counts[i] : 0;
    }
    return count;
}

static void print_end(const struct flight *flight)
{
    struct utsname host = {0};
    struct qidmap_object object;
    gboolean handles = qidmap_object_by_handle(1, flight->folder, "", 0, &object) == 0;
    gboolean ids = has_mount_ids(flight, STATX_MNT_ID);
    gboolean unique = has_mount_ids(flight, STATX_MNT_ID_UNIQUE);
    const struct qidmap_stats *stats = &flight->stats;
    g_autofree char *disk = g_format_size_full(disk_room(flight), G_FORMAT_SIZE_IEC_UNITS);

    uname(&host);
    if (flight->json) {
        JsonObject *end = json_object_new();
        json_object_set_string_member(end, "row", "end");
        json_object_set_int_member(end, "known", flight->counts[KNOWN]);
        json_object_set_int_member(end, "ephemeral", flight->counts[EPHEMERAL]);
        json_object_set_int_member(end, "trouble", count_trouble(flight));
        cmd_json_u64(end, "bytes_room", stats->bytes_room);
        cmd_json_u64(end, "rows_room", stats->rows_room);
        cmd_json_u64(end, "disk_room", disk_room(flight));
        json_object_set_string_member(end, "kernel", host.release);
        json_object_set_boolean_member(end, "mount_ids", ids);
        json_object_set_boolean_member(end, "unique_mount_ids", unique);
        json_object_set_boolean_member(end, "file_handles", handles);
        json_object_set_boolean_member(end, "root", geteuid() == 0);
        cmd_json_line(end);
        return;
    }
    printf("store: %s, %" G_GUINT64_FORMAT " filesystems", stats->backend, stats->fs_rows);
    if (stats->rows_room > 0) {
        printf(", room for about %" G_GUINT64_FORMAT " affix entries", stats->rows_room);
    }
    if (disk_room(flight) > 0) {
        printf(", %s free on its disk", disk);
    }
    printf("\nkernel %s: mount ids %s, unique ones %s, file handles on the export %s\n",
           host.release, ids ? "yes" : "no (Linux 5.8 is needed to serve)", unique ? "yes" : "no",
           handles ? "yes" : "no");
    if (geteuid() != 0) {
        printf("not run by root: filesystems may be recognised less surely than by the server\n");
    }
    if (count_trouble(flight) > 0) {
        printf("%u of the filesystems would not be served with the ids of this store.\n",
               count_trouble(flight));
    } else {
        printf("Every file that has an id here keeps it.\n");
    }
}

static int report(struct flight *flight, const places *places)
{
    const GPtrArray *mounts = places_mounts(places);

    for (guint i = 0; i < mounts->len; i++) {
        const struct place_mount *mount = mounts->pdata[i];
        const struct qidmap_fs *row = mount->fs != 0 ? row_of(flight, mount->fs) : NULL;
        enum verdict verdict = judge(flight, mount, row);
        flight->counts[verdict]++;
        (flight->json ? print_json : print_text)(flight, places, mount, row, verdict);
    }
    print_absent(flight, places);
    print_end(flight);
    return count_trouble(flight) > 0 ? CMD_TROUBLE : CMD_OK;
}

static int run(struct cmd_options *options, const struct export_arg *arg)
{
    g_autoptr(qidmap_store) store = NULL;
    g_autoptr(places) places = NULL;
    g_autoptr(sight) sight = NULL;
    struct flight flight = {.arg = arg, .json = options->json, .folder = -1};
    struct qidmap_error error = {0};
    int status = cmd_open(options, &store);

    if (status != CMD_OK) {
        return status;
    }
    flight.folder = open(arg->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (flight.folder < 0) {
        g_autofree char *shown = cmd_escape(arg->folder, TRUE);
        cmd_error("cannot read %s: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    flight.store = store;
    flight.rows = g_array_new(FALSE, TRUE, sizeof(struct qidmap_fs));
    status = read_rows(&flight);
    sight = status == CMD_OK ? sight_new(store, options->fs_ids) : NULL;
    if (status == CMD_OK && sight == NULL) {
        status = CMD_USAGE;
    }
    if (status == CMD_OK) {
        places = places_new(store, sight, flight.folder, arg->distinct, &error);
        if (places == NULL || places_add_subvolumes(places, flight.folder, &error) < 0) {
            status = cmd_fail(&error);
        }
    }
    if (status == CMD_OK) {
        status = report(&flight, places);
    }
    g_array_unref(flight.rows);
    close(flight.folder);
    return status;
}

int cmd_preflight(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE};
    g_auto(export_arg) arg = {NULL, FALSE, FALSE};
    const GOptionEntry extra[] = {
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.fs_ids,
         "identity that the daemon was given for the filesystem of PATH", "PATH=UUID"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) > 1) {
        return cmd_usage(cmd, "preflight takes one export");
    }
    status = export_arg_read(cmd, &options, options.rest[0], &arg);
    return status == CMD_OK ? run(&options, &arg) : status;
}
