# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for qidmapctl

_qidmapctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]}
    local options="--store --export --config --json --help"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "status dump load verify lookup fs --help --version" -- "$cur")
        return
    fi
    case $prev in
    --store)
        mapfile -t COMPREPLY < <(compgen -W "lmdb:" -- "$cur")
        compopt -o nospace
        return
        ;;
    --config)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --export | --guest-inode | --fs-id)
        return
        ;;
    esac
    case $verb in
    fs)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "list show" -- "$cur")
            return
        fi
        ;;
    load)
        options="$options --latest --replace --yes"
        ;;
    verify)
        options="$options --repair"
        ;;
    lookup)
        options="$options --guest-inode --no-scan --fs-id"
        ;;
    esac
    case $cur in
    -*)
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        ;;
    *)
        if [ "$verb" = lookup ] || [ "$verb" = load ]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        ;;
    esac
}
complete -F _qidmapctl qidmapctl
