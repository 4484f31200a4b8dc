# Variables given on the command line reach the programs as environment: make sandbox PORT=9090.
PYTHON ?= python3
BIN := .venv/bin
INPUTS := install build run sandbox dev checkers
# What is imported is compiled once, at the first import: some hundred processes would do it anew.
unexport PYTHONDONTWRITEBYTECODE

# The one script of the console that is not ours: its release, and the digest by which a package registry names it.
HTMX := 2.0.11
HTMX_SHA512 := Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==

.PHONY: sandbox compose test bench lint docs golden lock htmx clean help

sandbox: .venv/sandbox.stamp  ## the whole service in one process; PORT=, DATA=, DEMO=0
	@exec $(BIN)/notification-ledger sandbox

compose: .venv/sandbox.stamp  ## the roles with all that they need, in containers; needs Docker with Compose
	$(BIN)/python -m ops.compose .data/compose
	docker compose up --build --wait

test: .venv/dev.stamp .venv-checkers/stamp  ## all checks and tests, on real servers; PARTS=lint,unit
	$(BIN)/python -m tests.support.servers run -- $(BIN)/tox$(if $(PARTS), -e $(PARTS))

bench: .venv/dev.stamp  ## the speed table of this machine; JSON=, ONLY=
	@exec $(BIN)/python -m bench

lint: .venv/dev.stamp  ## the checks alone, without tests
	$(BIN)/tox -q run -e lint,types,imports

docs: .venv/dev.stamp  ## the generated parts of docs/ and the dashboards, written anew
	$(BIN)/python -m tests.docs.generate
	$(BIN)/python -m monitoring.grafana.draw

golden: .venv/dev.stamp  ## what the templates say with made-up data, written anew: look at what changed
	$(BIN)/notification-ledger templates lint --golden tests/unit/templates/golden --keep

lock: .venv/dev.stamp  ## pin requirements/*.in with hashes and no index address; LOCK=--upgrade for newer ones
	for name in $(INPUTS); do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links $(LOCK) -o requirements/$$name.txt requirements/$$name.in || exit 1; done

htmx:  ## the console's htmx, as HTMX and HTMX_SHA512 name it; needs npm and openssl
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		npm pack --silent --pack-destination "$$folder" htmx.org@$(HTMX) >/dev/null && \
		test "$$(openssl dgst -sha512 -binary "$$folder"/*.tgz | base64 | tr -d '\n')" = "$(HTMX_SHA512)" && \
		tar -xzf "$$folder"/*.tgz -C "$$folder" package/dist/htmx.min.js package/LICENSE && \
		cp "$$folder/package/dist/htmx.min.js" api/console/static/htmx.min.js && \
		cp "$$folder/package/LICENSE" api/console/static/htmx-LICENSE.txt

clean:  ## everything that can be made again; the sandbox's data stay
	rm -rf .venv .venv-checkers .tox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo 'this Python has no venv; run: apt-get install python3-venv'; exit 1; }
	$(PYTHON) -m venv .venv

# uv takes 5 s where pip takes 90; but a mirror that only pip's own configuration names is known to pip alone.
install = $(BIN)/uv pip install --quiet --python $(1)/bin/python --require-hashes -r requirements/$(2).txt \
	|| $(BIN)/pip --python $(1)/bin/python install --quiet --require-hashes -r requirements/$(2).txt

.venv/bin/uv: requirements/install.txt | .venv/bin/python
	$(BIN)/pip install --quiet --require-hashes -r $<
	@touch $@

.venv/sandbox.stamp: requirements/sandbox.txt pyproject.toml | .venv/bin/uv
	$(call install,.venv,sandbox)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/sandbox.stamp
	$(call install,.venv,dev)
	@touch $@

.venv-checkers/stamp: requirements/checkers.txt | .venv/dev.stamp
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-checkers
	$(call install,.venv-checkers,checkers)
	@touch $@
