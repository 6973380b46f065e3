# Two commands are enough on a fresh machine: `make run` and `make test`.
# Both build .venv from a lock file with plain pip; nothing but Python >= 3.11 and make is needed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup setup-dev run demo test bench lint format lock services clean

help: ## say what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

define install
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; install one or set PYTHON=/path/to/python3.11"; exit 1; }
	@start=$$(date +%s); \
	if [ ! -x $(BIN)/python ]; then echo "[setup] creating $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV) || { echo "[setup] the venv module is missing: on Debian, apt install python3-venv"; exit 1; }; fi; \
	echo "[setup] installing $$(grep -cE '^[a-z0-9]' $(1)) pinned packages from $(1)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1); \
	echo "[setup] installing edge-gateway itself"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	touch $(2); echo "[setup] done in $$(( $$(date +%s) - start )) s"
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

demo: setup ## the gateway with a simulated fleet
	@exec $(BIN)/edge-gateway demo $(ARGS)

test: setup-dev ## run the tests (PYTEST="-k name" to choose)
	@echo "[test] types, style, layers: make lint; now the tests"
	@start=$$(date +%s); $(BIN)/python -m pytest $(PYTEST); echo "[test] done in $$(( $$(date +%s) - start )) s"

lint: setup-dev ## style, types, layers
	@echo "[lint] ruff"; $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@echo "[lint] mypy"; $(BIN)/mypy
	@echo "[lint] layers"; $(BIN)/lint-imports --no-cache

format: setup-dev ## rewrite the sources in the house style
	$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

bench: setup-dev ## measure, side by side with the peers; writes bench/results.json
	$(BIN)/python -m bench $(ARGS)

services: setup-dev ## install and check the real servers the tests use
	$(BIN)/python -m tests.services $(ARGS)

lock: setup-dev ## make the lock files again (needs network)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/build.in pyproject.toml -o requirements/run.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 requirements/build.in pyproject.toml --group dev -o requirements/dev.lock

clean: ## remove what the build made (not data/)
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
