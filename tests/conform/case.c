/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the cases share: how one ends, sessions, and steps that must succeed. It must not know of
 * the table of cases or of how results are told.
 */
#include "config.h"

#include "tests/conform/conform.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct env env;

static void end(int status, const char *text)
{
    /* The runner reads the text from descriptor 1. */
    if (write(1, text, strlen(text)) < 0)
        _exit(1);
    _exit(status);
}

void fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    end(1, g_strdup_vprintf(fmt, ap));
    va_end(ap);
    _exit(1);
}

void skip(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    end(77, g_strdup_vprintf(fmt, ap));
    va_end(ap);
    _exit(77);
}

const char *rc_name(int rc)
{
    switch (rc) {
    case 0:
        return "success";
    case CLIENT_EOF:
        return "the end of the connection";
    case CLIENT_TIMEOUT:
        return "no answer";
    case CLIENT_BAD:
        return "an answer that breaks the protocol";
    default:
        return strerrorname_np(rc) != NULL ? strerrorname_np(rc) : g_strdup_printf("errno %d", rc);
    }
}

void expect_ok(int rc, const char *what, const char *file, int line)
{
    if (rc != 0)
        fail("%s:%d: %s\ngot: %s", file, line, what, rc_name(rc));
}

void expect_errno(int rc, const int *wanted, const char *what, const char *file, int line)
{
    GString *names = g_string_new("");

    for (const int *w = wanted; *w != 0; w++) {
        if (*w == rc)
            return;
        g_string_append_printf(names, "%s%s", w == wanted ? "" : " or ", rc_name(*w));
    }
    fail("%s:%d: %s\nexpected: %s, got: %s", file, line, what, names->str, rc_name(rc));
}

void expect_error(int rc, const char *what, const char *file, int line)
{
    if (rc <= 0)
        fail("%s:%d: %s\nexpected: an error, got: %s", file, line, what, rc_name(rc));
}

void expect_equal(guint64 got, guint64 wanted, const char *what, const char *file, int line)
{
    if (got != wanted)
        fail("%s:%d: %s\nexpected: %" G_GUINT64_FORMAT ", got: %" G_GUINT64_FORMAT, file, line,
             what, wanted, got);
}

void expect_true(gboolean is, const char *what, const char *file, int line)
{
    if (!is)
        fail("%s:%d: does not hold: %s", file, line, what);
}

/* ---- sessions -------------------------------------------------------------------------------- */

struct client *dial(void)
{
    struct client *c = client_connect(env.addr);

    if (c == NULL)
        fail("nobody listens at %s", env.addr);
    c->timeout_ms = env.timeout_ms;
    return c;
}

static int begin(struct client *c, guint32 msize)
{
    g_autofree char *path = NULL;
    int rc = client_hello(c, msize);

    if (rc == 0)
        rc = client_attach(c, ROOT, env.uid, env.aname, NULL);
    if (rc != 0 || env.at == NULL)
        return rc;
    path = g_build_path("/", env.work, env.at, NULL);
    return client_walk_path(c, ROOT, WORK, path, NULL);
}

struct client *session_msize(guint32 msize)
{
    struct client *c = dial();
    int rc = begin(c, msize);

    if (rc != 0)
        fail("cannot begin a session (version, attach, walk): %s", rc_name(rc));
    return c;
}

struct client *session(void)
{
    return session_msize(65536);
}

struct client *session_or_null(void)
{
    struct client *c = client_connect(env.addr);

    if (c == NULL)
        return NULL;
    c->timeout_ms = env.timeout_ms;
    if (begin(c, 65536) == 0)
        return c;
    client_close(c);
    return NULL;
}

void still_serves(void)
{
    struct client *c = session();

    attr_of(c, ROOT);
    client_close(c);
}

guint32 walk_to(struct client *c, guint32 from, const char *path)
{
    guint32 fid = client_fid(c);
    int rc = client_walk_path(c, from, fid, path, NULL);

    if (rc != 0)
        fail("Twalk to '%s': %s", path, rc_name(rc));
    return fid;
}

guint32 clone_fid(struct client *c, guint32 fid)
{
    guint32 copy = client_fid(c);
    struct client_qid qids[16];
    guint n;
    int rc = client_walk(c, fid, copy, NULL, &n, qids);

    if (rc != 0)
        fail("Twalk of no names (clone): %s", rc_name(rc));
    return copy;
}

guint32 make_open(struct client *c, const char *name, const char *text)
{
    guint32 fid = clone_fid(c, WORK);
    int rc = client_lcreate(c, fid, name, L_RDWR | L_CREAT | L_EXCL, 0644, NULL);

    if (rc != 0)
        fail("Tlcreate of '%s': %s", name, rc_name(rc));
    if (text[0] != '\0')
        put_text(c, fid, 0, text);
    return fid;
}

guint32 make_file(struct client *c, const char *name, const char *text)
{
    OK(client_clunk(c, make_open(c, name, text)));
    return walk_to(c, WORK, name);
}

guint32 make_dir(struct client *c, const char *name)
{
    int rc = client_mkdir(c, WORK, name, 0755, NULL);

    if (rc != 0)
        fail("Tmkdir of '%s': %s", name, rc_name(rc));
    return walk_to(c, WORK, name);
}

guint32 make_link(struct client *c, const char *name, const char *target)
{
    int rc = client_symlink(c, WORK, name, target, NULL);

    if (rc != 0)
        fail("Tsymlink of '%s': %s", name, rc_name(rc));
    return walk_to(c, WORK, name);
}

guint32 open_path(struct client *c, const char *path, guint32 flags)
{
    guint32 fid = walk_to(c, WORK, path);
    int rc = client_lopen(c, fid, flags, NULL);

    if (rc != 0)
        fail("Tlopen of '%s' with flags 0%o: %s", path, flags, rc_name(rc));
    return fid;
}

struct client_attr attr_of(struct client *c, guint32 fid)
{
    struct client_attr attr;
    int rc = client_getattr(c, fid, GETATTR_ALL, &attr);

    if (rc != 0)
        fail("Tgetattr: %s", rc_name(rc));
    return attr;
}

struct client_qid qid_of(struct client *c, guint32 fid)
{
    return attr_of(c, fid).qid;
}

gboolean same_qid(const struct client_qid *a, const struct client_qid *b)
{
    return a->type == b->type && a->version == b->version && a->path == b->path;
}

void put_text(struct client *c, guint32 fid, guint64 offset, const char *text)
{
    guint32 written = 0;
    int rc = client_write(c, fid, offset, strlen(text), text, &written);

    if (rc != 0)
        fail("Twrite of '%s': %s", text, rc_name(rc));
    if (written != strlen(text))
        fail("Twrite of %zu bytes wrote %u", strlen(text), written);
}

void expect_text(struct client *c, guint32 fid, const char *text)
{
    GByteArray *data = NULL;
    int rc = client_read(c, fid, 0, 4000, &data);

    if (rc != 0)
        fail("Tread: %s", rc_name(rc));
    if (data->len != strlen(text) || (data->len > 0 && memcmp(data->data, text, data->len) != 0))
        fail("the file holds '%.*s', expected '%s'", (int)data->len, (const char *)data->data,
             text);
    g_byte_array_unref(data);
}

void expect_content(struct client *c, const char *path, const char *text)
{
    guint32 fid = open_path(c, path, L_RDONLY);

    expect_text(c, fid, text);
    client_clunk(c, fid);
}

gboolean exists(struct client *c, const char *path)
{
    guint32 fid = client_fid(c);
    int rc = client_walk_path(c, WORK, fid, path, NULL);

    if (rc == 0)
        client_clunk(c, fid);
    else if (rc != ENOENT)
        fail("Twalk to '%s': %s, expected success or ENOENT", path, rc_name(rc));
    return rc == 0;
}

/* the name's fid, or 0: what came of the walk is in *rc */
static guint32 fid_of_name(struct client *c, guint32 dfid, const char *name, int *rc)
{
    const char *names[] = {name, NULL};
    struct client_qid qids[16];
    guint32 fid = client_fid(c);
    guint n;

    *rc = client_walk(c, dfid, fid, names, &n, qids);
    return *rc == 0 ? fid : 0;
}

int remove_name(struct client *c, guint32 dfid, const char *name, guint32 flags)
{
    int rc = client_unlinkat(c, dfid, name, flags);
    guint32 fid;

    if (rc != EOPNOTSUPP)
        return rc;
    fid = fid_of_name(c, dfid, name, &rc);
    return rc != 0 ? rc : client_remove(c, fid);
}

int move_name(struct client *c, guint32 odfid, const char *oname, guint32 ndfid, const char *nname)
{
    int rc = client_renameat(c, odfid, oname, ndfid, nname);
    guint32 fid;

    if (rc != EOPNOTSUPP)
        return rc;
    fid = fid_of_name(c, odfid, oname, &rc);
    if (rc == 0) {
        rc = client_rename(c, fid, ndfid, nname);
        client_clunk(c, fid);
    }
    return rc;
}

char *host_path(const char *name)
{
    if (env.dir == NULL)
        skip("no --dir");
    return g_build_filename(env.dir, env.work, env.at, name, NULL);
}

int reply_of(struct client *c, guint16 tag, GByteArray **frame)
{
    gpointer parked = g_hash_table_lookup(c->parked, GUINT_TO_POINTER((guint)tag));

    if (parked != NULL) { /* it came while another was waited for */
        *frame = g_byte_array_ref(parked);
        g_hash_table_remove(c->parked, GUINT_TO_POINTER((guint)tag));
        return 0;
    }
    for (;;) {
        int rc = client_recv(c, frame);

        if (rc != 0 || client_frame_tag(*frame) == tag)
            return rc;
        g_byte_array_unref(*frame);
    }
}
