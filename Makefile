# make install set up .venv
# make demo    set up .venv, train and measure on embedded data, print the report's path
# make test    set up .venv, run the tests
# make check   everything CI runs: lint, types (of the tests too), layers, tests with coverage
# make docs    build the documentation site into site/, warnings as errors, every tutorial executed
# make cluster-test  install Ray and Slurm and run the tests that need them (Slurm needs Debian and root)
# make format  apply the formatter and the safe fixes
# make dist    build the wheel and the source archive into dist/
# make clean   remove what the above made, results/ excepted

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test check docs cluster-test format dist clean

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/sharpscope demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_FLAGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini tests
	$(BIN)/lint-imports
	$(MAKE) test PYTEST_FLAGS="--cov --cov-report=term --cov-fail-under=80 --durations=15"

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

cluster-test: $(STAMP)
	tests/engines/slurm.sh install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[ray,slurm]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/sweep/executors tests/docs/test_sweeps_page.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dist: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)
