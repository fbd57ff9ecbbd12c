# Two commands are enough on a fresh machine with Python 3.11 or newer:
#   make demo   shows the main job working, without an account and without the internet
#   make test   runs the tests against this checkout
PYTHON ?= python3
.DEFAULT_GOAL := help

help:
	@echo "make demo    install into .venv and answer a question with a real claude process"
	@echo "make test    run the tests against this checkout"
	@echo "make test-clients   run other people's clients against this checkout"
	@echo "make check   lint, types, and the tests against the built wheel"
	@echo "make test-browser   the dashboard in a real browser (Debian: apt-get install chromium)"
	@echo "make test-openclaw   OpenClaw from npm through maxd; installs it first"
	@echo "make test-systemd   the units in a container that systemd boots; makes it first (root)"
	@echo "make bench   ratios against claude-max-api-proxy and a bare warm process"
	@echo "make drills  break things on purpose at a running daemon, and say what survived"
	@echo "make conformance   write docs/conformance.md from its checks"
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
	@echo "Two halves side by side; each prints its result at its end, after about ten minutes."
	$(MAKE) --jobs=2 --output-sync=target whole parts IN=.venv

# With uv: pip's search for versions that go together takes a quarter of an hour. The openai npm
# package is tested where there is npm.
.venv-clients/installed: Makefile
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-clients/bin/python -m uv pip install --quiet --python .venv-clients/bin/python langchain-openai litellm mcp 'pydantic-ai-slim[openai]' instructor
	if command -v npm >/dev/null; then npm install --silent --prefix .venv-clients/node openai; fi
	@touch $@

test-clients: .venv/installed .venv-clients/installed
	MAXD_CLIENTS=.venv-clients .venv/bin/python -m pytest tests/clients

check: .venv-check/installed
	.venv-check/bin/ruff check .
	.venv-check/bin/ruff format --check .
	.venv-check/bin/mypy
	rm -rf build dist
	.venv-check/bin/python -m build --wheel --outdir dist . >/dev/null
	.venv-check/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall dist/maxd-*.whl
	$(MAKE) --jobs=2 --output-sync=target whole parts IN=.venv-check

# Side by side, with what is installed in IN: either of them waits for processes most of the time.
whole:
	$(IN)/bin/python -m pytest -o cache_dir=.pytest_cache/whole tests/end_to_end
parts:
	$(IN)/bin/python -m pytest -o cache_dir=.pytest_cache/parts --ignore=tests/end_to_end

test-browser: .venv/installed
	MAXD_BROWSER=1 .venv/bin/python -m pytest tests/end_to_end/test_dashboard.py

test-openclaw: .venv/installed .openclaw/installed
	MAXD_OPENCLAW=.openclaw .venv/bin/python -m pytest tests/openclaw

# The version that docs/openclaw.md was written for; it needs a newer Node than Debian has.
.openclaw/installed:
	mkdir -p .openclaw/node
	npm install --no-audit --no-fund --prefix .openclaw/node node@24
	PATH="$(CURDIR)/.openclaw/node/node_modules/.bin:$$PATH" \
		npm install --no-audit --no-fund --prefix .openclaw openclaw@2026.9.6
	@touch $@

# As root on Debian with debootstrap and systemd-container.
.systemd/installed:
	mkdir -p .systemd
	debootstrap --variant=minbase --include=ca-certificates,curl,procps,python3-venv,systemd-sysv bookworm .systemd/root
	cp /etc/resolv.conf .systemd/root/etc/
	cp /etc/ssl/certs/ca-certificates.crt .systemd/root/etc/ssl/certs/
	chroot .systemd/root apt-get install --quiet --yes dbus-user-session libpam-systemd
	chroot .systemd/root python3 -m venv /opt/maxd
	@touch $@

test-systemd: .venv/installed .systemd/installed
	rm -rf build .systemd/root/wheel
	.venv/bin/python -m build --wheel --outdir .systemd/root/wheel . >/dev/null
	chroot .systemd/root sh -c '/opt/maxd/bin/pip install --quiet --disable-pip-version-check --force-reinstall "$$(echo /wheel/*.whl)[cli]"'
	MAXD_SYSTEMD=.systemd/root .venv/bin/python -m pytest tests/systemd

bench: .venv/installed
	.venv/bin/python -m bench

drills: .venv/installed
	.venv/bin/python -m drills

conformance: .venv/installed
	.venv/bin/python -m tests.end_to_end.conformance.page

clean:
	rm -rf .venv .venv-check build dist *.egg-info bench/.npm .openclaw .systemd .venv-clients .mypy_cache .ruff_cache .pytest_cache

.PHONY: help demo test whole parts test-openclaw test-systemd test-clients check bench drills conformance clean test-browser
