"""The papers' table on the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments import headline
from experiments.headline import papers


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.headline", description=headline.__doc__)
    parser.add_argument("--pdpo", type=Path, help="a run's folder: of recipes/gsm8k_pdpo.yaml, for one")
    parser.add_argument("--dpo", type=Path, help="a run's folder")
    options = parser.parse_args()
    if options.dpo and not options.pdpo:
        parser.error("--dpo goes with --pdpo")
    print(papers.markdown(papers.of_runs(options.pdpo, options.dpo)))


if __name__ == "__main__":
    main()
