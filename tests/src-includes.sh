#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: who may include whom.  store/ knows nothing of the server, src/ and tools/ see nothing of
# the library but store/qidmap.h, and each outside library has its one place.  Every rule is also
# tried on a made-up line that breaks it, so that a rule that finds nothing is not simply blind.
. "$(dirname "$0")/lib.sh"

# rule NAME FOLDER PATTERN [EXCEPTION]: no line of FOLDER/*.[ch], comments left out, may match the
# extended regular expression PATTERN; files whose name matches EXCEPTION are free.
find_breaches() { # ROOT FOLDER PATTERN EXCEPTION
    local lines
    lines=$tmp/$(tr / - <<<"$1/$2").lines
    [ "$1" = "$top_srcdir" ] && [ -e "$lines" ] || without_comments "$1" "$2" >"$lines"
    grep -E "^[^ ]* .*($3)" "$lines" | FREE=$4 awk '
        BEGIN { free = ENVIRON["FREE"] }
        { name = $1; sub(/:[0-9]+:$/, "", name); sub(/.*\//, "", name) }
        free == "" || name !~ free'
}

without_comments() { # ROOT FOLDER: "FOLDER/FILE:LINE: text"; comments become blanks
    local files
    files=("$1/$2"/*.[ch])
    [ -e "${files[0]}" ] || return
    awk -v folder="$2" '
        FNR == 1 { inside = 0; name = FILENAME; sub(/.*\//, "", name) }
        {
            line = $0; out = ""
            while (length(line) > 0) {
                if (inside) {
                    at = index(line, "*/")
                    if (at == 0) { line = ""; break }
                    inside = 0; line = substr(line, at + 2)
                } else {
                    at = index(line, "/*")
                    if (at == 0) { out = out line; line = ""; break }
                    out = out substr(line, 1, at - 1) " "
                    inside = 1; line = substr(line, at + 2)
                }
            }
            print folder "/" name ":" FNR ": " out
        }' "${files[@]}"
}

rule() { # NAME FOLDER PATTERN EXCEPTION BAD-LINE
    local found
    found=$(find_breaches "$top_srcdir" "$2" "$3" "$4")
    is "$found" "" "$2: $1"
    # the self-check
    rm -rf "$tmp/self"
    mkdir -p "$tmp/self/$2"
    printf 'int before;\n/* a comment:\n%s\n*/\n' "$5" >"$tmp/self/$2/quiet.c"
    printf '/* x */ int before;\n%s\n' "$5" >"$tmp/self/$2/made-up.c"
    found=$(find_breaches "$tmp/self" "$2" "$3" "$4" | cut -d: -f1,2)
    is "$found" "$2/made-up.c:2" "$2: $1 (the rule can fail)"
}

# ---- store/
rule 'nothing of src/, tools/ or tests/' store '# *include *[<"](src|tools|tests|bench)/' '' \
    '#include "src/wire.h"'
rule 'no word of 9P' store '9[Pp](2000|_|[A-Z])|[^a-z]fid[^a-z]|[TR](walk|getattr|lopen|version)[^a-z]' '' \
    'int Twalk (int fid);'
rule 'no GObject, no gio' store '# *include *[<"](gio/|glib-object)' '' '#include <gio/gio.h>'
rule 'lmdb.h in the lmdb backend only' store '# *include *[<"]lmdb\.h' '^(backend-lmdb|lmdb-).*\.[ch]$' \
    '#include <lmdb.h>'
rule 'xattrs in their few places only' store '# *include *[<"](sys/xattr|attr/)' \
    '^(xattr-slot|virtfs|identity-overlay|marker)\.[ch]$' '#include <sys/xattr.h>'
rule 'libblkid in identity-blkid.c only' store '# *include *[<"]blkid' '^identity-blkid\.c$' \
    '#include <blkid/blkid.h>'
rule 'what the resolver has inside, in resolve-* and resolve.c only' store \
    '# *include *"store/resolve-group\.h' '^resolve(-[a-z]+)?\.[ch]$' '#include "store/resolve-group.h"'
rule 'what a registration has inside, in register-* and register.c only' store \
    '# *include *"store/register\.h' '^register(-[a-z]+)?\.[ch]$' '#include "store/register.h"'
rule 'says nothing on stderr' store 'stderr|perror *\(|g_(print|printerr|message|warning|critical|log) *\(|syslog *\(' \
    '' '    fprintf (stderr, "x");'
rule 'asks no environment' store '(^|[^a-z_])(secure_)?getenv *\(' '' '    char *x = getenv ("X");'
# ---- src/
rule 'of the library only store/qidmap.h' src '# *include *"store/([^q]|q[^i]|qid[^m]|qidmap[^.])' '' \
    '#include "store/map.h"'
rule 'store/qidmap.h in few places' src '# *include *"store/qidmap\.h' \
    '^((qid|mount)(-[a-z]+)?|control-(store|stats|prune))\.[ch]$' '#include "store/qidmap.h"'
rule 'what the map of qids has inside, in qid-* and qid.c only' src '# *include *"src/qid-export\.h' \
    '^qid(-[a-z]+)?\.[ch]$' '#include "src/qid-export.h"'
rule 'no lmdb, no blkid' src '# *include *[<"](lmdb|blkid)' '' '#include <lmdb.h>'
rule 'json-glib behind the control socket only' src '# *include *[<"]json-glib' '^control\.h$' \
    '#include <json-glib/json-glib.h>'
rule 'xxhash in qid-generation.c only' src '# *include *[<"]xxhash' '^qid-generation\.c$' \
    '#include <xxhash.h>'
rule 'nothing of tools/ or tests/' src '# *include *[<"](tools|tests|bench)/' '' \
    '#include "tools/cmd.h"'
rule 'no GObject' src '# *include *[<"]glib-object' '' '#include <glib-object.h>'

# ---- tools/
rule 'of the library only store/qidmap.h' tools '# *include *"store/([^q]|q[^i]|qid[^m]|qidmap[^.])' '' \
    '#include "store/codec.h"'
rule 'nothing of src/ or tests/' tools '# *include *[<"](src|tests|bench)/' '' '#include "src/wire.h"'
rule 'no blkid; lmdb in stage.c only, for a sorted file of the tool itself, which is no store' tools \
    '# *include *[<"](lmdb|blkid)' '^stage\.c$' '#include <lmdb.h>'

# ---- tests/lib: an independent client; what tests of the store share is named
rule 'nothing of the server or the library' tests/lib '# *include *"(src|store|tools)/' \
    '^(inofs\.c|identify\.c|(store-fixture|fake-xattr|xattr-fixture|marked|raw-rows|verify-ways|world)\.h)$' \
    '#include "src/wire.h"'

# ---- everywhere: from the top, config.h first, licence first
for folder in store src tools tests tests/lib bench; do
    bad=
    for file in "$top_srcdir/$folder"/*.c "$top_srcdir/$folder"/*.h; do
        [ -f "$file" ] || continue
        head -1 "$file" | grep -q 'SPDX-License-Identifier: LGPL-2.1-or-later' ||
            bad="$bad ${file#"$top_srcdir"/}: no licence in the first line;"
        grep -nE '^# *include *"' "$file" | grep -vE '"(config\.h|(store|src|tools|tests|bench)/[^"]*)"' |
            grep -q . && bad="$bad ${file#"$top_srcdir"/}: an include that is not from the top;"
    done
    is "$bad" "" "$folder: licence lines, includes from the top"
done
tap_done
