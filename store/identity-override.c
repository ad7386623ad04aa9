/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 0: the operator said which filesystem this is. Stands before everything else; what the other
 * rungs find is noted beside it.
 */
#include "config.h"

#include "store/identity.h"

#include <errno.h>

int qm_rung_override(struct qm_probe *probe, const struct qidmap_identify_options *options,
                     struct qm_answer *answer)
{
    (void)probe;
    if (options == NULL || options->override_uuid == NULL) {
        qm_say(answer, "the operator gave no uuid");
        return -ENODATA;
    }
    qm_answer_set(answer, QIDMAP_FSID_OVERRIDE, options->override_uuid, 16);
    qm_say(answer, "given by the operator");
    return 0;
}
