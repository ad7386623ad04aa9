/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The affix code. Pure arithmetic.
 *
 * With k = floor(log2 n), the prefix code of n is k zeros and then n in k + 1 bits, its highest bit
 * (a one) first. Mirrored bit by bit, and read from the lowest bit upwards, a path has k zeros, a
 * one, and the k lower bits of n from high to low:
 *
 *      bit   2k ............ k+1    k    k-1 ... 0
 *           n.bit(0) .. n.bit(k-1)  1    0  ...  0
 *
 * Decoding counts the trailing zeros, which gives k, and reverses the k + 1 bits above them: O(1).
 * Two different codes of equal k differ in those bits; of different k, in the number of trailing
 * zeros: hence no code is the end of another one.
 *
 * Rejected: a unary code (L(n) = n: 16 entries would cost 16 bits) and fixed 8 bits (256 entries,
 * then nothing).
 */
#include "config.h"

#include "store/affix.h"

static unsigned log2_floor(uint32_t n)
{
    return 31u - (unsigned)__builtin_clz(n);
}

/* The lowest `count` bits of `value` (count 1 ... 64), in reverse order. */
static uint64_t reverse(uint64_t value, unsigned count)
{
    value = (value >> 1 & 0x5555555555555555u) | (value & 0x5555555555555555u) << 1;
    value = (value >> 2 & 0x3333333333333333u) | (value & 0x3333333333333333u) << 2;
    value = (value >> 4 & 0x0f0f0f0f0f0f0f0fu) | (value & 0x0f0f0f0f0f0f0f0fu) << 4;
    return __builtin_bswap64(value) >> (64 - count);
}

unsigned qm_affix_bits(uint32_t n)
{
    return 2 * log2_floor(n) + 1;
}

uint64_t qm_affix_suffix(uint32_t n)
{
    unsigned k = log2_floor(n);

    return reverse(n, k + 1) << k;
}

uint32_t qm_affix_index(uint64_t path)
{
    unsigned k;

    if (path == 0)
        return 0;
    k = (unsigned)__builtin_ctzll(path);
    if (k > 30)
        return 0;
    return (uint32_t)reverse(path >> k & ((UINT64_C(1) << (k + 1)) - 1), k + 1);
}
