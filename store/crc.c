/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The only file that includes ISA-L: its crc32_iscsi uses the processor's own instruction. */
#include "config.h"

#include "store/crc.h"

#include <isa-l/crc.h>

uint32_t qm_crc32c(uint32_t crc, const void *data, size_t size)
{
    /* The callee takes an int and reads only; records are far smaller than that. */
    if (size == 0)
        return crc;
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, ~crc);
}
