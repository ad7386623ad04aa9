/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The xattrs of one inode in memory, in place of the system calls of store/xattr-slot.c: it notes
 * every change, so that a test can make what a crash would have left; it has a limit of room, and
 * fails when told to.
 */
#ifndef FAKE_XATTR_H
#define FAKE_XATTR_H

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>

#include "store/xattr-slot.h"

enum fake_kind { FAKE_SET, FAKE_REMOVE, FAKE_SYNC };

struct fake_op {
    enum fake_kind kind;
    char *name;
    GBytes *value;
};

static struct {
    pthread_mutex_t lock;
    GHashTable *now;   /* name -> GBytes */
    GPtrArray *ops;    /* of struct fake_op */
    size_t value_max;  /* largest value */
    size_t total;      /* room for all names and values, 0: no limit */
    int trusted_error; /* errno for trusted.* */
    int set_error;     /* errno for every set */
    int fail_at;       /* the change, counted from 1, that fails; 0: none */
    int fail_errno;
    int changes;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void fake_op_free(gpointer data)
{
    struct fake_op *op = data;

    g_free(op->name);
    if (op->value)
        g_bytes_unref(op->value);
    g_free(op);
}

static inline GHashTable *fake_table(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
}

static inline GHashTable *fake_copy(GHashTable *table)
{
    GHashTable *copy = fake_table();
    GHashTableIter iter;
    gpointer k, v;

    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &k, &v))
        g_hash_table_insert(copy, g_strdup(k), g_bytes_ref(v));
    return copy;
}

static inline void fake_reset(void)
{
    g_clear_pointer(&fake.now, g_hash_table_destroy);
    g_clear_pointer(&fake.ops, g_ptr_array_unref);
    fake.now = fake_table();
    fake.ops = g_ptr_array_new_with_free_func(fake_op_free);
    fake.value_max = 65536;
    fake.total = 0;
    fake.trusted_error = fake.set_error = fake.fail_at = fake.changes = 0;
}

static inline void fake_note(enum fake_kind kind, const char *name, const void *value, size_t size)
{
    struct fake_op *op = g_new0(struct fake_op, 1);

    op->kind = kind;
    op->name = g_strdup(name);
    op->value = kind == FAKE_SET ? g_bytes_new(value, size) : NULL;
    g_ptr_array_add(fake.ops, op);
}

/* Counted as ext4 does: 16 bytes for an entry, its name without "trusted." or "user.", the value;
 * both in steps of 4. */
static inline size_t fake_cost(const char *name, size_t size)
{
    return 16 + (strlen(strchr(name, '.') + 1) + 3) / 4 * 4 + (size + 3) / 4 * 4;
}

static inline size_t fake_used(const char *but)
{
    GHashTableIter iter;
    gpointer k, v;
    size_t used = 0;

    g_hash_table_iter_init(&iter, fake.now);
    while (g_hash_table_iter_next(&iter, &k, &v))
        used += strcmp(k, but) != 0 ? fake_cost(k, g_bytes_get_size(v)) : 0;
    return used;
}

static inline int fake_fails(void)
{
    fake.changes++;
    return fake.fail_at && fake.changes == fake.fail_at ? fake.fail_errno : 0;
}

static inline int fake_set(int fd, const char *name, const void *value, size_t size, int flags)
{
    int e;

    (void)fd;
    (void)flags;
    pthread_mutex_lock(&fake.lock);
    e = fake_fails();
    if (e == 0)
        e = fake.set_error;
    if (e == 0 && g_str_has_prefix(name, "trusted."))
        e = fake.trusted_error;
    if (e == 0 && (size > fake.value_max ||
                   (fake.total && fake_used(name) + fake_cost(name, size) > fake.total)))
        e = ENOSPC;
    if (e == 0) {
        g_hash_table_replace(fake.now, g_strdup(name), g_bytes_new(value, size));
        fake_note(FAKE_SET, name, value, size);
    }
    pthread_mutex_unlock(&fake.lock);
    errno = e;
    return e ? -1 : 0;
}

static inline ssize_t fake_get(int fd, const char *name, void *value, size_t size)
{
    GBytes *found;
    gsize n = 0;
    int e = 0;

    (void)fd;
    pthread_mutex_lock(&fake.lock);
    found = g_hash_table_lookup(fake.now, name);
    if (found) {
        const void *data = g_bytes_get_data(found, &n);

        if (n > size)
            e = ERANGE;
        else if (n > 0)
            memcpy(value, data, n);
    } else {
        e = ENODATA;
    }
    pthread_mutex_unlock(&fake.lock);
    errno = e;
    return e ? -1 : (ssize_t)n;
}

static inline int fake_remove(int fd, const char *name)
{
    int e;

    (void)fd;
    pthread_mutex_lock(&fake.lock);
    e = fake_fails();
    if (e == 0 && !g_hash_table_contains(fake.now, name))
        e = ENODATA;
    if (e == 0) {
        g_hash_table_remove(fake.now, name);
        fake_note(FAKE_REMOVE, name, NULL, 0);
    }
    pthread_mutex_unlock(&fake.lock);
    errno = e;
    return e ? -1 : 0;
}

static inline ssize_t fake_list(int fd, char *names, size_t size)
{
    GHashTableIter iter;
    gpointer k;
    size_t at = 0;

    (void)fd;
    pthread_mutex_lock(&fake.lock);
    g_hash_table_iter_init(&iter, fake.now);
    while (g_hash_table_iter_next(&iter, &k, NULL)) {
        if (size && at + strlen(k) + 1 <= size)
            memcpy(names + at, k, strlen(k) + 1);
        at += strlen(k) + 1;
    }
    pthread_mutex_unlock(&fake.lock);
    errno = ERANGE;
    return size && at > size ? -1 : (ssize_t)at;
}

static inline int fake_sync(int fd)
{
    int e;

    (void)fd;
    pthread_mutex_lock(&fake.lock);
    e = fake_fails();
    if (e == 0)
        fake_note(FAKE_SYNC, NULL, NULL, 0);
    pthread_mutex_unlock(&fake.lock);
    errno = e;
    return e ? -1 : 0;
}

static const struct qm_xattr_sys fake_sys = {fake_set,  fake_get,  fake_remove,
                                             fake_list, fake_sync, FALSE};
static const struct qm_xattr_sys fake_sys_one_slot = {fake_set,  fake_get,  fake_remove,
                                                      fake_list, fake_sync, TRUE};

#endif
