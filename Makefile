# make demo and make test need git, make and Debian 12 or newer (or what
# tools/setup.sh would install); everything else they fetch and build themselves.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
C_FILES := $(wildcard csrc/*/*.c csrc/*/*.h tests/*/*.c tests/*/*.h)
CORE_FILES := setup.py $(wildcard csrc/*/*)
JOBS := -j2 -k -Otarget
CTEST := $(MAKE) -f tools/ctest.mk $(JOBS)
SPREAD := -n 2 --dist loadfile # over two processes, a file in one of them

.PHONY: help twins demo top-demo dashboard-demo test test-c test-py check check-rest format format-check lint types \
        test-c-sanitized test-free-threaded flaky test-py-debug test-py-sanitized generated package wheels cross bench setup clean docs fuzz fuzz-replay fuzz-coverage drift drift-pinned deep

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## a simulated SGLang server, scraped: the snapshot and its truth
	@$(PY) -m sglang_collect demo

top-demo: setup ## a live screen of simulated servers
	@$(PY) -m sglang_collect top --demo

dashboard-demo: setup ## the same servers on a page for the browser
	@$(PY) -m sglang_collect serve --demo

test: test-c test-py ## C tests and pytest

check: test check-rest ## everything that has to hold before a commit

# What keeps both processors busy by itself comes last.
check-rest: setup .venv/.analysers
	@tools/two_at_a_time.sh twins test-py-debug package types lint drift-pinned docs format-check
	@$(MAKE) test-c-sanitized fuzz-coverage fuzz test-py-sanitized

# ------------------------------------------------------------------- set-up

setup: .venv/.core ## packages of the system, .venv, the extension

.venv/.packages: pyproject.toml tools/setup.sh
	@tools/setup.sh build
	@touch $@

.venv/.core: .venv/.packages $(CORE_FILES)
	@$(PY) setup.py -q build_ext --inplace
	@touch $@

.venv/.analysers: .venv/.packages
	@tools/setup.sh check
	@touch $@

# -------------------------------------------------------------------- tests

test-c: .venv/.packages ## the core alone
	@$(CTEST)

test-py: setup ## pytest; PYTEST="-k guard" narrows it
	@$(PY) -m pytest $(SPREAD) $(PYTEST)

test-c-sanitized: .venv/.analysers ## the core under ASan and UBSan, TSan, valgrind
	@$(CTEST) FLAVOUR=asan
	@$(CTEST) FLAVOUR=portable TESTS="parse plan poller repeat scrape steady"
	@$(CTEST) FLAVOUR=tsan TESTS="scrape lesson pool poller"
	@$(CTEST) FLAVOUR=valgrind

twins: .venv/.packages ## the core with one safety broken at a time: its tests have to notice
	@$(PY) tools/twins.py

test-py-debug: .venv/.analysers ## every call of the extension in a debug build of Python, and under valgrind
	@tools/debug_python.sh

test-free-threaded: setup ## threads that share objects in a Python without a GIL, built first, and under TSan
	@tools/free_threaded.sh

test-py-sanitized: setup ## pytest with the extension under ASan and UBSan, and the coverage of the package
	@tools/pytest_asan.sh $(SPREAD)

flaky: setup ## the tests that fail by luck: pytest beside busy loops, three times
	@tools/flaky.sh 3

# --------------------------------------------------------- format and lint

format: setup ## rewrites Python and C in the project's layout
	@$(PY) -m ruff format --quiet
	@$(PY) -m ruff check --quiet --fix-only
	@.venv/bin/clang-format -i $(C_FILES)

format-check: setup
	@$(PY) -m ruff format --quiet --check
	@.venv/bin/clang-format --dry-run -Werror $(C_FILES)

lint: setup .venv/.analysers ## ruff, the rules of the rooms, clang's warnings, clang-tidy
	@$(PY) -m ruff check --quiet
	@$(PY) tools/lint_core.py
	@tools/clang_lint.sh

types: setup ## mypy and pyright, and the stub of the extension against the extension
	@$(PY) -m mypy
	@$(PY) -m pyright
	@$(PY) -m mypy.stubtest sglang_collect._core

generated: setup ## rewrites what scripts write: tables, golden pages, pages of docs/
	@for script in tools/make_*.py; do $(PY) $$script; done

docs: setup ## the site of docs/ in build/site, without a warning
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@$(PY) tools/check_site.py build/site

package: setup ## an sdist, a wheel from it, and the wheel at work
	@tools/package.sh

cross: setup ## the core compiled for macOS, musl and 64-bit ARM, its parsing tests on the latter
	@tools/setup.sh cross
	@tools/cross.sh

wheels: setup ## the same for every CPython there is, with a libcurl of our own and all tests
	@tools/package.sh all

# ------------------------------------------------------- fuzzing, catalogue

fuzz-replay: .venv/.analysers ## the kept corpus through every fuzz target
	@tools/fuzz.sh replay

fuzz: .venv/.analysers ## new inputs, half a minute a target; SECONDS=600 for longer
	@tools/fuzz.sh run $(or $(SECONDS),30)

fuzz-coverage: .venv/.analysers ## the kept corpus runs at least 98 % of the reader's lines
	@tools/fuzz.sh coverage

drift: setup ## the metrics of the newest SGLang against the catalogue
	@$(PY) tools/drift.py

drift-pinned: setup ## the same of pinned releases
	@$(PY) tools/drift.py 0.5.6 0.5.10 0.5.23

# --------------------------------------------------------------------- rest

.venv/.rivals: .venv/.packages
	@tools/setup.sh bench
	@touch $@

deep: setup ## long runs: scrapes by the million, and what must hold meanwhile
	@$(CTEST) build/c-plain/test_soak
	@build/c-plain/test_soak 10000000
	@$(PY) tests/soak.py
	@$(PY) tests/stress.py
	@$(PY) tests/short_of_memory.py --all
	@SGLANG_COLLECT_EVERY_PREFIX=1 $(PY) -m pytest tests/test_truncation.py tests/test_faults_page.py
	@$(PY) -m pytest -s tests/test_guard_network.py tests/test_faults_network.py tests/test_api_load.py
	@$(PY) tools/mutate.py guard guard
	@tools/instructions.sh
	@tools/oldest_packages.sh
	@[ "$$(id -u)" -ne 0 ] || for suite in trixie sid; do tools/on_debian.sh $$suite; done
	@tools/every_python.sh

bench: setup .venv/.rivals ## measurements; never part of a check
	@for script in benchmarks/*.py; do echo "$$script"; $(PY) $$script; done

clean: ## removes what was built, and .venv
	rm -rf .venv build dist *.egg-info sglang_collect/*.so .coverage*
