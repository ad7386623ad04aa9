/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors of fids. See fd-cache.h. */
#include "config.h"

#include "src/fd-cache.h"

#include <unistd.h>

#include "src/fid.h"

void fd_cache_begin(struct fid *fid)
{
    fid->fd = -1;
}

int fd_cache_hold(struct fid *fid)
{
    (void)fid;
    return 0;
}

bool fd_cache_release(struct fid *fid)
{
    (void)fid;
    return false;
}

void fd_cache_trim(void)
{
}

bool fd_cache_relieve(void)
{
    return false;
}

void fd_cache_replace(struct fid *fid, int fd)
{
    if (fid->fd >= 0)
        close(fid->fd);
    fid->fd = fd;
}

void fd_cache_end(struct fid *fid)
{
    if (fid->fd >= 0)
        close(fid->fd);
}
