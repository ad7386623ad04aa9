/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which user a uid or a name is, and in which groups, from the host's databases.
 *
 * These may be on a network, and hang. So what they said is kept for some seconds; the same
 * question is asked once at a time; few threads ask at all, and few wait for those where they
 * hang: what comes beyond is told to try again, and the other threads go on serving.
 *
 * Owns the answers and who asks. Must not know of fids, nor change what a thread acts as.
 */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <string.h>
#include <time.h>

#include "src/log.h"
#include "src/privs.h"
#include "src/proto.h"

#define GROUPS_MAX    65536
#define FRESH_SECONDS 10
#define WAIT_SECONDS  5
#define MOMENT_US     1000000 /* no answer for so long: they hang */
#define ANSWERS_MAX   4096

struct answer {
    struct privs_user *user; /* NULL: being asked for */
    time_t since;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static GHashTable *answers; /* name or number -> struct answer */
static unsigned asking, waiting, asking_max = 8, waiting_max = 16;
static int64_t moved; /* monotonic: an answer came, or was asked for when none was */
static bool failing;  /* was told */

static void answer_free(gpointer data)
{
    struct answer *answer = data;

    privs_user_unref(answer->user);
    g_free(answer);
}

static void init(void)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&came, &attr);
    pthread_condattr_destroy(&attr);
    answers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, answer_free);
}

void privs_user_set_threads(unsigned threads)
{
    asking_max = MAX(threads / 8, 1);
    waiting_max = MAX(threads / 4, 1);
}

static time_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

/* getgrouplist(3) tells of no failure: it leaves out the groups that it could not read. What the
 * last module left in errno says so; not that there is no such service, nor what belongs to
 * success. */
static bool is_failure(int error)
{
    return error == EIO || error == EACCES || error == EMFILE || error == ENFILE ||
           error == ENOMEM || error == ETIMEDOUT;
}

/* NULL: the databases failed. */
static struct privs_user *user_of(const struct passwd *entry)
{
    struct privs_user *user;
    int count = 64;

    for (;;) {
        int room = count;

        user = g_malloc0(sizeof *user + sizeof(gid_t) * (size_t)room);
        errno = 0;
        if (getgrouplist(entry->pw_name, entry->pw_gid, user->groups, &count) >= 0 &&
            !is_failure(errno))
            break;
        g_free(user);
        if (is_failure(errno))
            return NULL;
        if (count <= room)
            count = room * 2;
        if (count > GROUPS_MAX)
            return NULL;
    }
    user->uid = entry->pw_uid;
    user->gid = entry->pw_gid;
    user->group_count = count;
    user->known = true;
    user->refs = 1;
    return user;
}

/* Whether the host has no group of this number. 0, or a positive errno. */
static int is_free_group(gid_t gid, bool *is_free)
{
    struct group entry, *found = NULL;
    size_t size = 16384;
    g_autofree char *buffer = NULL;
    int error;

    do {
        g_free(buffer);
        buffer = g_malloc(size);
        error = getgrgid_r(gid, &entry, buffer, size, &found);
        size *= 2;
    } while (error == EINTR || (error == ERANGE && size <= 1024 * 1024));
    *is_free = error != ERANGE && found == NULL;
    return error == ENOENT || error == ESRCH || error == ERANGE ? 0 : error;
}

/* Asks, which may take for ever. 0, or a positive errno: the databases failed. */
static int ask(uint32_t uid, const char *name, struct privs_user **user)
{
    struct passwd entry, *found = NULL;
    size_t size = 16384;
    g_autofree char *buffer = NULL;
    int error;

    do {
        g_free(buffer);
        buffer = g_malloc(size);
        if (uid == P9_NONUNAME)
            error = getpwnam_r(name, &entry, buffer, size, &found);
        else
            error = getpwuid_r(uid, &entry, buffer, size, &found);
        size *= 2;
    } while (error == EINTR || (error == ERANGE && size <= 1024 * 1024));
    /* Some modules say "not found" by an errno, as getpwnam_r(3) warns. */
    if (error != 0 && error != ENOENT && error != ESRCH)
        return error;
    if (found != NULL)
        *user = user_of(found);
    else if (uid == P9_NONUNAME)
        *user = privs_user_plain(PRIVS_NOBODY, PRIVS_NOBODY, false);
    else
        *user = privs_user_plain(uid, uid == 0 ? 0 : PRIVS_NOBODY, false);
    if (*user == NULL)
        return EIO;
    if (found == NULL && uid != P9_NONUNAME) {
        error = is_free_group(uid, &(*user)->own_group);
        if (error != 0) {
            g_clear_pointer(user, privs_user_unref);
            return error;
        }
    }
    (*user)->client_uid = uid == P9_NONUNAME && found == NULL ? P9_NONUNAME : (*user)->uid;
    return 0;
}

/* With the lock: waits until something came. False: that was not before `until`. */
static bool wait_until(int64_t until)
{
    struct timespec ts = {.tv_sec = until / G_USEC_PER_SEC,
                          .tv_nsec = (long)(until % G_USEC_PER_SEC) * 1000};

    return pthread_cond_timedwait(&came, &lock, &ts) != ETIMEDOUT;
}

/* With the lock: whether the caller shall ask (1), has the answer (0), or gives up. Few wait for
 * long, but all do for as long as answers keep coming: many clients may come at one moment. */
static int wait_for_answer(const char *key, struct privs_user **user)
{
    int64_t until = g_get_monotonic_time() + WAIT_SECONDS * G_USEC_PER_SEC;

    for (;;) {
        struct answer *answer = g_hash_table_lookup(answers, key);
        bool came_in_time;

        if (answer != NULL && answer->user != NULL && now() - answer->since <= FRESH_SECONDS) {
            *user = privs_user_ref(answer->user);
            return 0;
        }
        if ((answer == NULL || answer->user != NULL) && asking < asking_max)
            return 1;
        if (waiting < waiting_max) {
            waiting++;
            came_in_time = wait_until(until);
            waiting--;
        } else
            came_in_time = wait_until(MIN(until, moved + MOMENT_US));
        if (!came_in_time)
            return -EAGAIN;
    }
}

/* With the lock: leaves those that are being asked for. */
static gboolean is_answered(gpointer key, gpointer value, gpointer data)
{
    (void)key;
    (void)data;
    return ((struct answer *)value)->user != NULL;
}

int privs_user_find(uint32_t uid, const char *name, struct privs_user **user)
{
    g_autofree char *key =
        uid == P9_NONUNAME ? g_strconcat("=", name, NULL) : g_strdup_printf("%u", uid);
    int error;

    if (!privs_act_for_others()) {
        *user = privs_user_daemon(uid);
        return 0;
    }
    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    error = wait_for_answer(key, user);
    if (error <= 0) {
        pthread_mutex_unlock(&lock);
        return error;
    }
    if (g_hash_table_size(answers) >= ANSWERS_MAX)
        g_hash_table_foreach_remove(answers, is_answered, NULL);
    g_hash_table_replace(answers, g_strdup(key), g_new0(struct answer, 1));
    if (asking++ == 0)
        moved = g_get_monotonic_time();
    pthread_mutex_unlock(&lock);
    error = ask(uid, name, user);
    pthread_mutex_lock(&lock);
    asking--;
    moved = g_get_monotonic_time();
    if (error == 0) {
        struct answer *answer = g_hash_table_lookup(answers, key);

        answer->user = privs_user_ref(*user);
        answer->since = now();
    } else {
        g_hash_table_remove(answers, key);
    }
    if (error != 0 && !failing)
        log_warning("the host's user database fails: %s; clients cannot attach as '%s'",
                    g_strerror(error), uid == P9_NONUNAME ? name : key);
    failing = error != 0;
    pthread_cond_broadcast(&came);
    pthread_mutex_unlock(&lock);
    return error != 0 ? -EIO : 0;
}
