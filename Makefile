# Needs Python 3.11 or newer with venv and pip; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= runs

.PHONY: help demo reproduce test test-all lint clean

help:
	@echo "make demo       every study in small on embedded data, then a report (minutes)"
	@echo "make reproduce  every study with at least 3 seeds (an hour or more; resumable)"
	@echo "make test       the tests (under 15 minutes)"
	@echo "make test-all   the tests and the long ones"
	@echo "make lint       format, lint and types"

demo: .venv/installed
	@echo "== The studies of the demo preset; under 15 minutes on 2 cores."
	$(BIN)/python -m experiments.reproduce --preset demo --workdir $(WORKDIR)

reproduce: .venv/installed
	@echo "== The studies with 3 seeds on embedded data; about 20 minutes each on 2 cores."
	@echo "== Interrupt it at will: the same command goes on where it was."
	$(BIN)/python -m experiments.reproduce --preset digits --workdir $(WORKDIR)

test: .venv/installed-test
	@echo "== The tests; under 15 minutes on 2 cores."
	$(BIN)/python -m pytest -m "not long"

test-all: .venv/installed-test-all
	@echo "== All tests, the long ones too."
	$(BIN)/python -m pytest

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "== Installing into .venv; one to three minutes, about 1 GB."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	@echo "== Installing into .venv; one to three minutes, about 1 GB."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ .venv/installed

.venv/installed-test-all: .venv/installed-test
	@echo "== Installing Ray into .venv, for sweeps; about 300 MB."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,sweep]'
	@touch $@
