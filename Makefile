# make demo, make test: each creates .venv and installs what it needs. See README.md for Windows.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin

# make test-pins: the unit tests on what the WebUI v1.10.1 brings
PINS_PYTHON ?= python3.10
PINS_TORCH ?= torch==2.1.2
PINS_VENV := .venv-pins
PINS_BIN := $(PINS_VENV)/bin
# these are of pipelines that the pinned diffusers lacks or has elsewhere
NEW_DIFFUSERS := $(addprefix tests/,hosts/diffusers/test_calibrated_pipelines.py hosts/diffusers/test_pipeline_classes.py hosts/diffusers/test_pipeline_parts.py evaluation/test_methods.py)

# make docs: the documentation site, in site/
DOCS_VENV := .venv-docs
DOCS_BIN := $(DOCS_VENV)/bin

.PHONY: demo test coverage test-pins lint docs clean

demo: $(VENV)/commands
	$(BIN)/python -m lib_gie demo --out demo-out

# measuring is cheap from Python 3.12 on; before, make coverage does it at the price of a third more time
test: $(VENV)/test
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; \
	then $(MAKE) --no-print-directory coverage; else $(BIN)/python -m pytest; fi

coverage: $(VENV)/test
	$(BIN)/python -m pytest --cov --cov-report=
	@echo "The tests ran $$($(BIN)/python -m coverage report --format=total) % of the lines of lib_gie."

test-pins: $(PINS_VENV)/test
	$(PINS_BIN)/python -m pytest --ignore tests/webui $(addprefix --ignore ,$(NEW_DIFFUSERS))

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the variable silences a notice of the theme's authors about another tool of theirs
docs: $(DOCS_VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(DOCS_BIN)/python -m mkdocs build --strict

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(TORCH)
	touch $@

$(VENV)/commands: $(VENV)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[commands]'
	touch $@

$(VENV)/test: $(VENV)/commands
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps stable-diffusion-sdkit==2.1.5
	touch $@

$(PINS_VENV)/test: tests/pins.txt
	$(PINS_PYTHON) -m venv $(PINS_VENV)
	$(PINS_BIN)/python -m pip install --quiet $(PINS_TORCH) --requirement tests/pins.txt
	$(PINS_BIN)/python -m pip install --quiet --no-deps stable-diffusion-sdkit==2.1.5
	touch $@

# pip knows --group from 25.1 on
$(DOCS_VENV)/docs: pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_BIN)/python -m pip install --quiet 'pip>=25.1'
	$(DOCS_BIN)/python -m pip install --quiet --group docs
	touch $@

clean:
	rm -rf $(VENV) $(PINS_VENV) $(DOCS_VENV) site demo-out .coverage *.egg-info
