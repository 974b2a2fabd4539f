# The commands of this project: `make demo` and `make test` are the two to know; each makes what it needs.

PYTHON ?= python3
LICHEN_TOOLS ?= $(CURDIR)/.tools
export LICHEN_TOOLS
BIN := .venv/bin

.PHONY: demo test check firmware accept soak soak-gateway soak-kit bench figures docs clean

demo: .venv/base $(LICHEN_TOOLS)/mosquitto/mosquitto $(LICHEN_TOOLS)/micropython/micropython
	@$(BIN)/lichen demo

# Everything that can run here; what is absent is listed at the end. LICHEN_REQUIRE=all makes an absent part a failure,
# and adds the tests marked long.
test: .venv/dev
	-@sh tools/get_mosquitto.sh
	-@sh tools/get_micropython.sh
	-@sh tools/get_micropython.sh 32
	$(BIN)/python -m pytest -m "not accept and not soak and not systemd$(if $(LICHEN_REQUIRE),, and not long)"

# Lint, format, types, direction of imports.
check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd firmware_micropython && ../$(BIN)/ruff check . && ../$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_docs.py --check

# The kit's firmware as .mpy files, for copying, mip, freezing, and as a ROM file system: build/firmware.
firmware: .venv/dev
	@$(BIN)/python tools/build_firmware.py

# The acceptance runs against the records in ../shared, and the installer in a machine with systemd (root); writes build/figures.json.
accept: .venv/dev
	-@sh tools/get_machine.sh
	LICHEN_REQUIRE=all $(BIN)/python -m pytest -m "accept or shared or systemd"

# The fault suite in full and the kit's long runs, side by side, at most 30 minutes: writes docs/soak.md and
# build/figures.json. Needs root (a full disk) and libfaketime.
soak: .venv/dev firmware
	-@sh tools/build_micropython_trace.sh
	-@sh tools/build_micropython_frozen.sh
	@$(MAKE) --no-print-directory -j2 soak-gateway soak-kit

soak-gateway:
	LICHEN_REQUIRE=all $(BIN)/python -m pytest -m soak -s tests/test_faults.py

soak-kit:
	LICHEN_REQUIRE=all $(BIN)/python -m pytest -m soak -s tests/firmware

# Speed of indices beside other libraries, speed beside Telegraf, cost of a year of running: some 40 minutes.
# Writes docs/performance.md.
bench: .venv/bench
	$(BIN)/python benchmarks/indices.py --record
	@sh tools/get_mosquitto.sh
	@sh tools/build_influxd.sh
	@sh tools/get_telegraf.sh
	$(BIN)/python benchmarks/side_by_side.py --record
	$(BIN)/python benchmarks/live.py --record
	$(BIN)/python benchmarks/calibrations.py --record
	$(BIN)/python benchmarks/performance_page.py

docs: .venv/dev
	$(BIN)/python tools/generate_docs.py

figures: accept soak
	$(BIN)/python tools/figures_page.py

clean:
	rm -rf .venv .tools build

$(LICHEN_TOOLS)/mosquitto/mosquitto:
	@sh tools/get_mosquitto.sh

$(LICHEN_TOOLS)/micropython/micropython:
	@sh tools/get_micropython.sh

.venv/base: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lichen needs Python 3.11 or newer: install the package python3" >&2; exit 1; }
	@echo "making an environment in .venv from requirements.lock"
	@$(PYTHON) -m venv .venv || { echo "install the package python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/base requirements-dev.lock
	@echo "adding the tools for tests from requirements-dev.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

.venv/bench: .venv/dev requirements-bench.lock
	@echo "adding the peers of the benchmarks from requirements-bench.lock"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@
