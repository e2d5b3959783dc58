"""What is read of data is not changed afterwards, and what there is one of for each row is small."""

from __future__ import annotations

import errno

import twofold.data
from support.frozen import changeable, slotted
from support.usual_defaults import constants, numbers, switched_on, unusual


def test_only_what_counts_as_it_goes_can_be_changed() -> None:
    assert changeable(twofold.data) == {"LengthBias", "Weights", "_Call"}


def test_what_rows_have_one_of_each_takes_no_further_attributes() -> None:
    assert slotted(twofold.data) == {"Issue", "ParsedRow"}


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(twofold.data) == {"TokenizeSettings.__init__.max_length": 1024}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(twofold.data) == {"FaultStore.add.spoils"}


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(twofold.data) == {
        "damaged.growth": 100, "quoted.most": 12, "_Items._more.size": 1048576, "Further.overlap": 0.5,
        "savings.batch": 8, "RowBounds.bytes": 16777216, "RowBounds.items": 1000, "RowBounds.growth": 100,
        "Overlap.see.side": 1, "DataBeside.share": 0.25, "DataBeside.weight": 1.0,
    }  # fmt: skip


def test_constants_are_these() -> None:
    assert constants(twofold.data) == {
        "fix.MOST_COLUMNS": 1000, "repairs._LONGEST": 300, "shapes.fields.LARGEST": 1e30,
        "arrow_messages._RECORD_BATCH": 3, "arrow_messages._DICTIONARY_BATCH": 2, "arrow_sizes.VALUE": 8,
        "arrow_sizes.AT_ONCE": 64, "arrow_sizes.BUDGET": 67108864, "chat.TEMPLATE_SECONDS": 5,
        "contamination.WORDS": 8, "contamination.MOST": 4194304, "contamination.TEMPLATE_ROWS": 10,
        "contamination.TEMPLATE_SHARE": 0.01, "differences.MOST_COMPARED": 4000000, "digests.AT_ONCE": 262144,
        "digests._PARTS": 10, "encode.AT_ONCE": 256, "fault_store.IN_MEMORY": 10000, "fault_store._AT_ONCE": 1000,
        "formats.MOST_ERRORS": 200000, "grams._MULTIPLIER": 11400714819323198485,
        "grams._FINISH": 15485907386658061715, "issues.MOST_NAMES": 12, "issues.LONGEST_NAME": 60,
        "issues._COMPARED": 500, "json_rows._BLOCK": 1048576, "lengths.STRONG": 0.7, "lengths.FEWEST": 100,
        "load.IN_MEMORY": 20000, "load.TEXT_IN_MEMORY": 268435456, "load.MOST_TOLD": 5, "near.WORDS": 3,
        "near._FIELD": 2685821657736338717, "packing_stats.BATCH": 8, "parquet_pages._DICTIONARY_PAGE": 2,
        "profile.MOST_NAMES": 500, "readers._ABSENT": (errno.ENOENT, errno.ENOTDIR), "remote.PATIENCE": 60.0,
        "repairs._WORDS": 3, "repairs._AROUND": 20, "repairs._MOST": 60, "repeats._TURNED": 1, "repeats._OPPOSED": 2,
        "repeats._NEVER": 18446744073709551615, "scratch.AT_ONCE": 16384, "scripts.LETTERS": 400, "scripts._FEW": 20,
        "scripts._LITTLE": 0.1, "settings.MOST_WORKERS": 1024, "shapes._LONGEST_KEYS": 1000,
        "shapes.steps._RATINGS": {"+": 1.0, "-": 0.0}, "signatures.BANDS": 25, "signatures.BAND": 5,
        "signatures.PERMUTATIONS": 125, "signatures.CHUNK": 4096, "signatures.AT_ONCE": 65536,
        "signatures.RANGE": 262144, "store.AT_ONCE": 1024, "stored_groups.FORMAT": 3, "time_limit._PAUSE": 0.1,
        "time_limit._IDLE": 20, "unpacking.ALWAYS": 67108864, "validate.AT_ONCE": 256, "values.DIGIT": 16,
        "workers.AHEAD": 3,
    }  # fmt: skip
