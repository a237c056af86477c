# What a person types. Everything it needs is made by these rules.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# One test worker more than cores, because tests of whole processes wait most of the time.
WORKERS := $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))

.PHONY: demo test check bench clients lock clean

# The trading job itself, offline: paper exchange, streamer, five recorded days, and the books.
demo: $(READY)
	@$(BIN)/dca demo $(DEMO_OPTIONS)

test: $(READY)
	@sh scripts/database_server.sh
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup -m "not alone and not clients" $(TEST_OPTIONS)
	$(BIN)/python -m pytest -m alone $(TEST_OPTIONS) || [ $$? -eq 5 ]

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/audit.py

# Other people's clients against the paper exchange. Installing them takes minutes, once, and needs the
# network and npm; so this is no part of `make test`.
clients: $(READY)
	$(BIN)/python tests/clients/install.py
	$(BIN)/python -m pytest -m clients $(TEST_OPTIONS) tests/clients

# Figures beside their floor, measured in one run, as JSON.
bench: $(READY)
	@sh scripts/database_server.sh >&2
	@PYTHONPATH=tests:tests/scenarios $(BIN)/python tests/bench/run.py

# The same packages with the hashes of their files: `pip install --require-hashes -r requirements.lock`
# installs these and nothing that was exchanged meanwhile.
lock: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
		--default-index https://pypi.org/simple --custom-compile-command "make lock" \
		requirements.txt --output-file requirements.lock

$(READY): requirements.txt pyproject.toml
	@echo "installing what requirements.txt names into $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . >&2
	@touch $(READY)

clean:
	rm -rf $(VENV) .clients .mypy_cache .ruff_cache .pytest_cache
