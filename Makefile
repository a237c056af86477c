# What a person types. Everything it needs is made by these rules.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check bench clean

# The trading job itself, offline: paper exchange, streamer, five recorded days, and the books.
demo: $(READY)
	@$(BIN)/dca demo $(DEMO_OPTIONS)

test: $(READY)
	@sh scripts/database_server.sh
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup -m "not alone" $(TEST_OPTIONS)
	$(BIN)/python -m pytest -m alone $(TEST_OPTIONS) || [ $$? -eq 5 ]

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Figures beside their floor, measured in one run, as JSON.
bench: $(READY)
	@sh scripts/database_server.sh >&2
	@PYTHONPATH=tests:tests/scenarios $(BIN)/python tests/bench/run.py

$(READY): requirements.txt pyproject.toml
	@echo "installing what requirements.txt names into $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . >&2
	@touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
