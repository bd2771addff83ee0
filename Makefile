# make demo          the whole path on a sample archive, then the review page (ONCE=1: run and exit)
# make test          run every test; PEERS=install has apt install the peers that they speak to, PEERS=skip does without
# make test-one      one test file or test, in seconds: make test-one T=tests/unit/test_tally.py
# make fuzz          the fuzz of every parser that meets a peer's bytes, for about twenty minutes (make test has a minute of it)
# make coverage      which lines changed since BASE no test of T runs: make coverage BASE=origin/main T=tests/unit
# make check         format, lint, types, import rules, lock
# make lock          compile both locks and requirements.sha256 anew (UPGRADE=1: with the newest versions)
# make sbom          write sbom.json: what ships and what the tests use, by name, version, digest and licence (CycloneDX)
# make clean         remove the environment, the demo's data and the caches

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ONCE ?=
PEERS ?=
# One worker more than cores, since tests also wait for servers, at most four (each has servers of its own), with one
# torch thread; a file is run by one worker, so that its fixtures are made once, and the slow files come first.
WORKERS ?= --numprocesses $(shell expr $$(nproc) + 1) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-one fuzz coverage check lock sbom clean

demo: $(VENV)/.runtime
	$(BIN)/firstread demo $(if $(ONCE),--once)

test: $(VENV)/.dev
	PEERS="$(PEERS)" sh tests/peers.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

test-one: $(VENV)/.dev
	@test -n "$(T)" || { echo "which test? make test-one T=tests/unit/test_tally.py"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 -q $(PYTEST_ARGS) $(T)

fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 -q --hypothesis-profile=long tests/unit/test_fuzz_parsers.py

BASE ?= origin/main
coverage: T ?= tests/unit
coverage: $(VENV)/.dev
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n0 -q $(PYTEST_ARGS) $(T)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage json -q -o .coverage.json
	$(BIN)/python -m tests.changed_lines $(BASE) .coverage.json

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.check_lock

$(VENV)/.runtime: requirements.lock requirements.sha256 pyproject.toml scripts/environment.sh
	PYTHON="$(PYTHON)" sh scripts/environment.sh $(VENV) requirements.lock
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	PYTHON="$(PYTHON)" sh scripts/environment.sh $(VENV) requirements-dev.lock
	touch $@

lock: $(VENV)/.dev
	sh scripts/lock.sh

sbom: $(VENV)/.dev
	$(BIN)/python -m scripts.sbom > sbom.json

clean:
	rm -rf $(VENV) firstread-data .mypy_cache .ruff_cache .pytest_cache
