#!/usr/bin/env bash
# Makes a machine ready for make. What is there already is left alone, so a
# second run needs no network.
#
#   tools/setup.sh build   compiler, libcurl, zlib, Python, and .venv with the package in it
#   tools/setup.sh check   the analysers that only `make check` runs
#   tools/setup.sh cross   the compiler for other systems, and the emulator, of `make cross`
#   tools/setup.sh bench   the others that `make bench` compares with
#   tools/setup.sh threads what `make test-free-threaded` builds a Python with
set -euo pipefail
cd "$(dirname "$0")/.."

# A Python we can build against: 3.10 or newer, with venv and its own headers.
usable_python() {
    "$1" -c '
import ensurepip, os, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 10) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
' 2>/dev/null
}

find_python() {
    local python
    for python in ${PYTHON:-python3 /usr/bin/python3}; do
        if usable_python "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

has_header() {
    echo "#include <$1>" | gcc -E - >/dev/null 2>&1
}

# Installs Debian packages, as root or through sudo.
install() {
    if [ $# -eq 0 ]; then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        echo "Missing, and there is no apt-get to install them: what Debian calls $*" >&2
        exit 1
    fi
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Missing packages. Run as root: apt-get install $*" >&2
            exit 1
        fi
        root=(sudo)
    fi
    echo "Installing $*"
    mkdir -p build
    if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get -q update && apt-get -qy install --no-install-recommends "$@"' sh "$@" >build/apt.log 2>&1; then
        cat build/apt.log >&2
        exit 1
    fi
}

build() {
    local missing=()
    command -v gcc >/dev/null || missing+=(gcc)
    command -v curl >/dev/null || missing+=(curl)
    has_header stdlib.h || missing+=(libc6-dev)
    command -v ip >/dev/null || missing+=(iproute2) # for tests in a network of their own
    has_header zlib.h || missing+=(zlib1g-dev)
    command -v curl-config >/dev/null || [ -n "${CURL_CONFIG:-}" ] || missing+=(libcurl4-openssl-dev)
    find_python >/dev/null || missing+=(python3 python3-venv python3-dev)
    install "${missing[@]}"

    local python
    if ! python=$(find_python); then
        echo "No Python 3.10 or newer with venv and headers; PYTHON=/path/to/python names one" >&2
        exit 1
    fi
    if ! .venv/bin/python -c '' 2>/dev/null; then
        "$python" -m venv --clear .venv
    fi
    echo "Installing the package and its tools into .venv"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
}

# Does clang have its fuzzer, and the sanitizers?
has_fuzzer() {
    mkdir -p build
    echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return p && n < 0; }' |
        clang -x c -fsanitize=fuzzer,address,undefined - -o build/fuzzer-probe 2>/dev/null
}

clang_runtime() {
    has_fuzzer || install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
}

check() {
    local missing=() tool
    for tool in clang clang-tidy valgrind prometheus chromium python3-dbg; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    install "${missing[@]}"
    clang_runtime
    # The gateway whose /engine_metrics the tests read. There is no wheel for other machines.
    if [ "$(uname -sm)" = "Linux x86_64" ]; then
        .venv/bin/python -m pip install -qq --disable-pip-version-check sglang-router==0.3.2
    fi
}

bench() {
    local missing=()
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
    command -v prometheus >/dev/null || missing+=(prometheus)
    install "${missing[@]}"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[bench]'
}

cross() {
    command -v qemu-aarch64 >/dev/null || install qemu-user
    .venv/bin/python -m pip install -qq --disable-pip-version-check ziglang==0.17.1
}

threads() {
    local missing=()
    command -v clang >/dev/null || missing+=(clang)
    command -v make >/dev/null || missing+=(make)
    command -v xz >/dev/null || missing+=(xz-utils)
    has_header openssl/ssl.h || missing+=(libssl-dev)
    has_header ffi.h || missing+=(libffi-dev)
    install "${missing[@]}"
    clang_runtime
}

case "${1:-}" in
    build | check | bench | cross | threads) "$1" ;;
    *)
        echo "usage: tools/setup.sh build|check|bench|cross|threads" >&2
        exit 2
        ;;
esac
