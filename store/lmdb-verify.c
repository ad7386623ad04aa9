/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look at every page that a state of an LMDB 0.9 file reaches, with bounds, before LMDB follows
 * its pointers: LMDB keeps no checksums of pages, and a flipped bit in one makes it read outside
 * the map, or miss a row that is there (which would give a known file a second id).
 *
 * Checked: both meta pages; each page's number, kind and free-space bounds; each node inside its
 * page; keys ascending and within what the pages above promise; depth, page and row counts of each
 * tree; that no page is used twice or used and free; each row by its own checksum; that `full` and
 * `byfull` say the same; and that the record of the store was written by the very transaction that
 * the meta page claims. The latter also for the older of the two meta pages: a flipped transaction
 * number could otherwise make the state before the last commit look like the newest.
 *
 * Pages are read with pread(2), so that a file that shrinks is an error and not a signal. Cost: one
 * pass over the file; where the file is known to be as a clean stop left it, the two tables that
 * may be large are left out. Rejected: a child process that walks with LMDB itself and may die; it
 * misses wrong separators and the free list, and a library had better not fork a program with
 * threads.
 */
#include "config.h"

#include "store/lmdb-verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/codec.h"
#include "store/error.h"
#include "store/map.h"

/* LMDB's structures as they lie in a file of this kind of machine. */
#define META_MAGIC    0xBEEFC0DEu
#define META_VERSION  1u
#define NO_PAGE       (~(size_t)0)
#define PAGE_BRANCH   0x01u
#define PAGE_LEAF     0x02u
#define PAGE_OVERFLOW 0x04u
#define PAGE_META     0x08u
#define NODE_BIG      0x01u
#define NODE_TREE     0x02u
#define KEYS_INTEGER  0x08u
#define DEPTH_MAX     32u

struct page_head {
    size_t number;
    uint16_t pad;
    uint16_t flags;
    union {
        struct {
            uint16_t lower, upper;
        } free;
        uint32_t pages;
    } u;
};

struct tree {
    uint32_t pad;
    uint16_t flags;
    uint16_t depth;
    size_t branch_pages, leaf_pages, overflow_pages;
    size_t entries;
    size_t root;
};

struct meta {
    uint32_t magic, version;
    size_t address;
    size_t map_size;
    struct tree free, main;
    size_t last_page;
    size_t transaction;
};

#define HEAD_SIZE (offsetof(struct page_head, u) + 4)
#define NODE_SIZE 8u

struct node {
    size_t low;     /* 32 bits: size of the data, or low part of a page number */
    uint16_t flags; /* or its high part */
    struct qm_bytes key;
    struct qm_bytes data; /* leaf: what the node itself holds */
};

/* One pass. */
struct pass {
    int fd;
    size_t psize;
    uint64_t file_size;
    const struct meta *meta;
    uint8_t *seen; /* one bit for each page */
    gboolean pages_only;
    GError **error;

    /* What is being walked. */
    int table; /* of rows; or one of these */
#define WALK_MAIN (-1)
#define WALK_FREE (-2)
    struct tree walked; /* counted */

    /* What was found. */
    gboolean have_record;
    struct qm_meta record;
    uint64_t rows[QM_TABLES];
    uint64_t sum_full, sum_byfull;
    struct tree tables[QM_TABLES];
    gboolean have_table[QM_TABLES];
};

static int bad(struct pass *p, const char *format, ...) G_GNUC_PRINTF(2, 3);

static int bad(struct pass *p, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    return qm_set_error(p->error, EUCLEAN,
                        "the store is damaged (%s); nothing was changed: restore it "
                        "from a backup",
                        text);
}

static int read_at(struct pass *p, uint64_t offset, void *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(p->fd, (char *)data + done, size - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return qm_set_error(p->error, errno, "cannot read its file: %s", g_strerror(errno));
        if (n == 0)
            return bad(p, "its file ends too early");
        done += (size_t)n;
    }
    return 0;
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* Notes that `count` pages from `page` on are in use; each may be used once. */
static int use_pages(struct pass *p, size_t page, size_t count)
{
    size_t i;

    if (page < 2 || page > p->meta->last_page || count > p->meta->last_page - page + 1)
        return bad(p, "page %zu lies outside the file", page);
    for (i = page; i < page + count; i++) {
        if (p->seen[i / 8] & 1u << i % 8)
            return bad(p, "page %zu is used twice", i);
        p->seen[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return 0;
}

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static int read_page(struct pass *p, size_t page, uint8_t *buffer, struct page_head *head)
{
    int e = use_pages(p, page, 1);

    if (e == 0)
        e = read_at(p, (uint64_t)page * p->psize, buffer, p->psize);
    if (e != 0)
        return e;
    memset(head, 0, sizeof(*head));
    memcpy(head, buffer, HEAD_SIZE);
    if (head->number != page || (head->flags != PAGE_BRANCH && head->flags != PAGE_LEAF) ||
        head->u.free.lower <= HEAD_SIZE || head->u.free.lower > head->u.free.upper ||
        head->u.free.upper > p->psize || (head->u.free.lower - HEAD_SIZE) % 2)
        return bad(p, "head of page %zu", page);
    return 0;
}

static int read_node(struct pass *p, const uint8_t *page, const struct page_head *head, unsigned i,
                     struct node *node)
{
    size_t at = u16_at(page + HEAD_SIZE + 2 * i);
    size_t size, in_page;
    uint16_t first, second;

    if (at < head->u.free.upper || at + NODE_SIZE > p->psize)
        return bad(p, "a node of page %zu", head->number);
    first = u16_at(page + at);
    second = u16_at(page + at + 2);
    node->low = G_BYTE_ORDER == G_LITTLE_ENDIAN ? first | (size_t)second << 16
                                                : second | (size_t)first << 16;
    node->flags = u16_at(page + at + 4);
    node->key.size = u16_at(page + at + 6);
    node->key.data = page + at + NODE_SIZE;
    if (node->key.size > p->psize - at - NODE_SIZE)
        return bad(p, "a key of page %zu", head->number);
    if (head->flags == PAGE_BRANCH)
        return 0;
    size = node->low;
    in_page = node->flags & NODE_BIG ? sizeof(size_t) : size;
    if (in_page > p->psize - at - NODE_SIZE - node->key.size)
        return bad(p, "a value of page %zu", head->number);
    node->data.data = (const uint8_t *)node->key.data + node->key.size;
    node->data.size = in_page;
    return 0;
}

/* The data of a node that is kept in pages of its own; freed by the caller. */
static int read_big(struct pass *p, const struct node *node, uint8_t **data)
{
    struct page_head head;
    size_t page, pages;
    int e;

    memcpy(&page, node->data.data, sizeof(page));
    pages = (HEAD_SIZE - 1 + node->low) / p->psize + 1;
    e = use_pages(p, page, pages);
    if (e != 0)
        return e;
    memset(&head, 0, sizeof(head));
    e = read_at(p, (uint64_t)page * p->psize, &head, HEAD_SIZE);
    if (e != 0)
        return e;
    if (head.number != page || head.flags != PAGE_OVERFLOW || head.u.pages != pages)
        return bad(p, "head of page %zu", page);
    *data = g_try_malloc(node->low + 1);
    if (!*data)
        return qm_set_error(p->error, ENOMEM, "a row is too large for memory");
    p->walked.overflow_pages += pages;
    return read_at(p, (uint64_t)page * p->psize + HEAD_SIZE, *data, node->low);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int compare(const struct pass *p, struct qm_bytes a, struct qm_bytes b)
{
    int r;

    if (p->table == WALK_FREE) {
        size_t x, y;

        memcpy(&x, a.data, sizeof(x));
        memcpy(&y, b.data, sizeof(y));
        return (x > y) - (x < y);
    }
    r = memcmp(a.data, b.data, MIN(a.size, b.size));
    return r ? r : (a.size > b.size) - (a.size < b.size);
}

/* A row of the free list: pages that nobody uses. */
static int free_row(struct pass *p, struct qm_bytes value)
{
    size_t count, page, i;
    int e = 0;

    if (value.size < sizeof(size_t))
        return bad(p, "its free list");
    memcpy(&count, value.data, sizeof(count));
    if (count > value.size / sizeof(size_t) - 1)
        return bad(p, "its free list");
    for (i = 1; e == 0 && i <= count; i++) {
        memcpy(&page, (const uint8_t *)value.data + i * sizeof(page), sizeof(page));
        e = use_pages(p, page, 1);
    }
    return e;
}

/* A row of the main tree: name and tree of a table. */
static int main_row(struct pass *p, struct qm_bytes key, struct qm_bytes value)
{
    int i;

    for (i = 0; i < QM_TABLES; i++) {
        const char *name = qm_table_name((enum qm_table)i);

        if (key.size == strlen(name) && memcmp(key.data, name, key.size) == 0) {
            memcpy(&p->tables[i], value.data, sizeof(p->tables[i]));
            p->have_table[i] = TRUE;
            return 0;
        }
    }
    return bad(p, "a table of an unknown name");
}

static uint64_t pair_hash(struct qm_bytes object, uint64_t id)
{
    return XXH3_64bits_withSeed(object.data, object.size, id);
}

static int table_row(struct pass *p, struct qm_bytes key, struct qm_bytes value)
{
    enum qm_table table = (enum qm_table)p->table;
    struct qidmap_object object;
    uint32_t format;
    uint64_t id;
    int e;

    if (p->pages_only) {
        p->rows[table]++;
        return 0;
    }
    if (table == QM_TABLE_META) {
        e = qm_parse_meta(key, value, &p->record, &format);
        if (e == -EPROTO)
            return qm_set_error(p->error, EPROTO,
                                "the store has format version %u; this library knows version %u: "
                                "use a newer qidmap",
                                format, QM_FORMAT_VERSION);
        p->have_record = e == 0;
    } else if (table == QM_TABLE_FULL) {
        e = qm_parse_full(key, value, &object, &id);
        if (e == 0 && (id & 1) && id >> 1 >= p->record.next_serial)
            return bad(p, "an id that was never given");
        if (e == 0)
            p->sum_full += pair_hash(key, id);
    } else if (table == QM_TABLE_BYFULL) {
        e = qm_parse_byfull(key, value, &id, &object);
        if (e == 0)
            p->sum_byfull += pair_hash((struct qm_bytes){value.data, value.size - 4}, id);
    } else {
        e = qm_parse_check(table, key, value);
    }
    if (e != 0)
        return bad(p, "table %s, row %" G_GUINT64_FORMAT, qm_table_name(table), p->rows[table] + 1);
    p->rows[table]++;
    return 0;
}

static int leaf_node(struct pass *p, const struct page_head *head, const struct node *node)
{
    g_autofree uint8_t *big = NULL;
    struct qm_bytes value = node->data;
    int e;

    if (p->table == WALK_MAIN) {
        if (node->flags != NODE_TREE || value.size != sizeof(struct tree))
            return bad(p, "a node of page %zu", head->number);
        return main_row(p, node->key, value);
    }
    if (node->flags & ~NODE_BIG)
        return bad(p, "a node of page %zu", head->number);
    if (node->flags & NODE_BIG) {
        e = read_big(p, node, &big);
        if (e != 0)
            return e;
        value = (struct qm_bytes){big, node->low};
    }
    return p->table == WALK_FREE ? free_row(p, value) : table_row(p, node->key, value);
}

/* ---- trees ----------------------------------------------------------------------------------- */

/* Keys below `page` must be `low` or more (no data: no bound), and less than `high`. */
static int walk(struct pass *p, size_t page, unsigned depth, unsigned expected, struct qm_bytes low,
                struct qm_bytes high)
{
    g_autofree uint8_t *buffer = g_malloc(p->psize);
    struct page_head head;
    struct qm_bytes last = low;
    unsigned count, i;
    int e = read_page(p, page, buffer, &head);

    if (e != 0)
        return e;
    if ((head.flags == PAGE_LEAF) != (depth == expected))
        return bad(p, "depth of page %zu", page);
    count = (unsigned)(head.u.free.lower - HEAD_SIZE) / 2;
    if (head.flags == PAGE_LEAF)
        p->walked.leaf_pages++;
    else
        p->walked.branch_pages++;
    for (i = 0; e == 0 && i < count; i++) {
        struct node node, next;
        struct qm_bytes end = high;
        gboolean keyed = head.flags == PAGE_LEAF || i > 0; /* the first branch key means nothing */

        e = read_node(p, buffer, &head, i, &node);
        if (e != 0)
            break;
        if (keyed && p->table == WALK_FREE && node.key.size != sizeof(size_t))
            return bad(p, "a key of page %zu", page);
        if (keyed) {
            int order = last.data ? compare(p, node.key, last) : 1;

            if (order < 0 || (order == 0 && (i > 0 || head.flags == PAGE_BRANCH)) ||
                (high.data && compare(p, node.key, high) >= 0))
                return bad(p, "order of the keys of page %zu", page);
            last = node.key;
        }
        if (head.flags == PAGE_LEAF) {
            p->walked.entries++;
            e = leaf_node(p, &head, &node);
            continue;
        }
        if (i + 1 < count) {
            e = read_node(p, buffer, &head, i + 1, &next);
            if (e == 0 && p->table == WALK_FREE && next.key.size != sizeof(size_t))
                return bad(p, "a key of page %zu", page);
            end = next.key;
        }
        if (e == 0)
            e = walk(p,
                     (size_t)((uint64_t)node.low |
                              (sizeof(size_t) > 4 ? (uint64_t)node.flags << 32 : 0)),
                     depth + 1, expected, i == 0 ? low : node.key, end);
    }
    return e;
}

static int walk_tree(struct pass *p, int table, const struct tree *tree, uint16_t flags)
{
    const struct qm_bytes none = {NULL, 0};
    int e = 0;

    p->table = table;
    memset(&p->walked, 0, sizeof(p->walked));
    if (tree->flags != flags || tree->depth > DEPTH_MAX)
        return bad(p, "the root of a tree");
    if (tree->root == NO_PAGE)
        e = tree->depth == 0 ? 0 : bad(p, "the depth of a tree");
    else
        e = walk(p, tree->root, 1, tree->depth, none, none);
    if (e == 0 &&
        (p->walked.entries != tree->entries || p->walked.branch_pages != tree->branch_pages ||
         p->walked.leaf_pages != tree->leaf_pages ||
         p->walked.overflow_pages != tree->overflow_pages))
        e = bad(p, "the counts of a tree");
    return e;
}

/* ---- states ---------------------------------------------------------------------------------- */

/* Walks the state that `meta` points at. Where `record_only`, just as far as the store's record. */
/* Of tables that are not walked: the number of rows that their trees tell. */
static void noted_only(struct pass *p)
{
    p->rows[QM_TABLE_FULL] = p->tables[QM_TABLE_FULL].entries;
    p->rows[QM_TABLE_BYFULL] = p->tables[QM_TABLE_BYFULL].entries;
}

/* A file of up to this size is walked in some ten milliseconds, and so in any case. */
#define LARGE (UINT64_C(32) << 20)

/* How many of the tables, in the order below, are walked. */
#define RECORD_ONLY  1
#define WITHOUT_FULL 5

static int walk_state(struct pass *p, const struct meta *meta, int tables)
{
    static const int order[QM_TABLES] = {QM_TABLE_META,  QM_TABLE_FS,      QM_TABLE_FSID,
                                         QM_TABLE_AFFIX, QM_TABLE_BYAFFIX, QM_TABLE_FULL,
                                         QM_TABLE_BYFULL};
    int i, e;

    p->meta = meta;
    p->seen = g_try_malloc0(meta->last_page / 8 + 1);
    if (!p->seen)
        return qm_set_error(p->error, ENOMEM, "the store is too large to be checked");
    e = walk_tree(p, WALK_MAIN, &meta->main, 0);
    for (i = 0; e == 0 && i < tables; i++) {
        if (!p->have_table[order[i]])
            e = bad(p, "table %s is missing", qm_table_name((enum qm_table)order[i]));
        else
            e = walk_tree(p, order[i], &p->tables[order[i]], 0);
        if (e == 0 && i == 0 && !p->pages_only && (!p->have_record || p->rows[QM_TABLE_META] != 1))
            e = bad(p, "its first record is missing");
    }
    if (e == 0 && !p->pages_only && p->record.transaction != meta->transaction)
        e = bad(p, "an older state came back");
    if (e == 0 && tables > RECORD_ONLY) {
        e = walk_tree(p, WALK_FREE, &meta->free, KEYS_INTEGER);
        if (e == 0 && tables < QM_TABLES)
            noted_only(p);
        if (e == 0 && !p->pages_only &&
            (p->rows[QM_TABLE_FS] != p->record.fs_rows ||
             p->rows[QM_TABLE_FSID] != p->record.fsid_rows ||
             p->rows[QM_TABLE_AFFIX] != p->record.affix_rows ||
             p->rows[QM_TABLE_BYAFFIX] != p->record.affix_rows ||
             p->rows[QM_TABLE_FULL] != p->record.full_rows ||
             p->rows[QM_TABLE_BYFULL] != p->record.full_rows))
            e = bad(p, "its rows are not as many as noted");
        if (e == 0 && p->sum_full != p->sum_byfull)
            e = bad(p, "its tables `full` and `byfull` contradict each other");
    }
    g_clear_pointer(&p->seen, g_free);
    return e;
}

static int read_meta(struct pass *p, size_t page, struct meta *meta)
{
    struct page_head head;
    int e;

    memset(&head, 0, sizeof(head));
    e = read_at(p, (uint64_t)page * p->psize, &head, HEAD_SIZE);
    if (e == 0)
        e = read_at(p, (uint64_t)page * p->psize + HEAD_SIZE, meta, sizeof(*meta));
    if (e != 0)
        return e;
    if (meta->magic == META_MAGIC && meta->version != META_VERSION)
        return qm_set_error(p->error, EPROTO,
                            "made by another version of LMDB (data version %u): load a dump of it "
                            "into a new store",
                            meta->version);
    if (head.number != page || head.flags != PAGE_META || meta->magic != META_MAGIC ||
        meta->free.flags != KEYS_INTEGER || meta->free.pad < 512 || meta->free.pad > 65536 ||
        (meta->free.pad & (meta->free.pad - 1)) || meta->address != 0)
        return bad(p, "meta page %zu", page);
    return 0;
}

/* The two meta pages, as far as they do not change from one transaction to the next. */
static int read_metas(struct pass *p, struct meta meta[2])
{
    struct stat st;
    size_t i;
    int e;

    p->psize = 4096;
    e = read_meta(p, 0, &meta[0]);
    if (e != 0)
        return e;
    p->psize = meta[0].free.pad;
    e = read_meta(p, 1, &meta[1]);
    if (e != 0)
        return e;
    if (meta[1].free.pad != p->psize)
        return bad(p, "its page size");
    /* The file only grows: its size is asked after the pages that it is compared with were read. */
    if (fstat(p->fd, &st) != 0)
        return qm_set_error(p->error, errno, "cannot look at its file: %s", g_strerror(errno));
    p->file_size = (uint64_t)st.st_size;
    for (i = 0; i < 2; i++) {
        if (meta[i].last_page < 1 || meta[i].last_page >= p->file_size / p->psize)
            return bad(p, "its file is shorter than it was");
    }
    return 0;
}

static int verify_states(struct pass *p, guint64 number, enum qm_lmdb_extent extent)
{
    struct pass again;
    struct meta meta[2], *newest;
    size_t i, n;
    int tables = QM_TABLES, e = read_metas(p, meta);

    if (e != 0)
        return e;
    if (extent == QM_LMDB_SMALL &&
        (uint64_t)MAX(meta[0].last_page, meta[1].last_page) * p->psize > LARGE)
        tables = WITHOUT_FULL;
    if (number) {
        n = number & 1;
        if (meta[n].transaction != number)
            return qm_set_error(p->error, ESTALE,
                                "it changes faster than it can be read: try again");
        return walk_state(p, &meta[n], tables);
    }
    for (i = 0; i < 2; i++) {
        /* Page and number of a transaction go together; 0 stands for "none yet". */
        if (meta[i].transaction != 0 && (meta[i].transaction & 1) != i)
            return bad(p, "meta page %zu", i);
    }
    n = meta[1].transaction > meta[0].transaction;
    newest = &meta[n];
    if (newest->transaction != meta[!n].transaction + 1)
        return bad(p, "its two meta pages do not follow each other");
    again = *p;
    e = walk_state(p, newest, tables);
    /* The first transaction makes the tables, the second one the record. */
    if (e == 0 && meta[!n].transaction > 1)
        e = walk_state(&again, &meta[!n], RECORD_ONLY);
    return e;
}

static int open_data(struct pass *p, const char *env_path, int how, GError **error)
{
    g_autofree char *path = g_build_filename(env_path, "data.mdb", NULL);
    int e;

    memset(p, 0, sizeof(*p));
    p->error = error;
    p->fd = open(path, how | O_CLOEXEC | O_NOFOLLOW);
    if (p->fd >= 0)
        return 0;
    e = errno;
    return e == ENOENT ? bad(p, "its file data.mdb is missing")
                       : qm_set_error(error, e, "cannot open its file data.mdb: %s", g_strerror(e));
}

int qm_lmdb_verify_heads(const char *env_path, guint64 *newest, GError **error)
{
    struct meta meta[2];
    struct pass p;
    int e = open_data(&p, env_path, O_RDONLY, error);

    if (e == 0) {
        e = read_metas(&p, meta);
        close(p.fd);
    }
    if (e == 0)
        *newest = MAX(meta[0].transaction, meta[1].transaction);
    return e;
}

int qm_lmdb_settle(const char *env_path, GError **error)
{
    struct meta meta[2];
    struct pass p;
    int e = open_data(&p, env_path, O_RDWR, error);

    if (e != 0)
        return e;
    e = read_metas(&p, meta);
    if (e == 0) {
        g_autofree uint8_t *pages = g_malloc(2 * p.psize);

        e = read_at(&p, 0, pages, 2 * p.psize);
        errno = EIO; /* of a short write */
        if (e == 0 &&
            (pwrite(p.fd, pages, 2 * p.psize, 0) != (ssize_t)(2 * p.psize) || fdatasync(p.fd) != 0))
            e = qm_set_error(error, errno, "cannot write to its file data.mdb: %s",
                             g_strerror(errno));
    }
    close(p.fd);
    return e;
}

int qm_lmdb_verify(const char *env_path, guint64 number, enum qm_lmdb_extent extent, GError **error)
{
    struct pass p;
    int e = open_data(&p, env_path, O_RDONLY, error);

    if (e == 0) {
        p.pages_only = extent == QM_LMDB_PAGES;
        e = verify_states(&p, number, extent);
        close(p.fd);
    }
    return e;
}
