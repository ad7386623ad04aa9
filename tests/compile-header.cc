// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Promise: store/qidmap.h can be included alone from C++, with C linkage, and its initialisers work
// there, too.
#include "store/qidmap.h"

int main()
{
    qidmap_params params = QIDMAP_PARAMS_INIT;
    const char *(*version)(void) = nullptr;

    version = static_cast<decltype(&qidmap_version)>(nullptr);
    return params.size == sizeof params && version == nullptr ? 0 : 1;
}
