"""The sentiment experiment's pure parts: KL, envelope, area, cells, the sweep, pairs, pieces, the classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from experiments.frontier.__main__ import SCALES, chosen_rates
from experiments.frontier.cells import HORIZON, Bench, Cell, Protocol
from experiments.frontier.ground import Ground, best_of, pairs_of
from experiments.frontier.imdb import Review, Sentiment, features, fit, pieces, reviews
from experiments.frontier.methods import CONTROL, FAMILIES, REWARD, SWEEP, TRIALS, TRUTH, Method
from experiments.frontier.points import Point, area, envelope, kl_of_rows
from experiments.frontier.rewards import DEVELOPMENT_SEED, RewardModels, Rewards
from experiments.harness.cells import folder_name
from twofold.algorithms import Online, PolicyGradient
from twofold.config.load import Document, plain, validate
from twofold.config.schema import Recipe
from twofold.sampling.base import Sampling


def _point(kl: float, *rewards: float) -> Point:
    return Point(kl, rewards)


def test_both_estimates_have_the_kl_of_whole_completions_as_their_mean() -> None:
    """All completions of two tokens over a vocabulary of three, each with its probability."""
    generator = torch.Generator().manual_seed(0)
    own, other = (torch.randn(4, 3, generator=generator).double().log_softmax(-1) for _ in range(2))
    exact, means = 0.0, [0.0, 0.0]
    for a in range(3):
        for b in range(3):
            mine, theirs = (torch.stack([table[0], table[1 + a]]) for table in (own, other))
            drawn = torch.tensor([a, b])
            chance = math.exp(mine.gather(1, drawn[:, None]).sum())
            exact += chance * float((mine - theirs).gather(1, drawn[:, None]).sum())
            for i, (value,) in enumerate(kl_of_rows([mine], [theirs], [drawn])):
                means[i] += chance * value
    assert means == pytest.approx([exact, exact], abs=1e-12)
    assert exact > 0.1


def test_kl_takes_tokens_that_cannot_be_said() -> None:
    """0 · (−∞ − x) counts as 0."""
    own, other = torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.5, 0.5]]).log()
    assert kl_of_rows([own], [other], [torch.tensor([0])]) == (pytest.approx([math.log(2)]),) * 2


def test_the_envelope_is_the_best_within_a_kl_and_the_area_its_mean() -> None:
    points = [_point(0.0, 0.5, 0.5), _point(2.0, 0.8, 0.8), _point(1.0, 0.6, 0.6), _point(3.0, 0.7, 0.7)]
    assert envelope(points, [0.5, 1.0, 2.5, 9.0]) == pytest.approx([0.5, 0.6, 0.8, 0.8])
    assert area(points, 4.0) == pytest.approx((0.5 + 0.6 + 2 * 0.8) / 4)
    assert area(points[:1], 4.0) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no point within 1 nats"):
        envelope(points[1:2], [1.0])


def test_an_estimated_kl_below_zero_counts_as_none() -> None:
    assert envelope([_point(-0.2, 0.4, 0.4)], [0.0]) == pytest.approx([0.4])


def test_choosing_by_other_prompts_takes_away_the_luck_of_the_best() -> None:
    """A hundred points of the same true reward: the best looks better than it is, the crossed one does not."""
    random = Random(0)
    points = [Point(0.0, tuple(random.gauss(0.5, 0.2) for _ in range(64))) for _ in range(100)]
    (crossed,), (naive,) = envelope(points, [1.0]), envelope(points, [1.0], crossed=False)
    assert naive > 0.55
    assert crossed == pytest.approx(0.5, abs=0.04)


def test_a_cell_is_known_by_all_that_decides_it() -> None:
    protocol, cell = Protocol(), Cell(SWEEP[0], 1e-4, 0)
    key = cell.key(protocol, "ground")
    others = [replace(cell, method=SWEEP[1]), replace(cell, learning_rate=2e-4), replace(cell, seed=1),
              replace(cell, split="development"), replace(cell, method=replace(SWEEP[0], reads="prompts"))]  # fmt: skip
    keys = [o.key(protocol, "ground") for o in others]
    keys += [cell.key(replace(protocol, steps=1), "ground"), cell.key(protocol, "other")]
    keys += [cell.key(replace(protocol, ground=Ground(words=25)), "ground")]
    assert len({key, *keys}) == len(keys) + 1
    assert replace(cell, method=replace(SWEEP[0], family="another name")).key(protocol, "ground") == key
    names = {folder_name(c := Cell(m, 1e-4, 0), c.key(protocol, "ground")) for m in SWEEP}
    assert len(names) == len(SWEEP)
    assert all(name.isascii() and "/" not in name for name in names)


def _recipe(method: Method) -> Recipe:
    sections: dict[str, Any] = {"model": {"path": "m"}, "data": {"train": "t"}, **method.sections}
    if method.reads == "pdpo-pairs":
        sections["data"] = {"train": "t", "generator": {"file": "g"}}
    return validate(Recipe, Document("test", sections, {}))


@pytest.mark.parametrize("method", [*SWEEP, *CONTROL], ids=lambda m: m.name)
def test_every_run_of_the_sweep_is_a_recipe(method: Method) -> None:
    recipe = _recipe(method)
    for name, section in method.sections.items():
        for key, value in section.items():
            made = plain(getattr(getattr(recipe, name), key))
            assert {k: made[k] for k in value} == value if isinstance(value, dict) else made == value


def test_the_sweep_is_the_papers() -> None:
    values = {family: [m.value for m in SWEEP if m.family == family] for family in FAMILIES}
    assert values["DPO"] == [0.05, 0.1, 1.0, 5.0]
    assert values["PPO"] == values["PPO-GT"] == [3.0, 6.0, 9.0, 12.0]
    assert values["unlikelihood"] == [0.05, 0.1, 0.5, 1.0]
    assert {m.family for m in SWEEP if REWARD in repr(m.sections)} == {"PPO"}
    assert {m.family for m in SWEEP if TRUTH in repr(m.sections)} == {"PPO-GT"}
    assert set(FAMILIES) - set(TRIALS) == {"PDPO"}
    assert set(TRIALS) - set(FAMILIES) == {m.family for m in CONTROL} == {"online DPO"}
    assert all(m.family == family for family, (m, _) in TRIALS.items())
    assert {len(rates) for _, rates in TRIALS.values()} == {4}


def test_the_target_kl_is_led_to_within_a_run() -> None:
    """The coefficient can change several times over: else the four targets were one."""
    for protocol in SCALES.values():
        assert (1 + 0.2 / HORIZON) ** protocol.rollouts > 10


def test_reward_models_decide_the_cells_that_ask_them_alone() -> None:
    other = Protocol(rewards=Rewards(steps=7))
    every = (*SWEEP, *CONTROL)
    asking = {m.name for m in every if Cell(m, 1e-4, 0).key(Protocol(), "g") != Cell(m, 1e-4, 0).key(other, "g")}
    assert asking == {m.name for m in every if m.family in ("online DPO", "PPO")}


@pytest.mark.parametrize("protocol", SCALES.values(), ids=SCALES)
def test_online_dpo_draws_judges_and_steps_as_ppo_does(protocol: Protocol) -> None:
    """As many completions, of which as many are in a step, which as often serve."""
    bench = Bench.__new__(Bench)
    bench.protocol, bench.here, bench.ground = protocol, Path("here"), "ground"
    bench.how, bench.rewards = Sampling(), cast("RewardModels", SimpleNamespace(model=lambda seed: f"reward-{seed}"))
    (online, *_), (ppo, *_) = (
        [bench.recipe(Cell(m, 1e-4, 3)) for m in methods if m.family in ("online DPO", "PPO")]
        for methods in (CONTROL, SWEEP)
    )
    assert isinstance(online.algorithm, Online)
    assert isinstance(ppo.algorithm, PolicyGradient)
    assert online.algorithm.judge == ppo.algorithm.reward == "reward:reward-3"
    size, num = online.training.batch_size, protocol.ground.prefixes
    assert online.algorithm.size(size, num) * online.algorithm.samples == ppo.algorithm.rollouts == protocol.rollout
    assert size * online.algorithm.samples == ppo.training.batch_size
    assert online.algorithm.epochs == ppo.algorithm.epochs
    assert online.training.steps == ppo.training.steps == 4 * protocol.rollouts
    assert online.algorithm.steps_per_round(size, num) == 4


def test_settings_decide_the_cells_that_read_them_alone() -> None:
    changed = {"steps": 7, "batch_size": 7, "rollout": 7, "rollouts": 7, "best_of": 7, "warmup": 7, "looks": 7}
    for method in (*SWEEP, *CONTROL):
        cell = Cell(method, 1e-4, 0)
        known = cell.key(Protocol(), "g")
        moved = {k for k, v in changed.items() if cell.key(replace(Protocol(), **{k: v}), "g") != known}
        online = method.reads == "prompts"
        assert moved == {"warmup", "looks", *(("rollout", "rollouts") if online else ("steps", "batch_size"))}


def test_the_reward_models_rate_is_that_of_the_best_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lower one of equals; runs of another rate or length are other runs."""
    shares, asked = {3e-4: 0.6, 1e-3: 0.7, 3e-3: 0.7}, list[tuple[str, int]]()

    def stage(run: Path, sections: Mapping[str, Any], command: str) -> dict[str, Any]:
        asked.append((run.name, sections["seed"]))
        return {"heldout": {"accuracy": {"value": shares[sections["optimizer"]["learning_rate"]]}}}

    monkeypatch.setattr("experiments.frontier.rewards.stage", stage)
    models = RewardModels(tmp_path, Rewards())
    assert models.tried() == {"0.0003": 0.6, "0.001": 0.7, "0.003": 0.7}
    assert set(asked) == {(f"220-{rate}-{DEVELOPMENT_SEED}", DEVELOPMENT_SEED) for rate in models.tried()}
    assert models.rate() == 1e-3
    assert models.model(2) == tmp_path / "rewards" / "220-0.001-2" / "model"
    assert ("220-0.001-2", 2) in asked
    assert RewardModels(tmp_path, Rewards(rates=(3e-4,))).rate() == 3e-4


def test_rates_are_the_best_of_their_trials() -> None:
    tried = {family: {"0.0001": 0.5, "0.0003": 0.6} for family in TRIALS} | {"PPO": {"0.0001": 0.7, "0.0003": 0.7}}
    assert chosen_rates(tried) == {f: 1e-4 if f == "PPO" else 3e-4 for f in (*FAMILIES, "online DPO")}
    del tried["online DPO"]
    assert set(chosen_rates(tried)) == set(FAMILIES)


def test_pairs_are_all_of_four_samples_but_ties() -> None:
    row = {"prompt": "p", "completions": ["a", "b", "c", "d"], "rewards": [0.1, 0.9, 0.5, 0.5]}
    made = pairs_of([row])
    assert len(made) == 5
    assert {(r["chosen"], r["rejected"]) for r in made} == {("b", "a"), ("c", "a"), ("d", "a"), ("b", "c"), ("b", "d")}
    assert best_of(row) == {"prompt": "p", "answer": "b"}
    assert best_of({"prompt": "p", "completions": [], "rewards": []}) is None


def test_pieces_are_whole_sentences() -> None:
    text = f"One two three four. Five six seven! {'long ' * 30}end. Eight nine ten eleven twelve. Fünf und drei vier."
    assert list(pieces(text, 8)) == ["One two three four. Five six seven!", "Eight nine ten eleven twelve."]


def test_the_classifier_learns_words_and_pairs_of_words() -> None:
    praise, blame = ("a good film", "not bad at all"), ("a bad film", "not good at all")
    texts = [Review(t, t in praise) for t in (*praise, *blame)] * 5
    made = fit(texts, penalty=1e-4)
    assert made.accuracy(texts).value == 1.0
    assert made("not good at all") < 0.5 < made("not bad at all")
    assert made("") == pytest.approx(1 / (1 + math.exp(-made.bias)))
    assert sum(features("Not good.").values()) == 3


def test_the_classifier_is_the_same_from_its_file(tmp_path: Path) -> None:
    made = fit([Review("good", True), Review("bad", False)])
    made.save(tmp_path / "c.safetensors")
    assert Sentiment.load(tmp_path / "c.safetensors")("so good") == pytest.approx(made("so good"))


def test_without_reviews_it_says_what_to_bring(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="skipped: no IMDb at"):
        reviews(tmp_path, "train")
