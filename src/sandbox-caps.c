/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which capabilities the daemon keeps, and getting rid of the others, for itself and, by the
 * bounding set, for whatever it could become.
 */
#include "config.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/sandbox.h"

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT           47
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

/* tests/root-isolate.sh takes each of them away and shows what no longer works. */
static const unsigned char needed[] = {
    CAP_CHOWN,           /* Tsetattr by root; giving new files to their owner */
    CAP_DAC_OVERRIDE,    /* all files of all users, as root and to store ids */
    CAP_DAC_READ_SEARCH, /* open_by_handle_at(2) */
    CAP_FOWNER,          /* chmod and utimensat by root on files of others */
    CAP_FSETID,          /* set-group-id stays when root changes a mode */
    CAP_SETUID,          /* acting as the user: setfsuid(2) */
    CAP_SETGID,          /* and with the user's groups */
    CAP_MKNOD,           /* device nodes, made by root */
    CAP_SETFCAP,         /* security.capability, set by root */
    CAP_SYS_ADMIN,       /* trusted.* xattrs: markers, xattr: stores, overlays */
};

uint64_t sandbox_caps_needed(void)
{
    uint64_t mask = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(needed); i++)
        mask |= UINT64_C(1) << needed[i];
    return mask;
}

static int get(struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

    return syscall(SYS_capget, &header, caps) < 0 ? -errno : 0;
}

guint sandbox_caps_count(void)
{
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

    if (get(caps) != 0)
        return 0;
    return (guint)(__builtin_popcount(caps[0].permitted) + __builtin_popcount(caps[1].permitted));
}

int sandbox_caps_cut(uint64_t mask)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    int error = get(caps);

    if (error != 0)
        return error;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    /* Without CAP_SETPCAP the bounding set stays; no_new_privs makes it worthless. */
    if (caps[0].effective & (1u << CAP_SETPCAP))
        for (unsigned long cap = 0; cap < 64; cap++)
            if (!(mask & (UINT64_C(1) << cap)) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 &&
                prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
                return -errno;
    for (unsigned i = 0; i < 2; i++) {
        caps[i].permitted &= (uint32_t)(mask >> (32 * i));
        caps[i].effective &= caps[i].permitted;
        caps[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, caps) < 0 ? -errno : 0;
}
