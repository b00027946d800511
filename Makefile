# From a bare checkout with Python 3.11+, make and git: `make demo` tells the story, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What is imported is compiled then, once; compiling all that is installed took two thirds of installing it.
INSTALL := $(PIP) install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE
STAMP := $(VENV)/.installed

.PHONY: demo test check fix lint types imports compiled tests wheel bench bench-pipeline bench-tracking bench-data bench-peers torture clean

## Tell the whole loop on a copy of the sample in demo/ (core dependencies only).
demo: $(VENV)/.core
	$(BIN)/python scripts/demo.py

## Everything CI runs: format, lint, types, import contract, the built wheel in a clean environment, tests.
test: $(STAMP)
	$(MAKE) --jobs 2 types wheel compiled lint imports
	$(MAKE) tests

check: lint types imports tests

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	PYTHONPATH=. $(BIN)/lint-imports

# What the tests and what they start import, compiled once beside the types: else each process of pytest does it anew, and so does
# each worker of ours, which never writes it.
compiled: $(STAMP)
	$(BIN)/python -m compileall -q mlops_local
	$(BIN)/python -c "import onnxmltools.convert.lightgbm.convert"
	@said=$$($(BIN)/python -m pytest -qq --collect-only) || { echo "$$said"; exit 1; }

tests: $(STAMP)
	$(BIN)/python -m compileall -q mlops_local # as installed: else each process a test starts compiles it anew
	$(BIN)/python -m pytest -q -n 3 --dist worksteal # many wait for files and processes

fix: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## The built wheel, installed alone in a clean environment, makes the sample from its own files.
wheel: $(STAMP)
	$(BIN)/python scripts/check_wheel.py

## Workloads beside their floors and peers, tracked as runs of this repository's own project.
bench: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh benchmarks/run.sh

## Planning, running and watching, beside plain Python and the peers that are installed. Slowness does not fail it.
bench-pipeline: $(STAMP)
	@for name in pipeline steps watch; do \
		if [ -f benchmarks/$$name.py ]; then echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; fi; \
	done

## One project under fire for five minutes: killed writers, a full disk, stopped readers, jumping clocks, torn files.
torture: $(STAMP)
	$(BIN)/python -m tests.torture --seconds 300

## Logging, beside a bare writer and the peers that are installed. Slowness does not fail it; a lost point does.
bench-tracking: $(STAMP)
	$(BIN)/python benchmarks/track.py
	$(BIN)/python benchmarks/query.py
	$(BIN)/python benchmarks/fold.py

## Snapshots of a large file and of many small ones, beside dvc and cp; profiles and differences of tables, beside DuckDB.
bench-data: $(STAMP)
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/tables.py

## The tools the benchmarks stand beside, pinned, in an environment of their own.
bench-peers: benchmarks/peers.txt
	$(PYTHON) -m venv benchmarks/.peers
	benchmarks/.peers/bin/python -m pip --disable-pip-version-check install --quiet -r benchmarks/peers.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mlops_local needs Python 3.11 or newer; pass PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -c constraints.txt -e .
	@touch $@

# Torch first and exactly: a range could pull a build of several gigabytes.
$(STAMP): pyproject.toml constraints.txt requirements-dev.txt | $(VENV)/bin/python
	$(INSTALL) torch==2.13.0
	$(INSTALL) -c constraints.txt -e ".[all]" -r requirements-dev.txt
	@touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) benchmarks/.peers demo dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
