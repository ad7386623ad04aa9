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
        {"lock", 2, cmd_lock},           {"flock", 2, cmd_flock},
        {"unlinked", 1, cmd_unlinked},   {"readdir", 2, cmd_readdir},
        {"mmap-read", 2, cmd_mmap_read}, {"mmap-write", 2, cmd_mmap_write},
        {"utimens", 1, cmd_utimens},     {"fsync", 1, cmd_fsync},
        {"mtime", 3, cmd_mtime},         {"append", 2, cmd_append},
        {"overwrite", 2, cmd_overwrite}, {"as", 3, cmd_as},
        {"tree", 1, cmd_tree},
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
