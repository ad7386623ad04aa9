# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for qidmapctl

_qidmapctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]}
    local words= options="--store --export --config --json --help"
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "status dump load verify compact copy backup restore reset lookup manifest preflight adopt drain reload hold survey top metrics fs --help --version" -- "$cur")
        return
    fi
    case $prev in
    --store)
        mapfile -t COMPREPLY < <(compgen -W "lmdb: xattr: virtfs:" -- "$cur")
        compopt -o nospace
        return
        ;;
    --config | --control | --output | -o)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --export | --guest-inode | --fs-id | --fs | --interval | --list | --pid)
        return
        ;;
    esac
    case $verb in
    fs)
        if [ "$COMP_CWORD" -eq 2 ]; then
            mapfile -t COMPREPLY < <(compgen -W "list show identify alias policy retire" -- "$cur")
            return
        fi
        case ${COMP_WORDS[2]} in
        identify) options="$options --fs-id" ;;
        alias | retire) options="$options --control --yes" ;;
        policy)
            options="$options --control --yes --renumber"
            words="affix handle ephemeral deny"
            ;;
        esac
        ;;
    drain)
        options="$options --control"
        ;;
    reload)
        options="$options --control --pid"
        ;;
    hold)
        options="$options --control --seconds"
        ;;
    survey)
        options="--json --help"
        ;;
    top)
        options="$options --control --once --interval"
        ;;
    metrics)
        options="$options --control"
        ;;
    manifest)
        options="$options --output --fs-id"
        ;;
    preflight)
        options="$options --fs-id"
        ;;
    adopt)
        options="$options --control --commit --status --abandon --skip-conflicts --list --yes --fs-id"
        ;;
    load)
        options="$options --control --latest --replace --yes"
        ;;
    compact)
        options="$options --control --dry-run --prune-missing --fs --prune-fs --unseen-for --fs-id"
        ;;
    copy)
        options="--latest --replace --yes --json --help"
        words="lmdb: xattr:"
        ;;
    backup)
        options="$options --replace"
        ;;
    restore)
        options="$options --control --yes"
        ;;
    reset)
        options="$options --control --fs --from-scratch --yes"
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
        if [ -n "$words" ]; then
            mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        elif [ "$verb" = survey ] || [ "$verb" = manifest ] || [ "$verb" = preflight ] || [ "$verb" = drain ]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        elif [ "$verb" = lookup ] || [ "$verb" = load ] || [ "$verb" = backup ] ||
            [ "$verb" = restore ] || [ "$verb" = adopt ] || [ "${COMP_WORDS[2]}" = identify ]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        ;;
    esac
}
complete -F _qidmapctl qidmapctl
