#!/usr/bin/env bash
# The extension in a debug build of Python, which counts references and checks what it
# is given: every call again and again, and with every allocation failing. Then the calls
# under valgrind. Debian's python3-dbg is one; DEBUG_PYTHON names another.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${DEBUG_PYTHON:-python3-dbg}
config=$python-config
curl=${CURL_CONFIG:-curl-config}
lib=build/debug-python
package=$lib/sglang_collect

mkdir -p "$package"
cp -R sglang_collect/. "$package"
rm -f "$package"/*.so

# shellcheck disable=SC2046 # several flags each
cc -std=c11 -shared -fPIC -O1 -g -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Werror -pthread -Icsrc/core \
    $("$config" --includes) $("$curl" --cflags) csrc/core/*.c csrc/binding/*.c \
    -o "$package/_core$("$config" --extension-suffix)" $("$curl" --libs) -lz

export PYTHONPATH=$PWD/$lib:$PWD/tests
"$python" tests/refcounts.py
if "$python" tests/refcounts.py planted 2>/dev/null; then
    echo "a reference that was left behind on purpose is not found" >&2
    exit 1
fi
GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0 "$python" tests/no_memory.py
PYTHONMALLOC=malloc valgrind -q --suppressions=tools/valgrind_python.supp --error-exitcode=99 \
    "$python" tests/refcounts.py
