# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Boots a guest and runs a script in it, for the tests in this folder. Sourced
# after tests/lib.sh. The guest's script speaks over the second serial port;
# kernel messages go to a file that is shown when the guest dies.
#
# Without KVM a boot takes about 5 s; norandmaps makes fork and exec several
# times faster under TCG, no_timer_check avoids a panic on a busy host.

guest_dir=$top_srcdir/tests/guest
guest_image=
guest_pid=
guest_number=0
on_exit guest_kill

guest_kill() {
    [ -z "$guest_pid" ] || kill -KILL "$guest_pid" 2>/dev/null
    [ -z "$guest_pid" ] || wait "$guest_pid" 2>/dev/null
    guest_pid=
}

guest_need() { # skips the whole test where no guest can run
    local program
    [ "$(uname -m)" = x86_64 ] || skip_all "no guest for this architecture"
    for program in qemu-system-x86_64 busybox cpio; do
        command -v "$program" >/dev/null || skip_all "no $program"
    done
    if ! guest_image=$("$guest_dir/make-initramfs" 2>"$tmp/initramfs.log"); then
        tap_diag "$(cat "$tmp/initramfs.log")"
        skip_all "no guest kernel"
    fi
}

# guest_disk IMAGE: the guests that are run from now on find it as /dev/vda; what they write to it is
# gone with them. make-rootfs makes such images, enter_disk in the guest mounts them.
guest_disk() {
    guest_qemu+=(-drive "file=$1,format=raw,if=virtio,snapshot=on,cache=unsafe")
}

# guest_packages PACKAGE...: such a disk, with these; skips the test where they cannot be had.
guest_packages() {
    local image
    image=$("$guest_dir/make-rootfs" "$@" 2>"$tmp/rootfs.log") || {
        tap_diag "$(cat "$tmp/rootfs.log")"
        skip_all "no packages for the guest"
    }
    guest_disk "$image"
}

# guest_modules NAME...: more modules of the guest's kernel, unpacked; their files are in the array
# guest_module_files, as arguments of guest_run.
guest_module_files=()
guest_modules() {
    local name module file
    mkdir -p "$tmp/modules"
    for name; do
        module=$(find "${guest_image%-*-*}/lib/modules" -name "$name.ko*" | head -n 1)
        file=$tmp/modules/$name.ko
        case $module in
        *.xz) xz -dc "$module" >"$file" ;;
        *.zst) zstd -qdc "$module" >"$file" ;;
        *.gz) gzip -dc "$module" >"$file" ;;
        *.ko) cp "$module" "$file" ;;
        *) continue ;; # built in
        esac
        guest_module_files+=("+$file")
    done
}

# For tests of mount.qidmap: $helper is that, as the build has it.
guest_need_helper() {
    [ "${QIDMAP_GUEST_SERVER:-qidmapd}" = qidmapd ] || skip_all "about qidmapd alone"
    guest_need
    helper=$top_builddir/tools/mount.qidmap
    [ -x "$helper" ] || skip_all "mount.qidmap is not in this build"
}

# guest_run SCRIPT [VARIABLE=VALUE...]: boots, runs SCRIPT, returns its exit
# status (125: the guest died or ran out of time). Each VARIABLE is set in the
# script's environment; +FILE instead of a variable puts a copy of FILE beside
# the script (/test/NAME), and QEMU options come from the array guest_qemu.
# Output that is not for us ends in $guest_output and, with guest_show set, on
# the terminal.
guest_qemu=()
guest_net= # more options of the user network, such as hostfwd=tcp:127.0.0.1:PORT-:445
guest_show=
guest_run() {
    local script=$1 dir line='' part status=125 item deadline name arguments
    shift
    guest_number=$((guest_number + 1))
    dir=$tmp/guest.$guest_number
    guest_output=$dir/output
    mkdir -p "$dir/root/test"
    cp "$script" "$dir/root/test/script" || return 125
    : >"$dir/root/test/env"
    : >"$guest_output"
    for item; do
        case $item in
        +*) cp "${item#+}" "$dir/root/test/" ;;
        *) printf 'export %s=%q\n' "${item%%=*}" "${item#*=}" >>"$dir/root/test/env" ;;
        esac
    done
    (
        cat "$guest_image/initramfs"
        cd "$dir/root" && find test | cpio --quiet -o -H newc -R 0:0
    ) >"$dir/initramfs"
    mkfifo "$dir/ctl.in" "$dir/ctl.out"
    exec {to_guest}<>"$dir/ctl.in" {from_guest}<>"$dir/ctl.out"
    qemu-system-x86_64 -accel tcg,thread=multi -machine pc -m "${QIDMAP_GUEST_MEMORY:-384}" \
        -kernel "$guest_image/vmlinuz" -initrd "$dir/initramfs" -no-reboot -display none \
        -monitor none -nodefaults -append \
        'console=ttyS0 quiet panic=-1 norandmaps no_timer_check mitigations=off' \
        -serial "file:$dir/console" -chardev "pipe,id=ctl,path=$dir/ctl" -serial chardev:ctl \
        -netdev "user,id=net${guest_net:+,$guest_net}" -device virtio-net-pci,netdev=net,romfile= \
        "${guest_qemu[@]}" </dev/null >"$dir/qemu.log" 2>&1 {to_guest}>&- {from_guest}>&- &
    guest_pid=$!
    deadline=$((SECONDS + ${QIDMAP_GUEST_TIMEOUT:-1000}))
    while :; do
        if IFS= read -r -t 1 -u "$from_guest" part; then
            line=$line$part
        else
            line=$line$part
            process_gone "$guest_pid" || [ "$SECONDS" -lt "$deadline" ] || break
            process_gone "$guest_pid" && break
            continue
        fi
        case $line in
        '@@exit '*)
            status=${line#@@exit }
            break
            ;;
        '@@step '*)
            arguments=${line#@@step }
            name=${arguments%% *}
            # shellcheck disable=SC2086 # words are meant to split
            "step_$name" ${arguments#"$name"}
            echo "$?" >&"$to_guest"
            ;;
        '@@ok '*) ok "${line#@@ok }" ;;
        '@@not_ok '*) not_ok "${line#@@not_ok }" ;;
        '@@skip '*)
            line=${line#@@skip }
            skip "${line%% # SKIP *}" "${line#* # SKIP }"
            ;;
        *)
            printf '%s\n' "$line" >>"$guest_output"
            [ -z "$guest_show" ] || tap_diag "guest: $line"
            ;;
        esac
        line=
    done
    exec {to_guest}>&- {from_guest}>&-
    if [ "$status" = 125 ]; then
        not_ok "the guest runs its script to the end" "console:
$(tail -n 30 "$dir/console" 2>/dev/null)
qemu: $(cat "$dir/qemu.log")
output: $(tail -n 20 "$guest_output")"
    fi
    wait_until 5 process_gone "$guest_pid"
    guest_kill
    rm -rf "$dir/initramfs"
    return "$status"
}

# guest_pair SCRIPT [VARIABLE=VALUE...]: two guests at once, which both run SCRIPT, with WHO=a in one and
# WHO=b in the other. host_step meet NAME lets each wait for the other at that point. Returns 0 if both
# returned 0; their results become ours, first those of a.
guest_pair() {
    local who pids=() status=0 line
    for who in a b; do
        (
            trap guest_kill EXIT
            trap 'exit 143' HUP INT TERM
            guest_pid= tap_count=0 tap_failed=0 pair_who=$who
            [ "$who" = a ] || guest_number=$((guest_number + 1000))
            guest_run "$@" "WHO=$who" >"$tmp/pair.$who" 2>&1
            echo "$?" >"$tmp/pair.$who.status"
            cp "$guest_output" "$tmp/pair.$who.output"
        ) &
        pids+=("$!")
    done
    on_exit "kill -TERM ${pids[*]} 2>/dev/null"
    wait "${pids[@]}"
    for who in a b; do
        while IFS= read -r line; do
            case $line in
            'not ok '*) not_ok "guest $who: ${line#*- }" ;;
            'ok '*'# SKIP '*)
                line=${line#*- }
                skip "guest $who: ${line%% # SKIP *}" "${line#* # SKIP }"
                ;;
            'ok '*) ok "guest $who: ${line#*- }" ;;
            *) printf '%s\n' "$line" ;;
            esac
        done <"$tmp/pair.$who"
        [ "$(cat "$tmp/pair.$who.status" 2>/dev/null)" = 0 ] || status=1
    done
    return "$status"
}

step_meet() { # NAME: both guests of a pair come on from here together
    local other=a
    [ "$pair_who" = b ] || other=b
    : >"$tmp/meet.$1.$pair_who"
    wait_until 600 test -e "$tmp/meet.$1.$other"
}

# ---- the server that the guest mounts --------------------------------------
# QIDMAP_GUEST_SERVER=diod runs the same test against Debian's diod, to tell a
# fault of the server from one of the test. server_start EXPORT_DIR STORE [OPTION...]
# sets $server_port, $server_aname, $server_pid, and guest_server: what a guest
# must know of it. $MSIZE chooses another size of messages.

guest_server=()

server_start() {
    local directory=$1 store=$2 wanted=${server_port:-}
    shift 2
    server_port=${wanted:-$(free_port)}
    case ${QIDMAP_GUEST_SERVER:-qidmapd} in
    qidmapd)
        server_aname=x
        # what was free a moment ago may be taken
        until start_qidmapd --export "x=$directory" --store "$store" \
            --listen "tcp:127.0.0.1:$server_port" "$@"; do
            [ -z "$wanted" ] && tail -n 2 "$qidmapd_log" | grep -q 'in use' || return 1
            server_port=$(free_port)
        done
        server_pid=$qidmapd_pid
        ;;
    diod)
        server_aname=$directory
        diod -f -n -l "127.0.0.1:$server_port" -e "$directory" >>"$qidmapd_log" 2>&1 &
        server_pid=$!
        qidmapd_pids="$qidmapd_pids$server_pid "
        wait_until 60 port_in_use "$server_port" || return 1
        ;;
    *) bail_out "unknown QIDMAP_GUEST_SERVER" ;;
    esac
    guest_server=("PORT=$server_port" "ANAME=$server_aname" "MSIZE=${MSIZE:-}")
}

server_stop() { # [SIGNAL]
    stop_qidmapd "${1:-TERM}" "$server_pid"
}
