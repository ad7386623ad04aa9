/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Trename, Trenameat, Tunlinkat, Tremove: what moves and removes names. */
#include "config.h"

#include "tests/conform/conform.h"

#include <string.h>

#define REMOVEDIR 0x200u

/* Trename where `by_fid`, else Trenameat; from WORK/NAME. */
static int move(struct client *c, guint by_fid, const char *name, guint32 to, const char *new)
{
    guint32 fid;
    int rc;

    if (!by_fid)
        return client_renameat(c, WORK, name, to, new);
    fid = walk_to(c, WORK, name);
    rc = client_rename(c, fid, to, new);
    client_clunk(c, fid);
    return rc;
}

static void simple(guint by_fid)
{
    struct client *c = session();
    guint32 dir = make_dir(c, "d"), fid = make_file(c, "a", "text");
    struct client_qid before = qid_of(c, fid), after;

    OK(move(c, by_fid, "a", WORK, "b"));
    YES(!exists(c, "a"));
    expect_content(c, "b", "text");
    OK(move(c, by_fid, "b", dir, "c"));
    expect_content(c, "d/c", "text");
    after = qid_of(c, fid);
    YES(same_qid(&before, &after));
    ERR(move(c, by_fid, "d", walk_to(c, WORK, "d"), "inside"), EINVAL);
    OK(move(c, by_fid, "d", WORK, "e"));
    expect_content(c, "e/c", "text");
}

static void over(guint by_fid)
{
    struct client *c = session();
    guint32 full = make_dir(c, "full");

    make_file(c, "a", "A");
    make_file(c, "b", "B");
    make_dir(c, "d");
    make_dir(c, "empty");
    OK(client_mkdir(c, full, "x", 0755, NULL));
    OK(move(c, by_fid, "a", WORK, "b"));
    expect_content(c, "b", "A");
    ERR(move(c, by_fid, "b", WORK, "d"), EISDIR);
    ERR(move(c, by_fid, "d", WORK, "b"), ENOTDIR);
    ERR(move(c, by_fid, "d", WORK, "full"), ENOTEMPTY, EEXIST);
    OK(move(c, by_fid, "full", WORK, "empty"));
    YES(exists(c, "empty/x"));
    OK(move(c, by_fid, "b", WORK, "b")); /* to itself */
    expect_content(c, "b", "A");
}

static void missing(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text");

    (void)arg;
    ERR(client_renameat(c, WORK, "missing", WORK, "b"), ENOENT);
    ERR(client_renameat(c, file, "x", WORK, "b"), ENOTDIR, EINVAL);
    ERR(client_renameat(c, WORK, "file", file, "b"), ENOTDIR, EINVAL);
    ERR(client_rename(c, file, file, "b"), ENOTDIR, EINVAL);
    ERROR(client_rename(c, ROOT, WORK, "b"));
    expect_content(c, "file", "text");
}

static void again(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "a", "text"), dir = make_dir(c, "d");

    (void)arg;
    /* the same fid, again and again, and in between the name by another client's hand */
    OK(client_rename(c, fid, WORK, "b"));
    OK(client_rename(c, fid, dir, "c"));
    OK(move_name(c, dir, "c", WORK, "e"));
    make_file(c, "a", "another");
    OK(client_rename(c, fid, WORK, "f"));
    expect_content(c, "f", "text");
    expect_content(c, "a", "another");
    YES(!exists(c, "b") && !exists(c, "d/c") && !exists(c, "e"));
}

static void open_files(guint by_fid)
{
    struct client *c = session(), *other = session();
    guint32 a = make_open(c, "a", "A"), b = open_path(other, "a", L_RDWR), gone, dir;

    make_dir(c, "d");
    dir = walk_to(c, WORK, "d");
    gone = make_open(c, "victim", "old");
    OK(move(c, by_fid, "a", dir, "victim2"));
    put_text(c, a, 1, "1");
    put_text(other, b, 2, "2");
    expect_text(c, a, "A12");
    expect_content(c, "d/victim2", "A12");
    make_file(c, "new", "new");
    OK(move(c, by_fid, "new", WORK, "victim"));
    expect_text(c, gone, "old");
    put_text(c, gone, 0, "OLD");
    expect_content(c, "victim", "new");
    IS(attr_of(c, gone).nlink, 0);
}

static void unlinkat_it(guint arg)
{
    struct client *c = session();
    guint32 dir;

    (void)arg;
    make_file(c, "file", "text");
    dir = make_dir(c, "d");
    make_link(c, "l", "file");
    OK(client_mkdir(c, dir, "x", 0755, NULL));
    ERR(client_unlinkat(c, WORK, "missing", 0), ENOENT);
    ERR(client_unlinkat(c, WORK, "d", 0), EISDIR, EPERM);
    ERR(client_unlinkat(c, WORK, "file", REMOVEDIR), ENOTDIR);
    ERR(client_unlinkat(c, WORK, "l", REMOVEDIR), ENOTDIR);
    ERR(client_unlinkat(c, WORK, "d", REMOVEDIR), ENOTEMPTY, EEXIST);
    OK(client_unlinkat(c, WORK, "l", 0));
    expect_content(c, "file", "text");
    OK(client_unlinkat(c, WORK, "file", 0));
    OK(client_unlinkat(c, dir, "x", REMOVEDIR));
    OK(client_unlinkat(c, WORK, "d", REMOVEDIR));
    YES(!exists(c, "file") && !exists(c, "d"));
}

static void unlinkat_flags(guint arg)
{
    struct client *c = session();

    (void)arg;
    make_file(c, "file", "text");
    ERROR(client_unlinkat(c, WORK, "file", 0x80000000u));
    expect_content(c, "file", "text");
}

static void remove_it(guint arg)
{
    struct client *c = session();
    guint32 file = make_file(c, "file", "text"), dir = make_dir(c, "d"), full = make_dir(c, "full");
    guint32 link = make_link(c, "l", "full");
    struct client_attr attr;

    (void)arg;
    OK(client_mkdir(c, full, "x", 0755, NULL));
    OK(client_remove(c, file));
    OK(client_remove(c, dir));
    OK(client_remove(c, link));
    YES(!exists(c, "file") && !exists(c, "d") && !exists(c, "l"));
    ERR(client_remove(c, full), ENOTEMPTY, EEXIST);
    YES(exists(c, "full/x"));
    /* the fid is gone whatever came of it */
    ERROR(client_getattr(c, full, GETATTR_BASIC, &attr));
    ERROR(client_getattr(c, file, GETATTR_BASIC, &attr));
}

static void remove_moved(guint arg)
{
    struct client *c = session();
    guint32 fid = make_file(c, "a", "text");

    (void)arg;
    OK(move_name(c, WORK, "a", WORK, "b"));
    make_file(c, "a", "another");
    OK(client_remove(c, fid));
    YES(!exists(c, "b"));
    expect_content(c, "a", "another");
}

static void remove_root(guint arg)
{
    struct client *c = session();

    (void)arg;
    ERROR(client_remove(c, clone_fid(c, ROOT)));
    ERROR(client_unlinkat(c, ROOT, "..", REMOVEDIR));
    attr_of(c, ROOT);
    still_serves();
}

#define A "Trenameat; renameat(2)"
#define F "Trename; rename(2)"
const struct conform_case rename_cases[] = {
    {"rename/renameat", "names move within and between directories; a directory not into itself", A,
     CASE_WRITES, simple, FALSE},
    {"rename/rename", "the same by the fid of what is moved, which stays valid", F, CASE_WRITES,
     simple, TRUE},
    {"rename/renameat-over", "what is in the way is replaced where rename(2) allows it", A,
     CASE_WRITES, over, FALSE},
    {"rename/rename-over", "the same by fid", F, CASE_WRITES, over, TRUE},
    {"rename/missing", "missing names, files in place of directories, the root: errors", A,
     CASE_WRITES, missing, 0},
    {"rename/again", "Trename finds the present name of its fid, however often that changed", F,
     CASE_WRITES, again, 0},
    {"rename/renameat-open", "open files are read and written after their name moved, or was taken",
     A, CASE_WRITES, open_files, FALSE},
    {"rename/rename-open", "the same by fid", F, CASE_WRITES, open_files, TRUE},
    {"rename/unlinkat", "files and empty directories go, each by its flag; all else is an error",
     "Tunlinkat; unlinkat(2)", CASE_WRITES, unlinkat_it, 0},
    {"rename/unlinkat-flags", "unknown flags are refused", "Tunlinkat; unlinkat(2)", CASE_WRITES,
     unlinkat_flags, 0},
    {"rename/remove", "Tremove removes, and ends its fid even where it fails", "remove(5), Tremove",
     CASE_WRITES, remove_it, 0},
    {"rename/remove-moved", "Tremove removes the fid's file, not one of its old name",
     "remove(5), Tremove", CASE_WRITES, remove_moved, 0},
    {"rename/remove-root", "the export's root stays", "remove(5), Tremove", CASE_WRITES,
     remove_root, 0},
    CASES_END,
};
