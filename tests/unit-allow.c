/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: an allow list lets in those whom it names and nobody else; one that can be misread is
 * refused; and an address to listen on is taken apart as it was meant.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <linux/vm_sockets.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/allow.h"
#include "src/listen-spec.h"
#include "src/peer.h"

static struct peer of_address(const char *text)
{
    struct peer peer = {.kind = PEER_INET};
    g_autofree char *mapped = g_strdup_printf("::ffff:%s", text);

    g_assert_cmpint(inet_pton(AF_INET6, strchr(text, ':') != NULL ? text : mapped, &peer.address),
                    ==, 1);
    return peer;
}

static bool permits(const char *list, const struct peer *peer)
{
    g_autoptr(GError) error = NULL;
    struct allow *allow = allow_parse(list, &error);
    bool result;

    g_assert_no_error(error);
    g_assert_nonnull(allow);
    result = allow_permits(allow, peer);
    allow_free(allow);
    return result;
}

static bool in(const char *list, const char *address)
{
    struct peer peer = of_address(address);

    return permits(list, &peer);
}

static void test_addresses(void)
{
    g_assert_true(in("10.0.0.0/8", "10.255.3.4"));
    g_assert_false(in("10.0.0.0/8", "11.0.0.0"));
    g_assert_true(in("192.0.2.128/25", "192.0.2.128"));
    g_assert_false(in("192.0.2.128/25", "192.0.2.127"));
    g_assert_true(in("192.0.2.1", "192.0.2.1"));
    g_assert_false(in("192.0.2.1", "192.0.2.0"));
    g_assert_true(in("0.0.0.0/0", "203.0.113.9"));
    g_assert_false(in("0.0.0.0/0", "2001:db8::1"));
    g_assert_true(in("::/0", "2001:db8::1"));
    g_assert_false(in("::/0", "203.0.113.9"));
    g_assert_true(in("2001:db8::/33", "2001:db8:7fff::1"));
    g_assert_false(in("2001:db8::/33", "2001:db8:8000::1"));
    g_assert_true(in("[::1]", "::1"));
    g_assert_false(in("::1", "::2"));
    /* IPv4 through an IPv6 socket is IPv4 */
    g_assert_true(in("192.0.2.0/24", "::ffff:192.0.2.77"));
    g_assert_true(in("::ffff:192.0.2.0/120", "192.0.2.77"));
    g_assert_true(in("tcp", "192.0.2.1") && in("tcp", "::1") && in("any", "::1"));
    g_assert_false(in("unix,vsock,none,inherited,uid:0,vsock:3", "192.0.2.1"));
    g_assert_true(in(" 192.0.2.1 ; ::1\t,", "::1"));
}

static void test_ids(void)
{
    gid_t groups[] = {7, 100};
    struct peer peer = {.kind = PEER_UNIX, .has_ids = true, .uid = 1000, .gid = 50};

    peer.groups = groups;
    peer.group_count = 2;
    g_assert_true(permits("unix", &peer) && permits("any", &peer));
    g_assert_true(permits("uid:1000", &peer));
    g_assert_false(permits("uid:0,uid:1001,uid:50", &peer));
    g_assert_true(permits("uid:0", &(struct peer){.kind = PEER_UNIX, .has_ids = true}));
    g_assert_true(permits("uid:root", &(struct peer){.kind = PEER_UNIX, .has_ids = true}));
    g_assert_true(permits("gid:50", &peer) && permits("gid:100", &peer));
    g_assert_false(permits("gid:1000,gid:8", &peer));
    g_assert_false(permits("tcp,vsock,none,::/0,inherited", &peer));
    /* who cannot be known is nobody, not root */
    g_assert_false(permits("uid:0,gid:0", &(struct peer){.kind = PEER_UNIX}));
    g_assert_false(permits("uid:0,gid:0", &(struct peer){.kind = PEER_UNKNOWN}));
    g_assert_true(permits("inherited", &(struct peer){.inherited = true}));
}

static void test_cids(void)
{
    struct peer peer = {.kind = PEER_VSOCK, .cid = 3};

    g_assert_true(permits("vsock:3", &peer) && permits("vsock", &peer));
    g_assert_false(permits("vsock:4,vsock:host,unix,uid:3,gid:3", &peer));
    peer.cid = VMADDR_CID_HOST;
    g_assert_true(permits("vsock:host", &peer));
}

static void test_nothing(void)
{
    struct peer peer = {.kind = PEER_INET};

    g_assert_true(allow_permits(NULL, &peer));
    g_assert_false(permits("none", &peer));
}

static void test_bad_lists(void)
{
    static const char *const bad[] = {"",
                                      " ,;",
                                      "10.0.0.1/8",
                                      "10.0.0.0/33",
                                      "::/129",
                                      "10.0.0.0/",
                                      "10.0.0/8",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/+8",
                                      "::1/0x10",
                                      "vsock:",
                                      "vsock:-1",
                                      "uid:",
                                      "uid:-1",
                                      "gid:",
                                      "uid:4294967295",
                                      "vsock:4294967295",
                                      "localhost",
                                      "ANY",
                                      "unix:/x",
                                      "any,oops",
                                      "uid:no-such-user-here",
                                      "gid:no-such-group-here",
                                      "fe80::1%lo",
                                      "1.2.3.4.5"};

    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        struct allow *allow = allow_parse(bad[i], &error);

        g_test_message("'%s': %s", bad[i], error != NULL ? error->message : "taken");
        g_assert_null(allow);
        g_assert_nonnull(error);
    }
}

static void test_written(void)
{
    static const char *const list =
        "any,none,inherited,unix,tcp,vsock,10.0.0.0/8,192.0.2.1/32,2001:db8::/32,::1/128,vsock:2,"
        "uid:0,gid:5";
    struct allow *allow = allow_parse(list, NULL);
    g_autofree char *text = allow_to_string(allow);

    g_assert_cmpstr(text, ==, list);
    allow_free(allow);
}

/* What the kernel says of a socket pair is this process. */
static void test_peer(void)
{
    struct peer peer;
    int pair[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    peer_of(pair[0], true, &peer);
    g_assert_cmpint(peer.kind, ==, PEER_UNIX);
    g_assert_true(peer.has_ids && peer.inherited);
    g_assert_cmpint(peer.pid, ==, getpid());
    g_assert_cmpint(peer.uid, ==, geteuid());
    g_assert_cmpint(peer.gid, ==, getegid());
    g_assert_cmpint(peer.group_count, ==, getgroups(0, NULL));
    g_assert_true(g_str_has_prefix(peer.name, "unix, pid "));
    peer_clear(&peer);
    close(pair[0]);
    close(pair[1]);
    peer_of(-1, false, &peer);
    g_assert_cmpint(peer.kind, ==, PEER_UNKNOWN);
    g_assert_cmpstr(peer.name, ==, "unknown");
    peer_clear(&peer);
}

static void test_specs(void)
{
    struct listen_spec *spec =
        listen_spec_parse("unix:/run/a,b,mode=0660,group=0,allow=any,unix", NULL);
    g_autofree char *list = NULL;

    g_assert_nonnull(spec);
    g_assert_cmpint(spec->kind, ==, LISTEN_UNIX);
    g_assert_cmpstr(spec->path, ==, "/run/a,b");
    g_assert_cmpstr(spec->text, ==, "unix:/run/a,b");
    g_assert_cmpint(spec->mode, ==, 0660);
    g_assert_cmpuint(spec->owner, ==, (uid_t)-1);
    g_assert_cmpuint(spec->group, ==, 0);
    list = allow_to_string(spec->allow);
    g_assert_cmpstr(list, ==, "any,unix");
    listen_spec_free(spec);

    spec = listen_spec_parse("tcp:[2001:db8::1]:564", NULL);
    g_assert_cmpint(spec->kind, ==, LISTEN_TCP);
    g_assert_cmpstr(spec->host, ==, "2001:db8::1");
    g_assert_cmpstr(spec->port, ==, "564");
    listen_spec_free(spec);
    spec = listen_spec_parse("tcp:*:9pfs", NULL);
    g_assert_null(spec->host);
    g_assert_cmpstr(spec->port, ==, "9pfs");
    listen_spec_free(spec);

    spec = listen_spec_parse("vsock:564", NULL);
    g_assert_cmpint(spec->kind, ==, LISTEN_VSOCK);
    g_assert_cmpuint(spec->cid, ==, VMADDR_CID_ANY);
    g_assert_cmpuint(spec->vsock_port, ==, 564);
    listen_spec_free(spec);
    spec = listen_spec_parse("vsock:host:4294967294,allow=vsock:3", NULL);
    g_assert_cmpuint(spec->cid, ==, VMADDR_CID_HOST);
    g_assert_cmpuint(spec->vsock_port, ==, 4294967294u);
    g_assert_nonnull(spec->allow);
    listen_spec_free(spec);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/allow/addresses", test_addresses);
    g_test_add_func("/allow/ids", test_ids);
    g_test_add_func("/allow/cids", test_cids);
    g_test_add_func("/allow/nothing", test_nothing);
    g_test_add_func("/allow/bad-lists", test_bad_lists);
    g_test_add_func("/allow/written", test_written);
    g_test_add_func("/allow/peer", test_peer);
    g_test_add_func("/allow/specs", test_specs);
    return g_test_run();
}
