/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Notes which rows were live together. Owns the list in a row, and when it says `many` instead.
 *
 * Must not know what the list is used for.
 */
#include "config.h"

#include "store/register.h"

#include <string.h>

void qm_company_add(struct company *company, uint32_t fs)
{
    uint32_t at = 0;

    while (at < company->count && company->fs[at] < fs)
        at++;
    if (fs == 0 || company->many || (at < company->count && company->fs[at] == fs))
        return;
    if (company->count == G_N_ELEMENTS(company->fs)) {
        company->many = TRUE;
        return;
    }
    memmove(company->fs + at + 1, company->fs + at, (company->count - at) * sizeof(company->fs[0]));
    company->fs[at] = fs;
    company->count++;
}

/* TRUE when the row changed. */
gboolean qm_company_note(struct qidmap_fs *row, const struct company *company)
{
    struct company met = {.count = 0};
    uint32_t i;

    if (row->met_many)
        return FALSE;
    for (i = 0; i < row->met_count; i++)
        qm_company_add(&met, row->met[i]);
    for (i = 0; i < company->count; i++) {
        if (company->fs[i] != row->fs)
            qm_company_add(&met, company->fs[i]);
    }
    row->met_many = company->many || met.many || met.count > QIDMAP_FS_MET;
    if (!row->met_many && met.count == row->met_count)
        return FALSE;
    row->met_count = MIN(met.count, QIDMAP_FS_MET);
    memcpy(row->met, met.fs, row->met_count * sizeof(row->met[0]));
    return TRUE;
}
