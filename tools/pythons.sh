#!/usr/bin/env bash
# Names one CPython of each version that the package is for and that this machine has,
# that of .venv first. PYTHONS names others.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() {
    "$1" -c '
import ensurepip, os, sys, sysconfig, venv
sys.exit(not (3, 10) <= sys.version_info < (3, 15) or sys.implementation.name != "cpython"
         or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
' 2>/dev/null
}

seen=" "
for python in ${PYTHONS:-"$PWD/.venv/bin/python" python3.{10..14} ~/.pyenv/versions/3.*/bin/python /usr/bin/python3}; do
    usable "$python" || continue
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case $seen in *" $version "*) continue ;; esac
    seen+="$version "
    echo "$python"
done
