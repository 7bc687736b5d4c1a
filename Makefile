# Every target needs Python 3.11 or later and a C++ compiler, nothing else.
PYTHON ?= python3
TORCH ?= torch==2.13.0
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := pyproject.toml setup.py CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h csrc/*/*/*.cpp csrc/*/*/*.h)

.PHONY: setup demo test test-all lint docs audit bench format clean

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
	$(BIN)/gencond-fast condense --data digits --out runs/demo --ipc 10 --preset quick
	$(BIN)/gencond-fast evaluate runs/demo --data digits --baseline random --baseline jpeg \
		--epochs 150 --json runs/demo/evaluation.json
	@echo "pictures: runs/demo/samples.png (stored), runs/demo/real.png (real)"

# a file's tests stay together, so that what they share is made once; files start in their order, since
# the longest have few tests; threads that wait for work do not keep a core from other tests
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/sphinx-build -W --keep-going -b html docs build/docs

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
