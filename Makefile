# For contributors. `make venv` once, `make check` before every commit; .ci/run does the same and
# more in a fresh copy.
.PHONY: check test lint format nightly bench ci venv

check: lint test

test:
	.venv/bin/pytest -n 2

lint:
	.ci/lint

format:
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

nightly:
	.venv/bin/pytest -n 2 --nightly

# Against the peers, about 12 minutes: pip install -e '.[bench]' first. See docs/performance.md.
bench:
	.venv/bin/python -m benchmarks

ci:
	.ci/run

venv:
	python3 -m venv .venv
	.venv/bin/pip install --editable '.[lint]'
