/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A negative control (LD_PRELOAD): every LMDB environment is opened with MDB_NOSYNC, which LMDB
 * documents as able to lose the last transactions in a crash. The laboratory must find that out at
 * once; if it does not, the laboratory is what is broken.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <dlfcn.h>
#include <lmdb.h>

__attribute__((visibility("default"))) int mdb_env_open(MDB_env *env, const char *path,
                                                        unsigned flags, mdb_mode_t mode)
{
    static __typeof__(&mdb_env_open) real;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "mdb_env_open");
    return real(env, path, flags | MDB_NOSYNC, mode);
}
