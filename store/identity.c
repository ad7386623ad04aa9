/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ladder of identities: what kind of filesystem it is, which suggests a policy; then the rungs
 * in their order, of which all that answer are gathered.
 *
 * Every rung that answers is kept, so that a row is found again when a rung is added or lost (a
 * kernel upgrade, a daemon that may no longer read the device). Equal bytes of one kind are one
 * identity, whichever call gave them. The st_dev number is in no persistent identity: it changes
 * with the order of mounting.
 *
 * Knows nothing of stores: which row fits an identity is resolve.c's work.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>
#include <xxhash.h>

#include "store/hints.h"
#include "store/identity-fuse.h"
#include "store/marker.h"
#include "store/patience.h"
#include "store/view.h"

static const struct {
    guint32 kind;
    const char *name;
} kind_names[] = {
    {QIDMAP_FSID_OVERRIDE, "override"},   {QIDMAP_FSID_UUID, "uuid"},
    {QIDMAP_FSID_BTRFS, "btrfs"},         {QIDMAP_FSID_ZFS, "zfs"},
    {QIDMAP_FSID_OVERLAY, "overlay"},     {QIDMAP_FSID_NFS, "nfs"},
    {QIDMAP_FSID_CEPH, "ceph"},           {QIDMAP_FSID_CIFS, "cifs"},
    {QIDMAP_FSID_MARKER, "marker"},       {QIDMAP_FSID_WEAK, "weak"},
    {QIDMAP_FSID_EPHEMERAL, "ephemeral"},
};

const char *qm_fsid_kind_name(guint32 kind)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kind_names); i++) {
        if (kind_names[i].kind == kind)
            return kind_names[i].name;
    }
    return "unknown";
}

const char *qm_policy_name(guint32 policy)
{
    switch (policy) {
    case QIDMAP_POLICY_AFFIX:
        return "affix";
    case QIDMAP_POLICY_HANDLE:
        return "handle";
    case QIDMAP_POLICY_EPHEMERAL:
        return "ephemeral";
    case QIDMAP_POLICY_DENY:
        return "deny";
    default:
        return "unknown";
    }
}

gboolean qm_uuid_parse(const char *text, guint8 bytes[16])
{
    guint8 out[16];
    int digits = 0;

    for (; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        int value = g_ascii_xdigit_value(*text);
        if (value < 0 || digits == 32)
            return FALSE;
        if (digits % 2 == 0)
            out[digits / 2] = (guint8)(value << 4);
        else
            out[digits / 2] |= (guint8)value;
        digits++;
    }
    if (digits != 32)
        return FALSE;
    memcpy(bytes, out, 16);
    return TRUE;
}

gboolean qm_is_zero(const guint8 *bytes, gsize size)
{
    for (gsize i = 0; i < size; i++) {
        if (bytes[i] != 0)
            return FALSE;
    }
    return TRUE;
}

gboolean qm_boot_id(guint8 bytes[16], char text[37])
{
    g_autofree char *content = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &content, NULL, NULL))
        return FALSE;
    g_strchomp(content);
    if (!qm_uuid_parse(content, bytes))
        return FALSE;
    if (text != NULL)
        g_strlcpy(text, content, 37);
    return TRUE;
}

/* ---- answers --------------------------------------------------------------------------------- */

void qm_say(struct qm_answer *answer, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_vsnprintf(answer->text, sizeof answer->text, format, args);
    va_end(args);
}

void qm_answer_set(struct qm_answer *answer, guint32 kind, const void *bytes, gsize size)
{
    g_assert(size > 0 && size <= QIDMAP_FSID_BYTES);
    memset(&answer->fsid, 0, sizeof answer->fsid);
    answer->fsid.kind = kind;
    answer->fsid.size = (guint32)size;
    memcpy(answer->fsid.bytes, bytes, size);
}

void qm_answer_digest(struct qm_answer *answer, guint32 kind, const char *const *parts)
{
    g_autoptr(GString) key = g_string_new(NULL);
    XXH128_canonical_t digest;

    for (; *parts != NULL; parts++)
        g_string_append_len(key, *parts, (gssize)strlen(*parts) + 1);
    XXH128_canonicalFromHash(&digest, XXH3_128bits(key->str, key->len));
    qm_answer_set(answer, kind, digest.digest, sizeof digest.digest);
}

/* Adds an identity; one that is there already, or a ninth, is left out. */
static void add(struct qidmap_identity *identity, const struct qidmap_fsid *fsid)
{
    if (identity->count >= QIDMAP_FSID_COUNT)
        return;
    for (guint32 i = 0; i < identity->count; i++) {
        const struct qidmap_fsid *have = &identity->fsid[i];
        if (have->kind == fsid->kind && have->size == fsid->size &&
            memcmp(have->bytes, fsid->bytes, fsid->size) == 0)
            return;
    }
    identity->fsid[identity->count++] = *fsid;
}

/* ---- what kind of filesystem ----------------------------------------------------------------- */

/* What must be asked of the filesystem itself, by a thread that may get stuck. */
struct visit {
    int root;
    gboolean is_root; /* not just a folder */
    gboolean is_fuse;
    enum qm_fuse_inodes inodes;
    int looked;
    int seen; /* of the following two: 0, or a negative errno */
    struct statx stx;
    guint32 gen;
    struct qm_marker marker;
    int marked;
    const char *why; /* static storage */
};

static void visit_free(void *data)
{
    struct visit *visit = data;
    close(visit->root);
    g_free(visit);
}

static void visit_run(void *data)
{
    struct visit *visit = data;

    if (visit->is_fuse)
        visit->looked = qm_fuse_look(visit->root, &visit->inodes);
    if (!visit->is_root || visit->looked < 0)
        return;
    visit->seen = qm_marker_root(visit->root, visit->is_fuse, &visit->stx, &visit->gen);
    visit->marked = qm_marker_read(visit->root, visit->is_fuse, &visit->marker, &visit->why);
}

void qm_settle(struct qm_probe *probe, guint32 policy, const char *why)
{
    probe->policy = policy;
    g_strlcpy(probe->why, why, sizeof probe->why);
}

static void settle_fuse(struct qm_probe *probe, enum qm_fuse_inodes inodes)
{
    if (strcmp(probe->mount->type, "virtiofs") == 0) /* nodes of the host's, not a library's */
        qm_settle(probe, QIDMAP_POLICY_AFFIX, "inode numbers are those of the host");
    else if (inodes == QM_FUSE_OWN)
        qm_settle(probe, QIDMAP_POLICY_AFFIX, "FUSE with inode numbers of its own");
    else if (inodes == QM_FUSE_COUNTED)
        qm_settle(probe, QIDMAP_POLICY_EPHEMERAL,
                  "FUSE whose inode numbers are a counter (use_ino?)");
    else
        qm_settle(probe, QIDMAP_POLICY_EPHEMERAL,
                  "FUSE that shows no file from which its inode numbers could be judged");
}

/* Reads the marker, and looks at the files of FUSE. */
static int visit(struct qm_probe *probe)
{
    enum qm_fuse_inodes inodes = QM_FUSE_UNKNOWN;
    int root = qm_probe_root(probe);
    gboolean is_root = root >= 0;

    g_strlcpy(probe->marker_text, "no mount shows the root of the filesystem",
              sizeof probe->marker_text);
    if (root < 0 && probe->is_fuse && S_ISDIR(probe->stx.stx_mode))
        root = fcntl(probe->fd, F_DUPFD_CLOEXEC, 0); /* a bind mount of a folder: look there */
    if (root >= 0) {
        struct visit *visit = g_new0(struct visit, 1);
        visit->root = root;
        visit->is_root = is_root;
        visit->is_fuse = probe->is_fuse;
        int rc = 0;
        if (probe->is_remote)
            rc = qm_patiently(visit_run, visit, visit_free, QM_PATIENCE_MS);
        else
            visit_run(visit);
        if (rc < 0)
            return rc;
        if (visit->looked < 0) {
            rc = visit->looked;
            visit_free(visit);
            return rc;
        }
        inodes = visit->inodes;
        if (is_root && visit->seen == 0) {
            probe->has_root = TRUE;
            probe->root_stx = visit->stx;
            probe->root_gen = visit->gen;
        }
        if (is_root && visit->marked == 0) {
            memcpy(probe->marker, visit->marker.uuid, 16);
            g_strlcpy(probe->marker_text, "a marker on the root", sizeof probe->marker_text);
        } else if (is_root) {
            g_strlcpy(probe->marker_text,
                      visit->marked == -ENODATA ? visit->why : g_strerror(-visit->marked),
                      sizeof probe->marker_text);
        }
        visit_free(visit);
    }
    if (probe->is_fuse)
        settle_fuse(probe, inodes);
    return 0;
}

int qm_probe_nature(struct qm_probe *probe)
{
    const struct qm_mount *mount = probe->mount;

    qm_settle(probe, QIDMAP_POLICY_AFFIX, "its inode numbers last");
    if (qm_is_ephemeral_type(mount->type)) {
        qm_settle(probe, QIDMAP_POLICY_EPHEMERAL, "its files do not outlive the boot");
        g_strlcpy(probe->marker_text, "not asked for", sizeof probe->marker_text);
        return 0;
    }
    int rc = visit(probe);
    if (rc < 0)
        return rc;
    if (strcmp(mount->type, "overlay") == 0) {
        qm_overlay_nature(probe);
    } else if (strcmp(mount->type, "cifs") == 0 || strcmp(mount->type, "smb3") == 0) {
        g_autofree char *made_up = qm_mount_option(mount->options, "noserverino");
        if (made_up != NULL)
            qm_settle(probe, QIDMAP_POLICY_EPHEMERAL,
                      "noserverino: the client makes up inode numbers");
    } else if (strcmp(mount->type, "btrfs") != 0 && (probe->stx.stx_dev_major != mount->major ||
                                                     probe->stx.stx_dev_minor != mount->minor)) {
        qm_settle(probe, QIDMAP_POLICY_EPHEMERAL,
                  "its files show device numbers that are not its own");
    }
    return 0;
}

/* ---- the ladder ------------------------------------------------------------------------------ */

/*
 * The rungs, in their order. A rung is taken when it answers and no rung of an earlier group has:
 * what an ephemeral filesystem, an overlay or a subvolume would say further down is not about
 * itself. Group 0 stands beside all others.
 */
static const struct {
    const char *name;
    guint group;
    qm_rung_fn ask;
} rungs[] = {
    {"override", 0, qm_rung_override},
    {"ephemeral", 1, qm_rung_ephemeral},
    {"btrfs", 2, qm_rung_btrfs},
    {"zfs", 3, qm_rung_zfs},
    {"overlay-uuid", 4, qm_rung_overlay_uuid},
    {"overlay-layers", 4, qm_rung_overlay_layers},
    {"uuid", 5, qm_rung_uuid},
    {"fs-uuid", 5, qm_rung_fs_uuid},
    {"blkid", 5, qm_rung_blkid},
    {"nfs", 6, qm_rung_nfs},
    {"ceph", 6, qm_rung_ceph},
    {"cifs", 6, qm_rung_cifs},
    {"marker", 7, qm_rung_marker},
    {"weak", 8, qm_rung_weak},
};
G_STATIC_ASSERT(G_N_ELEMENTS(rungs) <= QIDMAP_FINDINGS);

/* Climbs; asks every rung where findings are wanted, else only those that could be taken. */
static void climb(struct qm_probe *probe, const struct qidmap_identify_options *options,
                  struct qidmap_identity *identity, struct qidmap_finding *findings)
{
    guint taken = 0; /* group */
    gboolean all_weak = TRUE;

    for (gsize i = 0; i < G_N_ELEMENTS(rungs); i++) {
        gboolean counts = taken == 0 || rungs[i].group == 0 || rungs[i].group == taken;
        struct qm_answer answer = {.flags = 0};
        if (!counts && findings == NULL)
            break;
        int result = rungs[i].ask(probe, options, &answer);
        if (result == 0 && counts) {
            add(identity, &answer.fsid);
            taken = rungs[i].group;
            identity->flags |= answer.flags & ~(guint32)QIDMAP_IDENTITY_WEAK;
            all_weak = all_weak && (answer.flags & QIDMAP_IDENTITY_WEAK) != 0;
        }
        if (findings != NULL) {
            memset(&findings[i], 0, sizeof findings[i]);
            findings[i].rung = rungs[i].name;
            findings[i].result = result;
            if (result == 0)
                findings[i].fsid = answer.fsid;
            g_strlcpy(findings[i].text, answer.text, sizeof findings[i].text);
        }
    }
    if (identity->count > 0 && all_weak)
        identity->flags |= QIDMAP_IDENTITY_WEAK;
}

static int identify_fd(int fd, const GPtrArray *mounts, guint depth,
                       const struct qidmap_identify_options *options,
                       struct qidmap_identity *identity, struct qidmap_finding *findings)
{
    struct qm_probe probe;
    int rc = qm_probe_init(&probe, fd, mounts);

    if (rc < 0)
        return rc;
    memset(identity, 0, sizeof *identity);
    identity->size = sizeof *identity;
    identity->superblock = (guint64)probe.mount->major << 32 | probe.mount->minor;
    if (probe.mount->readonly)
        identity->flags |= QIDMAP_IDENTITY_READONLY;
    probe.depth = depth;
    rc = qm_probe_nature(&probe);
    if (rc == 0) {
        climb(&probe, options, identity, findings);
        identity->policy = probe.policy;
        if (depth == 0)
            qm_hints_collect(&probe, options, &identity->hints);
        else
            g_strlcpy(identity->hints.type, probe.mount->type, sizeof identity->hints.type);
        memcpy(identity->hints.marker, probe.marker, 16);
        if (identity->count == 0)
            rc = -ENODATA;
    }
    qm_probe_clear(&probe);
    return rc;
}

int qm_identify_layer(int fd, const GPtrArray *mounts, guint depth,
                      struct qidmap_identity *identity)
{
    return identify_fd(fd, mounts, depth, NULL, identity, NULL);
}

static int fail(struct qidmap_error *error, int code, const char *text)
{
    if (error != NULL) {
        error->code = code;
        snprintf(error->text, sizeof error->text, "%s: %s", text, g_strerror(-code));
    }
    return code;
}

int qm_explain(int fd, const struct qidmap_identify_options *options,
               struct qidmap_finding *findings, size_t *count, struct qidmap_identity *identity,
               struct qidmap_error *error)
{
    g_autoptr(GPtrArray) mounts = qm_view_mounts();
    struct qidmap_identity found;
    int seen, rc;

    if (mounts == NULL)
        return fail(error, -ENODEV, "cannot read /proc/self/mountinfo; is /proc mounted?");
    rc = seen = qm_view_find(mounts, fd);
    if (seen >= 0) {
        rc = identify_fd(seen, mounts, 0, options, &found, findings);
        close(seen);
    }
    if (rc == -ETIMEDOUT || rc == -EAGAIN)
        return fail(error, rc, "the filesystem does not answer");
    if (rc == -ENODATA)
        return fail(error, -ENODEV, "nothing identifies the filesystem");
    if (rc == -ENODEV)
        return fail(error, rc, "cannot find the mount of the file");
    if (rc < 0)
        return fail(error, rc, "the filesystem cannot be looked at");
    *identity = found;
    if (count != NULL)
        *count = G_N_ELEMENTS(rungs);
    return 0;
}

int qm_identify(int fd, const struct qidmap_identify_options *options,
                struct qidmap_identity *identity, struct qidmap_error *error)
{
    return qm_explain(fd, options, NULL, NULL, identity, error);
}
