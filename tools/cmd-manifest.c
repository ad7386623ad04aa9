/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `qidmapctl manifest`: writes down which id each file of an export has. It looks the ids up as the
 * server does and makes none.
 *
 * The store is opened anew from time to time: a server that uses it meanwhile could not reuse pages
 * that an old state still needs, and the walk may take hours. Ids never change, so what comes from
 * several states fits together.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/export-arg.h"
#include "tools/manifest.h"
#include "tools/mounts.h"
#include "tools/progress.h"
#include "tools/tree.h"

#define STATE_SECONDS 60 /* that one state of the store is used */
#define CALLS         1024

struct work {
    struct cmd_options *options;
    qidmap_store *store;
    guint8 uuid[16]; /* of the store */
    sight *sight;
    places *places;
    manifest_writer *writer;
    progress *progress;
    guint32 n_fs;
    guint64 expected; /* files in use on the filesystems that were met, for the bar */
    gboolean partial; /* not all of these are here whole, or say how many files they have */
    guint calls;
    gint64 renew_at;
    guint64 no_row; /* files of filesystems that the store does not know */
    char *first_unread;
    int first_code;
    int status; /* of an error that was told */
};

/* ---- the store -------------------------------------------------------------------------------
 */

static gboolean read_uuid(qidmap_store *store, guint8 uuid[16])
{
    struct qidmap_stats stats = {.size = sizeof stats};
    struct qidmap_error error;

    if (qidmap_store_stats(store, &stats, &error) < 0) {
        cmd_fail(&error);
        return FALSE;
    }
    memcpy(uuid, stats.uuid, 16);
    return TRUE;
}

/* Goes on with the newest state of the store. FALSE after an error, which it told. */
static gboolean renew(struct work *work)
{
    gint64 begun = g_get_monotonic_time();
    qidmap_store *store = NULL;
    guint8 uuid[16];

    /* a process opens one store once */
    g_clear_pointer(&work->store, qidmap_store_close);
    work->status = cmd_open(work->options, &store);
    if (work->status != CMD_OK) {
        return FALSE;
    }
    work->store = store;
    if (!read_uuid(store, uuid)) {
        work->status = CMD_CANNOT;
        return FALSE;
    }
    if (memcmp(uuid, work->uuid, sizeof uuid) != 0) {
        cmd_error("another store was put in its place meanwhile; begin again");
        work->status = CMD_CANNOT;
        return FALSE;
    }
    places_set_store(work->places, store);
    gint64 now = g_get_monotonic_time();
    work->renew_at = now + MAX(STATE_SECONDS * G_USEC_PER_SEC, 20 * (now - begun));
    return TRUE;
}

/* The object key of a file. 0 or a negative errno. */
static int object_of(const struct tree_file *file, struct qidmap_object *object)
{
    memset(object, 0, sizeof *object);
    object->fs = file->place->fs;
    if (file->placeholder) {
        return sight_placeholder_at(file->fd, file->name, file->parent_ino, object) ? 0 : -ENOENT;
    }
    object->kind = QIDMAP_OBJECT_INODE;
    object->ino = file->st->stx_ino;
    if (!file->place->handles) {
        return 0;
    }
    return qidmap_object_by_handle(object->fs, file->fd, file->name,
                                   S_ISDIR(file->st->stx_mode) ? 0 : file->st->stx_ino, object);
}

/* The id of a file; 0 where it has none. FALSE after an error, which it told. */
static gboolean find_id(struct work *work, const struct tree_file *file, guint64 *id)
{
    struct qidmap_object object;
    uint64_t path = 0;

    *id = 0;
    if (file->place->fs == 0) {
        work->no_row++;
        return TRUE;
    }
    if (object_of(file, &object) < 0) {
        return TRUE;
    }
    int code = qidmap_find_object(work->store, &object, &path);
    /* a filesystem that is denied, superseded or retired gives no ids */
    if (code == -ENOENT || code == -EPERM || code == -EINVAL) {
        return TRUE;
    }
    if (code < 0) {
        work->status = cmd_fail_code("the store", code);
        return FALSE;
    }
    *id = path;
    return TRUE;
}

/* ---- files -----------------------------------------------------------------------------------
 */

static enum manifest_type type_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return MANIFEST_FILE;
    case S_IFDIR:
        return MANIFEST_DIR;
    case S_IFLNK:
        return MANIFEST_SYMLINK;
    case S_IFCHR:
        return MANIFEST_CHAR;
    case S_IFBLK:
        return MANIFEST_BLOCK;
    case S_IFIFO:
        return MANIFEST_FIFO;
    case S_IFSOCK:
        return MANIFEST_SOCKET;
    default:
        return MANIFEST_UNKNOWN;
    }
}

static void write_place(struct work *work, struct place *place, const char *path)
{
    struct manifest_fs fs = {.fs = place->fs, .fsid = place->fsid, .path = path};

    fs.n = place->n = ++work->n_fs;
    g_strlcpy(fs.type, place->type, sizeof fs.type);
    manifest_writer_fs(work->writer, &fs);
}

/* Whether the folder `fd` is the root of its filesystem, and no bind mount of a part. */
static gboolean is_whole(int fd)
{
    g_autoptr(GPtrArray) lines = mounts_read();
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) < 0 ||
        (st.stx_attributes & st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) == 0) {
        return FALSE;
    }
    for (guint i = 0; i < lines->len; i++) {
        const struct mount_line *line = g_ptr_array_index(lines, i);
        if (line->id == st.stx_mnt_id) { /* an overlay counts the files of another filesystem */
            return strcmp(line->root, "/") == 0 && strcmp(line->type, "overlay") != 0;
        }
    }
    return FALSE;
}

/* How many names a filesystem brings that is met for the first time. */
static void expect(struct work *work, const struct tree_file *file)
{
    gboolean is_tree = file->name[0] == '\0';
    int fd = is_tree ? file->fd : openat(file->fd, file->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct statfs fs;

    if (fd >= 0 && is_whole(fd) && fstatfs(fd, &fs) == 0 && fs.f_files > fs.f_ffree) {
        work->expected += fs.f_files - fs.f_ffree;
    } else {
        work->partial = TRUE;
    }
    if (!is_tree && fd >= 0) {
        close(fd);
    }
}

static void note_unread(struct work *work, const struct tree_file *file)
{
    if (work->first_unread == NULL) {
        work->first_unread = g_strdup(file->path);
        work->first_code = file->code;
    }
}

static int take_file(void *data, const struct tree_file *file)
{
    struct work *work = data;
    const struct statx *st = file->st;
    struct manifest_file row = {.path = file->path, .links = 1};

    if (++work->calls % CALLS == 0 && g_get_monotonic_time() >= work->renew_at && !renew(work)) {
        return 1;
    }
    progress_tell(work->progress, work->calls, work->partial ? 0 : work->expected);
    if (st == NULL || file->unread) {
        note_unread(work, file);
    }
    if (st != NULL) {
        row.type = type_of(st->stx_mode);
    }
    if (row.type != MANIFEST_UNKNOWN) {
        if (file->place->n == 0) {
            write_place(work, file->place, file->path);
            expect(work, file);
        }
        row.fs = file->place->n;
        row.size = st->stx_size;
        row.mtime_s = st->stx_mtime.tv_sec;
        row.mtime_ns = MIN(st->stx_mtime.tv_nsec, 999999999);
        row.unread = file->unread;
        if (row.type != MANIFEST_DIR && st->stx_nlink > 1) {
            row.links = st->stx_nlink;
            row.link = st->stx_ino;
        }
        if (!find_id(work, file, &row.id)) {
            return 1;
        }
    }
    return manifest_writer_file(work->writer, &row);
}

/* ---- the verb --------------------------------------------------------------------------------
 */

/* Begins with the store and the filesystems. FALSE after an error, which it told. */
static gboolean begin(struct work *work, int folder, gboolean distinct)
{
    struct qidmap_error error = {0};

    work->status = cmd_open(work->options, &work->store);
    if (work->status != CMD_OK) {
        return FALSE;
    }
    work->status = CMD_CANNOT;
    if (!read_uuid(work->store, work->uuid)) {
        return FALSE;
    }
    work->sight = sight_new(work->store, work->options->fs_ids);
    if (work->sight == NULL) {
        work->status = CMD_USAGE;
        return FALSE;
    }
    work->places = places_new(work->store, work->sight, folder, distinct, &error);
    if (work->places == NULL) {
        work->status = cmd_fail(&error);
        return FALSE;
    }
    work->renew_at = g_get_monotonic_time() + STATE_SECONDS * G_USEC_PER_SEC;
    return TRUE;
}

/* Walks, and writes the manifest to `fd`. An exit status; has told any error. */
static int write_manifest(struct work *work, int folder, const struct export_arg *arg, int fd)
{
    struct manifest_header header = {.tree = arg->folder, .time = g_get_real_time() / 1000000};

    if (!begin(work, folder, arg->distinct)) {
        return work->status;
    }
    memcpy(header.store, work->uuid, sizeof header.store);
    work->writer = manifest_writer_new(fd, &header);
    work->status = CMD_OK;
    progress_begin(work->progress, "reading", "names");
    int code = tree_walk(folder, work->places, MANIFEST_PATH_MAX, take_file, work);
    if (code == 0) {
        code = manifest_writer_end(work->writer);
    }
    progress_hide(work->progress);
    if (work->status != CMD_OK) {
        return work->status;
    }
    if (code < 0) {
        cmd_error("the manifest could not be written whole: %s", g_strerror(-code));
        return CMD_CANNOT;
    }
    return CMD_OK;
}

/* A new file that has no name yet, so that nothing is left of it when this program is killed; where
 * the filesystem cannot do that, one with a name in `parent`, which *part then is. Such a name is
 * short: what took hours must not fail for another one that is long. */
static int open_part(const char *parent, char **part)
{
    int fd = open(parent, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        *part = g_build_filename(parent, ".manifest.XXXXXX", NULL);
        fd = g_mkstemp_full(*part, O_WRONLY | O_CLOEXEC, 0600);
    }
    return fd;
}

/* Gives a name in `parent` to a file that has none: no call puts it in the place of another one. */
static char *name_part(int fd, const char *parent)
{
    g_autofree char *nameless = g_strdup_printf("/proc/self/fd/%d", fd);
    int code;

    do {
        g_autofree char *part = g_strdup_printf("%s/.manifest.%08x", parent, g_random_int());
        code = linkat(AT_FDCWD, nameless, AT_FDCWD, part, AT_SYMLINK_FOLLOW);
        if (code == 0) {
            return g_steal_pointer(&part);
        }
    } while (errno == EEXIST);
    return NULL;
}

/* Puts what was written in its place. FALSE with errno. */
static gboolean put_in_place(int fd, const char *path, const char *parent, char **part)
{
    if (fsync(fd) < 0) {
        return FALSE;
    }
    if (*part == NULL) {
        *part = name_part(fd, parent);
    }
    if (*part == NULL || rename(*part, path) < 0) {
        return FALSE;
    }
    int folder = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean done = folder >= 0 && fsync(folder) == 0;
    int code = errno;
    if (folder >= 0) {
        close(folder);
    }
    errno = code;
    return done;
}

/* The same into a file, which is there as a whole or not at all. */
static int write_file(struct work *work, int folder, const struct export_arg *arg, const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *shown = cmd_escape(path, TRUE);
    g_autofree char *part = NULL;
    int fd = open_part(parent, &part);

    if (fd < 0) {
        cmd_error("cannot write %s: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    int status = write_manifest(work, folder, arg, fd);
    if (status == CMD_OK && !put_in_place(fd, path, parent, &part)) {
        cmd_error("cannot write %s: %s", shown, g_strerror(errno));
        status = CMD_CANNOT;
    }
    if (status != CMD_OK && part != NULL) {
        unlink(part);
    }
    close(fd);
    return status;
}

static void print_counts(const struct work *work, gboolean json)
{
    const struct manifest_end *end = manifest_writer_counts(work->writer);

    if (json) {
        JsonObject *object = json_object_new();
        cmd_json_u64(object, "files", end->files);
        cmd_json_u64(object, "ids", end->ids);
        cmd_json_u64(object, "unread", end->unread);
        json_object_set_int_member(object, "filesystems", work->n_fs);
        cmd_json_line(object);
    } else {
        printf("written: %" G_GUINT64_FORMAT " names on %u filesystems, %" G_GUINT64_FORMAT
               " with an id\n",
               end->files, work->n_fs, end->ids);
    }
}

/* What a manifest that was written lacks. */
static int tell_trouble(const struct work *work)
{
    const struct manifest_end *end = manifest_writer_counts(work->writer);

    if (end->unread > 0) {
        g_autofree char *first = cmd_escape(work->first_unread, TRUE);
        cmd_error("%" G_GUINT64_FORMAT " places could not be read, the first is %s (%s); what is "
                  "below them is missing",
                  end->unread, first[0] != '\0' ? first : "the folder itself",
                  g_strerror(work->first_code));
        return CMD_TROUBLE;
    }
    if (end->ids == 0) {
        cmd_error("no file has an id in this store: %s",
                  work->no_row > 0
                      ? "it does not know the filesystem; qidmapctl preflight says more"
                      : "no client has met one");
        return CMD_TROUBLE;
    }
    return CMD_OK;
}

static void work_clear(struct work *work)
{
    g_clear_pointer(&work->writer, manifest_writer_free);
    g_clear_pointer(&work->places, places_free);
    g_clear_pointer(&work->sight, sight_free);
    g_clear_pointer(&work->store, qidmap_store_close);
    g_clear_pointer(&work->progress, progress_free);
    g_clear_pointer(&work->first_unread, g_free);
}

static int run(struct cmd_options *options, const struct export_arg *arg, const char *output)
{
    struct work work = {.options = options};
    int folder = open(arg->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0) {
        g_autofree char *shown = cmd_escape(arg->folder, TRUE);
        cmd_error("cannot read %s: %s", shown, g_strerror(errno));
        return CMD_CANNOT;
    }
    work.progress = progress_new();
    int status = output != NULL ? write_file(&work, folder, arg, output)
                                : write_manifest(&work, folder, arg, STDOUT_FILENO);
    if (status == CMD_OK) {
        if (output != NULL) {
            print_counts(&work, options->json);
        }
        status = tell_trouble(&work);
    }
    close(folder);
    work_clear(&work);
    return status;
}

int cmd_manifest(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(cmd_options) options = {.use = CMD_STORE_MAYBE};
    g_auto(export_arg) arg = {NULL, FALSE, FALSE};
    g_autofree char *output = NULL;
    const GOptionEntry extra[] = {
        {"output", 'o', 0, G_OPTION_ARG_FILENAME, &output,
         "write FILE, as a whole or not at all, in place of the standard output", "FILE"},
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options.fs_ids,
         "identity that the daemon was given for the filesystem of PATH", "PATH=UUID"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    int status;

    if (!cmd_parse(cmd, &options, extra, argc, argv, &status)) {
        return status;
    }
    if (g_strv_length(options.rest) > 1) {
        return cmd_usage(cmd, "manifest takes one export");
    }
    status = export_arg_read(cmd, &options, options.rest[0], &arg);
    return status == CMD_OK ? run(&options, &arg, output) : status;
}
