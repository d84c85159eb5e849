# make quickstart    a code model from nothing, on this machine, in minutes
# make test          the tests; `make test STACK=composer-pins` on Composer's own pins
# make lint          ruff and pyright
# make toolchains    install the compilers and interpreters of MultiPL-E's languages that Debian has (as root, or by sudo)
# make smollm2       continue the pre-training of a real model (SmolLM2-135M) on a folder of code
# Each does all its own set-up in a virtual environment below this folder.

STACK ?= current
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
VENV := $(if $(filter current,$(STACK)),.venv,.venv-$(STACK))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed

.PHONY: install quickstart test test-slow lint toolchains smollm2 clean

install: $(RUNTIME)

$(RUNTIME): requirements/$(STACK).txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: codelm needs Python 3.11 or 3.12; name one with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the $(STACK) stack into $(VENV) (2-3 minutes, 5 GB)"
	@$(PIP) -r requirements/$(STACK).txt
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.txt
	@$(PIP) -r requirements/dev.txt
	@touch $@

quickstart: $(RUNTIME)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash quickstart.sh

test: $(DEV)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q --durations 20

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow -q

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

toolchains: $(RUNTIME)
	@packages="$$($(BIN)/python -c 'from codelm.eval.programs.toolchains import missing_packages; print(*missing_packages())')"; \
	if [ -z "$$packages" ]; then echo "all toolchains are here"; \
	elif ! command -v apt-get >/dev/null; then \
		echo "error: there is no apt-get here; install what your system calls these: $$packages" >&2; exit 1; \
	else \
		[ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update && $$sudo apt-get install -y --no-install-recommends $$packages; \
	fi

smollm2: $(RUNTIME)
	@$(PIP) -r requirements/demo.txt
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash yamls/finetune/smollm2_cpu.sh

clean:
	rm -rf runs .pytest_cache .ruff_cache .hypothesis
