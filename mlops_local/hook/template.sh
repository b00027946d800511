#!/bin/sh
# mlops-hook 6d1f0f5e2c7b4f8e9a33 - a git hook kept by `mlops hook`; `mlops hook uninstall` removes it.
# It leaves before starting Python when a commit stages nothing a project of this repository is made of.

before="$(dirname "$0")/pre-commit.before-mlops"
if [ -x "$before" ]; then
    "$before" "$@" || exit $?
fi

check() {
    root=$1 python=$2
    shift 2
    [ -f "$root/mlops.toml" ] || return 0
    git diff --cached --quiet --no-ext-diff --ignore-submodules -- "$@" && return 0
    if [ ! -x "$python" ]; then
        echo "mlops: no verdict: $python is gone; run \`mlops hook install\` again" >&2
        return 0
    fi
    "$python" -m mlops_local -C "$root" hook run
}

status=0
# Sections below are written by `mlops hook install` and refreshed by `mlops train`.
exit $status
