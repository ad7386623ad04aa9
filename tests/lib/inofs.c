/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inofs: a FUSE filesystem whose inode numbers the test chooses.
 *
 *   inofs LIST MOUNTPOINT [-o fsname=NAME]...
 *
 * LIST has a 64-bit inode number on each line, decimal or 0x...; the filesystem shows a regular
 * file `f-<16 hex digits>` with that inode number for each, read-only, and the number as its
 * content. Real filesystems seldom set high bits; mergerfs, overlayfs and cluster filesystems do,
 * and this stands for them. Goes to the background once it is mounted.
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fuse_lowlevel.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The node id of entry i is i + 2: FUSE keeps 1 for the root. */
#define FIRST_NODE 2

static GArray *inodes; /* of guint64 */

static void name_of(guint64 ino, char name[32])
{
    snprintf(name, 32, "f-%016" G_GINT64_MODIFIER "x", ino);
}

static int stat_of(fuse_ino_t node, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    if (node == FUSE_ROOT_ID) {
        st->st_ino = FUSE_ROOT_ID;
        st->st_mode = S_IFDIR | 0755;
        st->st_nlink = 2;
        return 0;
    }
    if (node < FIRST_NODE || node - FIRST_NODE >= inodes->len)
        return ENOENT;
    st->st_ino = g_array_index(inodes, guint64, node - FIRST_NODE);
    st->st_mode = S_IFREG | 0644;
    st->st_nlink = 1;
    st->st_size = 17;
    return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {.attr_timeout = 1.0, .entry_timeout = 1.0};
    char expected[32];

    for (guint i = 0; parent == FUSE_ROOT_ID && i < inodes->len; i++) {
        name_of(g_array_index(inodes, guint64, i), expected);
        if (strcmp(name, expected) == 0) {
            entry.ino = i + FIRST_NODE;
            stat_of(entry.ino, &entry.attr);
            fuse_reply_entry(req, &entry);
            return;
        }
    }
    fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *info)
{
    struct stat st;
    int err = stat_of(node, &st);

    (void)info;
    if (err != 0)
        fuse_reply_err(req, err);
    else
        fuse_reply_attr(req, &st, 1.0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    g_autofree char *buffer = NULL;
    size_t used = 0;

    (void)info;
    if (node != FUSE_ROOT_ID) {
        fuse_reply_err(req, ENOTDIR);
        return;
    }
    buffer = g_malloc(size);
    for (off_t i = offset; i < (off_t)inodes->len; i++) {
        struct stat st;
        char name[32];
        size_t need;

        stat_of(i + FIRST_NODE, &st);
        name_of(st.st_ino, name);
        need = fuse_add_direntry(req, buffer + used, size - used, name, &st, i + 1);
        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, buffer, used);
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    char text[32];
    struct stat st;

    (void)info;
    if (stat_of(node, &st) != 0 || !S_ISREG(st.st_mode)) {
        fuse_reply_err(req, EISDIR);
        return;
    }
    snprintf(text, sizeof(text), "%016" G_GINT64_MODIFIER "x\n", (guint64)st.st_ino);
    if (offset >= 17)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_buf(req, text + offset, MIN(size, (size_t)(17 - offset)));
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = op_lookup,
    .getattr = op_getattr,
    .readdir = op_readdir,
    .read = op_read,
};

static gboolean read_list(const char *path)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GError) error = NULL;

    inodes = g_array_new(FALSE, FALSE, sizeof(guint64));
    if (!g_file_get_contents(path, &text, NULL, &error)) {
        fprintf(stderr, "inofs: %s\n", error->message);
        return FALSE;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        guint64 ino;

        if (**line == '\0')
            continue;
        ino = g_ascii_strtoull(*line, NULL, 0);
        g_array_append_val(inodes, ino);
    }
    return TRUE;
}

int main(int argc, char **argv)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session;
    int status = 1;

    if (argc < 3) {
        fprintf(stderr, "usage: inofs LIST MOUNTPOINT [-o OPTIONS]\n");
        return 2;
    }
    if (!read_list(argv[1]))
        return 1;
    fuse_opt_add_arg(&args, argv[0]);
    for (int i = 3; i < argc; i++)
        fuse_opt_add_arg(&args, argv[i]);

    session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    if (session == NULL)
        return 1;
    if (fuse_set_signal_handlers(session) == 0) {
        if (fuse_session_mount(session, argv[2]) == 0) {
            fuse_daemonize(0);
            status = fuse_session_loop(session) == 0 ? 0 : 1;
            fuse_session_unmount(session);
        }
        fuse_remove_signal_handlers(session);
    }
    fuse_session_destroy(session);
    fuse_opt_free_args(&args);
    g_array_unref(inodes);
    return status;
}
