# Every task of the project, one sentence each: `make help`.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

VENV   := .venv
PY     := $(VENV)/bin/python
# A stamp says that a step was done with the files it depends on as they are; they go with the environment.
STAMPS := $(VENV)/.stamps
WHEELS := build/wheel
# Programs in an environment carry the path of the folder that it was made in. In a copy of a checkout, or one that
# was moved, its stamps say nothing, and it is made anew.
$(shell [ "$$(cat $(STAMPS)/place 2>/dev/null)" = "$$PWD" ] || rm -rf $(STAMPS))

# Where the demo and the tests run: docker or native; empty means docker where an engine answers.
BACKEND ?=
# More for pytest, for example: make test PYTEST_ARGS='-k ring -x'
PYTEST_ARGS ?=
# How long `make fuzz` spends on each target.
SECONDS := 60

CRATES  := $(shell find dataplane -path dataplane/target -prune -o \( -name '*.rs' -o -name 'Cargo.*' \) -print)
PACKAGE := $(shell find orchestrator nextmini_py compose images topologies scenarios scripts/backend.py -name __pycache__ -prune -o -type f -print)

.PHONY: help setup native wheel base-image images demo test test-quick check fmt fuzz docs bench clean
help: ## list every target with one sentence
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMPS)/native ## make the environment in .venv with the native core and the program .venv/bin/nm

native: $(STAMPS)/runtime ## build the native core in release mode into the source tree
	@$(VENV)/bin/maturin develop --release --skip-install
	@[ ! -e $(STAMPS)/native ] || touch $(STAMPS)/native

wheel: $(STAMPS)/wheel ## build the wheel into build/wheel, the one that both images install

base-image: ## make a base image from Debian's packages, for an engine that can pull none
	@scripts/require.sh images && python3 scripts/images.py base

images: $(STAMPS)/wheel ## build the images where something changed (WITH_PYTHON="torch" WITH_PACKAGES="mtr-tiny": more in nodes)
	@scripts/require.sh images
	@$(PY) scripts/images.py all

demo: ## bring up the ring, multicast real model weights through it, print the table, take it down (BACKEND=native|docker)
	@scripts/demo.sh "$(BACKEND)"

test: ## install what the tests need and run every test (what CI runs)
	@scripts/test.sh

test-quick: $(STAMPS)/native $(STAMPS)/tools ## run the tests that need nothing but Python, in seconds
	@$(PY) -m pytest -q -m 'not integration and not system' $(PYTEST_ARGS)

check: $(STAMPS)/native $(STAMPS)/tools $(STAMPS)/docs-tools ## run every check that needs no network: types, lints, layers, stubs, workflows, docs
	@scripts/check.sh

fmt: $(STAMPS)/tools ## format Python and Rust
	@$(VENV)/bin/ruff check --fix -q . && $(VENV)/bin/ruff format -q .
	@cd dataplane && cargo fmt --all

fuzz: ## search for inputs that break the dataplane, every target for SECONDS=60 (needs cargo-fuzz)
	@FUZZ_SECONDS=$(SECONDS) scripts/fuzz.sh

docs: $(STAMPS)/native $(STAMPS)/docs-tools ## generate the reference from the code and build the pages into site/, warnings as errors
	@$(PY) -m scripts.reference
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo "the pages are in site/index.html"

bench: $(STAMPS)/native ## measure the dataplane, the start of large labs and the fidelity of links beside references (minutes; root)
	@$(PY) -m benchmarks

clean: ## remove everything that was built, but not the environment
	@rm -rf build dist site wheels dataplane/target nextmini_py/_native*.so
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -f $(STAMPS)/native $(STAMPS)/wheel
	@find orchestrator nextmini_py tests scenarios scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The steps behind the targets. Each is done once and again only after a change of what it depends on.
.PHONY: require-setup
require-setup:
	@scripts/require.sh setup

$(STAMPS)/venv: | require-setup
	@[ -x $(PY) ] && [ -e $(STAMPS)/place ] || { \
	    echo "making $(VENV)"; mkdir -p build; \
	    "$$(scripts/require.sh --python)" -m venv --clear $(VENV) >build/venv.log 2>&1 || { cat build/venv.log; exit 1; }; \
	    mkdir -p $(@D); pwd >$(STAMPS)/place; }
	@touch $@

$(STAMPS)/runtime: pyproject.toml scripts/requirements.py $(STAMPS)/venv | require-setup
	@echo "installing what the program needs"
	@$(PY) scripts/requirements.py build | xargs -d '\n' $(PY) -m pip install -q --disable-pip-version-check
	@touch $@

$(STAMPS)/tools: pyproject.toml scripts/requirements.py $(STAMPS)/venv | require-setup
	@echo "installing the test and lint tools"
	@$(PY) scripts/requirements.py test | xargs -d '\n' $(PY) -m pip install -q --disable-pip-version-check
	@touch $@

$(STAMPS)/docs-tools: pyproject.toml scripts/requirements.py $(STAMPS)/venv | require-setup
	@echo "installing the tools for the pages"
	@$(PY) scripts/requirements.py docs | xargs -d '\n' $(PY) -m pip install -q --disable-pip-version-check
	@touch $@

$(STAMPS)/native: pyproject.toml $(CRATES) $(STAMPS)/runtime | require-setup
	@echo "building the native core and installing the program (about a minute from nothing)"
	@mkdir -p build
	@$(VENV)/bin/maturin develop --release >build/native.log 2>&1 || { cat build/native.log; exit 1; }
	@touch $@

$(STAMPS)/wheel: pyproject.toml README.md $(CRATES) $(PACKAGE) $(STAMPS)/runtime | require-setup
	@echo "building the wheel"
	@rm -rf $(WHEELS)
	@PATH="$$PWD/$(VENV)/bin:$$PATH" $(PY) -m pip wheel . -q --disable-pip-version-check --no-build-isolation --no-deps -w $(WHEELS)
	@touch $@
