# What a person types. The work is done by the scripts in tools/.

SHELL := /bin/sh
BIN := .venv/bin
# For "make test": what to hand to nose2, e.g. ARGS="-v tests.engine.test_wire". For "make bench": its options.
ARGS ?=
# For "make test": a file to write the counts to as well.
COUNTS ?=
# For "make test": how many processes run tests at once, where all of them are run. A fifth of the time of three on
# two processors was spent waiting.
JOBS ?= $(shell expr $$(nproc) + 2)
# For "make test-hard": how many times each way.
RUNS ?= 1
# For "make fuzz": how long each target is fuzzed.
SECONDS ?= 60

.DEFAULT_GOAL := help
# Two of the steps may want apt-get, which runs alone.
.NOTPARALLEL:
# Every target is a word for people, and no file.
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' Makefile)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

venv: ## make .venv and install the project there
	@tools/venv.sh

try: debian-try venv ## open an sftp session on a throw-away jail
	@tools/try.sh

try-gridfs: debian-try venv-gridfs ## open one on files in a throw-away database, for trying out and tests
	@tools/try-gridfs.sh

try-s3: debian-try venv ## open one on a bucket of a throw-away S3 server, for trying out and tests
	@tools/try-s3.sh

try-server: debian-try venv-server ## start a standalone SSH server with a temporary user, for trying out
	@tools/try-server.sh

try-web: venv-web ## start a server for browsers and WebDAV with a temporary user, for trying out
	@tools/try-web.sh

try-laboratory: venv-laboratory ## start a message server and a client of it on this terminal, for trying out
	@tools/try-laboratory.sh

test: debian-test venv-test axe ## install what the tests need and run them
	@$(BIN)/python tools/run_tests.py --jobs $(JOBS) $(if $(COUNTS),--counts $(COUNTS)) -- $(ARGS)

test-hard: debian-test debian-hard debian-packaging venv-test venv-dist venv-docs axe azurite ## run all tests four ways: alone, with busy processors, four at once, shuffled (RUNS=1)
	@tools/test-hard.sh "$(RUNS)"

test-latest: debian-test venv-latest axe ## run them with the newest versions of other people's packages, in .venv-latest
	@.venv-latest/bin/python tools/run_tests.py --jobs $(JOBS) -- $(ARGS)

test-pythons: debian-test axe ## run them with the distribution's own Python and with the newest one that is there
	@tools/test-pythons.sh $(ARGS)

constraints: ## have "make test" use the versions that "make test-latest" does
	@tools/venv.sh --latest conformance,docs,dist
	@sed '/^[^#]/d' tools/constraints.txt > tools/constraints.new
	@.venv-latest/bin/python -m pip --disable-pip-version-check freeze --exclude-editable >> tools/constraints.new
	@mv tools/constraints.new tools/constraints.txt

fuzz: venv-test ## fuzz every parser that a client can reach, SECONDS=60 each
	@tools/fuzz.sh "$(SECONDS)"

bench: debian-test debian-bench venv-test ## measure beside OpenSSH's sftp-server and GridFS's driver (a quarter of an hour, idle)
	@$(BIN)/python -m bench.run $(ARGS)

costs: debian-test venv-test ## measure what logins, sessions, requests and bytes cost, and a small load (five minutes; ARGS="--only pysftpd")
	@$(BIN)/python -m bench.costs $(ARGS)
	@$(if $(ARGS),:,$(BIN)/python -m bench.simulation.load)
	@$(BIN)/python tools/docs_tables.py

simulate: venv-test ## simulate many users with those costs, and write the tables of docs/scale.md (three minutes)
	@$(BIN)/python -m bench.simulation $(ARGS)
	@$(BIN)/python tools/docs_tables.py

evidence: debian-test venv-test axe ## run what proves the claims in a short form and write docs/evidence.md (twenty minutes, idle; ARGS=fuzz for one section)
	@$(BIN)/python -m tools.evidence $(ARGS)

lint: venv-test ## check style (ruff) and types (mypy)
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/mypy || status=1; \
	exit $$status

dist: venv-dist ## build the source distribution and the wheel into dist/, and check them
	@tools/dist.sh

deb: debian-packaging dist ## build a Debian package into dist/, and check it with lintian
	@tools/deb.sh

conformance: debian-conformance venv-conformance ## probe SFTP servers and write docs/conformance.md (ten minutes; as root for all of them; ARGS=openssh for one, ARGS=--page for none)
	@$(BIN)/python -m tools.conformance $(ARGS)

docs-tables: venv-test ## write the tables of the pages anew, from the tables in the code
	@$(BIN)/python tools/docs_tables.py

site: venv-docs ## build the documentation site into build/site; broken links and anchors fail
	@$(BIN)/python -m tools.site_builder $(ARGS)

pictures: debian-test venv-test ## draw the picture of the README anew, and record its session
	@$(BIN)/python tools/pictures.py
	@$(BIN)/python tools/recording.py

release: venv-test venv-dist ## check, build twice and compare, list the contents, and tag (VERSION=2.0.0 TESTED=yes); pushes nothing
	@$(BIN)/python -m tools.release --tested "$(TESTED)" "$(VERSION)"

screenshots: debian-test venv-test ## take the pictures of the pages of docs/ anew, from real sessions (ARGS=web)
	@$(BIN)/python tools/screenshots.py $(ARGS)

format: venv-test ## format the code, and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove the environments and everything generated
	@rm -rf .venv .venv-* build dist *.egg-info .hypothesis .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv-gridfs:
	@tools/venv.sh mongo,embedded

venv-server:
	@tools/venv.sh sshd

venv-web:
	@tools/venv.sh web

venv-laboratory:
	@tools/venv.sh laboratory

venv-test:
	@tools/venv.sh test

venv-docs:
	@tools/venv.sh docs

venv-dist:
	@tools/venv.sh dist

venv-conformance:
	@tools/venv.sh conformance

venv-latest:
	@tools/venv.sh --latest test

azurite:
	@tools/azurite.sh

axe:
	@tools/axe.sh

debian-try:
	@tools/debian.sh try

debian-hard:
	@tools/debian.sh hard

debian-conformance:
	@tools/debian.sh conformance

debian-packaging:
	@tools/debian.sh packaging

debian-bench:
	@tools/debian.sh bench

# Run by root, sshd wants this directory even for a configuration of one's own; an sshd started as a
# service has it made.
debian-test:
	@tools/debian.sh test
	@[ -d /run/sshd ] || [ "$$(id -u)" != 0 ] || install -d -m 755 /run/sshd
