/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qidmapctl: looks at stores, from the shell, while the daemon runs or not. This file holds the
 * table of verbs, from which --help is made, and finds the verb; it knows nothing of what they do.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"

#define SURVEY_DETAILS                                                                             \
    "Reads the tree below DIR, other mounts included, and changes nothing. Needs no store.\n"      \
    "Exit status: 1 where raw inode numbers or QEMU's remap give two files one number.\n"

static const struct cmd commands[] = {
    {"status", "", "show the state of a store", NULL, cmd_status},
    {"dump", "", "print all rows of a store",
     "With --json it can be loaded again: each row is one line, and the last line has the counts\n"
     "and a checksum. A dump that does not end in it is not whole.\n",
     cmd_dump},
    {"load", "FILE|-", "make a store of a dump",
     "The dump is checked whole, and then the store is there at once, or not at all. Numbers for\n"
     "new files begin far behind those of the dump, unless the store that is replaced tells which\n"
     "were given, or --latest says that no daemon ran after the dump was made.\n",
     cmd_load},
    {"verify", "", "check every row of a store, and whether the rows agree",
     "Works while a daemon uses the store; --repair does not. Exit status: 0 all is right, 1 it\n"
     "is not, 3 it could not be looked at.\n",
     cmd_verify},
    {"compact", "", "rewrite a store without the space that nobody uses",
     "All ids stay. --dry-run works while a daemon uses the store. --prune-missing deletes the\n"
     "rows of files that are gone from mounted filesystems, and nothing where that is not sure.\n"
     "Time for --unseen-for counts while a daemon has the store open.\n",
     cmd_compact},
    {"copy", "FROM TO", "copy a store to another place or backend",
     "FROM and TO are lmdb:DIR or xattr:DIR. A daemon may use FROM meanwhile. TO is whole\n"
     "afterwards, or as it was. Its numbers for new files begin far ahead of those of FROM,\n"
     "unless --latest says that FROM is not used any more.\n",
     cmd_copy},
    {"backup", "FILE", "write one state of a store to a file",
     "A daemon may use the store meanwhile. FILE is a dump as `dump --json` prints it, is synced,\n"
     "and is there as a whole or not at all.\n",
     cmd_backup},
    {"restore", "FILE", "put what backup wrote in the place of the store",
     "What is there is dumped beside it first, and no id that it gave is given again.\n",
     cmd_restore},
    {"reset", "", "empty a store: every file gets a new id",
     "What is there is dumped beside it first. New ids begin where the old ones ended.\n",
     cmd_reset},
    {"lookup", "PATH|QIDPATH ...", "host path to qid path and guest inode number, or back",
     "PATH is a file on the host; nothing is ever mapped by looking. A number is a qid path:\n"
     "its filesystem and inode are shown, and the mounted filesystem is searched for names.\n"
     "A file whose name is a number is written ./123.\n",
     cmd_lookup},
    {"manifest", "EXPORT", "write down which id each file of an export has",
     "EXPORT is a folder, or the name of an export in qidmapd.conf. What is written has a line "
     "for\n"
     "each name, and ends in counts and a checksum; qidmapctl adopt reads it where the data was\n"
     "copied to. Makes no ids. Exit status: 1 where something could not be read.\n",
     cmd_manifest},
    {"preflight", "EXPORT", "tell whether a store knows the filesystems of an export",
     "EXPORT is a folder, or the name of an export in qidmapd.conf. For a store, or storage, that\n"
     "came from another host. Changes nothing. Exit status: 0 where every file keeps its id, 1\n"
     "where a filesystem would be taken for a new one, or cannot be served.\n",
     cmd_preflight},
    {"adopt", "MANIFEST EXPORT", "give copied files the ids that they had",
     "MANIFEST was written by qidmapctl manifest where the data was copied from; EXPORT has the\n"
     "copies. What is found is staged beside the store, and told; --commit makes it valid, all at\n"
     "once, and the old filesystem is refused from then on. Exit status: 1 where something is\n"
     "missing, was changed, or cannot have its id.\n",
     cmd_adopt},
    {"drain", "PATH", "have the daemon close what it holds below PATH",
     "Then the host can unmount it. What clients have open there stays open, and is listed. Exit\n"
     "status: 1 where something is.\n",
     cmd_drain},
    {"reload", "", "have a daemon read its configuration again",
     "New exports can be attached to, those that are gone no longer can, and sessions go on. "
     "Where\n"
     "anything is wrong, nothing changes. The daemon is named as for top, or by its process.\n",
     cmd_reload},
    {"hold", "", "have a daemon without sessions take none, to restart it",
     "Who connects meanwhile waits. The daemon is named as for top. Exit status: 1 where there "
     "are\n"
     "sessions; nothing has changed then.\n",
     cmd_hold},
    {"survey", "DIR", "tell what ids an export of DIR would get", SURVEY_DETAILS, cmd_survey},
    {"top", "", "show what a daemon does, now and again",
     "The daemon is named by its control socket or its store; where there is only one, it is\n"
     "found. q ends.\n",
     cmd_top},
    {"metrics", "", "print what a daemon did, for Prometheus",
     "In the text format, for a textfile collector. The daemon is named as for top.\n",
     cmd_metrics},
    {"fs list", "", "list the filesystems of a store", NULL, cmd_fs_list},
    {"fs show", "N", "show all that is known of filesystem N", NULL, cmd_fs_show},
    {"fs identify", "PATH", "tell how the filesystem of PATH is recognised",
     "With a store: also which of its filesystems it is. Changes nothing.\n", cmd_fs_identify},
    {"fs alias", "OLD NEW", "filesystem NEW is OLD: use the ids of OLD first",
     "Mends a split: what was filesystem OLD came again and was taken for a new one, NEW.\n",
     cmd_fs_alias},
    {"fs policy", "N POLICY", "change how ids of filesystem N are made",
     "POLICY is affix, handle, ephemeral or deny. Where N has given ids they are not kept:\n"
     "--renumber says that this is meant.\n",
     cmd_fs_policy},
    {"fs retire", "N", "let filesystem N begin anew when it comes again",
     "Its ids are never used again, for nothing.\n", cmd_fs_retire},
};

/* The second words of the verb `first`, as "list, show or alias". */
static char *second_words(const char *first)
{
    GString *out = g_string_new(NULL);
    gsize skip = strlen(first) + 1;
    const char *last = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        const char *name = commands[i].name;
        if (strncmp(name, first, skip - 1) != 0 || name[skip - 1] != ' ') {
            continue;
        }
        if (last != NULL) {
            g_string_append_printf(out, "%s%s", out->len > 0 ? ", " : "", last);
        }
        last = name + skip;
    }
    if (last != NULL) {
        g_string_append_printf(out, "%s%s", out->len > 0 ? " or " : "", last);
    }
    return g_string_free(out, FALSE);
}

static void print_help(void)
{
    printf("Usage:\n  qidmapctl VERB [OPTIONS] [ARGUMENTS]\n\nVerbs:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        g_autofree char *synopsis = g_strdup_printf("%s %s", commands[i].name, commands[i].args);
        printf("  %-26s %s\n", synopsis, commands[i].summary);
    }
    printf("\nOptions:\n"
           "  --help                     show this, or after a verb its own options\n"
           "  --version                  show the version\n"
           "\nEvery verb but survey takes --store URI, or --export NAME with the store of that\n"
           "export in qidmapd.conf (--config FILE: another file).\n"
           "\nExit status: 0 fine, 1 trouble (not found, not mapped, damaged), 2 wrong usage,\n"
           "3 cannot (no store, no permission).\n");
}

/* How many words of argv the name of `cmd` takes; 0 where it is another verb. */
static int match(const struct cmd *cmd, int argc, char **argv)
{
    g_auto(GStrv) words = g_strsplit(cmd->name, " ", -1);
    int count = (int)g_strv_length(words);
    if (argc < count) {
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (strcmp(argv[i], words[i]) != 0) {
            return 0;
        }
    }
    return count;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        cmd_error("no verb given; see qidmapctl --help");
        return CMD_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return CMD_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("qidmapctl %s\n", qidmap_version());
        return CMD_OK;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        int words = match(&commands[i], argc - 1, argv + 1);
        if (words > 0) {
            return commands[i].run(&commands[i], argc - words, argv + words);
        }
    }
    g_autofree char *shown = cmd_escape(argv[1], TRUE);
    if (argv[1][0] == '-') {
        cmd_error("option %s comes after a verb, or does not exist; see qidmapctl --help", shown);
    } else if (strcmp(argv[1], "fs") == 0) {
        g_autofree char *words = second_words("fs");
        cmd_error("fs needs a second word: %s; see qidmapctl --help", words);
    } else {
        cmd_error("unknown verb %s; see qidmapctl --help", shown);
    }
    return CMD_USAGE;
}

/* Where the caller closed one of the three, the store would take its number, and output be written
 * into it. What stands there now fails, as a closed one does. */
static void fill_standard(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) {
            _exit(CMD_CANNOT);
        }
    }
}

int main(int argc, char **argv)
{
    fill_standard();
    setlocale(LC_CTYPE, "");
    int status = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cmd_error("cannot write the output: %s", g_strerror(errno));
        return CMD_CANNOT;
    }
    return status;
}
