# make help lists what can be done. Set-up happens once, in .venv, and again only when what it depends on changes.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help run sweep test test-all lint bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## set up and learn a factor analysis of the MovieLens ratings; ARGS="..." adds overrides
	$(BIN)/lgm-run model=factor_analysis method=unroll $(ARGS)

sweep: $(VENV)/.run ## the three methods, three seeds each; ARGS="..." adds overrides
	$(BIN)/lgm-run --multirun model=factor_analysis method=em,gradient_em,unroll seed=0,1,2 $(ARGS)

test: $(VENV)/.dev ## set up and pass the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow" $(ARGS)

test-all: $(VENV)/.dev ## the long tests too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(ARGS)

lint: $(VENV)/.dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.run ## what a step and a run cost, exact and unrolled, beside the machine's own rate
	$(BIN)/python experiments/bench/step_cost.py $(ARGS)
	$(BIN)/python experiments/bench/sparse_signal.py
	$(BIN)/python experiments/bench/learning.py
	$(BIN)/python experiments/bench/discrete.py
	$(BIN)/python experiments/bench/ratings.py
	$(BIN)/python experiments/bench/preconditioners.py --large --repeats 2

clean: ## remove the set-up and the caches; outputs/ stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), once; a few minutes"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV), with what the tests need, once; a few minutes"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data,dev]'
	@touch $(VENV)/.run $@
