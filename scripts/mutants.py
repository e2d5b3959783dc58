"""Change one place of the code at a time and see whether the mirrored tests notice: `make mutants`.

Places are drawn at random, but for those where no run can differ (`silent_places.py`): one operator of cosmic-ray, or
one dropped keyword argument, each. A mutant runs the tests of its room that execute its line, in a copy of the working
tree; with --quick, where nothing is recorded before, the test files of its room, the nearest first, until 45 CPU
seconds are spent: that counts from below. The exit status is 1 where too few are killed.
"""

# cosmic-ray comes with the extra `mutants` alone, and has no types.
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false, reportGeneralTypeIssues=false

from __future__ import annotations

import argparse
import compileall
import difflib
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

# As in the tests: read when the libraries load, which they do here, once for all mutants.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", MPLBACKEND="Agg")

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from coverage import CoverageData
from near_tests import files_of, mirrored, nearest_first
from silent_places import SilentPlaces, is_change

ROOMS = ("objectives", "training", "models", "sampling", "statistics", "evaluation", "data", "rewards", "reports",
         "algorithms", "analysis")  # fmt: skip
COPIED = ("twofold", "tests", "recipes", "docs", "experiments", "benchmarks", "scripts", "pyproject.toml", "README.md",
          "Makefile", "constraints.txt")  # fmt: skip
KILLER = "mutant-killer.txt"
LONGEST, CPU_SECONDS, OF_ONE_TEST = 1800, 1800, 60  # a mutant that loops for ever, or waits for ever, is noticed
FURTHER = 45  # CPU seconds after which the quick way begins with no further test files
PRELOADED = ("torch", "transformers.models.llama.modeling_llama", "peft", "datasets", "pyarrow.parquet", "scipy.stats",
             "httpx2", "pydantic")  # fmt: skip
PLUGINS = ("-p", "no:cacheprovider", "-p", "pytest_cov.plugin", "-p", "_hypothesis_pytestplugin")


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
        children = node.children if node.type == "arglist" else []
        return [c for c in children if c.type == "argument" and c.children[1] == "="]

    @classmethod
    def examples(cls):
        return ()


@dataclass
class Mutant:
    """One change: the file, the operator, which of its occurrences there, the line, what became of it, and by which
    test."""

    path: str
    operator: str
    occurrence: int
    line: int
    outcome: str = ""
    killer: str = ""
    diff: str = ""


def _operator(name: str) -> Operator:
    return DropKeywordArgument() if name == DropKeywordArgument.__name__ else get_operator(name)()


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of one file; several of one operator kind at one place count as one (`draw` takes any of them)."""
    source = path.read_text(encoding="utf-8")
    nodes, silent = list(ast_nodes(get_ast(source))), SilentPlaces(source)
    names = [n for n in operator_names() if not get_operator(n).arguments() and "RemoveDecorator" not in n]
    mutants = []
    for name in [*names, DropKeywordArgument.__name__]:
        operator = _operator(name)
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, (line, column) in enumerate(starts):
            if not silent.holds(name, (line, column)):
                mutants.append(Mutant(str(path), name, occurrence, line))
    return mutants


def draw(paths: list[Path], sample: int, seed: int) -> list[Mutant]:
    """`sample` changes at places drawn without preference for places that can be changed in many ways."""
    generator, places = random.Random(seed), {}
    for path in paths:
        for mutant in mutants_of(path):
            kind = mutant.operator.split("/")[-1].split("_")[0]
            places.setdefault((mutant.path, mutant.line, kind), []).append(mutant)
    shuffled = generator.sample(sorted(places), len(places))
    drawn = (generator.choice(places[place]) for place in shuffled)
    return list(islice((m for m in drawn if is_change(Path(m.path).read_text("utf-8"), changed(m))), sample))


def changed(mutant: Mutant, root: Path = Path()) -> str:
    """The source of the mutant's file with the change."""
    source = (root / mutant.path).read_text(encoding="utf-8")
    return MutationVisitor.mutate_code(source, _operator(mutant.operator), mutant.occurrence) or source


class OneTest:
    """A plug-in of pytest: a test that computes for longer than OF_ONE_TEST seconds fails; the file KILLER has the name
    of what failed."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            Path(KILLER).write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            Path(KILLER).write_text(f"{report.nodeid} (import)", encoding="utf-8")

    def pytest_runtest_setup(self) -> None:
        signal.signal(signal.SIGVTALRM, self._too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, OF_ONE_TEST)

    def pytest_runtest_teardown(self) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    @staticmethod
    def _too_long(*_: object) -> None:
        pytest.fail(f"more than {OF_ONE_TEST} CPU seconds")


def tests_by_line(root: Path, tests: list[Path], cache: Path, workers: int) -> dict[str, CoverageData]:
    """Which tests of each file run which lines: recorded where neither the file nor the package has changed since."""
    package = _digest(*sorted((root / "twofold").rglob("*.py")), *sorted((root / "tests/support").rglob("*.py")))
    records = {test: cache / package / f"{_digest(root / test)}.coverage" for test in tests}
    waiting, running = [test for test in tests if not records[test].exists()], dict[int, Path]()
    (cache / package).mkdir(parents=True, exist_ok=True)
    while waiting or running:
        while waiting and len(running) < workers:
            test = waiting.pop()
            print(f"recording {test} ({len(waiting)} to come)", flush=True)
            arguments = ["--cov=twofold", "--cov-context=test", "--cov-report=", str(test)]
            running[_start(root, [arguments], {"COVERAGE_FILE": f"{records[test]}.new"}, 3600)] = test
        child, status = os.wait()
        test = running.pop(child)
        if os.waitstatus_to_exitcode(status) not in (0, 5):  # 5: every test of the file is for another run (slow, gpu)
            sys.exit(f"{test} fails without a mutant: mend that first")
        os.replace(f"{records[test]}.new", records[test])
    recorded = {str(test): CoverageData(str(record)) for test, record in records.items()}
    for data in recorded.values():
        data.read()
    return recorded


def _digest(*files: Path) -> str:
    sum_of_all = hashlib.sha256()
    for file in files:
        sum_of_all.update(file.read_bytes())
    return sum_of_all.hexdigest()[:20]


def _start(root: Path, turns: list[list[str]], extra: dict[str, str], seconds: int) -> int:
    """Run pytest with these arguments, in turn until something fails, in a child process that has the large libraries
    already, for at most `seconds` of CPU time."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(root)
        os.environ.update(extra, PYTHONPATH=str(root), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        sys.path[:0] = [str(root)]
        sys.dont_write_bytecode = not extra
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        for arguments in turns:
            code = int(pytest.main(["-q", *PLUGINS, *arguments], [OneTest()] if not extra else []))
            if code not in (0, 5) or time.process_time() > FURTHER:
                break
    finally:
        os._exit(code)


def tests_for(mutant: Mutant, recorded: dict[str, CoverageData]) -> list[list[str]]:
    """The tests that run the mutant's line; of a line run at import, all that enter its file, or all that import it."""
    line, anywhere, importing = set(), set(), set()
    for test, data in recorded.items():
        if test.startswith(mirrored(mutant.path)):
            measured = next((f for f in data.measured_files() if f.endswith(f"/{mutant.path}")), "")
            by_line = data.contexts_by_lineno(measured)
            line |= {context.split("|")[0] for context in by_line.get(mutant.line, ())}
            anywhere |= {context.split("|")[0] for contexts in by_line.values() for context in contexts}
            importing |= {test} if mutant.line in by_line else set()
    return [sorted(tests)] if (tests := (line - {""}) or (anywhere - {""}) or importing) else []


def _one_by_one(mutant: Mutant, root: Path) -> list[list[str]]:
    """The test files of the quick way, each a turn of its own, so that the bound holds between any two."""
    return [[file] for turn in nearest_first(mutant.path, root) for file in turn]


@dataclass
class Trial:
    """A mutant at work in one copy of the tree: its process, and how to put the file back."""

    mutant: Mutant
    root: Path
    child: int
    source: str
    times: tuple[int, int]
    began: float

    def ended(self) -> bool:
        """Whether the tests are done; then the file is as before and the outcome is noted."""
        child, status = os.waitpid(self.child, os.WNOHANG)
        if not child and time.monotonic() - self.began < LONGEST:
            return False
        with suppress(ProcessLookupError):  # what the tests started, or all of it where it took too long
            os.killpg(self.child, signal.SIGKILL)
        if not child:
            os.waitpid(self.child, 0)
        self.mutant.outcome = "survived" if child and status == 0 else "killed"
        killer = self.root / KILLER
        self.mutant.killer = killer.read_text(encoding="utf-8") if killer.is_file() else ""
        killer.unlink(missing_ok=True)
        file = self.root / self.mutant.path
        file.write_text(self.source, encoding="utf-8")
        os.utime(file, ns=self.times)  # so that its compiled form is valid again
        return True


def begin(mutant: Mutant, root: Path, tests: list[list[str]]) -> Trial:
    """Write the mutant into the copy `root` and start `tests`."""
    file = root / mutant.path
    source, state = file.read_text(encoding="utf-8"), file.stat()
    with_mutant = changed(mutant, root)
    lines = difflib.unified_diff(source.splitlines(), with_mutant.splitlines(), n=0, lineterm="")
    mutant.diff = "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))
    file.write_text(with_mutant, encoding="utf-8")
    child = _start(root, [["-x", *turn] for turn in tests], {}, CPU_SECONDS)
    return Trial(mutant, root, child, source, (state.st_atime_ns, state.st_mtime_ns), time.monotonic())


def judge(mutants: list[Mutant], roots: list[Path], tests_of: Callable[[Mutant], list[list[str]]], out: Path) -> None:
    """Try all mutants, one in each copy of the tree at a time; `out` has the record of all after each."""
    waiting, running, free = list(reversed(mutants)), [], list(roots)

    def record(mutant: Mutant) -> None:
        out.write_text(json.dumps([asdict(m) for m in mutants], indent=1))
        print(f"{mutant.outcome:16} {mutant.path}:{mutant.line} {mutant.operator}", flush=True)

    while waiting or running:
        while waiting and free:
            mutant = waiting.pop()
            if tests := tests_of(mutant):
                running.append(begin(mutant, free.pop(), tests))
            else:
                mutant.outcome = "no test runs it"
                record(mutant)
        time.sleep(0.05)
        for trial in [t for t in running if t.ended()]:
            running.remove(trial)
            free.append(trial.root)
            record(trial.mutant)


def copies(number: int, folder: Path) -> list[Path]:
    """Copies of the working tree, with everything compiled: a child compiles the changed file alone."""
    first = folder / "0"
    for name in COPIED:
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy
        first.mkdir(exist_ok=True)
        copy(name, first / name)
    compileall.compile_dir(first / "twofold", quiet=1)
    others = [folder / str(i) for i in range(1, number)]
    for other in others:
        shutil.copytree(first, other)
    return [first, *others]


def main() -> int:
    """Draw, judge, print; the record of every mutant goes to --out, after each of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--required", type=float, default=0.95)
    parser.add_argument("--rooms", nargs="*", default=ROOMS, help="or files, as paths below twofold/")
    parser.add_argument("--again", type=Path, help="a record: try its survivors again instead of a new sample")
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    parser.add_argument("--cache", type=Path, default=Path(".mutants"), help="which tests run which lines")
    parser.add_argument("--quick", action="store_true", help="no record: nearest test files first, up to a bound")
    options = parser.parse_args()
    tops = [Path("twofold") / room for room in options.rooms]
    files = [p for top in tops for p in ([top] if top.is_file() else sorted(top.rglob("*.py")))]
    if options.again:
        mutants = [Mutant(**m) for m in json.loads(options.again.read_text()) if m["outcome"] != "killed"]
    else:
        mutants = draw(files, options.sample, options.seed)
    tests = sorted({t for m in mutants for t in files_of(mirrored(m.path))})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        roots = copies(options.workers, Path(folder))
        for name in PRELOADED:
            importlib.import_module(name)
        if options.quick:
            by_file = partial(_one_by_one, root=roots[0])
            judge(mutants, roots, by_file, options.out)
        else:
            recorded = tests_by_line(roots[0], tests, options.cache.resolve(), options.workers)
            judge(mutants, roots, partial(tests_for, recorded=recorded), options.out)
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
