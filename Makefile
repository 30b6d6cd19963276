# make quickstart   install, then: from raw text to a language model that speaks
# make test         the tests;  make test-all also runs the slow ones;  make check: style, types, import direction
# make install      only the installation, into .venv

PYTHON  ?= python3
# Test processes side by side, one thread each; WORKERS=0 runs them in one process.
WORKERS ?= 2

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST  := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n $(WORKERS)

.PHONY: install quickstart test test-all check

install: $(STAMP)

quickstart: install
	@$(BIN)/yuwen quickstart

test: install
	@$(PYTEST)

test-all: install
	@$(PYTEST) -m "slow or not slow"

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_imports.py

# Runs again only when the requirements changed. PyTorch comes first and alone, at the pinned version: left to a range,
# pip may choose a newer build that brings gigabytes of GPU libraries.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "yuwen needs Python 3.10 or newer, and '$(PYTHON)' is not one: make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch into $(VENV) (a few minutes the first time) ..."
	@$(PIP) install -c constraints.txt torch
	@echo "Installing yuwen and what it needs ..."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
