#!/usr/bin/env bash
# Fetches uPlot, which draws the dashboard's charts, from npm: another version is another two lines here.
set -euo pipefail

version=1.6.32
integrity=sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==

here=$(cd "$(dirname "$0")/../sglang_collect/dashboard/vendor" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm pack --silent "uplot@$version" >/dev/null
if [ "sha512-$(openssl dgst -sha512 -binary "uplot-$version.tgz" | base64 -w 0)" != "$integrity" ]; then
    echo "uplot-$version.tgz is not the package that was looked at" >&2
    exit 1
fi
tar -xzf "uplot-$version.tgz"
cp package/dist/uPlot.esm.js package/dist/uPlot.min.css "$here"
cp package/LICENSE "$here/uPlot.LICENSE"
