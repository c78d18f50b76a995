# Everything is built from a bare Python: .venv holds what the project needs, and nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.PHONY: demo test check bench picture screenshots format clean

# The main job on real pictures that come with scikit-learn: no download.
demo: $(VENV)/installed
	$(BIN)/streamcluster demo demo/digits
	$(BIN)/streamcluster ingest demo/digits --store demo/digits.zarr
	$(BIN)/streamcluster fit --store demo/digits.zarr --clusters 10
	$(BIN)/streamcluster export demo/groups --store demo/digits.zarr
	$(BIN)/streamcluster report demo/report.html --store demo/digits.zarr --force
	@echo "look into demo/groups, and open demo/report.html"

test: $(VENV)/developing
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/developing
	$(BIN)/python -m benchmarks

picture: demo
	$(BIN)/python docs/make_picture.py demo/digits.zarr

screenshots: demo $(VENV)/developing
	$(BIN)/streamcluster duplicates --store demo/digits.zarr --quiet
	$(BIN)/streamcluster junk --store demo/digits.zarr --quiet
	$(BIN)/streamcluster plot demo/plots --store demo/digits.zarr --quiet
	$(BIN)/python docs/make_screenshots.py demo/digits.zarr

clean:
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bare:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

$(VENV)/installed: $(VENV)/bare pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/developing: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group dev
	touch $@
