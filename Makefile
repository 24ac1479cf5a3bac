# make book    set up, execute every chapter, build the site with warnings as errors
# make test    set up, lint, check types, run tests and every chapter
# Needs git, make, and Python 3.11 or newer with pip and venv. Another Python, before the first run:
# make book PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
BIN    := $(VENV)/bin
LOWEST := .venv-lowest/bin
# A version that uv finds or fetches, or the path of a Python.
COLAB_PYTHON  ?= 3.13
LOWEST_PYTHON ?= 3.11
SITE   := book/_build/html/index.html
READY  := $(VENV)/.ready

# One torch thread per kernel: two kernels run side by side, and two times as
# many threads as cores make both of them several times slower. It also keeps
# the order of floating-point sums, and so the printed numbers, the same.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
# The notebook kernel chooses its own drawing backend; one set outside would
# leave the pages without figures.
unexport MPLBACKEND
# Python looks at the checkout only, never at a parent project's modules.
unexport PYTHONPATH
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help setup book test lint types notebooks check serve reproduce bench repository constraints colab-check lowest-check clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-12s %s\n", $$1, $$2}'

# The stamp is younger than the two files that decide what is installed.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.12 ..." % v or 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[book,test]'
	@touch $@

setup: $(READY)  ## create .venv and install the project with tested versions

book: $(READY)  ## execute what changed and build the site
	$(BIN)/python tools/notebooks.py warm --jobs $(JOBS)
	$(BIN)/jupyter-book build --all -W -n --keep-going book/
	@echo "The site is ready: open file://$(CURDIR)/$(SITE) or run 'make serve'."

test: $(READY) lint types  ## lint, types, tests and every chapter
	$(BIN)/python -m pytest --nbval -n $(JOBS) --dist loadfile

lint: $(READY)  ## ruff on package, tests, tools and chapters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## mypy on the package, the tools and the benchmarks
	$(BIN)/mypy src tools bench

notebooks: $(READY)  ## execute chapters in place and store their outputs (CHAPTER=03 for one)
	$(BIN)/python tools/notebooks.py execute --jobs $(JOBS) $(CHAPTER)
	$(BIN)/python tools/notebooks.py check $(CHAPTER)

check: $(READY)  ## the quick gates on the chapters, without running them
	$(BIN)/python tools/notebooks.py check

serve: $(READY)  ## look at the built site on http://127.0.0.1:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory book/_build/html

reproduce: $(READY)  ## repeat a recorded claim: make reproduce CLAIM=...
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS $(BIN)/snnlib reproduce $(or $(CLAIM),--list)

bench: $(READY)  ## speed against peers; first: .venv/bin/python -m pip install -e '.[bench]' (BENCH=--keep: for the book)
	$(BIN)/snnlib bench $(BENCH)

repository: $(READY)  ## put the repository address everywhere: make repository URL=https://github.com/...
	$(BIN)/python tools/repository.py $(URL)
	$(BIN)/python tools/notebooks.py setup

constraints: $(READY)  ## take the newest versions into constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --upgrade --no-header --no-annotate --quiet -o constraints.txt

colab-check: $(READY)  ## every notebook with Colab's versions, installed as its first cell does
	$(BIN)/python tools/colab_check.py --python $(COLAB_PYTHON) --jobs $(JOBS)

lowest-check: $(READY)  ## everything with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --python $(LOWEST_PYTHON) .venv-lowest
	$(BIN)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct -e '.[book,test]'
	$(LOWEST)/ruff check .
	$(LOWEST)/ruff format --check .
	$(LOWEST)/mypy --cache-dir=.mypy_cache/lowest src tools
	$(LOWEST)/python -m pytest tests -n $(JOBS) --dist loadfile
	$(LOWEST)/python tools/notebooks.py try --jobs $(JOBS)
	@echo "The lower bounds of pyproject.toml are true."

clean:  ## remove the built site and its cache (not .venv)
	rm -rf book/_build
