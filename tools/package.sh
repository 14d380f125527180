#!/usr/bin/env bash
# Packs an sdist, builds a wheel from it that holds its libraries, installs that
# into a new environment and tests it there, away from the source.
#
#   tools/package.sh        for the Python of .venv, with the libcurl of the system, and a few tests
#   tools/package.sh all    for every CPython there is, with a libcurl of our own, and all tests
#
# PYTHONS names the interpreters for `all`, TESTS the tests: "test_guard test_api".
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
scope=${1:-}
out=$root/build/package
tools=$root/.venv/bin
quiet=(--quiet --disable-pip-version-check)
few="test_ca_bundle test_core_page test_models test_sglang_collector test_typing"
chosen=()

# Of this checkout nothing but the sdist is there, and of .venv nothing at all.
wheel() {
    local python=$1 to=$2
    "$python" -m venv "$to/build"
    (
        cd "$to"
        env -u PYTHONPATH -u VIRTUAL_ENV PATH=/usr/bin:/bin SGLANG_COLLECT_WERROR=1 \
            build/bin/python -m pip wheel "${quiet[@]}" --no-deps --no-cache-dir --wheel-dir raw "$sdist"
    )
    PATH=$tools:$PATH "$tools/python" -m auditwheel repair --strip --wheel-dir "$to" "$to"/raw/*.whl 2>"$to/auditwheel.log"
}

purelib() {
    "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# What a user does: checks types, calls the command, and here also runs the tests.
try() {
    local to=$1 environment=$1/environment installed
    if [ "$scope" = all ]; then
        "$environment/bin/python" -m pip install "${quiet[@]}" "$(echo "$to"/*.whl)[test]"
    else # what it depends on is in .venv already
        "$environment/bin/python" -m pip install "${quiet[@]}" --no-deps "$to"/*.whl
        purelib "$tools/python" >"$(purelib "$environment/bin/python")/dependencies.pth"
    fi
    installed=$(cd "$to" && "$environment/bin/python" -c 'import sglang_collect; print(sglang_collect.__path__[0])')
    case $installed in "$environment"/*) ;; *) echo "imported from $installed" >&2 && exit 1 ;; esac
    for name in py.typed _core.pyi catalog/sglang.py dashboard/vendor/uPlot.min.css; do
        test -e "$installed/$name" || { echo "the wheel lacks $name" >&2 && exit 1; }
    done
    cp tests/typing/program.py "$to"
    (
        cd "$to"
        "$tools/python" -m mypy --strict --config-file= --python-executable "$environment/bin/python" program.py
        echo '{"enableTypeIgnoreComments": false, "reportUnnecessaryTypeIgnoreComment": true}' >pyrightconfig.json
        "$tools/python" -m pyright --pythonpath "$environment/bin/python"
        "$environment/bin/sglang-collect" demo >/dev/null
        "$environment/bin/python" -m pytest -q -c "$root/pyproject.toml" -p no:cacheprovider "${chosen[@]}"
    )
}

rm -rf "$out"
mkdir -p "$out"
"$tools/python" setup.py -q sdist --dist-dir "$out"
sdist=$(echo "$out"/sglang_collect-*.tar.gz)
found=("$tools/python")
if [ "$scope" = all ]; then
    tools/build_libcurl.sh build/libcurl
    export CURL_CONFIG=$root/build/libcurl/bin/curl-config
    mapfile -t found < <(tools/pythons.sh)
    few=
fi
for name in ${TESTS:-$few}; do chosen+=("$root/tests/$name.py"); done
[ ${#chosen[@]} -gt 0 ] || chosen=("$root/tests")

for python in "${found[@]}"; do
    to=$out/$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    "$python" -m venv "$to/environment"
    wheel "$python" "$to"
    try "$to"
    echo "$("$python" --version): $(basename "$to"/*.whl) works"
done
