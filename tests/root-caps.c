/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: with the capabilities that the daemon keeps everything works that root and users may do;
 * and it keeps none without need: for each of them something fails when the daemon lacks it.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define USER 1000u

/* Each does one thing; 0 or the errno that the client got. */

static int change_owner(struct server *s, struct client *c)
{
    struct client_attr attr = {.uid = USER};

    make_file(s, "owned", "x");
    return client_setattr(c, walk_new(c, "owned"), SETATTR_UID, &attr);
}

static void make_private(struct server *s, const char *name, mode_t mode)
{
    g_autofree char *path = server_path(s, name);

    make_file(s, name, "x");
    g_assert_cmpint(chown(path, USER, USER), ==, 0);
    g_assert_cmpint(g_chmod(path, mode), ==, 0);
}

static int read_private(struct server *s, struct client *c)
{
    make_private(s, "private", 0600);
    return client_lopen(c, walk_new(c, "private"), L_RDONLY, NULL);
}

static int change_mode(struct server *s, struct client *c)
{
    struct client_attr attr = {.mode = 0640};

    make_private(s, "mode", 0600);
    return client_setattr(c, walk_new(c, "mode"), SETATTR_MODE, &attr);
}

static int keep_setgid(struct server *s, struct client *c)
{
    struct client_attr attr = {.mode = 02755};
    g_autofree char *path = server_path(s, "setgid");
    struct stat st;
    int rc;

    make_private(s, "setgid", 0755);
    g_assert_cmpint(chown(path, 0, USER), ==, 0);
    rc = client_setattr(c, walk_new(c, "setgid"), SETATTR_MODE, &attr);
    g_assert_cmpint(stat(path, &st), ==, 0);
    return rc == 0 && !(st.st_mode & S_ISGID) ? EPERM : rc;
}

static int act_as_user(struct server *s, struct client *c)
{
    struct client *other = client_connect(s->addr);
    int rc;

    (void)c;
    g_assert_cmpint(client_hello(other, 65536), ==, 0);
    rc = client_attach(other, ROOT_FID, USER, s->aname, NULL);
    if (rc == 0)
        rc = client_mkdir(other, ROOT_FID, "of-user", 0755, NULL);
    client_close(other);
    /* The export is root's: refused as the user that it is. A daemon that cannot act for users acts
     * as itself, and makes it. */
    return rc == EACCES ? 0 : rc == 0 ? EPERM : rc;
}

static int make_device(struct server *s, struct client *c)
{
    (void)s;
    return client_mknod(c, ROOT_FID, "device", S_IFCHR | 0600, 1, 3, NULL);
}

static int set_filecap(struct server *s, struct client *c)
{
    struct vfs_cap_data caps = {.magic_etc = VFS_CAP_REVISION_2};

    caps.data[0].permitted = 1u << CAP_NET_RAW;
    make_file(s, "filecap", "x");
    return client_setxattr(c, walk_new(c, "filecap"), "security.capability", &caps, XATTR_CAPS_SZ_2,
                           0);
}

static int set_trusted(struct server *s, struct client *c)
{
    make_file(s, "trusted", "x");
    return client_setxattr(c, walk_new(c, "trusted"), "trusted.test", "1", 1, 0);
}

static const struct {
    const char *cap; /* as setpriv(1) has it */
    int (*act)(struct server *s, struct client *c);
} needs[] = {
    {"chown", change_owner}, {"dac_override", read_private}, {"fowner", change_mode},
    {"fsetid", keep_setgid}, {"setuid", act_as_user},        {"setgid", act_as_user},
    {"mknod", make_device},  {"setfcap", set_filecap},       {"sys_admin", set_trusted},
};

/* A program that starts the daemon without one capability; to be removed. */
static char *make_wrapper(const char *program, const char *cap)
{
    char *path = g_build_filename(g_get_tmp_dir(), "qidmap-caps-XXXXXX", NULL);
    /* dac_override includes what dac_read_search allows for reading */
    const char *also = strcmp(cap, "dac_override") == 0 ? ",-dac_read_search" : "";
    g_autofree char *text = g_strdup_printf("#!/bin/sh\nexec setpriv --bounding-set=-%s%s "
                                            "--inh-caps=-all '%s' \"$@\"\n",
                                            cap, also, program);
    int fd = g_mkstemp(path);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, text, strlen(text)), ==, (gssize)strlen(text));
    close(fd);
    g_assert_cmpint(g_chmod(path, 0755), ==, 0);
    return path;
}

static int try(int (*act)(struct server *s, struct client *c))
{
    struct server *s = server_new("memory:", NULL);
    struct client *c;
    int rc;

    g_assert_true(server_start(s));
    c = client_connect(s->addr);
    g_assert_cmpint(client_hello(c, 65536), ==, 0);
    rc = client_attach(c, ROOT_FID, geteuid(), s->aname, NULL);
    if (rc == 0)
        rc = act(s, c);
    client_close(c);
    g_assert_cmpint(server_terminate(s), ==, 0);
    server_free(s);
    return rc;
}

static void is_needed(gconstpointer data)
{
    guint i = GPOINTER_TO_UINT(data);
    g_autofree char *program = g_strdup(g_getenv("QIDMAPD")), *setpriv = NULL, *wrapper = NULL;
    int rc;

    if (skip_unless_root())
        return;
    setpriv = g_find_program_in_path("setpriv");
    if (setpriv == NULL || g_getenv("QIDMAP_TEST_PEER") != NULL) {
        g_test_skip("no setpriv");
        return;
    }
    if (program == NULL)
        program = g_strdup("src/qidmapd");
    g_autofree char *absolute = g_canonicalize_filename(program, NULL);
    g_assert_cmpint(try(needs[i].act), ==, 0);
    wrapper = make_wrapper(absolute, needs[i].cap);
    g_setenv("QIDMAPD", wrapper, TRUE);
    rc = try(needs[i].act);
    g_setenv("QIDMAPD", absolute, TRUE);
    g_unlink(wrapper);
    g_test_message("without %s: %s", needs[i].cap, g_strerror(rc));
    g_assert_cmpint(rc, !=, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(needs); i++) {
        g_autofree char *path = g_strconcat("/caps/", needs[i].cap, NULL);

        g_test_add_data_func(path, GUINT_TO_POINTER(i), is_needed);
    }
    return g_test_run();
}
