# Each target does everything on a fresh machine: own virtual environment, install, run.
# It needs Python >= 3.11 and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-output
# The first of some Pythons that this machine has: on the PATH, or one of pyenv's.
first_python = $(shell \
  for version in $(1); do \
    for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
      if "$$python" -c "import ensurepip, venv" 2>/dev/null; then echo "$$python"; exit; fi; \
    done; \
  done)
NEWEST ?= $(call first_python,3.14 3.13 3.12)
# Each of the lowest releases has wheels for it.
OLDEST ?= $(or $(call first_python,3.11),$(PYTHON))
# What `make bench` is asked for, e.g. BENCH="--quick --against ../another-checkout".
BENCH ?=
# Python compiles what it imports, and keeps it for all the processes that tests start; to compile all that is
# installed takes as long as to install it.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
# Two tests at a time; who has none left takes some of the other's.
BOTH := -n 2 --dist worksteal
# The files that have tests of a mark: to load all others, too, takes longer than some marks' tests.
marked = $(shell grep -l "pytest\.mark\.$(1)\b" tests/*.py)
# Which PyTorch `make test-torch` installs, e.g. TORCH===2.13.0; the newest that fits by default.
TORCH ?=

.PHONY: help test test-slow test-all environments test-newest test-lowest test-bids test-browser test-openvino test-torch test-extras docs trust mutants release-check demo lint format bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -e ".[test]"
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[lint]"
	touch $@

test: $(VENV)/.installed ## run the tests (all but the slow ones)
	$(BIN)/python -m pytest $(BOTH) -m "not slow"

test-slow: $(VENV)/.installed ## run the slow tests, but for the long ones
	$(BIN)/python -m pytest $(BOTH) -m "slow and not long" --durations=15

test-all: $(VENV)/.installed ## run every test
	$(BIN)/python -m pytest $(BOTH)

environments: $(VENV)-lowest/.installed ## make those of test-lowest and test-newest
ifneq ($(NEWEST),)
	$(MAKE) PYTHON="$(NEWEST)" VENV="$(VENV)-newest" "$(VENV)-newest/.installed"
endif

# Some packages give their newest release to a newer Python alone.
test-newest: ## run the tests on the newest Python found here, in an environment of its own
ifeq ($(NEWEST),)
	@echo "test-newest: skipped, as no Python of 3.12 to 3.14 was found here"
else
	$(MAKE) test PYTHON="$(NEWEST)" VENV="$(VENV)-newest"
endif

$(VENV)-lowest/.installed: pyproject.toml constraints/lowest.txt
	$(OLDEST) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python $(INSTALL) -e ".[test]" -c constraints/lowest.txt
	touch $@

# Old releases mind what newer ones of others have: that is no news of this package.
test-lowest: $(VENV)-lowest/.installed ## run the tests on Python 3.11 with the lowest releases that the bounds admit
	PYTEST_ADDOPTS="-W ignore::DeprecationWarning" $(VENV)-lowest/bin/python -m pytest $(BOTH) -m "not slow"

$(VENV)/.installed-bids: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[bids]"
	touch $@

test-bids: $(VENV)/.installed-bids ## install the BIDS validator and check what is written with it; none may skip
	IMGTOFMRI_NO_SKIPS=1 $(BIN)/python -m pytest -m bids tests/test_bids.py

$(VENV)/.installed-browser: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[browser]"
	touch $@

test-browser: $(VENV)/.installed-browser ## test the pages in Chromium, which must be installed
	IMGTOFMRI_SITE=$(wildcard docs/_build/html) $(BIN)/python -m pytest $(BOTH) tests/test_report_browser.py tests/test_serve_browser.py tests/test_site_browser.py

$(VENV)/.installed-openvino: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[openvino]"
	touch $@

test-openvino: $(VENV)/.installed-openvino ## install OpenVINO and run the tests that need it; none may skip
	IMGTOFMRI_NO_SKIPS=1 $(BIN)/python -m pytest $(BOTH) -m openvino $(call marked,openvino)

$(VENV)/.installed-torch: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[torch]" "torch$(TORCH)"
	touch $@

test-torch: $(VENV)/.installed-torch ## install PyTorch and run the tests that need it; none may skip
	IMGTOFMRI_NO_SKIPS=1 $(BIN)/python -m pytest $(BOTH) -m torch $(call marked,torch)

# One after the other: they install into one environment.
test-extras: ## test-bids, test-openvino and test-torch
	$(MAKE) test-bids
	$(MAKE) test-openvino
	$(MAKE) test-torch

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python $(INSTALL) -e ".[docs]"
	touch $@

# Nothing is asked of a network but, where it can be had, the published encoder for its card and the tutorials.
docs: $(VENV)/.installed-docs ## build the documentation site (docs/_build/html), run its examples, check its links
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -d docs/_build/doctrees -b doctest docs docs/_build/doctest
	IMGTOFMRI_SITE=docs/_build/html $(BIN)/python -m pytest tests/test_site.py

# Seeded: what is found is found again, by tools/fuzz.py --target NAME --replay NUMBER.
trust: $(VENV)/.installed ## feed two million damaged files to every reader, and kill two hundred runs (hours)
	$(BIN)/python tools/fuzz.py --inputs 2000000
	$(BIN)/python tools/trust_kills.py --kills 200 --seed 0

$(VENV)/.installed-mutants: $(VENV)/.installed
	$(BIN)/python $(INSTALL) pytest-cov
	touch $@

# Which mutants, e.g. MUTANTS="--sample 0 stats/intervals.py".
mutants: $(VENV)/.installed-mutants ## change the code in small ways, and list the changes that no test notices (hours)
	$(BIN)/python tools/mutate.py $(MUTANTS)

# RELEASE="--without container" leaves out what takes longest; IMGTOFMRI_WEIGHTS names the weights to predict with.
release-check: ## build what a release hands out twice, look inside, install it, predict; weigh the container
	$(PYTHON) tools/release_check.py --oldest "$(OLDEST)" --newest "$(or $(NEWEST),$(PYTHON))" $(RELEASE)

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

bench: $(VENV)/.installed ## measure what docs/explanation/speed.md quotes (an hour; BENCH=--quick: minutes)
	$(BIN)/python benchmarks/bench.py $(BENCH)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-newest $(VENV)-lowest docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
