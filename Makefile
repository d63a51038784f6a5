# Each target does everything on a fresh machine: own virtual environment, install, run.
# It needs Python >= 3.11 and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-output

.PHONY: help test test-all demo lint format bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[lint]"
	touch $@

test: $(VENV)/.installed ## run the tests (all but the slow ones)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(VENV)/.installed ## run every test
	$(BIN)/python -m pytest -n 2

demo: $(VENV)/.installed ## predict the sample photographs and film, and write a page that shows them
	$(BIN)/imgtofmri demo --output $(OUT)

lint: $(VENV)/.installed-lint ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-lint ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed ## measure what the README quotes
	$(BIN)/python benchmarks/predict.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
