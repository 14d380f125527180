#!/usr/bin/env bash
# Compiles the core for systems that are not at hand: macOS, Linux with musl, and
# 64-bit ARM, where the parsing tests also run, under qemu, since NEON is there.
# The compiler for all of them is zig's, from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."

# What a test uses of libcurl and zlib ends it here: these tests use none.
TESTS="num parse hist plan repeat columns steady table guard"
TARGETS="aarch64-macos x86_64-macos x86_64-linux-musl aarch64-linux-musl"

out=build/cross
headers=$out/include
mkdir -p "$headers"
header() {
    echo "#include <$1>" | gcc -M -E - | tr ' ' '\n' | grep "/$1$" | sort -u
}
ln -sfn "$(dirname "$(header curl/curl.h)")" "$headers/curl"
ln -sf "$(header zlib.h)" "$(header zconf.h)" "$headers"

compiler() {
    .venv/bin/python -m ziglang cc -target "$1" -std=c11 -O1 -pthread -Icsrc/core "-I$headers" "${@:2}"
}

for target in $TARGETS; do
    mkdir -p "$out/$target"
    for source in csrc/core/*.c; do
        compiler "$target" -Wall -Wextra -Werror -c "$source" -o "$out/$target/$(basename "$source" .c).o" &
        [ "$(jobs -r | wc -l)" -lt "$(nproc)" ] || wait -n
    done
    while [ -n "$(jobs -r)" ]; do wait -n; done
    echo "$target: compiles"
done

arm=$out/aarch64-linux-musl
nm -u "$arm"/*.o | awk '$1 == "U" && $2 ~ /^(curl_|inflate)/ {print "void " $2 "(void) { __builtin_trap(); }"}' |
    sort -u >"$out/absent.c"
compiler aarch64-linux-musl -w -fno-builtin -c "$out/absent.c" -o "$out/absent.o"
for test in $TESTS; do
    compiler aarch64-linux-musl -static -w -Itests/c "tests/c/test_$test.c" "$arm"/*.o "$out/absent.o" -o "$out/test_$test"
    qemu-aarch64 "$out/test_$test"
done
