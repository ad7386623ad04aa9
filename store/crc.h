/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CRC32C (Castagnoli), as RFC 3720 defines it, in pieces: begin with 0, pass on what came back. */
#ifndef QM_CRC_H
#define QM_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t qm_crc32c(uint32_t crc, const void *data, size_t size);

#endif
