/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who acts: users that attached, and the filesystem uid, gid and groups of the thread that works
 * for one of them.
 *
 * Linux keeps these per thread; glibc's setgroups() changes all threads, so raw system calls are
 * used. A change of fsuid from 0 drops the capabilities over files, back to 0 restores them.
 */
#ifndef PRIVS_H
#define PRIVS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PRIVS_NOBODY 65534u

/* A user of a session, shared by the fids that came from one attach. */
struct privs_user {
    int refs; /* atomic */
    uint32_t uid;
    uint32_t gid;
    uint32_t client_uid; /* what the client said; P9_NONUNAME: no number */
    bool known;          /* has an entry in the host's user database */
    bool own_group;      /* not known, and neither is a group of the same number */
    bool daemon;         /* acts as the daemon itself, whatever uid and gid say */
    int group_count;
    gid_t groups[]; /* supplementary ones, from the host's databases */
};

/* Finds out whether the daemon may act for others at all, and with which capabilities: call it
 * once those are cut to what is needed, and before any thread starts. */
void privs_init(bool trusted);

/* Whether it may. */
bool privs_act_for_others(void);

/* The user of a uid, or of a name where uid is P9_NONUNAME; unknown names become nobody, unknown
 * uids have no groups of the host. As the daemon itself (privs_become(NULL)). May wait for the
 * host's databases: -EAGAIN where too many do already, or for too long; -EIO where they fail, as
 * that says nothing about the user. */
int privs_user_find(uint32_t uid, const char *name, struct privs_user **user);

/* How many threads there are: some of them must never wait for those databases. Default 64. */
void privs_user_set_threads(unsigned threads);

/* One who acts as the daemon, and for the client is `client_uid`. */
struct privs_user *privs_user_daemon(uint32_t client_uid);

/* One with just these numbers. */
struct privs_user *privs_user_plain(uint32_t uid, uint32_t gid, bool known);

struct privs_user *privs_user_ref(struct privs_user *user);
void privs_user_unref(struct privs_user *user);

/* Makes this thread act for the user; costs no system call when it does so already. NULL: as the
 * daemon itself. 0 or a negative errno. */
int privs_become(struct privs_user *user);

/* The same, with the group that a new file shall get, where the user may give it that group. */
int privs_become_group(struct privs_user *user, uint32_t gid);

/* Acts as the daemon, or for root where that is the daemon's user: enough to find any file, at no
 * cost for who is that already. 0 or a negative errno. */
int privs_reach_all(void);

/* Between the two this thread acts as the daemon, whose files users cannot reach; costs nothing
 * where it does so anyway, or acts for root. privs_resume() gives 0 or a negative errno: then it
 * acts for nobody's rights but the daemon's, and the request must fail. */
struct privs_pause {
    struct privs_user *user; /* NULL: nothing to go back to */
    uint32_t gid;
};
void privs_suspend(struct privs_pause *pause);
int privs_resume(struct privs_pause *pause);

/* A thread that acted for others ends. */
void privs_thread_end(void);

#endif
