/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The affix code of format 1: Exp-Golomb of order 0, mirrored. Index n = 1, 2, 3 ... has a suffix
 * of L(n) = 1, 3, 3, 5, 5, 5, 5, 7 ... bits; no suffix is the end of another one.
 */
#ifndef QM_AFFIX_H
#define QM_AFFIX_H

#include <stdint.h>

#define QM_AFFIX_FULL      1u /* index of the full map: odd ids */
#define QM_AFFIX_RESERVED  2u /* kept free */
#define QM_AFFIX_EPHEMERAL 3u /* ids of ephemeral filesystems */
#define QM_AFFIX_FIRST     4u /* first affix entry */

#define QM_AFFIX_BITS_MAX 40u               /* longest suffix that is given */
#define QM_AFFIX_LAST     ((1u << 20) - 1u) /* last index whose suffix is not longer: 39 bits */

/* L(n), for n from 1 to 2^31 - 1. */
unsigned qm_affix_bits(uint32_t n);

/* The suffix of n: its L(n) lowest bits count, the others are 0. */
uint64_t qm_affix_suffix(uint32_t n);

/* The index that `path` ends in; 0 where it ends in none (more than 30 trailing zeros). */
uint32_t qm_affix_index(uint64_t path);

#endif
