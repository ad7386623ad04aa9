#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a migration of many files costs, with every step of it run for real:
#
#   tenmillion.sh [--files N] [--dir DIR] [--fs ext4|xfs] [--out FILE] [--keep]
#
# Makes two filesystems in sparse images below DIR (default: a folder in /var/tmp), with the same N
# names (default 10,000,000) and other inode numbers, serves the first, writes its manifest, adopts
# the second, killed in the middle and begun again, and then verifies, dumps, loads, compacts,
# prunes and surveys it. A sample of files is looked at through the server before and afterwards,
# and must have the same ids. Each step prints its time and CPU time, the most memory of its own and
# with what it mapped of files, and the room that it took in a filesystem where the store and all
# temporary files are. With --out the table is written to FILE, too. With --keep the trees stay in
# DIR, and the next run uses them, but for one that was cut off, or from which files were deleted.
#
# Root; from the build folder, or with top_builddir set. Needs 1.2 KB of disk for each file.
# Exit status: 1 where a step ended in another way than it should.

set -u
export LC_ALL=C
builddir=$(cd "${top_builddir:-.}" && pwd)
files=10000000 dir="" fs=ext4 out="" keep=""
while [ $# -gt 0 ]; do
    case $1 in
    --files | --dir | --fs | --out)
        [ $# -gt 1 ] || { echo "tenmillion.sh: $1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift
        ;;
    --keep) keep=1 ;;
    *)
        echo "usage: tenmillion.sh [--files N] [--dir DIR] [--fs ext4|xfs] [--out FILE] [--keep]" >&2
        exit 2
        ;;
    esac
    shift
done
case $files in '' | *[!0-9]* | ???????????*) files=0 ;; esac
[ "$files" -ge 100000 ] || { echo "tenmillion.sh: --files: at least 100000" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "tenmillion.sh: only root can mount" >&2; exit 2; }
if [ "${TENMILLION_MOUNTS:-}" != 1 ]; then
    args=(--files "$files" --fs "$fs")
    [ -z "$dir" ] || args+=(--dir "$dir")
    [ -z "$out" ] || args+=(--out "$out")
    [ -z "$keep" ] || args+=(--keep)
    TENMILLION_MOUNTS=1 top_builddir=$builddir exec unshare -m --propagation private bash "$0" "${args[@]}"
fi
ctl=$builddir/tools/qidmapctl server=$builddir/src/qidmapd
make_tree=$builddir/bench/make-tree stat9p=$builddir/tests/9pstat bind_tree=$builddir/tests/bind-tree
for program in "$ctl" "$server" "$make_tree" "$stat9p" "$bind_tree"; do
    [ -x "$program" ] || {
        echo "tenmillion.sh: no $program: run make and make check TESTS= first" >&2
        exit 1
    }
done
command -v time >/dev/null || { echo "tenmillion.sh: no time(1): apt-get install time" >&2; exit 1; }

made=
[ -n "$dir" ] || { dir=$(mktemp -d /var/tmp/qidmap-tenmillion.XXXXXX) && made=1; } || exit 1
mkdir -p "$dir" && cd "$dir" || exit 1
daemon="" watcher=""
clean_up() {
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null
    cd /
    for m in old new work; do umount "$dir/$m" 2>/dev/null; done
    rm -f "$dir/work.image"
    [ -n "$keep" ] || rm -f "$dir/old.image" "$dir/new.image"
    rmdir "$dir/old" "$dir/new" "$dir/work" 2>/dev/null
    [ -z "$made" ] || rmdir "$dir" 2>/dev/null
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
    echo "tenmillion.sh: $*" >&2
    exit 1
}

# ---- filesystems ---------------------------------------------------------------------------------

attach() { # NAME INODES
    mkdir -p "$1"
    if [ ! -e "$1.image" ]; then
        truncate -s "$(($2 * 1600 + (1 << 30)))" "$1.image"
        case $fs in
        ext4) mkfs.ext4 -q -F -N "$2" -O ^has_journal -E lazy_itable_init=1 "$1.image" ;;
        xfs) mkfs.xfs -q "$1.image" ;;
        *) fail "no filesystem $fs" ;;
        esac || fail "no $fs"
    fi
    case $fs in
    ext4) mount -o loop,noatime,noinit_itable "$1.image" "$1" ;;
    xfs) mount -o loop,noatime "$1.image" "$1" ;;
    esac || fail "$1 cannot be mounted"
}

room() { # MiB in use, deleted files that are still open as well
    df --output=used -B 1M work | tail -n 1 | tr -d ' '
}
# Looks, as long as it runs, at the room that is in use and at the memory that the child of PID has of
# its own (what it maps of files aside), and notes the most of both. Kills it after so many seconds.
watch() { # PID [SECONDS]
    local most=0 own=0 now child="" begun=$EPOCHREALTIME
    while :; do
        now=$(room)
        [ "$now" -le "$most" ] || most=$now
        [ -n "$child" ] || child=$(pgrep -P "$1")
        now=$(awk '/^RssAnon/ { print $2 }' "/proc/$child/status" 2>/dev/null)
        [ "${now:-0}" -le "$own" ] || own=$now
        echo "$most $own" >work/watched
        if [ -n "${2:-}" ] &&
            awk -v a="$begun" -v b="$EPOCHREALTIME" -v s="$2" 'BEGIN { exit b - a < s }'; then
            kill -KILL "$child"
            set -- "$1"
        fi
        sleep 0.2
    done
}

# ---- steps ---------------------------------------------------------------------------------------

line() {
    printf '%s\n' "$*"
    [ -z "$out" ] || printf '%s\n' "$*" >>"$out"
}
# What it prints goes to work/out; it has to end with one of the statuses. With "kill" it is killed
# halfway, by the time that the step before took, unless it ends first.
step() { # [kill] STATUSES NAME COMMAND...
    local after=
    [ "$1" != kill ] || { after=$(awk -v s="$seconds" 'BEGIN { print s / 2 }') && shift; }
    local want=$1 name=$2 timed got before stays most own memory user system
    shift 2
    before=$(room)
    TMPDIR=$dir/work command time -o work/time -f '%e %M %U %S' "$@" >work/out 2>work/err &
    timed=$!
    watch "$timed" "$after" &
    watcher=$!
    wait $timed
    got=$?
    kill "$watcher"
    wait "$watcher" 2>/dev/null
    watcher=
    stays=$(room)
    read -r most own <work/watched
    read -r seconds memory user system < <(tail -n 1 work/time)
    line "$(awk -v n="$name" -v s="$seconds" -v c="$user" -v k="$system" -v f="$files" -v o="$own" \
        -v m="$memory" -v b="$before" -v a="$stays" -v p="$most" 'BEGIN {
            printf "| %s | %.1f s | %.1f s | %.1f us | %.1f MiB | %.1f MiB | %d MiB | %+d MiB |", n, s,
                c + k, (c + k) / f * 1e6, o / 1024, m / 1024, (p > a ? p : a) - b, a - b }')"
    case " $want " in
    *" $got "*) ;;
    *)
        tail -n 20 work/out work/err >&2
        fail "$name: status $got, not $want"
        ;;
    esac
}

ids() { # STORE IMAGE: of the sample, through the server
    rm -f work/s
    mkfifo work/ready
    "$server" --export "tree=$dir/$2/tree" --store "lmdb:$dir/work/$1" --listen "unix:$dir/work/s" \
        --control none --ready-fd 9 9>work/ready >work/server.log 2>&1 </dev/null &
    daemon=$!
    read -r -t 300 _ <work/ready || fail "no server: $(tail work/server.log)"
    rm -f work/ready
    xargs -0 "$stat9p" "unix:$dir/work/s" tree <work/sample >work/ids
    status=$?
    kill "$daemon" && wait "$daemon"
    daemon=
    [ "$status" = 0 ] || fail "the sample cannot be seen: $(tail work/server.log)"
    cut -d ' ' -f 1,3- work/ids
}

truncate -s "$((files * 900 + (1 << 30)))" work.image
mkdir -p work && mkfs.ext4 -q -F -E lazy_itable_init=1 work.image && mount -o loop work.image work || fail "no work"
for m in old new; do
    attach "$m" "$((files + files / 12))"
    if [ ! -e "$m/whole" ]; then
        rm -rf "$m/tree" && mkdir "$m/tree" || fail "$m: no folder"
        echo "making $m" >&2
        SECONDS=0
        "$make_tree" "$m/tree" "$files" $([ "$m" = old ] || echo --other) || fail "$m cannot be filled"
        touch "$m/whole"
        echo "$m: $SECONDS s" >&2
    fi
done

store=lmdb:$dir/work/store
line "| step, $files names on $fs | time | CPU | of it, a name | own memory | with mapped files | most room | room that stays |"
line "| --- | --- | --- | --- | --- | --- | --- | --- |"
step 0 "find, for comparison" find old/tree -printf '%P\0'
shuf -z -n 300 work/out >work/sample
rm -f work/out
ids store old >work/before
step 0 "manifest" "$ctl" manifest --store "$store" -o work/manifest old/tree
step kill "0 137" "adopt, killed in the middle" "$ctl" adopt --store "$store" work/manifest new/tree
step "0 1" "adopt --status of that" "$ctl" adopt --store "$store" --status
step 0 "adopt, again" "$ctl" adopt --store "$store" work/manifest new/tree
step kill "0 137" "adopt --commit, killed in the middle" "$ctl" adopt --store "$store" --commit --yes
step 0 "verify of that" "$ctl" verify --store "$store"
if [ -e work/store.adopt ]; then
    step 0 "adopt --commit, again" "$ctl" adopt --store "$store" --commit --yes
else
    echo "tenmillion.sh: it was ready before it was killed" >&2
fi
ids store new >work/after
cmp work/before work/after || fail "a file has another id"
rm -f work/manifest
step 0 "verify, a row for each file" "$ctl" verify --store "$store"
step 0 "preflight" "$ctl" preflight --store "$store" new/tree
step 0 "manifest, a row for each file" "$ctl" manifest --store "$store" -o work/manifest new/tree
rm -f work/manifest
step 0 "compact" "$ctl" compact --store "$store"
step 0 "dump" "$ctl" dump --store "$store" --json
mv work/out work/dump
step 0 "load" "$ctl" load --store "lmdb:$dir/work/loaded" --latest work/dump
step 0 "verify of what was loaded" "$ctl" verify --store "lmdb:$dir/work/loaded"
rm -rf work/loaded work/dump work/store
step "0 1" "survey" "$ctl" survey old/tree

# Bound rows are never deleted; so a store with rows of its own. Rows of a third of the files go.
ids own old >/dev/null
"$bind_tree" "lmdb:$dir/work/own" 1 old >/dev/null || fail "no rows for files"
ids own old >work/before
rm -rf old/tree/d0? old/whole
step 0 "compact --prune-missing" "$ctl" compact --store "lmdb:$dir/work/own" --prune-missing
cat work/out >&2
step 0 "verify of what is left" "$ctl" verify --store "lmdb:$dir/work/own"
while IFS= read -r -d '' path; do
    [ ! -e "old/tree/$path" ] || printf '%s\0' "$path"
done <work/sample >work/left && mv work/left work/sample
ids own old >work/after
awk 'NR == FNR { had[$0] = 1; next } !($0 in had) { bad = 1; print } END { exit bad }' \
    work/before work/after || fail "a file that is left has another id"
exit 0
