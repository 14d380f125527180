#!/usr/bin/env bash
# All of pytest with every other CPython there is, and the package installed for it,
# with the libcurl of the system. Arguments go to pytest.
#
#   tools/every_python.sh
#   PYTHONS=python3.10 tools/every_python.sh -k scrape
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
own=$(.venv/bin/python -c 'import sys; print(sys.version_info[:2])')

for python in $(tools/pythons.sh); do
    [ "$("$python" -c 'import sys; print(sys.version_info[:2])')" != "$own" ] || [ -n "${PYTHONS:-}" ] || continue
    to=$root/build/pythons/$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    "$python" --version
    "$python" -m venv "$to"
    "$to/bin/python" -m pip install --quiet --disable-pip-version-check "setuptools>=77" pytest-xdist "$root[test]"
    "$to/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall "$root"
    # From there, so that it is the installed package that is tested.
    (cd "$to" && bin/python -m pytest -q -n 2 --dist loadfile -c "$root/pyproject.toml" -p no:cacheprovider "$root/tests" "$@")
done
