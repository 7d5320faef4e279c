# `make demo` and `make test` need Python 3.11 or 3.12 and make, nothing else.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo demo-photos test test-long test-browser test-upstream lab bench pictures lint clean

demo: $(INSTALLED)
	$(BIN)/recon run params/quick.yaml --name demo --force

# Plain photos, without cameras and masks; the masks need a network, whose licence the download tells.
demo-photos: $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints/cpu.txt -e '.[photos]'
	$(BIN)/recon weights fetch photos
	$(BIN)/recon run params/photos.yaml --name demo-photos --force

test: $(INSTALLED) lint validator
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=10
	$(BIN)/python tests/notebook_copies.py build/nbval
	$(BIN)/python -m pytest -q -p no:cacheprovider --nbval-lax --nbval-cell-timeout 300 build/nbval

test-long: $(INSTALLED) validator
	RECON_LONG=1 $(BIN)/python -m pytest -q --durations=20

# The tests that drive JupyterLab and run stages there. Chromium is Debian's; as root it is installed if it is missing.
test-browser: $(INSTALLED)
	@command -v chromium chromium-browser google-chrome >/dev/null || [ -n "$$CHROMIUM" ] || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq -y chromium; } || \
		{ echo "needs Chromium: sudo apt-get install chromium, or CHROMIUM=/path/to/it" >&2; exit 1; }
	RECON_BROWSER=1 $(BIN)/python -m pytest -q --durations=10 tests/test_browser.py

# The adapter against the real ReconViaGen code, a checkout that RECONVIAGEN_ROOT names; CPU or GPU, no weights.
test-upstream: $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints/cpu.txt -e '.[dev,reconviagen-cpu]'
	$(BIN)/python -m pytest -q -W ignore --durations=10 tests/test_upstream.py

# LAB_ARGS go to JupyterLab: make lab LAB_ARGS="--no-browser --port 9000".
lab: $(INSTALLED)
	$(BIN)/jupyter lab --config .jupyter/jupyter_server_config.py $(LAB_ARGS)

bench: $(INSTALLED)
	$(BIN)/python tests/bench.py $(ARGS)

pictures: $(INSTALLED)
	$(BIN)/python tests/pictures.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH=$(CURDIR)/$(BIN):$$PATH hadolint Dockerfile
	$(BIN)/shellcheck .ci/run container/start
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# Khronos' validator is an npm package; without npm its test skips and says so.
.PHONY: validator
validator:
	@if command -v npm >/dev/null && [ ! -d build/node_modules/gltf-validator ]; then \
		npm install --silent --no-audit --no-fund --prefix build gltf-validator@2.0.0-dev.3.10; fi

$(INSTALLED): pyproject.toml constraints/cpu.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11, 5) <= v < (3, 13) else \
		f"{sys.executable}: Python {v[0]}.{v[1]}.{v[2]}, need 3.11.5 or later, or 3.12; choose one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install -q -c constraints/cpu.txt --no-deps --index-url $(TORCH_INDEX) torch)
	$(BIN)/python -m pip install -q -c constraints/cpu.txt -e '.[dev]'
	$(BIN)/python -m recon_lib.machine.warm
	touch $@

clean:
	rm -rf .venv build
