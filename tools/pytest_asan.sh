#!/usr/bin/env bash
# pytest with the extension built under ASan and UBSan, measuring the coverage of
# the package on the way. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
lib=$root/build/asan/lib
python=$root/.venv/bin/python

SGLANG_COLLECT_BUILD=asan SGLANG_COLLECT_WERROR=1 "$python" setup.py -q build --build-base build/asan --build-lib "$lib"

preload="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export COVERAGE_RCFILE=$root/pyproject.toml COVERAGE_FILE=$root/build/asan/coverage
rm -f "$COVERAGE_FILE" "$COVERAGE_FILE".*

# From there, so that every `python -m sglang_collect` of a test finds this build.
(
    cd "$lib"
    env PYTHONPATH="$lib" PYTHONMALLOC=malloc LD_PRELOAD="$preload" \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
        "$python" -m coverage run -m pytest -c "$root/pyproject.toml" "$root/tests" "$@"
)
"$python" -m coverage combine --quiet
"$python" -m coverage report
