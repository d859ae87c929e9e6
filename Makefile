# Two commands do all the set-up: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
FAISS  ?= cpu
STAMP  := $(VENV)/.installed

.PHONY: quickstart test test-all test-here test-ray check format install clean

quickstart: install
	$(BIN)/xalign quickstart --out runs/quickstart

# Its two halves side by side: tests on Ray mostly wait for processes. They are shown one after the other.
test: install
	@log=$$(mktemp); $(BIN)/python -m pytest -m "not faults" tests/on_ray >"$$log" 2>&1 & ray=$$!; \
	$(BIN)/python -m pytest -m "not faults" tests/e2e tests/golden tests/parity tests/unit; here=$$?; \
	wait $$ray; there=$$?; cat "$$log"; rm -f "$$log"; test $$here -eq 0 -a $$there -eq 0

# Also what kills processes, nodes and servers, and what takes long: what CI runs.
test-all: install
	$(BIN)/python -m pytest

# Its two halves, which may run side by side.
test-here: install
	$(BIN)/python -m pytest tests/e2e tests/golden tests/parity tests/unit

test-ray: install
	$(BIN)/python -m pytest tests/on_ray

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/unit/test_structure.py -q

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)

# The stamp is younger than what it was made from only when every package is in.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(FAISS),quickstart,dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build .pytest_cache .mypy_cache .ruff_cache
