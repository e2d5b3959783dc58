"""Change one place of the code at a time and see whether the mirrored tests notice: `make mutants`.

Places are drawn at random: one operator of cosmic-ray, or one dropped keyword argument, each. A mutant runs the tests
of its room that execute its line, in a copy of the working tree. The exit status is 1 where too few are killed.
"""

# cosmic-ray comes with the extra `mutants` alone, and has no types.
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false, reportGeneralTypeIssues=false

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from subprocess import CompletedProcess

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from coverage import CoverageData

ROOMS = ("objectives", "training", "models", "sampling", "statistics.py", "evaluation", "data", "rewards", "reports",
         "algorithms", "analysis")  # fmt: skip
COPIED = ("twofold", "tests", "recipes", "docs", "experiments", "benchmarks", "scripts", "pyproject.toml", "README.md",
          "Makefile", "constraints.txt")  # fmt: skip
LONGEST = 300  # seconds: a mutant that loops for ever is noticed


class DropKeywordArgument(Operator):
    """`f(a, b=c)` becomes `f(a)`: a setting that is not handed on."""

    def mutation_positions(self, node):
        for child in self._arguments(node):
            yield child.start_pos, child.end_pos

    def mutate(self, node, index):
        child = self._arguments(node)[index]
        at = node.children.index(child)
        if len(node.children) == at + 1:
            del node.children[max(at - 1, 0) : at + 1]
        else:
            del node.children[at : at + 2]
        return node

    @staticmethod
    def _arguments(node):
        return (
            [c for c in node.children if c.type == "argument" and c.children[1] == "="]
            if node.type == "arglist"
            else []
        )

    @classmethod
    def examples(cls):
        return ()


@dataclass
class Mutant:
    """One change: the file, the operator, which of its occurrences there, the line, and what became of it."""

    path: str
    operator: str
    occurrence: int
    line: int
    outcome: str = ""
    diff: str = ""


def _operator(name: str) -> Operator:
    return DropKeywordArgument() if name == DropKeywordArgument.__name__ else get_operator(name)()


def _silent_spans(source: str) -> list[tuple[int, int, int, int]]:
    """Where a change means nothing: annotations, decorators' names, imports for the type checker, assertions."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            parts.append(node)
        spans += [(p.lineno, p.col_offset, p.end_lineno, p.end_col_offset) for p in parts if p is not None]  # type: ignore[attr-defined]
    return spans


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of one file; several of one operator kind at one place count as one (`draw` takes any of them)."""
    source = path.read_text(encoding="utf-8")
    nodes, silent = list(ast_nodes(get_ast(source))), _silent_spans(source)
    names = [n for n in operator_names() if not get_operator(n).arguments() and "RemoveDecorator" not in n]
    mutants = []
    for name in [*names, DropKeywordArgument.__name__]:
        operator = _operator(name)
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (line, column) in enumerate(starts):
            if not any((a, b) <= (line, column) < (c, d) for a, b, c, d in silent):
                mutants.append(Mutant(str(path), name, occurrence, line))
    return mutants


def draw(paths: list[Path], sample: int, seed: int) -> list[Mutant]:
    """`sample` changes at places drawn without preference for places that can be changed in many ways."""
    generator, places = random.Random(seed), {}
    for path in paths:
        for mutant in mutants_of(path):
            kind = mutant.operator.split("/")[-1].split("_")[0]
            places.setdefault((mutant.path, mutant.line, kind), []).append(mutant)
    chosen = generator.sample(sorted(places), min(sample, len(places)))
    return [generator.choice(places[place]) for place in chosen]


def mirrored(path: str) -> str:
    """The tests that answer for a file: its room's folder, or the test file of a module at the top."""
    parts = Path(path).parts
    return f"tests/{parts[1]}" if len(parts) > 2 else f"tests/test_{parts[1]}"


def tests_by_line(root: Path, tests: str, cache: Path) -> CoverageData:
    """Which tests of a folder run which lines, recorded once (delete `cache` to record again)."""
    file = cache / f"{tests.replace('/', '-')}.coverage"
    if not file.exists():
        arguments = ["--cov=twofold", "--cov-context=test", "--cov-report=", tests]
        run = _pytest(root, arguments, {"COVERAGE_FILE": str(file)}, 3600)
        if run.returncode:
            sys.exit(f"{tests} fails without a mutant: mend that first\n{run.stdout[-2000:]}{run.stderr[-1000:]}")
    data = CoverageData(str(file))
    data.read()
    return data


def _pytest(root: Path, arguments: list[str], extra: dict[str, str], seconds: float) -> CompletedProcess[str]:
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)} | extra
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=seconds)


def tests_for(mutant: Mutant, root: Path, data: CoverageData) -> list[str]:
    """The tests that run the mutant's line; of a line run at import, all tests that enter its file."""
    by_line = data.contexts_by_lineno(str(root / mutant.path))
    names = {context.split("|")[0] for context in by_line.get(mutant.line, ())} - {""}
    if not names:
        names = {context.split("|")[0] for contexts in by_line.values() for context in contexts} - {""}
    return sorted(names)


def judge(mutant: Mutant, root: Path, tests: list[str]) -> None:
    """Write the mutant into the copy `root`, run `tests`, restore the file, and note the outcome."""
    file = root / mutant.path
    source = file.read_text(encoding="utf-8")
    changed = MutationVisitor.mutate_code(source, _operator(mutant.operator), mutant.occurrence)
    lines = difflib.unified_diff(source.splitlines(), (changed or "").splitlines(), n=0, lineterm="")
    mutant.diff = "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))
    if not tests:
        mutant.outcome = "no test runs it"
        return
    listing = root / "mutant-tests.txt"
    listing.write_text("\n".join(tests))
    file.write_text(changed or source, encoding="utf-8")
    try:
        mutant.outcome = "killed" if _pytest(root, ["-x", f"@{listing}"], {}, LONGEST).returncode else "survived"
    except subprocess.TimeoutExpired:
        mutant.outcome = "killed"
    finally:
        file.write_text(source, encoding="utf-8")


def _copies(number: int) -> Iterator[Path]:
    for _ in range(number):
        root = Path(tempfile.mkdtemp(prefix="mutants-"))
        for name in COPIED:
            copy = shutil.copytree if Path(name).is_dir() else shutil.copy
            copy(name, root / name)
        yield root


def main() -> int:
    """Draw, judge, print; the record of every mutant goes to --out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--required", type=float, default=0.95)
    parser.add_argument("--rooms", nargs="*", default=ROOMS)
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    options = parser.parse_args()
    tops = [Path("twofold") / room for room in options.rooms]
    mutants = draw([p for top in tops for p in ([top] if top.is_file() else sorted(top.rglob("*.py")))],
                   options.sample, options.seed)  # fmt: skip
    roots = list(_copies(options.workers))
    folders = sorted({mirrored(m.path) for m in mutants})
    data = {tests: tests_by_line(roots[0], tests, roots[0]) for tests in folders}
    free: SimpleQueue[Path] = SimpleQueue()
    for root in roots:
        free.put(root)

    def run(mutant: Mutant) -> None:
        root = free.get()
        judge(mutant, root, tests_for(mutant, roots[0], data[mirrored(mutant.path)]))
        free.put(root)
        print(f"{mutant.outcome:16} {mutant.path}:{mutant.line} {mutant.operator}", flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(run, mutants))
    options.out.write_text(json.dumps([asdict(m) for m in mutants], indent=1))
    for root in roots:
        shutil.rmtree(root)
    return summary(mutants, options.required)


def summary(mutants: list[Mutant], required: float) -> int:
    """Print the survivors and the share killed; 1 where it is below `required`."""
    for mutant in mutants:
        if mutant.outcome != "killed":
            print(f"\n{mutant.outcome}: {mutant.path}:{mutant.line}\n{mutant.diff}")
    counts = Counter(m.outcome for m in mutants)
    share = counts["killed"] / max(len(mutants), 1)
    print(f"\n{counts['killed']} of {len(mutants)} killed ({share:.1%}); {dict(counts)}")
    return int(share < required)


if __name__ == "__main__":
    sys.exit(main())
