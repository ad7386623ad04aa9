/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which filesystems cannot hold a store, by the number that statfs(2) gives. Asks nothing else. */
#include "config.h"

#include "store/place.h"

#include <stddef.h>
#include <sys/vfs.h>

#include <glib.h>

static const struct {
    unsigned long type;
    const char *name;
} unfit[] = {
    {0x6969, "NFS"},        {0x517b, "SMB"},      {0xff534d42, "CIFS"},
    {0xfe534d42, "SMB2"},   {0x65735546, "FUSE"}, {0x01021997, "9P"},
    {0x00c36400, "Ceph"},   {0x5346414f, "AFS"},  {0x6b414653, "AFS (kAFS)"},
    {0x0bd00bd0, "Lustre"}, {0x73757245, "Coda"}, {0x7461636f, "OCFS2"},
    {0x01161970, "GFS2"},
};

const char *qm_place_unfit(int fd)
{
    struct statfs sfs;
    size_t i;

    if (fstatfs(fd, &sfs) != 0)
        return NULL; /* the next call on it fails, too */
    for (i = 0; i < G_N_ELEMENTS(unfit); i++) {
        if ((unsigned long)(unsigned int)sfs.f_type == unfit[i].type)
            return unfit[i].name;
    }
    return NULL;
}
