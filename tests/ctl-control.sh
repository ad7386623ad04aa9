#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: the control socket is the daemon's and root's alone, replaces that of a dead daemon and
# never a living one's, and goes with the daemon; what killed ones left in the run folder goes with the next
# that starts. qidmapctl finds it by the store. What changes ids is
# done when no client sees it, and refused else; afterwards new clients see what the verb said, and
# ids of everything else are as before. Each verb, with the daemon killed at random points, leaves the
# old state or the new one, whole.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

call=$builddir/tests/control-call
control=$tmp/control

rows() { "$ctl" dump --store "$1" --json 2>&1 | sed '1d;$d'; }
ids() { "$stat9p" "$address" tree -R 2>&1; }
ask() { "$call" "$control" "$@" 2>&1; }
answers() { # PATTERN DESCRIPTION LINE
    local reply
    reply=$(ask "$3")
    if grep -qE -e "$1" <<<"$reply"; then ok "$2"; else not_ok "$2" "$reply"; fi
}

# ---- the socket ----------------------------------------------------------------------------------

make_tree || bail_out "cannot make the tree"
serve_tree --control "$control"
is "$(stat -c '%a %F' "$control")" "600 socket" "nobody else can connect"
check_fails "a second daemon does not take the socket" env -u XDG_RUNTIME_DIR "$(qidmapd_program)" \
    --export "tree=$tree" --store memory: --listen "unix:$tmp/other" --control "$control"
answers '^\{"result":\{"sessions":\[\]\}\}$' "the first one still answers" '{"verb":"sessions"}'
stop_qidmapd KILL
check "a killed daemon leaves its socket" test -S "$control"
serve_tree --control "$control"
answers '^\{"result"' "the next one replaces it" '{"verb":"stats"}'
stop_qidmapd
check_fails "and takes it away at its end" test -e "$control"
serve_tree --control none
run fs retire --store "$store" 1 --yes
exits 3 "without a socket, verbs that write are refused"
complains "$qidmapd_pid qidmapd\), and has no control socket" "and the daemon is named"
run reload --pid "$qidmapd_pid"
exits 0 "but it can be told by SIGHUP"
check "and reads its configuration again" wait_until 60 grep -q "the configuration is not taken" "$qidmapd_log"
stop_qidmapd
# A program of that name that does not keep SIGHUP, as a daemon between exec and its first line.
cp "$(command -v bash)" "$tmp/qidmapd"
mkfifo "$tmp/pipe"
"$tmp/qidmapd" -c 'read -r _' <"$tmp/pipe" &
starting=$!
exec 7>"$tmp/pipe"
named() { [ "$(cat "/proc/$starting/comm")" = qidmapd ]; }
wait_until 60 named || bail_out "no program of that name"
run reload --pid "$starting"
exits 3 "SIGHUP is not sent to a daemon that is just starting"
complains "process $starting is just starting" "which is told"
check_fails "it lives" process_gone "$starting"
exec 7>&-
wait "$starting"
XDG_RUNTIME_DIR=$tmp/run
mkdir -m 700 "$XDG_RUNTIME_DIR"
export XDG_RUNTIME_DIR
serve_tree
run compact --store "$store"
exits 0 "the socket that a daemon chooses is found by the store"
stop_qidmapd
if have_root && id nobody >/dev/null 2>&1; then
    chmod 755 "$tmp"
    mkdir "$tmp/nobody" && chown nobody "$tmp/nobody"
    setpriv --reuid nobody --clear-groups "$(qidmapd_program)" --export "tree=$tree" \
        --store "lmdb:$tmp/nobody/store" --listen "unix:$tmp/nobody/s" \
        --control "$tmp/nobody/control" >"$tmp/nobody.log" 2>&1 &
    pid=$!
    wait_until 60 test -S "$tmp/nobody/control"
    wait_until 60 grep -q ready "$tmp/nobody.log"
    is "$(setpriv --reuid nobody --clear-groups "$call" "$tmp/nobody/control" '{"verb":"sessions"}')" \
        '{"result":{"sessions":[]}}' "a daemon of a user answers that user"
    is "$("$call" "$tmp/nobody/control" '{"verb":"sessions"}')" '{"result":{"sessions":[]}}' "and root"
    chmod 666 "$tmp/nobody/control" && chmod 777 "$tmp/nobody"
    is "$(setpriv --reuid 4711 --clear-groups "$call" "$tmp/nobody/control" '{"verb":"sessions"}' 2>&1 |
        grep -o EACCES)" EACCES "and no other, whatever the mode of the file is"
    kill "$pid"
    wait "$pid" 2>/dev/null
else
    skip "a daemon of a user" "no root"
fi

# ---- what killed daemons leave -------------------------------------------------------------------

run_dir=/run/qidmap
have_root || run_dir=$XDG_RUNTIME_DIR/qidmap
another() { # NAME ARG...
    local name=$1
    shift
    start_qidmapd --export "tree=$tree" --store memory: --listen "unix:$tmp/$name" "$@" ||
        bail_out "qidmapd did not start: $(cat "$qidmapd_log")"
}
chmod 755 "$run_dir"
another living
living=$qidmapd_pid
is "$(stat -c %a "$run_dir")" 711 "others cannot open the folder, and so not hold locks there"
another first
first=$qidmapd_pid
stop_qidmapd KILL
check "a killed daemon leaves its socket" test -S "$run_dir/control-$first"
another second --control "$tmp/elsewhere"
second=$qidmapd_pid
check_fails "the next one, whatever its number, takes it away" test -e "$run_dir/control-$first"
stop_qidmapd KILL
is "$(readlink "$run_dir/at-$second")" "$tmp/elsewhere" "or the link to it"
another third --control "$tmp/elsewhere"
check_fails "which goes, too, though another daemon answers there now" test -L "$run_dir/at-$second"
is "$(readlink "$run_dir/at-$qidmapd_pid")" "$tmp/elsewhere" "its own link is there"
is "$("$call" "$run_dir/control-$living" '{"verb":"sessions"}' 2>&1)" '{"result":{"sessions":[]}}' \
    "and the socket of a daemon that lives"
# By hand: no number of a process, or no socket.
ln -s nowhere "$run_dir/at-0$second" && : >"$run_dir/control-$first"
if unshare -pf sh -c 'echo 2 >/proc/sys/kernel/ns_last_pid' 2>/dev/null; then
    inside=$first # a number that no process has outside
    mkfifo "$tmp/inside-ready"
    unshare -pf --kill-child sh -c "echo $((inside - 1)) >/proc/sys/kernel/ns_last_pid
        '$(qidmapd_program)' --export 'tree=$tree' --store memory: --listen 'unix:$tmp/inside' \
        --control '$tmp/inside-control' --ready-fd 9 9>'$tmp/inside-ready' & wait" >"$tmp/inside.log" 2>&1 &
    outside=$!
    read -r -t 60 word <"$tmp/inside-ready" || bail_out "no daemon in a namespace: $(cat "$tmp/inside.log")"
    stop_qidmapd
    another third --control "$tmp/elsewhere"
    is "$(readlink "$run_dir/at-$inside")" "$tmp/inside-control" "a number of another namespace is not judged by ours"
    kill -KILL "$outside"
    wait "$outside" 2>/dev/null
elif have_root; then
    tap_diag "no namespace of processes, or no way to choose a number in it"
else
    skip "a number of another namespace is not judged by ours" "no root"
fi
stop_qidmapd
check "what is none of a daemon's stays" test -L "$run_dir/at-0$second" -a -f "$run_dir/control-$first"
rm "$run_dir/at-0$second" "$run_dir/control-$first"
stop_qidmapd TERM "$living"

# ---- verbs ---------------------------------------------------------------------------------------

rm -rf "$tmp/store"
serve_tree --control "$control"
meet_all
answers '"problems":"0"' "verify" '{"verb":"verify"}'
answers 'EINVAL.*no JSON' "nonsense" 'nonsense'
answers 'EINVAL.*verb' "a request without a verb" '{}'
answers 'ENOSYS.*see qidmapd' "a verb that is none" '{"verb":"dance"}'
answers 'EINVAL.*nests' "what nests too deep" "$(printf '[%.0s' {1..100})"
answers 'ENOENT.*no store lmdb:/nowhere' "a store that it does not have" \
    '{"verb":"verify","store":"lmdb:/nowhere"}'
answers 'EBADF' "a dump without a descriptor" '{"verb":"load"}'
answers 'ENOENT.*no session 99' "a session that is not there" '{"verb":"disconnect","session":"99"}'
answers '"level":"debug"' "the log says more" '{"verb":"log-level","level":"debug"}'
hold one
answers '"session":"[0-9]+".*"export":"tree"' "sessions are listed" '{"verb":"sessions"}'
session=$(ask '{"verb":"sessions"}' | member session)
answers '^\{"result":\{\}\}$' "one is traced" "{\"verb\":\"trace\",\"session\":\"$session\"}"
answers '^\{"result":\{\}\}$' "and ended" "{\"verb\":\"disconnect\",\"session\":\"$session\"}"
wait_until 60 no_sessions && ok "and gone" || not_ok "and gone" "$(ask '{"verb":"sessions"}')"
release
hold -o one
run drain --store "$store" "$tree"
exits 1 "drain where a file is open"
says "^$tree/one: open by session [0-9]+" "names it, and whose it is"
release

# Before a restart: with a session nothing changes; else who connects waits, until it is over.
answers 'EINVAL.*at most 600' "a hold for too long" '{"verb":"hold","seconds":"601"}'
hold one
run hold --control "$control"
exits 1 "hold while there is a session"
complains 'there is 1 session' "says why"
is "$(ids)" "$(cat "$tmp/ids")" "and the next client is served"
release
run hold --control "$control" --seconds 600
exits 0 "hold"
ids >"$tmp/waited" &
waiting=$!
connected() { [ "$(grep -c " $tmp/socket$" /proc/net/unix)" -ge 2 ]; } # beside the one that listens
wait_until 60 connected || not_ok "a client connects"
sleep 0.5
is "$(ask '{"verb":"sessions"}')" '{"result":{"sessions":[]}}' "a client that comes has no session"
is "$(cat "$tmp/waited")" "" "nor an answer"
run hold --control "$control" --seconds 0
exits 0 "the hold ends"
wait "$waiting"
is "$(cat "$tmp/waited")" "$(cat "$tmp/ids")" "and it is served"
wait_until 60 no_sessions || bail_out "the session does not end"

# Who has been accepted, and is no session yet, counts as one: he would be cut off.
stop_qidmapd
inject=$builddir/tests/lib/.libs/inject.so
begin=$tree/begin
[ -e "$inject" ] || bail_out "no $inject: run make check first"
rm -f "$tmp/accepted"
: >"$begin"
LD_PRELOAD=$inject QIDMAP_INJECT="begin=$begin calls=accept path=$tmp/socket nth=1 error=PAUSE log=$tree/accepted" \
    serve_tree --control "$control"
threads() { ls "/proc/$qidmapd_pid/task" | wc -l; }
asked() { process_gone "$holding" || [ "$(threads)" -gt "$before" ]; } # each client of the socket has a thread
come one
check "a client is being accepted" wait_until 60 test -s "$tree/accepted"
is "$(ask '{"verb":"sessions"}')" '{"result":{"sessions":[]}}' "and has no session yet"
before=$(threads)
"$ctl" hold --control "$control" >"$tmp/held.err" 2>&1 &
holding=$!
if [ -n "${CONTROL_KILLS:-}" ]; then # check --long: until it is given up, after a second
    wait "$holding"
    is "$?" 1 "hold is refused while it stays so"
    rm "$begin"
else
    wait_until 60 asked
    sleep 0.1
    rm "$begin"
    wait "$holding"
    is "$?" 1 "hold waits for it, and is refused"
fi
check "which says why" grep -q "there is 1 session" "$tmp/held.err"
check "the client is served" wait_until 60 grep -q 'one$' "$tmp/held.out"
release
stop_qidmapd
rm -f "$tree/accepted"
serve_tree --control "$control"

# ---- ids -----------------------------------------------------------------------------------------

hold one
before=$(rows "$store")
for request in '{"verb":"fs-retire","fs":1}' '{"verb":"reset"}' '{"verb":"reset","fs":1}' \
    '{"verb":"fs-policy","fs":1,"policy":"deny","renumber":true}'; do
    answers 'EBUSY.*1 session is attached' "$request is refused while a client is attached" "$request"
done
is "$(rows "$store")" "$before" "and nothing was changed"
is "$(ids)" "$(cat "$tmp/ids")" "nor any id"
release
run fs retire --store "$store" 1 --yes
exits 0 "fs retire while nobody is attached"
ids >"$tmp/ids2"
is "$(awk '{ print $1 }' "$tmp/ids" "$tmp/ids2" | grep '^[0-9]' | sort | uniq -c |
    awk '$1 > 2' | wc -l)" 0 "new clients see new ids"
check_fails "all of them" cmp -s "$tmp/ids" "$tmp/ids2"
run fs alias --store "$store" 1 2 --yes
exits 0 "fs alias undoes it"
is "$(ids)" "$(cat "$tmp/ids")" "and new clients see the ids of before"
run backup --store "$store" "$tmp/backup"
exits 0 "backup"
run reset --store "$store" --yes
exits 0 "reset through the daemon"
says '^what was there: .*/store\.before-reset-.*\.json' "and says where the dump is"
check "which is there" test -s "$(sed -n 's/^what was there: //p' <<<"$out")"
ids >"$tmp/ids2"
is "$({ awk '{ print $1 }' "$tmp/ids" | sort -u; awk '{ print $1 }' "$tmp/ids2" | sort -u; } |
    grep '^[0-9]' | sort | uniq -d)" "" "no file has an id that any had before"
run restore --store "$store" "$tmp/backup" --yes
exits 0 "restore through the daemon"
is "$(ids)" "$(cat "$tmp/ids")" "and the ids of before are back"
"$ctl" load - --replace --yes --store "$store" <"$tmp/backup" >/dev/null &&
    is "$(ids)" "$(cat "$tmp/ids")" "load of a pipe, too"
printf 'no dump\n' >"$tmp/nonsense"
run restore --store "$store" "$tmp/nonsense" --yes
exits 1 "what is no dump is refused"
is "$(ids)" "$(cat "$tmp/ids")" "and the daemon goes on with what it had"
stop_qidmapd
serve_tree --control "$control"
is "$(ids)" "$(cat "$tmp/ids")" "a restart changes nothing of that"
run verify --store "$store"
exits 0 "the store is clean"
stop_qidmapd

# ---- killed, and a disk that is full ---------------------------------------------------------------

# Each verb, with the daemon ended in place of a call that changes a file, or told that the disk is
# full at each from there on; CONTROL_KILLS=N: at so many of them, spread over the verb. What the
# daemon does is in its exports, as its sandbox may show it nothing else.

inject=$builddir/tests/lib/.libs/inject.so
kills=${CONTROL_KILLS:-2}
begin=$tree/begin
calls=$tree/calls
[ -e "$inject" ] || bail_out "no $inject: run make check first"

# what gives ids, and which filesystems they are of; not when these were seen
state() {
    rows "$store" | sed -E 's/,"(first_session|last_session|first_seen|last_seen|seen)":("[^"]*"|[0-9]+)//g' | cksum
}
is_whole() { # STATE: the old one, the new one, or that with what is mounted not registered yet
    [ "$1" = "$old" ] || [ "$1" = "$new" ] || [ "$1" = "$bare" ]
}
serve_anew() { # INJECTION: a store as it was kept
    rm -rf "$tmp/store" "$begin" "$tmp"/store.before-*
    cp -a "$tmp/kept" "$tmp/store"
    LD_PRELOAD=$inject QIDMAP_INJECT="begin=$begin $1" serve_tree --control "$control"
}
harmed() { # NAME VERB...
    local name=$1 i n number point status hit=0 wrong='' full='' old new bare seen
    shift
    rm -rf "$tmp/store" && cp -a "$tmp/kept" "$tmp/store"
    "$@" >"$tmp/out" 2>&1 || tap_diag "$name: $(cat "$tmp/out")"
    bare=$(state)
    rm -f "$calls"
    serve_anew "log=$calls"
    old=$(state)
    : >"$begin"
    "$@" >"$tmp/out" 2>&1 || tap_diag "$name: $(cat "$tmp/out")"
    rm "$begin"
    stop_qidmapd
    number=$(wc -l <"$calls" 2>/dev/null)
    new=$(state)
    if [ "${number:-0}" -lt 1 ]; then
        not_ok "$name changes files" "$(cat "$tmp/out")"
        return
    fi
    for ((i = 0; i < kills; i++)); do
        n=$((number < kills ? kills : number))
        point=$(((i * n + RANDOM % n) / kills % number + 1))
        serve_anew "nth=$point error=KILL"
        : >"$begin"
        "$@" >"$tmp/out" 2>&1 || hit=$((hit + 1))
        stop_qidmapd KILL 2>/dev/null
        seen=$(state)
        is_whole "$seen" || wrong="$wrong at $point: $(rows "$store" | cut -c 1-200)"
        "$ctl" verify --store "$store" >"$tmp/verify" 2>&1 || wrong="$wrong at $point: $(cat "$tmp/verify")"

        serve_anew "nth=$point count=0 error=ENOSPC"
        : >"$begin"
        "$@" >"$tmp/out" 2>&1
        status=$?
        kill -0 "$qidmapd_pid" 2>/dev/null || full="$full at $point: the daemon ended"
        rm "$begin"
        seen=$(state)
        is_whole "$seen" || full="$full at $point: $(rows "$store" | cut -c 1-200)"
        if [ "$status" = 0 ] && [ "$seen" = "$old" ] && [ "$old" != "$bare" ]; then
            full="$full at $point: nothing was done, and nothing is told"
        fi
        "$ctl" verify --store "$store" >"$tmp/verify" 2>&1 || full="$full at $point: $(cat "$tmp/verify")"
        if ! ids >"$tmp/ids2"; then # what was broken in the header of the data is mended at a start
            tail -5 "$qidmapd_log" | grep -q 'new ones after what is stored has been copied' ||
                full="$full at $point: $(cat "$tmp/ids2" "$tmp/out")"
            stop_qidmapd
            serve_tree
            ids >"$tmp/ids2" || full="$full at $point, after a restart: $(cat "$tmp/ids2")"
        fi
        stop_qidmapd
        [ "$qidmapd_status" = 0 ] || full="$full at $point: exit status $qidmapd_status"
    done
    is "$wrong" "" "$name, the daemon killed at $kills of $number calls"
    is "$full" "" "$name, the disk full from $kills of them on"
    tap_diag "$hit of them before the end of the verb"
}

cp -a "$tmp/store" "$tmp/kept"
harmed compact "$ctl" compact --store "$store"
harmed reset "$ctl" reset --store "$store" --yes
harmed "reset --fs" "$ctl" reset --store "$store" --fs 2 --yes
harmed restore "$ctl" restore --store "$store" "$tmp/backup" --yes
harmed retire "$ctl" fs retire --store "$store" 2 --yes
harmed policy "$ctl" fs policy --store "$store" 2 handle --renumber --yes
tap_done
