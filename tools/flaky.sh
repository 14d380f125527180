#!/usr/bin/env bash
# Which tests fail by luck? Runs pytest again and again beside loops that keep the processors
# busy, so that everything takes five times as long or more, and names what failed.
#
#   tools/flaky.sh                     three rounds of all tests
#   tools/flaky.sh 10 -k watch         ten rounds of some
#   ASAN=1 tools/flaky.sh 1            with the extension under ASan and UBSan
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-3}
shift || true
command=(.venv/bin/python -m pytest)
[ -z "${ASAN:-}" ] || command=(tools/pytest_asan.sh)

burners=()
trap 'kill "${burners[@]}"' EXIT
for ((n = 4 * $(nproc); n > 0; n--)); do
    while :; do :; done &
    burners+=($!)
done

mkdir -p build
for ((round = 1; round <= rounds; round++)); do
    "${command[@]}" -q -n 2 --dist loadfile -p no:cacheprovider -rfE "$@" >"build/flaky-$round.log" 2>&1 || true
    echo "round $round: $(grep -E '^[0-9]+ (passed|failed)|^=* ?[0-9]+ (passed|failed)' "build/flaky-$round.log" | tail -n 1)"
done
echo "failed, and in how many rounds:"
cat build/flaky-*.log | sed -nE 's/^(FAILED|ERROR) ([^ ]+).*/\2/p' | sort | uniq -c | sort -rn
