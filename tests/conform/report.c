/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Results as TAP (known failures are marked TODO, as automake's driver understands them), or as
 * JSON lines.
 */
#include "config.h"

#include "tests/conform/report.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>

static gboolean as_json;
static guint count, passed;

void report_begin(gboolean json)
{
    as_json = json;
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static void tell_tap(const struct result *r)
{
    g_auto(GStrv) lines = g_strsplit(r->text, "\n", -1);

    printf("%sok %u - %s", r->outcome == FAILED ? "not " : "", count, r->c->name);
    if (r->outcome == SKIPPED)
        printf(" # SKIP %s", lines[0] != NULL ? lines[0] : "");
    else if (r->reason != NULL)
        printf(" # TODO %s", r->reason);
    printf("\n");
    if (r->outcome != FAILED)
        return;
    printf("# promise: %s\n# rule: %s\n", r->c->proves, r->c->rule);
    for (char **line = lines; *line != NULL; line++)
        if ((*line)[0] != '\0')
            printf("# %s\n", *line);
}

static void tell_json(const struct result *r)
{
    static const char *const words[] = {"pass", "fail", "skip"};
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = g_utf8_make_valid(r->text, -1), *line = NULL;

    json_builder_begin_object(b);
    json_builder_set_member_name(b, "case");
    json_builder_add_string_value(b, r->c->name);
    json_builder_set_member_name(b, "result");
    json_builder_add_string_value(b, words[r->outcome]);
    json_builder_set_member_name(b, "promise");
    json_builder_add_string_value(b, r->c->proves);
    json_builder_set_member_name(b, "rule");
    json_builder_add_string_value(b, r->c->rule);
    if (r->text[0] != '\0') {
        json_builder_set_member_name(b, "detail");
        json_builder_add_string_value(b, text);
    }
    if (r->reason != NULL) {
        json_builder_set_member_name(b, "expected-to-fail");
        json_builder_add_string_value(b, r->reason);
    }
    json_builder_set_member_name(b, "ms");
    json_builder_add_int_value(b, r->ms);
    json_builder_end_object(b);
    root = json_builder_get_root(b);
    json_generator_set_root(generator, root);
    line = json_generator_to_data(generator, NULL);
    printf("%s\n", line);
}

gboolean report_result(const struct result *r)
{
    count++;
    passed += r->outcome == PASSED;
    if (as_json)
        tell_json(r);
    else
        tell_tap(r);
    return r->outcome == SKIPPED || (r->outcome == FAILED) == (r->reason != NULL);
}

void report_gone(void)
{
    if (!as_json)
        printf("Bail out! the server does not answer any more\n");
    fprintf(stderr, "conform: the server does not answer any more\n");
}

gboolean report_end(void)
{
    if (!as_json)
        printf("# %u of %u passed\n1..%u\n", passed, count, count);
    if (count == 0)
        fprintf(stderr, "conform: no case has such a name\n");
    return count > 0;
}
