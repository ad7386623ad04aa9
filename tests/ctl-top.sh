#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl top shows what the daemon does: fits the terminal at any size, outlives the
# daemon, gives the terminal back whatever ends it, and nothing that a client or daemon says reaches the
# terminal as more than text. Without a terminal it prints one state or says what to do.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"
control=$tmp/control
serve_tree --control "$control"
meet_all

# ---- without a terminal
run top --control "$control"
exits 2 "top without a terminal"
complains "--once" "and it is said what to do"
run top --once --control "$control"
[ "$(sed -n 's/^map       \([0-9]*\) .*/\1/p' <<<"$out")" -gt 0 ] && ok "ids were asked for" || not_ok "ids were asked for" "$out"
exits 0 "top --once"
says '^requests  [0-9.k]+, errors [0-9]+, in .*B, out .*B$' "requests and bytes"
says '^map  .* ids asked for, [0-9.]+ % known, [0-9]+ new mappings$' "hits of the map, and what was new"
says '^store  .*commits, mean [0-9.]+[num]?s' "how long commits took"
says '^Tattach +1 ' "a line for each message"
for wrong in "--interval 0" "--json" "--interval 9999"; do
    # shellcheck disable=SC2086 # two words
    run top --control "$control" $wrong
    exits 2 "top $wrong is wrong usage"
done
run top --once --control "$tmp/absent"
exits 3 "no daemon there"

# ---- the live view
for program in script stty; do
    command -v $program >/dev/null || {
        skip "the live view" "no $program"
        tap_done
    }
done

# live NAME ARG...: top on a terminal of its own; its bytes go to $seen, keys come from descriptor 7
live() {
    seen=$tmp/$1.seen
    rm -f "$tmp/keys" "$tmp/tty" "$tmp/status" "$tmp/before" "$tmp/after"
    mkfifo "$tmp/keys"
    exec 7<>"$tmp/keys"
    shift
    cat >"$tmp/inside" <<'END'
dir=$1; shift
trap : INT
stty rows 30 cols 120; stty -g >"$dir/before"; tty >"$dir/tty"
"$@"
echo $? >"$dir/status"
stty -g >"$dir/after"
END
    # The shell is named: script takes the user's, who may have none that runs commands.
    SHELL=$BASH script -qefc "bash $tmp/inside $tmp $(printf '%q ' "$ctl" top "$@")" "$seen" \
        <"$tmp/keys" >/dev/null 2>&1 &
    script_pid=$!
}
on_exit '[ -z "${script_pid:-}" ] || kill "$script_pid" 2>/dev/null'

shows() { grep -aq -e "$1" "$seen" 2>/dev/null; }

over() { # the program has ended, and the terminal is as it was
    wait_until 60 test -s "$tmp/after" || return 1
    wait "$script_pid"
    script_pid=
    exec 7>&-
}

given_back() { # DESCRIPTION: of the last one
    is "$(cat "$tmp/status" 2>/dev/null)" 0 "$1: exit status 0"
    is "$(cat "$tmp/after")" "$(cat "$tmp/before")" "$1: the terminal's modes are as they were"
    is "$(grep -ao -e $'\033\[?1049[hl]' -e $'\033\[?25[hl]' "$seen" | tr -d '\033' | tr '\n' ' ')" \
        "[?1049h [?25l [?25h [?1049l " "$1: the other screen and the hidden cursor are left once"
}

last_frame() { # lines as they are on the screen, of the last painting that is whole
    tr -d '\r' <"$seen" | sed 's/\x1b\[K//g; s/\x1b\[0m//g; s/\x1b\[7m//g' | awk '
        BEGIN { RS = "\033\\[H" } /\033\[J/ { frame = $0 } END { sub(/\033\[J.*/, "", frame); print frame }'
}

fits() { # COLUMNS ROWS: the last frame
    last_frame >"$tmp/frame"
    awk -v c="$1" -v r="$2" 'length($0) > c { bad = 1 } END { exit bad || NR > r || NR == 0 }' "$tmp/frame"
}

terminal_pid() { # of top on the terminal
    ps -o pid=,comm= -t "$(sed 's,/dev/,,' "$tmp/tty")" | awk '$2 ~ /qidmapctl/ { print $1; exit }'
}

live resize --control "$control"
wait_until 60 shows 'MESSAGE' && ok "the live view comes" || not_ok "the live view comes" "$(cat "$seen")"
wait_until 60 shows 'EACH s' && ok "rates, after the second asking" || not_ok "rates, after the second asking"
shows 'SESSION ' && ok "sessions have their table" || not_ok "sessions have their table"
check "it fits 120 columns and 30 rows" fits 120 30
stty -F "$(cat "$tmp/tty")" cols 40 rows 9
check "after a resize it fits 40 columns and 9 rows" wait_until 60 fits 40 9
stty -F "$(cat "$tmp/tty")" cols 1 rows 1
check "and 1 and 1" wait_until 60 fits 1 1
stty -F "$(cat "$tmp/tty")" cols 100 rows 20
stop_qidmapd
wait_until 60 shows 'NO ANSWER' && ok "a daemon that is gone is told of" || not_ok "a daemon that is gone is told of"
serve_tree --control "$control"
back() { ! last_frame | grep -q 'NO ANSWER' && last_frame | grep -q '^qidmapd '; }
check "and shown again when it is back" wait_until 60 back
printf q >&7
over && ok "q ends it" || not_ok "q ends it"
given_back "q"

live interrupt --control "$control"
wait_until 60 shows 'MESSAGE'
printf '\003' >&7
over && ok "Ctrl-C ends it" || not_ok "Ctrl-C ends it"
given_back "Ctrl-C"

live term --control "$control"
wait_until 60 shows 'MESSAGE'
kill -TERM "$(terminal_pid)"
over && ok "SIGTERM ends it" || not_ok "SIGTERM ends it"
given_back "SIGTERM"
stop_qidmapd

# ---- a daemon that says what it should not
if ! command -v socat >/dev/null; then
    skip "names with escape sequences" "no socat"
    tap_done
fi
evil='\u001b]0;evil\u0007\u001b[2J\u009b2J\u202eabc\r\n'
cat >"$tmp/answer" <<END
{"result":{"version":"1$evil","pid":7,"clock":"5","requests":"9","sessions_now":"1","held":[],"map":"x",
"messages":[{"message":"T$evil","requests":"3","nanoseconds":"30","slowest":"-1","buckets":[7,{"to":"a","count":{}}]},4],
"stores":[{"store":"lmdb:/$evil","trouble":"no $evil"},null,[]],
"sessions":[{"session":"1$evil","peer":"unix:$evil","attached":[{"uid":0,"name":"$evil","export":"$evil"},[]]},"s",{}]}}
END
tr -d '\n' <"$tmp/answer" >"$tmp/line"
echo >>"$tmp/line"
socat "UNIX-LISTEN:$tmp/evil,fork" "SYSTEM:head -n 1 >/dev/null; cat $tmp/line" 2>/dev/null &
evil_pid=$!
on_exit 'kill "$evil_pid" 2>/dev/null'
wait_until 60 test -S "$tmp/evil"

# no control character, and no character that reorders a line
harmless() { # FILE
    ! grep -aqP '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xaa-\xae]|evil\x07' "$1"
}
"$ctl" top --once --control "$tmp/evil" >"$tmp/once" 2>"$tmp/err"
is $? 0 "top --once of hostile names"
check "is text and nothing else" harmless "$tmp/once"
grep -aq 'x1b\]0;evil' "$tmp/once" && ok "and shows them escaped" || not_ok "and shows them escaped" "$(cat "$tmp/once")"
live hostile --control "$tmp/evil"
wait_until 60 shows 'evil'
printf q >&7
over && ok "the live view of hostile names" || not_ok "the live view of hostile names"
last_frame >"$tmp/frame"
check "is text and nothing else, too" harmless "$tmp/frame"
given_back "hostile names"
tap_done
