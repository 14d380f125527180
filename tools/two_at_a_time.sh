#!/usr/bin/env bash
# Makes targets that keep one processor busy each, two at a time, and shows what each
# of them said once it has ended.
#
#   tools/two_at_a_time.sh lint types
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/said
# shellcheck disable=SC2016 # the inner shell's own
printf '%s\n' "$@" | xargs -P 2 -I{} bash -c '
    status=0
    make {} >build/said/{} 2>&1 || status=1
    cat build/said/{}
    [ $status -eq 0 ] || echo "make {} failed"
    exit $status'
