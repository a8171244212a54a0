# The verbs of the project; CI runs `make check && make test`, nothing else. See CONTRIBUTING.md.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
WORKERS ?= 2

.PHONY: setup demo test test-fast check fix bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or set PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: setup
	$(BIN)/rlaas quickstart --out out/quickstart

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-fast: setup
	$(BIN)/pytest tests/unit tests/contracts tests/shipped -m 'not slow and not ray' -n $(WORKERS)

test: setup
	$(BIN)/pytest tests/unit tests/contracts tests/shipped -m 'not ray' -n $(WORKERS)
	$(BIN)/pytest tests -m ray -p no:randomly -n $(WORKERS) --dist loadfile
	$(BIN)/pytest tests/learning -m 'not ray' -n $(WORKERS)
	$(BIN)/pytest tests/surfaces tests/e2e -m 'not ray' -p no:randomly -n $(WORKERS) --dist loadfile

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis out
