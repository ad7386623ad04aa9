/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How names, numbers, identities and rows are printed, for people and as JSON. The formats are
 * described in qidmapctl(8), and programs read them: new members come at the end of an object.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/cmd.h"

gboolean cmd_number(const char *text, guint64 *number)
{
    gboolean hex = g_str_has_prefix(text, "0x");
    return g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, G_MAXUINT64, number,
                                      NULL);
}

gboolean cmd_fs_number(const char *text, guint32 *fs)
{
    guint64 number;
    if (!cmd_number(text, &number) || number == 0 || number > G_MAXUINT32) {
        return FALSE;
    }
    *fs = (guint32)number;
    return TRUE;
}

/* Control characters, and those without a shape that reorder or hide what stands beside them. */
static gboolean acts_on_terminal(gunichar c)
{
    switch (g_unichar_type(c)) {
    case G_UNICODE_CONTROL:
    case G_UNICODE_FORMAT:
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
        return TRUE;
    default:
        return FALSE;
    }
}

char *cmd_terminal(const char *text)
{
    GString *out = g_string_sized_new(strlen(text) + 1);

    for (const char *end; *text != '\0'; text = end) {
        gunichar c = g_utf8_get_char_validated(text, -1);
        gboolean valid = c != (gunichar)-1 && c != (gunichar)-2;
        end = valid ? g_utf8_next_char(text) : text + 1;
        if (valid && !acts_on_terminal(c)) {
            g_string_append_len(out, text, end - text);
            continue;
        }
        for (const char *p = text; p < end; p++) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)*p);
        }
    }
    return g_string_free(out, FALSE);
}

char *cmd_escape(const char *name, gboolean terminal)
{
    GString *out = g_string_sized_new(strlen(name) + 1);
    while (*name != '\0') {
        const char *end;
        gunichar c = g_utf8_get_char_validated(name, -1);
        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)*name);
            name++;
            continue;
        }
        end = g_utf8_next_char(name);
        if (c == '\\') {
            g_string_append(out, "\\\\");
        } else if (terminal && acts_on_terminal(c)) {
            for (const char *p = name; p < end; p++) {
                g_string_append_printf(out, "\\x%02x", (unsigned char)*p);
            }
        } else {
            g_string_append_len(out, name, end - name);
        }
        name = end;
    }
    return g_string_free(out, FALSE);
}

char *cmd_fsid_text(const struct qidmap_fsid *fsid)
{
    GString *out = g_string_new(NULL);
    guint32 size = MIN(fsid->size, QIDMAP_FSID_BYTES);
    gboolean uuids = size > 0 && size % 16 == 0;
    for (guint32 i = 0; i < size; i++) {
        guint32 in = i % 16;
        if (uuids && i > 0 && in == 0) {
            g_string_append_c(out, '/');
        }
        if (uuids && (in == 4 || in == 6 || in == 8 || in == 10)) {
            g_string_append_c(out, '-');
        }
        g_string_append_printf(out, "%02x", fsid->bytes[i]);
    }
    return g_string_free(out, FALSE);
}

const char *cmd_fsid_words(guint32 kind)
{
    switch (kind) {
    case QIDMAP_FSID_OVERRIDE:
        return "uuid that the operator gave (fs-id)";
    case QIDMAP_FSID_UUID:
        return "uuid of the superblock";
    case QIDMAP_FSID_BTRFS:
        return "uuids of the btrfs filesystem and of the subvolume";
    case QIDMAP_FSID_ZFS:
        return "guid of the ZFS dataset";
    case QIDMAP_FSID_OVERLAY:
        return "uuid of the overlay, or its layers in order";
    case QIDMAP_FSID_NFS:
        return "server, export and its fsid there";
    case QIDMAP_FSID_CEPH:
        return "cluster and name of the Ceph filesystem";
    case QIDMAP_FSID_CIFS:
        return "server and share";
    case QIDMAP_FSID_MARKER:
        return "marker that qidmap wrote to its root";
    case QIDMAP_FSID_WEAK:
        return "names only: type, source and mount path";
    case QIDMAP_FSID_EPHEMERAL:
        return "this instance, until it is unmounted or the host boots";
    default:
        return "a kind that this program does not know";
    }
}

/* Less is stronger. Of those in the middle a row was known by the strongest one first. */
static int weakness(guint32 kind)
{
    switch (kind) {
    case QIDMAP_FSID_OVERRIDE:
        return 0;
    case QIDMAP_FSID_MARKER:
        return 2;
    case QIDMAP_FSID_WEAK:
    case QIDMAP_FSID_EPHEMERAL:
        return 3;
    default:
        return 1;
    }
}

const struct qidmap_fsid *cmd_fs_identity(const struct qidmap_fs *row)
{
    const struct qidmap_fsid *best = NULL;

    for (guint32 i = 0; i < MIN(row->fsid_count, QIDMAP_FSID_COUNT); i++) {
        if (best == NULL || weakness(row->fsid[i].kind) < weakness(best->kind)) {
            best = &row->fsid[i];
        }
    }
    return best;
}

const char *cmd_certainty(guint32 kind, guint32 flags, guint32 policy)
{
    if (kind == QIDMAP_FSID_EPHEMERAL || policy == QIDMAP_POLICY_EPHEMERAL) {
        return "ephemeral";
    }
    if (flags & QIDMAP_IDENTITY_WEAK) {
        return "weak";
    }
    return (flags & QIDMAP_IDENTITY_UNTESTED) != 0 ? "untested" : "sure";
}

char *cmd_fs_what(const struct qidmap_hints *hints)
{
    g_autofree char *type = cmd_escape(hints->type, TRUE);
    g_autofree char *source =
        cmd_escape(hints->backing[0] != '\0' ? hints->backing : hints->source, TRUE);
    return g_strdup_printf("%s%s%s", type[0] != '\0' ? type : "unknown type",
                           source[0] != '\0' ? " on " : "", source);
}

/* glib puts a blank between number and unit that is no ASCII. */
char *cmd_size_text(guint64 bytes)
{
    g_autofree char *text = g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
    g_auto(GStrv) parts = g_strsplit(text, "\xc2\xa0", -1);
    return g_strjoinv(" ", parts);
}

char *cmd_time_text(gint64 seconds)
{
    g_autoptr(GDateTime) time = seconds != 0 ? g_date_time_new_from_unix_utc(seconds) : NULL;
    return time != NULL ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("-");
}

void cmd_json_u64(JsonObject *object, const char *member, guint64 number)
{
    char text[24];
    g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, number);
    json_object_set_string_member(object, member, text);
}

void cmd_json_name(JsonObject *object, const char *member, const char *name)
{
    g_autofree char *escaped = cmd_escape(name, FALSE);
    json_object_set_string_member(object, member, escaped);
}

void cmd_json_line(JsonObject *object)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, object);
    g_autofree char *text = json_to_string(node, FALSE);
    puts(text);
}

static void add_flags(JsonObject *object, const struct qidmap_fs *row)
{
    json_object_set_boolean_member(object, "weak", (row->flags & QIDMAP_IDENTITY_WEAK) != 0);
    json_object_set_boolean_member(object, "readonly",
                                   (row->flags & QIDMAP_IDENTITY_READONLY) != 0);
    json_object_set_boolean_member(object, "duplicate",
                                   (row->flags & QIDMAP_IDENTITY_DUPLICATE) != 0);
    json_object_set_boolean_member(object, "retired", row->retired != 0);
    json_object_set_boolean_member(object, "left_budget", row->left_budget != 0);
    json_object_set_boolean_member(object, "has_bound", row->has_bound != 0);
}

static JsonObject *hints_json(const struct qidmap_hints *hints)
{
    JsonObject *object = json_object_new();
    struct qidmap_fsid marker = {QIDMAP_FSID_MARKER, 16, {0}};
    static const guint8 none[16];

    cmd_json_name(object, "type", hints->type);
    cmd_json_name(object, "source", hints->source);
    cmd_json_name(object, "backing", hints->backing);
    cmd_json_name(object, "dm_uuid", hints->dm_uuid);
    cmd_json_name(object, "wwid", hints->wwid);
    cmd_json_name(object, "part_uuid", hints->part_uuid);
    cmd_json_name(object, "mount_path", hints->mount_path);
    if (memcmp(hints->marker, none, sizeof none) != 0) {
        memcpy(marker.bytes, hints->marker, sizeof hints->marker);
        g_autofree char *text = cmd_fsid_text(&marker);
        json_object_set_string_member(object, "marker", text);
    }
    json_object_set_int_member(object, "partition", hints->partition);
    json_object_set_int_member(object, "root_gen", hints->root_gen);
    cmd_json_u64(object, "root_inode", hints->root_ino);
    g_autofree char *btime = g_strdup_printf("%" G_GINT64_FORMAT, hints->root_btime_ns);
    json_object_set_string_member(object, "root_btime_ns", btime);
    cmd_json_u64(object, "st_dev", hints->st_dev);
    cmd_json_name(object, "boot_id", hints->boot_id);
    cmd_json_name(object, "machine_id", hints->machine_id);
    json_object_set_int_member(object, "first_seen", hints->first_seen);
    json_object_set_int_member(object, "last_seen", hints->last_seen);
    cmd_json_name(object, "tree", hints->tree);
    return object;
}

JsonObject *cmd_fs_json(const struct qidmap_fs *row, const guint64 *full_rows)
{
    JsonObject *object = json_object_new();
    JsonArray *fsids = json_array_new(), *met = json_array_new();

    for (guint32 i = 0; i < MIN(row->met_count, QIDMAP_FS_MET); i++) {
        json_array_add_int_element(met, row->met[i]);
    }
    json_object_set_string_member(object, "row", "fs");
    json_object_set_int_member(object, "fs", row->fs);
    json_object_set_string_member(object, "policy", qidmap_policy_name(row->policy));
    for (guint32 i = 0; i < MIN(row->fsid_count, QIDMAP_FSID_COUNT); i++) {
        JsonObject *fsid = json_object_new();
        g_autofree char *text = cmd_fsid_text(&row->fsid[i]);
        json_object_set_string_member(fsid, "kind", qidmap_fsid_kind_name(row->fsid[i].kind));
        json_object_set_string_member(fsid, "id", text);
        json_array_add_object_element(fsids, fsid);
    }
    json_object_set_array_member(object, "identity", fsids);
    add_flags(object, row);
    json_object_set_int_member(object, "instance", row->instance);
    json_object_set_int_member(object, "affix_rows", row->affix_rows);
    if (full_rows != NULL) {
        cmd_json_u64(object, "full_rows", *full_rows);
    }
    json_object_set_object_member(object, "hints", hints_json(&row->hints));
    json_object_set_string_member(
        object, "certainty",
        cmd_certainty(row->fsid_count > 0 ? row->fsid[0].kind : 0, row->flags, row->policy));
    json_object_set_int_member(object, "alias", row->alias);
    json_object_set_boolean_member(object, "policy_chosen", row->chosen != 0);
    json_object_set_boolean_member(object, "superseded", row->superseded != 0);
    json_object_set_array_member(object, "met", met);
    json_object_set_boolean_member(object, "met_many", row->met_many != 0);
    return object;
}
