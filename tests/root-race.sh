#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: no race of renames and symbolic links, made by clients or by the host, lets a client read,
# list, see or change anything outside of the export. The same attack on a server that opens by path
# succeeds, which shows that it is one.
#
# Short: 20 seconds. --long, or LONG=1: five minutes; SECONDS_OF_RACE=N: as long as that.

. "$(dirname "$0")/own-mounts.sh"
. "$(dirname "$0")/lib.sh"
need_root
mount --make-rshared / 2>/dev/null
race=$top_builddir/tests/race
seconds=20
[ "${1:-}" != --long ] && [ -z "${LONG:-}" ] || seconds=300
seconds=${SECONDS_OF_RACE:-$seconds}
x=$tmp/export
out=$tmp/outside

make_trees() {
    rm -rf "$x" "$out"
    mkdir -p "$x/swap" "$x/carried/a/b/c" "$x/across/d" "$out/dir" "$out/across-out" "$out/only-outside"
    echo inside >"$x/swap/file"
    echo inside >"$x/swapfile"
    echo inside >"$x/carried/a/b/file"
    ln -s "$out" "$x/swap-link"
    ln -s "$out/file" "$x/swapfile-link"
    ln -s ../outside "$x/link"
    echo SECRET-OUTSIDE >"$out/file"
    # Marked by its group, but for what comes into the export itself.
    chgrp 54321 "$out" "$out/file" "$out/dir" "$out/only-outside" "$tmp"
    state >"$tmp/before"
}
# What must not change out there; `carried` and `across-out` come and go.
state() {
    find "$out" -mindepth 1 \( -name carried -o -name across-out \) -prune -o -printf '%P %y %m %U %G %s %T@ %n\n' |
        sed 's/^dir \(.*\) [0-9.]* [0-9]*$/dir \1/' | sort
}
value() { sed -n "s/.*\b$2=\([0-9]*\).*/\1/p" "$1"; }
leaks() { echo $(($(value "$1" contents) + $(value "$1" attributes) + $(value "$1" listings))); }

# ---- controls
# They are races, too: on a busy machine it may take more than one try to win.
leads_out() { # NAME COMMAND...
    local name=$1 try
    shift
    for try in {1..10}; do
        make_trees
        timeout 60 "$@" 3 >"$tmp/$name"
        tap_diag "$name, 3 s: $(cat "$tmp/$name")"
        [ ! -s "$tmp/$name" ] || [ "$(leaks "$tmp/$name")" = 0 ] || return 0
    done
    return 1
}
leads_out "opening by path" "$race" naive - "$x" "$out"
is $? 0 "control: a look and then an open by path leads out"
if command -v diod >/dev/null; then
    make_trees
    # an address of this process alone: a free port of another may be taken before diod has it
    host=127.$((1 + $$ / 65536 % 254)).$(($$ / 256 % 256)).$(($$ % 256)) port=5640
    diod -f -n -N -c /dev/null -l "$host:$port" -e "$x" >"$tmp/diod.log" 2>&1 &
    diod=$!
    on_exit "kill $diod 2>/dev/null"
    listens() { (: <>"/dev/tcp/$host/$port") 2>/dev/null; }
    wait_until 60 listens
    if leads_out diod "$race" "tcp:$host:$port" "$x" "$x" "$out"; then
        ok "control: from diod the same clients get what is outside"
    else
        not_ok "control: from diod the same clients get what is outside" "$(tail -3 "$tmp/diod.log")"
    fi
    kill "$diod" 2>/dev/null
    wait "$diod" 2>/dev/null
else
    skip "control: from diod the same clients get what is outside" "no diod"
fi

# ---- qidmapd, with a namespace of its own and without
served() { # enough, while enough was moved
    [ "$(value "$tmp/ours" answered)" -gt 100 ] && [ "$(value "$tmp/ours" moved)" -gt 100 ]
}
attack() { # SECONDS ARG...
    local length=$1 try
    shift
    make_trees
    start_qidmapd --export "x=$x" --store memory: --listen "unix:$tmp/s" "$@" ||
        bail_out "qidmapd does not start: $(tail -3 "$qidmapd_log")"
    for try in {1..5}; do # a busy machine may need more time
        "$race" "unix:$tmp/s" x "$x" "$out" "$length" >"$tmp/ours" || bail_out "the attack fails"
        tap_diag "qidmapd $*, $length s: $(cat "$tmp/ours")"
        [ "$(leaks "$tmp/ours")" = 0 ] && ! served || break
    done
    served
    is $? 0 "$*: clients were served, and the host moved things meanwhile"
    is "$(value "$tmp/ours" contents)" 0 "$*: nothing outside was read"
    is "$(value "$tmp/ours" attributes)" 0 "$*: no attributes of anything outside were seen"
    is "$(value "$tmp/ours" listings)" 0 "$*: no directory outside was listed"
    is "$(state | diff "$tmp/before" -)" "" "$*: nothing outside was changed"
    stop_qidmapd
    is "$qidmapd_status" 0 "$*: the daemon lives, and ends in order"
}
attack $((seconds / 2)) --isolate no
attack $((seconds / 2)) --isolate auto
tap_done
