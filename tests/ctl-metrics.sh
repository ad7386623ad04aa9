#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: qidmapctl metrics prints the text format of Prometheus, by its rules, with the names that
# qidmapctl(8) documents; counters grow with what a client does; without a daemon nothing is printed.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

make_tree || bail_out "cannot make the tree"
control=$tmp/control
# what a label value must escape
store=lmdb:$tmp/'store"with\odd'
serve_tree --control "$control"

# What breaks a rule of the exposition format, one line each
judge() {
    awk '
        function bad(text) { print NR ": " text ": " $0 }
        function base(name) {
            if (type[name] == "") {
                stem = name
                if (sub(/_(bucket|sum|count)$/, "", stem) && type[stem] == "histogram") return stem
            }
            return name
        }
        /^# HELP / { if ($3 in help) bad("a second HELP"); help[$3] = 1; next }
        /^# TYPE / {
            if ($3 in type) bad("a second TYPE")
            if ($3 in seen) bad("TYPE behind samples")
            if ($4 !~ /^(counter|gauge|histogram)$/) bad("no such type")
            if ($4 == "counter" && $3 !~ /_total$/) bad("a counter without _total")
            type[$3] = $4; current = $3; next
        }
        /^#/ { next }
        /^$/ { bad("an empty line"); next }
        {
            if (!match($0, /^[a-zA-Z_:][a-zA-Z0-9_:]*/)) { bad("no name"); next }
            name = substr($0, 1, RLENGTH); rest = substr($0, RLENGTH + 1)
            family = base(name)
            if (type[family] == "") bad("no TYPE")
            if (!(family in help)) bad("no HELP")
            if (family != current) bad("not with its family")
            seen[family] = 1
            labels = ""
            if (rest ~ /^\{/) {
                if (!match(rest, /^\{[a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\["\\n])*"(,[a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\["\\n])*")*\}/)) {
                    bad("labels"); next
                }
                labels = substr(rest, 1, RLENGTH); rest = substr(rest, RLENGTH + 1)
            }
            if (rest !~ /^ -?([0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|\+Inf|NaN)$/) bad("a value, or a time")
            if ((name labels) in samples) bad("twice")
            samples[name labels] = 1
            value = substr(rest, 2) + 0
            if (type[family] == "counter" && value < 0) bad("a counter below 0")
            if (name == family "_bucket") {
                series = labels; sub(/,?le="[^"]*"/, "", series)
                if (family series in last && value < last[family series]) bad("a bucket that shrinks")
                last[family series] = value
                if (labels ~ /le="\+Inf"/) infinite[family series] = value
            }
            if (name == family "_count") {
                if (infinite[family labels] != value) bad("count is not the last bucket")
            }
        }'
}

printf '# HELP a_total x\n# TYPE a_total counter\na_total 1\n' >"$tmp/good"
is "$(judge <"$tmp/good")" "" "the judge has nothing against good lines"
for bad in 'a_total 1' '# HELP a x\n# TYPE a counter\na 1' '# HELP a x\n# TYPE a gauge\na{b="c"d"} 1' \
    '# HELP a x\n# TYPE a gauge\na 1 1700000000' '# HELP a x\n# TYPE a gauge\na 1\na 1' '# HELP a x\n# TYPE a gauge\n\na 1'; do
    # shellcheck disable=SC2059 # the lines of it
    [ -n "$(printf "$bad\n" | judge)" ] && ok "the judge sees: $bad" || not_ok "the judge sees: $bad"
done

run metrics --control "$control"
exits 0 "metrics before any client"
is "$(judge <<<"$out")" "" "every rule holds, also where no request came"
before=$(sed -n 's/^qidmap_map_lookups_total //p' <<<"$out")

meet_all
"$ctl" metrics --control "$control" >"$tmp/metrics"
run metrics --control "$control"
exits 0 "metrics after one"
is "$(judge <<<"$out")" "" "every rule holds"
says '^qidmap_requests_total\{message="Tattach"\} [1-9]' "requests are counted by message"
says '^qidmap_request_duration_seconds_bucket\{message="Twalk",le="0\.000001024"\} [0-9]+$' "there are buckets"
is "$(sed -n 's/^qidmap_request_duration_seconds_count//p' <<<"$out")" \
    "$(sed -n 's/^qidmap_requests_total//p' <<<"$out")" "the histogram has every request"
says '^qidmap_store_new_mappings_total\{store="lmdb:.*store\\"with\\\\' "a store is named, and its name escaped"
says '^qidmap_store_healthy\{.*\} 1$' "the store is well"
after=$(sed -n 's/^qidmap_map_lookups_total //p' <<<"$out")
[ "$after" -gt "$before" ] && ok "lookups grow" || not_ok "lookups grow" "$before, then $after"
is "$(tail -c 1 "$tmp/metrics" | od -An -c | tr -d ' ')" '\n' "the last line is whole"

documented=$(sed -n '/^=head1 METRICS/,/^=head1 JSON/p' "$top_srcdir/man/qidmapctl.8.pod" |
    grep -oE 'qidmap_[a-z_]+' | sort -u)
is "$(sed -n 's/^# TYPE \([a-z_]*\) .*/\1/p' <<<"$out" | sort -u)" "$documented" \
    "the man page has the same names"

promtool=${PROMTOOL:-$(command -v promtool)}
if [ -n "$promtool" ]; then
    check "promtool finds nothing" sh -c '"$1" check metrics <"$2"' - "$promtool" "$tmp/metrics"
else
    skip "promtool finds nothing" "no promtool (package prometheus)"
fi

# by its store
run metrics --store "$store"
exits 0 "the daemon is found by its store"
run metrics --export none --config /nonexistent
exits 3 "a configuration that is not there"
stop_qidmapd
run metrics --control "$control"
exits 3 "no daemon"
is "$out" "" "and nothing is printed"
run metrics --store "$store"
exits 3 "no daemon has the store"
complains "no daemon has" "and that is said"
tap_done
