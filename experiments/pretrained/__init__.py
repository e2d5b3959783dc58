"""Does PDPO help a pretrained model, and when? `python -m experiments.pretrained prepare --task instructions`.

Every method trains SmolLM2-135M-Instruct on the same rows with the same number of tokens. Then each answers test
prompts. The protocol is docs/pretrained.md. Actions in their order: `prepare` makes the data, `room` measures what
needs no training, `run` trains and measures one cell, `tune` writes the files for `twofold tune`, `table` shows what is
finished, and `plan` what the rest will cost. Finished cells are lines of OUT/ledger.jsonl, so a stopped series goes on.
"""
