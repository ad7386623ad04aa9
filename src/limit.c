/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Accounts of what clients hold. See limit.h. */
#include "config.h"

#include "src/limit.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#include "src/log.h"

static struct limit_settings bounds; /* atomic, each number */
static uint64_t total[LIMIT_COUNT];  /* atomic */

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
                    [LIMIT_REQUESTS] = 128,
                    [LIMIT_FILES] = files,
                    [LIMIT_MEMORY] = 64 * mib,
                    [LIMIT_LOCKS] = 16384},
        .daemon = {[LIMIT_FIDS] = 4000000,
                   [LIMIT_REQUESTS] = 65536,
                   [LIMIT_FILES] = files,
                   [LIMIT_MEMORY] = 512 * mib,
                   [LIMIT_LOCKS] = 65536},
        .connections = MIN(10000, files / 2),
    };
}

/* A number of bytes or things. */
static bool parse(const char *text, uint64_t *value)
{
    char *end = NULL;
    unsigned shift = 0;

    if (!g_ascii_isdigit(text[0]))
        return false;
    errno = 0;
    *value = g_ascii_strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    if (*end == 'K')
        shift = 10;
    else if (*end == 'M')
        shift = 20;
    else if (*end == 'G')
        shift = 30;
    if (shift > 0)
        end++;
    if (*end != '\0' || *value > (uint64_t)INT64_MAX >> shift)
        return false;
    *value <<= shift;
    return true;
}

bool limit_set(struct limit_settings *settings, const char *text)
{
    const char *equals = strchr(text, '=');
    uint64_t value;

    if (equals == NULL || !parse(equals + 1, &value))
        return false;
    g_autofree char *name = g_strndup(text, (gsize)(equals - text));
    if (strcmp(name, "connections") == 0) {
        settings->connections = value;
        return true;
    }
    for (int i = 0; i < LIMIT_COUNT; i++)
        if (strcmp(name, kinds[i].name) == 0) {
            settings->session[i] = value;
            return true;
        } else if (g_str_has_prefix(name, "total-") && strcmp(name + 6, kinds[i].name) == 0) {
            settings->daemon[i] = value;
            return true;
        }
    return false;
}

void limit_init(const struct limit_settings *settings)
{
    for (int i = 0; i < LIMIT_COUNT; i++) {
        __atomic_store_n(&bounds.session[i], settings->session[i], __ATOMIC_RELAXED);
        __atomic_store_n(&bounds.daemon[i], settings->daemon[i], __ATOMIC_RELAXED);
    }
}

static uint64_t session_bound(enum limit limit)
{
    return __atomic_load_n(&bounds.session[limit], __ATOMIC_RELAXED);
}

static uint64_t daemon_bound(enum limit limit)
{
    return __atomic_load_n(&bounds.daemon[limit], __ATOMIC_RELAXED);
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

    if (!add(&account->used[limit], amount, session_bound(limit)))
        error = -kinds[limit].session_errno;
    else if (!add(&total[limit], amount, daemon_bound(limit))) {
        __atomic_fetch_sub(&account->used[limit], amount, __ATOMIC_RELAXED);
        error = -kinds[limit].daemon_errno;
    }
    /* Too many requests are no refusal: the session waits. */
    if (error != 0 && limit != LIMIT_REQUESTS &&
        !(__atomic_fetch_or(&account->told, bit, __ATOMIC_RELAXED) & bit)) {
        bool session = error == -kinds[limit].session_errno &&
                       session_bound(limit) <
                           amount + __atomic_load_n(&account->used[limit], __ATOMIC_RELAXED);

        log_warning("connection %" G_GUINT64_FORMAT
                    ": what it asks for exceeds the limit %s%s=%" G_GUINT64_FORMAT
                    "; such requests get an error, and this is not told again "
                    "for it",
                    account->id, session ? "" : "total-", kinds[limit].name,
                    session ? session_bound(limit) : daemon_bound(limit));
        if (first != NULL)
            *first = true;
    }
    return error;
}

void limit_force(struct limit_account *account, enum limit limit, uint64_t amount)
{
    __atomic_fetch_add(&account->used[limit], amount, __ATOMIC_RELAXED);
    __atomic_fetch_add(&total[limit], amount, __ATOMIC_RELAXED);
}

uint64_t limit_bound(enum limit limit)
{
    return session_bound(limit);
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
