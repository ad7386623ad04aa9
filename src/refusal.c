/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Refusals in the log. See refusal.h. */
#include "config.h"

#include "src/refusal.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdarg.h>

#include "src/log.h"
#include "src/peer.h"

#define AGAIN       (10 * 60 * G_TIME_SPAN_SECOND)
#define KEYS_MAX    1024
#define LINES_MAX   20 /* in a window */
#define LINE_WINDOW (60 * G_TIME_SPAN_SECOND)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *told; /* key -> time, as gint64 * */
static gint64 window_start;
static unsigned window_lines, unsaid;

/* What stays the same when a client comes again. */
static char *make_key(const struct peer *peer, const char *reason)
{
    char text[INET6_ADDRSTRLEN];

    switch (peer->kind) {
    case PEER_INET:
        inet_ntop(AF_INET6, &peer->address, text, sizeof text);
        return g_strdup_printf("%s tcp %s", reason, text);
    case PEER_VSOCK:
        return g_strdup_printf("%s vsock %u", reason, peer->cid);
    case PEER_UNIX:
        return g_strdup_printf("%s unix %d %u", reason, peer->has_ids, (unsigned)peer->uid);
    case PEER_UNKNOWN:
        break;
    }
    return g_strdup_printf("%s %s", reason, peer->name);
}

/* With lock held. Whether it is time for a line about `key`, which is taken. */
static bool is_new(char *key, gint64 now)
{
    gint64 *before;

    if (told == NULL)
        told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    before = g_hash_table_lookup(told, key);
    if (before != NULL && now - *before < AGAIN) {
        g_free(key);
        return false;
    }
    if (g_hash_table_size(told) >= KEYS_MAX) /* bounded: some are told again */
        g_hash_table_remove_all(told);
    before = g_new(gint64, 1);
    *before = now;
    g_hash_table_insert(told, key, before);
    return true;
}

/* With lock held. Whether one more line fits; *missed: how many did not before. */
static bool has_room(gint64 now, unsigned *missed)
{
    *missed = 0;
    if (window_start == 0 || now - window_start >= LINE_WINDOW) {
        window_start = now;
        window_lines = 0;
    }
    if (window_lines >= LINES_MAX) {
        unsaid++;
        return false;
    }
    window_lines++;
    *missed = unsaid;
    unsaid = 0;
    return true;
}

void refusal_tell(const struct peer *peer, const char *reason, const char *format, ...)
{
    gint64 now = g_get_monotonic_time();
    g_autofree char *text = NULL;
    unsigned missed = 0;
    bool tell;
    va_list args;

    pthread_mutex_lock(&lock);
    tell = is_new(make_key(peer, reason), now) && has_room(now, &missed);
    pthread_mutex_unlock(&lock);
    if (!tell)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (missed > 0)
        log_warning("%s: %s (and %u other refusals, not shown)", peer->name, text, missed);
    else
        log_warning("%s: %s", peer->name, text);
}
