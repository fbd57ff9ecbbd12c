# Two commands are enough on a fresh machine with Python 3.11 or newer:
#   make demo   shows the main job working, without an account and without the internet
#   make test   runs the tests against this checkout
PYTHON ?= python3
.DEFAULT_GOAL := help

help:
	@echo "make demo    install into .venv and answer a question with a real claude process"
	@echo "make test    run the tests against this checkout"
	@echo "make check   lint, types, and the tests against the built wheel"
	@echo "make test-browser   the dashboard in a real browser (Debian: apt-get install chromium)"
	@echo "make bench   ratios against claude-max-api-proxy and a bare warm process"
	@echo "make clean   remove everything the above have made"

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[cli,dev]'
	@touch $@

.venv-check/installed: pyproject.toml
	$(PYTHON) -m venv .venv-check
	.venv-check/bin/python -m pip install --quiet --disable-pip-version-check '.[cli,dev]'
	@touch $@

demo: .venv/installed
	.venv/bin/maxd demo

test: .venv/installed
	.venv/bin/python -m pytest

check: .venv-check/installed
	.venv-check/bin/ruff check .
	.venv-check/bin/ruff format --check .
	.venv-check/bin/mypy
	rm -rf build dist
	.venv-check/bin/python -m build --wheel --outdir dist . >/dev/null
	.venv-check/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/maxd-*.whl
	.venv-check/bin/python -m pytest

test-browser: .venv/installed
	MAXD_BROWSER=1 .venv/bin/python -m pytest tests/end_to_end/test_dashboard.py

bench: .venv/installed
	.venv/bin/python -m bench

clean:
	rm -rf .venv .venv-check build dist *.egg-info bench/.npm .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo test test-browser check bench clean
