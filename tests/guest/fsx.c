/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fsx [-s SEED] [-n OPERATIONS] [-l LENGTH] [-o OPERATION,...] FILE
 *
 * Random operations on one file, with a shadow copy of it in memory: reads and writes at any
 * offset, through two descriptors and through shared mappings, truncation, holes punched, appends,
 * closing and opening again, dropping of the client's caches. Every byte that is read is compared
 * with the shadow. On the first difference it tells the seed, the last operations and where, and
 * exits with 1. -o names operations that this filesystem or mount does not have, to be left out
 * (mapwrite, mapread, punch, zero, drop, second).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long seed = 1;
static long operations = 1000, limit = 300000;
static const char *path;
static unsigned char *shadow, *buffer;
static off_t size;
static int fd = -1, second = -1;

/* The last operations, for the report. */
static char history[16][96];
static long done;

static unsigned long next(void)
{
    /* xorshift: the same on every machine */
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static long below(long n)
{
    return n <= 0 ? 0 : (long)(next() % (unsigned long)n);
}

static void report(const char *what)
{
    int error = errno;

    printf("fsx: %s (%s) after %ld operations; the last ones:\n", what, strerror(error), done);
    for (long i = done > 15 ? done - 15 : 0; i <= done; i++)
        printf("  %ld: %s\n", i, history[i % 16]);
    exit(1);
}

static void compare(off_t offset, long n, const char *how)
{
    for (long i = 0; i < n; i++)
        if (buffer[i] != shadow[offset + i]) {
            printf("fsx: %s shows 0x%02x at %lld, 0x%02x was written\n", how, buffer[i],
                   (long long)(offset + i), shadow[offset + i]);
            errno = 0;
            report("wrong data");
        }
}

/* Where and how much: mostly small, sometimes large, often at the end or on a page. */
static void choose(off_t *offset, long *n, off_t end)
{
    *offset = below((long)end + 1);
    if (below(4) == 0)
        *offset &= ~4095L;
    *n = 1 + (below(5) == 0 ? below(limit / 2) : below(9000));
    if (*n > limit - *offset)
        *n = limit - *offset;
}

static void fill(long n)
{
    for (long i = 0; i < n; i++)
        buffer[i] = (unsigned char)(next() >> 11 | 1);
}

static void op_write(int through)
{
    off_t offset;
    long n;

    choose(&offset, &n, size + below(3) * 5000 < limit ? size + below(3) * 5000 : size);
    if (n <= 0)
        return;
    fill(n);
    snprintf(history[done % 16], 96, "write %ld at %lld, size %lld", n, (long long)offset,
             (long long)size);
    if (pwrite(through, buffer, (size_t)n, offset) != n)
        report("write");
    memcpy(shadow + offset, buffer, (size_t)n);
    if (offset + n > size)
        size = offset + n;
}

static void op_read(int through, const char *how)
{
    off_t offset;
    long n, wanted, got;

    choose(&offset, &n, size);
    wanted = offset >= size ? 0 : n < size - offset ? n : (long)(size - offset);
    snprintf(history[done % 16], 96, "%s %ld at %lld, size %lld", how, n, (long long)offset,
             (long long)size);
    got = n > 0 ? pread(through, buffer, (size_t)n, offset) : 0;
    if (n > 0 && got != wanted)
        report("read of another length");
    compare(offset, got, how);
}

static void op_truncate(int by_name)
{
    off_t to = below(3) ? below(limit) : below((long)size + 1);

    snprintf(history[done % 16], 96, "%s to %lld, size %lld", by_name ? "truncate" : "ftruncate",
             (long long)to, (long long)size);
    if ((by_name ? truncate(path, to) : ftruncate(fd, to)) < 0)
        report("truncate");
    if (to < size)
        memset(shadow + to, 0, (size_t)(size - to));
    size = to;
}

static void op_punch(int mode, const char *name)
{
    off_t offset;
    long n;

    choose(&offset, &n, size);
    if (n <= 0 || offset + n > size)
        return;
    snprintf(history[done % 16], 96, "%s %ld at %lld, size %lld", name, n, (long long)offset,
             (long long)size);
    if (fallocate(fd, mode, offset, n) < 0) {
        if (errno == EOPNOTSUPP)
            return; /* it has not changed anything, then */
        report(name);
    }
    memset(shadow + offset, 0, (size_t)n);
}

static void op_map(int writing)
{
    off_t offset, start;
    long n;
    unsigned char *map;

    choose(&offset, &n, size);
    if (offset + n > size)
        n = (long)(size - offset);
    if (n <= 0)
        return;
    start = offset & ~4095L;
    snprintf(history[done % 16], 96, "map %s %ld at %lld, size %lld", writing ? "write" : "read", n,
             (long long)offset, (long long)size);
    map = mmap(NULL, (size_t)(offset - start + n), writing ? PROT_READ | PROT_WRITE : PROT_READ,
               writing ? MAP_SHARED : MAP_PRIVATE, fd, start);
    if (map == MAP_FAILED)
        report("mmap");
    if (writing) {
        fill(n);
        memcpy(map + (offset - start), buffer, (size_t)n);
        memcpy(shadow + offset, buffer, (size_t)n);
        if (below(2) && msync(map, (size_t)(offset - start + n), MS_SYNC) < 0)
            report("msync");
    } else {
        memcpy(buffer, map + (offset - start), (size_t)n);
        compare(offset, n, "a mapping");
    }
    if (munmap(map, (size_t)(offset - start + n)) < 0)
        report("munmap");
}

static void op_reopen(void)
{
    struct stat st;

    snprintf(history[done % 16], 96, "close and open, size %lld", (long long)size);
    if (close(fd) < 0 || (fd = open(path, O_RDWR)) < 0 || fstat(fd, &st) < 0)
        report("close and open");
    if (st.st_size != size)
        report("another size after opening again");
}

static void op_append(void)
{
    long n = below(3000) + 1;
    int append;

    if (size + n > limit)
        return;
    fill(n);
    snprintf(history[done % 16], 96, "append %ld, size %lld", n, (long long)size);
    append = open(path, O_WRONLY | O_APPEND);
    if (append < 0 || write(append, buffer, (size_t)n) != n || close(append) < 0)
        report("append");
    memcpy(shadow + size, buffer, (size_t)n);
    size += n;
}

static void op_drop(void)
{
    int drop;

    snprintf(history[done % 16], 96, "drop caches, size %lld", (long long)size);
    if (fsync(fd) < 0)
        report("fsync");
    drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (drop >= 0) {
        if (write(drop, "3", 1) != 1)
            report("drop_caches");
        close(drop);
    }
}

static int left_out(const char *list, const char *name)
{
    size_t length = strlen(name);

    while (list && *list) {
        if (!strncmp(list, name, length) && (list[length] == ',' || !list[length]))
            return 1;
        list = strchr(list, ',');
        if (list)
            list++;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *without = "";
    unsigned long first;
    int option, maps_read, maps_write, punch, zero, drop, two;

    while ((option = getopt(argc, argv, "s:n:l:o:")) != -1)
        switch (option) {
        case 's':
            seed = strtoul(optarg, NULL, 10);
            break;
        case 'n':
            operations = atol(optarg);
            break;
        case 'l':
            limit = atol(optarg);
            break;
        case 'o':
            without = optarg;
            break;
        default:
            return 2;
        }
    if (optind + 1 != argc || limit < 1) {
        fprintf(stderr, "usage: fsx [-s SEED] [-n OPERATIONS] [-l LENGTH] [-o LIST] FILE\n");
        return 2;
    }
    path = argv[optind];
    maps_read = !left_out(without, "mapread");
    maps_write = !left_out(without, "mapwrite");
    punch = !left_out(without, "punch");
    zero = !left_out(without, "zero");
    drop = !left_out(without, "drop");
    two = !left_out(without, "second");
    first = seed;
    seed = seed * 2654435761UL + 1;
    shadow = calloc(1, (size_t)limit + 65536);
    buffer = malloc((size_t)limit + 65536);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    second = open(path, O_RDWR);
    if (!shadow || !buffer || fd < 0 || second < 0)
        report("start");
    for (done = 0; done < operations; done++) {
        long what = below(100);

        snprintf(history[done % 16], 96, "nothing");
        if (what < 25)
            op_write(fd);
        else if (what < 45)
            op_read(fd, "read");
        else if (what < 53 && two)
            op_write(second);
        else if (what < 60 && two)
            op_read(second, "read by another descriptor");
        else if (what < 68)
            op_truncate(below(2) != 0);
        else if (what < 76 && maps_read)
            op_map(0);
        else if (what < 84 && maps_write)
            op_map(1);
        else if (what < 87 && punch)
            op_punch(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch");
        else if (what < 89 && zero)
            op_punch(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero");
        else if (what < 93)
            op_append();
        else if (what < 97)
            op_reopen();
        else if (what < 98 && drop)
            op_drop();
        else if (fsync(fd) < 0)
            report("fsync");
    }
    op_reopen();
    for (off_t at = 0; at < size; at += 65536) {
        long n = size - at < 65536 ? (long)(size - at) : 65536;

        snprintf(history[done % 16], 96, "read all, size %lld", (long long)size);
        if (pread(fd, buffer, (size_t)n, at) != n)
            report("read at the end");
        compare(at, n, "the end");
    }
    printf("fsx: seed %lu, %ld operations, %lld bytes at the end: as written\n", first, operations,
           (long long)size);
    return close(second) < 0 || close(fd) < 0;
}
