"""
The shell script that calls dbt and then writes dbt's files into the container's log.

`authoring.container` includes it in the container's command, with `artifacts=` or `state=`. It needs a POSIX shell, `gzip`, `base64`,
`awk`, `mktemp` and `wc`; for compiled SQL also `tar` and `find`. `core.log.enclosed_files` says how a file is written into the log.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from dbt_watch.core.log.enclosed_files import CATALOG, COMPILED, INDEX, LINES_OF_A_PIECE, MARK, MAX_PACKED

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGINNING: Final = r"""
kept=$(mktemp -d 2> /dev/null) && : > "$kept/began" || kept=
[ -z "$kept" ] || trap 'rm -rf "$kept"' EXIT
""".strip()
"""What comes before anything else: only files newer than this are sent."""


# What dbt reads of a state comes in environment variables, since a pod has no other place for it without a right or a volume.
STATE: Final = r"""
if [ -n "$DBT_WATCH_STATE_0$DBT_WATCH_SOURCES_0" ]; then
    mkdir "$kept/state" || exit
    for name in STATE:manifest SOURCES:sources; do
        variable=DBT_WATCH_${name%:*}
        eval "chunk=\${${variable}_0-}"
        [ -n "$chunk" ] || continue
        number=0
        while eval "chunk=\${${variable}_$number-}" && [ -n "$chunk" ]; do
            printf %s "$chunk"
            number=$((number + 1))
        done | base64 -d | gzip -dc > "$kept/state/${name#*:}.json" || exit
    done
    DBT_STATE=$kept/state DBT_ENGINE_STATE=$kept/state
    export DBT_STATE DBT_ENGINE_STATE
    number=0
    while [ "$number" -lt 10 ]; do
        unset "DBT_WATCH_STATE_$number" "DBT_WATCH_SOURCES_$number"
        number=$((number + 1))
    done
fi
""".strip()
"""Creates a directory for dbt's `--state` from the variables of `producers.state_store`."""


def sending(words: Sequence[str], names: Sequence[str], *, project_dir: str | None) -> str:
    """
    Return the end of the script.

    :param words: the command that calls dbt; dbt's arguments are the script's arguments
    :param names: the files to send
    :param project_dir: the directory of `dbt_project.yml` in the image
    """
    plain = " ".join(name for name in names if name not in {CATALOG, INDEX, COMPILED})
    replaced = {
        "DBT": shlex.join(words),
        "PROJECT": shlex.quote(project_dir) if project_dir else "",
        "NAMES": plain,
        "COMPILED": "yes" if COMPILED in names else "",
        "MARK": MARK.decode().strip(),
        "MAX_PACKED": str(MAX_PACKED),
        "LINES": str(LINES_OF_A_PIECE),
    }
    script = _SENDING
    for name, value in replaced.items():
        script = script.replace(f"@{name}@", value)
    return script


# dbt is a background job, since a shell heeds a signal only while it waits. A shell starts such a job with SIGINT ignored, and
# a program that begins so never notices it: so `env`, or Python, sets it back first. Where an image has neither, dbt takes the
# shell's place and no file is sent: that it can be stopped is worth more.
#
# Of several signals the first one reaches dbt, as SIGINT. `wait` ends early on a signal, and is called again then; 127 means
# that it had told the exit code already.
#
# When the first argument is `docs:` and a number, so many arguments after it are a call of `dbt docs generate`, for afterwards.
_SENDING: Final = r"""
child= stopped= code=0
stop() {
    signalled=1
    [ -n "$stopped" ] || [ -z "$child" ] || kill -INT "$child" 2> /dev/null
    stopped=1
}
call() {
    if [ "$reset" = env ]; then
        env --default-signal=INT @DBT@ "$@" &
    else
        "$reset" -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])' @DBT@ "$@" &
    fi
    child=$!
    [ -z "$stopped" ] || kill "$child" 2> /dev/null
    while :; do
        signalled=
        wait "$child"
        now=$?
        [ "$now" -eq 127 ] && [ "$code" -gt 128 ] || code=$now
        [ -n "$signalled" ] || break
    done
    child=
}
call_rest() {
    shift "$1"
    shift
    call "$@"
}
call_first() {
    count=$1
    shift
    turned=0
    while [ "$turned" -lt "$count" ]; do
        set -- "$@" "$1"
        shift
        turned=$((turned + 1))
    done
    shift "$(($# - count))"
    call "$@"
}
say() { printf '%s %s %s\n' @MARK@ "$1" "$2"; }
send() {
    if [ ! -f "$2" ] || [ ! "$2" -nt "$kept/began" ]; then
        say "$1" 'none dbt has not written it'
    elif ! gzip -nc "$2" > "$kept/packed" 2> "$kept/errors"; then
        say "$1" "none it could not be compressed: $(tail -n 1 "$kept/errors")"
    elif [ "$(wc -c < "$kept/packed")" -gt @MAX_PACKED@ ]; then
        say "$1" "none it is too large: $(($(wc -c < "$kept/packed"))) bytes when compressed, and @MAX_PACKED@ may be sent"
    else
        base64 < "$kept/packed" | awk -v mark="@MARK@ $1" '
            { piece = piece $0 }
            NR % @LINES@ == 0 { print mark, number++, piece; piece = "" }
            END { if (piece != "") print mark, number++, piece; print mark, "end", number + 0 }'
    fi
}
find_target() {
    project=@PROJECT@
    : "${project:=${DBT_ENGINE_PROJECT_DIR:-$DBT_PROJECT_DIR}}"
    if [ -z "$project" ]; then
        project=$PWD
        while [ -n "$project" ] && [ ! -f "$project/dbt_project.yml" ]; do project=${project%/*}; done
    fi
    target=$(sed -n "s/^target-path: *[\"']\{0,1\}\([^\"' #{]*\).*/\1/p" "$project/dbt_project.yml" 2> /dev/null)
    target=${DBT_ENGINE_TARGET_PATH:-${DBT_TARGET_PATH:-${target:-target}}}
    for word; do
        case "$word" in
        --target-path=*) target=${word#*=} ;;
        esac
        [ "$before" != --target-path ] || target=$word
        before=$word
    done
    case "$target" in
    /*) ;;
    *) target=$project/$target ;;
    esac
}
reset=
if [ -z "$kept" ]; then
    lack='no directory for temporary files'
elif env --default-signal=INT true 2> /dev/null; then
    reset=env
else
    for python in python3 python; do
        [ -n "$reset" ] || ! command -v "$python" > /dev/null || reset=$python
    done
    lack='neither an `env` that knows --default-signal nor Python, so dbt could not be interrupted'
fi
docs=0
case "$1" in
docs:*)
    docs=${1#docs:}
    shift
    ;;
esac
if [ -z "$reset" ]; then
    for name in @NAMES@; do say "$name" "none the image has $lack"; done
    shift "$docs"
    [ -z "$kept" ] || rm -rf "$kept"
    exec @DBT@ "$@"
fi
trap stop INT TERM
call_rest "$docs" "$@"
ended=$code
before=
find_target "$@"
echo
for name in @NAMES@; do send "$name" "$target/$name"; done
if [ -n "@COMPILED@" ]; then
    (cd "$target" 2> /dev/null && find compiled -type f -newer "$kept/began" 2> /dev/null) > "$kept/list"
    [ ! -s "$kept/list" ] || tar -C "$target" -cf "$kept/compiled.tar" -T "$kept/list"
    send compiled.tar "$kept/compiled.tar"
fi
if [ "$docs" -gt 0 ]; then
    if [ -n "$stopped" ] || [ "$ended" -gt 1 ]; then
        say catalog.json "none dbt ended with $ended, so \`dbt docs generate\` was not called"
    else
        call_first "$docs" "$@" > "$kept/docs" 2>&1
        if [ "$code" -eq 0 ]; then
            send catalog.json "$target/catalog.json"
            send index.html "$target/index.html"
        else
            say catalog.json "none \`dbt docs generate\` ended with $code: $(tail -n 3 "$kept/docs" | tr '\n' ' ')"
        fi
    fi
fi
exit "$ended"
""".strip()
