/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a store can be kept. */
#ifndef QM_PLACE_H
#define QM_PLACE_H

/* The name of the filesystem that `fd` is on where it cannot hold a store: one that is shared by
 * machines, or does not promise to keep what was synced. NULL where it can. */
const char *qm_place_unfit(int fd);

#endif
