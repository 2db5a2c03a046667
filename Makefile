# Needs Python 3.11 or newer with venv and pip; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= runs
# A process takes up to 6 GB, and most of its time is single-threaded compilation. The
# files go out in their order: the long ones come before the many short ones.
TEST_PROCESSES ?= 2
SPREAD := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=10
# The tests' programs run once or twice, on small arrays. With little optimisation they
# compile in a third of the time, and with XLA's older emitters of loops in four fifths of
# that. An XLA that does not know these emitters takes its own. `make test-all` and
# `make coverage` optimise as users do.
OLDER_EMITTERS := --xla_cpu_use_fusion_emitters=false
LITTLE_OPTIMISATION := JAX_DISABLE_MOST_OPTIMIZATIONS=1

SOAK_MINUTES ?= 30
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: help demo reproduce results test test-all soak coverage mutants test-versions lint docs clean

help:
	@echo "make demo       every study in small on embedded data, then a report (minutes)"
	@echo "make reproduce  every study, to the first look that decides it (hours; resumable)"
	@echo "make results    docs/results.md and the README's table from finished seeds"
	@echo "make test       the tests (about half an hour)"
	@echo "make test-all   the tests and the long ones"
	@echo "make soak       kills, damage and bad input for SOAK_MINUTES=30, and a table"
	@echo "make coverage   the lines that make test reaches; fails below 90 %"
	@echo "make mutants    mutation testing of MODULE=schedules, so many SAMPLE=40"
	@echo "make test-versions  a part of the tests with the lowest and newest versions"
	@echo "make docs       the pages of docs/, to docs/_build (a minute)"
	@echo "make lint       format, lint and types"

demo: .venv/installed
	@echo "== The studies of the demo preset; up to half an hour on 2 cores."
	$(BIN)/python -m experiments.reproduce --preset demo --workdir $(WORKDIR)

reproduce: .venv/installed
	@echo "== The studies on embedded data, seeds up to the first look that decides them;"
	@echo "== at most 90 CPU minutes each."
	@echo "== Interrupt it at will: the same command goes on where it was."
	$(BIN)/python -m experiments.reproduce --preset digits --workdir $(WORKDIR)

results: .venv/installed
	$(BIN)/python -m experiments.results --workdir $(WORKDIR)

test: .venv/installed-test
	@echo "== The tests; about half an hour on 2 cores."
	@flags="$$XLA_FLAGS $(OLDER_EMITTERS)"; \
	XLA_FLAGS=$$flags $(BIN)/python -c 'import jax; jax.devices()' 2>/dev/null \
	  && export XLA_FLAGS="$$flags"; \
	$(LITTLE_OPTIMISATION) $(BIN)/python -m pytest -m "not long" $(SPREAD)

test-all: .venv/installed-test-all
	@echo "== All tests, the long ones too."
	$(BIN)/python -m pytest $(SPREAD)

soak: .venv/installed-test
	@echo "== Kills, damage and bad input; $(SOAK_MINUTES) minutes and a little."
	$(BIN)/python -m tests.faults.soak --minutes $(SOAK_MINUTES)

coverage: .venv/installed-test
	@echo "== The tests with their coverage; about 20 minutes on 2 cores."
	$(BIN)/python -m pytest -m "not long" --cov=kd_heuristics --cov-report=term \
	  --cov-fail-under=90

mutants: .venv/installed-mutate
	@echo "== Each mutant runs its tests: seconds to a minute each."
	$(BIN)/python -m tests.mutation $(or $(MODULE),schedules) --sample $(or $(SAMPLE),40)

# A fresh environment for each: the lowest versions (Colab's) and the newest.
test-versions:
	@for python in $(PYTHONS); do \
	  command -v $$python >/dev/null || { echo "== no $$python here"; continue; }; \
	  for set in lowest newest; do \
	    sh tests/versions.sh $$python $$set || exit 1; \
	  done; \
	done

lint: .venv/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check

.venv/installed-mutate: pyproject.toml | .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutate]'
	@touch $@

docs: .venv/installed-docs
	@echo "== The documentation; about a minute. Warnings are errors."
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build
	@echo "docs: $(CURDIR)/docs/_build/index.html"

clean:
	rm -rf .venv build dist docs/_build .pytest_cache .ruff_cache .hypothesis

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,notebooks,browser,tensorboard]'
	@touch $@ .venv/installed

.venv/installed-test-all: .venv/installed-test
	@echo "== Installing Ray into .venv, for sweeps; about 300 MB."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint,sweep]'
	@touch $@

.venv/installed-docs: pyproject.toml | .venv/bin/python
	@echo "== Installing into .venv; one to three minutes, about 1 GB."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
