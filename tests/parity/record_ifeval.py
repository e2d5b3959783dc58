"""Record lm-eval's verdicts on instructions: `python tests/parity/record_ifeval.py`, where lm-eval, langdetect and NLTK
with its data punkt_tab are installed.

Writes lm_eval_ifeval.json beside this file: texts, and cases of [text, kind, arguments, strict, loose].
`tests/rewards/test_ifeval.py` reads only that. Verdicts of langdetect that vary from call to call are left out.
"""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
from lm_eval.tasks.ifeval.utils import InputExample, test_instruction_following_loose, test_instruction_following_strict

EACH = 20
RELATIONS = ["less than", "at least"]
BODIES = [
    "The sea was calm. Dr. Reed sailed at 5 p.m. on Monday, and nobody saw him again.",
    "Yes. No! Maybe?",
    "- one\n- two\n* three\n** four\n  - five",
    "* *soft* words\n* **loud** words\n\n****\n***bold***",
    "Section 1\nThe sea.\nSECTION 2 More sea.\nSection 3",
    "First part.\n***\nSecond part, longer.\n***\nThird part.",
    "***\nOne.\n***\n***\nTwo.",
    "Hello there.\n\n'Twas late, she said.\n\n\n\nWeekend, at last!",
    'Weekend plans?\n\n"Stop," he said.\n\nEnd.',
    "Dear [name], meet me at [place]\n[date and\ntime]. P.S. bring tea",
    "Good night.\n\nP.P.S. I lied.\np. s. So did you.",
    "My answer is maybe.",
    "Well. My answer is no. I think",
    '{"a": [1, 2], "b": "sea"}',
    '```json\n{"a": 1}\n```',
    "{'a': 1}",
    "<<A title>>\nText below. << >> <<>>",
    "< <no title> >",
    "One answer.\n******\nAnother answer.",
    "Same.\n******\nSame.\n******",
    "Write a poem. Here it is, a poem of the sea: sea, sea, sea.",
    "write A POEM. No.",
    "That is all. Any other questions?",
    'That is all. "Any other questions?"',
    "THE SEA WAS CALM AND NOBODY DON'T KNOW WHY U.S.A. SHIPS CANNOT SAIL ON A DAY LIKE THIS ONE",
    "the sea was calm and nobody knew why the ships could not sail on a day like this one",
    'NASA and the EU signed. THE END... OK? A-B C3PO (WHO) "GO"',
    '"All of this is quoted, from the first word to the last."',
    '"',
    "Das Meer war ruhig, und niemand wusste, warum die Schiffe an diesem Tag nicht ausliefen.",
    "La mer était calme et personne ne savait pourquoi les bateaux ne partaient pas ce jour-là.",
    "Море было спокойным, и никто не знал, почему корабли не вышли в этот день.",
    "El mar estaba en calma y nadie sabía por qué los barcos no salieron aquel día.",
    "12345 67.8 --- 9",
    'e.g. this i.e. that, Mr. and Mrs. Smith vs. the F.B.I. Then they left. He said "Go." She went.',
    "Wait... what?! Really?? It costs $3.50. Visit www.sea.org. Bye",
    " \n ",
]
WORDS = ["sea", "calm", "nobody", "answer", "o", "the", "poem", "end", "s.a"]


def text(draw: random.Random) -> str:
    """A body or two, with lines around it or asterisks in it that a loose verdict may take away."""
    parts = draw.sample(BODIES, draw.choice([1, 1, 1, 2]))
    whole = draw.choice(["\n", "\n\n", "\n******\n", " "]).join(parts)
    wrap = draw.choice(
        ["{}", "Sure, here it is:\n{}", "{}\nI hope, dear, this helps.", "Sure:\n{}\nBye!", "*{}*", "**{}**"]
    )
    whole = wrap.format(whole)
    return draw.choice([whole] * 8 + [whole.upper(), whole.lower(), f'"{whole}"', f" {whole}\n\n"])


def arguments(kind: str, draw: random.Random) -> dict[str, Any]:
    number, relation = draw.randint(1, 4), draw.choice(RELATIONS)
    return {
        "keywords:existence": {"keywords": draw.sample(WORDS, draw.randint(1, 2))},
        "keywords:frequency": {"keyword": draw.choice(WORDS), "frequency": number, "relation": relation},
        "keywords:forbidden_words": {"forbidden_words": draw.sample(WORDS, 2)},
        "keywords:letter_frequency": {
            "letter": draw.choice("aestZ"), "let_frequency": number * 2, "let_relation": relation},
        "language:response_language": {"language": draw.choice(["en", "de", "fr", "ru", "es"])},
        "length_constraints:number_sentences": {"num_sentences": number, "relation": relation},
        "length_constraints:number_paragraphs": {"num_paragraphs": number},
        "length_constraints:number_words": {"num_words": draw.choice([5, 10, 16, 20]), "relation": relation},
        "length_constraints:nth_paragraph_first_word": {
            "num_paragraphs": 3, "nth_paragraph": draw.randint(1, 3),
            "first_word": draw.choice(["Hello", "twas", "weekend", "stop", "End"])},
        "detectable_content:number_placeholders": {"num_placeholders": number},
        "detectable_content:postscript": {"postscript_marker": draw.choice(["P.S.", "P.P.S"])},
        "detectable_format:number_bullet_lists": {"num_bullets": number},
        "detectable_format:number_highlighted_sections": {"num_highlights": number},
        "detectable_format:multiple_sections": {
            "section_spliter": draw.choice(["Section", "SECTION"]), "num_sections": draw.randint(1, 2)},
        "combination:repeat_prompt": {"prompt_to_repeat": draw.choice(["Write a poem.", " THE SEA was"])},
        "startend:end_checker": {"end_phrase": draw.choice(["Any other questions?", "ships", "one", "bye!"])},
        "change_case:capital_word_frequency": {"capital_frequency": number * 2, "capital_relation": relation},
    }.get(kind, {})  # fmt: skip


def verdict(kind: str, told: dict[str, Any], answer: str) -> tuple[bool, bool]:
    row = InputExample(0, [kind], "", [told])
    strict, loose = test_instruction_following_strict(row, answer), test_instruction_following_loose(row, answer)
    return strict.follow_all_instructions, loose.follow_all_instructions


def main() -> None:
    draw, texts, cases = random.Random(0), list[str](), list[Any]()
    for kind in INSTRUCTION_DICT:
        made, tried, counts = 0, 0, {True: 0, False: 0}
        while made < EACH and tried < 4000:
            tried += 1
            answer, told = text(draw), arguments(kind, draw)
            found = verdict(kind, told, answer)
            if counts[found[0]] >= EACH // 2 or any(verdict(kind, told, answer) != found for _ in range(4)):
                continue
            if answer not in texts:
                texts.append(answer)
            cases.append([texts.index(answer), kind, told, *found])
            counts[found[0]] += 1
            made += 1
    versions = {name: version(name) for name in ("lm-eval", "langdetect", "nltk")}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    shown = ",\n".join(json.dumps(each, ensure_ascii=False) for each in texts)
    record = f'{{"versions": {json.dumps(versions)},\n"texts": [\n{shown}\n],\n"cases": [\n{lines}\n]}}\n'
    path = Path(__file__).with_name("lm_eval_ifeval.json")
    path.write_text(record, encoding="utf-8")
    print(f"{len(cases)} cases, {len(texts)} texts, {path.stat().st_size} bytes: {path.name}")


if __name__ == "__main__":
    main()
