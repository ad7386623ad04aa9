/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exports by name. See export.h. */
#include "config.h"

#include "src/export.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "src/allow.h"
#include "src/limit.h"
#include "src/peer.h"
#include "src/proto.h"
#include "src/refusal.h"
#include "src/server.h"

/* An export of the server. It comes first in this, so that a pointer to it is one to the whole. */
struct whole {
    struct path_export export;
    unsigned holds; /* exports_lock */
};

static pthread_mutex_t exports_lock = PTHREAD_MUTEX_INITIALIZER; /* the server's list, too */
static GPtrArray *retired;                                       /* struct whole */
static void (*tell_unused)(void);                                /* exports_lock */

/* A subdirectory as root. The export comes first, so that a pointer to it is one to the whole. */
struct subdir {
    struct path_export export;
    int refs; /* atomic */
    struct limit_account *account;
    struct subdir *next, *prev; /* subdirs_lock */
};

static pthread_mutex_t subdirs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct subdir *subdirs;

/* ---- the list -------------------------------------------------------------------------------- */

struct path_export *export_new(void)
{
    struct whole *whole = g_new0(struct whole, 1);

    whole->export.root_fd = -1;
    return &whole->export;
}

void export_free(struct path_export *exp)
{
    g_free((struct whole *)exp);
}

void export_on_unused(void (*tell)(void))
{
    pthread_mutex_lock(&exports_lock);
    tell_unused = tell;
    pthread_mutex_unlock(&exports_lock);
}

static bool is_among(const struct path_export *exp, struct path_export *const *exports,
                     size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (exports[i] == exp)
            return true;
    return false;
}

void export_publish(struct server *server, struct path_export *const *exports, size_t count)
{
    struct path_export **old, **fresh = g_new(struct path_export *, count + 1);

    if (count > 0)
        memcpy(fresh, exports, count * sizeof *exports);
    pthread_mutex_lock(&exports_lock);
    if (retired == NULL)
        retired = g_ptr_array_new();
    old = server->exports;
    for (size_t i = 0; i < server->export_count; i++)
        if (!is_among(old[i], exports, count))
            g_ptr_array_add(retired, old[i]);
    server->exports = fresh;
    server->export_count = count;
    pthread_mutex_unlock(&exports_lock);
    g_free(old);
}

struct path_export *export_take_unused(void)
{
    struct path_export *found = NULL;

    pthread_mutex_lock(&exports_lock);
    for (guint i = 0; retired != NULL && found == NULL && i < retired->len; i++) {
        struct whole *whole = g_ptr_array_index(retired, i);

        if (whole->holds == 0) {
            g_ptr_array_remove_index_fast(retired, i);
            found = &whole->export;
        }
    }
    if (retired != NULL && retired->len == 0)
        g_clear_pointer(&retired, g_ptr_array_unref);
    pthread_mutex_unlock(&exports_lock);
    return found;
}

unsigned export_holds(const struct path_export *exp)
{
    unsigned holds;

    pthread_mutex_lock(&exports_lock);
    holds = ((const struct whole *)exp)->holds;
    pthread_mutex_unlock(&exports_lock);
    return holds;
}

void export_each_retired(void (*visit)(const struct path_export *exp, void *data), void *data)
{
    pthread_mutex_lock(&exports_lock);
    for (guint i = 0; retired != NULL && i < retired->len; i++)
        visit(g_ptr_array_index(retired, i), data);
    pthread_mutex_unlock(&exports_lock);
}

void export_each(const struct server *server,
                 void (*visit)(const struct path_export *exp, void *data), void *data)
{
    pthread_mutex_lock(&exports_lock);
    for (size_t i = 0; i < server->export_count; i++)
        visit(server->exports[i], data);
    pthread_mutex_unlock(&exports_lock);
}

void export_drop(const struct path_export *exp)
{
    struct whole *whole = (struct whole *)exp;
    void (*tell)(void) = NULL;

    pthread_mutex_lock(&exports_lock);
    if (--whole->holds == 0 && retired != NULL && g_ptr_array_find(retired, whole, NULL))
        tell = tell_unused;
    pthread_mutex_unlock(&exports_lock);
    if (tell != NULL)
        tell();
}

/* ---- finding one ----------------------------------------------------------------------------- */

static char *all_names(const struct server *server)
{
    GString *names = g_string_new(NULL);

    for (size_t i = 0; i < server->export_count; i++)
        g_string_append_printf(names, "%s'%s'", i > 0 ? ", " : "", server->exports[i]->name);
    return g_string_free(names, FALSE);
}

/* How much of `aname` the name is: all of it, or what stands before a slash. 0: nothing. */
static size_t match(const char *name, const char *aname)
{
    size_t len = strlen(name);

    if (strncmp(name, aname, len) != 0)
        return 0;
    return aname[len] == '\0' || aname[len] == '/' || name[len - 1] == '/' ? len : 0;
}

static const struct path_export *find_named(const struct server *server, const char *aname,
                                            size_t *len)
{
    const struct path_export *found = NULL;

    *len = 0;
    for (size_t i = 0; i < server->export_count; i++) {
        size_t got = match(server->exports[i]->name, aname);

        if (got > *len) {
            found = server->exports[i];
            *len = got;
        }
    }
    return found;
}

/* The only one that the peer may have; *count: how many there are. */
static const struct path_export *find_only(const struct server *server, const struct peer *peer,
                                           size_t *count)
{
    const struct path_export *found = NULL;

    *count = 0;
    for (size_t i = 0; i < server->export_count; i++)
        if (allow_permits(server->exports[i]->allow, peer)) {
            found = server->exports[i];
            (*count)++;
        }
    return *count == 1 ? found : NULL;
}

bool export_any(const struct server *server, const struct peer *peer)
{
    bool any = false;

    pthread_mutex_lock(&exports_lock);
    for (size_t i = 0; i < server->export_count && !any; i++)
        any = allow_permits(server->exports[i]->allow, peer);
    pthread_mutex_unlock(&exports_lock);
    return any;
}

static int find_default(const struct server *server, const struct peer *peer,
                        const struct path_export **exp)
{
    size_t count;

    *exp = find_only(server, peer, &count);
    if (*exp != NULL)
        return 0;
    if (count == 0)
        return -EACCES;
    g_autofree char *names = all_names(server);
    refusal_tell(peer, "empty aname",
                 "asks for an export without its name, and there are several: "
                 "mount with aname= one of %s",
                 names);
    return -ENOENT;
}

/* With the lock held. */
static int find(const struct server *server, const struct peer *peer, const char *aname,
                const struct path_export **exp, const char **rest)
{
    size_t len;

    *exp = find_named(server, aname, &len);
    *rest = aname + len;
    if (*exp == NULL && (aname[0] == '\0' || strcmp(aname, "/") == 0)) {
        *rest = "";
        return find_default(server, peer, exp);
    }
    if (*exp == NULL) {
        g_autofree char *names = all_names(server);

        refusal_tell(peer, "no export",
                     "asks for the export '%.255s', which is not there; there %s %s", aname,
                     server->export_count == 1 ? "is" : "are", names);
        return -ENOENT;
    }
    if (!allow_permits((*exp)->allow, peer)) {
        refusal_tell(peer, (*exp)->name,
                     "may not attach to the export '%s': its allow list has no "
                     "entry that fits",
                     (*exp)->name);
        return -EACCES;
    }
    while (**rest == '/')
        (*rest)++;
    if (**rest != '\0' && !(*exp)->subdirs) {
        refusal_tell(peer, "subdirs",
                     "asks for '%.255s': clients cannot attach below the export "
                     "'%s' without subdirs=yes",
                     aname, (*exp)->name);
        return -ENOENT;
    }
    return 0;
}

int export_find(const struct server *server, const struct peer *peer, const char *aname,
                const struct path_export **exp, const char **rest)
{
    int error;

    pthread_mutex_lock(&exports_lock);
    error = find(server, peer, aname, exp, rest);
    if (error == 0)
        ((struct whole *)*exp)->holds++;
    pthread_mutex_unlock(&exports_lock);
    return error;
}

/* What a walk would find under this name: the export may hide it. */
static int step(const struct path_export *whole, int fd, const char *name)
{
    int error = path_check_name(name, strlen(name), true), next;
    struct statx stx;
    struct qid qid;

    if (error != 0)
        return error;
    next = path_lookup(fd, name);
    if (next < 0)
        return next;
    error = path_look(next, &stx);
    if (error == 0)
        error = qid_from_stat(whole->qids, next, &stx, &qid);
    if (error == 0 && !S_ISDIR(stx.stx_mode))
        error = -ENOTDIR;
    if (error == 0)
        return next;
    close(next);
    return error;
}

static int walk_down(const struct path_export *whole, const char *rest)
{
    g_auto(GStrv) names = g_strsplit(rest, "/", -1);
    int fd = path_dup(whole->root_fd);

    if (fd < 0)
        return fd;
    for (char **name = names; *name != NULL; name++) {
        int next;

        if (**name == '\0') /* two slashes are one, and one at the end is none */
            continue;
        next = step(whole, fd, *name);
        close(fd);
        if (next < 0)
            return next;
        fd = next;
    }
    return fd;
}

int export_subdir(const struct path_export *whole, const char *rest, struct limit_account *account,
                  const struct path_export **result)
{
    int error = limit_take(account, LIMIT_FILES, 1, NULL), fd;
    struct subdir *subdir;

    if (error != 0)
        return error;
    fd = walk_down(whole, rest);
    if (fd < 0) {
        limit_give(account, LIMIT_FILES, 1);
        return fd;
    }
    subdir = g_new0(struct subdir, 1);
    subdir->export = *whole;
    subdir->export.root_fd = fd;
    subdir->export.is_subdir = true;
    subdir->export.whole = whole;
    subdir->refs = 1;
    subdir->account = account;
    pthread_mutex_lock(&subdirs_lock);
    subdir->next = subdirs;
    if (subdirs != NULL)
        subdirs->prev = subdir;
    subdirs = subdir;
    pthread_mutex_unlock(&subdirs_lock);
    *result = &subdir->export;
    return 0;
}

void export_each_subdir(void (*visit)(const struct path_export *exp, uint64_t session, void *data),
                        void *data)
{
    pthread_mutex_lock(&subdirs_lock);
    for (const struct subdir *s = subdirs; s != NULL; s = s->next)
        visit(&s->export, s->account->id, data);
    pthread_mutex_unlock(&subdirs_lock);
}

const struct path_export *export_ref(const struct path_export *exp)
{
    if (exp != NULL && exp->is_subdir)
        __atomic_fetch_add(&((struct subdir *)exp)->refs, 1, __ATOMIC_RELAXED);
    return exp;
}

void export_unref(const struct path_export *exp)
{
    struct subdir *subdir;

    if (exp == NULL || !exp->is_subdir)
        return;
    subdir = (struct subdir *)exp;
    if (__atomic_sub_fetch(&subdir->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    pthread_mutex_lock(&subdirs_lock);
    if (subdir->next != NULL)
        subdir->next->prev = subdir->prev;
    if (subdir->prev != NULL)
        subdir->prev->next = subdir->next;
    else
        subdirs = subdir->next;
    pthread_mutex_unlock(&subdirs_lock);
    close(subdir->export.root_fd);
    limit_give(subdir->account, LIMIT_FILES, 1);
    g_free(subdir);
}

bool export_same(const struct path_export *a, const struct path_export *b)
{
    return a->qids == b->qids;
}
