/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount.qidmap, the helper of mount(8) in a guest: what its files say to each other.
 *
 * The parts: mount-qidmap.c the command line, and the mount itself; mount-qidmap-options.c what
 * source and options mean; mount-qidmap-connect.c the connection to the host. None of them knows
 * anything of the server's code or of libqidmap: a guest has neither.
 */
#ifndef TOOLS_MOUNT_QIDMAP_H
#define TOOLS_MOUNT_QIDMAP_H

#include <glib.h>
#include <stdint.h>

#define MOUNT_PORT          564    /* of 9P, where the source has none */
#define MOUNT_MSIZE         262144 /* where there is no msize= */
#define MOUNT_MSIZE_MIN     4096   /* of the kernel's client */
#define MOUNT_MSIZE_MAX     (16U << 20)
#define MOUNT_RETRY         60 /* seconds, where there is no retry= */
#define MOUNT_RETRY_MAX     86400
#define MOUNT_TRY_MS        10000 /* one try: who does not answer is not waited for till the end */
#define MOUNT_KERNEL_LENGTH 3800  /* bytes of options: the kernel cuts them off at a page */

enum mount_transport { MOUNT_VSOCK, MOUNT_TCP, MOUNT_UNIX };

/* Where the host is. */
typedef struct mount_source {
    enum mount_transport transport;
    uint32_t cid, port; /* MOUNT_VSOCK; port of MOUNT_TCP */
    char *host;         /* MOUNT_TCP: name or address, without brackets; else NULL */
    char *path;         /* MOUNT_UNIX: absolute; else NULL */
} mount_source;

/* vsock:CID[:PORT], tcp:HOST[:PORT] or unix:PATH. CID is a number, `host` (2) or `local` (1). */
gboolean mount_source_parse(const char *text, struct mount_source *source, GError **error);
void mount_source_clear(struct mount_source *source);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(mount_source, mount_source_clear)

/* What the options say. */
typedef struct mount_options {
    char *aname;  /* as given; NULL: none */
    char *passed; /* for libmount, which sorts flags and words of fstab from what the kernel
                   * gets; never NULL */
    uint32_t msize;
    unsigned retry;   /* seconds; 0: one try */
    gboolean remount; /* of what is mounted: nothing is connected */
} mount_options;

/*
 * Reads `text`, options as mount(8) hands them (NULL: none). What neither mount(8) nor the kernel's
 * 9p client knows is an error, as the kernel says nothing about it; with `sloppy` it is left out.
 */
gboolean mount_options_parse(const char *text, gboolean sloppy, struct mount_options *options,
                             GError **error);
void mount_options_clear(struct mount_options *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(mount_options, mount_options_clear)

/* The whole option string for a mount over the descriptor `fd`; for a remount, -1. To be freed. */
char *mount_options_join(const struct mount_options *options, int fd);

/*
 * One try to reach the server within `timeout` ms: connects, and asks it for 9P2000.L with
 * Tversion, which the kernel will do once more (each Tversion begins a session anew). Returns the
 * socket, not blocking; or -1, and *again tells whether another try later makes sense.
 */
int mount_connect(const struct mount_source *source, uint32_t msize, int timeout, gboolean *again,
                  GError **error);

/* Whether the other end of a socket of mount_connect() has closed it, or is gone. */
gboolean mount_is_cut(int fd);

#define MOUNT_ERROR mount_error_quark()
GQuark mount_error_quark(void);

#endif
