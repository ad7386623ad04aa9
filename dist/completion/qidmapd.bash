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
    --markers)
        mapfile -t COMPREPLY < <(compgen -W "yes no" -- "$cur")
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
        mapfile -t COMPREPLY < <(compgen -W "unix: tcp:" -- "$cur")
        compopt -o nospace
        return
        ;;
    --config | = | :)
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
    --export | --fs-id | --threads | --msize-max | --idle-timeout | --stall-timeout | --ready-fd)
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "--config --export --store --listen --multidevs
        --on-duplicate --bind --weak --markers --access --fs-id --threads --msize-max --limit
        --idle-timeout --stall-timeout --ready-fd --debug --foreground --version --help" -- "$cur")
}
complete -F _qidmapd qidmapd
