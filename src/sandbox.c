/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order in which things are taken away, and what must stay. See sandbox.h. */
#include "config.h"

#include "src/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/log.h"
#include "src/qid.h"

/* ---- what must stay -------------------------------------------------------------------------- */

static void mount_free(gpointer data)
{
    struct sandbox_mount *mount = data;

    g_free(mount->path);
    g_free(mount);
}

static struct sandbox_mount *want(GPtrArray *mounts, const char *path)
{
    struct sandbox_mount *mount = g_new0(struct sandbox_mount, 1);

    mount->path = g_strdup(path);
    g_ptr_array_add(mounts, mount);
    return mount;
}

static void want_system(GPtrArray *mounts)
{
    static const char *const readonly[] = {
        /* the C library and its modules for the user database */
        "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/etc",
        /* where those modules ask */
        "/run/nscd", "/var/run", "/var/cache/nscd", "/run/systemd/userdb", "/run/nslcd",
        "/run/samba/winbindd", "/var/lib/sss/pipes", "/var/lib/sss/mc", "/var/lib/extrausers",
        /* what filesystems are made of */
        "/sys", "/dev", "/run/udev"};
    const char *notify = g_getenv("NOTIFY_SOCKET");

    want(mounts, "/proc");
    for (gsize i = 0; i < G_N_ELEMENTS(readonly); i++)
        want(mounts, readonly[i])->readonly = true;
    if (notify != NULL && notify[0] == '/')
        want(mounts, notify);
}

/* The copies of exports and stores do not go away with the mounts of the host that they are of. So
 * these are held, as long as they are used: umount(8) says that they are busy, as they are, where
 * it would otherwise succeed and leave the filesystem in use. */
static void hold(const GPtrArray *mounts, const struct sandbox_mount *mount)
{
    int fd = open(mount->path, O_PATH | O_CLOEXEC);
    bool system = false;

    if (fd < 0)
        log_warning("%s: cannot be held: %s", mount->path, g_strerror(errno));
    for (guint i = 0; i < mounts->len; i++) {
        const struct sandbox_mount *other = g_ptr_array_index(mounts, i);

        system = system || (!other->held && sandbox_is_below(other->path, mount->path));
    }
    sandbox_note_held(mount->path, fd, mount->tree, system);
}

const char *sandbox_store_path(const char *uri)
{
    if (uri != NULL && (g_str_has_prefix(uri, "lmdb:") || g_str_has_prefix(uri, "xattr:")))
        return strchr(uri, ':') + 1;
    return NULL;
}

/* Makes the path of a store absolute; where the directory is still to be made, the one above it
 * must be there. FALSE: neither is. */
static gboolean resolve_store(struct settings_export *export, GPtrArray *mounts)
{
    const char *path = sandbox_store_path(export->store);
    char real[PATH_MAX];
    g_autofree char *dir = NULL, *name = NULL;
    gsize scheme;

    if (path == NULL)
        return TRUE;
    scheme = (gsize)(path - export->store);
    if (realpath(path, real) != NULL) {
        want(mounts, real)->held = true;
        dir = g_strdup(real);
    } else {
        g_autofree char *parent = g_path_get_dirname(path);

        if (errno != ENOENT || realpath(parent, real) == NULL)
            return FALSE;
        want(mounts, real)->held = true;
        name = g_path_get_basename(path);
        dir = g_build_filename(real, name, NULL);
    }
    char *uri = g_strdup_printf("%.*s%s", (int)scheme, export->store, dir);
    g_free(export->store);
    export->store = uri;
    return TRUE;
}

static gboolean resolve_export(struct settings_export *export, GPtrArray *mounts, GPtrArray *dirs)
{
    char real[PATH_MAX];
    struct sandbox_mount *mount;

    if (realpath(export->dir, real) == NULL)
        return FALSE;
    g_free(export->dir);
    export->dir = g_strdup(real);
    mount = want(mounts, real);
    mount->tree = mount->held = true;
    mount->plain = true;
    g_ptr_array_add(dirs, export->dir);
    return TRUE;
}

/* What is not there is told by those who open it, without a namespace. */
static gboolean collect(struct settings *settings, GPtrArray *mounts, GPtrArray *dirs)
{
    gboolean all = TRUE;

    for (guint i = 0; i < settings->exports->len; i++)
        all &= resolve_export(g_ptr_array_index(settings->exports, i), mounts, dirs);
    for (guint i = 0; i < settings->exports->len; i++)
        all &= resolve_store(g_ptr_array_index(settings->exports, i), mounts);
    g_ptr_array_add(dirs, NULL);
    return all;
}

/* The modules of the user database are loaded while everything is there. */
static void load_users(void)
{
    gid_t groups[64];
    int count = G_N_ELEMENTS(groups);
    const struct passwd *user = getpwuid(0);

    if (user != NULL)
        getgrouplist(user->pw_name, user->pw_gid, groups, &count);
    (void)getgrgid(0);
}

/* ---- taking away ----------------------------------------------------------------------------- */

/* "no (why)", the reason being kept for isolate=yes. */
static const char *not_done(GString *missing, const char *what, const char *why)
{
    if (missing->len > 0)
        g_string_append(missing, "; ");
    g_string_append_printf(missing, "%s: %s", what, why);
    return "no";
}

static const char *enter_mounts(GPtrArray *mounts, char *const *dirs, GString *missing,
                                GError **error)
{
    g_autofree char *why = NULL;
    g_autoptr(GError) problem = NULL;
    const char *step = "";
    int failed;

    if (geteuid() != 0)
        return not_done(missing, "mount namespace", "not started as root");
    why = sandbox_mounts_refuse(dirs);
    if (why != NULL)
        return not_done(missing, "mount namespace", why);
    for (guint i = 0; i < mounts->len; i++) {
        const struct sandbox_mount *mount = g_ptr_array_index(mounts, i);

        if (mount->held)
            hold(mounts, mount);
    }
    if (!qid_keep_mounts(&problem))
        return not_done(missing, "mount namespace", problem->message);
    if (!sandbox_host_start())
        log_warning("no process can be started for reload: new directories will need a restart");
    failed = sandbox_mounts_enter(mounts, &step);
    if (failed == 0)
        return "yes";
    sandbox_host_stop();
    if (strcmp(step, "unshare") == 0) /* nothing was changed yet */
        return not_done(missing, "mount namespace", g_strerror(-failed));
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                "mount namespace: %s: %s; start with isolate=no to do without", step,
                g_strerror(-failed));
    return NULL;
}

static const char *cut_caps(GString *missing)
{
    int failed = sandbox_caps_cut(sandbox_caps_needed());

    return failed == 0 ? "" : not_done(missing, "capabilities", g_strerror(-failed));
}

static const char *filter_calls(const struct settings *settings, GString *missing)
{
    int failed;

    if (!settings->seccomp)
        return "no";
    failed = sandbox_calls_filter();
    if (failed == -EOPNOTSUPP)
        return not_done(missing, "seccomp", "not in this build");
    return failed == 0 ? "yes" : not_done(missing, "seccomp", g_strerror(-failed));
}

static char *status; /* for the life of the process */

const char *sandbox_status(void)
{
    return status != NULL ? status : "isolation: no";
}

gboolean sandbox_enter(struct settings *settings, GError **error)
{
    g_autoptr(GPtrArray) mounts = g_ptr_array_new_with_free_func(mount_free);
    g_autoptr(GPtrArray) dirs = g_ptr_array_new();
    g_autoptr(GString) missing = g_string_new(NULL);
    const char *done[4];

    if (settings->isolate == SETTINGS_ISOLATE_NO)
        return TRUE;
    want_system(mounts);
    if (!collect(settings, mounts, dirs))
        return TRUE; /* ends soon, with the error of who opens it */
    load_users();
    done[0] = enter_mounts(mounts, (char **)dirs->pdata, missing, error);
    if (done[0] == NULL)
        return FALSE;
    done[1] = cut_caps(missing);
    done[2] = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                  ? "yes"
                  : not_done(missing, "no_new_privs", g_strerror(errno));
    done[3] = filter_calls(settings, missing);
    if (settings->isolate == SETTINGS_ISOLATE_YES && missing->len > 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                    "isolate=yes: %s; mend that, or say isolate=auto", missing->str);
        return FALSE;
    }
    status = g_strdup_printf(
        "isolation: mount namespace %s, %u capabilities%s, no_new_privs %s, seccomp %s%s%s%s",
        done[0], sandbox_caps_count(), done[1][0] != '\0' ? " (not cut)" : "", done[2], done[3],
        missing->len > 0 ? " (" : "", missing->str, missing->len > 0 ? ")" : "");
    return TRUE;
}
