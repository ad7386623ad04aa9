# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for mount.qidmap; the one of mount(8) is not ours.

_mount.qidmap() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} before='' last
    COMPREPLY=()
    if [ "$prev" = = ]; then # bash takes '=' for a word of its own
        case ${COMP_WORDS[COMP_CWORD - 2]##*,} in
        cache) mapfile -t COMPREPLY < <(compgen -W "none readahead mmap loose fscache" -- "$cur") ;;
        access) mapfile -t COMPREPLY < <(compgen -W "user any client" -- "$cur") ;;
        esac
        return
    fi
    if [ "$prev" = -o ] || { [ "$cur" != = ] && [[ $cur == *,* ]]; }; then
        last=${cur##*,}
        before=${cur%"$last"}
        # those with '=' are ours or have a value
        mapfile -t COMPREPLY < <(compgen -P "$before" -W "aname= retry= msize= access= cache= cachetag=
            debug= dfltgid= dfltuid= directio ignoreqv locktimeout= nodevmap noxattr posixacl uname= ro rw
            noexec nosuid nodev noatime remount _netdev nofail noauto x-systemd.automount" -- "$last")
        compopt -o nospace
        return
    fi
    case $prev in
    -t)
        mapfile -t COMPREPLY < <(compgen -W "qidmap" -- "$cur")
        return
        ;;
    -N | :)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    esac
    case $cur in
    -*) mapfile -t COMPREPLY < <(compgen -W "-f -n -s -v -r -w -o -t -N --help --version" -- "$cur") ;;
    v* | t* | u* | '')
        if [ "$COMP_CWORD" -eq 1 ]; then
            mapfile -t COMPREPLY < <(compgen -W "vsock:2:564 vsock:host tcp: unix:/" -- "$cur")
            compopt -o nospace
            return
        fi
        ;;&
    *)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        ;;
    esac
}
complete -F _mount.qidmap mount.qidmap
