/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counters and latencies. See stats.h. */
#include "config.h"

#include "src/stats.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "src/log.h"
#include "src/wire.h"

#define FIRST_POWER 10 /* of two: where the first bucket ends */
#define LAST_POWER  36

G_STATIC_ASSERT(STATS_BUCKETS == 1 + (LAST_POWER - FIRST_POWER) * 4 + 1);

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stats_session *sessions; /* the latest first */
static struct stats_kind *ended[STATS_KINDS];
static uint64_t ended_count;
static int64_t since;

/* ---- counting -------------------------------------------------------------------------------- */

static void add(uint64_t *counter, uint64_t amount)
{
    __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}

static uint64_t get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void raise_to(uint64_t *most, uint64_t value)
{
    uint64_t now = get(most);

    while (now < value && !__atomic_compare_exchange_n(most, &now, value, true, __ATOMIC_RELAXED,
                                                       __ATOMIC_RELAXED))
        continue;
}

static uint64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

unsigned stats_bucket(uint64_t nanoseconds)
{
    unsigned power;

    if (nanoseconds < (uint64_t)1 << FIRST_POWER)
        return 0;
    power = 63 - (unsigned)__builtin_clzll(nanoseconds);
    if (power >= LAST_POWER)
        return STATS_BUCKETS - 1;
    return 1 + (power - FIRST_POWER) * 4 + (unsigned)((nanoseconds >> (power - 2)) & 3);
}

uint64_t stats_bucket_floor(unsigned bucket)
{
    unsigned power, quarter;

    if (bucket == 0)
        return 0;
    power = FIRST_POWER + (bucket - 1) / 4;
    quarter = (bucket - 1) % 4;
    return ((uint64_t)4 + quarter) << (power - 2);
}

static unsigned kind_of(uint8_t type)
{
    return wire_type_name(type)[0] == 'T' ? type / 2u : 0;
}

static void *new_aligned(size_t size)
{
    void *room = NULL;

    if (posix_memalign(&room, 64, size) != 0)
        g_error("out of memory");
    return memset(room, 0, size);
}

/* This thread's shard. */
static struct stats_shard *shard_of(struct stats_session *session)
{
    static __thread unsigned number; /* 0: none yet */
    static unsigned next;            /* atomic */

    if (number == 0)
        number = 1 + __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % STATS_SHARDS;
    return &session->shards[number - 1];
}

/* The counters of a kind, made at first use; two threads may try at once. */
static struct stats_kind *kind_get(struct stats_shard *shard, unsigned kind)
{
    struct stats_kind *now = __atomic_load_n(&shard->kinds[kind], __ATOMIC_ACQUIRE), *made;

    if (now != NULL)
        return now;
    made = new_aligned(sizeof *made);
    if (__atomic_compare_exchange_n(&shard->kinds[kind], &now, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return made;
    free(made);
    return now;
}

uint64_t stats_start(struct stats_session *session)
{
    __atomic_fetch_add(&shard_of(session)->in_flight, 1, __ATOMIC_RELAXED);
    return clock_now();
}

uint64_t stats_done(struct stats_session *session, uint64_t start, uint8_t type, uint64_t bytes_in,
                    uint64_t bytes_out, bool failed)
{
    struct stats_shard *shard = shard_of(session);
    struct stats_kind *kind = kind_get(shard, kind_of(type));
    uint64_t took = clock_now() - start;

    if (failed)
        add(&kind->errors, 1);
    add(&kind->bytes_in, bytes_in);
    add(&kind->bytes_out, bytes_out);
    add(&kind->nanoseconds, took);
    add(&kind->buckets[stats_bucket(took)], 1);
    raise_to(&kind->slowest, took);
    __atomic_fetch_sub(&shard->in_flight, 1, __ATOMIC_RELAXED);
    return took;
}

/* ---- sessions -------------------------------------------------------------------------------- */

struct stats_session *stats_begin(uint64_t id, const char *peer,
                                  const struct limit_account *account)
{
    struct stats_session *session = g_new0(struct stats_session, 1);

    session->id = id;
    session->peer = g_strdup(peer);
    session->account = account;
    session->since = (int64_t)time(NULL);
    session->shards = new_aligned(STATS_SHARDS * sizeof *session->shards);
    pthread_mutex_lock(&list_lock);
    if (since == 0)
        since = session->since;
    session->next = sessions;
    if (sessions != NULL)
        sessions->prev = session;
    sessions = session;
    pthread_mutex_unlock(&list_lock);
    return session;
}

/* Adds what `from` has; `to` belongs to one thread. */
static void sum(struct stats_kind **to, const struct stats_kind *from)
{
    if (from == NULL)
        return;
    if (*to == NULL)
        *to = g_new0(struct stats_kind, 1);
    (*to)->errors += get(&from->errors);
    (*to)->bytes_in += get(&from->bytes_in);
    (*to)->bytes_out += get(&from->bytes_out);
    (*to)->nanoseconds += get(&from->nanoseconds);
    (*to)->slowest = MAX((*to)->slowest, get(&from->slowest));
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        uint64_t count = get(&from->buckets[i]);

        (*to)->buckets[i] += count;
        (*to)->count += count;
    }
}

void stats_end(struct stats_session *session)
{
    if (session == NULL)
        return;
    pthread_mutex_lock(&list_lock);
    if (session->next != NULL)
        session->next->prev = session->prev;
    if (session->prev != NULL)
        session->prev->next = session->next;
    else
        sessions = session->next;
    for (unsigned s = 0; s < STATS_SHARDS; s++)
        for (unsigned i = 0; i < STATS_KINDS; i++)
            sum(&ended[i], session->shards[s].kinds[i]);
    ended_count++;
    pthread_mutex_unlock(&list_lock);
    for (unsigned s = 0; s < STATS_SHARDS; s++)
        for (unsigned i = 0; i < STATS_KINDS; i++)
            free(session->shards[s].kinds[i]);
    free(session->shards);
    g_free(session->peer);
    g_free(session);
}

void stats_attached(struct stats_session *session, uint32_t uid, const char *name,
                    const char *export)
{
    struct stats_user user = {.uid = uid};
    unsigned at = 0;

    g_strlcpy(user.name, name, sizeof user.name);
    g_strlcpy(user.export, export, sizeof user.export);
    pthread_mutex_lock(&list_lock);
    while (at < session->user_count && memcmp(&session->users[at], &user, sizeof user) != 0)
        at++;
    if (at == session->user_count) {
        if (session->user_count < STATS_USERS)
            session->user_count++;
        at = session->user_count - 1;
    }
    memmove(&session->users[1], &session->users[0], at * sizeof user);
    session->users[0] = user;
    pthread_mutex_unlock(&list_lock);
}

void stats_each(void (*visit)(struct stats_session *session, void *data), void *data)
{
    pthread_mutex_lock(&list_lock);
    for (struct stats_session *session = sessions; session != NULL; session = session->next)
        visit(session, data);
    pthread_mutex_unlock(&list_lock);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void snapshot_session_free(gpointer data)
{
    struct stats_snapshot_session *session = data;

    for (unsigned i = 0; i < STATS_KINDS; i++)
        g_free(session->kinds[i]);
    g_free(session->peer);
    g_free(session);
}

static void total(struct stats_kind *const kinds[STATS_KINDS], uint64_t *count, uint64_t *errors,
                  uint64_t *bytes_in, uint64_t *bytes_out)
{
    for (unsigned i = 0; i < STATS_KINDS; i++) {
        if (kinds[i] == NULL)
            continue;
        *count += kinds[i]->count;
        *errors += kinds[i]->errors;
        *bytes_in += kinds[i]->bytes_in;
        *bytes_out += kinds[i]->bytes_out;
    }
}

/* With list_lock held. */
static struct stats_snapshot_session *look(const struct stats_session *session)
{
    struct stats_snapshot_session *seen = g_new0(struct stats_snapshot_session, 1);

    seen->id = session->id;
    seen->peer = g_strdup(session->peer);
    seen->since = session->since;
    memcpy(seen->users, session->users, sizeof seen->users);
    seen->user_count = session->user_count;
    if (session->account != NULL) {
        seen->fids = get(&session->account->used[LIMIT_FIDS]);
        seen->files = get(&session->account->used[LIMIT_FILES]);
        seen->locks = get(&session->account->used[LIMIT_LOCKS]);
        seen->memory = get(&session->account->used[LIMIT_MEMORY]);
    }
    for (unsigned s = 0; s < STATS_SHARDS; s++) {
        struct stats_shard *shard = &session->shards[s];

        seen->in_flight += (uint32_t)__atomic_load_n(&shard->in_flight, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < STATS_KINDS; i++)
            sum(&seen->kinds[i], __atomic_load_n(&shard->kinds[i], __ATOMIC_ACQUIRE));
    }
    seen->traced = __atomic_load_n(&session->traced, __ATOMIC_RELAXED) != 0;
    total(seen->kinds, &seen->count, &seen->errors, &seen->bytes_in, &seen->bytes_out);
    return seen;
}

struct stats_snapshot *stats_snapshot(void)
{
    struct stats_snapshot *snapshot = g_new0(struct stats_snapshot, 1);
    struct stats_session *last = NULL;

    snapshot->sessions = g_ptr_array_new_with_free_func(snapshot_session_free);
    snapshot->now = (int64_t)time(NULL);
    pthread_mutex_lock(&list_lock);
    snapshot->since = since;
    snapshot->sessions_ended = ended_count;
    for (unsigned i = 0; i < STATS_KINDS; i++)
        sum(&snapshot->kinds[i], ended[i]);
    for (struct stats_session *session = sessions; session != NULL; session = session->next)
        last = session;
    for (; last != NULL; last = last->prev)
        g_ptr_array_add(snapshot->sessions, look(last));
    pthread_mutex_unlock(&list_lock);
    for (guint s = 0; s < snapshot->sessions->len; s++) {
        const struct stats_snapshot_session *seen = g_ptr_array_index(snapshot->sessions, s);

        for (unsigned i = 0; i < STATS_KINDS; i++)
            sum(&snapshot->kinds[i], seen->kinds[i]);
    }
    total(snapshot->kinds, &snapshot->count, &snapshot->errors, &snapshot->bytes_in,
          &snapshot->bytes_out);
    return snapshot;
}

void stats_snapshot_free(struct stats_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    for (unsigned i = 0; i < STATS_KINDS; i++)
        g_free(snapshot->kinds[i]);
    g_ptr_array_free(snapshot->sessions, TRUE);
    g_free(snapshot);
}

const char *stats_kind_name(unsigned kind)
{
    return kind > 0 && kind < STATS_KINDS ? wire_type_name((uint8_t)(kind * 2)) : "unknown";
}

uint64_t stats_quantile(const struct stats_kind *kind, unsigned permille)
{
    uint64_t sum_all = 0, wanted, seen = 0;

    for (unsigned i = 0; i < STATS_BUCKETS; i++)
        sum_all += kind->buckets[i];
    if (sum_all == 0)
        return 0;
    wanted = sum_all / 1000 * permille + (sum_all % 1000 * permille + 999) / 1000;
    for (unsigned i = 0; i < STATS_BUCKETS - 1; i++) {
        seen += kind->buckets[i];
        if (seen >= wanted)
            return MIN(stats_bucket_floor(i + 1), kind->slowest);
    }
    return kind->slowest;
}

static void log_kinds(struct stats_kind *const kinds[STATS_KINDS])
{
    for (unsigned i = 0; i < STATS_KINDS; i++) {
        const struct stats_kind *kind = kinds[i];

        if (kind == NULL || kind->count == 0)
            continue;
        log_info("stats: %s: %" G_GUINT64_FORMAT " messages, %" G_GUINT64_FORMAT
                 " errors, %" G_GUINT64_FORMAT " bytes in, %" G_GUINT64_FORMAT
                 " out; us: mean %.1f, 50%% %.1f, 99%% %.1f, slowest %.1f",
                 stats_kind_name(i), kind->count, kind->errors, kind->bytes_in, kind->bytes_out,
                 (double)kind->nanoseconds / (double)kind->count / 1e3,
                 (double)stats_quantile(kind, 500) / 1e3, (double)stats_quantile(kind, 990) / 1e3,
                 (double)kind->slowest / 1e3);
    }
}

void stats_log(void)
{
    struct stats_snapshot *snapshot = stats_snapshot();

    log_info("stats: %" G_GUINT64_FORMAT " messages, %" G_GUINT64_FORMAT
             " errors, %" G_GUINT64_FORMAT " bytes in, %" G_GUINT64_FORMAT
             " out; sessions: %u now, %" G_GUINT64_FORMAT " ended",
             snapshot->count, snapshot->errors, snapshot->bytes_in, snapshot->bytes_out,
             snapshot->sessions->len, snapshot->sessions_ended);
    log_kinds(snapshot->kinds);
    for (guint s = 0; s < snapshot->sessions->len; s++) {
        const struct stats_snapshot_session *seen = g_ptr_array_index(snapshot->sessions, s);
        g_autoptr(GString) users = g_string_new(NULL);

        for (unsigned i = 0; i < seen->user_count; i++)
            g_string_append_printf(users, "%s'%s' (%u) on '%s'", i > 0 ? ", " : "",
                                   seen->users[i].name, seen->users[i].uid, seen->users[i].export);
        log_info("stats: session %" G_GUINT64_FORMAT " of %s, %" G_GINT64_FORMAT
                 " s: %" G_GUINT64_FORMAT " fids, %" G_GUINT64_FORMAT " files, %" G_GUINT64_FORMAT
                 " locks, %u in flight, %" G_GUINT64_FORMAT " messages, %" G_GUINT64_FORMAT
                 " errors, %" G_GUINT64_FORMAT " bytes in, %" G_GUINT64_FORMAT
                 " out%s; attached: %s",
                 seen->id, seen->peer, snapshot->now - seen->since, seen->fids, seen->files,
                 seen->locks, seen->in_flight, seen->count, seen->errors, seen->bytes_in,
                 seen->bytes_out, seen->traced ? ", traced" : "", users->str);
    }
    stats_snapshot_free(snapshot);
}
