"""Measurements beside peers. Each module is a command: `python -m benchmarks.NAME --json FILE`."""
