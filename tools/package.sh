#!/usr/bin/env bash
# Packs an sdist, builds a wheel from it, and uses the wheel away from the source.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$PWD/.venv/bin/python
out=build/package
rm -rf "$out"
mkdir -p "$out"

"$python" setup.py -q sdist --dist-dir "$out"
SGLANG_COLLECT_WERROR=1 "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-index \
    --no-build-isolation --wheel-dir "$out" "$out"/sglang_collect-*.tar.gz
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index --target "$out/installed" "$out"/*.whl

cd "$out/installed"
"$python" - <<'EOF'
import pathlib
import sglang_collect as sc

here = pathlib.Path.cwd()
package = pathlib.Path(sc.__file__).parent
assert package.is_relative_to(here), package
for name in ("py.typed", "_core.pyi", "catalog/sglang.py", "dashboard/index.html", "dashboard/vendor/uPlot.esm.js"):
    assert (package / name).is_file(), name
snapshot = sc.SGLangMetricsSnapshot.from_text("sglang:num_requests_running 4\n", instance_id="wheel")
assert snapshot.system_metrics.num_requests_running == 4
print(f"wheel of sglang-collect {sc.__version__}: works")
EOF
