# make demo, make test: each creates .venv and installs what it needs. See README.md for Windows.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/commands
	$(BIN)/python -m lib_gie demo --out demo-out

test: $(VENV)/test
	$(BIN)/python -m pytest

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

$(VENV)/commands: $(VENV)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[commands]'
	touch $@

$(VENV)/test: $(VENV)/commands
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps stable-diffusion-sdkit==2.1.5
	touch $@

clean:
	rm -rf $(VENV) demo-out *.egg-info
