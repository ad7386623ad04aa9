/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every call that takes a path has in common: each call with each way in which a path can be
 * wrong. A new call is one line in `calls`, and gets all of it.
 */
#define _GNU_SOURCE
#include "posix.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

static int call_chmod(const char *p)
{
    return chmod(p, 0644);
}
static int call_chown(const char *p)
{
    return chown(p, (uid_t)-1, (gid_t)-1);
}
static int call_lchown(const char *p)
{
    return lchown(p, (uid_t)-1, (gid_t)-1);
}
static int call_link_from(const char *p)
{
    return link(p, "other");
}
static int call_link_to(const char *p)
{
    return link("source", p);
}
static int call_mkdir(const char *p)
{
    return mkdir(p, 0755);
}
static int call_mkfifo(const char *p)
{
    return mkfifo(p, 0644);
}
static int call_mknod(const char *p)
{
    return mknod(p, S_IFREG | 0644, 0);
}
static int call_open(const char *p)
{
    return opens(p, O_RDONLY | O_NONBLOCK, 0);
}
static int call_create(const char *p)
{
    return opens(p, O_CREAT | O_EXCL | O_WRONLY, 0644);
}
static int call_opendir(const char *p)
{
    return opens(p, O_RDONLY | O_DIRECTORY, 0);
}
static int call_rename_from(const char *p)
{
    return rename(p, "other");
}
static int call_rename_to(const char *p)
{
    return rename("source", p);
}
static int call_symlink(const char *p)
{
    return symlink("target", p);
}
static int call_truncate(const char *p)
{
    return truncate(p, 0);
}
static int call_utimensat(const char *p)
{
    return utimensat(AT_FDCWD, p, NULL, 0);
}
static int call_utimensat_link(const char *p)
{
    return utimensat(AT_FDCWD, p, NULL, AT_SYMLINK_NOFOLLOW);
}
static int call_stat(const char *p)
{
    struct stat st;

    return stat(p, &st);
}
static int call_lstat(const char *p)
{
    struct stat st;

    return lstat(p, &st);
}
static int call_access(const char *p)
{
    return eaccess(p, R_OK);
}
static int call_statfs(const char *p)
{
    struct statfs st;

    return statfs(p, &st);
}
static int call_setxattr(const char *p)
{
    return setxattr(p, "user.try", "1", 1, 0);
}
static int call_chdir(const char *p)
{
    return chdir(p);
}

enum {
    NEW = 1,    /* makes the name */
    DIR_ = 2,   /* wants a directory there */
    FOLLOW = 4, /* follows a symbolic link at the end */
    CHANGE = 8, /* changes the file: not on a read-only filesystem */
    ENTRY = 16, /* changes the directory that the name is in */
};

static const struct {
    const char *name;
    int (*call)(const char *path);
    int flags;
} calls[] = {
    {"chmod", call_chmod, FOLLOW | CHANGE},
    {"chown", call_chown, FOLLOW | CHANGE},
    {"lchown", call_lchown, CHANGE},
    {"link from", call_link_from, ENTRY},
    {"link to", call_link_to, NEW | ENTRY},
    {"mkdir", call_mkdir, NEW | ENTRY},
    {"mkfifo", call_mkfifo, NEW | ENTRY},
    {"mknod", call_mknod, NEW | ENTRY},
    {"open", call_open, FOLLOW},
    {"create", call_create, NEW | ENTRY},
    {"opendir", call_opendir, DIR_ | FOLLOW},
    {"rename from", call_rename_from, ENTRY | CHANGE},
    {"rename to", call_rename_to, NEW | ENTRY},
    {"rmdir", rmdir, DIR_ | ENTRY | CHANGE},
    {"symlink", call_symlink, NEW | ENTRY},
    {"truncate", call_truncate, FOLLOW | CHANGE},
    {"unlink", unlink, ENTRY | CHANGE},
    {"utimensat", call_utimensat, FOLLOW | CHANGE},
    {"utimensat of a link", call_utimensat_link, CHANGE},
    {"stat", call_stat, FOLLOW},
    {"lstat", call_lstat, 0},
    {"access", call_access, FOLLOW},
    {"statfs", call_statfs, FOLLOW},
    {"setxattr", call_setxattr, FOLLOW | CHANGE},
    {"chdir", call_chdir, DIR_ | FOLLOW},
};

#define EACH_CALL(i) for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)

/* What the call wants to find at path. */
static void prepare(size_t i, const char *path)
{
    if (!(calls[i].flags & NEW))
        NEED(make(calls[i].flags & DIR_ ? 'd' : 'r', path, calls[i].flags & DIR_ ? 0755 : 0644));
}

static void clear(const char *path)
{
    take(path);
    take("other");
    if (access("source", F_OK) < 0)
        NEED(make('r', "source", 0644));
}

static void wrong_components(void)
{
    char path[64];

    begin("paths/ENOTDIR");
    NEED(make('r', "source", 0644));
    for (const char *type = TYPES; *type; type++) {
        if (*type == 'd' || *type == 'l')
            continue;
        NEED(make(*type, "component", 0644));
        EACH_CALL(i)
        {
            within("%s below a %s:", calls[i].name, type_name(*type));
            TRY(ENOTDIR, calls[i].call("component/name"));
        }
        NEED(take("component"));
    }

    begin("paths/ENOENT");
    NEED(make('r', "source", 0644));
    NEED(symlink("nowhere", "dangling"));
    EACH_CALL(i)
    {
        within("%s", calls[i].name);
        TRY(ENOENT, calls[i].call("missing/name"));
        TRY(ENOENT, calls[i].call("dangling/name"));
        TRY(ENOENT, calls[i].call(""));
        if (!(calls[i].flags & NEW))
            TRY(ENOENT, calls[i].call("missing"));
        if (calls[i].flags & FOLLOW)
            TRY(ENOENT, calls[i].call("dangling"));
    }

    begin("paths/ELOOP");
    NEED(make('r', "source", 0644));
    NEED(symlink("loop2", "loop"));
    NEED(symlink("loop", "loop2"));
    EACH_CALL(i)
    {
        within("%s", calls[i].name);
        TRY(ELOOP, calls[i].call("loop/name"));
        if (calls[i].flags & FOLLOW)
            TRY(ELOOP, calls[i].call("loop"));
    }

    begin("paths/EFAULT");
    NEED(make('r', "source", 0644));
    EACH_CALL(i)
    {
        within("%s", calls[i].name);
        TRY(EFAULT, calls[i].call((const char *)1));
    }

    begin("paths/through a link");
    NEED(mkdir("folder", 0755));
    NEED(symlink("folder", "way"));
    NEED(make('r', "source", 0644));
    EACH_CALL(i)
    {
        snprintf(path, sizeof path, "folder/name%zu", i);
        prepare(i, path);
        snprintf(path, sizeof path, "way/name%zu", i);
        within("%s", calls[i].name);
        TRY(0, calls[i].call(path));
        if (!strcmp(calls[i].name, "chdir"))
            NEED(chdir("../.."));
        clear(path);
    }
}

static void long_names(void)
{
    static char name[300], path[PATH_MAX + 8];

    begin("paths/ENAMETOOLONG");
    NEED(make('r', "source", 0644));
    memset(name, 'n', 256);
    EACH_CALL(i)
    {
        name[255] = 'n';
        name[256] = '\0';
        within("%s, a name of 256 bytes:", calls[i].name);
        TRY(ENAMETOOLONG, calls[i].call(name));
        name[255] = '\0';
        within("%s, a name of 255 bytes:", calls[i].name);
        prepare(i, name);
        TRY(0, calls[i].call(name));
        if (!strcmp(calls[i].name, "chdir"))
            NEED(chdir(".."));
        clear(name);
        /* ./././name: longer, though not deep. The zero counts. */
        for (size_t n = 0; n < PATH_MAX; n++)
            path[n] = n % 2 ? '/' : '.';
        strcpy(path + PATH_MAX - 4, "name");
        within("%s, a path of 4096 bytes:", calls[i].name);
        TRY(ENAMETOOLONG, calls[i].call(path));
        strcpy(path + PATH_MAX - 4, "nam");
        within("%s, a path of 4095 bytes:", calls[i].name);
        prepare(i, "nam");
        TRY(0, calls[i].call(path));
        if (!strcmp(calls[i].name, "chdir"))
            NEED(chdir(".."));
        clear("nam");
    }
}

static void permission(void)
{
    begin("paths/EACCES");
    NEED(chmod(".", 0777));
    NEED(mkdir("shut", 0755));
    EACH_CALL(i)
    {
        NEED(take("source") < 0 && errno != ENOENT ? -1 : 0);
        NEED(make('r', "source", 0644));
        NEED(chmod("source", 0666)); /* or fs.protected_hardlinks would speak first */
        NEED(chown("source", BOB, BOB));
        NEED(chmod("shut", 0755));
        NEED(chown("shut", BOB, BOB));
        prepare(i, "shut/name");
        if (!(calls[i].flags & NEW))
            NEED(chown("shut/name", BOB, BOB));

        within("%s, no search permission:", calls[i].name);
        NEED(chmod("shut", 0644));
        as(BOB, BOB, 0);
        TRY(EACCES, calls[i].call("shut/name"));
        as_root();
        NEED(chmod("shut", 0711));
        as(ALICE, ALICE, 0);
        within("%s, another user:", calls[i].name);
        if (calls[i].flags & NEW)
            TRY(EACCES, calls[i].call("shut/name"));
        as_root();

        if (calls[i].flags & ENTRY && strcmp(calls[i].name, "link from")) {
            within("%s, directory not writable:", calls[i].name);
            NEED(chmod("shut", 0555));
            as(BOB, BOB, 0);
            TRY(EACCES, calls[i].call("shut/name"));
            as_root();
        }
        within("%s, all permitted:", calls[i].name);
        NEED(chmod("shut", 0755));
        as(BOB, BOB, 0);
        TRY(0, calls[i].call("shut/name"));
        as_root();
        if (!strcmp(calls[i].name, "chdir"))
            NEED(chdir("../.."));
        take("shut/name");
        take("other");
    }

    begin("paths/root passes");
    NEED(mkdir("shut", 0000));
    NEED(make('r', "source", 0644));
    EACH_CALL(i)
    {
        within("%s", calls[i].name);
        prepare(i, "shut/name");
        TRY(0, calls[i].call("shut/name"));
        if (!strcmp(calls[i].name, "chdir"))
            NEED(chdir("../.."));
        clear("shut/name");
    }
}

static void existing(void)
{
    begin("paths/EEXIST");
    for (const char *type = TYPES; *type; type++) {
        NEED(make('r', "source", 0644));
        NEED(make(*type, "name", 0755));
        EACH_CALL(i)
        {
            if (!(calls[i].flags & NEW) || !strcmp(calls[i].name, "rename to"))
                continue;
            within("%s on a %s:", calls[i].name, type_name(*type));
            TRY(EEXIST, calls[i].call("name"));
        }
        NEED(take("name"));
        NEED(take("source"));
    }
}

static void read_only(void)
{
    char path[PATH_MAX];

    if (!readonly_folder)
        return;
    begin("paths/EROFS");
    NEED(make('r', "file", 0666));
    NEED(mkdir("folder", 0777));
    NEED(make('r', "source", 0666));
    EACH_CALL(i)
    {
        const char *name = calls[i].flags & NEW ? "new" : calls[i].flags & DIR_ ? "folder" : "file";

        if (!(calls[i].flags & (CHANGE | ENTRY)) ||
            strstr(calls[i].name, "link ") == calls[i].name ||
            strstr(calls[i].name, "rename") == calls[i].name)
            continue; /* two paths: below */
        snprintf(path, sizeof path, "%s/work/%s", readonly_folder, name);
        within("%s", calls[i].name);
        TRY(EROFS, calls[i].call(path));
    }
    within("two paths:");
    snprintf(path, sizeof path, "%s/work", readonly_folder);
    NEED(chdir(path));
    TRY(EROFS, link("file", "new"));
    TRY(EROFS, rename("file", "new"));
    TRY(EROFS, rename("folder", "new"));
    within("open:");
    TRY(EROFS, opens("file", O_WRONLY, 0));
    TRY(EROFS, opens("file", O_RDWR, 0));
    TRY(EROFS, opens("file", O_RDONLY | O_TRUNC, 0));
    TRY(EROFS, opens("new", O_RDONLY | O_CREAT, 0644));
    TRY(0, opens("file", O_RDONLY, 0));
    TRY(0, opens("file", O_RDONLY | O_CREAT, 0644));
    TRY(0, opens("folder", O_RDONLY, 0));
}

void cases_paths(void)
{
    wrong_components();
    long_names();
    permission();
    existing();
    read_only();
}
