/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The temporary file is a stack, as the lists are: pieces are added at its end, and when a list is
 * freed the file ends where the first of its pieces began. It has no name, so nothing stays behind.
 * Rejected: an LMDB environment, which takes several times as long for ten million names, and whose
 * pages count as memory of the process.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/names.h"

#define LEAST_ARENA (256 * 1024) /* of a list, even where the others have used up the budget */
#define MOST_ARENA  (256 * 1024 * 1024) /* places in it are 32 bits */
#define WINDOW      8192                /* of a piece that is merged; longer than any name */

struct names_pool {
    gsize budget, used;
    int fd; /* -1: not made yet */
    guint64 end;
};

/* A sorted piece of the file, and what was read of it. */
struct piece {
    guint64 at, end;
    char *window;
    gsize taken, filled;
};

struct names {
    names_pool *pool;
    char *arena; /* names, each with its NUL */
    gsize size, room;
    GArray *places; /* guint32, of the names in the arena */
    guint next;
    gsize booked; /* of pool->used */
    GArray *pieces;
    guint64 begin; /* of the first piece */
    guint *heap;   /* indexes of pieces that have more, the least name first */
    guint n_heap;
    GString *last;
    gboolean any;
};

names_pool *names_pool_new(gsize budget)
{
    names_pool *pool = g_new0(names_pool, 1);
    pool->budget = budget;
    pool->fd = -1;
    return pool;
}

void names_pool_free(names_pool *pool)
{
    if (pool->fd >= 0) {
        close(pool->fd);
    }
    g_free(pool);
}

names *names_new(names_pool *pool)
{
    names *list = g_new0(names, 1);
    list->pool = pool;
    list->places = g_array_new(FALSE, FALSE, sizeof(guint32));
    list->pieces = g_array_new(FALSE, TRUE, sizeof(struct piece));
    list->last = g_string_new(NULL);
    return list;
}

void names_free(names *list)
{
    for (guint i = 0; i < list->pieces->len; i++) {
        g_free(g_array_index(list->pieces, struct piece, i).window);
    }
    if (list->pieces->len > 0) {
        list->pool->end = list->begin;
        /* only gives room back: what fails here fails later, where it matters */
        if (ftruncate(list->pool->fd, (off_t)list->begin) < 0) {
            errno = 0;
        }
    }
    list->pool->used -= list->booked;
    g_array_unref(list->pieces);
    g_array_unref(list->places);
    g_string_free(list->last, TRUE);
    g_free(list->heap);
    g_free(list->arena);
    g_free(list);
}

/* ---- pieces ----------------------------------------------------------------------------------
 */

static int compare(const void *a, const void *b, void *arena)
{
    return strcmp((char *)arena + *(const guint32 *)a, (char *)arena + *(const guint32 *)b);
}

static void sort(names *list)
{
    if (list->places->len > 0) {
        qsort_r(list->places->data, list->places->len, sizeof(guint32), compare, list->arena);
    }
}

static int open_file(names_pool *pool)
{
    const char *folder = g_getenv("TMPDIR");
    g_autofree char *path = g_build_filename(
        folder != NULL && folder[0] != '\0' ? folder : "/var/tmp", "qidmapctl-XXXXXX", NULL);

    pool->fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    if (pool->fd < 0) {
        return -errno;
    }
    unlink(path);
    return 0;
}

static int write_all(names_pool *pool, const char *bytes, gsize size)
{
    while (size > 0) {
        ssize_t written = pwrite(pool->fd, bytes, size, (off_t)pool->end);
        if (written < 0 && errno != EINTR) {
            return -errno;
        }
        if (written > 0) {
            bytes += written;
            size -= (gsize)written;
            pool->end += (guint64)written;
        }
    }
    return 0;
}

/* Moves what is in the arena to a piece of its own. */
static int spill(names *list)
{
    names_pool *pool = list->pool;
    int code = pool->fd < 0 ? open_file(pool) : 0;

    if (code < 0) {
        return code;
    }
    struct piece piece = {.at = pool->end};
    if (list->pieces->len == 0) {
        list->begin = pool->end;
    }
    g_autoptr(GString) bytes = g_string_sized_new(LEAST_ARENA);
    sort(list);
    for (guint i = 0; i < list->places->len && code == 0; i++) {
        const char *name = list->arena + g_array_index(list->places, guint32, i);
        g_string_append_len(bytes, name, (gssize)strlen(name) + 1);
        if (bytes->len >= LEAST_ARENA / 2 || i + 1 == list->places->len) {
            code = write_all(pool, bytes->str, bytes->len);
            g_string_truncate(bytes, 0);
        }
    }
    piece.end = pool->end;
    g_array_append_val(list->pieces, piece);
    list->size = 0;
    g_array_set_size(list->places, 0);
    return code;
}

int names_add(names *list, const char *name)
{
    const names_pool *pool = list->pool;
    gsize size = strlen(name) + 1;
    gsize left = pool->used < pool->budget ? pool->budget - pool->used : 0;
    gsize most = CLAMP(left, LEAST_ARENA, MOST_ARENA);

    if (size > WINDOW) {
        return -ENAMETOOLONG;
    }
    gsize all = list->size + size + (list->places->len + 1) * sizeof(guint32);
    if (all > most && list->places->len > 0) {
        int code = spill(list);
        if (code < 0) {
            return code;
        }
    }
    if (list->room - list->size < size) {
        list->room = MAX(list->room + list->room / 2, list->size + MAX(size, 1024));
        list->arena = g_realloc(list->arena, list->room);
    }
    guint32 place = (guint32)list->size;
    memcpy(list->arena + place, name, size);
    list->size += size;
    g_array_append_val(list->places, place);
    return 0;
}

/* ---- merging ---------------------------------------------------------------------------------
 */

static const char *first_of(const names *list, guint piece)
{
    const struct piece *p = &g_array_index(list->pieces, struct piece, piece);
    return p->window + p->taken;
}

/* Sees to it that a whole name is in the window. 1, 0 at the end of the piece, or an error. */
static int fill(const names *list, struct piece *p)
{
    while (p->filled == p->taken ||
           memchr(p->window + p->taken, '\0', p->filled - p->taken) == NULL) {
        gsize keep = p->filled - p->taken;
        if (p->at == p->end) {
            return keep == 0 ? 0 : -EIO;
        }
        memmove(p->window, p->window + p->taken, keep);
        p->taken = 0;
        p->filled = keep;
        gsize want = (gsize)MIN(2 * WINDOW - keep, p->end - p->at);
        ssize_t got = pread(list->pool->fd, p->window + keep, want, (off_t)p->at);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return got == 0 ? -EIO : -errno;
        }
        p->filled += got > 0 ? (gsize)got : 0;
        p->at += got > 0 ? (guint64)got : 0;
    }
    return 1;
}

static void sift(names *list, guint at)
{
    while (TRUE) {
        guint least = at;
        for (guint child = 2 * at + 1; child <= 2 * at + 2 && child < list->n_heap; child++) {
            if (strcmp(first_of(list, list->heap[child]), first_of(list, list->heap[least])) < 0) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        guint other = list->heap[at];
        list->heap[at] = list->heap[least];
        list->heap[least] = other;
        at = least;
    }
}

int names_sort(names *list)
{
    if (list->pieces->len == 0) {
        sort(list);
        list->arena = g_realloc(list->arena, list->size);
        list->room = list->size;
        list->booked = list->size + list->places->len * sizeof(guint32);
        list->pool->used += list->booked;
        return 0;
    }
    int code = spill(list);
    g_clear_pointer(&list->arena, g_free);
    list->room = 0;
    list->heap = g_new(guint, list->pieces->len);
    for (guint i = 0; i < list->pieces->len && code == 0; i++) {
        struct piece *p = &g_array_index(list->pieces, struct piece, i);
        p->window = g_malloc(2 * WINDOW);
        int more = fill(list, p);
        if (more > 0) {
            list->heap[list->n_heap++] = i;
        }
        code = MIN(more, 0);
    }
    for (guint at = list->n_heap; at-- > 0;) {
        sift(list, at);
    }
    list->booked = list->pieces->len * 2 * WINDOW;
    list->pool->used += list->booked;
    return code;
}

/* The next name, which may be the last one once more. */
static int next(names *list, GString *name)
{
    if (list->pieces->len == 0) {
        if (list->next == list->places->len) {
            return 0;
        }
        g_string_assign(name, list->arena + g_array_index(list->places, guint32, list->next++));
        return 1;
    }
    if (list->n_heap == 0) {
        return 0;
    }
    struct piece *p = &g_array_index(list->pieces, struct piece, list->heap[0]);
    g_string_assign(name, p->window + p->taken);
    p->taken += name->len + 1;
    int more = fill(list, p);
    if (more == 0) {
        list->heap[0] = list->heap[--list->n_heap];
    }
    sift(list, 0);
    return more < 0 ? more : 1;
}

int names_next(names *list, const char **name)
{
    while (TRUE) {
        g_autoptr(GString) got = g_string_sized_new(256);
        int more = next(list, got);
        if (more <= 0) {
            return more;
        }
        if (!list->any || strcmp(got->str, list->last->str) != 0) {
            list->any = TRUE;
            g_string_assign(list->last, got->str);
            *name = list->last->str;
            return 1;
        }
    }
}
