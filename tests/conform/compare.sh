#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# compare.sh [CONFORM_OPTION...]: runs the conformance suite against qidmapd and against the peers
# that are installed, and prints a table of who passes what, as Markdown. No test: it always ends
# with 0. Options are those of conform, as --torture or --only PATTERN.
# shellcheck source=tests/lib.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/lib.sh"

conform=$builddir/tests/conform/conform
[ -x "$conform" ] || bail_out "no $conform: run make first"
extra=("$@")
mkdir "$tmp/ours" "$tmp/diod"
servers=(qidmapd)
versions=("$("$(qidmapd_program)" --version | head -1)")

run() { # NAME ADDRESS OPTION...: its results go to $tmp/NAME.json
    local name=$1 address=$2
    shift 2
    "$conform" "$address" "$@" --writable --json "${extra[@]}" >"$tmp/$name.json" 2>"$tmp/$name.err"
}

start_qidmapd --export "data=$tmp/ours" --store memory: --listen "unix:$tmp/sock" \
    --subdirs yes ||
    bail_out "qidmapd did not start: $(cat "$qidmapd_log")"
run qidmapd "unix:$tmp/sock" --aname data --dir "$tmp/ours" --pid "$qidmapd_pid"
stop_qidmapd TERM

# A peer that dies, or hangs, is started again; the case that did it has failed.
diod=$(PATH=$PATH:/usr/sbin command -v diod)
if [ -n "$diod" ]; then
    port=$(free_port)
    # the port of one that was killed may be in use for a moment more
    cat >"$tmp/revive" <<END
[ ! -e "$tmp/diod.pid" ] || kill -KILL "\$(cat "$tmp/diod.pid")" 2>/dev/null
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    "$diod" -f -n -c /dev/null -l 127.0.0.1:$port -e "$tmp/diod" >>"$tmp/diod.log" 2>&1 &
    echo \$! >"$tmp/diod.pid"
    sleep 0.3
    [ ! -e "/proc/\$!/fd/0" ] || exit 0
done
exit 1
END
    on_exit 'kill -KILL "$(cat "$tmp/diod.pid")" 2>/dev/null'
    listens() { port_in_use "$port"; }
    sh "$tmp/revive" && wait_until 30 listens || bail_out "diod did not start: $(cat "$tmp/diod.log")"
    servers+=(diod)
    versions+=("diod $(dpkg-query -W -f '${Version}' diod 2>/dev/null)")
    # its process changes where it dies: no --pid
    run diod "tcp:127.0.0.1:$port" --aname "$tmp/diod" --dir "$tmp/diod" --timeout 5 \
        --revive "sh $tmp/revive"
fi

echo "Run on $(date -u +%F) as uid $(id -u), on $(stat -f -c %T "$tmp"), Linux $(uname -r | cut -d. -f1,2):" \
    "$(IFS=,; echo "${versions[*]}" | sed 's/,/, /g')."
echo
{
    for name in "${servers[@]}"; do
        sed -n 's/^{"case":"\([^"]*\)","result":"\([^"]*\)".*/'"$name"' \1 \2/p' "$tmp/$name.json"
    done
} | awk -v names="${servers[*]}" '
    BEGIN { n = split(names, name, " ") }
    { if (!($2 in seen)) { seen[$2] = 1; order[++count] = $2 }
      result[$1, $2] = $3; total[$1, $3]++ }
    END {
        printf "| case |"; for (i = 1; i <= n; i++) printf " %s |", name[i]
        printf "\n| --- |"; for (i = 1; i <= n; i++) printf " --- |"
        printf "\n| **passed** |"; for (i = 1; i <= n; i++) printf " **%d** |", total[name[i], "pass"]
        printf "\n| **failed** |"; for (i = 1; i <= n; i++) printf " **%d** |", total[name[i], "fail"]
        printf "\n| skipped |"; for (i = 1; i <= n; i++) printf " %d |", total[name[i], "skip"]
        printf "\n"
        for (k = 1; k <= count; k++) {
            printf "| %s |", order[k]
            for (i = 1; i <= n; i++) {
                r = result[name[i], order[k]]
                printf " %s |", r == "fail" ? "**fails**" : r == "pass" ? "passes" : r == "" ? "-" : r
            }
            printf "\n"
        }
    }'
for name in "${servers[@]}"; do
    [ -z "${CONFORM_KEEP:-}" ] || cp "$tmp/$name.json" "$CONFORM_KEEP/"
    [ ! -s "$tmp/$name.err" ] || sed "s/^/# $name: /" "$tmp/$name.err" >&2
done
exit 0
