/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: whatever a client sends in whatever order, requests that depend on one another and
 * flushes among them, every answer is one that the protocol permits then: what was flushed is not
 * answered, and has no effect; and when the session ends, in whatever way, all that it held is
 * given back.
 *
 * FLOW_SEED=N FLOW_SESSIONS=N repeats a run.
 */
#include "config.h"

#include "tests/lib/flow.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIDS = 6, TAGS = 40 };

/* What the protocol permits next, for each tag. */
struct pending {
    guint8 type;    /* 0: the tag is free */
    guint16 oldtag; /* of a Tflush */
    guint64 old;    /* serial of the request that it names; 0: none was in flight */
    guint64 serial;
    char *made; /* name that a Tmkdir makes */
};

struct model {
    struct server *s;
    struct client *c;
    GRand *rand;
    guint session;
    guint64 serial;
    struct pending tags[TAGS];
    guint count;
    GPtrArray *not_made; /* names that must not be there */
    GPtrArray *all_made; /* names that must be there */
};

static void forget(struct model *m, struct pending *p, gboolean cancelled, gboolean done)
{
    if (p->made != NULL && (done || cancelled))
        g_ptr_array_add(done ? m->all_made : m->not_made, g_steal_pointer(&p->made));
    g_clear_pointer(&p->made, g_free);
    p->type = 0;
    m->count--;
}

static struct pending *by_serial(struct model *m, guint64 serial)
{
    for (guint i = 0; serial != 0 && i < TAGS; i++)
        if (m->tags[i].type != 0 && m->tags[i].serial == serial)
            return &m->tags[i];
    return NULL;
}

/* Takes one reply; FALSE at the end of the connection. */
static gboolean take_reply(struct model *m)
{
    g_autoptr(GByteArray) frame = NULL;
    struct pending *p, *old;
    int rc = client_recv(m->c, &frame);
    guint16 tag;
    guint8 type;

    if (rc == CLIENT_EOF)
        return FALSE;
    g_assert_cmpint(rc, ==, 0);
    tag = client_frame_tag(frame);
    type = client_frame_type(frame);
    g_assert_cmpuint(tag, <, TAGS);
    p = &m->tags[tag];
    g_assert_cmpuint(p->type, !=, 0); /* not asked for, answered before, or flushed */
    if (type != RLERROR)
        g_assert_cmpuint(type, ==, p->type + 1);
    if (p->type == TFLUSH) {
        g_assert_cmpuint(type, ==, TFLUSH + 1);
        /* Those that name the same request, and were sent before, came before. */
        for (guint i = 0; i < TAGS; i++)
            if (m->tags[i].type == TFLUSH && m->tags[i].old == p->old && p->old != 0)
                g_assert_cmpuint(m->tags[i].serial, >=, p->serial);
        old = by_serial(m, p->old);
        if (old != NULL)
            forget(m, old, TRUE, FALSE); /* its tag is free; nothing more of it may come */
    }
    forget(m, p, FALSE, type == TMKDIR + 1);
    return TRUE;
}

static GByteArray *random_request(struct model *m, guint16 tag)
{
    struct pending *p = &m->tags[tag];
    guint32 fid = 10 + g_rand_int_range(m->rand, 0, FIDS);
    guint32 fid2 = 10 + g_rand_int_range(m->rand, 0, FIDS);
    const char *names[] = {"file", NULL};

    switch (g_rand_int_range(m->rand, 0, 14)) {
    case 0:
    case 1:
        p->type = TWALK;
        return client_pack(TWALK, tag, "ddL", ROOT_FID, fid, names);
    case 2:
        p->type = TWALK;
        return client_pack(TWALK, tag, "ddL", fid, fid2, NULL);
    case 3:
        p->type = TLOPEN;
        return client_pack(TLOPEN, tag, "dd", fid, (guint32)L_RDWR);
    case 4:
        p->type = TREAD;
        return client_pack(TREAD, tag, "dqd", fid, (guint64)0,
                           (guint32)g_rand_int_range(m->rand, 0, 100000));
    case 5:
        p->type = TWRITE;
        return client_pack(TWRITE, tag, "dqD", fid, (guint64)g_rand_int_range(m->rand, 0, 9000),
                           (gsize)5, "write");
    case 6:
        p->type = TFSYNC;
        return client_pack(TFSYNC, tag, "dd", fid, 1u);
    case 7:
        p->type = TCLUNK;
        return client_pack(TCLUNK, tag, "d", fid);
    case 8:
        p->type = TMKDIR;
        p->made = g_strdup_printf("d%u-%" G_GUINT64_FORMAT, m->session, p->serial);
        return client_pack(TMKDIR, tag, "dsdd", ROOT_FID, p->made, 0755u, (guint32)getegid());
    case 9:
        p->type = TGETATTR;
        return client_pack(TGETATTR, tag, "dq", fid, GETATTR_BASIC);
    default:
        p->type = TFLUSH;
        p->oldtag = (guint16)g_rand_int_range(m->rand, 0, TAGS);
        p->old = p->oldtag != tag && m->tags[p->oldtag].type != 0 ? m->tags[p->oldtag].serial : 0;
        return client_pack(TFLUSH, tag, "w", p->oldtag);
    }
}

/* Several requests in one piece, or in two. FALSE: the daemon ended the connection. */
static void send_some(struct model *m)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint n = (guint)g_rand_int_range(m->rand, 1, 20), cut;

    for (guint i = 0; i < n && m->count < TAGS; i++) {
        guint16 tag = (guint16)g_rand_int_range(m->rand, 0, TAGS);
        GByteArray *one;

        while (m->tags[tag].type != 0)
            tag = (tag + 1) % TAGS;
        m->tags[tag].serial = ++m->serial;
        m->tags[tag].made = NULL;
        one = random_request(m, tag);
        m->count++;
        g_byte_array_append(all, one->data, one->len);
        g_byte_array_unref(one);
    }
    cut = (guint)g_rand_int_range(m->rand, 0, (gint32)all->len + 1);
    g_assert_cmpint(client_send_raw(m->c, all->data, cut), ==, 0);
    g_assert_cmpint(client_send_raw(m->c, all->data + cut, all->len - cut), ==, 0);
}

static void check_names(struct model *m)
{
    for (guint i = 0; i < m->not_made->len; i++) {
        g_autofree char *path = server_path(m->s, g_ptr_array_index(m->not_made, i));

        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    }
    for (guint i = 0; i < m->all_made->len; i++) {
        g_autofree char *path = server_path(m->s, g_ptr_array_index(m->all_made, i));

        g_assert_true(g_file_test(path, G_FILE_TEST_IS_DIR));
        g_assert_cmpint(rmdir(path), ==, 0);
    }
}

/* Requests that depend on one another, flushes among them, and one of the ways to end. */
static void one_session(struct model *m)
{
    guint steps = (guint)g_rand_int_range(m->rand, 1, 40);
    g_autoptr(GByteArray) half = client_pack(TGETATTR, 1, "dq", ROOT_FID, GETATTR_BASIC);

    m->c = server_client(m->s);
    m->count = 0;
    memset(m->tags, 0, sizeof m->tags);
    m->not_made = g_ptr_array_new_with_free_func(g_free);
    m->all_made = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < steps; i++)
        if (m->count == 0 || (m->count < TAGS && g_rand_boolean(m->rand)))
            send_some(m);
        else
            for (guint n = (guint)g_rand_int_range(m->rand, 1, (gint32)m->count + 1);
                 n > 0 && m->count > 0; n--)
                g_assert_true(take_reply(m));
    switch (g_rand_int_range(m->rand, 0, 5)) {
    case 0: /* gone */
        break;
    case 1: /* gone in mid-message */
        client_send_raw(m->c, half->data, (gsize)g_rand_int_range(m->rand, 1, (gint32)half->len));
        break;
    case 2: /* all that was asked is answered, and then nothing */
        g_assert_cmpint(shutdown(m->c->fd, SHUT_WR), ==, 0);
        while (take_reply(m))
            continue;
        g_assert_cmpuint(m->count, ==, 0);
        check_names(m);
        break;
    case 3: /* what the old session asked is answered before Rversion, or never */
        send_frame(m->c, client_pack(TVERSION, NOTAG, "ds", 8192u, "9P2000.L"));
        for (;;) {
            g_autoptr(GByteArray) frame = NULL;

            g_assert_cmpint(client_recv(m->c, &frame), ==, 0);
            if (client_frame_tag(frame) == NOTAG)
                break;
        }
        g_assert_cmpint(client_attach(m->c, ROOT_FID, geteuid(), m->s->aname, NULL), ==, 0);
        break;
    default:
        while (m->count > 0)
            g_assert_true(take_reply(m));
        check_names(m);
    }
    client_close(m->c);
    for (guint i = 0; i < TAGS; i++)
        g_free(m->tags[i].made);
    g_ptr_array_unref(m->not_made);
    g_ptr_array_unref(m->all_made);
}

static guint descriptors(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)s->pid);
    GDir *dir = g_dir_open(path, 0, NULL);
    guint n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir) != NULL)
        n++;
    g_dir_close(dir);
    return n;
}

static guint64 resident(struct server *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)s->pid), *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(strstr(text, "VmRSS:") + 6, NULL, 10);
}

static guint number(const char *name, guint otherwise)
{
    const char *text = g_getenv(name);

    return text != NULL ? (guint)g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static void sessions_at_random(struct fixture *f, gconstpointer data)
{
    guint seed = number("FLOW_SEED", g_random_int()), n = number("FLOW_SESSIONS", 300);
    struct model m = {.s = f->s, .rand = g_rand_new_with_seed(seed)};
    g_autofree char *bytes = g_strnfill(9000, 'b');
    guint before, now = 0;
    guint64 memory = 0;
    gint64 grown;

    (void)data;
    g_test_message("repeat with FLOW_SEED=%u FLOW_SESSIONS=%u", seed, n);
    make_file(f->s, "file", bytes);
    before = descriptors(f->s);
    for (m.session = 0; m.session < n; m.session++) {
        if (m.session == n / 4)
            memory = resident(f->s);
        one_session(&m);
        /* all that a session held is given back */
        for (guint tries = 0; (now = descriptors(f->s)) > before && tries < 30000; tries++)
            g_usleep(1000);
        g_assert_cmpuint(now, <=, before);
    }
    g_assert_cmpuint(count_in_log(f->s, "were not given back"), ==, 0);
    grown = (gint64)(resident(f->s) - memory);
    g_test_message("resident: %" G_GINT64_FORMAT " KiB more", grown);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* these keep what is freed */
    g_assert_cmpint(grown, <=, 16384);
#endif
    g_rand_free(m.rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    FIXTURE_TEST("/flow/random", sessions_at_random);
    return g_test_run();
}
