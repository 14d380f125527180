#!/usr/bin/env bash
# The tests of what uses them, with the oldest series of each package that pyproject.toml
# allows: pydantic 2.7, FastAPI 0.113, ... Three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

oldest=$(.venv/bin/python - <<'PYTHON'
import importlib.metadata
import re

for requirement in importlib.metadata.requires("sglang-collect") or ():
    found = re.fullmatch(r"""([\w-]+)>=([\d.]+)(?:; extra == ["'](?:api|cli)["'])?""", requirement)
    if found:
        print(f"{found[1]}=={found[2]}.*")
PYTHON
)
echo "With" $oldest
.venv/bin/python -m venv "$folder"
# What only tests need; a newer anyio warns of what Starlette's test client of that time does.
"$folder/bin/pip" install -q $oldest 'anyio<4.4' httpx pytest pytest-asyncio pytest-timeout pytest-xdist \
    hypothesis trustme typing-extensions
# rich 13 takes an empty NO_COLOR for one that is set.
PYTHONPATH=$PWD "$folder/bin/python" -m pytest -q -n 2 tests/test_models.py tests/test_window.py \
    tests/test_api.py tests/test_api_fleet.py tests/test_sglang_api.py tests/test_simulator.py \
    tests/test_cli.py --deselect tests/test_cli.py::test_the_console_script_is_the_module \
    --deselect tests/test_cli.py::test_a_terminal_gets_colours_unless_no_color_is_set
