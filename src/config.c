/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Command line and configuration file -> struct settings. See settings.h. */
#include "config.h"

#include "src/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/allow.h"
#include "src/config-lines.h"
#include "src/config-values.h"
#include "src/fail.h"
#include "src/limit.h"
#include "src/listen-spec.h"
#include "src/proto.h"
#include "src/trace.h"

#define THREADS_DEFAULT 64
#define DESCRIPTORS_MAX (1 << 30)
#define THREADS_MIN     4
#define THREADS_MAX     4096
#define MSIZE_DEFAULT   (1024 * 1024 + P9_IOHDRSZ)
#define MSIZE_LIMIT     (64 * 1024 * 1024)
#define IDLE_DEFAULT    60
#define STALL_DEFAULT   300
#define SECONDS_MAX     (7 * 24 * 3600)

/* What may be said for the daemon and for one export, by a word. */
enum {
    MODE_MULTIDEVS,
    MODE_ON_DUPLICATE,
    MODE_BIND,
    MODE_WEAK,
    MODE_MARKERS,
    MODE_SECURITY,
    MODE_SQUASH,
    MODE_SQUASH_USER,
    MODE_XATTRS,
    MODE_QID_VERSION,
    MODE_SUBDIRS,
    MODE_ALLOW,
    MODE_COUNT
};

static const char *const mode_names[MODE_COUNT] = {
    "multidevs", "on-duplicate", "bind",   "weak",        "markers", "security",
    "squash",    "squash-user",  "xattrs", "qid-version", "subdirs", "allow"};
/* The default first; none: any text. */
static const char *const mode_words[MODE_COUNT][4] = {
    [MODE_MULTIDEVS] = {"remap", "forbid", "warn", NULL},
    [MODE_ON_DUPLICATE] = {"split", "refuse", NULL},
    [MODE_BIND] = {"same", "distinct", NULL},
    [MODE_WEAK] = {"keep", "split", NULL},
    [MODE_MARKERS] = {"yes", "no", NULL},
    [MODE_SECURITY] = {"passthrough", "mapped-xattr", "squash", NULL},
    [MODE_SQUASH] = {"all", "root", NULL},
    [MODE_QID_VERSION] = {"stable", "mtime", NULL},
    [MODE_SUBDIRS] = {"no", "yes", NULL},
};

static void export_free(gpointer data)
{
    struct settings_export *export = data;

    g_free(export->name);
    g_free(export->dir);
    g_free(export->store);
    g_free(export->squash_user);
    g_free(export->words);
    allow_free(export->allow);
    g_free(export);
}

void settings_free(struct settings *settings)
{
    if (settings == NULL)
        return;
    g_free(settings->control);
    g_ptr_array_free(settings->exports, TRUE);
    if (settings->listen != NULL)
        g_ptr_array_free(settings->listen, TRUE);
    if (settings->connected != NULL)
        g_array_free(settings->connected, TRUE);
    g_strfreev(settings->fs_ids);
    if (settings->limits != NULL)
        g_ptr_array_free(settings->limits, TRUE);
    g_strfreev(settings->traces);
    g_free(settings->config);
    if (settings->lines != NULL)
        config_lines_free(settings->lines);
    g_strfreev(settings->fixed);
    g_free(settings);
}

/* Which of its words `text` is; NULL: the default. */
static gboolean parse_mode(guint mode, const char *text, guint *value, GError **error)
{
    const char *const *words = mode_words[mode];

    for (*value = 0; text != NULL && words[*value] != NULL; (*value)++)
        if (strcmp(text, words[*value]) == 0)
            return TRUE;
    *value = 0;
    if (text == NULL || words[0] == NULL)
        return TRUE;
    g_autofree char *all = g_strjoinv(", ", (char **)words);
    return fail_usage(error, "%s: '%s' is none of %s", mode_names[mode], text, all);
}

static gboolean parse_modes(char *const texts[MODE_COUNT], struct settings_export *export,
                            GError **error)
{
    guint values[MODE_COUNT];

    for (guint i = 0; i < MODE_COUNT; i++)
        if (!parse_mode(i, texts[i], &values[i], error))
            return FALSE;
    export->multidevs = (enum qid_multidevs)values[MODE_MULTIDEVS];
    export->mounts = (struct mount_settings){
        .on_duplicate = values[MODE_ON_DUPLICATE] == 0 ? QIDMAP_SPLIT : QIDMAP_REFUSE,
        .distinct = values[MODE_BIND] == 1,
        .split_weak = values[MODE_WEAK] == 1,
        .markers = values[MODE_MARKERS] == 0,
    };
    export->security = (struct security_settings){
        .mode = (enum security_mode)values[MODE_SECURITY],
        .squash_root_only = values[MODE_SQUASH] == 1,
        .squash_user = texts[MODE_SQUASH_USER],
        .xattrs = SECURITY_XATTR_ALL,
    };
    export->versions = (enum qid_versions)values[MODE_QID_VERSION];
    for (guint i = MODE_SQUASH; i <= MODE_SQUASH_USER; i++)
        if (export->security.mode != SECURITY_SQUASH && texts[i] != NULL)
            return fail_usage(error, "%s: this is for security=squash only", mode_names[i]);
    if (texts[MODE_XATTRS] != NULL &&
        !security_parse_xattrs(texts[MODE_XATTRS], &export->security.xattrs, error))
        return FALSE;
    export->subdirs = values[MODE_SUBDIRS] == 1;
    if (texts[MODE_ALLOW] != NULL)
        export->allow = allow_parse(texts[MODE_ALLOW], error);
    return texts[MODE_ALLOW] == NULL || export->allow != NULL;
}

/* Also where no export needs them. */
static gboolean check_modes(char *const texts[MODE_COUNT], GError **error)
{
    struct settings_export checked = {.name = NULL};
    gboolean fine = parse_modes(texts, &checked, error);

    allow_free(checked.allow);
    return fine;
}

/* The first that says something. */
static void merge_modes(char *result[MODE_COUNT], char *const first[MODE_COUNT],
                        char *const second[MODE_COUNT])
{
    for (guint i = 0; i < MODE_COUNT; i++)
        result[i] = first[i] != NULL ? first[i] : second[i];
}

static gboolean parse_access(const char *text, bool *trusted, GError **error)
{
    if (text == NULL || strcmp(text, "client") == 0)
        *trusted = false;
    else if (strcmp(text, "trusted") == 0)
        *trusted = true;
    else
        return fail_usage(error, "access: '%s' is none of client, trusted", text);
    return TRUE;
}

static gboolean check_control(const char *control, GError **error)
{
    if (control == NULL || control[0] == '/' || strcmp(control, "none") == 0)
        return TRUE;
    return fail_usage(error, "control: '%s' is neither an absolute path nor none", control);
}

static gboolean parse_isolate(const char *isolate, const char *seccomp, struct settings *settings,
                              GError **error)
{
    if (isolate == NULL || strcmp(isolate, "auto") == 0)
        settings->isolate = SETTINGS_ISOLATE_AUTO;
    else if (strcmp(isolate, "yes") == 0)
        settings->isolate = SETTINGS_ISOLATE_YES;
    else if (strcmp(isolate, "no") == 0)
        settings->isolate = SETTINGS_ISOLATE_NO;
    else
        return fail_usage(error, "isolate: '%s' is none of auto, yes, no", isolate);
    if (seccomp != NULL && strcmp(seccomp, "yes") != 0 && strcmp(seccomp, "no") != 0)
        return fail_usage(error, "seccomp: '%s' is none of yes, no", seccomp);
    settings->seccomp = seccomp == NULL || strcmp(seccomp, "yes") == 0;
    return TRUE;
}

static gboolean check_descriptors(gint64 descriptors, struct settings *settings, GError **error)
{
    if (descriptors < 0 || descriptors > DESCRIPTORS_MAX)
        return fail_usage(error, "descriptors: %" G_GINT64_FORMAT " is not between 0 and %d",
                          descriptors, DESCRIPTORS_MAX);
    settings->descriptors = (uint64_t)descriptors;
    return TRUE;
}

static gboolean check_numbers(gint64 threads, gint64 msize, struct settings *settings,
                              GError **error)
{
    if (threads < THREADS_MIN || threads > THREADS_MAX)
        return fail_usage(error, "threads: %" G_GINT64_FORMAT " is not between %d and %d", threads,
                          THREADS_MIN, THREADS_MAX);
    if (msize < (gint64)P9_MSIZE_MIN || msize > MSIZE_LIMIT)
        return fail_usage(error, "msize-max: %" G_GINT64_FORMAT " is not between %u and %d", msize,
                          P9_MSIZE_MIN, MSIZE_LIMIT);
    settings->threads = (unsigned)threads;
    settings->msize_max = (uint32_t)msize;
    return TRUE;
}

static gboolean check_seconds(const char *name, gint64 seconds, unsigned *result, GError **error)
{
    if (seconds < 0 || seconds > SECONDS_MAX)
        return fail_usage(error, "%s: %" G_GINT64_FORMAT " is not between 0 (for ever) and %d",
                          name, seconds, SECONDS_MAX);
    *result = (unsigned)seconds;
    return TRUE;
}

static gboolean check_limits(char *const *texts, GError **error)
{
    struct limit_settings unused;

    for (; texts != NULL && *texts != NULL; texts++)
        if (!limit_set(&unused, *texts))
            return fail_usage(
                error,
                "limit: '%s': expected NAME=N, with NAME one of fids, requests, files, "
                "memory, locks, each also as total-NAME, or connections",
                *texts);
    return TRUE;
}

static gboolean add_limits(struct settings *settings, char *const *texts, GError **error)
{
    if (!check_limits(texts, error))
        return FALSE;
    for (; texts != NULL && *texts != NULL; texts++)
        g_ptr_array_add(settings->limits, g_strdup(*texts));
    return TRUE;
}

static gboolean check_traces(char *const *texts, GError **error)
{
    for (; texts != NULL && *texts != NULL; texts++)
        if (!trace_check(*texts, error))
            return FALSE;
    return TRUE;
}

static gboolean check_name(const char *name, GError **error)
{
    if (name[0] == '\0' || strlen(name) > 255 || strpbrk(name, "\n[]") != NULL)
        return fail_usage(error, "export: '%s' is no good name", name);
    return TRUE;
}

/* Words that mean the default are the same as none. */
static char *words_of(const char *dir, const char *store, char *const modes[MODE_COUNT],
                      bool readonly)
{
    GString *words = g_string_new(NULL);

    g_string_append_printf(words, "%s\n%s\n%d", dir, store, readonly);
    for (guint i = 0; i < MODE_COUNT; i++)
        g_string_append_printf(words, "\n%s",
                               modes[i] != NULL           ? modes[i]
                               : mode_words[i][0] != NULL ? mode_words[i][0]
                                                          : "");
    return g_string_free(words, FALSE);
}

static gboolean add_export(struct settings *settings, const char *name, const char *dir,
                           const char *store, char *const modes[MODE_COUNT], bool readonly,
                           GError **error)
{
    struct settings_export parsed = {.name = NULL}, *export;

    if (!check_name(name, error))
        return FALSE;
    for (guint i = 0; i < settings->exports->len; i++) {
        export = g_ptr_array_index(settings->exports, i);
        if (strcmp(export->name, name) == 0)
            return fail_usage(error, "export: '%s' is there twice; give each its own name", name);
    }
    if (dir == NULL || dir[0] == '\0')
        return fail_usage(error, "export '%s': no directory given", name);
    if (store == NULL || store[0] == '\0')
        return fail_usage(
            error,
            "export '%s': no store given; try --store lmdb:/var/lib/qidmap/%s, or --store "
            "memory: for ids that last as long as the daemon",
            name, name);
    if (readonly && g_str_has_prefix(store, "xattr:"))
        return fail_usage(
            error,
            "export '%s': it is read-only, so no xattr: store can be kept in it; use an "
            "lmdb: store",
            name);
    if (!parse_modes(modes, &parsed, error))
        return FALSE;
    export = g_new0(struct settings_export, 1);
    *export = parsed;
    export->squash_user = g_strdup(parsed.security.squash_user);
    export->security.squash_user = export->squash_user;
    export->name = g_strdup(name);
    export->dir = g_strdup(dir);
    export->store = g_strdup(store);
    export->readonly = readonly;
    export->words = words_of(dir, store, modes, readonly);
    g_ptr_array_add(settings->exports, export);
    return TRUE;
}

/* ---- the file -------------------------------------------------------------------------------- */

struct file_values {
    char *store, *access, *isolate, *seccomp, *control;
    char *modes[MODE_COUNT];
    char **listen, **fs_ids, **limits, **traces;
    gint64 threads, msize, idle, stall, descriptors;
};

static void modes_clear(char *modes[MODE_COUNT])
{
    for (guint i = 0; i < MODE_COUNT; i++)
        g_clear_pointer(&modes[i], g_free);
}

static void file_values_clear(struct file_values *values)
{
    g_free(values->store);
    g_free(values->access);
    g_free(values->isolate);
    g_free(values->control);
    g_free(values->seccomp);
    modes_clear(values->modes);
    g_strfreev(values->listen);
    g_strfreev(values->fs_ids);
    g_strfreev(values->limits);
    g_strfreev(values->traces);
}
typedef struct file_values file_values;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(file_values, file_values_clear)

static gboolean check_keys(GKeyFile *file, const char *group, const char *const *known,
                           GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, group, NULL, NULL);

    for (char **key = keys; key != NULL && *key != NULL; key++)
        if (!g_strv_contains(known, *key))
            return fail_usage(error, "%s: unknown key in [%s]", *key, group);
    return TRUE;
}

static char *get_string(GKeyFile *file, const char *group, const char *key)
{
    char *value = g_key_file_get_string(file, group, key, NULL);

    return value != NULL ? g_strstrip(value) : NULL;
}

static gboolean get_int64(GKeyFile *file, const char *key, gint64 *value, GError **error)
{
    g_autofree char *text = get_string(file, "daemon", key);

    if (text == NULL || g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, value, NULL))
        return TRUE;
    return fail_usage(error, "%s: '%s' is not a number", key, text);
}

static char **get_list(GKeyFile *file, const char *key)
{
    char **list = g_key_file_get_string_list(file, "daemon", key, NULL, NULL);

    for (char **item = list; item != NULL && *item != NULL; item++)
        g_strstrip(*item);
    return list;
}

static void get_modes(GKeyFile *file, const char *group, char *modes[MODE_COUNT])
{
    for (guint i = 0; i < MODE_COUNT; i++)
        modes[i] = get_string(file, group, mode_names[i]);
}

static gboolean read_export_group(GKeyFile *file, const char *group, const char *name,
                                  struct settings *settings, const char *default_store,
                                  char *const default_modes[MODE_COUNT], GError **error)
{
    static const char *const known[] = {"dir",         "store",   "multidevs",   "on-duplicate",
                                        "bind",        "weak",    "markers",     "readonly",
                                        "security",    "squash",  "squash-user", "xattrs",
                                        "qid-version", "subdirs", "allow",       NULL};
    g_autofree char *dir = get_string(file, group, "dir");
    g_autofree char *store = get_string(file, group, "store");
    char *own[MODE_COUNT], *modes[MODE_COUNT];
    gboolean readonly = FALSE, added;

    if (!check_keys(file, group, known, error))
        return FALSE;
    if (g_key_file_has_key(file, group, "readonly", NULL)) {
        g_autofree char *text = get_string(file, group, "readonly");

        readonly = g_strcmp0(text, "true") == 0;
        if (!readonly && g_strcmp0(text, "false") != 0)
            return fail_usage(error, "readonly: '%s' is none of true, false", text);
    }
    get_modes(file, group, own);
    merge_modes(modes, own, default_modes);
    added = add_export(settings, name, dir, store != NULL ? store : default_store, modes, readonly,
                       error);
    modes_clear(own);
    return added;
}

/* Fills `values` from [daemon]; with `settings`, adds the exports, too. */
static gboolean read_file(const char *path, struct file_values *values, struct settings *settings,
                          const char *store, char *const modes[MODE_COUNT], GError **error)
{
    static const char *const known[] = {
        "listen",        "store",       "access",  "multidevs",   "on-duplicate",
        "bind",          "weak",        "markers", "threads",     "msize-max",
        "fs-id",         "limit",       "subdirs", "allow",       "idle-timeout",
        "stall-timeout", "trace",       "isolate", "seccomp",     "security",
        "squash",        "squash-user", "xattrs",  "qid-version", "descriptors",
        "control",       NULL};
    char *defaults[MODE_COUNT];
    struct config_lines *lines;
    const char *current = "daemon";
    struct settings checked;
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_auto(GStrv) groups = NULL;

    lines = config_lines_read(path, error);
    if (lines == NULL)
        return FALSE;
    if (!g_key_file_load_from_data(file, config_lines_text(lines), (gsize)-1, G_KEY_FILE_NONE,
                                   error) ||
        !check_keys(file, "daemon", known, error))
        goto bad;
    values->store = get_string(file, "daemon", "store");
    values->access = get_string(file, "daemon", "access");
    values->isolate = get_string(file, "daemon", "isolate");
    values->seccomp = get_string(file, "daemon", "seccomp");
    values->control = get_string(file, "daemon", "control");
    get_modes(file, "daemon", values->modes);
    merge_modes(defaults, modes, values->modes);
    values->listen = get_list(file, "listen");
    values->traces = get_list(file, "trace");
    values->fs_ids = get_list(file, "fs-id");
    values->limits = get_list(file, "limit");
    if (!get_int64(file, "threads", &values->threads, error) ||
        !get_int64(file, "msize-max", &values->msize, error) ||
        !get_int64(file, "idle-timeout", &values->idle, error) ||
        !get_int64(file, "stall-timeout", &values->stall, error) ||
        !get_int64(file, "descriptors", &values->descriptors, error))
        goto bad;
    if (!check_modes(values->modes, error) ||
        !parse_access(values->access, &checked.trusted, error) ||
        !parse_isolate(values->isolate, values->seccomp, &checked, error) ||
        !check_control(values->control, error) ||
        !check_numbers(values->threads, values->msize, &checked, error) ||
        !check_descriptors(values->descriptors, &checked, error) ||
        !check_seconds("idle-timeout", values->idle, &checked.idle_seconds, error) ||
        !check_seconds("stall-timeout", values->stall, &checked.stall_seconds, error) ||
        !check_limits(values->limits, error) || !check_traces(values->traces, error) ||
        !config_parse_listen(values->listen, NULL, error) ||
        !config_check_fs_ids(values->fs_ids, error))
        goto bad;
    groups = g_key_file_get_groups(file, NULL);
    for (char **group = groups; *group != NULL; group++) {
        if (strcmp(*group, "daemon") == 0)
            continue;
        current = *group;
        if (!g_str_has_prefix(*group, "export ")) {
            fail_usage(error, "unknown group [%s]", *group);
            goto bad;
        }
        if (!read_export_group(file, *group, *group + strlen("export "), settings,
                               store != NULL ? store : values->store, defaults, error))
            goto bad;
    }
    settings->lines = lines;
    return TRUE;
bad:
    config_lines_blame(lines, current, error);
    config_lines_free(lines);
    return FALSE;
}

/* ---- the command line ------------------------------------------------------------------------ */

struct arguments {
    char *config, *store, *access, *isolate, *seccomp, *control;
    char *modes[MODE_COUNT];
    char **exports, **listen, **fs_ids, **connected, **limits, **traces;
    gint64 msize, idle, stall, descriptors;
    gint threads, ready_fd;
    gboolean debug, foreground, version;
};

static void arguments_clear(struct arguments *args)
{
    g_free(args->config);
    g_free(args->store);
    modes_clear(args->modes);
    g_free(args->access);
    g_free(args->isolate);
    g_free(args->control);
    g_free(args->seccomp);
    g_strfreev(args->exports);
    g_strfreev(args->connected);
    g_strfreev(args->listen);
    g_strfreev(args->fs_ids);
    g_strfreev(args->limits);
    g_strfreev(args->traces);
}

static gboolean parse_arguments(int *argc, char ***argv, struct arguments *args, GError **error)
{
    const GOptionEntry entries[] = {
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &args->config,
         "Read this file (default, without --export: " SYSCONFDIR "/qidmap/qidmapd.conf)", "FILE"},
        {"export", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &args->exports,
         "Serve the tree DIR under the name NAME (repeatable)", "NAME=DIR"},
        {"store", 0, 0, G_OPTION_ARG_FILENAME, &args->store,
         "Where ids are kept: lmdb:DIR, xattr:DIR or memory:", "URI"},
        {"listen", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &args->listen,
         "Listen here: unix:PATH, tcp:HOST:PORT or vsock:[CID:]PORT (repeatable)", "ADDR"},
        {"connected-fd", 0, 0, G_OPTION_ARG_STRING_ARRAY, &args->connected,
         "Serve the client at this descriptor, or at these two (repeatable)", "N[,OUT]"},
        {"subdirs", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_SUBDIRS],
         "Whether clients may attach to directories below an export: no (default), yes", "MODE"},
        {"allow", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_ALLOW],
         "Who may attach: addresses, vsock:CID, uid:USER, gid:GROUP, unix ... (default any)",
         "LIST"},
        {"multidevs", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_MULTIDEVS],
         "Several filesystems in one export: remap (default), forbid, warn", "MODE"},
        {"on-duplicate", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_ON_DUPLICATE],
         "Filesystems with one identity: split (ids of its own for each, default), refuse", "MODE"},
        {"bind", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_BIND],
         "A filesystem at several places: same (same ids, default), distinct", "MODE"},
        {"weak", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_WEAK],
         "Filesystems known by names only: keep their ids (default), split at each mount", "MODE"},
        {"markers", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_MARKERS],
         "Write an xattr to filesystems that nothing else tells apart: yes (default), no", "MODE"},
        {"access", 0, 0, G_OPTION_ARG_STRING, &args->access,
         "Who acts: client (the attached user, default) or trusted (the daemon)", "MODE"},
        {"security", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_SECURITY],
         "Owners and modes: passthrough (default), mapped-xattr (as QEMU), squash (one user)",
         "MODE"},
        {"squash", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_SQUASH],
         "With --security=squash, who is another user on the host: all (default) or root", "WHO"},
        {"squash-user", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_SQUASH_USER],
         "That user: UID:GID, UID or name (default 65534:65534)", "USER"},
        {"xattrs", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_XATTRS],
         "xattrs for clients: all (default), none, or of user,system,security,trusted", "LIST"},
        {"qid-version", 0, 0, G_OPTION_ARG_STRING, &args->modes[MODE_QID_VERSION],
         "Version of a file: stable (default), or mtime, for guests with cache=fscache", "MODE"},
        {"fs-id", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &args->fs_ids,
         "Identity of the filesystem mounted at PATH (repeatable)", "PATH=UUID"},
        {"isolate", 0, 0, G_OPTION_ARG_STRING, &args->isolate,
         "Give up mounts and rights that are not needed: auto (what can be, default), yes, no",
         "MODE"},
        {"seccomp", 0, 0, G_OPTION_ARG_STRING, &args->seccomp,
         "With isolation, give up system calls too: yes (default), no", "MODE"},
        {"control", 0, 0, G_OPTION_ARG_FILENAME, &args->control,
         "Socket for qidmapctl: an absolute path, or none (default: one in the run directory)",
         "PATH"},
        {"threads", 0, 0, G_OPTION_ARG_INT, &args->threads, "At most N threads (default 64)", "N"},
        {"msize-max", 0, 0, G_OPTION_ARG_INT64, &args->msize,
         "Largest message in bytes (default 1 MiB and its header)", "BYTES"},
        {"limit", 0, 0, G_OPTION_ARG_STRING_ARRAY, &args->limits,
         "What a session may hold: fids, requests, files, memory or locks; all: total-NAME; or "
         "connections (repeatable)",
         "NAME=N"},
        {"idle-timeout", 0, 0, G_OPTION_ARG_INT64, &args->idle,
         "Cut off who attaches nothing for so long (default 60; 0: never)", "SECONDS"},
        {"stall-timeout", 0, 0, G_OPTION_ARG_INT64, &args->stall,
         "Cut off who stops in mid-message or does not read replies (default 300; 0: never)",
         "SECONDS"},
        {"descriptors", 0, 0, G_OPTION_ARG_INT64, &args->descriptors,
         "Keep at most N descriptors of files that are not open (default: as the limit allows)",
         "N"},
        {"ready-fd", 0, 0, G_OPTION_ARG_INT, &args->ready_fd,
         "Write READY to this descriptor once it listens, and close it", "N"},
        {"trace", 0, 0, G_OPTION_ARG_STRING_ARRAY, &args->traces,
         "Log the messages of a session: its number, all, or peer=ADDR (repeatable)", "WHICH"},
        {"debug", 0, 0, G_OPTION_ARG_NONE, &args->debug,
         "Log more, and the messages of all sessions", NULL},
        {"foreground", 0, 0, G_OPTION_ARG_NONE, &args->foreground,
         "Stay in the foreground (it always does)", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &args->version, "Show the version", NULL},
        {NULL, 0, 0, 0, NULL, NULL, NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("- serve directories over 9P2000.L");

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_description(
        context, "Example: qidmapd --export data=/srv/data --store lmdb:/var/lib/qidmap/data "
                 "--listen unix:/run/qidmapd.sock\nSee qidmapd(8) and qidmapd.conf(5).\n");
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;
    if (*argc > 1)
        return fail_usage(error, "'%s' is not an option", (*argv)[1]);
    return TRUE;
}

static gboolean add_argument_exports(struct arguments *args, struct settings *settings,
                                     const struct file_values *file, GError **error)
{
    const char *store = args->store != NULL ? args->store : file->store;
    char *modes[MODE_COUNT];

    merge_modes(modes, args->modes, file->modes);
    for (char **item = args->exports; item != NULL && *item != NULL; item++) {
        char *equals = strchr(*item, '=');
        g_autofree char *name = NULL;

        if (equals == NULL)
            return fail_usage(error, "--export %s: expected NAME=DIR", *item);
        name = g_strndup(*item, (gsize)(equals - *item));
        if (!add_export(settings, name, equals + 1, store, modes, false, error))
            return FALSE;
    }
    return TRUE;
}

/* What of the two counts, as text. */
static char *fixed_list(const char *name, char **first, char **second)
{
    g_autofree char *all = g_strjoinv(";", first != NULL    ? first
                                           : second != NULL ? second
                                                            : (char *[]){NULL});

    return g_strconcat(name, "=", all, NULL);
}

static char *fixed_text(const char *name, const char *first, const char *second)
{
    return g_strconcat(name, "=", first != NULL ? first : second != NULL ? second : "", NULL);
}

static char *fixed_number(const char *name, uint64_t number)
{
    return g_strdup_printf("%s=%" G_GUINT64_FORMAT, name, number);
}

static char **fixed_of(const struct settings *settings, const struct arguments *args,
                       const struct file_values *file)
{
    GPtrArray *all = g_ptr_array_new();

    g_ptr_array_add(all, fixed_list("listen", args->listen, file->listen));
    g_ptr_array_add(all, fixed_text("control", args->control, file->control));
    g_ptr_array_add(all, fixed_list("fs-id", args->fs_ids, file->fs_ids));
    g_ptr_array_add(all, fixed_list("trace", args->traces, file->traces));
    g_ptr_array_add(all, fixed_number("access", settings->trusted));
    g_ptr_array_add(all, fixed_number("isolate", settings->isolate));
    g_ptr_array_add(all, fixed_number("seccomp", settings->seccomp));
    g_ptr_array_add(all, fixed_number("threads", settings->threads));
    g_ptr_array_add(all, fixed_number("msize-max", settings->msize_max));
    g_ptr_array_add(all, fixed_number("descriptors", settings->descriptors));
    g_ptr_array_add(all, NULL);
    return (char **)g_ptr_array_free(all, FALSE);
}

char *settings_fixed_change(const struct settings *before, const struct settings *after)
{
    for (guint i = 0; before->fixed[i] != NULL; i++)
        if (strcmp(before->fixed[i], after->fixed[i]) != 0)
            return g_strndup(before->fixed[i], (gsize)strcspn(before->fixed[i], "="));
    return NULL;
}

bool settings_is_guarded(const struct settings *settings)
{
    for (guint i = 0; i < settings->exports->len; i++)
        if (((const struct settings_export *)g_ptr_array_index(settings->exports, i))->allow ==
            NULL)
            return false;
    return true;
}

char *settings_where(const struct settings *settings, const char *group, const char *key)
{
    return settings->lines != NULL ? config_lines_where(settings->lines, group, key) : g_strdup("");
}

static enum settings_result read_all(int *argc, char ***argv, bool again, struct settings **result,
                                     GError **error)
{
    struct arguments args = {.ready_fd = -1,
                             .threads = G_MININT,
                             .msize = G_MININT64,
                             .idle = G_MININT64,
                             .stall = G_MININT64,
                             .descriptors = G_MININT64};
    g_auto(file_values) file = {.threads = THREADS_DEFAULT,
                                .msize = MSIZE_DEFAULT,
                                .idle = IDLE_DEFAULT,
                                .stall = STALL_DEFAULT};
    struct settings *settings = NULL;
    enum settings_result outcome = SETTINGS_USAGE;

    if (!parse_arguments(argc, argv, &args, error))
        goto out;
    if (args.version) {
        printf("qidmapd %s\n", PACKAGE_VERSION);
        outcome = SETTINGS_DONE;
        goto out;
    }
    settings = g_new0(struct settings, 1);
    settings->exports = g_ptr_array_new_with_free_func(export_free);
    settings->limits = g_ptr_array_new_with_free_func(g_free);
    settings->listen = g_ptr_array_new_with_free_func((GDestroyNotify)listen_spec_free);
    settings->connected = g_array_new(FALSE, FALSE, sizeof(struct accept_pair));
    settings->ready_fd = args.ready_fd;
    settings->debug = args.debug;
    if (!check_modes(args.modes, error)) /* before a file is blamed for them */
        goto out;
    if (args.config != NULL || args.exports == NULL) {
        const char *path = args.config != NULL ? args.config : SYSCONFDIR "/qidmap/qidmapd.conf";

        if (!read_file(path, &file, settings, args.store, args.modes, error)) {
            if (args.config == NULL)
                g_prefix_error(error, "no --export given (see qidmapd --help), and ");
            outcome = SETTINGS_BAD;
            goto out;
        }
        settings->config = g_strdup(path);
    }
    if (!add_argument_exports(&args, settings, &file, error) ||
        !parse_access(args.access != NULL ? args.access : file.access, &settings->trusted, error) ||
        !parse_isolate(args.isolate != NULL ? args.isolate : file.isolate,
                       args.seccomp != NULL ? args.seccomp : file.seccomp, settings, error) ||
        !check_control(args.control, error) ||
        !check_numbers(args.threads != G_MININT ? args.threads : file.threads,
                       args.msize != G_MININT64 ? args.msize : file.msize, settings, error) ||
        !check_descriptors(args.descriptors != G_MININT64 ? args.descriptors : file.descriptors,
                           settings, error) ||
        !check_seconds("idle-timeout", args.idle != G_MININT64 ? args.idle : file.idle,
                       &settings->idle_seconds, error) ||
        !check_seconds("stall-timeout", args.stall != G_MININT64 ? args.stall : file.stall,
                       &settings->stall_seconds, error) ||
        !add_limits(settings, file.limits, error) || !add_limits(settings, args.limits, error))
        goto out;
    if (settings->exports->len == 0) {
        fail_usage(error,
                   "nothing to serve: give --export NAME=DIR, or an [export NAME] in the file");
        goto out;
    }
    if (!config_parse_connected(args.connected, settings->ready_fd, settings->connected, error) ||
        !config_parse_listen(args.listen != NULL ? args.listen : file.listen, settings->listen,
                             error) ||
        !config_check_fs_ids(args.fs_ids, error) || !check_traces(args.traces, error))
        goto out;
    settings->traces = g_strdupv(args.traces != NULL ? args.traces : file.traces);
    settings->control = g_strdup(args.control != NULL ? args.control : file.control);
    settings->fs_ids = g_strdupv(args.fs_ids != NULL ? args.fs_ids : file.fs_ids);
    settings->fixed = fixed_of(settings, &args, &file);
    if (!again && settings->listen->len == 0 && settings->connected->len == 0 &&
        getenv("LISTEN_FDS") == NULL) {
        fail_usage(error,
                   "no address to listen on: give --listen unix:PATH or --listen tcp:HOST:PORT");
        goto out;
    }
    *result = g_steal_pointer(&settings);
    outcome = SETTINGS_OK;
out:
    settings_free(settings);
    arguments_clear(&args);
    return outcome;
}

enum settings_result settings_read(int *argc, char ***argv, struct settings **settings,
                                   GError **error)
{
    return read_all(argc, argv, false, settings, error);
}

enum settings_result settings_read_again(int *argc, char ***argv, struct settings **settings,
                                         GError **error)
{
    return read_all(argc, argv, true, settings, error);
}
