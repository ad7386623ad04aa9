# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the tests of qidmapctl share: a daemon with a small export of odd names, whose files have all
# been met by a client. Sourced by ctl-*.sh after tests/lib.sh; runs nothing by itself.

ctl=$(qidmapctl_program) || bail_out "no qidmapctl below $builddir: run make first"
stat9p=$(find_program 9pstat) || bail_out "no 9pstat below $builddir: run make check first"
store=lmdb:$tmp/store
tree=$tmp/tree
newline=$'new\nline'
bytes=$'bytes-\xff\xfe'

make_tree() {
    mkdir -p "$tree/sub/deep" &&
        echo one >"$tree/one" &&
        ln "$tree/one" "$tree/sub/link" &&
        echo odd >"$tree/$newline" &&
        echo odd >"$tree/$bytes" &&
        echo odd >"$tree/back\\slash" &&
        ln -s one "$tree/symlink" &&
        echo deep >"$tree/sub/deep/file"
}

serve_tree() { # [ARG...]: a daemon on $address that serves $tree as "tree"
    address=unix:$tmp/socket
    start_qidmapd --export "tree=$tree" --store "$store" --listen "$address" "$@" ||
        bail_out "qidmapd did not start: $(cat "$qidmapd_log")"
}

meet_all() { # a client sees every file: all have ids now
    "$stat9p" "$address" tree -R >"$tmp/ids" || bail_out "9pstat: $(cat "$tmp/ids")"
}

# run ARG...: qidmapctl; its output, errors and exit status are in $out, $err and $status
run() {
    out=$("$ctl" "$@" 2>"$tmp/err")
    status=$?
    err=$(cat "$tmp/err")
}

exits() { # STATUS DESCRIPTION: of the last run; one line on stderr, and only after trouble
    local lines
    lines=$(printf '%s' "$err" | grep -c '')
    if [ "$status" != "$1" ]; then
        not_ok "$2" "exit status $status, not $1; stderr: $err"
    elif { [ "$1" = 0 ] && [ "$lines" != 0 ]; } || { [ "$1" != 0 ] && [ "$lines" = 0 ]; }; then
        not_ok "$2" "exit status $1, and on stderr: $err"
    else
        ok "$2"
    fi
}

says() { # PATTERN DESCRIPTION: stdout of the last run
    if printf '%s\n' "$out" | grep -qE -e "$1"; then
        ok "$2"
    else
        not_ok "$2" "no line like: $1
$out"
    fi
}

complains() { # PATTERN DESCRIPTION: stderr of the last run
    if printf '%s\n' "$err" | grep -qE -e "$1"; then
        ok "$2"
    else
        not_ok "$2" "no line like: $1
$err"
    fi
}

member() { # NAME: of the JSON line on stdin, a string or a number
    sed -nE "s/.*\"$1\":\"?([^,\"}]*).*/\1/p"
}

# come PATH...: a client that attaches, gets a fid for each PATH, and stays until release; -o: the last one is
# open. hold: the same, and waits until it has them.
come() {
    rm -f "$tmp/held" "$tmp/held.out"
    mkfifo "$tmp/held"
    "$stat9p" "$address" tree -w "$@" <"$tmp/held" >"$tmp/held.out" 2>&1 &
    held_pid=$!
    exec 8>"$tmp/held"
}

hold() {
    come "$@"
    wait_until 60 test -s "$tmp/held.out" || bail_out "no client stays attached"
}

release() { # and waits until the daemon of control socket $control, if any, knows
    exec 8>&-
    wait "$held_pid"
    [ -z "${control:-}" ] || wait_until 60 no_sessions || bail_out "the session does not end"
}

no_sessions() {
    "$builddir/tests/control-call" "$control" '{"verb":"sessions"}' | grep -q '"sessions":\[\]'
}
