"""Files for the recipes, and finished runs beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments import gsm8k
from experiments.gsm8k import figures, files
from experiments.harness.files import read_rows, write_rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.gsm8k", description=gsm8k.__doc__)
    parser.add_argument("what", nargs="?", choices=["pairs", "rankings", "compare"], default="pairs")
    parser.add_argument("--better", type=Path, help="pairs: rows whose answers are chosen")
    parser.add_argument("--own", type=Path, help="pairs: rows of the policy's own completions")
    parser.add_argument("--solutions", type=Path, help="rankings: example_model_solutions.jsonl")
    parser.add_argument("--out", type=Path, help="pairs, rankings: the file to write")
    parser.add_argument("--pdpo", type=Path, nargs="*", default=[], help="compare: runs of PDPO, seed by seed")
    parser.add_argument("--dpo", type=Path, nargs="*", default=[], help="compare: runs of DPO in the same order")
    options = parser.parse_args()
    if options.what == "compare":
        print(figures.tables(options.pdpo, options.dpo))
        return
    if options.out is None:
        parser.error(f"{options.what} need --out")
    if options.what == "rankings":
        if not options.solutions:
            parser.error("rankings need --solutions")
        made = files.rankings(options.solutions)
    elif options.better and options.own:
        made = files.pairs(read_rows(options.better), read_rows(options.own))
    else:
        parser.error("pairs need --better and --own")
    print(f"{options.out}: {write_rows(options.out, made)} {options.what}")


if __name__ == "__main__":
    main()
