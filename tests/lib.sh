# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What every shell test shares: TAP output, a private folder, cleanup, waiting
# with a deadline, free ports, and starting and ending qidmapd. Sourced, never
# run. Knows nothing of guests (tests/guest/guest.sh) or of what a test proves.
#
# A test sources this file, calls ok, is, check and skip, and ends with
# tap_done. Every test has a folder of its own, $tmp, that goes away with it.

set -u
export LC_ALL=C
umask 022

top_srcdir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builddir=${top_builddir:-${builddir:-}}
if [ -z "$builddir" ]; then
    builddir=.
    [ -e src/qidmapd ] || builddir=$top_srcdir/build
fi
[ -d "$builddir" ] && builddir=$(cd "$builddir" && pwd)
top_builddir=$builddir

# A test in a mount namespace of its own has private mounts, where qidmapd does not enter one itself.
# So they are made shared, as they are on most hosts; QIDMAP_SHARED_MOUNTS=0 leaves them.
if [ "${QIDMAP_SHARED_MOUNTS:-1}" = 1 ] &&
    [ "${QIDMAP_OWN_MOUNTS:-}${QIDMAP_TEST_NS:-}" = 1 ]; then
    mount --make-rshared /
fi

# ---- TAP -------------------------------------------------------------------

tap_count=0
tap_failed=0

tap_diag() { # TEXT...: one comment line for each line of the text
    printf '%s\n' "$*" | sed 's/^/# /'
}

ok() { # DESCRIPTION
    tap_count=$((tap_count + 1))
    printf 'ok %d - %s\n' "$tap_count" "$1"
}

not_ok() { # DESCRIPTION [DETAIL]
    tap_count=$((tap_count + 1))
    tap_failed=$((tap_failed + 1))
    printf 'not ok %d - %s\n' "$tap_count" "$1"
    [ -z "${2:-}" ] || tap_diag "$2"
}

skip() { # DESCRIPTION REASON
    tap_count=$((tap_count + 1))
    printf 'ok %d - %s # SKIP %s\n' "$tap_count" "$1" "$2"
}

skip_all() { # REASON
    printf '1..0 # SKIP %s\n' "$1"
    exit 0
}

bail_out() { # REASON: nothing further can be tried
    printf 'Bail out! %s\n' "$1"
    exit 1
}

is() { # ACTUAL EXPECTED DESCRIPTION
    if [ "$1" = "$2" ]; then
        ok "$3"
    else
        not_ok "$3" "expected: $2
got:      $1"
    fi
}

check() { # DESCRIPTION COMMAND...: the command must succeed
    local description=$1 output
    shift
    if output=$("$@" 2>&1); then
        ok "$description"
    else
        not_ok "$description" "failed: $*
$output"
    fi
}

check_fails() { # DESCRIPTION COMMAND...: the command must fail
    local description=$1 output
    shift
    if output=$("$@" 2>&1); then
        not_ok "$description" "succeeded, and should have failed: $*
$output"
    else
        ok "$description"
    fi
}

tap_done() { # the plan; the exit status tells whether anything failed
    printf '1..%d\n' "$tap_count"
    [ "$tap_failed" -eq 0 ]
    exit
}

# ---- cleanup ---------------------------------------------------------------

cleanup_hooks=()

on_exit() { # COMMAND (a string): run at the end, last one first
    cleanup_hooks+=("$1")
}

run_cleanup() {
    local status=$? i
    trap '' HUP INT TERM
    for ((i = ${#cleanup_hooks[@]} - 1; i >= 0; i--)); do
        eval "${cleanup_hooks[i]}" >&2
    done
    exit "$status"
}

trap run_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

tmp=$(mktemp -d "${TMPDIR:-/tmp}/qidmap-test.XXXXXX") || exit 1
on_exit 'rm -rf --one-file-system "$tmp"'

unmount_below() { # DIR: whatever is mounted there, the last one first
    local path
    awk -v d="$1/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r path; do umount -l "$(printf '%b' "$path")" 2>/dev/null; done
}

# ---- waiting ---------------------------------------------------------------

wait_until() { # SECONDS COMMAND...: 0 as soon as it succeeds, 1 at the deadline
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# A server closes what a client held after its answer, or when it sees that the client is gone: what
# it served may be busy for a moment.
unmount() { # PLACE...: each as soon as nobody holds it
    local place
    for place; do
        wait_until 60 umount "$place" 2>/dev/null || umount "$place" || return 1
    done
}

process_gone() { # PID of a child or not; a zombie counts as gone
    local state
    state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 0
    [ -z "$state" ] || [ "$state" = Z ]
}

port_in_use() { # PORT
    local hex
    hex=$(printf ':%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v p="$hex" \
        'substr($2, length($2) - 4) == p && $4 == "0A" { found = 1 } END { exit !found }'
}

free_port() { # prints a TCP port that nobody listens on
    local port try
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
        port=$((20000 + (RANDOM * 32768 + RANDOM + try) % 12000))
        if ! port_in_use "$port"; then
            echo "$port"
            return 0
        fi
    done
    return 1
}

# ---- programs under test ---------------------------------------------------

find_program() { # NAME: prints where the build put it
    local d
    for d in src tools tests tests/lib tests/guest bench .; do
        if [ -f "$builddir/$d/$1" ] && [ -x "$builddir/$d/$1" ]; then
            echo "$builddir/$d/$1"
            return 0
        fi
    done
    return 1
}

qidmapd_program() {
    if [ -n "${QIDMAPD:-}" ]; then echo "$QIDMAPD"; else find_program qidmapd; fi
}

qidmapctl_program() {
    if [ -n "${QIDMAPCTL:-}" ]; then echo "$QIDMAPCTL"; else find_program qidmapctl; fi
}

qidmapd_pid=
qidmapd_pids=" "
qidmapd_log=$tmp/qidmapd.log
on_exit stop_all_qidmapd

# start_qidmapd ARG...: returns once it listens, with its pid in $qidmapd_pid;
# 1 if it ended instead or said nothing in time (its words are in $qidmapd_log).
start_qidmapd() {
    local program ready=$tmp/ready word=
    program=$(qidmapd_program) || bail_out "no qidmapd below $builddir: run make first"
    rm -f "$ready"
    mkfifo "$ready"
    "$program" "$@" --ready-fd 9 9>"$ready" </dev/null >>"$qidmapd_log" 2>&1 &
    qidmapd_pid=$!
    qidmapd_pids="$qidmapd_pids$qidmapd_pid "
    read -r -t "${QIDMAP_READY_TIMEOUT:-60}" word <"$ready"
    [ "$word" = READY ] && return 0
    stop_qidmapd KILL "$qidmapd_pid"
    return 1
}

# stop_qidmapd [SIGNAL [PID]]: sends it, waits; its exit status is in $qidmapd_status.
stop_qidmapd() {
    local signal=${1:-TERM} pid=${2:-$qidmapd_pid}
    qidmapd_status=0
    [ -n "$pid" ] || return 0
    kill -"$signal" "$pid" 2>/dev/null
    if ! wait_until 60 process_gone "$pid"; then
        kill -KILL "$pid" 2>/dev/null
    fi
    wait "$pid" 2>/dev/null
    qidmapd_status=$?
    qidmapd_pids=${qidmapd_pids/ $pid / }
    [ "$pid" != "$qidmapd_pid" ] || qidmapd_pid=
}

stop_all_qidmapd() {
    local pid
    for pid in $qidmapd_pids; do
        stop_qidmapd TERM "$pid"
    done
}

# ---- what the machine allows ----------------------------------------------
# The reasons are a closed list: quickstart check knows each of them, looks for
# itself whether it holds, and counts any other skip as a failure.

have_root() { [ "$(id -u)" = 0 ]; }

have_mounts() { # may mount, in this very namespace
    local d=$tmp/.mount-probe
    have_root || return 1
    mkdir -p "$d" && mount -t tmpfs none "$d" 2>/dev/null && umount "$d"
}

have_loop() {
    local image=$tmp/.loop-probe device
    have_root || return 1
    truncate -s 1M "$image" || return 1
    device=$(losetup -f --show "$image" 2>/dev/null) || return 1
    losetup -d "$device"
}

have_fs() { # TYPE: the kernel mounts it
    grep -qw "$1" /proc/filesystems || modprobe -q "$1" 2>/dev/null
}

need_root() { have_root || skip_all "no root"; }
need_mounts() { need_root; have_mounts || skip_all "no mounts allowed"; }
need_loop() { need_mounts; have_loop || skip_all "no loop devices"; }
need_fs() { have_fs "$1" || skip_all "no $1 in this kernel"; }
need_types() { # TYPE...: filesystems on loop devices, to be made and mounted
    local type
    need_loop
    for type; do
        need_fs "$type"
        command -v "mkfs.$type" >/dev/null || skip_all "no mkfs.$type"
    done
}
