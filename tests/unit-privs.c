/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: between privs_suspend() and privs_resume() a thread acts as the daemon, whoever it acted
 * for before, and for that one again afterwards: also a thread that has acted for nobody yet, and
 * was started by one that acts for a user, whose rights the kernel gives it.
 */
#include "config.h"

#include <glib.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "src/privs.h"

#define USER 12345u

static uid_t acts_as(void)
{
    return (uid_t)setfsuid((uid_t)-1); /* changes nothing, and tells */
}

static void suspend_and_resume(uid_t before, uid_t after)
{
    struct privs_pause pause;

    g_assert_cmpuint(acts_as(), ==, before);
    privs_suspend(&pause);
    g_assert_cmpuint(acts_as(), ==, geteuid());
    g_assert_cmpint(privs_resume(&pause), ==, 0);
    g_assert_cmpuint(acts_as(), ==, after);
}

static void *child(void *data)
{
    (void)data;
    suspend_and_resume(USER, geteuid()); /* there is nobody to go back to */
    privs_thread_end();
    return NULL;
}

static void *parent(void *data)
{
    struct privs_user *user = privs_user_plain(USER, USER, false);
    pthread_t thread;

    (void)data;
    g_assert_cmpint(privs_become(user), ==, 0);
    suspend_and_resume(USER, USER);
    g_assert_cmpint(pthread_create(&thread, NULL, child, NULL), ==, 0);
    g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
    g_assert_cmpint(privs_reach_all(), ==, 0);
    g_assert_cmpuint(acts_as(), ==, geteuid());
    privs_user_unref(user);
    privs_thread_end();
    return NULL;
}

static void pauses(void)
{
    pthread_t thread;

    if (!privs_act_for_others()) {
        g_test_skip("no root");
        return;
    }
    g_assert_cmpint(pthread_create(&thread, NULL, parent, NULL), ==, 0);
    g_assert_cmpint(pthread_join(thread, NULL), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    privs_init(false);
    g_test_add_func("/privs/pauses", pauses);
    return g_test_run();
}
