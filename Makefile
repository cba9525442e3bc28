# Every task of the project. `make` alone lists them. What must be there: Python 3.10 or newer, GNU make
# and git. The packages go into the folder .venv, the book into the folder _build; `make distclean`
# removes both.

# ---- Variables: `make help` explains them ----------------------------------------------------------

PYTHON ?=
VENV   ?=
PORT   ?= 8000
JOBS   ?= 2

# Not given: the index that .venv was made with, so that a plain `make book` later does not start over.
ifeq ($(origin TORCH_INDEX),undefined)
TORCH_INDEX := $(shell sed -n 2p .venv/made-for 2>/dev/null)
endif

SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN     := $(or $(VENV),.venv)/$(SCRIPTS)
PY      := $(BIN)/python

unexport MPLBACKEND   # a backend set by the user would keep the figures out of the notebooks
.NOTPARALLEL:         # so that `make -j test` also installs first and tests last
.DEFAULT_GOAL := help

# What is written on the command line reaches a recipe as $(URL), which the shell would read anew, and as
# "$$URL", of the environment, which may hold any character.

# ---- Tasks -----------------------------------------------------------------------------------------

.PHONY: help setup book pdf serve lab notebooks nbdiff test test-notebooks status portable lint style format bench lock clean distclean
.PHONY: set-repository check-repository dist check-release release test-library oldest newest colab links audit
.PHONY: report-failure check-chapter chapter

help: ## list the tasks and the variables
	@echo "Usage: make TASK [VARIABLE=value ...]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /  \1 /p' $(firstword $(MAKEFILE_LIST)) \
	  | while read -r task text; do printf '  %-17s %s\n' "$$task" "$$text"; done
	@echo
	@echo "Variables:"
	@echo "  PYTHON       the interpreter that .venv is made with (default: the first that is 3.10 or newer"
	@echo "               of python3, python3.14, python3.13, ... python3.10 and python)"
	@echo "  TORCH_INDEX  on Linux torch brings several GB of CUDA libraries. To do without them, give the"
	@echo "               address of a package index with CPU-only builds of torch: the one in the command"
	@echo "               that pytorch.org's installer page shows for CPU. .venv remembers it."
	@echo "  VENV         an environment of your own to use in place of .venv; nothing is installed into it"
	@echo "  PORT         where 'make serve' listens (default 8000)"
	@echo "  JOBS         how many tests run side by side (default 2)"
	@echo "  PORTABLE     what 'make portable' is to run, in place of all three processors: for example"
	@echo "               PORTABLE='--processor sse41 notebooks'"
	@echo "  COLAB        which versions 'make colab' takes, and more for tools/colab.py:"
	@echo "               COLAB='newest --notebooks notebooks/01_boxes.ipynb'"
	@echo "  UPGRADE      'make lock UPGRADE=1' moves every package to its newest version"

setup: $(if $(VENV),check-venv,make-venv) ## make .venv and install everything into it (each task does this first)

book: setup ## build the book into _build/html
	@$(PY) tools/photographs.py make || { \
	  echo "A chapter on photographs failed (see above): mend it, then run make book again." >&2; exit 1; }
	@sum=$$($(book_sum)); \
	if test "$$sum" != "$$(cat _build/built-from 2>/dev/null)"; then \
	  rm -rf _build/html _build/.doctrees _build/jupyter_execute; mkdir -p _build; \
	  $(BIN)/jupyter-book build . -W -n --keep-going -q || { \
	    echo "The book has errors or warnings: mend those listed above, then run make book again." >&2; exit 1; }; \
	  echo "$$sum" > _build/built-from; \
	fi
	@echo "Open _build/html/index.html"

pdf: book ## print the book: _build/book.pdf (takes Chromium)
	$(PY) tools/pdf.py

serve: book ## build the book and show it at http://127.0.0.1:8000
	@$(PY) -c 'import socket; socket.create_server(("127.0.0.1", $(PORT)))' 2>/dev/null || { \
	  echo "Port $(PORT) cannot be used: choose another one, for example make serve PORT=8123." >&2; exit 1; }
	@echo "The book is at http://127.0.0.1:$(PORT)/ until you press Ctrl-C."
	@$(PY) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

nbdiff: setup ## let git show and merge notebooks cell by cell (once, for this clone)
	@bin=$$(cd "$(BIN)" && pwd) && \
	git config diff.jupyternotebook.command "'$$bin/git-nbdiffdriver' diff" && \
	git config merge.jupyternotebook.name "notebooks, cell by cell" && \
	git config merge.jupyternotebook.driver "'$$bin/git-nbmergedriver' merge %O %A %B %L %P"
	@echo "git diff and git merge now look at cells. To undo it:"
	@echo "  git config --remove-section diff.jupyternotebook"
	@echo "  git config --remove-section merge.jupyternotebook"

lab: setup ## open the notebooks in JupyterLab
	$(BIN)/jupyter-lab notebooks

notebooks: setup ## run again, and save, the notebooks whose code or library changed
	$(PY) tools/notebooks.py

test: style book ## check style, build the book, run every test
	@$(PY) tools/status.py --begin
	$(BIN)/pytest $(by_file) --junitxml=_build/reports/tests.xml tests rpn_lib
	$(nbval) --junitxml=_build/reports/notebooks.xml $$books

test-notebooks: setup ## run every notebook, and compare its outputs with the stored ones
	$(nbval) $$books

# Each file to the worker that is free, in the order of tests/conftest.py: by itself xdist begins with the
# files of most tests, and a long one of few tests is left over for the end.
by_file = -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Notebooks on data that is not here, and cannot be downloaded, are named and left out.
nbval = books=$$($(PY) tools/photographs.py runnable) && OMP_NUM_THREADS=1 $(BIN)/pytest $(by_file) \
  --nbval --nbval-sanitize-with tests/nbval.cfg

status: setup ## write the status page of the book from what the last make test and make bench have found
	$(PY) tools/status.py

portable: setup ## run tests and notebooks as on other processors, and say what differs
	$(PY) tools/portable.py --jobs $(JOBS) $(PORTABLE)

lint: style ## check format, style, types, workflows and the layout of the library
	$(BIN)/pytest -q tests/test_layout.py

# All of it that is no test.
style: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(BIN)/check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml

format: setup ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## compare with torchvision: times and memory
	$(PY) tests/bench.py
	$(PY) tests/bench_growth.py

lock: ## write requirements.txt anew from pyproject.toml and requirements.in
	@rm -rf _build/lock && mkdir -p _build
	@$(find_venv); \
	"$$python" -m venv _build/lock && _build/lock/$(SCRIPTS)/python -m $(PIP) -q uv || { \
	  echo "uv could not be installed (see above): check the network, then run make lock again." >&2; exit 1; }
	_build/lock/$(SCRIPTS)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --generate-hashes \
	  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) pyproject.toml requirements.in -o requirements.txt
	@rm -rf _build/lock
	@echo "requirements.txt is up to date. Now run make test."

dist: setup ## build sdist and wheel into dist/ and check them
	@$(call with_tools,hatchling hatch-fancy-pypi-readme twine)
	_build/tools/$(SCRIPTS)/python tools/release.py build
	_build/tools/$(SCRIPTS)/twine check --strict dist/rpn_lib-*
	$(PY) tools/release.py imports dist/rpn_lib-*.whl
	OMP_NUM_THREADS=1 $(PY) tools/release.py test dist/rpn_lib-*.whl

check-release: ## does TAG=v1.2.3 name the version, and has CHANGELOG.md a section for it?
	@$(find_python); "$$python" tools/release.py check "$$TAG"

release: check-release ## publish the files of dist/ on GitHub, under TAG, with the notes of CHANGELOG.md
	@command -v gh >/dev/null || { echo "The command gh is missing: https://cli.github.com has it." >&2; exit 1; }
	@$(find_python); "$$python" tools/release.py notes "$$TAG" | gh release create "$$TAG" --verify-tag --notes-file - dist/rpn_lib-*

test-library: setup ## the tests of the library alone: no book, no notebooks, no browser, no tools
	$(BIN)/pytest $(by_file) tests rpn_lib --ignore tests/browser \
	  $(patsubst %,--ignore tests/test_%.py,$(of_tools))

# Tests of the book, the notebooks and what makes them, which run on Linux and macOS.
of_tools = book chapter colab makefile notebooks photographs portable release repository status workflows

newest: ## make test with the newest version of every package, in .venv-newest
	@$(call fresh_venv,torch torchvision,--upgrade)
	$(MAKE) test VENV=.venv-newest

oldest: ## the tests of the library with the oldest torch that is supported, in .venv-oldest
	@$(find_python); "$$python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || { \
	  echo "torch 2.4 and NumPy 1.26 are not made for Python $$version: make oldest PYTHON=python3.12, or an older one." >&2; exit 1; }
	@$(call fresh_venv,'torch==2.4.*' 'torchvision==0.19.*','numpy<2')
	$(MAKE) test-library VENV=.venv-oldest

colab: setup ## every notebook as Colab runs it, with the oldest, the pinned and the newest torch (GBs): COLAB=newest
	$(PY) tools/colab.py $(COLAB) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

links: setup ## follow every link of the book
	$(BIN)/jupyter-book build . --path-output _build/links --builder custom --custom-builder linkcheck -q

audit: ## look the packages of requirements.txt up among the known vulnerabilities
	@$(call with_tools,pip-audit)
	_build/tools/$(SCRIPTS)/pip-audit --requirement requirements.txt --disable-pip --require-hashes --strict

chapter: setup ## begin a chapter from the template: NAME=15_masks, perhaps TITLE=Masks
	@$(PY) tools/chapter.py "$$NAME" $${TITLE:+"$$TITLE"}

check-chapter: setup ## style, rules and outputs of one chapter: NAME=05_matching; QUICK=1 does not run it
	@test -f "notebooks/$(NAME).ipynb" || { echo "There is no notebooks/$(NAME).ipynb: give NAME=05_matching, for example." >&2; exit 2; }
	$(BIN)/ruff format --check "notebooks/$(NAME).ipynb"
	$(BIN)/ruff check "notebooks/$(NAME).ipynb"
	$(BIN)/pytest -q tests/test_notebooks.py -k "$(NAME)"
	$(if $(QUICK),@echo "NOT RUN: the cells of $(NAME).",OMP_NUM_THREADS=1 $(BIN)/pytest -q --nbval --nbval-sanitize-with tests/nbval.cfg "notebooks/$(NAME).ipynb")

report-failure: ## open an issue on GitHub for each failed job of run=ADDRESS (the weekly workflow does)
	@command -v gh >/dev/null || { echo "The command gh is missing: https://cli.github.com has it." >&2; exit 1; }
	@failed=$$(gh run view "$${run##*/}" --json jobs --jq '.jobs[] | select(.conclusion == "failure") | .name') || exit 1; \
	echo "$$failed" | while read -r what; do \
	  test -z "$$what" || gh issue list --state open --search "in:title \"$$what fails\"" --json title --jq '.[].title' </dev/null \
	    | grep -qxF "$$what fails" \
	    || gh issue create --title "$$what fails" --body "See $$run" </dev/null || exit 1; \
	done

set-repository: ## write the repository's address wherever it is needed: URL=https://github.com/ME/REPO
	@test "$(origin URL)" = "command line" || { \
	  echo "Which address? make set-repository URL=https://github.com/ME/REPO, or URL= for none." >&2; exit 2; }
	@$(find_python); "$$python" tools/repository.py set "$$URL"

check-repository: ## find every place that disagrees with the address; REPOSITORY=ME/REPO: is it that one?
	@$(find_python); "$$python" tools/repository.py check --expect "$$REPOSITORY"

clean: ## remove the built book and all caches
	rm -rf _build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .jupyter_cache
	find . -name '.venv*' -prune -o -type d '(' -name __pycache__ -o -name .ipynb_checkpoints ')' -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv and the environments of make newest and make oldest too
	rm -rf .venv .venv-newest .venv-oldest

# ---- How .venv is made -----------------------------------------------------------------------------
#
# .venv/made-for  the checkout's folder and TORCH_INDEX. Written before all else: a .venv without it is
#                 somebody else's, and is left alone.
# .venv/ready     a checksum of what was installed. Written last: without it the set-up was interrupted.
#
# Files are compared by content, not by date: a touched file installs nothing, a changed one is noticed.

.PHONY: make-venv check-venv

PIP := pip install --disable-pip-version-check --no-input --progress-bar off
LOG := .venv/install.log

make-venv:
	@if test -e .venv && ! test -e .venv/made-for; then \
	  echo "The folder .venv was not made by make: run make with VENV=.venv to use it as it is, or remove it." >&2; exit 1; \
	fi
	@{ $(venv_is_whole); } || { \
	  $(find_venv); \
	  echo "Making .venv with Python $$version ($$python)"; \
	  mkdir -p .venv && find .venv -mindepth 1 -maxdepth 1 ! -name made-for -exec rm -rf {} + ; \
	  printf '%s\n' "$(CURDIR)" "$(TORCH_INDEX)" > .venv/made-for; \
	  "$$python" -m venv .venv > $(LOG) 2>&1 || { \
	    tail -n 5 $(LOG) >&2; \
	    echo "$$python could not make .venv (see above): try another one with PYTHON=..." >&2; exit 1; }; \
	}
	@sum=$$(cat requirements.txt pyproject.toml | cksum); \
	test "$$sum" = "$$(cat .venv/ready 2>/dev/null)" || { \
	  echo "Installing the packages of requirements.txt into .venv (minutes; progress is in $(LOG))"; \
	  was=$$(cat .venv/ready 2>/dev/null); rm -f .venv/ready; \
	  { $(install_packages) && $(PY) -m $(PIP) --no-deps -e .; } > $(LOG) 2>&1 || { \
	    test -z "$$was" || echo "$$was" > .venv/ready; \
	    tail -n 5 $(LOG) >&2; \
	    echo "Packages could not be downloaded or installed (whole log: $(LOG)): check the network and the free disk space, then run make again." >&2; exit 1; }; \
	  echo "$$sum" > .venv/ready; \
	}

ifeq ($(TORCH_INDEX),)
install_packages = $(PY) -m $(PIP) -r requirements.txt
else
# torch and torchvision from that index first, whose builds have hashes of their own; then the rest, without
# what only CUDA builds of torch need.
install_packages = \
  grep -oE '^(torch|torchvision)==[^ ;]+' requirements.txt | sort -u > .venv/torch.txt && \
  awk '/^[^ #]/ { skip = /^(nvidia-|cuda-|triton|torch==|torchvision==)/ } !skip' requirements.txt > .venv/rest.txt && \
  $(PY) -m $(PIP) --no-deps --index-url "$(TORCH_INDEX)" -r .venv/torch.txt && \
  $(PY) -m $(PIP) --no-deps -r .venv/rest.txt
endif

# True where .venv was completed in this folder, with this TORCH_INDEX and this PYTHON (if given), and runs.
python_version = import sys; print("%d.%d.%d" % sys.version_info[:3])
venv_is_whole = test -e .venv/ready \
  && test "$$(printf '%s\n' "$(CURDIR)" "$(TORCH_INDEX)")" = "$$(cat .venv/made-for)" \
  && version=$$($(PY) -c '$(python_version)' 2>/dev/null) \
  $(if $(PYTHON),&& test "$$version" = "$$("$(PYTHON)" -c '$(python_version)' 2>/dev/null)")

# Sets $python, the interpreter, and $version, or says what is missing. To be used at the start of a recipe line.
define find_python
seen=; python=; \
for name in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python3.10 python); do \
  version=$$("$$name" -c '$(python_version)' 2>/dev/null) || continue; \
  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then python=$$name; break; fi; \
  seen="$$seen $$name is $$version,"; \
done; \
if test -z "$$python"; then \
  echo "Python 3.10 or newer is needed;$${seen:- no $(or $(PYTHON),python3) was found,} so install a newer one, or say where it is: make PYTHON=python3.12 ..." >&2; exit 1; \
fi
endef

# The same, and it can make environments.
define find_venv
$(find_python); \
if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
  echo "$$python ($$version) lacks the modules venv and ensurepip. Debian and Ubuntu have them in a package of their own: apt install python$${version%.*}-venv, then run make again." >&2; exit 1; \
fi
endef

# Tools that only a maintainer needs, in an environment of their own: $(call with_tools,NAMES)
with_tools = $(find_venv); mkdir -p _build; "$$python" -m venv _build/tools && \
  _build/tools/$(SCRIPTS)/python -m $(PIP) -q $(1) || { \
    echo "$(1) could not be installed (see above): check the network, then try again." >&2; exit 1; }

# The environment of a task with other versions, .venv-TASK: $(call fresh_venv,TORCH AND TORCHVISION,MORE)
fresh_venv = $(find_venv); rm -rf .venv-$@; "$$python" -m venv .venv-$@ && \
  $(if $(TORCH_INDEX),.venv-$@/$(SCRIPTS)/python -m $(PIP) -q --no-deps --index-url "$(TORCH_INDEX)" $(1) && \
  ).venv-$@/$(SCRIPTS)/python -m $(PIP) -q -e '.[test]' $(1) $(2) || { \
    echo "Packages could not be installed (see above): check the network, then run make $@ again." >&2; exit 1; }

# An environment of the user's own is only looked at: does it import what is needed, and this folder's rpn_lib?
check-venv:
	@test -x $(PY) || { echo "VENV=$(VENV) is no Python environment: $(PY) is missing." >&2; exit 1; }
	@found=$$($(PY) -c '$(find_library)' 2>/dev/null); \
	test "$$found" = "$(CURDIR)/rpn_lib" || { \
	  why=$${found:+"has the rpn_lib of another folder, $$found"}; \
	  echo "VENV=$(VENV) $${why:-cannot import torch, jupyter_book and rpn_lib}. Run: $(PY) -m pip install -r requirements.txt && $(PY) -m pip install --no-deps -e ." >&2; exit 1; }

find_library = import os, sys; sys.path = [p for p in sys.path if p]; \
  import torch, jupyter_book, rpn_lib; print(os.path.realpath(rpn_lib.__path__[0]).replace(os.sep, "/"))

# A checksum of everything that the book is built from.
book_sum = find $(wildcard _config.yml _toc.yml *.md CITATION.cff requirements.txt) book notebooks rpn_lib \
  $$(ls -d _build/photographs 2>/dev/null) -type f \
  ! -path '*/__pycache__/*' ! -path '*/.ipynb_checkpoints/*' -exec cksum {} + | LC_ALL=C sort | cksum
