# `make demo` and `make test` need Python 3.11 or later and a C++ compiler, nothing else.
PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := pyproject.toml setup.py CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*/*.cpp csrc/*/*/*.h)

.PHONY: setup demo test lint audit bench format clean

setup: $(STAMP)

# torch comes first and alone: the extension is built against the one that will be used
$(STAMP): $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check \
		"setuptools>=77" wheel "pybind11>=3.0" "cmake>=3.25" ninja
	GENCOND_EXT=on $(BIN)/pip install --quiet --disable-pip-version-check \
		--no-build-isolation --editable ".[build,dev,dali]"
	touch $@

demo: setup
	$(BIN)/gencond_fast condense --data digits --out runs/demo --ipc 10 --preset quick
	$(BIN)/gencond_fast evaluate runs/demo --data digits --baseline random --epochs 150 \
		--json runs/demo/evaluation.json
	@echo "pictures: runs/demo/samples.png (generated), runs/demo/real.png (real)"

# threads that wait for work do not keep a core from the other tests
test: lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# in an environment of its own, so that its dependencies are not among those that are audited
audit: setup
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --timeout 15 --path "$$($(BIN)/python -c \
		'import sysconfig; print(sysconfig.get_path("purelib"))')"

bench: setup
	$(BIN)/python -m benchmarks.run moments

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info runs
