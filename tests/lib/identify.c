/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library says about filesystems, for shell tests:
 *
 *     identify PATH...              policy, flags and identities of each, one line each
 *     identify --explain PATH       what each rung says
 *     identify --mark PATH          writes a marker; prints its uuid
 *     identify --register URI PATH...
 *                                   registers all of them together; prints their fs numbers
 *     identify --key PATH...        what names each file to the map: HANDLE bytes, or the inode
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>

#include "store/qidmap.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

static int open_path(const char *path)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        g_error("%s: cannot be opened", path);
    return fd;
}

static int identify(const char *path, struct qidmap_identity *id)
{
    struct qidmap_error error;
    int fd = open_path(path);

    memset(id, 0, sizeof *id);
    id->size = sizeof *id;
    int rc = qidmap_identify(fd, NULL, id, &error);
    close(fd);
    if (rc < 0)
        printf("%s\n", error.text);
    return rc;
}

static void print_hex(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
}

static int print_identity(const char *path)
{
    struct qidmap_identity id;

    if (identify(path, &id) < 0)
        return 1;
    printf("%s flags=%u", qidmap_policy_name(id.policy), id.flags);
    for (uint32_t i = 0; i < id.count; i++) {
        printf(" %s:", qidmap_fsid_kind_name(id.fsid[i].kind));
        print_hex(id.fsid[i].bytes, id.fsid[i].size);
    }
    printf("\n");
    return 0;
}

static int explain(const char *path)
{
    struct qidmap_finding findings[QIDMAP_FINDINGS];
    struct qidmap_identity id = {.size = sizeof id};
    struct qidmap_error error;
    size_t count;
    int fd = open_path(path);

    int rc = qidmap_explain(fd, NULL, findings, &count, &id, &error);
    close(fd);
    if (rc < 0) {
        printf("%s\n", error.text);
        return 1;
    }
    for (size_t i = 0; i < count; i++)
        printf("%s %d %s\n", findings[i].rung, findings[i].result, findings[i].text);
    return 0;
}

static int mark(const char *path)
{
    struct qidmap_identity id;
    struct qidmap_error error;

    if (identify(path, &id) < 0)
        return 1;
    int fd = open_path(path);
    int rc = qidmap_mark(fd, &id, &error);
    close(fd);
    if (rc < 0) {
        printf("%d %s\n", rc, error.text);
        return 1;
    }
    print_hex(id.hints.marker, sizeof id.hints.marker);
    printf("\n");
    return 0;
}

static int enroll(const char *uri, char **paths, int count)
{
    g_autofree struct qidmap_identity *ids = g_new0(struct qidmap_identity, (gsize)count);
    g_autofree uint32_t *numbers = g_new0(uint32_t, (gsize)count);
    struct qidmap_error error;
    qidmap_store *store;

    for (int i = 0; i < count; i++) {
        if (identify(paths[i], &ids[i]) < 0)
            return 1;
    }
    if (qidmap_store_open(uri, QIDMAP_OPEN_WRITE | QIDMAP_OPEN_CREATE, NULL, &store, &error) < 0) {
        printf("%s\n", error.text);
        return 1;
    }
    int rc = qidmap_register(store, ids, (size_t)count, numbers, &error);
    qidmap_store_close(store);
    if (rc < 0) {
        printf("%s\n", error.text);
        return 1;
    }
    for (int i = 0; i < count; i++)
        printf("%s%u", i > 0 ? " " : "", numbers[i]);
    printf("\n");
    return 0;
}

static int print_key(const char *path)
{
    union {
        struct file_handle head;
        uint8_t room[sizeof(struct file_handle) + QIDMAP_HANDLE_BYTES];
    } handle;
    struct qidmap_identity id;
    struct stat st;
    int mount_id;

    if (identify(path, &id) < 0 || lstat(path, &st) != 0)
        return 1;
    if (id.policy == QIDMAP_POLICY_HANDLE) {
        handle.head.handle_bytes = QIDMAP_HANDLE_BYTES;
        if (name_to_handle_at(AT_FDCWD, path, &handle.head, &mount_id, AT_HANDLE_FID) != 0)
            return 1;
        print_hex(handle.head.f_handle, handle.head.handle_bytes);
    } else {
        printf("%llu", (unsigned long long)st.st_ino);
    }
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    int status = 0;

    if (argc > 3 && strcmp(argv[1], "--register") == 0)
        return enroll(argv[2], argv + 3, argc - 3);
    if (argc == 3 && strcmp(argv[1], "--explain") == 0)
        return explain(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--mark") == 0)
        return mark(argv[2]);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--key") != 0)
            status |= strcmp(argv[1], "--key") == 0 ? print_key(argv[i]) : print_identity(argv[i]);
    }
    return status;
}
