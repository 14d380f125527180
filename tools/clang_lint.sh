#!/usr/bin/env bash
# A second compiler's warnings as errors, then clang-tidy, over core and binding.
set -euo pipefail
cd "$(dirname "$0")/.."

python_headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
flags=(-std=c11 -Wall -Wextra -Werror -Icsrc/core -isystem "$python_headers")
read -r -a curl_flags <<<"$("${CURL_CONFIG:-curl-config}" --cflags)"
flags+=("${curl_flags[@]}")

sources=(csrc/core/*.c csrc/binding/*.c)
clang -fsyntax-only "${flags[@]}" "${sources[@]}"
printf '%s\n' "${sources[@]}" | xargs -P 2 -I{} clang-tidy --quiet {} -- "${flags[@]}" \
    2> >(grep -v 'warnings\? generated' >&2)
