/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rung 0: the operator said which filesystem this is. Stands before everything else; what the other
 * rungs find is noted beside it.
 */
#include "config.h"

#include "store/identity.h"

void qm_rung_override(struct qm_probe *probe, const struct qidmap_identify_options *options,
                      struct qidmap_identity *identity)
{
    (void)probe;
    if (options != NULL && options->override_uuid != NULL)
        qm_identity_add(identity, QIDMAP_FSID_OVERRIDE, options->override_uuid, 16);
}
