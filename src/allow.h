/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Allow lists: which peers may attach to an export, or connect to a listener.
 *
 * A list is text with commas (or semicolons, or blanks) between its entries; a peer is allowed when
 * one of them fits. See qidmapd(8), ACCESS LISTS. Knows nothing of sockets; looks names of users
 * and groups up once, when the list is read.
 */
#ifndef ALLOW_H
#define ALLOW_H

#include <glib.h>
#include <stdbool.h>

struct allow;
struct peer;

/* Reads a list. NULL and *error where it makes no sense, or names an unknown user or group; an
 * empty one is refused, too: `none` says that nobody is meant. To be freed with allow_free(). */
struct allow *allow_parse(const char *text, GError **error);
void allow_free(struct allow *allow);

/* Whether one of the entries fits. A list that is not there, NULL, allows everybody. */
bool allow_permits(const struct allow *allow, const struct peer *peer);

/* The list as text that allow_parse() reads as the same. To be freed by the caller. */
char *allow_to_string(const struct allow *allow);

#endif
