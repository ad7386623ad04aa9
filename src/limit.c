/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accounts of what clients hold. See limit.h. */
#include "config.h"

#include "src/limit.h"

#include <errno.h>
#include <glib.h>

static struct limit_settings bounds;
static uint64_t total[LIMIT_COUNT]; /* atomic */

static const struct {
    const char *name;
    int session_errno;
    int daemon_errno;
} kinds[LIMIT_COUNT] = {
    [LIMIT_FIDS] = {"fids", EMFILE, ENFILE},   [LIMIT_REQUESTS] = {"requests", EAGAIN, EAGAIN},
    [LIMIT_FILES] = {"files", EMFILE, ENFILE}, [LIMIT_MEMORY] = {"memory", ENOMEM, ENOMEM},
    [LIMIT_LOCKS] = {"locks", ENOLCK, ENOLCK},
};

void limit_defaults(struct limit_settings *settings, uint64_t files)
{
    const uint64_t mib = 1024 * 1024;

    *settings = (struct limit_settings){
        .session = {[LIMIT_FIDS] = 1000000,
                    [LIMIT_REQUESTS] = 32,
                    [LIMIT_FILES] = files,
                    [LIMIT_MEMORY] = 64 * mib,
                    [LIMIT_LOCKS] = 16384},
        .daemon = {[LIMIT_FIDS] = 4000000,
                   [LIMIT_REQUESTS] = 65536,
                   [LIMIT_FILES] = files,
                   [LIMIT_MEMORY] = 512 * mib,
                   [LIMIT_LOCKS] = 65536},
    };
}

void limit_init(const struct limit_settings *settings)
{
    bounds = *settings;
}

/* Adds `amount` where the sum stays within `bound`. */
static bool add(uint64_t *used, uint64_t amount, uint64_t bound)
{
    uint64_t now = __atomic_load_n(used, __ATOMIC_RELAXED);

    do
        if (now > bound || amount > bound - now)
            return false;
    while (!__atomic_compare_exchange_n(used, &now, now + amount, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
    return true;
}

int limit_take(struct limit_account *account, enum limit limit, uint64_t amount, bool *first)
{
    uint32_t bit = 1u << limit;
    int error = 0;

    if (!add(&account->used[limit], amount, bounds.session[limit]))
        error = -kinds[limit].session_errno;
    else if (!add(&total[limit], amount, bounds.daemon[limit])) {
        __atomic_fetch_sub(&account->used[limit], amount, __ATOMIC_RELAXED);
        error = -kinds[limit].daemon_errno;
    }
    if (error != 0 && first != NULL)
        *first = !(__atomic_fetch_or(&account->told, bit, __ATOMIC_RELAXED) & bit);
    return error;
}

void limit_give(struct limit_account *account, enum limit limit, uint64_t amount)
{
    uint64_t before = __atomic_fetch_sub(&account->used[limit], amount, __ATOMIC_RELAXED);

    g_assert(before >= amount);
    __atomic_fetch_sub(&total[limit], amount, __ATOMIC_RELAXED);
}

uint64_t limit_used(enum limit limit)
{
    return __atomic_load_n(&total[limit], __ATOMIC_RELAXED);
}

const char *limit_name(enum limit limit)
{
    return kinds[limit].name;
}
