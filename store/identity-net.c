/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 5: network filesystems, from what the mount table says. Nothing here waits for a server.
 *
 *   nfs, nfs4   server and export (the source, "server:/export"), and the fsid by which the server
 *               names the filesystem, from /proc/fs/nfsfs/volumes. Where the fsid is known it is
 *               always part of the identity: another filesystem exported under the same name is
 *               another one. Where it is not, the names alone are weak.
 *   ceph        uuid of the cluster, and name of the filesystem in it
 *   cifs, smb3  server, share and prefix: weak. Where inode numbers are made up by the client
 *               (noserverino), the filesystem is ephemeral, see identity.c.
 *
 * Each is the XXH3_128 of its parts, each with its NUL. No such server was there to try it on: the
 * parts come from the documented and published forms of the mount table, and are flagged untested.
 * Others (9p, afs, glusterfs as FUSE) have no rung: marker, or names.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- nfs ------------------------------------------------------------------------------------- */

/* The fsid in the line of `volumes` whose device is that of the mount:
 *     NV SERVER   PORT DEV          FSID                              FSC
 *     v4 c0a80001  801 0:102        f8770b94:260e67de                 no
 */
static char *volume_fsid(const char *volumes, const struct qm_mount *mount)
{
    g_autofree char *device = g_strdup_printf("%u:%u", mount->major, mount->minor);
    g_auto(GStrv) lines = g_strsplit(volumes, "\n", -1);

    for (char **line = lines; *line != NULL; line++) {
        const char *field[6] = {NULL};
        guint n = 0;
        char *rest = NULL;
        for (char *p = strtok_r(*line, " \t", &rest); p != NULL && n < 6;
             p = strtok_r(NULL, " \t", &rest))
            field[n++] = p;
        if (n < 5 || field[0][0] != 'v' || strcmp(field[3], device) != 0)
            continue;
        if (strspn(field[4], "0123456789abcdef:") != strlen(field[4]) ||
            strcmp(field[4], "0:0") == 0)
            return NULL;
        return g_strdup(field[4]);
    }
    return NULL;
}

/* Server and export of "server:/export" or "[address]:/export"; FALSE for anything else. */
static gboolean split_source(const char *source, char **server, char **export_path)
{
    const char *colon = strstr(source, source[0] == '[' ? "]:" : ":");

    if (colon == NULL || colon == source)
        return FALSE;
    if (*colon == ']')
        colon++;
    g_autofree char *name = g_strndup(source, (gsize)(colon - source));
    *server = g_ascii_strdown(name, -1);
    *export_path = g_strdup(colon + 1);
    gsize size = strlen(*export_path);
    while (size > 1 && (*export_path)[size - 1] == '/')
        (*export_path)[--size] = '\0';
    return TRUE;
}

int qm_nfs_answer(const struct qm_mount *mount, const char *volumes, struct qm_answer *answer)
{
    g_autofree char *server = NULL, *export_path = NULL;

    if (strcmp(mount->type, "nfs") != 0 && strcmp(mount->type, "nfs4") != 0) {
        qm_say(answer, "not NFS");
        return -ENODATA;
    }
    if (!split_source(mount->source, &server, &export_path)) {
        qm_say(answer, "the source '%s' is not of the form server:/export", mount->source);
        return -EINVAL;
    }
    g_autofree char *fsid = volumes != NULL ? volume_fsid(volumes, mount) : NULL;
    const char *const parts[] = {"nfs", server, export_path, fsid, NULL};
    qm_answer_digest(answer, QIDMAP_FSID_NFS, parts);
    answer->flags = QIDMAP_IDENTITY_UNTESTED | (fsid == NULL ? QIDMAP_IDENTITY_WEAK : 0);
    if (fsid != NULL)
        qm_say(answer, "server %s, export %s, fsid %s", server, export_path, fsid);
    else
        qm_say(answer, "server %s, export %s; its fsid is not in /proc/fs/nfsfs/volumes", server,
               export_path);
    return 0;
}

int qm_rung_nfs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                struct qm_answer *answer)
{
    g_autofree char *volumes = NULL;

    (void)options;
    if (g_str_has_prefix(probe->mount->type, "nfs"))
        g_file_get_contents("/proc/fs/nfsfs/volumes", &volumes, NULL, NULL);
    return qm_nfs_answer(probe->mount, volumes, answer);
}

/* ---- ceph ------------------------------------------------------------------------------------ */

/*
 * The source is "user@cluster-uuid.fsname=/path" (from Linux 5.17 on), or "mon1,mon2:/path" with
 * the name of the filesystem as option mds_namespace, and the uuid perhaps as option fsid. Of the
 * path nothing depends: inode numbers are those of the whole filesystem.
 */
static gboolean ceph_new_form(const char *source, guint8 uuid[16], char **name)
{
    const char *at = strchr(source, '@');
    const char *dot = at != NULL ? strchr(at, '.') : NULL;
    const char *equals = dot != NULL ? strstr(dot, "=/") : NULL;

    if (equals == NULL)
        return FALSE;
    g_autofree char *cluster = g_strndup(at + 1, (gsize)(dot - at) - 1);
    if (!qm_uuid_parse(cluster, uuid))
        return FALSE;
    *name = g_strndup(dot + 1, (gsize)(equals - dot) - 1);
    return TRUE;
}

int qm_ceph_answer(const struct qm_mount *mount, struct qm_answer *answer)
{
    g_autofree char *name = NULL;
    guint8 uuid[16] = {0};
    char cluster[40];

    if (strcmp(mount->type, "ceph") != 0) {
        qm_say(answer, "not CephFS");
        return -ENODATA;
    }
    if (!ceph_new_form(mount->source, uuid, &name)) {
        g_autofree char *option = qm_mount_option(mount->options, "fsid");
        if (option == NULL || !qm_uuid_parse(option, uuid))
            memset(uuid, 0, sizeof uuid);
        name = qm_mount_option(mount->options, "mds_namespace");
        if (name == NULL)
            name = g_strdup("");
    }
    answer->flags = QIDMAP_IDENTITY_UNTESTED;
    if (!qm_is_zero(uuid, 16)) {
        for (guint i = 0; i < 16; i++)
            snprintf(cluster + 2 * i, 3, "%02x", uuid[i]);
    } else { /* the monitors, as they were typed: statfs(2) would ask them, and may wait */
        g_strlcpy(cluster, "unknown", sizeof cluster);
        answer->flags |= QIDMAP_IDENTITY_WEAK;
    }
    const char *const parts[] = {"ceph", cluster, name,
                                 strcmp(cluster, "unknown") == 0 ? mount->source : NULL, NULL};
    qm_answer_digest(answer, QIDMAP_FSID_CEPH, parts);
    qm_say(answer, "cluster %s, filesystem '%s'", cluster, name);
    return 0;
}

int qm_rung_ceph(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer)
{
    (void)options;
    return qm_ceph_answer(probe->mount, answer);
}

/* ---- cifs ------------------------------------------------------------------------------------ */

int qm_cifs_answer(const struct qm_mount *mount, struct qm_answer *answer)
{
    const char *type = mount->type;

    if (strcmp(type, "cifs") != 0 && strcmp(type, "smb3") != 0) {
        qm_say(answer, "not SMB");
        return -ENODATA;
    }
    g_autofree char *share = g_ascii_strdown(mount->source, -1); /* SMB names have no case */
    g_strdelimit(share, "\\", '/');
    gsize size = strlen(share);
    while (size > 2 && share[size - 1] == '/')
        share[--size] = '\0';
    if (!g_str_has_prefix(share, "//") || size < 3 || strchr(share + 2, '/') == NULL) {
        qm_say(answer, "the source '%s' is not of the form //server/share", mount->source);
        return -EINVAL;
    }
    g_autofree char *prefix = qm_mount_option(mount->options, "prefixpath");
    const char *const parts[] = {"cifs", share, prefix, NULL};
    qm_answer_digest(answer, QIDMAP_FSID_CIFS, parts);
    answer->flags = QIDMAP_IDENTITY_UNTESTED | QIDMAP_IDENTITY_WEAK;
    qm_say(answer, "share %s%s%s, known by its name alone", share,
           prefix != NULL ? ", prefix " : "", prefix != NULL ? prefix : "");
    return 0;
}

int qm_rung_cifs(struct qm_probe *probe, const struct qidmap_identify_options *options,
                 struct qm_answer *answer)
{
    (void)options;
    return qm_cifs_answer(probe->mount, answer);
}
