# make demo          the whole path on a sample archive, then the review page (ONCE=1: run and exit)
# make test          install what the tests need, run every test
# make check         format, lint, types, import rules, lock
# make lock          compile requirements.lock and requirements-dev.lock anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ONCE ?=
# A worker for each core, at most four (each has servers of its own), with one torch thread; a file is run by one
# worker, so that its fixtures are made once, and the slow files come first.
WORKERS ?= --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check lock bench clean

demo: $(VENV)/.runtime
	$(BIN)/firstread demo $(if $(ONCE),--once)

test: $(VENV)/.dev
	sh tests/peers.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tests/check_lock.py

$(VENV)/.runtime: requirements.lock pyproject.toml scripts/environment.sh
	PYTHON="$(PYTHON)" sh scripts/environment.sh $(VENV) requirements.lock
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	PYTHON="$(PYTHON)" sh scripts/environment.sh $(VENV) requirements-dev.lock
	touch $@

lock:
	sh scripts/lock.sh

clean:
	rm -rf $(VENV) firstread-data .mypy_cache .ruff_cache .pytest_cache
