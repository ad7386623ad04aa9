/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control-call PATH LINE...: sends each LINE to the control socket PATH as it stands, and prints
 * what comes until a line is no progress. For shell tests; knows nothing of verbs.
 */
#include "config.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *line = NULL;
    size_t room = 0;
    FILE *stream;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (argc < 3 || strlen(argv[1]) >= sizeof address.sun_path || fd < 0)
        return 2;
    strcpy(address.sun_path, argv[1]);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror(argv[1]);
        return 1;
    }
    stream = fdopen(fd, "r");
    for (int i = 2; i < argc; i++) {
        g_autofree char *text = g_strconcat(argv[i], "\n", NULL);

        /* Where it is closed already, what was said before that is still there. */
        if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 && i > 2)
            return 1;
        do {
            if (getline(&line, &room, stream) < 0)
                return 1;
            fputs(line, stdout);
        } while (strncmp(line, "{\"progress\"", 11) == 0);
    }
    return 0;
}
