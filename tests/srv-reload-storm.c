/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: reloads that come in a storm, by signals and by the control socket, together with every
 * other verb and with clients that come and go, do no harm whatever the daemon is just at: no id
 * changes, no export is lost, and SIGTERM ends it in order at any point; after SIGKILL at any point
 * the ids are those of before.
 *
 * QIDMAP_RELOAD_STORM (lives of a daemon) may be set.
 */
#include "config.h"

#include "tests/lib/server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES      20
#define LIFE_MS    150 /* at most this long, after "ready" */
#define DISTURBERS 4

static const char *const confs[] = {
    "[export a]\ndir=@/a\n",
    "[export a]\ndir=@/a\n[export b]\ndir=@/b\nstore=lmdb:@/other\n",
    "[export b]\ndir=@/b\nstore=lmdb:@/other\nqid-version=mtime\n[export a]\ndir=@/a\n",
    "[export a]\ndir=@/a\n[export b]\ndir=@/nowhere\n",
    "[export a]\ndir=@/a\nnonsense\n",
    "[export a]\ndir=@/a\n[export c]\ndir=@/b\nstore=lmdb:@/third\n[export b]\ndir=@/a/f0\n",
};

static const char *const verbs[] = {
    "{\"verb\":\"reload\"}",
    "{\"verb\":\"reload\"}",
    "{\"verb\":\"compact\",\"store\":\"lmdb:@/store\"}",
    "{\"verb\":\"prune-fs\",\"store\":\"lmdb:@/store\",\"fs\":\"1\",\"unseen_for\":\"3600\"}",
    "{\"verb\":\"verify\",\"store\":\"lmdb:@/other\"}",
    "{\"verb\":\"reset\",\"store\":\"lmdb:@/third\",\"from_scratch\":true}", /* of export c alone */
    "{\"verb\":\"adopt\",\"store\":\"lmdb:@/third\"}",
    "{\"verb\":\"load\",\"store\":\"lmdb:@/third\"}",
    "{\"verb\":\"drain\",\"path\":\"@/b\"}",
    "{\"verb\":\"stats\",\"sessions\":true}",
    "{\"verb\":\"load\",\"store\":\"lmdb:@/other\"}", /* of what is no dump */
    "{\"verb\":\"backup\",\"store\":\"lmdb:@/store\"}",
};

struct storm {
    struct server *s;
    char *conf, *control;
    guint64 ids[2][FILES];
    pid_t pid;      /* while the disturbers run */
    gint stop;      /* atomic */
    gint answers;   /* atomic */
    gint first_job; /* atomic: which one a disturber takes */
};

static char *with_folder(const struct storm *t, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "@", -1);

    return g_strjoinv(t->s->tmp, parts);
}

static void write_conf(const struct storm *t, guint which)
{
    g_autofree char *whole = with_folder(t, confs[which]);

    g_assert_true(g_file_set_contents(t->conf, whole, -1, NULL)); /* by a rename */
}

/* With a file of nothing, for the verbs that want one. */
static gboolean send_line(const struct storm *t, int sock, const char *line)
{
    g_autofree char *path = g_build_filename(t->s->tmp, "file", NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct iovec part = {(char *)line, strlen(line)};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t sent;

    g_assert_cmpint(fd, >=, 0);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    sent = sendmsg(sock, &message, MSG_NOSIGNAL);
    close(fd);
    return sent == (ssize_t)strlen(line);
}

/* FALSE: the daemon is gone. */
static gboolean ask(const struct storm *t, const char *verb)
{
    g_autofree char *request = with_folder(t, verb), *line = g_strconcat(request, "\n", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autoptr(GString) reply = g_string_new(NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char buffer[4096];
    ssize_t n = 0;

    g_strlcpy(address.sun_path, t->control, sizeof address.sun_path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 && send_line(t, fd, line))
        while (strstr(reply->str, "{\"result\"") == NULL &&
               strstr(reply->str, "{\"error\"") == NULL &&
               (n = read(fd, buffer, sizeof buffer)) > 0)
            g_string_append_len(reply, buffer, n);
    close(fd);
    return reply->len > 0;
}

/* ---- who disturbs ---------------------------------------------------------------------------- */

static void look(struct storm *t, struct client *c, guint32 root, guint dir)
{
    for (guint i = 0; i < FILES; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);
        guint32 fid = client_fid(c);
        struct client_qid qid;

        if (client_walk_path(c, root, fid, name, &qid) != 0)
            return; /* it is ending */
        g_assert_cmpuint(qid.path, ==, t->ids[dir][i]);
        if (client_clunk(c, fid) != 0)
            return;
    }
}

static void visit(struct storm *t, guint dir)
{
    struct client *c = client_connect(t->s->addr);
    guint32 root = c != NULL ? client_fid(c) : 0;

    if (c == NULL)
        return;
    if (client_hello(c, 65536) == 0 &&
        client_attach(c, root, geteuid(), dir == 0 ? "a" : "b", NULL) == 0)
        for (int i = 0; i < 3; i++)
            look(t, c, root, dir);
    client_close(c);
}

static gpointer disturb(gpointer data)
{
    struct storm *t = data;
    guint job = (guint)g_atomic_int_add(&t->first_job, 1);
    GRand *rand = g_rand_new_with_seed(job);

    while (!g_atomic_int_get(&t->stop))
        if (job == 0) {
            write_conf(t, (guint)g_rand_int_range(rand, 0, G_N_ELEMENTS(confs)));
            for (int i = g_rand_int_range(rand, 0, 8); i > 0; i--)
                kill(t->pid, SIGHUP);
            g_usleep(500);
        } else if (job == 1) {
            visit(t, (guint)g_rand_int_range(rand, 0, 2));
        } else if (ask(t, verbs[g_rand_int_range(rand, 0, G_N_ELEMENTS(verbs))])) {
            g_atomic_int_inc(&t->answers);
        }
    g_rand_free(rand);
    return NULL;
}

/* ---- what holds ------------------------------------------------------------------------------ */

/* `known`: they are those of before. */
static void take_ids(struct storm *t, gboolean known)
{
    for (guint dir = 0; dir < 2; dir++) {
        struct client *c = client_connect(t->s->addr);
        guint32 root = client_fid(c);

        g_assert_cmpint(client_hello(c, 65536), ==, 0);
        g_assert_cmpint(client_attach(c, root, geteuid(), dir == 0 ? "a" : "b", NULL), ==, 0);
        for (guint i = 0; i < FILES; i++) {
            g_autofree char *name = g_strdup_printf("f%u", i);
            struct client_qid qid;

            g_assert_cmpint(client_walk_path(c, root, client_fid(c), name, &qid), ==, 0);
            if (known)
                g_assert_cmpuint(qid.path, ==, t->ids[dir][i]);
            t->ids[dir][i] = qid.path;
        }
        client_close(c);
    }
}

static void live(struct storm *t, guint number)
{
    GThread *threads[DISTURBERS];
    guint ms = (guint)g_test_rand_int_range(0, LIFE_MS);
    gboolean killed = number % 4 == 3;

    write_conf(t, 1);
    g_assert_true(server_start(t->s));
    if (number % 2 == 1) /* the others: in the first moments there are reloads already */
        take_ids(t, TRUE);
    t->pid = t->s->pid;
    t->stop = t->first_job = 0;
    for (guint i = 0; i < DISTURBERS; i++)
        threads[i] = g_thread_new("disturb", disturb, t);
    poll(NULL, 0, (int)ms);
    g_assert_true(server_alive(t->s));
    kill(t->pid, killed ? SIGKILL : SIGTERM);
    poll(NULL, 0, killed ? 0 : 5);
    g_atomic_int_set(&t->stop, 1);
    for (guint i = 0; i < DISTURBERS; i++)
        g_thread_join(threads[i]);
    if (killed)
        server_wait(t->s);
    else
        g_assert_cmpint(server_terminate(t->s), ==, 0);
}

static void storm(void)
{
    const char *wanted = g_getenv("QIDMAP_RELOAD_STORM");
    guint lives = wanted != NULL ? (guint)atoi(wanted) : 4, i = 0;
    struct storm t = {.s = server_new("lmdb:", NULL)};

    t.conf = g_build_filename(t.s->tmp, "conf", NULL);
    t.control = g_build_filename(t.s->tmp, "control", NULL);
    const char *extra[] = {"--config", t.conf, "--control", t.control, "--threads", "8", NULL};
    g_strfreev(t.s->extra);
    t.s->extra = g_strdupv((char **)extra);
    for (guint k = 0; k < 2 * FILES; k++) {
        g_autofree char *dir = g_strdup_printf("%s/%c", t.s->tmp, "ab"[k / FILES]);
        g_autofree char *file = g_strdup_printf("%s/f%u", dir, k % FILES);

        g_mkdir(dir, 0755);
        g_assert_cmpint(g_chmod(dir, 0755), ==, 0);
        g_assert_true(g_file_set_contents(file, "", 0, NULL));
    }
    write_conf(&t, 1);
    g_assert_true(server_start(t.s));
    take_ids(&t, FALSE);
    g_assert_cmpint(server_terminate(t.s), ==, 0);
    /* On a busy machine more, until the daemon has come to answer any of the verbs. */
    for (; i < lives || (g_atomic_int_get(&t.answers) == 0 && i < 100 * lives); i++)
        live(&t, i);
    g_assert_cmpint(g_atomic_int_get(&t.answers), >, 0);
    g_test_message("%d answers in %u lives", t.answers, i);
    write_conf(&t, 1);
    g_assert_true(server_start(t.s));
    take_ids(&t, TRUE);
    g_assert_cmpint(server_terminate(t.s), ==, 0);
    server_free(t.s);
    g_free(t.conf);
    g_free(t.control);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reload-storm/harmless", storm);
    return g_test_run();
}
