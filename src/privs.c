/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who acts. See privs.h. */
#include "config.h"

#include "src/privs.h"

#include <errno.h>
#include <glib.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/proto.h"

#if defined(SYS_setfsuid32)
#define CALL_SETFSUID  SYS_setfsuid32
#define CALL_SETFSGID  SYS_setfsgid32
#define CALL_SETGROUPS SYS_setgroups32
#else
#define CALL_SETFSUID  SYS_setfsuid
#define CALL_SETFSGID  SYS_setfsgid
#define CALL_SETGROUPS SYS_setgroups
#endif

static bool act_for_others;
static struct privs_user *daemon_user;
static struct __user_cap_data_struct daemon_caps[_LINUX_CAPABILITY_U32S_3];

/* What this thread is now. `user` is held, so that its address cannot mean another one. NULL: not
 * known, as a new thread has what the thread that made it had at that moment. */
static __thread struct privs_user *current_user;
static __thread uint32_t current_gid;
static __thread bool has_switched; /* or tried to */

static bool has_cap(unsigned cap)
{
    return (daemon_caps[cap / 32].effective & (1u << (cap % 32))) != 0;
}

void privs_init(bool trusted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    int count = getgroups(0, NULL);

    if (count < 0)
        count = 0;
    if (syscall(SYS_capget, &header, daemon_caps) < 0)
        memset(daemon_caps, 0, sizeof daemon_caps);
    /* Not whether it is root: root of a container may lack them, a service user may have them. */
    act_for_others = !trusted && has_cap(CAP_SETUID) && has_cap(CAP_SETGID);
    daemon_user = g_malloc0(sizeof *daemon_user + sizeof(gid_t) * (size_t)(count + 1));
    daemon_user->refs = 1;
    daemon_user->uid = geteuid();
    daemon_user->gid = getegid();
    daemon_user->client_uid = P9_NONUNAME;
    daemon_user->known = true;
    daemon_user->daemon = true;
    count = getgroups(count, daemon_user->groups);
    daemon_user->group_count = count < 0 ? 0 : count;
}

bool privs_act_for_others(void)
{
    return act_for_others;
}

struct privs_user *privs_user_plain(uint32_t uid, uint32_t gid, bool known)
{
    struct privs_user *user = g_malloc0(sizeof *user);

    user->refs = 1;
    user->uid = uid;
    user->gid = gid;
    user->client_uid = uid;
    user->known = known;
    return user;
}

struct privs_user *privs_user_daemon(uint32_t client_uid)
{
    struct privs_user *user = privs_user_plain(daemon_user->uid, daemon_user->gid, true);

    user->client_uid = client_uid;
    user->daemon = true;
    return user;
}

struct privs_user *privs_user_ref(struct privs_user *user)
{
    if (user != NULL)
        __atomic_fetch_add(&user->refs, 1, __ATOMIC_RELAXED);
    return user;
}

void privs_user_unref(struct privs_user *user)
{
    if (user != NULL && __atomic_sub_fetch(&user->refs, 1, __ATOMIC_ACQ_REL) == 0)
        g_free(user);
}

/* The effective capabilities of this thread: all that the daemon has, or none. */
static int set_caps(bool all)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

    memcpy(caps, daemon_caps, sizeof caps);
    for (size_t i = 0; !all && i < G_N_ELEMENTS(caps); i++)
        caps[i].effective = 0;
    return syscall(SYS_capset, &header, caps) < 0 ? -errno : 0;
}

/* Whether the kernel has the groups of `user` for this thread. */
static bool has_groups_of(const struct privs_user *user)
{
    return current_user != NULL && current_user->group_count == user->group_count &&
           memcmp(current_user->groups, user->groups, sizeof(gid_t) * (size_t)user->group_count) ==
               0;
}

static void set_current(struct privs_user *user)
{
    if (user != current_user) {
        privs_user_unref(current_user);
        current_user = privs_user_ref(user);
    }
}

static int set_ids(struct privs_user *user, uint32_t gid)
{
    bool known = current_user != NULL;

    if (!has_groups_of(user)) {
        if (syscall(CALL_SETGROUPS, user->group_count, user->groups) < 0)
            return -errno;
    }
    if (!known || gid != current_gid) {
        syscall(CALL_SETFSGID, gid);
        if ((uint32_t)syscall(CALL_SETFSGID, (gid_t)-1) != gid)
            return -EPERM;
        current_gid = gid;
    }
    if (!known || user->uid != current_user->uid) {
        syscall(CALL_SETFSUID, user->uid);
        if ((uint32_t)syscall(CALL_SETFSUID, (uid_t)-1) != user->uid)
            return -EPERM;
    }
    set_current(user);
    return 0;
}

/* Whether the daemon's capabilities are this user's, too. */
static bool has_caps(const struct privs_user *user)
{
    return user->daemon || user->uid == 0;
}

/* A change of fsuid takes the capabilities about files away, but leaves CAP_SYS_ADMIN, with which a
 * user would set trusted.* xattrs, CAP_SETFCAP and others: therefore a user other than root acts
 * with none at all. They stay permitted, and come back for the next change. */
static int switch_to(struct privs_user *user, uint32_t gid)
{
    bool new_uid = current_user == NULL || current_user->uid != user->uid;
    int error;

    if (!act_for_others || (user == current_user && gid == current_gid))
        return 0;
    has_switched = true;
    /* The same one, who attached at another time. */
    if (!new_uid && gid == current_gid && has_caps(user) == has_caps(current_user) &&
        has_groups_of(user)) {
        set_current(user);
        return 0;
    }
    if (current_user == NULL || !has_caps(current_user)) {
        error = set_caps(true);
        if (error != 0)
            return error;
    }
    error = set_ids(user, gid);
    if (error == 0 && !has_caps(user))
        error = set_caps(false);
    else if (error == 0 && new_uid && user->uid != 0) /* from 0 to the daemon's own uid */
        error = set_caps(true);
    if (error != 0) { /* half changed: the next change starts from nothing */
        privs_user_unref(current_user);
        current_user = NULL;
    }
    return error;
}

int privs_become(struct privs_user *user)
{
    if (user == NULL || user->daemon)
        user = daemon_user;
    return switch_to(user, user->gid);
}

static bool may_give(const struct privs_user *user, uint32_t gid)
{
    if (user->uid == 0 || gid == user->gid)
        return true;
    /* Guests have users that the host does not know: their private group has their own number. A
     * group of the host with that number is another one, which has files of its own. */
    if (user->own_group && gid == user->uid)
        return true;
    for (int i = 0; i < user->group_count; i++)
        if (user->groups[i] == gid)
            return true;
    return false;
}

int privs_become_group(struct privs_user *user, uint32_t gid)
{
    if (user == NULL || user->daemon || gid == (uint32_t)-1 || !may_give(user, gid))
        return privs_become(user);
    return switch_to(user, gid);
}

/* Whether this thread reaches all that the daemon does: root is not asked for groups. */
static bool reaches_all(void)
{
    return !act_for_others ||
           (current_user != NULL &&
            (current_user->daemon || (current_user->uid == 0 && daemon_user->uid == 0)));
}

int privs_reach_all(void)
{
    return reaches_all() ? 0 : privs_become(NULL);
}

void privs_suspend(struct privs_pause *pause)
{
    pause->user = NULL;
    /* After a change that failed half there is nobody to go back to, and nothing must be gained. */
    if (reaches_all() || (current_user == NULL && has_switched))
        return;
    /* A new thread has the rights of the one that started it, and nobody to go back to either. */
    if (current_user != NULL) {
        pause->user = privs_user_ref(current_user);
        pause->gid = current_gid;
    }
    (void)privs_become(NULL); /* where it fails the user's rights must do */
}

int privs_resume(struct privs_pause *pause)
{
    int error = 0;

    if (pause->user != NULL)
        error = switch_to(pause->user, pause->gid);
    privs_user_unref(pause->user);
    pause->user = NULL;
    return error;
}

void privs_thread_end(void)
{
    privs_user_unref(current_user);
    current_user = NULL;
}
