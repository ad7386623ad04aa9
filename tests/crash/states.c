/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What may be left of a directory after a crash, from a log of the operations on it (record.h), and
 * whether the contract holds in each of these states.
 *
 *   states --log FILE --journal FILE --dir DIR --uri PREFIX [--seed N] [--states N] [--each N]
 *          [--expect-violation] [--only N]
 *
 * DIR (best on a tmpfs) gets the states, one after the other; the store of a state is PREFIX, DIR
 * and "/s/store" in a row, for example lmdb: and so on.
 *
 * The model of a disk is harsher than any filesystem:
 *   - bytes written to a file, and changes of its size, since its last fsync: any subset of them
 *     may be there, and one write may be torn at any of its 512-byte sectors;
 *   - a write through a descriptor with O_DSYNC is there when it has ended, alone;
 *   - names (create, rename, unlink, mkdir) of a directory since its last fsync: the first so many
 *     of them are there, each directory on its own; xattrs of an inode likewise.
 *
 * For each operation: the states in which it was the last to begin. None of what is pending, all of
 * it, and random choices; equal states are tried once. A child process checks, so that a signal in
 * the library is a violation like any other.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/crash/lab.h"
#include "tests/crash/record.h"

#define SECTOR     512u
#define PAGE       4096u
#define FILE_LAST  (UINT64_C(1) << 30)
#define SHOW       5u   /* violations that are told in words */
#define VIOLATIONS 200u /* after which a run ends */

struct op {
    const struct record_head *h;
    char *path, *path2;
    const uint8_t *data;
    gboolean chosen; /* in the state that is being made */
};

struct node {
    gboolean dir;
    GByteArray *data;    /* durable bytes; its length is the durable size */
    GHashTable *entries; /* durable: name -> struct node */
    GHashTable *xattrs;  /* durable: name -> GBytes */
    GPtrArray *bytes;    /* pending, of struct op: data and sizes */
    GPtrArray *names;    /* pending, of struct change: entries */
    GPtrArray *attrs;    /* pending, of struct op */
    guint names_chosen, attrs_chosen;
};

/* One change of the entries of one directory. */
struct change {
    char *gone;        /* a name that goes, or NULL */
    char *name;        /* a name that comes, or NULL, */
    struct node *node; /* ... and what it leads to */
};

/* What the processes share. */
struct shared {
    uint64_t at; /* the state that is being checked; those before are done */
    uint64_t states, stores, violations;
    gboolean done;
};

static char *log_path, *journal_path, *work, *prefix, *scenario;
static gint64 seed = 1, max_states = 1000000, each = 12, only = -1;
static gboolean expect_violation;

static GArray *ops; /* of struct op */
static struct lab_told *told;
static size_t n_told;
static struct shared *shared;

static GHashTable *inodes; /* ino -> struct node, as of now */
static GHashTable *live;   /* path -> struct node, as of now */
static struct node *top;
static GPtrArray *nodes;
static uint64_t epoch; /* of what is durable: another one means other durable bytes */
static const struct op *torn;
static uint64_t torn_seed;

static void G_GNUC_NORETURN die(const char *what, const char *text)
{
    fprintf(stderr, "states: %s: %s\n", what, text);
    exit(2);
}

/* ---- the log --------------------------------------------------------------------------------- */

static void read_log(void)
{
    g_autoptr(GError) error = NULL;
    char *bytes, *p;
    gsize size;

    if (!g_file_get_contents(log_path, &bytes, &size, &error))
        die("log", error->message);
    ops = g_array_new(FALSE, TRUE, sizeof(struct op));
    for (p = bytes; p + sizeof(struct record_head) <= bytes + size;) {
        struct record_head *h = g_new(struct record_head, 1);
        struct op op = {.h = h};

        memcpy(h, p, sizeof(*h));
        p += sizeof(*h);
        op.path = g_strndup(p, h->path);
        op.path2 = g_strndup(p + h->path, h->path2);
        op.data = (uint8_t *)p + h->path + h->path2;
        p += h->path + h->path2 + h->data;
        if (p > bytes + size)
            die("log", "cut off");
        g_array_append_val(ops, op);
    }
}

/* ---- the model ------------------------------------------------------------------------------- */

static struct node *node_new(gboolean dir)
{
    struct node *n = g_new0(struct node, 1);

    n->dir = dir;
    n->data = g_byte_array_new();
    n->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    n->xattrs =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    n->bytes = g_ptr_array_new();
    n->names = g_ptr_array_new();
    n->attrs = g_ptr_array_new();
    g_ptr_array_add(nodes, n);
    return n;
}

static void resize(GByteArray *data, uint64_t size)
{
    guint old = data->len;

    if (size > FILE_LAST)
        die("log", "a file is too long for this model");
    g_byte_array_set_size(data, (guint)size);
    if (size > old)
        memset(data->data + old, 0, (size_t)size - old);
}

static gboolean sector_kept(uint64_t sector)
{
    struct lab_random r = {torn_seed + sector * 0x632be59bd9b4e019ull};

    return lab_random(&r) & 1;
}

static void apply_bytes(GByteArray *data, const struct op *op, gboolean tear)
{
    uint64_t offset = op->h->offset, end = offset + op->h->data, at, next;

    switch (op->h->op) {
    case RECORD_TRUNCATE:
        resize(data, offset);
        return;
    case RECORD_ALLOCATE:
        if (offset > data->len)
            resize(data, offset);
        return;
    default:
        if (end > data->len)
            resize(data, end);
        for (at = offset; at < end; at = next) {
            next = MIN(end, (at / SECTOR + 1) * SECTOR);
            if (!tear || sector_kept(at / SECTOR))
                memcpy(data->data + at, op->data + (at - offset), next - at);
        }
    }
}

static void apply_attr(GHashTable *xattrs, const struct op *op)
{
    if (op->h->op == RECORD_SETXATTR)
        g_hash_table_replace(xattrs, g_strdup(op->path2),
                             g_bytes_new_static(op->data, op->h->data));
    else
        g_hash_table_remove(xattrs, op->path2);
}

static void apply_change(GHashTable *entries, const struct change *c)
{
    if (c->gone)
        g_hash_table_remove(entries, c->gone);
    if (c->name)
        g_hash_table_replace(entries, g_strdup(c->name), c->node);
}

static void sync_node(struct node *n)
{
    guint i;

    for (i = 0; i < n->bytes->len; i++)
        apply_bytes(n->data, n->bytes->pdata[i], FALSE);
    for (i = 0; i < n->names->len; i++)
        apply_change(n->entries, n->names->pdata[i]);
    for (i = 0; i < n->attrs->len; i++)
        apply_attr(n->xattrs, n->attrs->pdata[i]);
    if (n->bytes->len || n->names->len || n->attrs->len)
        epoch++;
    g_ptr_array_set_size(n->bytes, 0);
    g_ptr_array_set_size(n->names, 0);
    g_ptr_array_set_size(n->attrs, 0);
}

/* A change of the names of one directory: whole or not at all. GONE and COMES are whole paths. */
static void change_names(const char *gone, const char *comes, struct node *node)
{
    g_autofree char *dir = g_path_get_dirname(gone ? gone : comes);
    g_autofree char *other = g_path_get_dirname(comes ? comes : gone);
    struct change *c = g_new0(struct change, 1);
    struct node *parent = strcmp(dir, ".") == 0 ? top : g_hash_table_lookup(live, dir);

    if (!parent || strcmp(dir, other) != 0)
        die("log: no such directory, or a rename from one to another", dir);
    if (gone) {
        c->gone = g_path_get_basename(gone);
        g_hash_table_remove(live, gone);
    }
    if (comes) {
        c->name = g_path_get_basename(comes);
        c->node = node;
        g_hash_table_replace(live, g_strdup(comes), node);
    }
    g_ptr_array_add(parent->names, c);
}

static struct node *by_inode(const struct op *op)
{
    return g_hash_table_lookup(inodes, GSIZE_TO_POINTER((gsize)op->h->ino));
}

/* The operation has begun: what it changes is pending. */
static void begin_op(struct op *op)
{
    struct node *n;

    switch (op->h->op) {
    case RECORD_CREATE:
    case RECORD_MKDIR:
        if (op->path[0] == '\0') { /* the recorded directory itself */
            g_hash_table_insert(inodes, GSIZE_TO_POINTER((gsize)op->h->ino), top);
            return;
        }
        n = node_new(op->h->op == RECORD_MKDIR);
        g_hash_table_insert(inodes, GSIZE_TO_POINTER((gsize)op->h->ino), n);
        change_names(NULL, op->path, n);
        return;
    case RECORD_RENAME:
        n = g_hash_table_lookup(live, op->path);
        if (!n || n->dir)
            die("log: no such file, or a directory that is renamed", op->path);
        change_names(op->path, op->path2, n);
        return;
    case RECORD_UNLINK:
        change_names(op->path, NULL, NULL);
        return;
    case RECORD_SYNC:
        return;
    default:
        n = by_inode(op);
        if (!n)
            return; /* of a file that is gone */
        g_ptr_array_add(
            op->h->op == RECORD_SETXATTR || op->h->op == RECORD_DELXATTR ? n->attrs : n->bytes, op);
    }
}

/* The operation has ended: what it makes durable. */
static void end_op(struct op *op)
{
    struct node *n;
    guint i;

    if (op->h->op == RECORD_SYNC && op->h->ino == 0) {
        for (i = 0; i < nodes->len; i++)
            sync_node(nodes->pdata[i]);
    } else if (op->h->op == RECORD_SYNC) {
        n = by_inode(op);
        if (n)
            sync_node(n);
    } else if (op->h->op == RECORD_WRITE && (op->h->flags & RECORD_DSYNC)) {
        n = by_inode(op);
        if (n && g_ptr_array_remove(n->bytes, op)) {
            apply_bytes(n->data, op, FALSE);
            epoch++;
        }
    }
}

/* ---- states ---------------------------------------------------------------------------------- */

enum choice { NOTHING, EVERYTHING, RANDOM };

static uint64_t mix(uint64_t hash, uint64_t value)
{
    struct lab_random r = {hash ^ value * 0x9e3779b97f4a7c15ull};

    return lab_random(&r);
}

/* Chooses what of the pending is there. Gives a number for the choice: equal ones, equal states. */
static uint64_t choose(enum choice how, struct lab_random *r)
{
    g_autoptr(GPtrArray) tearable = g_ptr_array_new();
    uint64_t hash = mix(seed, epoch), likely = 1 + lab_below(r, 9);
    guint i, j;

    torn = NULL;
    for (i = 0; i < nodes->len; i++) {
        struct node *n = nodes->pdata[i];

        n->names_chosen = how == NOTHING ? 0 : n->names->len;
        n->attrs_chosen = how == NOTHING ? 0 : n->attrs->len;
        if (how == RANDOM) {
            n->names_chosen = (guint)lab_below(r, n->names->len + 1);
            n->attrs_chosen = (guint)lab_below(r, n->attrs->len + 1);
        }
        hash = mix(mix(hash, n->names_chosen), n->attrs_chosen);
        for (j = 0; j < n->bytes->len; j++) {
            struct op *op = n->bytes->pdata[j];

            op->chosen = how == EVERYTHING || (how == RANDOM && lab_below(r, 10) < likely);
            if (op->chosen)
                hash = mix(hash, op - (struct op *)(void *)ops->data + 1u);
            if (op->chosen && op->h->op == RECORD_WRITE && op->h->data > SECTOR)
                g_ptr_array_add(tearable, op);
        }
    }
    if (how == RANDOM && tearable->len > 0 && lab_below(r, 4) > 0) {
        torn = tearable->pdata[lab_below(r, tearable->len)];
        torn_seed = lab_random(r);
        hash = mix(mix(hash, torn_seed), torn - (struct op *)(void *)ops->data + 1u);
    }
    return hash;
}

static void remove_tree(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        remove_tree(child);
    }
    if (dir)
        g_dir_close(dir);
    if (remove(path) != 0 && errno != ENOENT)
        die(path, g_strerror(errno));
}

static void write_bytes(const char *path, const GByteArray *data)
{
    static const uint8_t zeros[PAGE];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    guint at, size;

    if (fd < 0 || ftruncate(fd, data->len) != 0)
        die(path, g_strerror(errno));
    for (at = 0; at < data->len; at += PAGE) {
        size = MIN(PAGE, data->len - at);
        if (memcmp(data->data + at, zeros, size) != 0 &&
            pwrite(fd, data->data + at, size, at) != (ssize_t)size)
            die(path, g_strerror(errno));
    }
    close(fd);
}

/* Makes a node of the chosen state at `path`. */
static void make(const struct node *n, const char *path)
{
    GHashTableIter iter;
    gpointer key, value;
    guint i;

    if (n->dir) {
        g_autoptr(GHashTable) entries =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        if (mkdir(path, 0700) != 0)
            die(path, g_strerror(errno));
        g_hash_table_iter_init(&iter, n->entries);
        while (g_hash_table_iter_next(&iter, &key, &value))
            g_hash_table_insert(entries, g_strdup(key), value);
        for (i = 0; i < n->names_chosen; i++)
            apply_change(entries, n->names->pdata[i]);
        g_hash_table_iter_init(&iter, entries);
        while (g_hash_table_iter_next(&iter, &key, &value)) {
            g_autofree char *child = g_build_filename(path, key, NULL);

            make(value, child);
        }
    } else {
        static GByteArray *data;

        if (!data)
            data = g_byte_array_new();
        g_byte_array_set_size(data, 0);
        g_byte_array_append(data, n->data->data, n->data->len);
        for (i = 0; i < n->bytes->len; i++) {
            const struct op *op = n->bytes->pdata[i];

            if (op->chosen)
                apply_bytes(data, op, op == torn);
        }
        write_bytes(path, data);
    }
    if (g_hash_table_size(n->xattrs) > 0 || n->attrs_chosen > 0) {
        g_autoptr(GHashTable) xattrs =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);

        g_hash_table_iter_init(&iter, n->xattrs);
        while (g_hash_table_iter_next(&iter, &key, &value))
            g_hash_table_insert(xattrs, g_strdup(key), g_bytes_ref(value));
        for (i = 0; i < n->attrs_chosen; i++)
            apply_attr(xattrs, n->attrs->pdata[i]);
        g_hash_table_iter_init(&iter, xattrs);
        while (g_hash_table_iter_next(&iter, &key, &value)) {
            gsize size;
            const void *bytes = g_bytes_get_data(value, &size);

            if (setxattr(path, key, bytes, size, 0) != 0)
                die(path, g_strerror(errno));
        }
    }
}

static void check_state(uint64_t number, guint at, uint64_t position)
{
    g_autofree char *dir = g_build_filename(work, "s", NULL);
    g_autofree char *uri = g_strdup_printf("%s%s/store", prefix, dir);
    g_autoptr(GString) why = g_string_new("");
    gboolean opened = FALSE;

    remove_tree(dir);
    make(top, dir);
    if (!lab_check(uri, told, n_told, position, (uint64_t)seed + number, &opened, why)) {
        if (shared->violations++ < SHOW || only >= 0)
            printf("# violation: seed %" G_GINT64_FORMAT " state %" G_GUINT64_FORMAT
                   " operation %u of %u: %s\n",
                   (gint64)seed, (guint64)number, at + 1, ops->len, why->str);
        fflush(stdout);
    }
    shared->stores += opened;
    shared->states++;
}

/* Walks through the log and checks every state from number `from` on. */
static void walk(uint64_t from)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct lab_random r = {(uint64_t)seed};
    uint64_t number = 0;
    guint i;

    nodes = g_ptr_array_new();
    inodes = g_hash_table_new(NULL, NULL);
    live = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    top = node_new(TRUE);
    for (i = 0; i < ops->len; i++) {
        struct op *op = &g_array_index(ops, struct op, i);
        gint64 choice;

        begin_op(op);
        /* Told while this operation was the last: when `i` had ended, `i + 1` were counted. */
        for (choice = 0; choice < each; choice++) {
            uint64_t hash = choose(choice == 0 ? NOTHING : choice == 1 ? EVERYTHING : RANDOM, &r);
            guint64 *key;
            size_t known = 0, k;

            for (k = 0; k < n_told; k++)
                known += told[k].position <= i;
            key = g_new(guint64, 1);
            *key = mix(hash, known);
            if (!g_hash_table_add(seen, key))
                continue;
            if (number++ < from || (only >= 0 && number != (uint64_t)only + 1))
                continue;
            shared->at = number - 1;
            check_state(number - 1, i, i);
            if (shared->states >= (uint64_t)max_states || shared->violations >= VIOLATIONS)
                return;
        }
        end_op(op);
    }
    /* All ended: everything that was told counts. */
    choose(NOTHING, &r);
    shared->at = number;
    if (number >= from && (only < 0 || (uint64_t)only == number))
        check_state(number, ops->len - 1, UINT64_MAX);
}

int main(int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"log", 0, 0, G_OPTION_ARG_FILENAME, &log_path, "What was recorded", "FILE"},
        {"journal", 0, 0, G_OPTION_ARG_FILENAME, &journal_path, "What was told", "FILE"},
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &work, "Where states are made", "DIR"},
        {"uri", 0, 0, G_OPTION_ARG_STRING, &prefix, "Before the directory in a URI", "PREFIX"},
        {"scenario", 0, 0, G_OPTION_ARG_STRING, &scenario, "Its name, for the table", "NAME"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Of the random numbers", "N"},
        {"states", 0, 0, G_OPTION_ARG_INT64, &max_states, "So many at most", "N"},
        {"each", 0, 0, G_OPTION_ARG_INT64, &each, "So many for each operation", "N"},
        {"only", 0, 0, G_OPTION_ARG_INT64, &only, "Only this state; it stays in DIR/s", "N"},
        {"expect-violation", 0, 0, G_OPTION_ARG_NONE, &expect_violation,
         "A negative control: success is a violation", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) why = g_string_new("");
    struct lab_tally tally = {0, 0, 0, 0};
    uint64_t from = 0;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !log_path || !journal_path ||
        !work || !prefix)
        die("usage", error ? error->message : "--log, --journal, --dir and --uri are needed");
    read_log();
    told = lab_journal_read(journal_path, &n_told, why);
    if (!told)
        die("journal", why->str);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap", g_strerror(errno));
    tally.seconds = lab_now();
    while (!shared->done) {
        int status;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
            walk(from);
            shared->done = TRUE;
            fflush(stdout);
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            die("fork", g_strerror(errno));
        if (WIFSIGNALED(status)) {
            printf("# violation: seed %" G_GINT64_FORMAT " state %" G_GUINT64_FORMAT
                   ": ended by signal %d\n",
                   (gint64)seed, (guint64)shared->at, WTERMSIG(status));
            shared->violations++;
            shared->states++;
            from = shared->at + 1;
        } else if (WEXITSTATUS(status) != 0) {
            return WEXITSTATUS(status);
        }
        if (shared->violations >= VIOLATIONS)
            break;
    }
    if (only < 0) {
        g_autofree char *dir = g_build_filename(work, "s", NULL);

        remove_tree(dir);
    }
    tally.states = shared->states;
    tally.stores = shared->stores;
    tally.violations = shared->violations;
    tally.seconds = lab_now() - tally.seconds;
    {
        g_autofree char *backend = g_strndup(prefix, strcspn(prefix, ":"));

        lab_tally_print(expect_violation ? "control" : "recorder", scenario ? scenario : "all",
                        "model", backend, (uint64_t)seed, &tally);
    }
    return (shared->violations > 0) == (expect_violation != FALSE) && shared->states > 0 ? 0 : 1;
}
