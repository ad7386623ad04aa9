/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The system calls of the guest tests that busybox has no command for: record
 * locks, shared mappings, files used after unlink, directories read twice,
 * inode numbers as both stat and readdir show them. Linked statically and put
 * into the initramfs; each subcommand exits 0 if it saw what it should.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void expect(int true_if_fine, const char *what)
{
    if (!true_if_fine) {
        fprintf(stderr, "probe: not so: %s\n", what);
        exit(1);
    }
}

static int record_lock(int fd, int command, int type, off_t start, off_t length)
{
    struct flock l = {
        .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

    return fcntl(fd, command, &l);
}

/* Locks PATH_A here, tries PATH_B from another process; two mounts of one tree
 * make two clients, so that the server has to answer. */
static int cmd_lock(char **argv)
{
    int a = open(argv[0], O_RDWR), status;
    pid_t child;

    if (a < 0)
        die(argv[0]);
    if (record_lock(a, F_SETLK, F_WRLCK, 0, 10) < 0)
        die("lock of 0-9");
    child = fork();
    if (child == 0) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
        int b = open(argv[1], O_RDWR);

        if (b < 0)
            die(argv[1]);
        expect(record_lock(b, F_SETLK, F_WRLCK, 5, 10) < 0 && (errno == EAGAIN || errno == EACCES),
               "a lock of 5-14 is refused while 0-9 is held");
        expect(record_lock(b, F_SETLK, F_RDLCK, 5, 10) < 0 && (errno == EAGAIN || errno == EACCES),
               "a read lock of 5-14 is refused, too");
        expect(record_lock(b, F_SETLK, F_WRLCK, 20, 10) == 0, "20-29 is free");
        if (fcntl(b, F_GETLK, &l) < 0)
            die("F_GETLK");
        expect(l.l_type == F_WRLCK, "F_GETLK names the write lock");
        expect(l.l_start == 0 && l.l_len == 10, "F_GETLK shows its range");
        _exit(0);
    }
    if (waitpid(child, &status, 0) < 0)
        die("waitpid");
    expect(status == 0, "the other process saw the lock");
    if (record_lock(a, F_SETLK, F_UNLCK, 0, 10) < 0)
        die("unlock");
    child = fork();
    if (child == 0) {
        int b = open(argv[1], O_RDWR);

        expect(b >= 0 && record_lock(b, F_SETLK, F_WRLCK, 5, 10) == 0, "free after the unlock");
        _exit(0);
    }
    if (waitpid(child, &status, 0) < 0)
        die("waitpid");
    expect(status == 0, "the other process got the lock");
    /* That process is gone: its lock must be gone with it. */
    expect(record_lock(a, F_SETLK, F_WRLCK, 0, 20) == 0, "the lock of a dead process is free");
    return 0;
}

static int cmd_flock(char **argv)
{
    int a = open(argv[0], O_RDWR), b = open(argv[1], O_RDWR);

    if (a < 0 || b < 0)
        die("open");
    if (flock(a, LOCK_EX) < 0)
        die("flock");
    expect(flock(b, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK, "the second flock is refused");
    if (flock(a, LOCK_UN) < 0)
        die("unlock");
    expect(flock(b, LOCK_EX | LOCK_NB) == 0, "free after the unlock");
    return 0;
}

static int cmd_unlinked(char **argv)
{
    char buffer[16] = "";
    struct stat st;
    int fd = open(argv[0], O_RDWR | O_CREAT | O_EXCL, 0600);

    if (fd < 0)
        die(argv[0]);
    expect(write(fd, "before", 6) == 6, "write before unlink");
    if (unlink(argv[0]) < 0)
        die("unlink");
    expect(access(argv[0], F_OK) < 0 && errno == ENOENT, "the name is gone");
    expect(write(fd, "+after", 6) == 6, "write after unlink");
    expect(pread(fd, buffer, sizeof buffer, 0) == 12 && !memcmp(buffer, "before+after", 12),
           "read after unlink");
    if (fstat(fd, &st) < 0)
        die("fstat after unlink");
    expect(st.st_size == 12, "size after unlink");
    if (ftruncate(fd, 6) < 0)
        die("ftruncate after unlink");
    expect(pread(fd, buffer, sizeof buffer, 0) == 6, "read after truncate");
    if (fchmod(fd, 0640) < 0)
        die("fchmod after unlink");
    if (fsync(fd) < 0)
        die("fsync after unlink");
    return close(fd);
}

static long count_entries(DIR *d)
{
    long n = 0;

    while (readdir(d))
        n++;
    return n;
}

/* The whole directory twice through one stream, then from a remembered place. */
static int cmd_readdir(char **argv)
{
    DIR *d = opendir(argv[0]);
    long want = atol(argv[1]) + 2, where, i, rest;

    if (!d)
        die(argv[0]);
    expect(count_entries(d) == want, "first pass sees every entry");
    rewinddir(d);
    for (i = 0; i < want / 2; i++)
        if (!readdir(d))
            break;
    where = telldir(d);
    rest = count_entries(d);
    expect(i + rest == want, "second pass sees every entry");
    seekdir(d, where);
    expect(count_entries(d) == rest, "the rest again after seekdir");
    closedir(d);
    return 0;
}

static int cmd_mmap_read(char **argv)
{
    int fd = open(argv[0], O_RDONLY);
    char *p;

    if (fd < 0)
        die(argv[0]);
    p = mmap(NULL, strlen(argv[1]), PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        die("mmap");
    expect(!memcmp(p, argv[1], strlen(argv[1])), "the mapping shows the file");
    return 0;
}

static int cmd_mmap_write(char **argv)
{
    int fd = open(argv[0], O_RDWR);
    size_t length = strlen(argv[1]);
    char *p;

    if (fd < 0)
        die(argv[0]);
    p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        die("mmap");
    memcpy(p, argv[1], length);
    if (msync(p, length, MS_SYNC) < 0)
        die("msync");
    return 0;
}

static int cmd_utimens(char **argv)
{
    struct timespec times[2] = {{1000000000, 0}, {1234567890, 0}};
    struct stat st;

    if (utimensat(AT_FDCWD, argv[0], times, AT_SYMLINK_NOFOLLOW) < 0)
        die("utimensat");
    if (lstat(argv[0], &st) < 0)
        die("lstat");
    expect(st.st_mtim.tv_sec == 1234567890, "mtime is what was set");
    expect(st.st_atim.tv_sec == 1000000000, "atime is what was set");
    return 0;
}

static int cmd_mtime(char **argv)
{
    struct stat st;

    if (lstat(argv[0], &st) < 0)
        die("lstat");
    expect(st.st_mtim.tv_sec == atol(argv[1]) && st.st_mtim.tv_nsec == atol(argv[2]),
           "mtime to the nanosecond");
    return 0;
}

static int cmd_fsync(char **argv)
{
    int fd = open(argv[0], O_RDWR);

    if (fd < 0)
        die(argv[0]);
    expect(pwrite(fd, "synced", 6, 0) == 6, "write");
    if (fdatasync(fd) < 0 || fsync(fd) < 0)
        die("fsync");
    return 0;
}

static int cmd_append(char **argv)
{
    int fd = open(argv[0], O_WRONLY | O_APPEND);

    if (fd < 0)
        die(argv[0]);
    expect(write(fd, argv[1], strlen(argv[1])) == (ssize_t)strlen(argv[1]), "append");
    return close(fd);
}

/* Writes one line over the old bytes of each PATH, keeping its length and its open mode plain. */
static int cmd_overwrite(char **argv)
{
    int fd = open(argv[0], O_WRONLY);

    if (fd < 0)
        die(argv[0]);
    expect(pwrite(fd, argv[1], strlen(argv[1]), 0) == (ssize_t)strlen(argv[1]), "overwrite");
    return close(fd);
}

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) < 0)
        die(path);
}

/* A file without a name: read and written through several descriptors, cut, made longer, while
 * another file takes its name. */
static int cmd_orphan(char **argv)
{
    static char big[300000], back[300000];
    struct stat st;
    int a = open(argv[0], O_RDWR | O_CREAT | O_EXCL, 0600), b = open(argv[0], O_RDONLY);

    if (a < 0 || b < 0)
        die(argv[0]);
    if (unlink(argv[0]) < 0)
        die("unlink");
    write_text(argv[0], "the next one");
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7 + i / 251);
    expect(pwrite(a, big, sizeof big, 0) == sizeof big, "a long write");
    expect(pread(b, back, sizeof back, 0) == sizeof back && !memcmp(big, back, sizeof big),
           "another descriptor reads it");
    expect(fstat(b, &st) == 0 && st.st_size == sizeof big && st.st_nlink == 0,
           "fstat: its size, and no link");
    expect(ftruncate(a, 100) == 0 && fstat(b, &st) == 0 && st.st_size == 100, "cut");
    expect(ftruncate(a, 5000) == 0 && pread(b, back, 6000, 0) == 5000 && back[4999] == 0,
           "made longer, with zeros");
    expect(stat(argv[0], &st) == 0 && st.st_size == 12, "the new file of that name is untouched");
    close(b);
    expect(pread(a, back, 100, 0) == 100 && !memcmp(big, back, 100), "after the other was closed");
    return close(a) < 0 || unlink(argv[0]) < 0;
}

/* rename over a file that is open: its readers keep the old one */
static int cmd_replaced(char **argv)
{
    char text[8] = "";
    int a, b;

    write_text(argv[0], "first");
    write_text(argv[1], "second");
    a = open(argv[0], O_RDWR);
    b = open(argv[1], O_RDWR);
    if (a < 0 || b < 0 || rename(argv[0], argv[1]) < 0)
        die("rename");
    expect(pread(b, text, 6, 0) == 6 && !memcmp(text, "second", 6),
           "the replaced file is still read");
    expect(pwrite(b, "SECOND", 6, 0) == 6, "and written");
    expect(pwrite(a, "FIRST", 5, 0) == 5, "the moved one, too");
    close(a);
    close(b);
    a = open(argv[1], O_RDONLY);
    expect(a >= 0 && read(a, text, 8) == 5 && !memcmp(text, "FIRST", 5),
           "the name shows the file that was moved");
    return close(a);
}

static int cmd_lost_directory(char **argv)
{
    struct stat st;
    int fd, file;

    if (mkdir(argv[0], 0755) < 0)
        die(argv[0]);
    fd = open(argv[0], O_RDONLY | O_DIRECTORY);
    if (fd < 0 || rmdir(argv[0]) < 0)
        die("rmdir");
    expect(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode), "fstat of a directory that is gone");
    file = openat(fd, "new", O_CREAT | O_WRONLY, 0644);
    expect(file < 0 && errno == ENOENT, "nothing can be made in it");
    return close(fd);
}

/* Reads the whole directory, which has entry-1 to entry-COUNT, and must show each once. Removes
 * every STEPth that it has just read, if STEP is not 0, and tells how many. */
static long see_entries(DIR *d, long count, long step)
{
    long seen = 0, gone = 0;
    char *found = calloc(1, (size_t)count + 1);
    struct dirent *e;

    if (!found)
        die("calloc");
    while ((e = readdir(d))) {
        long n;

        if (sscanf(e->d_name, "entry-%ld", &n) != 1)
            continue;
        expect(n > 0 && n <= count && !found[n], "an entry is seen once");
        found[n] = 1;
        seen++;
        if (step && n % step == 0) {
            if (unlinkat(dirfd(d), e->d_name, 0) < 0)
                die(e->d_name);
            gone++;
        }
    }
    expect(seen == count, "every entry is seen, though some may go meanwhile");
    free(found);
    return gone;
}

static int cmd_count(char **argv)
{
    DIR *d = opendir(argv[0]);

    if (!d)
        die(argv[0]);
    see_entries(d, atol(argv[1]), 0);
    return closedir(d);
}

/* Removes entries while it reads, as rm -r does: POSIX wants every entry that stays to be seen. */
static int cmd_shrink(char **argv)
{
    long count = atol(argv[1]), step = atol(argv[2]), seen = 0, gone;
    struct dirent *e;
    DIR *d = opendir(argv[0]);

    if (!d)
        die(argv[0]);
    gone = see_entries(d, count, step);
    rewinddir(d);
    while ((e = readdir(d)))
        if (e->d_name[0] == 'e') {
            seen++;
            expect(atol(e->d_name + 6) % step != 0, "what was removed is not seen");
        }
    expect(seen == count - gone, "the others are");
    return closedir(d);
}

/* Goes down N levels, leaves a file there, comes up by .. and removes it all. */
static int cmd_deep(char **argv)
{
    long levels = atol(argv[0]);
    struct stat st, top;

    if (mkdir(argv[1], 0755) < 0 || chdir(argv[1]) < 0 || stat(".", &top) < 0)
        die(argv[1]);
    for (long i = 0; i < levels; i++)
        if (mkdir("a-level-with-a-rather-long-name", 0755) < 0 ||
            chdir("a-level-with-a-rather-long-name") < 0)
            die("going down");
    write_text("bottom", "deep");
    expect(stat("bottom", &st) == 0 && st.st_size == 4, "the file at the bottom");
    if (unlink("bottom") < 0)
        die("unlink at the bottom");
    for (long i = 0; i < levels; i++)
        if (chdir("..") < 0 || rmdir("a-level-with-a-rather-long-name") < 0)
            die("going up");
    expect(stat(".", &st) == 0 && st.st_ino == top.st_ino, "the way up ends where it began");
    return chdir("..") < 0 || rmdir(argv[1]) < 0;
}

/* A name for each byte, and the longest ones; readdir must give each back as it was. */
static int cmd_names(char **argv)
{
    char name[300];
    int seen = 0;
    struct dirent *e;
    DIR *d;

    if (mkdir(argv[0], 0755) < 0 || chdir(argv[0]) < 0)
        die(argv[0]);
    for (int c = 1; c < 256; c++) {
        if (c == '/')
            continue;
        snprintf(name, sizeof name, "%c%c-%d", c, c, c);
        write_text(name, name);
    }
    memset(name, 0xff, 255);
    name[255] = '\0';
    write_text(name, "longest");
    d = opendir(".");
    while (d && (e = readdir(d))) {
        int c = (unsigned char)e->d_name[0];

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (strlen(e->d_name) != 255) {
            snprintf(name, sizeof name, "%c%c-%d", c, c, c);
            expect(!strcmp(name, e->d_name), "a name as it was given");
        }
        if (unlink(e->d_name) < 0)
            die("unlink of what readdir named");
        seen++;
    }
    expect(seen == 255, "every name is seen");
    closedir(d);
    return chdir("..") < 0 || rmdir(argv[0]) < 0;
}

static int cmd_shared_map(char **argv)
{
    int fd = open(argv[0], O_RDWR | O_CREAT | O_TRUNC, 0644), status;
    char *map;
    pid_t child;

    if (fd < 0 || ftruncate(fd, 16384) < 0)
        die(argv[0]);
    child = fork();
    if (child == 0) {
        int again = open(argv[0], O_RDWR);

        map = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        if (again < 0 || map == MAP_FAILED)
            die("mmap in the child");
        memcpy(map + 8192, "child", 5);
        for (int i = 0; i < 1000 && memcmp(map, "parent", 6); i++)
            usleep(10000);
        expect(!memcmp(map, "parent", 6), "the child sees what the parent wrote");
        _exit(msync(map, 16384, MS_SYNC) < 0);
    }
    map = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        die("mmap");
    memcpy(map, "parent", 6);
    if (waitpid(child, &status, 0) < 0)
        die("waitpid");
    expect(status == 0, "the child ended well");
    expect(!memcmp(map + 8192, "child", 5), "the parent sees what the child wrote");
    if (msync(map, 16384, MS_SYNC) < 0)
        die("msync");
    return munmap(map, 16384) < 0 || close(fd) < 0;
}

static int lock_by_name(const char *kind, int fd, int command, int type, off_t start, off_t length)
{
    if (!strcmp(kind, "flock"))
        return flock(fd, (type == F_RDLCK   ? LOCK_SH
                          : type == F_WRLCK ? LOCK_EX
                                            : LOCK_UN) |
                             (command == F_SETLK ? LOCK_NB : 0));
    return record_lock(fd, command, type, start, length);
}

/* hold KIND PATH START LENGTH SIGN END: locks, makes the file SIGN, and keeps the lock until there
 * is a file END. Waits for the lock if another one has it. */
static int cmd_hold(char **argv)
{
    int fd = open(argv[1], O_RDWR);

    if (fd < 0)
        die(argv[1]);
    if (lock_by_name(argv[0], fd, F_SETLKW, F_WRLCK, atol(argv[2]), atol(argv[3])) < 0)
        die("lock");
    write_text(argv[4], "held");
    while (access(argv[5], F_OK) < 0)
        usleep(20000);
    return close(fd);
}

/* try KIND PATH START LENGTH free|busy: what another one sees of a lock */
static int cmd_try(char **argv)
{
    int fd = open(argv[1], O_RDWR), result;

    if (fd < 0)
        die(argv[1]);
    result = lock_by_name(argv[0], fd, F_SETLK, F_WRLCK, atol(argv[2]), atol(argv[3]));
    if (result < 0 && errno != EAGAIN && errno != EACCES)
        die("lock");
    expect((result < 0) == !strcmp(argv[4], "busy"), result < 0 ? "free" : "busy");
    return close(fd);
}

/* lines PATH WORD N: appends N lines of this word, each in one write */
static int cmd_lines(char **argv)
{
    int fd = open(argv[0], O_WRONLY | O_CREAT | O_APPEND, 0666);
    char line[200];

    if (fd < 0)
        die(argv[0]);
    for (long i = 0; i < atol(argv[2]); i++) {
        int n = snprintf(line, sizeof line, "%s %ld and then some words to fill the line\n",
                         argv[1], i);

        expect(write(fd, line, (size_t)n) == n, "a line");
    }
    return close(fd);
}

/* increment KIND PATH N: adds one to the number in the file, N times, each time under a lock */
static int cmd_increment(char **argv)
{
    int fd = open(argv[1], O_RDWR | O_CREAT, 0666);

    if (fd < 0)
        die(argv[1]);
    for (long i = 0; i < atol(argv[2]); i++) {
        char text[32] = "";
        int n;

        if (lock_by_name(argv[0], fd, F_SETLKW, F_WRLCK, 0, 0) < 0)
            die("lock");
        if (pread(fd, text, sizeof text - 1, 0) < 0)
            die("read");
        n = snprintf(text, sizeof text, "%ld\n", atol(text) + 1);
        expect(pwrite(fd, text, (size_t)n, 0) == n, "write");
        if (lock_by_name(argv[0], fd, F_SETLK, F_UNLCK, 0, 0) < 0)
            die("unlock");
    }
    return close(fd);
}

/* race DIR N: tries to be the one who makes directory I, makes file I with O_EXCL, and takes token
 * I by rename; prints how often it was */
static int cmd_race(char **argv)
{
    char path[512], mine[512];
    long made = 0, exclusive = 0, taken = 0;

    for (long i = 0; i < atol(argv[1]); i++) {
        int fd;

        snprintf(path, sizeof path, "%s/dir-%ld", argv[0], i);
        if (mkdir(path, 0755) == 0)
            made++;
        else
            expect(errno == EEXIST, "mkdir fails with EEXIST only");
        snprintf(path, sizeof path, "%s/file-%ld", argv[0], i);
        fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd >= 0) {
            exclusive++;
            close(fd);
        } else {
            expect(errno == EEXIST, "O_EXCL fails with EEXIST only");
        }
        snprintf(path, sizeof path, "%s/token-%ld", argv[0], i);
        snprintf(mine, sizeof mine, "%s/%s-%ld", argv[0], argv[2], i);
        if (rename(path, mine) == 0)
            taken++;
        else
            expect(errno == ENOENT, "rename fails with ENOENT only");
    }
    printf("%ld %ld %ld\n", made, exclusive, taken);
    return 0;
}

static int cmd_as(char **argv)
{
    gid_t gid = (gid_t)atol(argv[1]);

    if (setgroups(0, NULL) < 0 || setgid(gid) < 0 || setuid((uid_t)atol(argv[0])) < 0)
        die("change of user");
    execvp(argv[2], argv + 2);
    die(argv[2]);
    return 1;
}

static int cmd_fails(char **argv, int wanted)
{
    int fd = open(argv[0], O_RDWR);

    expect(fd < 0, "open fails");
    expect(errno == wanted, strerror(errno));
    return 0;
}

static int mismatches;

/* Prints "inode links type path" of everything below a directory; the inode
 * number that readdir names must be the one that stat shows. */
static void tree(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;

    if (!d)
        die(path);
    while ((e = readdir(d))) {
        char *below;
        struct stat st;

        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (asprintf(&below, "%s/%s", path, e->d_name) < 0 || lstat(below, &st) < 0)
            die(e->d_name);
        if (e->d_ino != st.st_ino) {
            fprintf(stderr, "probe: %s: readdir shows inode %llu, stat %llu\n", below,
                    (unsigned long long)e->d_ino, (unsigned long long)st.st_ino);
            mismatches++;
        }
        printf("%llu %lu %c %s\n", (unsigned long long)st.st_ino, (unsigned long)st.st_nlink,
               S_ISDIR(st.st_mode)   ? 'd'
               : S_ISLNK(st.st_mode) ? 'l'
               : S_ISREG(st.st_mode) ? 'f'
                                     : 'o',
               below);
        if (S_ISDIR(st.st_mode))
            tree(below);
        free(below);
    }
    closedir(d);
}

static int cmd_tree(char **argv)
{
    struct stat st;

    if (lstat(argv[0], &st) < 0)
        die(argv[0]);
    printf("%llu %lu d %s\n", (unsigned long long)st.st_ino, (unsigned long)st.st_nlink, argv[0]);
    tree(argv[0]);
    return mismatches != 0;
}

/* The same lines for the paths that standard input names, in that order. */
static int cmd_stat(void)
{
    char path[4096];
    struct stat st;

    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = '\0';
        if (lstat(path, &st) < 0)
            die(path);
        printf("%llu %lu %c %s\n", (unsigned long long)st.st_ino, (unsigned long)st.st_nlink,
               S_ISDIR(st.st_mode)   ? 'd'
               : S_ISLNK(st.st_mode) ? 'l'
               : S_ISREG(st.st_mode) ? 'f'
                                     : 'o',
               path);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int arguments;
        int (*run)(char **argv);
    } commands[] = {
        {"lock", 2, cmd_lock},
        {"flock", 2, cmd_flock},
        {"unlinked", 1, cmd_unlinked},
        {"readdir", 2, cmd_readdir},
        {"mmap-read", 2, cmd_mmap_read},
        {"mmap-write", 2, cmd_mmap_write},
        {"utimens", 1, cmd_utimens},
        {"fsync", 1, cmd_fsync},
        {"mtime", 3, cmd_mtime},
        {"append", 2, cmd_append},
        {"overwrite", 2, cmd_overwrite},
        {"as", 3, cmd_as},
        {"tree", 1, cmd_tree},
        {"orphan", 1, cmd_orphan},
        {"replaced", 2, cmd_replaced},
        {"lost-directory", 1, cmd_lost_directory},
        {"count", 2, cmd_count},
        {"shrink", 3, cmd_shrink},
        {"deep", 2, cmd_deep},
        {"names", 1, cmd_names},
        {"shared-map", 1, cmd_shared_map},
        {"hold", 6, cmd_hold},
        {"try", 5, cmd_try},
        {"lines", 3, cmd_lines},
        {"increment", 3, cmd_increment},
        {"race", 3, cmd_race},
    };

    if (argc == 2 && !strcmp(argv[1], "stat"))
        return cmd_stat();
    if (argc == 3 && !strcmp(argv[1], "denied"))
        return cmd_fails(argv + 2, EACCES);
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name) && argc >= commands[i].arguments + 2)
            return commands[i].run(argv + 2);
    fprintf(stderr, "probe: unknown command\n");
    return 2;
}
