/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the verbs of qidmapctl share: exit statuses, the table entry of a verb, the options that all
 * of them take, and the ways to print. Each verb lives in a cmd-*.c file of its own and opens
 * stores through cmd_open() and cmd_open_write() only.
 */
#ifndef TOOLS_CMD_H
#define TOOLS_CMD_H

#include <glib.h>
#include <json-glib/json-glib.h>

#include "store/qidmap.h"

/* Exit statuses; qidmapctl(8) says what each means. */
enum {
    CMD_OK = 0,
    CMD_TROUBLE = 1, /* not found, not mapped, damaged */
    CMD_USAGE = 2,
    CMD_CANNOT = 3 /* no store, no permission, no room for the output */
};

/* Whether a verb works on a store. */
enum cmd_store {
    CMD_STORE = 0,       /* it must be named */
    CMD_STORE_MAYBE = 1, /* it may be named */
    CMD_STORE_NONE = 2
};

/* One verb: main.c has the table, and makes --help from it. */
struct cmd {
    const char *name;    /* one word, or two: "fs list" */
    const char *args;    /* what follows the options, for the usage line; may be "" */
    const char *summary; /* one line */
    const char *details; /* more lines, below the options in the help of the verb */
    int (*run)(const struct cmd *cmd, int argc, char **argv);
};

/* What the options that every verb takes said. Freed by cmd_options_clear(). */
struct cmd_options {
    enum cmd_store use; /* in: set before cmd_parse() */
    char *store;
    char *export_name;
    char *config;
    char **fs_ids;   /* PATH=UUID; only verbs that look at files take them */
    gboolean writes; /* in: the verb changes the store, and has the daemon do it that has it open */
    char *control;   /* its control socket, where that was named */
    gboolean json;
    char **rest; /* what is left: never NULL after cmd_parse() */
};

/*
 * Reads the options of `cmd`: the common ones and those of `extra` (may be NULL). FALSE when the
 * verb is to end at once with *status, which is CMD_OK after --help.
 */
gboolean cmd_parse(const struct cmd *cmd, struct cmd_options *options, const GOptionEntry *extra,
                   int argc, char **argv, int *status);
void cmd_options_clear(struct cmd_options *options);
typedef struct cmd_options cmd_options;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(cmd_options, cmd_options_clear)

/* Opens for reading the store that the options name. Returns an exit status; has told any error.
 * With --export, adds the fs-id settings of the file to options->fs_ids. */
int cmd_open(struct cmd_options *options, qidmap_store **store);
/* The same for writing, for verbs that change a store. */
int cmd_open_write(struct cmd_options *options, qidmap_store **store);

/* Who is to change the store `uri`: *path is the control socket of the daemon that has it open, or
 * NULL: nobody has, the tool opens it itself. Returns an exit status; has told any error. */
int cmd_daemon(const struct cmd_options *options, const char *uri, char **path);

struct progress;

/* Has the daemon at `path` change the store `uri`: daemon_call() with that as the member "store".
 * 0 or a negative errno, for cmd_fail(). */
int cmd_ask(const char *path, const char *uri, const char *verb, JsonObject *arguments,
            const int *fds, gsize n_fds, struct progress *line, JsonObject **result,
            struct qidmap_error *error);

/* A place beside the store `uri` for the dump of what is there, for the daemon, whose own mounts do
 * not show it: *dir is a descriptor, *name a name in it, *path both. A negative errno. */
int cmd_beside(const char *uri, const char *what, int *dir, char **name, char **path);

/* TRUE where the options name a store. */
gboolean cmd_has_store(const struct cmd_options *options);

/* The configuration file that the options name. */
const char *cmd_config_path(const struct cmd_options *options);

/* Asks a question on the terminal, unless `yes`. Returns CMD_OK to go on; has told any other. */
int cmd_confirm(const struct cmd *cmd, gboolean yes, const char *question);

/* The URI of the store that the options name, for the caller to free. Returns an exit status; has
 * told any error. */
int cmd_uri(struct cmd_options *options, char **uri);

/* Tells an error of the library, and returns the exit status for its code. */
int cmd_fail(const struct qidmap_error *error);
/* The same where a change of a row was refused: what lies in the store, and stays there, is no
 * wrong usage, but trouble; a client or a server that is in the way can be waited for: that is
 * "cannot". */
int cmd_refused(const struct qidmap_error *error);
/* The same for one that has a code only; `what` names the object. */
int cmd_fail_code(const char *what, int code);

/* One line to stderr. */
void cmd_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Tells a usage error, with the hint where help is. Returns CMD_USAGE. */
int cmd_usage(const struct cmd *cmd, const char *text);

/* A decimal or 0x number of 64 bits, the whole string. */
gboolean cmd_number(const char *text, guint64 *number);

/* The defined escape of names: a backslash is doubled, and a byte that is no part of valid UTF-8
 * becomes \xHH. With `terminal`, control characters become \xHH too. Free with g_free(). */
char *cmd_escape(const char *name, gboolean terminal);

/* What is escaped already, as names in JSON, fit for a terminal: only what would act on one is
 * written as \xHH. Free with g_free(). */
char *cmd_terminal(const char *text);

/* An identity for people: uuids joined by '/', or hex where it is no sequence of uuids. */
char *cmd_fsid_text(const struct qidmap_fsid *fsid);

/* How the identity of a kind is found, in words; static storage. */
const char *cmd_fsid_words(guint32 kind);

/* The strongest identity of a row, which need not be the one it was first known by; NULL: it has
 * none. */
const struct qidmap_fsid *cmd_fs_identity(const struct qidmap_fs *row);

/* How sure an identity is: "sure", "weak", "untested" or "ephemeral"; static storage. */
const char *cmd_certainty(guint32 kind, guint32 flags, guint32 policy);

/* The same for a row, with what else sets it apart, for a table: "sure,duplicate". Free with
 * g_free(). */
char *cmd_fs_certainty(const struct qidmap_fs *row);

/* "ext4 on /dev/sda1", as far as it is known, for terminals. Free with g_free(). */
char *cmd_fs_what(const struct qidmap_hints *hints);

/* "60.0 KiB". */
char *cmd_size_text(guint64 bytes);

/* "2026-11-21T14:00:00Z"; "-" for 0. */
char *cmd_time_text(gint64 seconds);

/* Members of JSON objects: 64-bit numbers are decimal strings, names are escaped. */
void cmd_json_u64(JsonObject *object, const char *member, guint64 number);
void cmd_json_name(JsonObject *object, const char *member, const char *name);
/* Prints one object as a line, and frees it. */
void cmd_json_line(JsonObject *object);

/* A row of the table `fs` as an object; `full_rows` is left out where it is NULL. */
JsonObject *cmd_fs_json(const struct qidmap_fs *row, const guint64 *full_rows);

int cmd_status(const struct cmd *cmd, int argc, char **argv);
int cmd_dump(const struct cmd *cmd, int argc, char **argv);
/* TRUE where the store is virtfs:DIR, which was dumped then; *status is the exit status. */
gboolean cmd_dump_virtfs(const struct cmd_options *options, int *status);
/* Says what came of a load or copy: "loaded: 1 filesystems, ...", or the JSON object. */
void cmd_show_load(const char *done, const struct qidmap_load_result *r, gboolean json);
int cmd_load(const struct cmd *cmd, int argc, char **argv);
int cmd_verify(const struct cmd *cmd, int argc, char **argv);
int cmd_compact(const struct cmd *cmd, int argc, char **argv);
int cmd_copy(const struct cmd *cmd, int argc, char **argv);
int cmd_backup(const struct cmd *cmd, int argc, char **argv);
int cmd_restore(const struct cmd *cmd, int argc, char **argv);
int cmd_reset(const struct cmd *cmd, int argc, char **argv);
int cmd_lookup(const struct cmd *cmd, int argc, char **argv);
int cmd_adopt(const struct cmd *cmd, int argc, char **argv);
int cmd_manifest(const struct cmd *cmd, int argc, char **argv);
int cmd_preflight(const struct cmd *cmd, int argc, char **argv);
int cmd_reload(const struct cmd *cmd, int argc, char **argv);
int cmd_hold(const struct cmd *cmd, int argc, char **argv);
int cmd_drain(const struct cmd *cmd, int argc, char **argv);
int cmd_fs_list(const struct cmd *cmd, int argc, char **argv);
int cmd_fs_show(const struct cmd *cmd, int argc, char **argv);
int cmd_fs_identify(const struct cmd *cmd, int argc, char **argv);
int cmd_fs_alias(const struct cmd *cmd, int argc, char **argv);
int cmd_fs_policy(const struct cmd *cmd, int argc, char **argv);
int cmd_fs_retire(const struct cmd *cmd, int argc, char **argv);
int cmd_top(const struct cmd *cmd, int argc, char **argv);
int cmd_metrics(const struct cmd *cmd, int argc, char **argv);
int cmd_survey(const struct cmd *cmd, int argc, char **argv);

/* The number of a filesystem, from 1, the whole string. */
gboolean cmd_fs_number(const char *text, guint32 *fs);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(qidmap_store, qidmap_store_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(qidmap_iter, qidmap_iter_close)

#endif
