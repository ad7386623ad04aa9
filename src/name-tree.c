/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Places of files. See name-tree.h. */
#include "config.h"

#include "src/name-tree.h"

#include <glib.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

#include "src/path.h"

enum place {
    PLACE_ROOT,  /* of an export */
    PLACE_CHILD, /* of another node */
    PLACE_TAKEN, /* another node took this one's place: it stands for that one now */
};

/* There may be as many as fids, so that they are small. References: one for each child, one for
 * each that stands for this one, and one for each user. */
struct name_node {
    union {
        const struct path_export *export; /* PLACE_ROOT */
        struct name_node *parent;         /* PLACE_CHILD; NULL: linked nowhere just now */
        struct name_node *forward;        /* PLACE_TAKEN */
        const void *up;                   /* whichever */
    };
    struct name_node *children, *next, *prev;
    uint32_t refs;
    uint8_t place; /* enum place */
    char *name;    /* `own`, or of its own after a rename */
    char own[];
};

static pthread_mutex_t tree_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *tree;   /* (export, parent, name) -> node */
static GPtrArray *roots;   /* of the exports that have nodes */
static uint64_t tree_size; /* atomic */

static GHashTable
    *renames;       /* dev -> pthread_mutex_t; never shrinks, as there are few filesystems */
static int matters; /* atomic */

static guint node_hash(gconstpointer key)
{
    const struct name_node *node = key;

    return g_str_hash(node->name) ^ g_direct_hash(node->up);
}

static gboolean node_equal(gconstpointer a, gconstpointer b)
{
    const struct name_node *x = a, *y = b;

    return x->up == y->up && x->place == y->place && strcmp(x->name, y->name) == 0;
}

static struct name_node *find(enum place place, const void *up, const char *name)
{
    struct name_node key = {.up = up, .place = place, .name = (char *)name};

    return tree != NULL ? g_hash_table_lookup(tree, &key) : NULL;
}

static struct name_node *find_child(struct name_node *parent, const char *name)
{
    return find(PLACE_CHILD, parent, name);
}

static void link_child(struct name_node *node, struct name_node *parent)
{
    node->parent = parent;
    node->prev = NULL;
    node->next = parent->children;
    if (node->next != NULL)
        node->next->prev = node;
    parent->children = node;
    parent->refs++;
    g_hash_table_add(tree, node);
}

/* Returns the parent, with the reference that the child had on it; NULL: it was a root. */
static struct name_node *unlink_node(struct name_node *node)
{
    struct name_node *parent = NULL;

    g_hash_table_remove(tree, node);
    if (node->place == PLACE_ROOT)
        g_ptr_array_remove(roots, node);
    else {
        parent = node->parent;
        if (node->next != NULL)
            node->next->prev = node->prev;
        if (node->prev != NULL)
            node->prev->next = node->next;
        else
            parent->children = node->next;
        node->parent = node->next = node->prev = NULL;
    }
    return parent;
}

static void unref(struct name_node *node)
{
    while (node != NULL && --node->refs == 0) {
        struct name_node *up = node->place == PLACE_TAKEN ? node->forward : unlink_node(node);

        if (node->name != node->own)
            g_free(node->name);
        g_free(node);
        __atomic_fetch_sub(&tree_size, 1, __ATOMIC_RELAXED);
        node = up;
    }
}

/* With a reference. */
static struct name_node *new_node(enum place place, const char *name)
{
    size_t size = strlen(name) + 1;
    struct name_node *node = g_malloc0(offsetof(struct name_node, own) + size);

    if (tree == NULL)
        tree = g_hash_table_new(node_hash, node_equal);
    node->place = place;
    node->refs = 1;
    node->name = memcpy(node->own, name, size);
    __atomic_fetch_add(&tree_size, 1, __ATOMIC_RELAXED);
    return node;
}

/* With a reference. NULL: there is none, and `make` is false. */
static struct name_node *root_of(const struct path_export *export, bool make)
{
    struct name_node *node = find(PLACE_ROOT, export, "");

    if (node != NULL)
        node->refs++;
    else if (make) {
        node = new_node(PLACE_ROOT, "");
        node->export = export;
        if (roots == NULL)
            roots = g_ptr_array_new();
        g_ptr_array_add(roots, node);
        g_hash_table_add(tree, node);
    }
    return node;
}

/* The same. */
static struct name_node *child(struct name_node *parent, const char *name, bool make)
{
    struct name_node *node = find_child(parent, name);

    if (node != NULL)
        node->refs++;
    else if (make) {
        node = new_node(PLACE_CHILD, name);
        link_child(node, parent);
    }
    return node;
}

/* With a reference. */
static struct name_node *descend(const struct path_export *export, const char *path, bool make)
{
    struct name_node *node = root_of(export, make);
    char name[PATH_MAX];

    while (node != NULL && *path != '\0') {
        size_t len = strcspn(path, "/");
        struct name_node *next;

        memcpy(name, path, len);
        name[len] = '\0';
        next = child(node, name, make);
        unref(node);
        node = next;
        path += len + (path[len] == '/');
    }
    return node;
}

struct name_node *name_node_at(const struct path_export *export, const char *path)
{
    struct name_node *node;

    if (strlen(path) >= PATH_MAX)
        return NULL;
    pthread_mutex_lock(&tree_lock);
    node = descend(export, path, true);
    pthread_mutex_unlock(&tree_lock);
    return node;
}

struct name_node *name_node_of(const struct path_export *export, int fd)
{
    struct name_node *node = NULL;
    char path[PATH_MAX];

    /* Within the lock, so that a rename either shows in what the kernel says, or moves the node. */
    pthread_mutex_lock(&tree_lock);
    if (path_below(export, fd, path) == 0)
        node = descend(export, path, true);
    pthread_mutex_unlock(&tree_lock);
    return node;
}

void name_node_unref(struct name_node *node)
{
    if (node == NULL)
        return;
    pthread_mutex_lock(&tree_lock);
    unref(node);
    pthread_mutex_unlock(&tree_lock);
}

char *name_node_path(struct name_node *node)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    GString *path = g_string_new(NULL);

    pthread_mutex_lock(&tree_lock);
    while (node->place == PLACE_TAKEN)
        node = node->forward;
    for (; node->place == PLACE_CHILD; node = node->parent)
        g_ptr_array_add(names, node->name);
    for (guint i = names->len; i > 0; i--) {
        g_string_append(path, g_ptr_array_index(names, i - 1));
        if (i > 1)
            g_string_append_c(path, '/');
    }
    pthread_mutex_unlock(&tree_lock);
    return g_string_free(path, FALSE);
}

/* `from`, which is linked nowhere, becomes the same as `to`, with all that is below. */
static void merge(struct name_node *from, struct name_node *to)
{
    while (from->children != NULL) {
        struct name_node *node = from->children, *there;

        node->refs++;
        unlink_node(node);
        there = find_child(to, node->name);
        if (there != NULL)
            merge(node, there);
        else
            link_child(node, to);
        unref(node);
        from->refs--; /* that of the child; the caller has one */
    }
    from->place = PLACE_TAKEN;
    from->forward = to;
    to->refs++;
}

static bool is_above(const struct name_node *node, const struct name_node *below)
{
    while (below != node && below->place == PLACE_CHILD)
        below = below->parent;
    return below == node;
}

static void rename_to(struct name_node *node, const char *name)
{
    char *old = node->name;

    node->name = g_strdup(name);
    if (old != node->own)
        g_free(old);
}

static void move(struct name_node *node, struct name_node *to, const char *name)
{
    struct name_node *there = find_child(to, name);

    if (there == node || is_above(node, to))
        return;
    node->refs++;
    unref(unlink_node(node));
    if (there != NULL)
        merge(node, there);
    else {
        rename_to(node, name);
        link_child(node, to);
    }
    unref(node);
}

static void moved(const struct path_export *export, int old_fd, const char *old_name, int new_fd,
                  const char *new_name)
{
    char old_path[PATH_MAX], new_path[PATH_MAX];
    struct name_node *from, *to, *node;

    if (path_below(export, old_fd, old_path) != 0 || path_below(export, new_fd, new_path) != 0)
        return;
    from = descend(export, old_path, false);
    node = from != NULL ? find_child(from, old_name) : NULL;
    if (node != NULL) {
        to = descend(export, new_path, true);
        move(node, to, new_name);
        unref(to);
    }
    unref(from);
}

void name_tree_moved(int old_fd, const char *old_name, int new_fd, const char *new_name)
{
    /* Not whether there are nodes: one may be about to be made of the old name. */
    if (!__atomic_load_n(&matters, __ATOMIC_SEQ_CST))
        return;
    pthread_mutex_lock(&tree_lock);
    /* Exports may show the same directories. Roots stay until all were looked at. */
    for (guint i = 0; roots != NULL && i < roots->len; i++) {
        struct name_node *root = g_ptr_array_index(roots, i);

        root->refs++;
        moved(root->export, old_fd, old_name, new_fd, new_name);
    }
    for (guint i = roots != NULL ? roots->len : 0; i > 0; i--)
        unref(g_ptr_array_index(roots, i - 1));
    pthread_mutex_unlock(&tree_lock);
}

void name_tree_matters(void)
{
    if (!__atomic_load_n(&matters, __ATOMIC_RELAXED))
        __atomic_store_n(&matters, 1, __ATOMIC_SEQ_CST);
}

void name_rename_begin(struct name_rename *rename, uint64_t dev)
{
    pthread_mutex_t *lock;

    rename->lock = NULL;
    if (!__atomic_load_n(&matters, __ATOMIC_RELAXED))
        return;
    pthread_mutex_lock(&tree_lock);
    if (renames == NULL)
        renames = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    lock = g_hash_table_lookup(renames, &dev);
    if (lock == NULL) {
        lock = g_new(pthread_mutex_t, 1);
        pthread_mutex_init(lock, NULL);
        uint64_t *key = g_new(uint64_t, 1);

        *key = dev;
        g_hash_table_insert(renames, key, lock);
    }
    pthread_mutex_unlock(&tree_lock);
    pthread_mutex_lock(lock);
    rename->lock = lock;
}

void name_rename_begin_at(struct name_rename *rename, int dir_fd)
{
    struct statx stx;

    rename->lock = NULL;
    if (__atomic_load_n(&matters, __ATOMIC_RELAXED) && path_look(dir_fd, &stx) == 0)
        name_rename_begin(rename, (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor);
}

void name_removal_begin_at(struct name_rename *removal, int dir_fd)
{
    struct statx stx;

    removal->lock = NULL;
    if (__atomic_load_n(&matters, __ATOMIC_RELAXED) && path_look(dir_fd, &stx) == 0)
        name_rename_begin(removal, (uint64_t)1 << 63 | (uint64_t)stx.stx_dev_major << 32 |
                                       stx.stx_dev_minor);
}

void name_rename_end(struct name_rename *rename)
{
    if (rename->lock != NULL)
        pthread_mutex_unlock(rename->lock);
    rename->lock = NULL;
}

uint64_t name_tree_size(void)
{
    return __atomic_load_n(&tree_size, __ATOMIC_RELAXED);
}
