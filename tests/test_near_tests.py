"""Which test files answer for a file of the package, and in which order they are tried."""

from __future__ import annotations

from pathlib import Path

from scripts.near_tests import nearest_first


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def test_all_files_of_the_room_the_nearest_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "twofold/room/__init__.py": "",
            "twofold/room/low.py": "def lift(): ...\ndef _own(): ...\n",
            "twofold/room/middle.py": "from twofold.room.low import lift\nclass Carrier: ...\n",
            "twofold/room/top.py": "from twofold.room import middle\nROOF = 1\n",
            "tests/room/test_a.py": "from twofold.room import top\nfrom twofold.room.top import ROOF",
            "tests/room/test_b.py": "from twofold import Carrier",
            "tests/room/test_c.py": "from twofold import lift",
            "tests/room/test_a1_i.py": "import twofold.room.low\nimport twofold.room.top",
            "tests/room/test_d.py": "import twofold.room.low",
            "tests/room/test_low_h.py": "import twofold.room.low",
            "tests/room/test_e.py": "import twofold.room",
            "tests/room/deep/test_f.py": "_own lifted",
            "tests/other/test_g.py": "import twofold.room.low",
        },
    )
    turns = nearest_first("twofold/room/low.py", tmp_path)
    found = [[Path(file).stem[-1] for file in turn] for turn in turns]
    assert found == [["e"], ["h", "d", "i"], ["c"], ["b"], ["a"], ["f"]]


def test_a_module_at_the_top_has_the_files_that_begin_like_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "twofold/sums.py": "def add(): ...",
            "tests/test_sums.py": "",
            "tests/test_sums_by_hand.py": "add",
            "tests/test_other.py": "add",
        },
    )
    (near, far) = nearest_first("twofold/sums.py", tmp_path)
    assert [[Path(file).name for file in turn] for turn in (near, far)] == [["test_sums_by_hand.py"], ["test_sums.py"]]
