/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `adopt` in its parts: adopt-match.c finds the files of a manifest in another tree, and brings
 * what it finds to the stage; adopt-commit.c brings the stage to the library; cmd-adopt.c has the
 * verb.
 */
#ifndef TOOLS_ADOPT_H
#define TOOLS_ADOPT_H

#include <glib.h>

#include "tools/cmd.h"
#include "tools/manifest.h"
#include "tools/progress.h"
#include "tools/sight.h"
#include "tools/stage.h"

/* What is to be matched. */
struct adopt {
    const char *uri; /* of the store that gets the ids; it may not be there yet */
    char **fs_ids;
    int tree;          /* open */
    gboolean distinct; /* bind=distinct */
    manifest_reader *reader;
    stage *stage;
    struct stage_state *state;
    progress *line;
};

/* Begins the stage anew, and fills it. An exit status; has told any error. */
int adopt_match(const struct adopt *adopt);

/* Looks at the tree again, before the stage is committed: each file that is to get an id has to be
 * the one that was there. CMD_TROUBLE where one is gone or another file has its place; has told it.
 */
int adopt_check(const struct adopt *adopt);

/* A nameless file in the folder `dir` with all bindings of the stage; a descriptor, or a negative
 * errno. */
int adopt_bindings(stage *stage, const struct stage_state *state, const char *dir, progress *line,
                   struct qidmap_error *error);

/* Takes the bindings of `fd` that the store cannot take out of the stage, and reports them. */
int adopt_judge(stage *stage, struct stage_state *state, const char *uri, int fd, progress *line,
                struct qidmap_error *error);

/* Adopts them, in this process. */
int adopt_here(const char *uri, int fd, progress *line, struct qidmap_bind_result *result,
               struct qidmap_error *error);

/* Has the daemon at the control socket adopt them. */
int adopt_there(const char *socket, const char *uri, int fd, progress *line,
                struct qidmap_bind_result *result, struct qidmap_error *error);

#endif
