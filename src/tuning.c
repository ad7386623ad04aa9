/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers of the settings. See tuning.h. */
#include "config.h"

#include "src/tuning.h"

#include <sys/resource.h>

#include "src/fd-cache.h"
#include "src/limit.h"
#include "src/worker.h"

#define DESCRIPTORS_MAX (1u << 20)

/* What the process may hold is shared out: half to files that clients have open, a quarter to fids
 * that may do without, an eighth to files that have no name any more, the rest to connections; a
 * want of more takes from the fids. Each thread needs a few for a moment, and so do stores and
 * lists of mounts. */
static uint64_t share_of_descriptors(const struct settings *settings)
{
    struct rlimit limit;
    uint64_t all, own;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit.rlim_cur = 1024;
    all = MIN(limit.rlim_cur, DESCRIPTORS_MAX);
    own = MIN(64 + 4 * (uint64_t)settings->threads, all / 2);
    return (all - own) / 8;
}

static void set_limits(const struct settings *settings, struct server *server)
{
    struct limit_settings limits;

    limit_defaults(&limits, share_of_descriptors(settings) * 4);
    /* A session has room for a message that is received, and for others that are answered. */
    limits.session[LIMIT_MEMORY] =
        MAX(limits.session[LIMIT_MEMORY], 4 * (uint64_t)settings->msize_max);
    limits.daemon[LIMIT_MEMORY] =
        MAX(limits.daemon[LIMIT_MEMORY], 2 * limits.session[LIMIT_MEMORY]);
    for (guint i = 0; i < settings->limits->len; i++)
        limit_set(&limits, g_ptr_array_index(settings->limits, i));
    limit_init(&limits);
    __atomic_store_n(&server->connections_max,
                     (unsigned)MIN(limits.connections, (uint64_t)G_MAXINT), __ATOMIC_RELAXED);
    __atomic_store_n(&server->idle_seconds, settings->idle_seconds, __ATOMIC_RELAXED);
    __atomic_store_n(&server->stall_seconds, settings->stall_seconds, __ATOMIC_RELAXED);
}

void tuning_init(const struct settings *settings, struct server *server)
{
    struct rlimit limit;
    uint64_t share;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    share = share_of_descriptors(settings);
    set_limits(settings, server);
    fd_cache_init(settings->descriptors != 0 ? settings->descriptors : share * 2, share);
}

void tuning_change(const struct settings *settings, struct server *server)
{
    set_limits(settings, server);
    worker_set_tick(tuning_tick(server));
}

unsigned tuning_tick(const struct server *server)
{
    unsigned seconds = 60, idle = __atomic_load_n(&server->idle_seconds, __ATOMIC_RELAXED);
    unsigned stall = __atomic_load_n(&server->stall_seconds, __ATOMIC_RELAXED);

    if (idle > 0)
        seconds = MIN(seconds, idle);
    if (stall > 0)
        seconds = MIN(seconds, stall);
    return seconds * 1000 / 4;
}
