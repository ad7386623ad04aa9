#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes demo.txt and demo.svg, the picture of README.md, from what programs really print:
#
#   sudo top_builddir=BUILD docs/demo.sh [--draw]
#
# boots a guest twice, with the same tree by QEMU's own server and by qidmapd; in between, the host
# mounts its filesystems anew, and the guest meets them in another order. --draw draws the text that is
# there. Wants what the guest tests want, and awk.

here=$(cd "$(dirname "$0")" && pwd)
draw() { # TEXT: an SVG of it on stdout
    awk '
    function esc(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); return s }
    { line[NR] = $0; if (length($0) > width) width = length($0) }
    END {
        w = width * 8.4 + 40; h = NR * 19 + 36
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n", w, h, w, h
        print "<title>Inode numbers in a guest, by QEMU and by qidmapd, before and after a restart</title>"
        printf "<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#1d2330\"/>\n", w, h
        print "<g font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"14\" xml:space=\"preserve\">"
        for (i = 1; i <= NR; i++) {
            if (line[i] == "") continue
            color = "#d5dae5"
            if (line[i] ~ /^#/) color = "#8fa3bf"
            else if (line[i] ~ /^(host|guest)/) color = "#9fd68b"
            text = esc(line[i])
            gsub(/  /, "\\&#160;\\&#160;", text)
            printf "<text x=\"20\" y=\"%d\" fill=\"%s\">%s</text>\n", 10 + i * 19, color, text
        }
        print "</g>\n</svg>"
    }' "$1"
}
if [ "${1:-}" = --draw ]; then
    draw "$here/demo.txt" >"$here/demo.svg"
    exit
fi
if [ -z "${QIDMAP_OWN_MOUNTS:-}" ]; then
    QIDMAP_OWN_MOUNTS=1 exec unshare -m --propagation private bash "$0" "$@"
fi
export top_builddir=${top_builddir:-$PWD}
. "$here/../tests/lib.sh"
. "$here/../tests/guest/guest.sh"
need_loop
guest_need
. "$here/../tests/guest/exports.sh"
set -u

# two identical disks below one folder, and a btrfs with other numbers
srv=$export_dir
mkdir "$srv/disk1" "$srv/disk2"
truncate -s 16M "$images/disk1"
mkfs.ext4 -q -F "$images/disk1" || exit 1
mount_image disk1 ext4 "$srv/disk1"
echo "a file" >"$srv/disk1/file"
umount "$srv/disk1"
cp --sparse=always "$images/disk1" "$images/disk2"
mount "${loops[0]}" "$srv/disk1"
mount_image disk2 ext4 "$srv/disk2"
host=$(cd "$srv" && stat -c '%6i  %n' disk1/file disk2/file)

cat >"$tmp/script" <<'GUEST'
mount9p /share access=any "$ANAME"
for tag in warn remap; do VIRTFS=1 mount9p /$tag "" $tag; done
# the order in which the guest meets the filesystems
for disk in $ORDER; do for d in share warn remap; do stat /$d/$disk/file >/dev/null; done; done
for d in warn remap share; do (cd /$d && stat -c "$d %6i  %n" disk1/file disk2/file); done
GUEST
run() { # ORDER: prints what the guest has said
    guest_qemu=()
    for mode in warn remap; do
        guest_qemu+=(-virtfs "local,path=$srv,mount_tag=$mode,security_model=none,multidevs=$mode")
    done
    server_start "$srv" "lmdb:$tmp/store" --access trusted >&2 || exit 1
    guest_run "$tmp/script" "${guest_server[@]}" "ORDER=$1" >&2 || exit 1
    server_stop TERM
    cp "$guest_output" "$tmp/said"
}
shown() { sed -n "s/^$1 //p" "$tmp/said"; }
part() { # PROMPT NUMBER-OF-GUEST
    echo "$2\$ stat -c '%6i  %n' disk1/file disk2/file     # $1"
}
{
    echo "# disk2 is a clone of disk1; both are mounted in one folder of the host"
    echo "host\$ stat -c '%6i  %n' disk1/file disk2/file"
    echo "$host"
    run "disk1 disk2"
    echo
    part "QEMU -virtfs: one number, two files" guest
    shown warn
    part "QEMU -virtfs multidevs=remap" guest
    shown remap
    part "qidmapd" guest
    shown share
    echo
    echo "# all is restarted; this time the guest meets disk2 before disk1"
    run "disk2 disk1"
    part "QEMU -virtfs multidevs=remap" guest
    shown remap
    part "qidmapd" guest
    shown share
} >"$tmp/demo.txt"
cp "$tmp/demo.txt" "$here/demo.txt"
draw "$here/demo.txt" >"$here/demo.svg"
cat "$here/demo.txt"
