/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A setting PATH=UUID means the filesystem on which PATH lies, wherever else that is mounted. It is
 * found by comparing what qidmap_identify() says of PATH and of the file, never by st_dev.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <glib.h>

#include "tools/cmd.h"
#include "tools/sight.h"

struct override {
    gboolean usable; /* the path exists and could be identified */
    guint8 uuid[16];
    guint64 superblock;
    struct qidmap_fsid fsid;
};

struct sight {
    qidmap_store *store;
    GArray *overrides;
};

/* 32 hex digits; hyphens anywhere between bytes. */
static gboolean parse_uuid(const char *text, guint8 *uuid)
{
    int count = 0;
    while (*text != '\0') {
        if (*text == '-') {
            text++;
            continue;
        }
        if (count == 16 || !g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1])) {
            return FALSE;
        }
        uuid[count++] =
            (guint8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 2;
    }
    return count == 16;
}

static void look(struct override *override, const char *path)
{
    struct qidmap_identity identity = {.size = sizeof identity};
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (qidmap_identify(fd, NULL, &identity, NULL) == 0 && identity.count > 0) {
        override->usable = TRUE;
        override->superblock = identity.superblock;
        override->fsid = identity.fsid[0];
    }
    close(fd);
}

sight *sight_new(qidmap_store *store, char **fs_ids)
{
    g_autoptr(sight) s = g_new0(sight, 1);
    s->store = store;
    s->overrides = g_array_new(FALSE, TRUE, sizeof(struct override));
    for (char **id = fs_ids; id != NULL && *id != NULL; id++) {
        struct override override = {0};
        const char *equals = strrchr(*id, '=');
        if (equals == NULL || equals == *id || !parse_uuid(equals + 1, override.uuid)) {
            g_autofree char *shown = cmd_escape(*id, TRUE);
            cmd_error("fs-id %s is not of the form PATH=UUID", shown);
            return NULL;
        }
        g_autofree char *path = g_strndup(*id, (gsize)(equals - *id));
        look(&override, path);
        g_array_append_val(s->overrides, override);
    }
    return g_steal_pointer(&s);
}

void sight_free(sight *s)
{
    g_array_unref(s->overrides);
    g_free(s);
}

static gboolean same(const struct override *override, const struct qidmap_identity *identity)
{
    return override->usable && identity->count > 0 &&
           override->superblock == identity->superblock &&
           override->fsid.kind == identity->fsid[0].kind &&
           override->fsid.size == identity->fsid[0].size &&
           memcmp(override->fsid.bytes, identity->fsid[0].bytes,
                  MIN(override->fsid.size, QIDMAP_FSID_BYTES)) == 0;
}

const guint8 *sight_override(const sight *s, const struct qidmap_identity *identity)
{
    for (guint i = 0; i < s->overrides->len; i++) {
        const struct override *override = &g_array_index(s->overrides, struct override, i);
        if (same(override, identity)) {
            return override->uuid;
        }
    }
    return NULL;
}

int sight_identify(const sight *s, int fd, const char *tree, struct qidmap_identity *identity,
                   struct qidmap_error *error)
{
    struct qidmap_identify_options options = {.size = sizeof options, .tree = tree};

    memset(identity, 0, sizeof *identity);
    identity->size = sizeof *identity;
    int code = qidmap_identify(fd, &options, identity, error);
    if (code < 0) {
        return code;
    }
    options.override_uuid = sight_override(s, identity);
    return options.override_uuid != NULL ? qidmap_identify(fd, &options, identity, error) : 0;
}

int sight_of(sight *s, int fd, guint32 *fs, struct qidmap_identity *identity,
             struct qidmap_error *error)
{
    int code = sight_identify(s, fd, NULL, identity, error);
    return code < 0 ? code : qidmap_recognise(s->store, identity, 1, fs, error);
}

gboolean sight_wants_handle(guint32 policy, const struct qidmap_identity *identity, guint64 st_dev)
{
    guint64 own = makedev((guint)(identity->superblock >> 32), (guint)identity->superblock);
    return policy == QIDMAP_POLICY_HANDLE || (policy == QIDMAP_POLICY_AFFIX && st_dev != own &&
                                              strcmp(identity->hints.type, "overlay") == 0);
}

/* d_ino of the entry `name` in the open directory; 0 where there is none. */
static guint64 entry_ino(int fd, const char *name)
{
    struct dirent *entry;
    guint64 ino = 0;
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;

    if (dir == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return 0;
    }
    while (ino == 0 && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, name) == 0) {
            ino = entry->d_ino;
        }
    }
    closedir(dir);
    return ino;
}

int sight_placeholder(int fd, const struct stat *st, struct qidmap_object *object)
{
    struct statfs sfs;
    struct stat parent_st;
    char link[PATH_MAX];

    if (st->st_ino != SIGHT_PLACEHOLDER || !S_ISDIR(st->st_mode) || fstatfs(fd, &sfs) < 0 ||
        sfs.f_type != BTRFS_SUPER_MAGIC) {
        return -1;
    }
    g_autofree char *own = g_strdup_printf("/proc/self/fd/%d", fd);
    ssize_t length = readlink(own, link, sizeof link - 1);
    if (length <= 0) {
        return -1;
    }
    link[length] = '\0';
    const char *slash = strrchr(link, '/');
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    guint64 ino = slash != NULL && parent >= 0 ? entry_ino(parent, slash + 1) : 0;
    if (ino == 0 || fstat(parent, &parent_st) < 0) {
        if (parent >= 0) {
            close(parent);
        }
        return -1;
    }
    object->kind = QIDMAP_OBJECT_PLACEHOLDER;
    object->ino = parent_st.st_ino;
    object->ino2 = ino;
    return parent;
}

gboolean sight_placeholder_at(int parent, const char *name, guint64 parent_ino,
                              struct qidmap_object *object)
{
    object->kind = QIDMAP_OBJECT_PLACEHOLDER;
    object->ino = parent_ino;
    object->ino2 = entry_ino(parent, name);
    return object->ino2 != 0;
}
