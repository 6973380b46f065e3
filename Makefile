# Two commands are enough on a fresh machine: `make run` and `make test`.
# Both build .venv from a lock file with plain pip; nothing but Python >= 3.11 and make is needed.
# Every step says what it does, and how long it took.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST ?=

.PHONY: help setup setup-dev run demo test bench lint format lock services clean

help: ## say what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# $(call timed,name,what it does,command)
define timed
	@echo "[$(1)] $(2)"; start=$$(date +%s); $(3) && code=0 || code=$$?; \
	if [ $$code = 0 ]; then end=done; else end="FAILED ($$code)"; fi; \
	echo "[$(1)] $$end after $$(( $$(date +%s) - start )) s"; exit $$code
endef

# $(call install,lock file,stamp): the step that failed says what to do, and leaves nothing half made.
define install
	@test -n "$(PYTHON)" || { echo "[setup] no Python >= 3.11 found: install one (Debian 12 or newer: apt install python3 python3-venv), or say make PYTHON=/path/to/python3.11"; exit 1; }
	@all=$$(date +%s); \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "[setup] creating $(VENV) with $$($(PYTHON) --version)"; start=$$(date +%s); rm -rf $(VENV); \
	  $(PYTHON) -m venv $(VENV) >$(VENV).log 2>&1 || { rm -rf $(VENV); $(PYTHON) -m virtualenv --quiet $(VENV) >>$(VENV).log 2>&1; } || { \
	    cat $(VENV).log; rm -rf $(VENV) $(VENV).log; \
	    echo "[setup] this Python cannot make virtual environments: apt install python3-venv (or: pip install virtualenv), then run make again"; exit 1; }; \
	  rm -f $(VENV).log; echo "[setup] created in $$(( $$(date +%s) - start )) s"; fi; \
	start=$$(date +%s); echo "[setup] installing $$(grep -cE '^[a-z0-9]' $(1)) pinned packages from $(1), checked by their hashes"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1) || { \
	  echo "[setup] pip could not install them: is there a network, or a package index that pip is configured for?"; exit 1; }; \
	echo "[setup] installed in $$(( $$(date +%s) - start )) s"; \
	start=$$(date +%s); echo "[setup] installing edge-gateway itself"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	echo "[setup] installed in $$(( $$(date +%s) - start )) s"; \
	touch $(2); echo "[setup] ready after $$(( $$(date +%s) - all )) s"
endef

$(VENV)/.run: requirements/run.lock pyproject.toml
	$(call install,requirements/run.lock,$@)

$(VENV)/.dev: requirements/dev.lock pyproject.toml
	$(call install,requirements/dev.lock,$@)
	@touch $(VENV)/.run

setup: $(VENV)/.run ## build .venv with what the gateway needs

setup-dev: $(VENV)/.dev ## build .venv with the tools of development as well

run: setup ## start the gateway on embedded defaults; ARGS="--set http.port=9000"
	@echo "[run] starting the gateway; stop it with Ctrl-C"
	@exec $(BIN)/edge-gateway run $(ARGS)

demo: setup ## the gateway with a simulated fleet; ARGS="--robots 20"
	@echo "[demo] starting the gateway and a fleet; stop them with Ctrl-C"
	@exec $(BIN)/edge-gateway demo $(ARGS)

test: setup-dev ## run the tests; PYTEST="-k name" to choose
	$(call timed,test,all tests; servers that are missing are installed or their tests skipped with the reason,$(BIN)/python -m pytest $(PYTEST))

lint: setup-dev ## style, types, layers
	$(call timed,lint,style: ruff,$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .)
	$(call timed,lint,types: mypy --strict,$(BIN)/mypy)
	$(call timed,lint,layers: import-linter,$(BIN)/lint-imports --no-cache)

format: setup-dev ## rewrite the sources in the house style
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

bench: setup-dev ## measure beside the peers; writes bench/results.json
	$(call timed,bench,medians of several runs; this takes minutes,$(BIN)/python -m bench $(ARGS))

services: setup-dev ## install and check the real servers the tests use; ARGS="--keep" keeps them running
	$(call timed,services,real servers for the tests,$(BIN)/python -m tests.services $(ARGS))

lock: setup-dev ## make the lock files again (needs a network)
	@echo "[lock] resolving for Python 3.11 and newer"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/build.in pyproject.toml --extra kafka --extra redis --extra postgres -o requirements/run.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/build.in pyproject.toml --extra kafka --extra redis --extra postgres --group dev -o requirements/dev.lock
	@echo "[lock] requirements/run.lock and requirements/dev.lock are new"

clean: ## remove what the build made (not data/)
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
