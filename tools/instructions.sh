#!/usr/bin/env bash
# How many more instructions a page takes that is twice as long: each page of
# tests/c/test_linear.c in each of its modes, 256 and 512 KiB of it, counted by
# callgrind. Time grows by more where tables outgrow the caches; this tells that
# the work does not.
#
#   tools/instructions.sh [NAME...]
set -euo pipefail
cd "$(dirname "$0")/.."

most=2.2
small=$((1 << 18))
program=build/c-plain/test_linear

make -s -f tools/ctest.mk build/c-plain/test_linear

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=sgc_page_parse \
        --toggle-collect=sgc_plan_fold "$program" once "$@" 2>&1 | sed -n 's/.*Collected : *//p'
}

# One line: NAME MODE, its two counts and by how much they grow.
grown() {
    printf '%-30s %-12s %12s %12s\n' "$1" "$2" "$(count "$1" "$2" $small)" "$(count "$1" "$2" $((2 * small)))" |
        awk -v most=$most '{
            # What is refused at its first line takes next to nothing, and no more of it.
            ratio = $3 ? $4 / $3 : 0
            print $0, sprintf("%6.2f", ratio) (ratio > most ? "  MORE THAN " most : "")
            exit ratio > most
        }'
}

export -f count grown
export most small program
"$program" list | awk -v names=" $* " 'names == "  " || index(names, " " $1 " ")' |
    xargs -P 2 -L 1 bash -c 'grown "$@"' grown
