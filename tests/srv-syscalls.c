/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: each message costs the system calls that HACKING.md lists for it, beside one recv and
 * one send, and no other: what the table defends is what the daemon does.
 *
 * strace looks at the daemon while a client asks for one thing after the other, between walks to
 * names that do not exist, which show in the trace where one ends and the next begins. Each is done
 * several times, as a busy machine may put a thread's own calls (epoll, futex) in between, or let
 * another thread go on; what most of them show counts.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMES 7

#define DIR_FID   2u
#define FILE_FID  3u
#define OPEN_FID  4u
#define LIST_FID  5u
#define NEW_FID   6u
#define LINK_FID  7u
#define MARK_FID  8u
#define NAME_FID  9u /* of the same user, by name */
#define OTHER_FID 10u
#define OTHER_UID 12345u /* nobody knows it: only root's daemon becomes it */

#define DEEP "d/1/2/3/4" /* no depth shall cost more */

/* What a thread does for itself, not for a request. */
static const char *const own[] = {"futex",       "clock_nanosleep",
                                  "epoll_wait",  "epoll_ctl",
                                  "write",       "restart_syscall",
                                  "madvise",     "mprotect",
                                  "mmap",        "munmap",
                                  "brk",         "epoll_pwait",
                                  "sched_yield", "rseq",
                                  "gettid"};

static struct client *c;
static int count; /* how often the current step was done */

static void expect(int rc)
{
    g_assert_cmpint(rc, ==, 0);
}

/* ---- the steps: what is not in the table is done before `begin` and after `end` ---------------
 */

static void none(void)
{
}

static void clunk_new(void)
{
    expect(client_clunk(c, NEW_FID));
}

static void walk_file(void)
{
    expect(client_walk_path(c, ROOT_FID, NEW_FID, "d/file", NULL));
}

static void do_clone(void)
{
    expect(client_walk_path(c, DIR_FID, NEW_FID, "", NULL));
}

static void do_walk(void)
{
    expect(client_walk_path(c, DIR_FID, NEW_FID, "file", NULL));
}

static void walk_deep(void)
{
    expect(client_walk_path(c, ROOT_FID, LIST_FID, DEEP, NULL));
}

static void do_walk_up(void)
{
    expect(client_walk_path(c, LIST_FID, NEW_FID, "..", NULL));
}

static void clunk_deep(void)
{
    clunk_new();
    expect(client_clunk(c, LIST_FID));
}

static void do_lopen(void)
{
    expect(client_lopen(c, NEW_FID, L_RDONLY, NULL));
}

static void do_lcreate(void)
{
    expect(client_lcreate(c, NEW_FID, "made", L_RDWR, 0644, NULL));
}

static void undo_lcreate(void)
{
    clunk_new();
    expect(client_unlinkat(c, DIR_FID, "made", 0));
}

static void before_remove(void)
{
    do_clone();
    do_lcreate();
    clunk_new();
    expect(client_walk_path(c, DIR_FID, NEW_FID, "made", NULL));
}

static void before_remove_made(void)
{
    do_clone();
    do_lcreate();
}

static void do_remove(void)
{
    expect(client_remove(c, NEW_FID));
}

static void do_unlinkat(void)
{
    expect(client_unlinkat(c, DIR_FID, "made", 0));
}

static void before_unlinkat(void)
{
    do_clone();
    do_lcreate();
    clunk_new();
}

static void do_read(void)
{
    g_autoptr(GByteArray) data = NULL;

    expect(client_read(c, OPEN_FID, 0, 4096, &data));
}

static void walk_other(void)
{
    expect(client_walk_path(c, OTHER_FID, NEW_FID, "d/file", NULL));
    expect(client_lopen(c, NEW_FID, L_RDONLY, NULL));
}

static void do_read_other(void)
{
    g_autoptr(GByteArray) data = NULL;

    expect(client_read(c, NEW_FID, 0, 4096, &data));
}

static void do_write(void)
{
    guint32 n;

    expect(client_write(c, OPEN_FID, 0, 4, "text", &n));
}

static void do_fsync(void)
{
    expect(client_fsync(c, OPEN_FID));
}

static void do_getattr(void)
{
    struct client_attr attr;

    expect(client_getattr(c, FILE_FID, GETATTR_BASIC, &attr));
}

static void do_getattr_all(void)
{
    struct client_attr attr;

    expect(client_getattr(c, FILE_FID, GETATTR_ALL, &attr));
}

static void do_getattr_by_name(void)
{
    struct client_attr attr;

    expect(client_getattr(c, NAME_FID, GETATTR_BASIC, &attr));
}

static void do_times(void)
{
    struct client_attr attr = {.mtime = 1000};

    expect(client_setattr(c, FILE_FID, SETATTR_MTIME | SETATTR_MTIME_SET, &attr));
}

static void do_chmod(void)
{
    struct client_attr attr = {.mode = 0644};

    expect(client_setattr(c, FILE_FID, SETATTR_MODE, &attr));
}

static guint64 list_from(guint64 offset, guint32 size)
{
    g_autoptr(GPtrArray) entries =
        g_ptr_array_new_with_free_func((GDestroyNotify)client_dirent_free);
    const struct client_dirent *last;

    expect(client_readdir(c, LIST_FID, offset, size, entries));
    last = entries->len > 0 ? entries->pdata[entries->len - 1] : NULL;
    return last != NULL ? last->offset : offset;
}

static void open_list(void)
{
    expect(client_walk_path(c, ROOT_FID, LIST_FID, "d", NULL));
    expect(client_lopen(c, LIST_FID, L_RDONLY, NULL));
}

static void clunk_list(void)
{
    expect(client_clunk(c, LIST_FID));
}

/* All of it, with "..". */
static void do_readdir(void)
{
    list_from(0, 4096);
}

/* Two entries, then what is in the buffer still. */
static guint64 list_offset;

static void before_readdir_on(void)
{
    open_list();
    list_offset = 0;
    for (int i = 0; i < 3; i++)
        list_offset = list_from(list_offset, 48);
}

static void do_readdir_on(void)
{
    list_from(list_offset, 40);
}

static void do_readlink(void)
{
    g_autofree char *target = NULL;

    expect(client_readlink(c, LINK_FID, &target));
}

static void do_mkdir(void)
{
    expect(client_mkdir(c, DIR_FID, "sub", 0755, NULL));
}

static void undo_mkdir(void)
{
    expect(client_unlinkat(c, DIR_FID, "sub", 0x200));
}

static void do_symlink(void)
{
    expect(client_symlink(c, DIR_FID, "made", "file", NULL));
}

static void undo_name(void)
{
    expect(client_unlinkat(c, DIR_FID, "made", 0));
}

static void do_link(void)
{
    expect(client_link(c, DIR_FID, FILE_FID, "made"));
}

static void do_renameat(void)
{
    const char *names[] = {"one", "two"};

    expect(client_renameat(c, DIR_FID, names[count % 2], DIR_FID, names[(count + 1) % 2]));
}

static void do_xattrwalk(void)
{
    guint64 size;

    expect(client_xattrwalk(c, FILE_FID, NEW_FID, "user.test", &size));
}

static void do_statfs(void)
{
    int tag = client_post(c, TSTATFS, "d", FILE_FID);
    g_autoptr(GByteArray) frame = NULL;

    g_assert_cmpint(tag, >=, 0);
    expect(client_recv(c, &frame));
    g_assert_cmpint(client_frame_type(frame), ==, TSTATFS + 1);
}

static void do_lock(void)
{
    guint8 status;

    expect(client_lock(c, OPEN_FID, LOCK_TYPE_WRLCK, 0, 10, 1, "test", &status));
    g_assert_cmpint(status, ==, LOCK_SUCCESS);
}

static void do_unlock(void)
{
    guint8 status;

    expect(client_lock(c, OPEN_FID, LOCK_TYPE_UNLCK, 0, 10, 1, "test", &status));
}

static void do_getlock(void)
{
    guint8 type = LOCK_TYPE_WRLCK;

    expect(client_getlock(c, OPEN_FID, &type, 0, 10, 1, "test"));
}

static const struct step {
    const char *name; /* the first column of the table */
    void (*before)(void), (*run)(void), (*after)(void);
} steps[] = {
    {"Twalk, no name", none, do_clone, clunk_new},
    {"Twalk, for each name", none, do_walk, clunk_new},
    {"Twalk, to `..`", walk_deep, do_walk_up, clunk_deep},
    {"Tlopen", walk_file, do_lopen, clunk_new},
    {"Tlcreate", do_clone, do_lcreate, undo_lcreate},
    {"Tread", none, do_read, none},
    {"Twrite", none, do_write, none},
    {"Tfsync", none, do_fsync, none},
    {"Tclunk", walk_file, clunk_new, none},
    {"Tremove", before_remove, do_remove, none},
    {"Tremove, of what it made", before_remove_made, do_remove, none},
    {"Tunlinkat", before_unlinkat, do_unlinkat, none},
    {"Trenameat", none, do_renameat, none},
    {"Tgetattr", none, do_getattr, none},
    {"Tgetattr, with generation", none, do_getattr_all, none},
    {"Tgetattr, the same user by another attach", none, do_getattr_by_name, none},
    {"Tsetattr, mode", none, do_chmod, none},
    {"Tsetattr, times", none, do_times, none},
    {"Tstatfs", none, do_statfs, none},
    {"Treaddir, the first", open_list, do_readdir, clunk_list},
    {"Treaddir, going on", before_readdir_on, do_readdir_on, clunk_list},
    {"Treadlink", none, do_readlink, none},
    {"Tmkdir", none, do_mkdir, undo_mkdir},
    {"Tsymlink", none, do_symlink, undo_name},
    {"Tlink", none, do_link, undo_name},
    {"Txattrwalk", none, do_xattrwalk, clunk_new},
    {"Tlock", none, do_lock, do_unlock},
    {"Tlock, to unlock", do_lock, do_unlock, none},
    {"Tgetlock", none, do_getlock, none},
    /* Last, as a thread that has acted as another user must change before it answers the others. */
    {"Tread, another user's", walk_other, do_read_other, clunk_new},
    {"Tclunk, another user's", walk_other, clunk_new, none},
};

/* ---- the trace ------------------------------------------------------------------------------- */

static void mark(const char *what, guint step)
{
    g_autofree char *name = g_strdup_printf("%s-%u-%d", what, step, count);
    struct client_qid qid;

    g_assert_cmpint(client_walk_path(c, ROOT_FID, MARK_FID, name, &qid), ==, 2 /* ENOENT */);
}

static gboolean is_own(const char *call)
{
    for (guint i = 0; i < G_N_ELEMENTS(own); i++)
        if (strcmp(own[i], call) == 0)
            return TRUE;
    return FALSE;
}

/* Names that are not the same on all kernels and machines. */
static const char *plain_name(const char *call)
{
    static const char *const same[][2] = {
        {"getxattrat", "getxattr"},    {"chmod", "fchmodat"},
        {"fchmodat2", "fchmodat"},     {"syscall_0x1c4", "fchmodat"},
        {"syscall_0x1d0", "getxattr"}, /* to an old strace */
        {"newfstatat", "fstat"},       {"dup3", "fcntl"},
        {"renameat", "renameat2"},     {"pread", "pread64"}};

    for (guint i = 0; i < G_N_ELEMENTS(same); i++)
        if (strcmp(same[i][0], call) == 0)
            return same[i][1];
    return call;
}

/* The calls between the two marks, or NULL where they were not alone. */
static char *between(char **lines, const char *begin, const char *end)
{
    g_autoptr(GString) calls = g_string_new(NULL);
    gboolean inside = FALSE;
    guint sent = 0;

    for (guint i = 0; lines[i] != NULL; i++) {
        g_auto(GStrv) words = g_strsplit_set(lines[i], " (", 2);
        const char *at =
            words[0] != NULL && words[1] != NULL ? words[1] + strspn(words[1], " ") : "";
        g_autofree char *call = g_strndup(at, strcspn(at, "("));

        if (strstr(lines[i], begin) != NULL) {
            inside = TRUE;
            continue;
        }
        if (!inside || g_str_has_prefix(at, "<...") || g_str_has_prefix(at, "---") ||
            g_str_has_prefix(at, "+++"))
            continue;
        if (strstr(lines[i], end) != NULL)
            /* the first mark's reply, and the one that is looked at */
            return sent == 2 ? g_string_free(g_steal_pointer(&calls), FALSE) : NULL;
        if (strcmp(call, "sendto") == 0)
            sent++;
        else if (strcmp(call, "recvfrom") != 0 && !is_own(call))
            g_string_append_printf(calls, "%s%s", calls->len > 0 ? " " : "", plain_name(call));
    }
    return NULL;
}

/* What most of the times showed. */
static char *usual(char **lines, guint step)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *best = NULL;
    GHashTableIter iter;
    gpointer key, value;
    guint most = 0;

    for (int i = 0; i < TIMES; i++) {
        g_autofree char *begin = g_strdup_printf("\"BEGIN-%u-%d\"", step, i);
        g_autofree char *end = g_strdup_printf("\"END-%u-%d\"", step, i);
        char *calls = between(lines, begin, end);

        if (calls != NULL) {
            value = g_hash_table_lookup(seen, calls);
            g_hash_table_insert(seen, calls, GUINT_TO_POINTER(GPOINTER_TO_UINT(value) + 1));
        }
    }
    g_hash_table_iter_init(&iter, seen);
    while (g_hash_table_iter_next(&iter, &key, &value))
        if (GPOINTER_TO_UINT(value) > most) {
            most = GPOINTER_TO_UINT(value);
            best = key;
        }
    return g_strdup(best);
}

/* The second column of the table in HACKING.md. */
static char *documented(const char *name)
{
    const char *srcdir = g_getenv("top_srcdir");
    g_autofree char *path = g_build_filename(srcdir != NULL ? srcdir : ".", "HACKING.md", NULL);
    g_autofree char *text = NULL, *row = g_strdup_printf("\n| %s | ", name);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) cells = NULL;
    const char *at;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    at = strstr(text, row);
    if (at == NULL)
        return g_strdup("(no row)");
    cells = g_strsplit(at + strlen(row), " |", 2);
    return g_strdup(cells[0]);
}

static gboolean wait_for(const char *path, const char *text)
{
    gint64 deadline = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    while (g_get_monotonic_time() < deadline) {
        g_autofree char *all = NULL;

        if (g_file_get_contents(path, &all, NULL, NULL) && strstr(all, text) != NULL)
            return TRUE;
        g_usleep(10000);
    }
    return FALSE;
}

static pid_t look_at(struct server *s, const char *log)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)s->pid);
    g_autofree char *strace = g_find_program_in_path("strace");
    const char *argv[] = {strace, "-f", "-qq", "-s", "64", "-o", log, "-p", pid, NULL};
    pid_t child = fork();

    if (child == 0) {
        execv(argv[0], (char **)(void *)argv);
        _exit(127);
    }
    for (int i = 0; i < 6000; i++) { /* until a request shows */
        g_autofree char *all = NULL;

        count = 0;
        mark("READY", 0);
        if (g_file_get_contents(log, &all, NULL, NULL) && strstr(all, "READY-0-0") != NULL)
            return child;
        if (waitpid(child, NULL, WNOHANG) == child)
            return 0;
        g_usleep(10000);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}

static void attach_more(struct server *s)
{
    struct client_qid qid;

    expect(client_rpc(c, TATTACH, "ddssd", NAME_FID, NOFID, g_get_user_name(), s->aname, NOFID, "Q",
                      &qid));
    expect(client_attach(c, OTHER_FID, geteuid() == 0 ? OTHER_UID : geteuid(), s->aname, NULL));
}

static void prepare(void)
{
    expect(client_walk_path(c, ROOT_FID, DIR_FID, "d", NULL));
    expect(client_walk_path(c, ROOT_FID, FILE_FID, "d/file", NULL));
    expect(client_walk_path(c, ROOT_FID, OPEN_FID, "d/file", NULL));
    expect(client_lopen(c, OPEN_FID, L_RDWR, NULL));
    expect(client_symlink(c, DIR_FID, "link", "file", NULL));
    expect(client_walk_path(c, DIR_FID, LINK_FID, "link", NULL));
}

static char **end_of_trace(pid_t tracer, const char *log)
{
    g_autofree char *text = NULL;

    count = 0;
    mark("LAST", 0);
    g_assert_true(wait_for(log, "\"LAST-0-0\""));
    kill(tracer, SIGTERM);
    waitpid(tracer, NULL, 0);
    g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
    return g_strsplit(text, "\n", -1);
}

static void test_calls(void)
{
    static const char *const extra[] = {"--threads", "4", NULL};
    g_autofree char *strace = g_find_program_in_path("strace"), *log = NULL;
    struct server *s;
    gboolean wrong = FALSE, has_xattr;
    pid_t tracer;

    if (strace == NULL || g_getenv("top_srcdir") == NULL) {
        g_test_skip(strace == NULL ? "no strace" : "top_srcdir is not set, as make check does");
        return;
    }
    s = server_new("memory:", extra);
    if (skip_for_peer(s, "the table is qidmapd's")) {
        server_free(s);
        return;
    }
    make_dir(s, "d");
    make_file(s, "d/file", "text");
    make_file(s, "d/one", "");
    make_dir(s, "d/1");
    make_dir(s, "d/1/2");
    make_dir(s, "d/1/2/3");
    make_dir(s, DEEP);
    g_assert_true(server_start(s));
    c = server_client(s);
    prepare();
    attach_more(s);
    has_xattr = client_setxattr(c, FILE_FID, "user.test", "value", 5, 0) == 0;
    log = g_build_filename(s->tmp, "strace", NULL);
    tracer = look_at(s, log);
    if (tracer == 0) {
        g_test_skip("strace may not look at the daemon");
        client_close(c);
        server_free(s);
        return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++)
        for (count = 0; count < TIMES; count++) {
            if (steps[i].run == do_xattrwalk && !has_xattr)
                continue;
            steps[i].before();
            mark("BEGIN", i);
            steps[i].run();
            mark("END", i);
            steps[i].after();
        }
    g_auto(GStrv) lines = end_of_trace(tracer, log);
    client_close(c);
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree char *calls = usual(lines, i), *listed = documented(steps[i].name);

        if (steps[i].run == do_xattrwalk && !has_xattr)
            continue;
        if (g_strcmp0(calls, listed) != 0) {
            g_test_message("%s: the daemon does '%s', HACKING.md says '%s'", steps[i].name,
                           calls != NULL ? calls : "(never alone)", listed);
            wrong = TRUE;
        }
    }
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
    g_assert_false(wrong);
}

/* Where more clients are at work than threads may wait for, epoll tells that a message has come,
 * and one recv takes it: none looks for what has not come yet. */
static void test_one_recv(void)
{
    static const char *const extra[] = {"--threads", "4", NULL}; /* two may wait for one client */
    g_autofree char *strace = g_find_program_in_path("strace"), *log = NULL;
    struct client *clients[8];
    guint recvs = 0, sends = 0;
    struct server *s;
    pid_t tracer;

    if (strace == NULL) {
        g_test_skip("no strace");
        return;
    }
    s = server_new("memory:", extra);
    if (skip_for_peer(s, "what it waits with is its own affair")) {
        server_free(s);
        return;
    }
    g_assert_true(server_start(s));
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        c = clients[i] = server_client(s);
    log = g_build_filename(s->tmp, "strace", NULL);
    tracer = look_at(s, log);
    if (tracer == 0)
        g_test_skip("strace may not look at the daemon");
    else {
        g_auto(GStrv) lines = NULL;

        for (count = 0; count < 80; count++) {
            c = clients[(guint)count % G_N_ELEMENTS(clients)];
            mark("ONE", 0);
        }
        lines = end_of_trace(tracer, log);
        for (guint i = 0; lines[i] != NULL; i++) {
            recvs += strstr(lines[i], "recvfrom(") != NULL;
            sends += strstr(lines[i], "sendto(") != NULL;
        }
        g_test_message("%u recv for %u replies", recvs, sends);
        g_assert_cmpuint(sends, >=, 80);
        g_assert_cmpuint(recvs, <=, sends + sends / 2);
    }
    for (guint i = 0; i < G_N_ELEMENTS(clients); i++)
        client_close(clients[i]);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/syscalls/table", test_calls);
    g_test_add_func("/syscalls/one-recv", test_one_recv);
    return g_test_run();
}
