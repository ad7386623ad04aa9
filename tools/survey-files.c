/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The records of a survey. Millions of them stand in plain arrays; a hash table of indexes, half
 * full at most, finds a file that was met before (hard links, bind mounts). Rejected: a GHashTable
 * (about 60 bytes for each file) and sorting (the order in which files are met matters to QEMU's
 * remap).
 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/survey.h"

static void fs_free(gpointer data)
{
    struct survey_fs *fs = data;
    g_free(fs->identity);
    g_free(fs->problem);
    g_free(fs->path);
    g_free(fs);
}

void survey_init(struct survey *survey, const char *root, progress *progress)
{
    *survey = (struct survey){.root = root, .root_fd = -1, .progress = progress};
    survey->fs = g_ptr_array_new_with_free_func(fs_free);
    survey->specials = g_byte_array_new();
}

static guint64 mix(guint64 x)
{
    x = (x ^ x >> 30) * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * G_GUINT64_CONSTANT(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Where the file stands in the table, or the empty slot where it would. */
static gsize slot_of(const struct survey *survey, guint32 fs, guint64 ino)
{
    gsize mask = survey->n_slots - 1;
    gsize at = (gsize)mix(ino + (guint64)fs * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15)) & mask;

    while (survey->slots[at] != 0) {
        const struct survey_file *file = &survey->files[survey->slots[at] - 1];
        if (file->ino == ino && file->fs == fs) {
            break;
        }
        at = (at + 1) & mask;
    }
    return at;
}

static void grow_slots(struct survey *survey)
{
    g_free(survey->slots);
    survey->n_slots = MAX(survey->n_slots * 2, 4096);
    survey->slots = g_new0(guint32, survey->n_slots);
    for (gsize i = 0; i < survey->n_files; i++) {
        const struct survey_file *file = &survey->files[i];
        survey->slots[slot_of(survey, file->fs, file->ino)] = (guint32)i + 1;
    }
}

void survey_forget_slots(struct survey *survey)
{
    g_clear_pointer(&survey->slots, g_free);
    survey->n_slots = 0;
}

gboolean survey_add(struct survey *survey, guint32 fs, guint64 ino, guint32 dir,
                    const struct survey_special *special, const guint8 *handle)
{
    guint32 key = fs | (special != NULL ? SURVEY_SPECIAL : 0);

    if (survey->n_files * 2 >= survey->n_slots) {
        grow_slots(survey);
    }
    gsize slot = slot_of(survey, key, ino);
    /* all placeholders have the same inode number: the caller has looked at their keys */
    gboolean placeholder = special != NULL && special->kind == QIDMAP_OBJECT_PLACEHOLDER;
    if (survey->slots[slot] != 0 && !placeholder) {
        return FALSE;
    }
    if (survey->n_files == survey->files_room) {
        survey->files_room = MAX(survey->files_room + survey->files_room / 2, 4096);
        survey->files = g_renew(struct survey_file, survey->files, survey->files_room);
    }
    survey->files[survey->n_files++] = (struct survey_file){ino, key, dir};
    survey->slots[slot] = (guint32)survey->n_files;
    if (special != NULL) {
        g_byte_array_append(survey->specials, (const guint8 *)special, sizeof *special);
        g_byte_array_append(survey->specials, handle, special->handle_size);
    }
    return TRUE;
}

guint32 survey_add_dir(struct survey *survey, guint32 parent, const char *name)
{
    gsize size = strlen(name) + 1;

    if (survey->n_dirs == survey->dirs_room) {
        survey->dirs_room = MAX(survey->dirs_room + survey->dirs_room / 2, 1024);
        survey->dirs = g_renew(struct survey_dir, survey->dirs, survey->dirs_room);
    }
    if (survey->names_room - survey->names_size < size) {
        survey->names_room = MAX(survey->names_room + survey->names_room / 2, 65536);
        survey->names = g_realloc(survey->names, survey->names_room);
    }
    memcpy(survey->names + survey->names_size, name, size);
    survey->dirs[survey->n_dirs] = (struct survey_dir){survey->names_size, parent};
    survey->names_size += size;
    return (guint32)survey->n_dirs++;
}

char *survey_dir_path(const struct survey *survey, guint32 dir)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new();

    for (; dir != SURVEY_NONE; dir = survey->dirs[dir].parent) {
        g_ptr_array_insert(parts, 0, survey->names + survey->dirs[dir].name);
    }
    g_ptr_array_add(parts, NULL);
    char *path = g_strjoinv("/", (char **)parts->pdata);
    if (g_str_has_prefix(path, "//")) { /* the tree is the root directory */
        memmove(path, path + 1, strlen(path));
    }
    return path;
}

/* Opens a directory by its names, one at a time: a symlink put in place of one is not followed. */
static int open_dir(const struct survey *survey, guint32 dir)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new();
    /* a position of its own in the directory, which dup(2) would not give */
    int fd = openat(survey->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (; dir != 0; dir = survey->dirs[dir].parent) {
        g_ptr_array_insert(parts, 0, survey->names + survey->dirs[dir].name);
    }
    for (guint i = 0; i < parts->len && fd >= 0; i++) {
        int next = openat(fd, parts->pdata[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(fd);
        fd = next;
    }
    return fd;
}

static char *search(DIR *dir, const struct survey_file *file, guint64 st_dev, guint64 d_ino)
{
    struct dirent *entry;
    struct stat st;

    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            (d_ino == 0 || entry->d_ino == d_ino) &&
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 &&
            st.st_ino == file->ino && (d_ino != 0 || st.st_dev == st_dev)) {
            return g_strdup(entry->d_name);
        }
    }
    return NULL;
}

/* The d_ino of the placeholder number `at`, 0 where that file is none. */
static guint64 placeholder_d_ino(const struct survey *survey, gsize at)
{
    const guint8 *bytes = survey->specials->data;
    struct survey_special special;

    if ((survey->files[at].fs & SURVEY_SPECIAL) == 0) {
        return 0;
    }
    for (gsize i = 0; i <= at; i++) {
        if ((survey->files[i].fs & SURVEY_SPECIAL) != 0) {
            memcpy(&special, bytes, sizeof special);
            bytes += sizeof special + special.handle_size;
        }
    }
    return special.kind == QIDMAP_OBJECT_PLACEHOLDER ? special.ino2 : 0;
}

char *survey_name(const struct survey *survey, gsize at)
{
    const struct survey_file *file = &survey->files[at];
    const struct survey_fs *fs = survey->fs->pdata[file->fs & ~SURVEY_SPECIAL];
    char *name = NULL;

    if (file->dir == SURVEY_NONE) {
        return g_strdup(survey->root);
    }
    g_autofree char *path = survey_dir_path(survey, file->dir);
    int fd = open_dir(survey, file->dir);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir != NULL) {
        name = search(dir, file, fs->st_dev, placeholder_d_ino(survey, at));
        closedir(dir);
    } else if (fd >= 0) {
        close(fd);
    }
    if (name == NULL) {
        return g_strdup_printf("%s (it is gone from there now)", path);
    }
    char *whole = g_strdup_printf("%s%s%s", path, g_str_has_suffix(path, "/") ? "" : "/", name);
    g_free(name);
    return whole;
}

void survey_clear(struct survey *survey)
{
    g_clear_pointer(&survey->fs, g_ptr_array_unref);
    g_clear_pointer(&survey->specials, g_byte_array_unref);
    g_clear_pointer(&survey->files, g_free);
    g_clear_pointer(&survey->dirs, g_free);
    g_clear_pointer(&survey->names, g_free);
    g_clear_pointer(&survey->first_unread, g_free);
    survey_forget_slots(survey);
    if (survey->root_fd >= 0) {
        close(survey->root_fd);
    }
}
