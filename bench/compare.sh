#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Compares qidmapd with Debian's diod: the same directory, the same client (9pload), over TCP on the
# loopback (diod has no unix socket of its own) and for qidmapd over a unix socket as well.  The
# servers are asked in turn, round by round, so that a busy moment of the machine hits all of them;
# the medians of the rounds are shown, and the ratio to diod.  A run that gives wrong ids fails.
#
#   compare.sh [--rounds N] [--seconds S] [--json FILE] [--store URI] [--dir DIR]
set -u
export LC_ALL=C

builddir=${top_builddir:-.}
rounds=5
seconds=1
json=
store=
base=${TMPDIR:-/var/tmp}
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --json) json=$2 ;;
    --store) store=$2 ;;
    --dir) base=$2 ;;
    *)
        echo "usage: compare.sh [--rounds N] [--seconds S] [--json FILE] [--store URI] [--dir DIR]" >&2
        exit 2
        ;;
    esac
    shift 2 || exit 2
done

load=${LOAD:-$builddir/bench/9pload}
qidmapd=${QIDMAPD:-$builddir/src/qidmapd}
diod=$(PATH=$PATH:/usr/sbin:/sbin command -v diod)
[ -x "$load" ] || { echo "compare.sh: $load is not built" >&2; exit 1; }
[ -x "$qidmapd" ] || { echo "compare.sh: $qidmapd is not built" >&2; exit 1; }

tmp=$(mktemp -d "$base/qidmap-compare.XXXXXX") || exit 1
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        grep -qi "$(printf ':%04X ' "$port")" /proc/net/tcp || break
    done
    echo "$port"
}

# what is served: one directory of 2,000 files, and a file four levels down
data=$tmp/data
mkdir -p "$data/a/b/c" "$data/many" || exit 1
echo text >"$data/a/b/c/file"
(cd "$data/many" && seq -f 'a-file-%05g' 2000 | xargs touch)
chmod 755 "$tmp" "$data"

mkfifo "$tmp/ready"
port=$(free_port)
"$qidmapd" --export "data=$data" --store "${store:-lmdb:$tmp/store}" --listen "unix:$tmp/sock" \
    --listen "tcp:127.0.0.1:$port" --ready-fd 9 9>"$tmp/ready" 2>"$tmp/qidmapd.log" &
qidmapd_pid=$!
pids+=("$qidmapd_pid")
read -r -t 60 word <"$tmp/ready"
if [ "$word" != READY ]; then
    echo "compare.sh: qidmapd did not start" >&2
    cat "$tmp/qidmapd.log" >&2
    exit 1
fi
declare -A address=([qidmapd]=tcp:127.0.0.1:$port [qidmapd-unix]=unix:$tmp/sock)
declare -A aname=([qidmapd]=data [qidmapd-unix]=data)
declare -A pid=([qidmapd]=$qidmapd_pid [qidmapd-unix]=$qidmapd_pid)
servers=(qidmapd qidmapd-unix)

if [ -n "$diod" ]; then
    port=$(free_port)
    "$diod" -f -n -N -c /dev/null -l "127.0.0.1:$port" -e "$data" 2>"$tmp/diod.log" &
    pids+=("$!")
    pid[diod]=$!
    address[diod]=tcp:127.0.0.1:$port
    aname[diod]=$data
    for ((i = 0; i < 300; i++)); do
        "$load" --seconds 0.001 --file a --dir a "${address[diod]}" "${aname[diod]}" \
            >/dev/null 2>&1 && break
        sleep 0.02
    done
    servers=(diod qidmapd qidmapd-unix)
else
    echo "diod is not installed: there is nothing to compare with" >&2
fi

# op depth connections
cases=("getattr 1 1" "getattr 16 1" "getattr 1 8" "getattr 16 8" "walk 1 1" "walk 16 1" "walk 4 8"
    "readdir 1 1" "readdir 1 4")
results=$tmp/results
status=0
for ((round = 1; round <= rounds; round++)); do
    for one in "${cases[@]}"; do
        read -r op depth connections <<<"$one"
        for server in "${servers[@]}"; do
            if ! line=$("$load" --json --op "$op" --depth "$depth" --connections "$connections" \
                --seconds "$seconds" --file a/b/c/file --dir many --pid "${pid[$server]}" \
                "${address[$server]}" "${aname[$server]}"); then
                echo "compare.sh: $server: $op failed" >&2
                status=1
                continue
            fi
            printf '%s %s %s\n' "$server" "$round" "$line" >>"$results"
            [ -z "$json" ] || printf '{"server":"%s","round":%d,"result":%s}\n' "$server" "$round" \
                "$line" >>"$json"
        done
        [ -t 2 ] && printf '\rround %d of %d: %-20s' "$round" "$rounds" "$one" >&2
    done
done
[ -t 2 ] && printf '\r%-50s\r' '' >&2

# medians, one line for each case and server
awk -v servers="${servers[*]}" '
    function field(key_name,    text) {
        text = $0
        if (!sub(".*\"" key_name "\":\"?", "", text)) return ""
        sub("[\",}].*", "", text)
        return text
    }
    function median(list,    n, v, i, j, t) {
        n = split(list, v, " ")
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && v[j - 1] + 0 > v[j] + 0; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
        return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    {
        key = field("op") " depth " field("depth") " conn " field("connections")
        if (!(key in seen)) { seen[key] = 1; order[++count] = key }
        rate[key, $1] = rate[key, $1] " " field("per_second")
        p50[key, $1] = p50[key, $1] " " field("p50_us")
        p99[key, $1] = p99[key, $1] " " field("p99_us")
        cpu[key, $1] = cpu[key, $1] " " field("cpu_us")
    }
    END {
        printf "%-26s %-13s %12s %10s %10s %10s %8s\n", "case", "server", "per second", "p50 us",
            "p99 us", "CPU us", "to diod"
        total = split(servers, server, " ")
        for (k = 1; k <= count; k++) {
            base = median(rate[order[k], "diod"])
            for (s = 1; s <= total; s++) {
                r = median(rate[order[k], server[s]])
                printf "%-26s %-13s %12.0f %10.1f %10.1f %10.3f %8s\n", order[k], server[s], r,
                    median(p50[order[k], server[s]]), median(p99[order[k], server[s]]),
                    median(cpu[order[k], server[s]]), (base > 0 ? sprintf("%.2fx", r / base) : "-")
            }
        }
        print "per second: operations, of readdir entries; CPU: of the server, for each"
    }' "$results"
exit $status
