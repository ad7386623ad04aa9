/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control socket: an administrator's requests to the running daemon, as lines of JSON.
 *
 * A request is one object in one line, of at most CONTROL_LINE bytes: {"verb":"stats", ...}. The
 * reply is any number of lines {"progress":{"done":"N","total":"N"}}, then one
 * {"result":{...}} or {"error":{"errno":"EBUSY","text":"..."}}. 64-bit numbers are decimal strings.
 * Files come as descriptors (SCM_RIGHTS, with the bytes of the request), never as names: the
 * daemon's mounts are not the host's.
 *
 * This file owns the socket, the threads of its clients (one each, none of them serves 9P) and the
 * lines. It knows no verb: each registers itself. Who may connect: root, and the daemon's own user.
 *
 * The parts: control.c socket and clients; control-line.c lines and descriptors; control-*.c verbs.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#define CONTROL_LINE    65536 /* bytes of a request, with its newline */
#define CONTROL_CLIENTS 16    /* at once */
#define CONTROL_FDS     4     /* with one request */
#define CONTROL_DEPTH   16    /* of objects and arrays in each other */

struct control_call; /* one request that is being answered */

/* A verb: answers `request`, and returns the result, which is taken over; or NULL, after
 * control_fail(). In a thread of the client's, with the daemon's rights; several verbs run at once.
 */
typedef JsonObject *(*control_func)(struct control_call *call, JsonObject *request, void *data);

/* Registers a verb; before control_start(). `name` is static. */
void control_add(const char *name, control_func run, void *data);

/* ---- for verbs ------------------------------------------------------------------------------- */

/* Notes why the verb failed: a negative errno and a line for people. Returns NULL, always. */
JsonObject *control_fail(struct control_call *call, int code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* Tells how far it is: a qidmap_progress_func with the call as its data. Cheap; a line goes out a
 * few times a second at most. -ECANCELED: the client is gone, or the daemon ends. */
int control_progress(void *call, uint64_t done, uint64_t total);

/* The descriptor `index` of those that came with the request, which becomes the caller's; -1: there
 * is none. What nobody takes is closed. */
int control_take_fd(struct control_call *call, unsigned index);

/* Members of a request. Where one is of another kind than it should be, or absent and `needed`, it
 * is noted by control_fail(), and false; absent ones leave *value as it is. */
bool control_text(struct control_call *call, JsonObject *request, const char *member, bool needed,
                  const char **value);
/* The same for a name: escaped as in results. To be freed; NULL where it is absent. */
bool control_name(struct control_call *call, JsonObject *request, const char *member, bool needed,
                  char **value);
bool control_number(struct control_call *call, JsonObject *request, const char *member, bool needed,
                    uint64_t *value); /* a number, or a string of decimal digits */
bool control_flag(struct control_call *call, JsonObject *request, const char *member, bool *value);

/* Members of a result. */
void control_set_u64(JsonObject *object, const char *member, uint64_t number);
/* Names from clients and disks: what is no UTF-8 is escaped as the tool does it. */
void control_set_name(JsonObject *object, const char *member, const char *name);

/* ---- for main.c ------------------------------------------------------------------------------ */

struct control; /* the socket */

/* Makes the socket, before the sandbox is entered. `path`: absolute, "none" (then *control is
 * NULL), or NULL for a path of our own. */
gboolean control_open(const char *path, struct control **control, GError **error);

/* Where it is. */
const char *control_path(const struct control *control);

/* Begins to answer. */
gboolean control_start(struct control *control, GError **error);

/* Ends what runs, waits for it, and removes the socket. Verbs that are at work see -ECANCELED from
 * control_progress(). NULL is allowed. */
void control_stop(struct control *control);

#endif
