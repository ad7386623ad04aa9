#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: what a verb prints with --json has the members that qidmapctl(8) documents, no others, with
# the types that it says; every verb of --help is documented there.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/ctl-common.sh"

command -v jq >/dev/null || skip_all "no jq"
page=$top_srcdir/man/qidmapctl.8.pod

# "VERB MEMBER TYPES ALWAYS|MAYBE" for each member that the page has a line for; "VERB (OTHER)" where it
# refers to another verb, "VERB MEMBER (OTHER)" for an object that is the same as that one's
schema() { # PAGE
    awk '/^=head2 JSON of / { verb = $0; sub(/^=head2 JSON of /, "", verb); gsub(/ /, "_", verb); print verb; next }
        /^=/ { verb = "" }
        verb != "" && /^    [a-z(][a-z0-9_.()[\] ]*/ {
            line = $0; sub(/^ +/, "", line)
            if (match(line, /^\([a-z ]+\)/)) {
                other = substr(line, 2, RLENGTH - 2); gsub(/ /, "_", other)
                print verb, "(" other ")"; next
            }
            split(line, word, " +")
            if (match(line, / \([a-z ]+\)/)) {
                other = substr(line, RSTART + 2, RLENGTH - 3); gsub(/ /, "_", other)
                if (word[2] ~ /^\(/) { print verb, word[1], "(" other ")"; next }
            }
            if (word[2] ~ /^(u64|int|number|bool|text|name)(\|(u64|int|number|bool|text|name))*$/)
                print verb, word[1], word[2], (word[3] == "?" ? "maybe" : "always")
        }' "$1"
}

schema "$page" >"$tmp/schema"

# "MEMBER TYPES ALWAYS|MAYBE" of one verb, with those that it refers to
members_of() { # VERB
    local first second third fourth
    while read -r _ first second third fourth; do
        case $first in
        '') ;;
        \(*) members_of "$(tr -d '()' <<<"$first")" ;;
        *) case $second in
            \(*) members_of "$(tr -d '()' <<<"$second")" | sed "s/^/${first}./; s/^${first//[/\\[}/${first}/" ;;
            *) echo "$first $second $third" ;;
            esac ;;
        esac
    done < <(grep -E "^$1( |\$)" "$tmp/schema")
}

# "MEMBER TYPE VALUE" of each scalar in the JSON lines of stdin
scalars() {
    jq -r 'paths(type != "object" and type != "array") as $p | [
        ($p | map(if type == "number" then "[]" else "." + . end) | join("") | ltrimstr(".")),
        (getpath($p) | type), (getpath($p) | tostring | gsub("[\\s]"; "_"))] | join(" ")'
}

fits() { # TYPES JSON-TYPE VALUE
    local type
    for type in ${1//|/ }; do
        case $type:$2 in
        u64:string) [[ $3 =~ ^-?[0-9]+$ ]] && return 0 ;;
        int:number) [[ $3 =~ ^-?[0-9]+$ ]] && return 0 ;;
        number:number | bool:boolean | text:string | name:string) return 0 ;;
        esac
    done
    return 1
}

# What is wrong with the JSON lines of stdin, as those of VERB; nothing: all is as documented
judge() { # VERB
    local member types how kind value
    members_of "$1" | sort -u >"$tmp/documented"
    scalars | sort -u >"$tmp/seen"
    [ -s "$tmp/seen" ] || echo "no JSON at all"
    while read -r member kind value; do
        read -r _ types how < <(awk -v m="$member" '$1 == m' "$tmp/documented")
        if [ -z "${types:-}" ]; then
            echo "$member is not documented"
        elif ! fits "$types" "$kind" "$value"; then
            echo "$member is documented as $types, and is $kind $value"
        fi
        types=
    done <"$tmp/seen"
    while read -r member types how; do
        [ "$how" = maybe ] || awk -v m="$member" '$1 == m { found = 1 } END { exit !found }' "$tmp/seen" ||
            echo "$member is documented, and was not seen"
    done <"$tmp/documented"
}

as_documented() { # VERB FILE DESCRIPTION
    is "$(judge "$1" <"$2" | sort -u)" "" "$3"
}

# the judge can tell
printf '%s\n' '{"backup":"x","more":1}' >"$tmp/bad"
is "$(judge reset <"$tmp/bad")" "more is not documented" "a member that is not documented is seen"
printf '%s\n' '{"backup":7}' >"$tmp/bad"
is "$(judge reset <"$tmp/bad")" "backup is documented as name, and is number 7" "a wrong type is seen"
printf '%s\n' '{"row":"end","fs_rows":"1","affix_rows":"1","full_rows":"0","jumped":false}' >"$tmp/bad"
is "$(judge load <"$tmp/bad")" "backup is documented, and was not seen" "a missing member is seen"

verbs=$("$ctl" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\( [a-z]\{1,\}\)\{0,1\}\) .*/\1/p' | sed 's/ *$//')
is "$(grep -E '^[a-z_]+$' "$tmp/schema" | tr _ ' ' | sort)" "$(sort <<<"$verbs")" \
    "each verb has a section about its JSON"

# ---- real output
make_tree || bail_out "cannot make the tree"
control=$tmp/control
printf '[export %s]\ndir=%s\n' kept "$tree" gone "$tree" >"$tmp/conf"
serve_tree --control "$control" --config "$tmp/conf"
meet_all

json() { # VERB-WITH-_ ARG...: its JSON lines go to $tmp/out.VERB, behind those that are there
    local verb=$1
    shift
    # shellcheck disable=SC2086 # two words
    "$ctl" ${verb//_/ } --json "$@" >>"$tmp/out.$verb" 2>>"$tmp/err.$verb"
    tried+=" $verb "
}
tried=" "

json top --once --control "$control"
json metrics --control "$control"
json status --store "$store"
json hold --control "$control" --seconds 0
json drain --control "$control" "$tmp"
printf '[export %s]\ndir=%s\n' new "$tree" kept "$tree" >"$tmp/conf"
echo readonly=true >>"$tmp/conf"
json reload --control "$control"
json fs_list --store "$store"
json fs_show --store "$store" 1
json fs_identify --store "$store" "$tree"
json lookup --store "$store" "$tree/one" "$(sed -n 's/.*"qid_path":"\([0-9]*\)".*/\1/p' \
    < <("$ctl" lookup --json --store "$store" "$tree/one"))"
json survey "$tree"
stop_qidmapd
json compact --store "$store" --dry-run
json compact --store "$store" --prune-missing --prune-fs --unseen-for 90d
echo more >"$tree/more"
json manifest --store "$store" -o "$tmp/manifest" "$tree"
cp -a "$tree" "$tmp/copy"
rm "$tmp/copy/$newline" "$tmp/copy/sub/link" && echo new >"$tmp/copy/new" && echo changed >>"$tmp/copy/sub/deep/file" &&
    cp "$tmp/copy/one" "$tmp/copy/sub/link"
json adopt --store "lmdb:$tmp/adopted" "$tmp/manifest" "$tmp/copy"
json adopt --store "lmdb:$tmp/adopted" --status
cp -a "$tmp/adopted.adopt" "$tmp/kept.adopt" 2>/dev/null
json adopt --store "lmdb:$tmp/adopted" --commit --yes --skip-conflicts
json preflight --store "lmdb:$tmp/adopted" "$tree"
json preflight --store "$store" "$tree"
"$ctl" dump --json --store "$store" >"$tmp/dump"
json load "$tmp/dump" --store "lmdb:$tmp/loaded"
json copy "$store" "lmdb:$tmp/copied"
json restore --yes --store "lmdb:$tmp/loaded" "$tmp/dump"
json verify --store "$store"
json reset --yes --store "lmdb:$tmp/copied"
json fs_policy --yes --renumber --store "lmdb:$tmp/loaded" 1 deny
make_dump=$(find_program make-dump) || bail_out "no make-dump below $builddir: run make check first"
"$make_dump" 10 "lmdb:$tmp/clones" clone >/dev/null || bail_out "make-dump"
json fs_alias --yes --store "lmdb:$tmp/clones" 1 2
json fs_retire --yes --store "lmdb:$tmp/clones" 3
damage() { # one byte of an identity, in every place where it lies
    local file
    find "$tmp/clones" -type f | while read -r file; do
        perl -0pi -e 's/\x07{16}/"\x07" x 15 . "\x08"/ge' "$file"
    done
}
damage
json verify --store "lmdb:$tmp/clones"
grep -q '"row":"problem"' "$tmp/out.verify" && ok "verify had a problem to tell" ||
    not_ok "verify had a problem to tell" "$(cat "$tmp/out.verify")"

for verb in $(grep -oE '[a-z_]+' <<<"$tried" | sort -u); do
    as_documented "$verb" "$tmp/out.$verb" "${verb//_/ } --json is as documented"
done
tap_done
