#!/usr/bin/env bash
# The fuzz targets tests/fuzz/fuzz_NAME.c, built by tools/fuzz.mk and run under
# ASan and UBSan.
#
#   tools/fuzz.sh replay             the kept corpus through every target
#   tools/fuzz.sh run SECONDS [NAME...]
#                                    new inputs, each target that long; what they
#                                    find out is kept in build/fuzz
#   tools/fuzz.sh coverage           lines of the reader that the kept corpus runs
#   tools/fuzz.sh merge              takes what was found out into the kept corpus
#
# An input that breaks a target is written to build/fuzz/findings, and named.
set -euo pipefail
cd "$(dirname "$0")/.."

corpus=tests/fuzz/corpus
work=build/fuzz
read_files=(lex.c parse.c sample.c repeat.c num.c)
readers=(text openmetrics number repeat steady memory)
goal=98

targets() {
    basename -a tests/fuzz/fuzz_*.c | sed 's/^fuzz_//; s/\.c$//'
}

# The kept inputs of a target: what merge left, and by name what was once wrong.
kept() {
    case $1 in
        answer | formula | number) echo "$corpus/${1}s" ;;
        json) echo "$corpus/json" ;;
        *) echo "$corpus/pages $corpus/found" ;;
    esac
}

# The words its inputs are made of.
words() {
    if [ "$1" = answer ]; then echo tests/fuzz/answer.dict; else echo tests/fuzz/exposition.dict; fi
}

# FLAVOUR [PROGRAM...]
build() {
    make -s -f tools/fuzz.mk -j2 FLAVOUR="$1" "${@:2}"
}

# A page is read many times over: slower than this is a fault.
limits=(-timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256)

replay() {
    local name status=0
    build asan
    mkdir -p "$work/findings"
    for name in $(targets); do
        if build/fuzz-asan/fuzz_"$name" "${limits[@]}" -artifact_prefix="$work/findings/$name-" -runs=0 \
            $(kept "$name") >"$work/$name.log" 2>&1; then
            echo "fuzz_$name: $(find $(kept "$name") -type f | wc -l) inputs replayed"
        else
            tail -n 30 "$work/$name.log"
            status=1
        fi
    done
    return $status
}

run_one() {
    local name=$1 seconds=$2
    mkdir -p "$work/$name"
    if ! build/fuzz-asan/fuzz_"$name" "${limits[@]}" -artifact_prefix="$work/findings/$name-" \
        -dict="$(words "$name")" -print_final_stats=1 -max_total_time="$seconds" -max_len=2048 "$work/$name" $(kept "$name") \
        >"$work/$name.log" 2>&1; then
        tail -n 30 "$work/$name.log"
        return 1
    fi
    echo "fuzz_$name: $(executions "$name") executions"
}

executions() {
    sed -n 's/^stat::number_of_executed_units: *//p' "$work/$1.log"
}

# Two at a time.
run() {
    local seconds=$1 name names n total=0 status=0
    shift
    names=${*:-$(targets)}
    build asan
    mkdir -p "$work/findings"
    for name in $names; do
        [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n || status=1
        run_one "$name" "$seconds" &
    done
    while [ -n "$(jobs -p)" ]; do wait -n || status=1; done
    for name in $names; do n=$(executions "$name"); total=$((total + ${n:-0})); done
    echo "$total executions in all"
    return $status
}

coverage() {
    local name objects=()
    build coverage "${readers[@]/#/build/fuzz-coverage/fuzz_}"
    rm -rf "$work/profiles"
    mkdir -p "$work/profiles"
    for name in "${readers[@]}"; do
        LLVM_PROFILE_FILE="$work/profiles/$name" build/fuzz-coverage/fuzz_"$name" -runs=0 $(kept "$name") \
            >"$work/$name.log" 2>&1
        objects+=("build/fuzz-coverage/fuzz_$name")
    done
    llvm-profdata merge -o "$work/profiles/all" "$work"/profiles/*
    # One object goes without the option.
    llvm-cov report -instr-profile="$work/profiles/all" "${objects[0]}" "${objects[@]/#/-object=}" \
        "${read_files[@]/#/csrc/core/}" |
        awk -v goal="$goal" '
            $1 ~ /\.c$/ {
                sub(/.*\//, "", $1)
                printf "%-10s %4d of %4d lines, %s\n", $1, $8 - $9, $8, $10
                low = low || $10 + 0 < goal
            }
            END { if (low) print "below the goal of " goal " %"; exit low }'
}

# Of inputs that run the same branches the smallest is kept.
merge_set() {
    local set=$1 name dirs
    shift
    rm -rf "$work/merged"
    mkdir -p "$work/merged"
    for name in "$@"; do
        dirs=("$corpus/$set")
        [ ! -d "$work/$name" ] || dirs+=("$work/$name")
        build/fuzz-asan/fuzz_"$name" "${limits[@]}" -merge=1 -use_counters=0 -max_len=2048 "$work/merged" \
            "${dirs[@]}" >"$work/$name.log" 2>&1
    done
    rm -rf "${corpus:?}/$set"
    mv "$work/merged" "$corpus/$set"
    echo "$corpus/$set: $(find "$corpus/$set" -type f | wc -l) inputs"
}

merge() {
    build asan
    merge_set answers answer
    merge_set formulas formula
    merge_set json json
    merge_set numbers number
    merge_set pages $(targets | grep -vx -e answer -e formula -e json -e number)
}

case "${1:-}" in
    replay | coverage | merge) "$1" ;;
    run) run "${2:?seconds}" "${@:3}" ;;
    *)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit 2
        ;;
esac
