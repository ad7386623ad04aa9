# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for qidmapd

_qidmapd() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    # bash takes '=' and ':' for words of their own
    case $prev in
    --multidevs)
        mapfile -t COMPREPLY < <(compgen -W "remap forbid warn" -- "$cur")
        return
        ;;
    --on-duplicate)
        mapfile -t COMPREPLY < <(compgen -W "split refuse" -- "$cur")
        return
        ;;
    --bind)
        mapfile -t COMPREPLY < <(compgen -W "same distinct" -- "$cur")
        return
        ;;
    --weak)
        mapfile -t COMPREPLY < <(compgen -W "keep split" -- "$cur")
        return
        ;;
    --markers | --subdirs)
        mapfile -t COMPREPLY < <(compgen -W "yes no" -- "$cur")
        return
        ;;
    --security)
        mapfile -t COMPREPLY < <(compgen -W "passthrough mapped-xattr squash" -- "$cur")
        return
        ;;
    --squash)
        mapfile -t COMPREPLY < <(compgen -W "all root" -- "$cur")
        return
        ;;
    --xattrs)
        mapfile -t COMPREPLY < <(compgen -W "all none user system security trusted" -- "$cur")
        return
        ;;
    --qid-version)
        mapfile -t COMPREPLY < <(compgen -W "stable mtime" -- "$cur")
        return
        ;;
    --access)
        mapfile -t COMPREPLY < <(compgen -W "client trusted" -- "$cur")
        return
        ;;
    --store)
        mapfile -t COMPREPLY < <(compgen -W "lmdb: xattr: memory:" -- "$cur")
        compopt -o nospace
        return
        ;;
    --listen)
        mapfile -t COMPREPLY < <(compgen -W "unix: tcp: vsock:" -- "$cur")
        compopt -o nospace
        return
        ;;
    --isolate)
        mapfile -t COMPREPLY < <(compgen -W "auto yes no" -- "$cur")
        return
        ;;
    --seccomp)
        mapfile -t COMPREPLY < <(compgen -W "yes no" -- "$cur")
        return
        ;;
    --config | --control | = | :)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --limit)
        mapfile -t COMPREPLY < <(compgen -W "fids= requests= files= memory= locks= total-fids=
            total-requests= total-files= total-memory= total-locks= connections=" -- "$cur")
        compopt -o nospace
        return
        ;;
    --allow)
        mapfile -t COMPREPLY < <(compgen -W "any none unix uid: gid: tcp vsock vsock: inherited" -- "$cur")
        compopt -o nospace
        return
        ;;
    --export | --squash-user | --connected-fd | --fs-id | --threads | --msize-max | --descriptors | --idle-timeout | --stall-timeout | --ready-fd | --trace)
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "--config --export --store --listen --multidevs
        --on-duplicate --bind --weak --markers --security --squash --squash-user --xattrs --qid-version
        --subdirs --allow --connected-fd --access --isolate --seccomp --control --fs-id --threads --msize-max
        --descriptors --limit --idle-timeout --stall-timeout --ready-fd --trace --debug --foreground --version --help" -- "$cur")
}
complete -F _qidmapd qidmapd
