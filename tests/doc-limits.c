/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Prints the limits that the daemon has without options, and those of its control socket, for
 * doc-security.sh to compare with qidmap-security(7). Asks the modules that set them; knows no
 * number itself.
 */
#include "config.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "src/control.h"
#include "src/limit.h"
#include "src/settings.h"

int main(void)
{
    const uint64_t descriptors = 1 << 30; /* so many that they bound nothing else */
    struct limit_settings limits;
    struct settings *settings = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) words =
        g_strsplit("qidmapd --export x=/srv --store memory: --listen unix:/nonexistent", " ", -1);
    char *given[8], **argv = given;
    int argc = (int)g_strv_length(words);

    memcpy(given, words, sizeof(given)); /* settings_read() takes out what it has read */
    limit_defaults(&limits, descriptors);
    for (int i = 0; i < LIMIT_COUNT; i++) {
        if (limits.session[i] == descriptors)
            printf("%s half", limit_name((enum limit)i));
        else
            printf("%s %" G_GUINT64_FORMAT, limit_name((enum limit)i), limits.session[i]);
        if (limits.daemon[i] == descriptors)
            printf(" half\n");
        else
            printf(" %" G_GUINT64_FORMAT "\n", limits.daemon[i]);
    }
    printf("connections - %" G_GUINT64_FORMAT "\n", limits.connections);
    /* few descriptors: what is not more than a part of them */
    limit_defaults(&limits, 1000);
    printf("connections-of-1000 %" G_GUINT64_FORMAT "\n", limits.connections);

    if (settings_read(&argc, &argv, &settings, &error) != SETTINGS_OK) {
        fprintf(stderr, "doc-limits: %s\n", error != NULL ? error->message : "no settings");
        return 1;
    }
    printf("--msize-max %u\n--threads %u\n--idle-timeout %u\n--stall-timeout %u\n",
           settings->msize_max, settings->threads, settings->idle_seconds, settings->stall_seconds);
    settings_free(settings);

    printf("CONTROL_LINE %d\nCONTROL_CLIENTS %d\nCONTROL_FDS %d\nCONTROL_DEPTH %d\n", CONTROL_LINE,
           CONTROL_CLIENTS, CONTROL_FDS, CONTROL_DEPTH);
    return 0;
}
