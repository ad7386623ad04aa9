/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What was measured, for programs: targets and figures as comma-separated values. Counts the
 * targets that were met. Must not know how anything was measured.
 */
#include "config.h"

#include <stdio.h>

#include "bench/speed.h"

static FILE *figures, *targets;
static guint told, met;

static FILE *open_file(const char *path, const char *header)
{
    FILE *file = path != NULL ? fopen(path, "w") : NULL;

    if (path != NULL && file == NULL)
        speed_die(path);
    if (file != NULL)
        fprintf(file, "%s\n", header);
    return file;
}

void report_open(const char *figures_path, const char *targets_path)
{
    figures = open_file(figures_path, "case,transport,server,p50_us,limit_us,exchange_us,naked_us,"
                                      "to_limit,cpu_us,cpu_to_diod,cpu_to_floor,syscalls,which");
    targets = open_file(targets_path, "what,transport,value,unit,relation,target,floor,verdict");
}

/* A comma, and the figure; nothing where there is none. */
static void put(FILE *file, double value)
{
    if (value > 0)
        fprintf(file, ",%.4g", value);
    else
        fputc(',', file);
}

void report_figure(const char *name, const char *transport, const char *server,
                   const struct report_figure *f)
{
    if (figures == NULL)
        return;
    fprintf(figures, "%s,%s,%s", name, transport, server);
    put(figures, f->p50);
    put(figures, f->exchange + f->naked);
    put(figures, f->exchange);
    put(figures, f->naked);
    put(figures, f->to_limit);
    put(figures, f->cpu);
    put(figures, f->cpu_to_diod);
    put(figures, f->cpu_to_floor);
    put(figures, f->calls);
    fprintf(figures, ",%s\n", f->which != NULL ? f->which : "");
    fflush(figures);
}

const char *report_target(const char *what, const char *transport, double value, const char *unit,
                          double target, gboolean at_least, double floor)
{
    gboolean pass = at_least ? value >= target : value <= target;
    const char *verdict = value == 0 ? "not measured" : pass ? "PASS" : "short";

    if (value != 0) {
        told++;
        met += pass;
    }
    if (targets != NULL) {
        /* names may have commas */
        fprintf(targets, "\"%s\",%s", what, transport);
        put(targets, value);
        fprintf(targets, ",%s,%s,%g", unit, at_least ? "at least" : "at most", target);
        put(targets, floor);
        fprintf(targets, ",%s\n", verdict);
        fflush(targets);
    }
    return verdict;
}

void report_close(void)
{
    printf("%u of %u targets are met\n", met, told);
    if (figures != NULL)
        fclose(figures);
    if (targets != NULL)
        fclose(targets);
}
