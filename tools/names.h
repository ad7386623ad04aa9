/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The names of a directory in order, however many there are: what goes beyond a budget of memory is
 * sorted in pieces, which go to a temporary file and are merged while they are read.
 */
#ifndef TOOLS_NAMES_H
#define TOOLS_NAMES_H

#include <glib.h>

/* The budget and the temporary file that all lists of a walk have in common. */
typedef struct names_pool names_pool;
names_pool *names_pool_new(gsize budget); /* bytes of memory for all lists together, about */
void names_pool_free(names_pool *pool);

/* One list. The lists of a pool are freed in the reverse order in which they were made, and names
 * are added to the one that was made last only. */
typedef struct names names;
names *names_new(names_pool *pool);
void names_free(names *list);

/* Adds a name; one that is there already may come again. 0, or the negative errno of the temporary
 * file. */
int names_add(names *list, const char *name);

/* No more is added. 0 or a negative errno. */
int names_sort(names *list);

/* 1 and the next name, ascending as unsigned bytes, none twice; it is the list's, until the next
 * call. 0 at the end, or a negative errno. */
int names_next(names *list, const char **name);

#endif
