"""Prints the tables of coverage in docs/statistics.md: `python -m experiments.intervals [--samples 1000]`."""

from __future__ import annotations

import argparse

from experiments.intervals.coverage import SIZES, clustered, coverage


def main() -> None:
    """Both tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="simulated samples of each line")
    samples = parser.parse_args().samples
    print("| figure | items | percentile | now |\n|---|---|---|---|")
    for figure in coverage(samples, SIZES):
        print(f"| {figure.name} | {figure.n} | {figure.before:.1%} | {figure.now:.1%} |", flush=True)
    print("\n| figure | prompts × answers | rows as if independent | by prompt |\n|---|---|---|---|")
    for figure in clustered(samples):
        print(f"| {figure.name} | {figure.n} | {figure.before:.1%} | {figure.now:.1%} |", flush=True)


if __name__ == "__main__":
    main()
