# make demo    takes the text files of this folder into the embedded RocksDB and looks words up
#              make demo FOLDER=some/folder · P8FS_STORAGE_PROVIDER=postgresql P8FS_PG_HOST=… make demo
# make test    every test, against real servers, which it provides; two processes, as most of the time is waiting
#              (ARGS="-n 0 -k some_name --pdb": in one, those of a name)
# make tidb    builds a TiDB for the tests from its Go packages, once, outside the clone (minutes; needs Go)
# make compliance   SQLAlchemy's own suite over container.engine(), beside a plain engine, on each SQL server
# make lint    ruff, mypy --strict, import-linter, and whether the code for threads is what is made of that for asyncio
# make fuzz    100,000 random worlds of settings (ARGS=1000 for so many), 10,000 reloads against readers
# make faults  restarts, outages, hangs, cuts, forks and kills under load, to the handle and to bare pools (ARGS=--short)
# make chaos-kv   callers of the key-value store under such faults, and a checker of what they saw and wrote: 10 minutes on
#              all stores; then 7 on bugs that are seeded, each of which it has to find (ARGS="--store mariadb --seed 7")
# make simulation   10,000 random schedules of leases under a fake clock (ARGS="--schedules 1000 --seed 7")
# make chaos   nodes that lead and lock under kills, stops, outages, cuts and moved clocks, and a checker of what they
#              believed and wrote: 10 minutes on all servers (ARGS="--seconds 60 --server mariadb --seed 7" for others)
# make bench   the handle against the bare pool of each engine, the live settings, and the three that follow
#              (ARGS="--rtt 1": the former over a network whose round trips take a millisecond more)
# make bench-injection   @inject against plain Python and six peers, FastAPI requests, long chains, and what starting costs
# make features   runs what docs/injection.md says of us and others, each in a process of its own, and writes its table
#              (ARGS=--check compares it)
# make bench-coordination   locks against bare statements and tooz, failover, hand-over, a thousand nodes
# make bench-kv        the key-value store against bare drivers and peers
# make bench-kv-large  the same with ten million keys, a million expired ones, a million writes of the same ones
# make bench-kv-copy   copies of a million pairs against COPY and INSERTs by hand
# make bench-logging     JSON records against text of logging and three peers

PYTHON ?= python3
FOLDER ?= .
WORDS ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test tidb compliance lint fuzz faults chaos chaos-kv simulation bench bench-injection features bench-coordination bench-kv bench-kv-copy bench-kv-large bench-logging clean
.DELETE_ON_ERROR:

demo: export P8FS_STORAGE_PROVIDER ?= rocksdb
demo: export P8FS_ROCKSDB_PATH ?= data/demo
demo: $(VENV)/runs
	$(BIN)/python -m examples.documents "$(FOLDER)" $(WORDS)

test: $(VENV)/tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(ARGS)

compliance: $(VENV)/tests
	$(BIN)/python -m tests.compliance $(ARGS)

tidb:
	$(PYTHON) -m tests.tidb

lint: $(VENV)/lints
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/threads.py --check

fuzz: $(VENV)/tests
	$(BIN)/python -m tests.fuzz.configuration $(or $(ARGS),100000)
	$(BIN)/python -m tests.fuzz.reloads

faults: $(VENV)/tests
	$(BIN)/python -m tests.faults $(ARGS)

chaos: $(VENV)/tests
	$(BIN)/python -m tests.chaos $(ARGS)

chaos-kv: $(VENV)/tests
	$(BIN)/python -m tests.chaos.kv $(ARGS)
	$(BIN)/python -m tests.chaos.kv --seeded --seconds 1 --processes 4 $(ARGS)

simulation: $(VENV)/tests
	$(BIN)/python -m tests.simulation $(ARGS)

bench: $(VENV)/tests bench-injection bench-logging bench-coordination bench-kv
	$(BIN)/python -m benchmarks.configuration
	$(BIN)/python -m benchmarks.graph
	$(BIN)/python -m benchmarks.storage $(ARGS)

bench-injection: $(VENV)/benches
	$(BIN)/python -m benchmarks.injection
	$(BIN)/python -m benchmarks.requests
	$(BIN)/python -m benchmarks.chains
	$(BIN)/python -m benchmarks.starting

features: $(VENV)/tests $(VENV)/benches
	$(BIN)/python -m benchmarks.features $(ARGS)

bench-coordination: $(VENV)/benches
	$(BIN)/python -m benchmarks.coordination $(ARGS)

bench-kv: $(VENV)/benches
	$(BIN)/python -m benchmarks.kv $(ARGS)

bench-kv-copy: $(VENV)/benches
	$(BIN)/python -m benchmarks.kv_copy $(ARGS)

bench-kv-large: $(VENV)/benches
	$(BIN)/python -m benchmarks.kv_large $(ARGS)

bench-logging: $(VENV)/benches
	$(BIN)/python -m benchmarks.logging

clean:
	rm -rf $(VENV) data .pytest_tmp .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist

$(VENV)/runs: pyproject.toml scripts/venv.sh
	sh scripts/venv.sh "$(PYTHON)" $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/tests: $(VENV)/runs
	$(BIN)/python scripts/install_group.py test
	@touch $@

$(VENV)/benches: $(VENV)/runs
	$(BIN)/python scripts/install_group.py bench
	@touch $@

$(VENV)/lints: $(VENV)/runs
	$(BIN)/python scripts/install_group.py test lint
	@touch $@
