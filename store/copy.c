/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A copy is a dump that is loaded at once: a thread dumps into a pipe, the caller loads from it. So
 * any backend can be copied to any other, every row is checked on its way, and the loader's promise
 * holds: all or nothing. The pipe is closed without the closing line where the dump fails; the
 * loader takes that for a truncated dump and makes nothing.
 */
#include "config.h"

#include "store/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "store/dump.h"
#include "store/error.h"
#include "store/load.h"

struct copy {
    struct qidmap_store *store;
    int in, out; /* ends of the pipe */
    int result;  /* of the dump */
    GError *error;
};

static int write_pipe(void *data, const void *bytes, size_t size)
{
    const char *p = bytes;

    while (size > 0) {
        ssize_t n = write(*(const int *)data, p, size);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static long read_pipe(void *data, void *bytes, size_t size)
{
    ssize_t n;

    do
        n = read(((struct copy *)data)->in, bytes, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void *dump(void *data)
{
    struct copy *copy = data;
    struct qm_txn *txn;
    sigset_t pipe;

    /* The loader may stop reading. */
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    copy->result = copy->store->backend->ops->begin(copy->store->backend, QM_TXN_SNAPSHOT, 0, &txn);
    if (copy->result != 0) {
        qm_set_error(&copy->error, copy->result, "cannot read: %s", g_strerror(-copy->result));
    } else {
        copy->result = qm_dump(txn, FALSE, write_pipe, &copy->out, NULL, &copy->error);
        copy->store->backend->ops->abort(txn);
    }
    close(copy->out);
    return NULL;
}

/* The loader's view of the progress. */
struct view {
    struct copy *copy;
    const struct qidmap_copy_options *options;
};

static long view_read(void *data, void *bytes, size_t size)
{
    return read_pipe(((struct view *)data)->copy, bytes, size);
}

static int view_progress(void *data, uint64_t done, uint64_t total)
{
    const struct qidmap_copy_options *o = ((struct view *)data)->options;

    return o->progress ? o->progress(o->data, done, total) : 0;
}

int qm_copy(struct qidmap_store *store, const char *uri, const struct qidmap_copy_options *options,
            struct qidmap_load_result *result, GError **error)
{
    struct copy copy = {.store = store};
    struct view view = {&copy, options};
    struct qidmap_load_options how = {.size = sizeof(how),
                                      .flags = options->flags,
                                      .read = view_read,
                                      .backup = options->backup,
                                      .progress = view_progress,
                                      .data = &view};
    GError *trouble = NULL;
    pthread_t thread;
    int ends[2], e;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return qm_set_error(error, errno, "no pipe: %s", g_strerror(errno));
    copy.in = ends[0];
    copy.out = ends[1];
    e = pthread_create(&thread, NULL, dump, &copy);
    if (e != 0) {
        close(copy.in);
        close(copy.out);
        return qm_set_error(error, e, "no thread: %s", g_strerror(e));
    }
    e = qm_load(uri, &how, result, NULL, &trouble);
    close(copy.in); /* ends the dump where the loader gave up */
    pthread_join(thread, NULL);
    /* Where both failed the dump did so first, unless it was cut off. */
    if (e != 0 && copy.result != 0 && copy.result != -EPIPE) {
        g_propagate_error(error, g_steal_pointer(&copy.error));
        e = copy.result;
    } else if (e != 0) {
        g_propagate_error(error, g_steal_pointer(&trouble));
    }
    g_clear_error(&copy.error);
    g_clear_error(&trouble);
    return e;
}
