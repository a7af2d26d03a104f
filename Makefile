# Every word a developer needs. Each target makes what it needs first; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CONSUMERS ?= .venv-consumers
ENGINES := sglang lmcache vllm
OLDEST_FSSPEC := 2024.6.0
OLDEST := .oldest/.ready-$(OLDEST_FSSPEC)

.PHONY: alone setup check fmt test prepare-oldest oldest sim fresh consumers installs engines docs soak bench benches-page bench-check rdma-guest plots demo record-release clean

$(STAMP): pyproject.toml hatch_build.py $(wildcard proto/fs3/v1/*.proto)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python hatch_build.py >/dev/null
	touch $(STAMP)

setup: $(STAMP)  ## virtual environment with everything, generated protobuf code

check: $(STAMP)  ## lint, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP)  ## format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP) check  ## lint, types, floors and all tests but those of consumers
	$(BIN)/python -m pytest -n 2 --ignore tests/external $(ARGS)

alone: $(STAMP)  ## the test that runs by itself
	$(BIN)/python -m pytest -n 0 tests/processes/test_mount_power_cut.py $(ARGS)

# The dependencies as in pyproject.toml, but fsspec, which is the oldest version that is declared there.
$(OLDEST): $(STAMP)
	rm -rf $(dir $@)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(dir $@) fsspec==$(OLDEST_FSSPEC)
	touch $@

prepare-oldest: $(OLDEST)  ## install that fsspec, beside the environment

# The abstract tests that come with it define fixtures in a way that pytest warns of today.
oldest: $(OLDEST)  ## the file system with the oldest fsspec it declares to work with
	PYTHONPATH=$(abspath $(dir $(OLDEST))) $(BIN)/python -m pytest -n 2 -W "ignore:Class-scoped fixture" tests/unit/api tests/integration/test_fsspec*.py $(ARGS)

sim: $(STAMP)  ## simulation: make sim ARGS="ring1 run --seeds 10000" or ARGS="ring2 replay --seed 42 --trace"; see ARGS="--help"
	PYTHONHASHSEED=0 $(BIN)/python -m fs3.sim $(or $(ARGS),ring1 run)

fresh: $(STAMP)  ## simulation with the seeds of the day, all rings; make fresh ARGS="--base N" replays those of another
	PYTHONHASHSEED=0 $(BIN)/python -m fs3.sim fresh --jobs 2 $(ARGS)

$(CONSUMERS)/.ready: tests/external/requirements.txt pyproject.toml
	test -x $(CONSUMERS)/bin/python || $(PYTHON) -m venv $(CONSUMERS)
	$(CONSUMERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/external/requirements.txt --editable '.[server]'
	touch $@

# Says of each test that it passed, or why it did not run: a library that cannot be used here must not look like one that works.
consumers: $(STAMP) $(CONSUMERS)/.ready  ## libraries that use fs3, each with a test, in an environment of their own (2.5 GB, made once)
	$(CONSUMERS)/bin/python -m pytest tests/external tests/unit/drivers/otlp -r pfEs --ignore tests/external/test_installs.py $(ENGINES:%=--ignore tests/external/test_%.py) $(ARGS)

installs: $(STAMP)  ## what installing fs3 does to an environment: beside an engine's pins, with the oldest versions, without gRPC
	$(BIN)/python -m pytest tests/external/test_installs.py -r pfEs $(ARGS)

# Engines: an environment each, of torch, of what a variable says is installed without its own dependencies, and of a file's lines;
# without what is not wanted of these. Of a version without a build for CPUs the Python is put beside it: the same tests run with it.
BARE_sglang := sglang==0.5.23
UNWANTED_vllm := torchvision torchaudio torchcodec
BESIDE_vllm := vllm==0.33.0
UNPACK_PYTHON := from sys import argv; from zipfile import ZipFile; wheel = ZipFile(argv[1]); \
  wheel.extractall(argv[2], [name for name in wheel.namelist() if name.endswith((".py", "/METADATA"))])

.PRECIOUS: .venv-%/.ready

.venv-%/.ready: tests/external/%.txt pyproject.toml
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(if $(BARE_$*),.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(BARE_$*))
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/external/$*.txt --editable '.[server]'
	$(if $(UNWANTED_$*),.venv-$*/bin/python -m pip uninstall --quiet --yes $(UNWANTED_$*))
	$(if $(BESIDE_$*),rm -rf .venv-$*/beside)
	$(if $(BESIDE_$*),.venv-$*/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .venv-$*/beside $(BESIDE_$*))
	$(if $(BESIDE_$*),.venv-$*/bin/python -c '$(UNPACK_PYTHON)' .venv-$*/beside/*.whl .venv-$*/beside && rm .venv-$*/beside/*.whl)
	touch $@

engine-%: $(STAMP) .venv-%/.ready
	PATH=$(abspath .venv-$*/bin):$$PATH .venv-$*/bin/python -m pytest tests/external/test_$*.py $(ARGS)
	$(if $(BESIDE_$*),PYTHONPATH=$(abspath .venv-$*/beside) PATH=$(abspath .venv-$*/bin):$$PATH .venv-$*/bin/python -m pytest tests/external/test_$*.py $(ARGS))

engines: $(ENGINES:%=engine-%)  ## inference engines on fs3, each in an environment of its own (2 to 3.5 GB each, made once)

docs: $(STAMP)  ## write the tables in docs/ anew, as the code has them
	$(BIN)/python -m fs3.sim tables --write

soak: $(STAMP)  ## real processes killed, paused, wiped and restarted under checked load: make soak ARGS="--seconds 3600 --seed 7"
	$(BIN)/python -m fs3.drill.soak $(ARGS)

bench: $(STAMP)  ## all benches, saved as JSON lines in benches/results, then the plots
	$(BIN)/python -m benches.run $(ARGS)
	$(BIN)/python -m benches.plot

benches-page: bench  ## all benches, then docs/benchmarks.md from what was saved
	$(BIN)/python -m benches.report

rdma-guest: $(STAMP)  ## RDMA over Soft-RoCE in a small virtual machine, if there is qemu: the suite of transports, and a cluster
	@$(BIN)/python -m tests.rdma.guest --skip $(ARGS)

bench-check: $(STAMP)  ## CPU of the hot paths beside what was recorded on such a machine: fails at +10 %; ARGS=--record records
	@$(BIN)/python -m benches.check $(ARGS)

plots: $(STAMP)  ## draw the plots again from the saved JSON lines
	$(BIN)/python -m benches.plot

demo: $(STAMP)  ## a local cluster, Parquet, random access, KV pages and GraySort on it, then a table
	$(BIN)/python -m benches.demo $(ARGS)

record-release: $(STAMP)  ## record this tree in proto/released as the release that was made of COMMIT
	$(BIN)/python -m tests.release_record --write $(COMMIT)

clean:  ## remove what the targets above made, except the virtual environment
	rm -rf demo-data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache fs3/wire/pb
