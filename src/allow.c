/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Allow lists. See allow.h. */
#include "config.h"

#include "src/allow.h"

#include <arpa/inet.h>
#include <string.h>

#include "src/account.h"
#include "src/fail.h"
#include "src/listen-spec.h"
#include "src/peer.h"

#define V4_BITS 96 /* of ::ffff:0:0/96, below which IPv4 lies */

enum entry_kind {
    ENTRY_ANY,
    ENTRY_NONE,
    ENTRY_INHERITED,
    ENTRY_UNIX,
    ENTRY_TCP,
    ENTRY_VSOCK,
    ENTRY_NET, /* address and prefix */
    ENTRY_CID,
    ENTRY_UID,
    ENTRY_GID,
};

struct entry {
    enum entry_kind kind;
    struct in6_addr address; /* ENTRY_NET */
    unsigned prefix;         /* ENTRY_NET: of 128 bits */
    uint32_t number;         /* ENTRY_CID, ENTRY_UID, ENTRY_GID */
};

struct allow {
    GArray *entries; /* struct entry, at least one */
};

static const struct {
    const char *word;
    enum entry_kind kind;
} words[] = {
    {"any", ENTRY_ANY},   {"none", ENTRY_NONE}, {"inherited", ENTRY_INHERITED},
    {"unix", ENTRY_UNIX}, {"tcp", ENTRY_TCP},   {"vsock", ENTRY_VSOCK},
};

static gboolean complain(GError **error, const char *entry, const char *what)
{
    return fail_usage(error, "allow: '%s': %s", entry, what);
}

static gboolean parse_uid(const char *entry, const char *text, uint32_t *uid, GError **error)
{
    const char *what;

    return account_uid(text, uid, &what) || complain(error, entry, what);
}

static gboolean parse_gid(const char *entry, const char *text, uint32_t *gid, GError **error)
{
    const char *what;

    return account_gid(text, gid, &what) || complain(error, entry, what);
}

static gboolean parse_cid(const char *entry, const char *text, uint32_t *cid, GError **error)
{
    return listen_parse_cid(text, cid) ||
           complain(error, entry, "the context id (CID) of a guest is a number, host or local");
}

/* Clears the bits after the prefix; whether there were any. */
static gboolean cut(struct in6_addr *address, unsigned prefix)
{
    gboolean more = FALSE;

    for (unsigned bit = prefix; bit < 128; bit++) {
        uint8_t mask = (uint8_t)(0x80 >> (bit % 8));

        more |= (address->s6_addr[bit / 8] & mask) != 0;
        address->s6_addr[bit / 8] &= (uint8_t)~mask;
    }
    return more;
}

static gboolean parse_net(const char *text, struct entry *entry, GError **error)
{
    const char *slash = strchr(text, '/');
    g_autofree char *host = slash != NULL ? g_strndup(text, (gsize)(slash - text)) : g_strdup(text);
    struct in_addr v4;
    unsigned bits = 128;
    gsize len = strlen(host);
    guint64 prefix;

    entry->kind = ENTRY_NET;
    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    if (inet_pton(AF_INET, host, &v4) == 1) {
        bits = 32;
        memset(&entry->address, 0, sizeof entry->address);
        entry->address.s6_addr[10] = entry->address.s6_addr[11] = 0xff;
        memcpy(entry->address.s6_addr + 12, &v4, 4);
    } else if (inet_pton(AF_INET6, host, &entry->address) != 1)
        return complain(error, text,
                        "expected any, none, unix, tcp, vsock, inherited, ADDRESS[/PREFIX], "
                        "vsock:CID, uid:USER or gid:GROUP");
    prefix = bits;
    if (slash != NULL && !g_ascii_string_to_unsigned(slash + 1, 10, 0, bits, &prefix, NULL))
        return complain(error, text,
                        bits == 32 ? "the prefix must be 0 to 32" : "the prefix must be 0 to 128");
    entry->prefix = (unsigned)prefix + (bits == 32 ? V4_BITS : 0);
    /* 10.0.0.1/8 is a slip more often than not: which machines are meant? */
    if (cut(&entry->address, entry->prefix))
        return complain(error, text,
                        "the address has bits after the prefix; clear them, or leave "
                        "the prefix away");
    return TRUE;
}

static gboolean parse_entry(const char *text, struct entry *entry, GError **error)
{
    memset(entry, 0, sizeof *entry);
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(text, words[i].word) == 0) {
            entry->kind = words[i].kind;
            return TRUE;
        }
    if (g_str_has_prefix(text, "vsock:")) {
        entry->kind = ENTRY_CID;
        return parse_cid(text, text + strlen("vsock:"), &entry->number, error);
    }
    if (g_str_has_prefix(text, "uid:")) {
        entry->kind = ENTRY_UID;
        return parse_uid(text, text + strlen("uid:"), &entry->number, error);
    }
    if (g_str_has_prefix(text, "gid:")) {
        entry->kind = ENTRY_GID;
        return parse_gid(text, text + strlen("gid:"), &entry->number, error);
    }
    return parse_net(text, entry, error);
}

struct allow *allow_parse(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit_set(text, ",; \t", -1);
    struct allow *allow = g_new0(struct allow, 1);
    struct entry entry;

    allow->entries = g_array_new(FALSE, FALSE, sizeof entry);
    for (char **part = parts; *part != NULL; part++) {
        if (**part == '\0')
            continue;
        if (!parse_entry(*part, &entry, error)) {
            allow_free(allow);
            return NULL;
        }
        g_array_append_val(allow->entries, entry);
    }
    if (allow->entries->len == 0) {
        complain(error, text, "the list is empty; write any for everybody, none for nobody");
        allow_free(allow);
        return NULL;
    }
    return allow;
}

void allow_free(struct allow *allow)
{
    if (allow == NULL)
        return;
    g_array_free(allow->entries, TRUE);
    g_free(allow);
}

static bool in_net(const struct entry *entry, const struct peer *peer)
{
    struct in6_addr address = peer->address;

    if (peer->kind != PEER_INET)
        return false;
    /* ::/0 is all of IPv6; IPv4 is written as IPv4. */
    if (IN6_IS_ADDR_V4MAPPED(&address) !=
        (entry->prefix >= V4_BITS && IN6_IS_ADDR_V4MAPPED(&entry->address)))
        return false;
    cut(&address, entry->prefix);
    return memcmp(&address, &entry->address, sizeof address) == 0;
}

static bool in_group(uint32_t gid, const struct peer *peer)
{
    if (!peer->has_ids)
        return false;
    for (int i = 0; i < peer->group_count; i++)
        if (peer->groups[i] == gid)
            return true;
    return peer->gid == gid;
}

static bool fits(const struct entry *entry, const struct peer *peer)
{
    switch (entry->kind) {
    case ENTRY_ANY:
        return true;
    case ENTRY_INHERITED:
        return peer->inherited;
    case ENTRY_UNIX:
        return peer->kind == PEER_UNIX;
    case ENTRY_TCP:
        return peer->kind == PEER_INET;
    case ENTRY_VSOCK:
        return peer->kind == PEER_VSOCK;
    case ENTRY_NET:
        return in_net(entry, peer);
    case ENTRY_CID:
        return peer->kind == PEER_VSOCK && peer->cid == entry->number;
    case ENTRY_UID:
        return peer->has_ids && peer->uid == entry->number;
    case ENTRY_GID:
        return in_group(entry->number, peer);
    case ENTRY_NONE:
        break;
    }
    return false;
}

bool allow_permits(const struct allow *allow, const struct peer *peer)
{
    if (allow == NULL)
        return true;
    for (guint i = 0; i < allow->entries->len; i++)
        if (fits(&g_array_index(allow->entries, struct entry, i), peer))
            return true;
    return false;
}

static void append_net(GString *text, const struct entry *entry)
{
    char name[INET6_ADDRSTRLEN];
    bool v4 = entry->prefix >= V4_BITS && IN6_IS_ADDR_V4MAPPED(&entry->address);

    if (v4)
        inet_ntop(AF_INET, entry->address.s6_addr + 12, name, sizeof name);
    else
        inet_ntop(AF_INET6, &entry->address, name, sizeof name);
    g_string_append_printf(text, "%s/%u", name, v4 ? entry->prefix - V4_BITS : entry->prefix);
}

char *allow_to_string(const struct allow *allow)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < allow->entries->len; i++) {
        const struct entry *entry = &g_array_index(allow->entries, struct entry, i);

        if (i > 0)
            g_string_append_c(text, ',');
        for (size_t w = 0; w < G_N_ELEMENTS(words); w++)
            if (words[w].kind == entry->kind)
                g_string_append(text, words[w].word);
        if (entry->kind == ENTRY_NET)
            append_net(text, entry);
        else if (entry->kind == ENTRY_CID)
            g_string_append_printf(text, "vsock:%u", entry->number);
        else if (entry->kind == ENTRY_UID)
            g_string_append_printf(text, "uid:%u", entry->number);
        else if (entry->kind == ENTRY_GID)
            g_string_append_printf(text, "gid:%u", entry->number);
    }
    return g_string_free(text, FALSE);
}
