#!/usr/bin/env bash
# A CPython without a GIL, built of Debian's source: once as it is, for the tests of
# the extension, of collectors and of fleets, and once under ThreadSanitizer. In both,
# eight threads use the same objects at once (tests/together.py); and a twin of the
# extension whose objects have no locks must be found out. Eight minutes at first.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/build/free-threaded
suite=trixie # whose python3.13 is the first that can do without

fetch() {
    mkdir -p "$root/apt/lists/partial"
    local uri # where this machine has its Debian from
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' | head -n 1)
    echo "deb-src $uri $suite main" >"$root/apt/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$root/apt/sources.list" -o "Dir::Etc::sourceparts=-" \
        -o "Dir::State::lists=$root/apt/lists" -o "Dir::Cache=$root/apt")
    "${apt[@]}" update
    (cd "$root" && "${apt[@]}" source --download-only --tar-only python3.13)
    mkdir -p "$root/source"
    tar -xf "$root"/python3.13_*.orig.tar.xz -C "$root/source" --strip-components 1
}

# build_python NAME OPTION...: in its folder, where its log says what went wrong.
build_python() {
    local to=$root/$1
    mkdir -p "$to/objects"
    echo "Building Python without a GIL: $1"
    (
        cd "$to/objects"
        "$root/source/configure" -q --disable-gil --disable-test-modules --prefix="$to" "${@:2}"
        make -s -j2
    ) >"$to/log" 2>&1 || { tail -n 30 "$to/log" >&2 && exit 1; }
    touch "$to/complete"
}

# build_extension NAME SOURCES FLAG...: the package, with the extension, in its folder.
build_extension() {
    local python=$root/$1/objects/python lib=$root/$1/lib-${2//\//-}
    mkdir -p "$lib/sglang_collect"
    cp -R sglang_collect/. "$lib/sglang_collect"
    rm -f "$lib"/sglang_collect/*.so
    # shellcheck disable=SC2046 # several flags each
    clang -std=c11 -shared -fPIC -O1 -g -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Werror -pthread \
        "${@:3}" "-I$2/core" "-I$root/source/Include" "-I$root/$1/objects" $(curl-config --cflags) \
        "$2"/core/*.c "$2"/binding/*.c $(curl-config --libs) -lz \
        -o "$lib/sglang_collect/_core$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')"
    echo "$lib"
}

# CPython's own races are not ours, nor is that of its accept(), in the server of the tests.
under_tsan() {
    cp "$root/source/Tools/tsan/suppressions_free_threading.txt" "$root/suppressions"
    echo "race:sock_accept_impl" >>"$root/suppressions"
    TSAN_OPTIONS="suppressions=$root/suppressions" \
        PYTHONPATH=$1:$PWD/tests "$root/tsan/objects/python" tests/together.py "$2"
}

mkdir -p "$root"
tools/setup.sh threads
[ -e "$root/source/configure" ] || fetch
[ -e "$root/plain/complete" ] || build_python plain
[ -e "$root/tsan/complete" ] || CC=clang build_python tsan --with-thread-sanitizer

# What counts the bytes of malloc is left out: without a GIL Python has another allocator.
lib=$(build_extension plain csrc)
python=$root/plain/bin/python3.13t
[ -e "$python" ] || make -s -C "$root/plain/objects" install >>"$root/plain/log" 2>&1
# Of each the newest that is there for this Python, which is not always the newest.
"$python" -m pip install -q --disable-pip-version-check --root-user-action ignore --only-binary :all: \
    pydantic pytest pytest-asyncio pytest-timeout typing-extensions
PYTHONPATH=$lib:$PWD/tests "$python" tests/together.py 20
(
    tests=$PWD/tests
    cd "$lib"
    PYTHONPATH=$lib "$python" -m pytest -q -c "$tests/../pyproject.toml" -p no:cacheprovider \
        -p sglang_collect.pytest_plugin -k "not leave_nothing_behind" \
        "$tests"/test_{core_page,core_columns,core_objects,core_plan,core_scraper,collector,fleet,stress}.py
)

under_tsan "$(build_extension tsan csrc -fsanitize=thread)" 10
rm -rf "$root/twin"
cp -R csrc "$root/twin"
sed -i 's/^#ifndef Py_BEGIN_CRITICAL_SECTION$/#undef Py_BEGIN_CRITICAL_SECTION\n#undef Py_END_CRITICAL_SECTION\n#if 1/' \
    "$root/twin/binding/binding.h"
if under_tsan "$(build_extension tsan build/free-threaded/twin -fsanitize=thread)" 10 >"$root/twin.log" 2>&1; then
    echo "objects without locks are not found out" >&2
    exit 1
fi
grep -q "WARNING: ThreadSanitizer: data race" "$root/twin.log"
