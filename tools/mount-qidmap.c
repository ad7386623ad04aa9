/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount.qidmap: mounts an export of qidmapd, or of another 9P2000.L server, in a guest. mount(8)
 * runs it for the type qidmap. It connects, waiting for a host that is not there yet, and gives the
 * socket to the kernel, which keeps it: nothing of this program stays. libmount reads flags and the
 * words of fstab, and writes what umount(8) and systemd want to find.
 *
 * This file owns the command line, the waiting, and what errors mean to people.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libmount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/mount-qidmap.h"

/* Exit codes of mount(8). */
#define EXIT_OK     0
#define EXIT_USAGE  1 /* also: no permission */
#define EXIT_SYSTEM 2
#define EXIT_MOUNT  32

#define PAUSE_MS     100 /* after the first try; doubled up to ... */
#define PAUSE_MAX_MS 1000

struct job {
    const char *source_text, *target;
    struct mount_source source;
    struct mount_options options;
    struct libmnt_context *context; /* of one try */
    const char *ns;                 /* -N; NULL: this one */
    gboolean fake, verbose, no_record;

    /* The waiting, from the first try on. */
    gint64 deadline;
    unsigned pause;
    gboolean told;
};

static const char *const help =
    "Usage: mount -t qidmap SOURCE DIR [-o OPTION,...]\n"
    "       mount.qidmap SOURCE DIR [-fnsvrw] [-N NAMESPACE] [-t TYPE] [-o OPTION,...]\n"
    "\n"
    "Mounts an export of a 9P2000.L server on DIR.\n"
    "\n"
    "SOURCE:\n"
    "  vsock:CID[:PORT]      a guest's way to its host, whose CID is 2; port 564\n"
    "  tcp:HOST[:PORT]       tcp:[ADDRESS]:PORT for IPv6; port 564\n"
    "  unix:PATH             on the same machine\n"
    "\n"
    "Options, beside those of mount(8) and of the kernel's 9p client:\n"
    "  aname=NAME            the export, or a directory below it\n"
    "  retry=SECONDS         how long to wait for a host that is not there; 60\n"
    "  msize=BYTES           the largest message; 262144\n"
    "\n"
    "  -f                    all but connecting and mounting\n"
    "  -n                    write nothing to /run/mount\n"
    "  -s                    pass over options that are unknown\n"
    "  -v                    say what is done\n"
    "      --help            show this\n"
    "      --version         show the version\n";

static int complain(int status, const char *format, ...) G_GNUC_PRINTF(2, 3);
static int complain(int status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("mount.qidmap: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return status;
}

/* ---- modules --------------------------------------------------------------------------------- */

static gboolean kernel_has_9p(void)
{
    g_autofree char *list = NULL;

    /* "nodev\t9p\n"; where it cannot be read, the kernel will say. */
    return !g_file_get_contents("/proc/filesystems", &list, NULL, NULL) ||
           strstr(list, "\t9p\n") != NULL;
}

/*
 * The program that the kernel itself would run, by its whole path: mount(8) hands no PATH on, and
 * what stands for it then ends with the current directory. NULL where there is none.
 */
static char *modprobe_path(void)
{
    char *path = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/modprobe", &path, NULL, NULL)) {
        return g_strdup("/sbin/modprobe");
    }
    g_strchomp(path);
    if (path[0] != '/') { /* empty: loading on demand is switched off */
        g_clear_pointer(&path, g_free);
    }
    return path;
}

/* Best effort: the kernel asks for most modules itself, and says later what is missing. */
static void load_module(const struct job *job, const char *name)
{
    g_autofree char *path = modprobe_path();
    const char *argv[] = {path, "-q", name, NULL};
    const char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    g_autoptr(GError) error = NULL;
    int status = 0;

    if (path == NULL) {
        return;
    }
    if (!g_spawn_sync(NULL, (char **)argv, (char **)environment,
                      G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL,
                      NULL, &status, &error)) {
        if (job->verbose) {
            printf("mount.qidmap: %s %s: %s\n", path, name, error->message);
        }
    } else if (job->verbose) {
        printf("mount.qidmap: %s %s: %s\n", path, name, status == 0 ? "done" : "failed");
    }
}

static void load_modules(const struct job *job)
{
    if (!kernel_has_9p()) {
        load_module(job, "9p");
    }
    if (access("/sys/module/9pnet_fd", F_OK) < 0) {
        load_module(job, "9pnet_fd"); /* a module of its own in Linux 6 */
    }
    if (job->source.transport == MOUNT_VSOCK && access("/dev/vsock", F_OK) < 0) {
        load_module(job, "vsock");
    }
    if (job->source.transport == MOUNT_VSOCK && job->source.cid == 1) {
        load_module(job, "vsock_loopback");
    }
}

/* ---- waiting for the host -------------------------------------------------------------------- */

static void begin_waiting(struct job *job)
{
    job->deadline = g_get_monotonic_time() + (gint64)job->options.retry * G_USEC_PER_SEC;
    job->pause = PAUSE_MS;
    job->told = FALSE;
}

/* After a try that failed for `why`: TRUE after a pause, or FALSE where the time is over. Both are
 * told, the first of them once. */
static gboolean wait_for_next(struct job *job, const char *why)
{
    gint64 left = (job->deadline - g_get_monotonic_time()) / 1000;

    if (left <= 0) {
        complain(EXIT_MOUNT, "%s: %s%s", job->source_text, why,
                 job->options.retry > 0 ? "; gave up waiting (option retry=SECONDS)" : "");
        return FALSE;
    }
    if (!job->told) {
        complain(0, "%s: %s; trying again for %u s", job->source_text, why, job->options.retry);
        job->told = TRUE;
    }
    g_usleep(MIN(job->pause, (unsigned)left) * 1000UL);
    job->pause = MIN(job->pause * 2, PAUSE_MAX_MS);
    return TRUE;
}

/* A connected socket, or -1: that was told. */
static int wait_for_host(struct job *job)
{
    for (;;) {
        g_autoptr(GError) error = NULL;
        gboolean again = FALSE;
        int fd = mount_connect(&job->source, job->options.msize, MOUNT_TRY_MS, &again, &error);

        if (fd >= 0) {
            return fd;
        }
        if (!again) {
            complain(EXIT_MOUNT, "%s: %s", job->source_text, error->message);
            return -1;
        }
        if (!wait_for_next(job, error->message)) {
            return -1;
        }
    }
}

/* ---- mounting -------------------------------------------------------------------------------- */

/* What the kernel's errno says here; most come from the server's answer to Tattach. */
static int explain(const struct job *job, int code)
{
    const char *aname = job->options.aname != NULL ? job->options.aname : "";

    switch (code) {
    case ENODEV:
        return complain(EXIT_MOUNT,
                        "the kernel has no 9p: its modules 9p and 9pnet_fd are not there "
                        "(kernels for clouds leave them out), or may not be loaded");
    case EPERM:
        return complain(EXIT_USAGE,
                        "%s: not permitted: to mount wants CAP_SYS_ADMIN in the first user "
                        "namespace, or the server lets nobody attach \"%s\"",
                        job->target, aname);
    case ENOENT:
        return complain(EXIT_MOUNT,
                        "%s: the server has no export \"%s\" (option aname=; its log tells "
                        "those that there are)",
                        job->source_text, aname);
    case EACCES:
        return complain(EXIT_MOUNT,
                        "%s: the server refuses export \"%s\" to this machine or user (its "
                        "option --allow)",
                        job->source_text, aname);
    case EINVAL:
        return complain(EXIT_MOUNT,
                        "%s: the kernel refuses the options; its log says which (dmesg)",
                        job->source_text);
    case EBUSY:
        return complain(EXIT_MOUNT, "%s is busy, or mounted there already", job->target);
    default:
        return complain(EXIT_MOUNT, "%s on %s: %s", job->source_text, job->target,
                        g_strerror(code));
    }
}

/* libmount's context is for one try. */
static int make_context(struct job *job)
{
    int code = 0;

    mnt_free_context(job->context);
    job->context = mnt_new_context();
    if (job->context == NULL || mnt_context_init_helper(job->context, MNT_ACT_MOUNT, 0) < 0) {
        return complain(EXIT_SYSTEM, "no memory");
    }
    if (job->fake) {
        code = mnt_context_helper_setopt(job->context, 'f', NULL);
    }
    if (code >= 0 && job->no_record) {
        code = mnt_context_helper_setopt(job->context, 'n', NULL);
    }
    if (code >= 0 && job->ns != NULL) {
        code = mnt_context_helper_setopt(job->context, 'N', (char *)job->ns);
        if (code < 0) {
            return complain(EXIT_USAGE, "-N: %s", g_strerror(-code));
        }
    }
    return code < 0 ? complain(EXIT_SYSTEM, "libmount: %s", g_strerror(-code)) : EXIT_OK;
}

/*
 * Whether the mount failed as the host went away after mount_connect(): the kernel says so, and the
 * socket does, too. What a server refuses is an answer, also of one that hangs up after it; and a
 * server that lives can say EIO itself.
 */
static gboolean is_lost(int fd, int code)
{
    switch (code) {
    case EIO:    /* the kernel's client, of a connection that it has given up */
    case EFAULT: /* the same, of one that ended while it waited for a reply */
    case EREMOTEIO:
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
    case ETIMEDOUT:
        return fd >= 0 && mount_is_cut(fd);
    default:
        return FALSE;
    }
}

/* *lost: another try makes sense, and nothing was told. */
static int mount_it(const struct job *job, int fd, gboolean *lost)
{
    g_autofree char *options = mount_options_join(&job->options, fd);
    char text[512];
    int code, status;

    *lost = FALSE;

    if (job->verbose) {
        printf("mount.qidmap: mount -t 9p -o %s %s %s\n", options, job->source_text, job->target);
    }
    if (mnt_context_set_fstype(job->context, "9p") < 0 ||
        mnt_context_set_source(job->context, job->source_text) < 0 ||
        mnt_context_set_target(job->context, job->target) < 0 ||
        mnt_context_set_options(job->context, options) < 0) {
        return complain(EXIT_SYSTEM, "no memory");
    }
    code = mnt_context_mount(job->context);
    if (code == 0 && mnt_context_get_status(job->context) == 1) {
        return EXIT_OK;
    }
    if (mnt_context_syscall_called(job->context) &&
        mnt_context_get_syscall_errno(job->context) != 0) {
        code = mnt_context_get_syscall_errno(job->context);
        *lost = is_lost(fd, code);
        return *lost ? EXIT_MOUNT : explain(job, code);
    }
    text[0] = '\0';
    status = mnt_context_get_excode(job->context, code, text, sizeof(text));
    return complain(status != 0 ? status : EXIT_SYSTEM, "%s: %s", job->target,
                    text[0] != '\0' ? text : g_strerror(code < 0 ? -code : EIO));
}

/* In the namespace of -N, where there is one; the host is looked for from here. */
static int check_target(const struct job *job)
{
    struct libmnt_ns *here = mnt_context_switch_target_ns(job->context);
    struct stat at;
    int status = EXIT_OK;

    if (here == NULL) {
        return complain(EXIT_SYSTEM, "cannot enter the mount namespace: %s", g_strerror(errno));
    }
    if (stat(job->target, &at) < 0) {
        status = complain(EXIT_MOUNT, "%s: %s", job->target, g_strerror(errno));
    } else if (!S_ISDIR(at.st_mode)) {
        status = complain(EXIT_MOUNT, "%s is no directory", job->target);
    }
    if (mnt_context_switch_ns(job->context, here) == NULL) {
        return complain(EXIT_SYSTEM, "cannot leave the mount namespace: %s", g_strerror(errno));
    }
    return status;
}

/* One mount over a connection of its own, with libmount's context. */
static int connect_and_mount(struct job *job, gboolean *lost)
{
    int fd = wait_for_host(job), status, flags;

    *lost = FALSE;
    if (fd < 0) {
        return EXIT_MOUNT;
    }
    /* The kernel's client wants it so; and mount(2) is to find the number that it is told. */
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        status = complain(EXIT_SYSTEM, "fcntl: %s", g_strerror(errno));
    } else {
        status = mount_it(job, fd, lost);
    }
    close(fd);
    return status;
}

static int run(struct job *job)
{
    gboolean lost = FALSE;
    int status = EXIT_OK;

    if (geteuid() != 0 && !job->fake) {
        return complain(EXIT_USAGE,
                        "only root can mount (the option user of fstab is not for this type)");
    }
    status = make_context(job);
    if (status == EXIT_OK) {
        status = check_target(job);
    }
    if (status != EXIT_OK) {
        return status;
    }
    if (job->options.remount || job->fake) {
        return mount_it(job, -1, &lost);
    }
    load_modules(job);
    if (!kernel_has_9p()) {
        return explain(job, ENODEV); /* not after having waited for a host */
    }
    begin_waiting(job);
    for (;;) {
        status = connect_and_mount(job, &lost);
        if (!lost || !wait_for_next(job, "the host went away while it was mounted")) {
            return status;
        }
        status = make_context(job);
        if (status != EXIT_OK) {
            return status;
        }
    }
}

/* ---- the command line ------------------------------------------------------------------------ */

static void add_option(char **options, const char *more)
{
    char *joined = *options != NULL ? g_strconcat(*options, ",", more, NULL) : g_strdup(more);

    g_free(*options);
    *options = joined;
}

static int parse(struct job *job, int argc, char **argv, char **options, gboolean *sloppy)
{
    int c;

    while ((c = getopt(argc, argv, "fnsvrwo:t:N:")) != -1) {
        switch (c) {
        case 'o':
            add_option(options, optarg);
            break;
        case 'r':
            add_option(options, "ro");
            break;
        case 'w':
            add_option(options, "rw");
            break;
        case 't': /* qidmap, or qidmap.SUBTYPE: it is always the kernel's 9p */
            break;
        case 's':
            *sloppy = TRUE;
            break;
        case 'v':
            job->verbose = TRUE;
            break;
        case 'f':
            job->fake = TRUE;
            break;
        case 'n':
            job->no_record = TRUE;
            break;
        case 'N':
            job->ns = optarg;
            break;
        default:
            return complain(EXIT_USAGE, "see mount.qidmap --help");
        }
    }
    if (argc - optind != 2) {
        return complain(EXIT_USAGE, "expected SOURCE and DIR; see mount.qidmap --help");
    }
    job->source_text = argv[optind];
    job->target = argv[optind + 1];
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    struct job job = {.source_text = NULL};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    gboolean sloppy = FALSE;
    int status;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return fputs(help, stdout) < 0 || fflush(stdout) != 0 ? EXIT_SYSTEM : EXIT_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("mount.qidmap (qidmap) %s\n", PACKAGE_VERSION);
        return fflush(stdout) != 0 ? EXIT_SYSTEM : EXIT_OK;
    }
    mnt_init_debug(0);
    status = parse(&job, argc, argv, &text, &sloppy);
    if (status == EXIT_OK && (!mount_source_parse(job.source_text, &job.source, &error) ||
                              !mount_options_parse(text, sloppy, &job.options, &error))) {
        status = complain(EXIT_USAGE, "%s", error->message);
    }
    if (status == EXIT_OK) {
        status = run(&job);
    }
    mount_source_clear(&job.source);
    mount_options_clear(&job.options);
    mnt_free_context(job.context);
    return status;
}
