/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts. Reads a log of all writes and flushes that a disk got (the format of dm-log-writes,
 * as QEMU's blklogwrites writes it), makes the disk as it may be after the power went at some point
 * of it, mounts that, and holds the store on it against the contract.
 *
 *   replay --log FILE --base IMAGE --journal FILE --dir DIR --type FSTYPE --uri PREFIX
 *          [--seed N] [--states N] [--subsets N] [--expect-violation] [--only N]
 *
 * The log: a block with {u64 magic, version, entries; u32 block size}, then for each entry a block
 * with {u64 sector, sectors, flags, size} and, unless it is a discard, the data, padded to blocks.
 * The count of entries is behind while the log grows; its end is the end of the file. An entry is
 * written when the disk has done what it says.
 *
 * What a disk may do: all writes before the last completed flush are there; of those after it any
 * subset, and one of them torn at any of its 512-byte sectors; what a write with FUA brought is
 * there. A superblock is not torn, and where a tear defeats the filesystem's own recovery (xfs
 * reads some blocks before it replays them), the same state is tried without it. States: each
 * prefix of the log, with all of it; and for each flush interval `subsets` random ones. With
 * --states fewer of them, picked at random.
 *
 * The filesystem's own recovery runs at the mount (never norecovery): what a store has to live with
 * is what the filesystem makes of the disk.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash/lab.h"

#define LOG_MAGIC   UINT64_C(0x6a736677736872)
#define LOG_FLUSH   1u
#define LOG_FUA     2u
#define LOG_DISCARD 4u
#define LOG_MARK    8u
#define SECTOR      512u
#define CHUNK       65536u
#define SHOW        5u
#define VIOLATIONS  20u

struct entry {
    uint64_t sector, sectors, flags, size;
    const uint8_t *data;
    uint64_t end; /* bytes of the log, with this entry */
    gboolean chosen;
};

/* A state to try: the power goes after entry `at`; of the entries after the last flush all, or, for
 * subset > 0, a random choice. */
struct state {
    guint at, subset;
};

static char *log_path, *base_path, *journal_path, *work, *type, *prefix, *scenario;
static gint64 seed = 1, max_states, subsets = 4, only = -1;
static gboolean expect_violation;
static guint defeated; /* states that were tried without their tear */

static GArray *entries; /* of struct entry */
static uint64_t block_size = SECTOR;
static uint8_t *disk, *written; /* the disk up to the last flush, and which chunks are not zero */
static uint64_t disk_size;
static char *image, *mount_point;
static struct lab_told *told;
static size_t n_told;

static void G_GNUC_NORETURN die(const char *what, const char *text)
{
    fprintf(stderr, "replay: %s: %s\n", what, text);
    exit(2);
}

static uint64_t le64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return GUINT64_FROM_LE(v);
}

/* ---- the log --------------------------------------------------------------------------------- */

static void read_log(void)
{
    int fd = open(log_path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    const uint8_t *bytes;
    uint64_t at;

    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size < (off_t)SECTOR)
        die(log_path, "no log");
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        die(log_path, g_strerror(errno));
    close(fd);
    if (le64(bytes) != LOG_MAGIC || le64(bytes + 8) != 1)
        die(log_path, "no log of writes");
    block_size = le64(bytes + 24) & 0xffffffff;
    if (block_size < SECTOR || block_size > 65536)
        die(log_path, "a strange block size");
    entries = g_array_new(FALSE, TRUE, sizeof(struct entry));
    for (at = block_size; at + block_size <= (uint64_t)st.st_size;) {
        struct entry e = {le64(bytes + at),
                          le64(bytes + at + 8),
                          le64(bytes + at + 16),
                          le64(bytes + at + 24),
                          bytes + at + block_size,
                          0,
                          FALSE};

        at += block_size;
        if (!(e.flags & LOG_DISCARD))
            at += (e.sectors * block_size + block_size - 1) / block_size * block_size;
        if (at > (uint64_t)st.st_size)
            break; /* the last one was not finished */
        e.end = at;
        if (!(e.flags & LOG_MARK) && (e.sector + e.sectors) * block_size > disk_size)
            die(log_path, "a write behind the end of the disk");
        g_array_append_val(entries, e);
    }
    if (entries->len == 0)
        die(log_path, "the log is empty");
}

static const struct entry *entry(guint i)
{
    return &g_array_index(entries, struct entry, i);
}

static gboolean is_flush(guint i)
{
    return (entry(i)->flags & LOG_FLUSH) != 0;
}

/* ---- the disk -------------------------------------------------------------------------------- */

static gboolean zero(const uint8_t *p, size_t size)
{
    return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0;
}

static void read_base(void)
{
    int fd = open(base_path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    off_t data, hole = 0;

    if (fd < 0 || fstat(fd, &st) != 0)
        die(base_path, g_strerror(errno));
    disk_size = (uint64_t)st.st_size / CHUNK * CHUNK;
    if (disk_size != (uint64_t)st.st_size)
        die(base_path, "not a multiple of 64 KiB");
    disk = mmap(NULL, disk_size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (disk == MAP_FAILED)
        die("memory", g_strerror(errno));
    written = g_new0(uint8_t, disk_size / CHUNK);
    while ((data = lseek(fd, hole, SEEK_DATA)) >= 0 && (hole = lseek(fd, data, SEEK_HOLE)) >= 0) {
        data = data / CHUNK * CHUNK;
        for (; data < hole; data += CHUNK) {
            uint8_t chunk[CHUNK];

            if (pread(fd, chunk, CHUNK, data) != CHUNK)
                die(base_path, "cannot be read");
            if (zero(chunk, CHUNK))
                continue;
            memcpy(disk + data, chunk, CHUNK);
            written[data / CHUNK] = 1;
        }
    }
    close(fd);
}

/* An entry that reached the disk for good. */
static void apply(const struct entry *e)
{
    uint64_t offset = e->sector * block_size, size = e->sectors * block_size, i;

    if (size == 0 || (e->flags & LOG_MARK))
        return;
    if (e->flags & LOG_DISCARD)
        memset(disk + offset, 0, size);
    else
        memcpy(disk + offset, e->data, size);
    for (i = offset / CHUNK; i <= (offset + size - 1) / CHUNK; i++)
        written[i] = 1;
}

/* The superblock of ext4 and of btrfs is larger than a sector, has one checksum, and is written in
 * place: a disk that tears it defeats the filesystem itself, whatever is on it. */
static gboolean may_tear(const struct entry *e)
{
    uint64_t offset = e->sector * block_size, end = offset + e->sectors * block_size;
    uint64_t super = strcmp(type, "btrfs") == 0 ? 65536 : strcmp(type, "ext4") == 0 ? 1024 : 0;

    return !(e->flags & (LOG_FUA | LOG_MARK)) && end - offset > SECTOR &&
           (super == 0 || offset > super || end <= super);
}

static void put(int fd, const void *bytes, size_t size, uint64_t offset)
{
    if (pwrite(fd, bytes, size, (off_t)offset) != (ssize_t)size)
        die(image, g_strerror(errno));
}

/* The image: `disk`, and the chosen entries of those from `first` to `last`. */
static void write_image(guint first, guint last, const struct entry *torn, uint64_t torn_seed)
{
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static const uint8_t zeros[SECTOR];
    uint64_t i, k;
    guint j;

    if (fd < 0 || ftruncate(fd, (off_t)disk_size) != 0)
        die(image, g_strerror(errno));
    for (i = 0; i < disk_size / CHUNK; i++) {
        if (written[i])
            put(fd, disk + i * CHUNK, CHUNK, i * CHUNK);
    }
    for (j = first; j <= last; j++) {
        const struct entry *e = entry(j);
        uint64_t n = e->sectors * block_size / SECTOR;
        struct lab_random r = {torn_seed};

        if (!e->chosen || n == 0 || (e->flags & LOG_MARK))
            continue;
        for (k = 0; k < n; k++) {
            if (e == torn && (lab_random(&r) & 1))
                continue;
            put(fd, e->flags & LOG_DISCARD ? zeros : e->data + k * SECTOR, SECTOR,
                e->sector * block_size + k * SECTOR);
        }
    }
    close(fd);
}

/* ---- mounting -------------------------------------------------------------------------------- */

static int attach(char *name, size_t room)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), tries, loop = -1;

    for (tries = 0; control >= 0 && tries < 100; tries++) {
        struct loop_config config;
        int number = ioctl(control, LOOP_CTL_GET_FREE), fd;

        if (number < 0)
            break;
        g_snprintf(name, room, "/dev/loop%d", number);
        loop = open(name, O_RDWR | O_CLOEXEC);
        if (loop < 0) {
            g_usleep(10000); /* its node is not there yet */
            continue;
        }
        memset(&config, 0, sizeof(config));
        fd = open(image, O_RDWR | O_CLOEXEC);
        config.fd = (uint32_t)fd;
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
        if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
            close(fd);
            close(control);
            return loop;
        }
        close(fd); /* somebody else was faster */
        close(loop);
    }
    die("no loop device", g_strerror(errno));
}

/* btrfs keeps what it saw of a device; the next state has an older or a newer one. */
static void forget(const char *device)
{
    struct {
        int64_t fd;
        char name[4088];
    } args;
    int fd;

    if (strcmp(type, "btrfs") != 0 || (fd = open("/dev/btrfs-control", O_RDWR | O_CLOEXEC)) < 0)
        return;
    memset(&args, 0, sizeof(args));
    g_strlcpy(args.name, device, sizeof(args.name));
    (void)ioctl(fd, _IOW(0x94, 5, args), &args); /* BTRFS_IOC_FORGET_DEV */
    close(fd);
}

struct outcome {
    gboolean mounted;
    gboolean opened;
    gboolean kept;
    char why[1024];
};

/* The store on the mounted image, in a child: a signal in the library is a violation. */
static void check_store(uint64_t position, uint64_t number, struct outcome *o)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        g_autofree char *uri = g_strdup_printf("%s%s/store", prefix, mount_point);
        g_autoptr(GString) why = g_string_new("");

        o->kept = lab_check(uri, told, n_told, position, (uint64_t)seed + number, &o->opened, why);
        g_strlcpy(o->why, why->str, sizeof(o->why));
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("fork", g_strerror(errno));
    if (WIFSIGNALED(status)) {
        o->kept = FALSE;
        g_snprintf(o->why, sizeof(o->why), "ended by signal %d", WTERMSIG(status));
    }
}

static void try_image(uint64_t position, uint64_t number, struct outcome *o)
{
    char device[64];
    int loop = attach(device, sizeof(device)), tries;

    memset(o, 0, sizeof(*o));
    if (mount(device, mount_point, type, 0, strcmp(type, "xfs") == 0 ? "nouuid" : NULL) != 0) {
        g_snprintf(o->why, sizeof(o->why), "the filesystem does not mount: %s", g_strerror(errno));
    } else {
        o->mounted = TRUE;
        check_store(position, number, o);
        for (tries = 0; umount2(mount_point, 0) != 0; tries++) {
            if (errno != EBUSY || tries > 100)
                die(mount_point, g_strerror(errno));
            g_usleep(20000);
        }
    }
    forget(device);
    close(loop); /* and so it is free again */
}

/* ---- states ---------------------------------------------------------------------------------- */

static int by_at(gconstpointer a, gconstpointer b)
{
    const struct state *x = a, *y = b;

    return x->at != y->at ? (x->at > y->at ? 1 : -1)
                          : (x->subset > y->subset) - (x->subset < y->subset);
}

static GArray *plan(void)
{
    GArray *states = g_array_new(FALSE, TRUE, sizeof(struct state));
    struct lab_random r = {(uint64_t)seed ^ 0x706c616eu};
    guint i, first = 0;

    for (i = 0; i < entries->len; i++) {
        struct state s = {i, 0};
        gint64 n;

        g_array_append_val(states, s);
        if (!is_flush(i) && i + 1 < entries->len)
            continue;
        for (n = 1; n <= subsets && i > first; n++) {
            s.at = first + (guint)lab_below(&r, i - first);
            s.subset = (guint)n;
            g_array_append_val(states, s);
        }
        first = i + 1;
    }
    if (max_states > 0 && states->len > (guint)max_states) {
        for (i = 0; i < (guint)max_states; i++) {
            guint j = i + (guint)lab_below(&r, states->len - i);
            struct state s = g_array_index(states, struct state, i);

            g_array_index(states, struct state, i) = g_array_index(states, struct state, j);
            g_array_index(states, struct state, j) = s;
        }
        g_array_set_size(states, (guint)max_states);
    }
    g_array_sort(states, by_at);
    return states;
}

static gboolean one_state(const struct state *s, guint number, guint first, struct outcome *o)
{
    struct lab_random r = {(uint64_t)seed * 1000003u + number};
    const struct entry *torn = NULL;
    uint64_t likely = 1 + lab_below(&r, 9);
    guint i, seen = 0;

    for (i = first; i <= s->at; i++) {
        struct entry *e = &g_array_index(entries, struct entry, i);

        e->chosen = s->subset == 0 || (e->flags & LOG_FUA) || lab_below(&r, 10) < likely;
        if (s->subset != 0 && e->chosen && may_tear(e) && lab_below(&r, ++seen) == 0)
            torn = e;
    }
    uint64_t torn_seed = lab_random(&r);

    write_image(first, s->at, torn, torn_seed);
    try_image(entry(s->at)->end, number, o);
    if (!o->mounted && torn != NULL) {
        defeated++;
        write_image(first, s->at, NULL, torn_seed);
        try_image(entry(s->at)->end, number, o);
    }
    return o->kept;
}

int main(int argc, char **argv)
{
    const GOptionEntry options[] = {
        {"log", 0, 0, G_OPTION_ARG_FILENAME, &log_path, "What the disk got", "FILE"},
        {"base", 0, 0, G_OPTION_ARG_FILENAME, &base_path, "The disk before", "IMAGE"},
        {"journal", 0, 0, G_OPTION_ARG_FILENAME, &journal_path, "What was told", "FILE"},
        {"dir", 0, 0, G_OPTION_ARG_FILENAME, &work, "Where images are made", "DIR"},
        {"type", 0, 0, G_OPTION_ARG_STRING, &type, "Of the filesystem", "NAME"},
        {"uri", 0, 0, G_OPTION_ARG_STRING, &prefix, "Before the directory in a URI", "PREFIX"},
        {"scenario", 0, 0, G_OPTION_ARG_STRING, &scenario, "Its name, for the table", "NAME"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "Of the random numbers", "N"},
        {"states", 0, 0, G_OPTION_ARG_INT64, &max_states, "So many at most; 0: all", "N"},
        {"subsets", 0, 0, G_OPTION_ARG_INT64, &subsets, "For each flush interval", "N"},
        {"only", 0, 0, G_OPTION_ARG_INT64, &only, "Only this state; its image stays", "N"},
        {"expect-violation", 0, 0, G_OPTION_ARG_NONE, &expect_violation,
         "A negative control: success is a violation", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) why = g_string_new("");
    g_autofree char *backend = NULL;
    struct lab_tally tally = {0, 0, 0, lab_now()};
    struct outcome *o;
    GArray *states;
    guint i, applied = 0;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !log_path || !base_path ||
        !journal_path || !work || !type || !prefix)
        die("usage", error ? error->message
                           : "--log, --base, --journal, --dir, --type and --uri are needed");
    read_base();
    read_log();
    told = lab_journal_read(journal_path, &n_told, why);
    if (!told)
        die("journal", why->str);
    image = g_build_filename(work, "state.img", NULL);
    mount_point = g_build_filename(work, "mnt", NULL);
    o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        g_mkdir_with_parents(mount_point, 0700) != 0 || o == MAP_FAILED)
        die("preparing", g_strerror(errno));

    states = plan();
    for (i = 0; i < states->len; i++) {
        const struct state *s = &g_array_index(states, struct state, i);
        guint first = 0, j;

        /* Entries up to the last completed flush are on the disk. */
        for (j = s->at + 1; j > 0 && !is_flush(j - 1); j--)
            ;
        first = j;
        for (; applied < first; applied++)
            apply(entry(applied));
        if (only >= 0 && (guint)only != i)
            continue;
        /* Of a control the contract is to be broken, and not something else. */
        if (!one_state(s, i, first, o) && (o->mounted || !expect_violation)) {
            if (tally.violations++ < SHOW)
                printf("# violation: %s seed %" G_GINT64_FORMAT
                       " state %u (entry %u of %u, subset %u): %s\n",
                       type, (gint64)seed, i, s->at + 1, entries->len, s->subset, o->why);
        }
        tally.states++;
        tally.stores += o->opened;
        if (tally.violations >= (expect_violation ? 3 : VIOLATIONS))
            break;
    }
    if (only < 0)
        unlink(image);
    tally.seconds = lab_now() - tally.seconds;
    backend = g_strndup(prefix, strcspn(prefix, ":"));
    lab_tally_print(expect_violation ? "control" : "power", scenario ? scenario : "all", type,
                    backend, (uint64_t)seed, &tally);
    if (defeated > 0)
        printf("# %u of these without the tear, with which %s did not mount\n", defeated, type);
    return (tally.violations > 0) == (expect_violation != FALSE) && tally.states > 0 ? 0 : 1;
}
