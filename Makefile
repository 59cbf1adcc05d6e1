.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is imported is compiled when it is: all of it would take longer than half of the tests.
PIP_FLAGS := --quiet --no-compile

.PHONY: help demo test test-all check docs build clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt torch
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(BIN)/.installed ## prune the reference model by 4 layers into out/
	$(BIN)/coterie prune reference --remove 4 --budget 96 --output out --overwrite
	@echo "the page of this run: out/report.html"

test: $(BIN)/.installed ## the tests, without the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test-all: $(BIN)/.installed ## all tests, the slow ones too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "" --numprocesses auto --maxprocesses 8 --dist loadfile

check: $(BIN)/.installed ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(BIN)/.installed ## the site, built without a network into site/
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	$(BIN)/mkdocs build --strict

build: $(BIN)/.installed ## wheel and sdist
	$(BIN)/python -m build

clean: ## remove what was built
	rm -rf $(VENV) out dist site
