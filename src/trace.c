/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which sessions are traced. See trace.h; the words are trace-format.c's. */
#include "config.h"

#include "src/trace.h"

#include <string.h>

#include "src/fail.h"
#include "src/log.h"

static GPtrArray *peers;   /* char *; read-only once threads run */
static GArray *ids;        /* uint64_t; the same */
static uint32_t everybody; /* atomic */

/* The address of peer=ADDR; else NULL. */
static const char *peer_of(const char *spec)
{
    const char *peer = g_str_has_prefix(spec, "peer=") ? spec + strlen("peer=") : NULL;

    return peer != NULL && *peer != '\0' ? peer : NULL;
}

static bool id_of(const char *spec, guint64 *id)
{
    return g_ascii_string_to_unsigned(spec, 10, 1, G_MAXUINT64, id, NULL);
}

bool trace_check(const char *spec, GError **error)
{
    guint64 id;

    if (strcmp(spec, "all") == 0 || peer_of(spec) != NULL || id_of(spec, &id))
        return true;
    return fail_usage(error, "trace: '%s' is none of all, peer=ADDR, the number of a session",
                      spec);
}

bool trace_add(const char *spec, GError **error)
{
    const char *peer = peer_of(spec);
    guint64 id;

    if (!trace_check(spec, error))
        return false;
    if (peer != NULL) {
        if (peers == NULL)
            peers = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(peers, g_strdup(peer));
        return true;
    }
    if (!id_of(spec, &id)) {
        trace_all(true);
        return true;
    }
    if (ids == NULL)
        ids = g_array_new(FALSE, FALSE, sizeof id);
    g_array_append_val(ids, id);
    return true;
}

static bool peer_matches(const char *peer, const char *wanted)
{
    size_t len = strlen(wanted);

    return strncmp(peer, wanted, len) == 0 &&
           (peer[len] == '\0' || strchr(":, ", peer[len]) != NULL);
}

static void set(struct stats_session *session, bool on)
{
    __atomic_store_n(&session->traced, on ? 1 : 0, __ATOMIC_RELAXED);
}

void trace_begin(struct stats_session *session)
{
    for (guint i = 0; peers != NULL && i < peers->len; i++)
        if (peer_matches(session->peer, g_ptr_array_index(peers, i)))
            set(session, true);
    for (guint i = 0; ids != NULL && i < ids->len; i++)
        if (session->id == g_array_index(ids, uint64_t, i))
            set(session, true);
    if (__atomic_load_n(&everybody, __ATOMIC_SEQ_CST))
        set(session, true);
}

struct wanted {
    uint64_t id;
    bool on, all, found;
};

static void visit(struct stats_session *session, void *data)
{
    struct wanted *wanted = data;

    if (wanted->all || session->id == wanted->id) {
        set(session, wanted->on);
        wanted->found = true;
    }
}

bool trace_session(uint64_t id, bool on)
{
    struct wanted wanted = {.id = id, .on = on};

    stats_each(visit, &wanted);
    return wanted.found;
}

void trace_all(bool on)
{
    struct wanted wanted = {.on = on, .all = true};

    __atomic_store_n(&everybody, on ? 1 : 0, __ATOMIC_SEQ_CST);
    stats_each(visit, &wanted);
}

void trace_request(const struct stats_session *session, const struct wire_msg *msg)
{
    char text[TRACE_LINE];

    trace_format_request(msg, text, sizeof text);
    log_trace("%" G_GUINT64_FORMAT " > %s", session->id, text);
}

void trace_reply(const struct stats_session *session, const uint8_t *bytes, size_t size,
                 uint64_t nanoseconds)
{
    char text[TRACE_LINE];

    trace_format_reply(bytes, size, text, sizeof text);
    log_trace("%" G_GUINT64_FORMAT " < %s; %.1f us", session->id, text, (double)nanoseconds / 1e3);
}

void trace_free(void)
{
    g_clear_pointer(&peers, g_ptr_array_unref);
    g_clear_pointer(&ids, g_array_unref);
}
