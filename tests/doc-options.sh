#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: --help, the man page and the completion of each program name the same verbs and options,
# for each verb by itself, and the same exit statuses; and every page of the manual is valid POD.

. "$(dirname "$0")/lib.sh"

man=$top_srcdir/man
completion=$top_srcdir/dist/completion

options() { # of stdin, sorted
    grep -oE -e '--[a-z][a-z-]*' | sort -u
}

same() { # A B DESCRIPTION
    if [ "$1" = "$2" ] && [ -n "$1" ]; then
        ok "$3"
    else
        not_ok "$3" "$(diff <(echo "$1") <(echo "$2"))"
    fi
}

# The options that the page has an item for.
page_items() { grep -oE '^=item B<--[a-z-]+>' "$1" | options; }

daemon=$(qidmapd_program) || bail_out "no qidmapd: run make first"
ctl=$(qidmapctl_program) || bail_out "no qidmapctl: run make first"

# glib lists --help-all with groups only
daemon_help=$("$daemon" --help | grep -E '^ +(-[a-z], )?--' | sed -E 's/^ +(-[a-z], )?(--[a-z-]+).*/\2/' |
    grep -v -e --help-all | sort -u)
same "$daemon_help" "$(page_items "$man/qidmapd.8.pod")" "qidmapd: --help and the man page"
same "$daemon_help" "$(options <"$completion/qidmapd.bash")" "qidmapd: --help and the completion"

verbs=$("$ctl" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\( [a-z]\{1,\}\)\{0,1\}\) .*/\1/p' | sed 's/ *$//')
is "$verbs" "$(sed -n 's/^=item B<\([a-z ]*\)>.*/\1/p' "$man/qidmapctl.8.pod")" \
    "qidmapctl: the verbs of --help and of the man page"
words=$(for word in $verbs; do echo "$word"; done | sort -u)
same "$words" "$(sed -n 's/.*compgen -W "\([a-z -]*\)" .*/\1/p' "$completion/qidmapctl.bash" |
    tr ' ' '\n' | grep -E '^[a-z]+$' | sort -u)" "qidmapctl: the verbs of --help and of the completion"

ctl_help=$({
    "$ctl" --help | grep -E '^  --' | sed -E 's/^ +(--[a-z-]+).*/\1/'
    while read -r verb; do
        # shellcheck disable=SC2086 # two words
        "$ctl" $verb --help | sed -nE 's/^ +(-[a-z], )?(--[a-z-]+).*/\2/p'
    done <<<"$verbs"
} | sort -u)
same "$ctl_help" "$(page_items "$man/qidmapctl.8.pod")" "qidmapctl: --help and the man page"
same "$ctl_help" "$(options <"$completion/qidmapctl.bash")" "qidmapctl: --help and the completion"

# completion in action
complete_words() { # FUNCTION WORD...: the last word is to be completed
    bash -c '. "$1"; shift; f=$1; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
        $f; printf "%s\n" "${COMPREPLY[@]}"' - "$completion/${1#_}.bash" "$@"
}

# the synopsis of each verb has just the options that the verb takes
while read -r verb; do
    # shellcheck disable=SC2086 # two words
    with_config=$("$ctl" $verb --help | sed -nE 's/^ +(-[a-z], )?(--[a-z-]+).*/\2/p' | sort -u)
    of_help=$(grep -v -e '^--help$' -e '^--config$' <<<"$with_config")
    of_page=$(sed -n "/^B<qidmapctl> B<$verb>/,/^\$/p" "$man/qidmapctl.8.pod" | options)
    same "$of_help" "$of_page" "qidmapctl $verb: --help and the synopsis"
    # shellcheck disable=SC2086
    same "$with_config" "$(complete_words _qidmapctl qidmapctl $verb -- | sort -u)" \
        "qidmapctl $verb: --help and what is completed"
    # shellcheck disable=SC2086 # each option is read: an unknown one is wrong usage, its help is not
    is "$("$ctl" $verb --no-such-option >/dev/null 2>&1; echo $?)" 2 "qidmapctl $verb: an unknown option"
done <<<"$verbs"

# exit statuses: those of the page, of --help, and of the table that the programs return
statuses=$(sed -n '/^=head1 EXIT STATUS/,/^=head1 SEE/s/^=item B<\([0-9]*\)>$/\1/p' "$man/qidmapctl.8.pod")
is "$statuses" "$(sed -n '/^enum {$/,/^};$/s/^ *CMD_[A-Z]* = \([0-9]*\).*/\1/p' "$top_srcdir/tools/cmd.h" |
    head -n 4)" "qidmapctl: the exit statuses of the man page and of the program"
is "$statuses" "$("$ctl" --help | sed -n '/^Exit status:/,$p' | grep -oE '(^|[ ,])[0-9] [a-z]' |
    grep -oE '[0-9]')" "qidmapctl: the exit statuses of the man page and of --help"
is "$("$ctl" no-such-verb >/dev/null 2>&1; echo $?)" 2 "an unknown verb is wrong usage"
is "$("$ctl" status --store lmdb:/nonexistent/store >/dev/null 2>&1; echo $?)" 3 "no store: cannot"

# keys of qidmapd.conf: an item for each that the daemon reads, and the example is accepted
keys=$(sed -n '/known\[\] = {/,/NULL}/p' "$top_srcdir/src/config.c" | grep -oE '"[a-z-]+"' | tr -d '"' | sort -u)
same "$keys" "$(sed -n 's/^=item B<\([a-z-]*\)>$/\1/p' "$man/qidmapd.conf.5.pod" | sort -u)" \
    "qidmapd.conf: the keys of the program and of the man page"
same "$keys" "$(sed -nE 's/^#?([a-z-]+)=.*/\1/p' "$top_srcdir/dist/qidmapd.conf.example" | sort -u)" \
    "qidmapd.conf: the keys of the program and of the example"

# mount.qidmap: letters of the command line, and the options of a mount
source=$top_srcdir/tools/mount-qidmap
mount_page=$man/mount.qidmap.8.pod
letters() { grep -oE '(^|[^a-z-])-[a-zA-Z]+' | grep -oE '[a-zA-Z]+' | grep -o . | sort -u; }
read_letters=$(sed -n 's/.*getopt(argc, argv, "\([a-zA-Z:]*\)").*/\1/p' "$source.c" | tr -d : | grep -o . | sort -u)
same "$read_letters" "$(sed -n '/^=head2 Of the command line/,/^=back/s/^=item //p' "$mount_page" |
    sed 's/--[a-z]*//g' | { cat; echo " -o"; } | letters)" "mount.qidmap: the letters of the program and of the man page"
same "$read_letters" "$(sed -n 's/^B<mount.qidmap> I<SOURCE>.*DIR> //p' "$mount_page" | sed 's/I<[^>]*>//g' |
    tr 'B<>[].,' ' ' | letters)" "and of its synopsis"
if helper=$(find_program mount.qidmap); then
    same "$read_letters" "$("$helper" --help | sed -n 's/^ *mount.qidmap SOURCE DIR //p' | letters)" "and of --help"
    of_help=$("$helper" --help | sed -nE 's/^ +([a-z]+)=[A-Z]+ .*/\1/p' | sort)
    same "$(echo "$of_help"; echo version)" "$(sed -nE '/^=head2 Its own/,/^=back/s/^=item B<([a-z]+)>.*/\1/p' \
        "$mount_page" | sort)" "mount.qidmap: its options in --help (but version=) and the man page"
else
    skip "mount.qidmap: --help" "mount.qidmap is not in this build"
fi
client=$(sed -n '/client_options\[\] = {/,/^};/p' "$source-options.c" | grep -oE '"[a-z]+"' | tr -d '"' | sort -u)
same "$client" "$(sed -n '/^=head2 Passed on/,/; see/p' "$mount_page" | grep -oE 'B<[a-z]+>' | tr -d 'B<>' | sort -u)" \
    "mount.qidmap: options of the kernel in the program and the man page"
offered=$(complete_words _mount.qidmap mount.qidmap vsock:2 /mnt -o "" | sed 's/=$//' | sort -u)
is "$(grep -vxF "$offered" <<<"$client")" "" "mount.qidmap: each of them is completed"
is "$(grep -cxE 'aname|retry|msize' <<<"$offered")" 3 "and its own"
is "$(complete_words _mount.qidmap mount.qidmap vsock:2 /mnt -o aname=x,po)" aname=x,posixacl \
    "the completion of one more option"
is "$(complete_words _mount.qidmap mount.qidmap vsock:2 /mnt -o cache = mm)" mmap "the completion of its value"
is "$(complete_words _mount.qidmap mount.qidmap vs | sort | head -n 1)" vsock:2:564 "the completion of a source"

for page in "$man"/*.pod; do
    check "podchecker $(basename "$page")" podchecker -warnings -warnings "$page"
done
for script in "$completion"/*.bash; do
    check "bash reads $(basename "$script")" bash -n "$script"
done

is "$(complete_words _qidmapctl qidmapctl st)" status "the completion of a verb"
is "$(complete_words _qidmapctl qidmapctl fs l)" list "the completion of its second word"
is "$(complete_words _qidmapctl qidmapctl fs policy 3 eph)" ephemeral "the completion of a policy"
is "$(complete_words _qidmapctl qidmapctl lookup --no)" --no-scan "the completion of an option"
is "$(complete_words _qidmapctl qidmapctl dump --no)" "" "an option of another verb is not offered"
is "$(complete_words _qidmapd qidmapd --multidevs wa)" warn "the completion of a value"
same "$daemon_help" "$(complete_words _qidmapd qidmapd -- | sort -u)" "qidmapd: each option is completed"
tap_done
