/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promise: store/qidmap.h can be included alone, by strict C99 (-std=c99 -pedantic-errors -Werror),
 * and its initialisers work.  That this compiles is the test; it links with nothing of ours.
 */
#include "store/qidmap.h"

int main(void)
{
    struct qidmap_params params = QIDMAP_PARAMS_INIT;
    struct qidmap_error error = {0, ""};

    return params.size == sizeof params && error.code == 0 ? 0 : 1;
}
