#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Promise: two guests that mount one export at once, and the host beside them, work on one
# filesystem. With cache=none each sees at once what another one did; record locks of guests and
# of a process on the host exclude each other, flock does between guests; a lock ends with its
# holder; what several append stays whole; of several who want to make or take one name, one does.

. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/guest.sh"
guest_need

rounds=40
[ -z "${QIDMAP_GUEST_LONG:-}" ] || rounds=1000
mkdir -m 777 "$tmp/export"
chmod 755 "$tmp"
probe=$guest_image/probe

cat >"$tmp/script" <<'GUEST'
check "mounts" mount9p /mnt "$ACCESS,cache=none" || exit 1
cd /mnt || exit 1
meet() { host_step meet "$1" || { fail "the other guest comes to $1"; exit 1; }; }
a() { [ "$WHO" = a ]; }
b() { [ "$WHO" = b ]; }
appears() { # FILE: in time
    local try=0
    while [ $try -lt 4000 ]; do
        [ ! -e "$1" ] || return 0
        try=$((try + 1))
        usleep 50000
    done
    return 1
}

# ---- what one does, the other sees
a && echo one >f
meet written
if b; then
    is "$(cat f)" one "reads what the other one wrote"
    echo two >>f
    mv f g
    ln g h
    chmod 640 g
    ln -s g way
fi
meet renamed
if a; then
    check_fails "the old name is gone" ls f
    is "$(cat g)" "$(printf 'one\ntwo')" "the new name has all of it"
    is "$(stat -c %a:%h g)" 640:2 "mode and links are the new ones"
    is "$(cat way)" "$(cat g)" "the symbolic link leads there"
    mkdir d
    echo x >d/x
    rm h
fi
meet removed
if b; then
    check_fails "a name that the other one removed is gone" ls h
    is "$(ls d)" x "the other one's directory is there"
    is "$(stat -c %h g)" 1 "one link is left"
    truncate -s 100000 g
fi
meet grown
a && is "$(stat -c %s g)" 100000 "the size is what the other one made it"

# ---- open here, unlinked or replaced there
if a; then
    echo keep >open
    echo old >replaced
    exec 5<open 6<replaced
fi
meet opened
if b; then
    check "removes a file that the other one has open" rm open
    echo another >open
    echo new >fresh
    check "renames over one that the other one has open" mv fresh replaced
fi
meet gone
if a; then
    is "$(cat <&5)" keep "reads on in the file that was removed"
    is "$(cat <&6)" old "reads on in the file that was replaced"
    # As long as a file is open here, this client takes its name for it without asking the server.
    exec 5<&- 6<&-
    is "$(cat open replaced)" "$(printf 'another\nnew')" "once they are closed, the names show the new files"
fi

# ---- locks
echo >lock-$WHO
for kind in record flock; do
    file=lock-a
    if a; then
        probe hold $kind $file 10 20 /tmp/held-$kind /tmp/end-$kind &
        check "$kind: takes a lock" appears /tmp/held-$kind
    fi
    meet $kind-held
    if b; then
        check "$kind: the other guest has it" probe try $kind $file 15 1 busy
        if [ $kind = record ]; then
            check "$kind: before that is free" probe try $kind $file 0 10 free
            check "$kind: behind that is free" probe try $kind $file 30 10 free
            check "$kind: over its edge is not" probe try $kind $file 0 11 busy
        fi
        # waits for it, in the background
        probe hold $kind $file 10 20 /tmp/held-$kind /tmp/end-$kind &
        usleep 500000
        check_fails "$kind: who waits has not got it" ls /tmp/held-$kind
    fi
    if a && [ $kind = record ]; then
        check "$kind: a process on the host is kept out" host_step host_try lock-a 15 1 busy
        check "$kind: but not elsewhere" host_step host_try lock-a 100 1 free
    fi
    meet $kind-waiting
    if a; then
        : >/tmp/end-$kind
        wait
    else
        check "$kind: who waits gets it when it is free" appears /tmp/held-$kind
    fi
    meet $kind-passed
    a && check "$kind: now it is the other one's" probe try $kind $file 15 1 busy
    meet $kind-seen
    if b; then
        # its holder is killed, and cannot unlock
        kill -9 $!
        wait $! 2>/dev/null
    fi
    meet $kind-killed
    a && check "$kind: the lock has ended with its holder" probe try $kind $file 15 1 free
done
if b; then
    check "the host takes a lock" host_step host_hold lock-b 10 20
    check "a guest is kept out by it" probe try record lock-b 15 1 busy
    check "but not elsewhere" probe try record lock-b 100 1 free
    check "the host unlocks" host_step host_end
    check "then it is free" probe try record lock-b 15 1 free
fi

# ---- all at once
meet all
check "appends $ROUNDS lines" probe lines appended "$WHO" "$ROUNDS"
check "counts to $ROUNDS under a record lock" probe increment record counted "$ROUNDS"
check "counts to $ROUNDS under flock" probe increment flock flocked "$ROUNDS"
meet race
check "races for names" sh -c "probe race race $ROUNDS $WHO >won-$WHO"
meet done
cd /
umount /mnt
GUEST

host_holder=
step_host_try() { # FILE START LENGTH free|busy
    "$probe" try record "$tmp/export/$1" "$2" "$3" "$4"
}
step_host_hold() { # FILE START LENGTH
    "$probe" hold record "$tmp/export/$1" "$2" "$3" "$tmp/host-held" "$tmp/host-end" &
    host_holder=$!
    wait_until 60 test -e "$tmp/host-held"
}
step_host_end() {
    : >"$tmp/host-end"
    wait "$host_holder"
}

server_start "$tmp/export" "lmdb:$tmp/store" ||
    bail_out "the server does not start: $(tail -n 5 "$qidmapd_log")"
mkdir -m 777 "$tmp/export/race"
for ((i = 0; i < rounds; i++)); do : >"$tmp/export/race/token-$i"; done
chmod 666 "$tmp/export/race"/*
# The host counts and appends, too, as soon as the guests begin to.
(
    wait_until 600 test -e "$tmp/meet.all.a" && wait_until 100 test -e "$tmp/meet.all.b"
    "$probe" lines "$tmp/export/appended" host "$rounds" &&
        "$probe" increment record "$tmp/export/counted" "$rounds"
) &
host=$!
guest_pair "$tmp/script" "${guest_server[@]}" "ACCESS=access=client" "ROUNDS=$rounds"
is "$?" 0 "both scripts ended well"
wait "$host"
is "$?" 0 "the host appended and counted as well"
if [ "$tap_failed" -gt 0 ]; then
    tap_diag "$(cat "$tmp"/pair.?.output)"
    tap_diag "server: $(tail -n 20 "$qidmapd_log")"
fi

d=$tmp/export
is "$(wc -l <"$d/appended")" $((3 * rounds)) "every line of three writers is there"
is "$(grep -cvE '^(a|b|host) [0-9]+ and then some words to fill the line$' "$d/appended")" 0 \
    "each of them whole"
is "$(cat "$d/counted")" $((3 * rounds)) "two guests and the host have counted under one lock"
is "$(cat "$d/flocked")" $((2 * rounds)) "two guests have counted under flock"
sums=$(awk '{ m += $1; e += $2; t += $3 } END { print m, e, t }' "$d"/won-?)
is "$sums" "$rounds $rounds $rounds" "each name had one winner, by mkdir, O_EXCL and rename"
tap_diag "won by a: $(cat "$d/won-a"), by b: $(cat "$d/won-b")"
tap_done
