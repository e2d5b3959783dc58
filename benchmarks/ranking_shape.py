"""What a ranking costs by its shape: five real GSM8K solutions behind one prompt against five rows, both passes.

`python -m benchmarks.ranking_shape`. Both sides are Plackett–Luce on the same tokens with the same weights, and must
give the same loss and gradient. The shared pack holds the prompt once. The rows hold it five times: in one pack without
padding (the stronger peer), or padded through the model's stock attention and head. Times are processor seconds of
neighbouring turns; a shape is good if its time falls nearly as far as its floating-point operations.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks import pairs
from benchmarks.commands import circumstances, command_line
from benchmarks.dpo_vs_trl import MODEL
from benchmarks.reporting import Median, median_interval, print_facts, print_table, write_json
from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.models.policy import Policy
from twofold.models.reference import with_reference
from twofold.objectives import PlackettLuce

TARGET = 1.15


@dataclass(frozen=True)
class Work:
    """What one side does to a group: the tokens of its layers, the keys that all queries see, the rows of its head."""

    tokens: int
    keys: int
    scored: int
    head_passes: int
    """Products with the head's matrix: logits, both gradients, and logits again where they are not kept."""

    def flops(self) -> float:
        """Of forward and backward: two per weight and product, attention's backward with its scores made again."""
        hidden, layers = MODEL["hidden_size"], MODEL["num_hidden_layers"]
        keys = hidden // MODEL["num_attention_heads"] * MODEL["num_key_value_heads"]
        weights = layers * (2 * hidden * (hidden + keys) + 3 * hidden * MODEL["intermediate_size"])
        scores = 3.5 * 4 * layers * hidden * self.keys
        return 3 * 2 * weights * self.tokens + scores + self.head_passes * 2 * hidden * pairs.VOCABULARY * self.scored


def shared(group: Group) -> Work:
    """The prompt once, every solution behind it."""
    prompt, sizes = len(group.prompt), [len(b.tokens) - 1 for b in group.branches]
    keys = _triangle(prompt) + sum(n * prompt + _triangle(n) for n in sizes)
    return Work(prompt + sum(sizes), keys, sum(len(b.tokens) for b in group.branches), 4)


def rows(group: Group) -> Work:
    """The prompt before every solution, without padding."""
    sizes = [len(group.prompt) + len(b.tokens) - 1 for b in group.branches]
    return Work(sum(sizes), sum(map(_triangle, sizes)), sum(len(b.tokens) for b in group.branches), 4)


def padded(group: Group) -> Work:
    """Rows as long as the longest, and logits of every position, kept."""
    longest = max(len(group.prompt) + len(b.tokens) - 1 for b in group.branches)
    num = len(group.branches)
    return Work(num * longest, num * _triangle(longest), num * longest, 3)


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


Side = Callable[[Group], Tensor]


def one_pack(policy: Policy) -> Side:
    """The loss of a group as twofold runs it."""

    def loss(group: Group) -> Tensor:
        outputs, batch = policy([group])
        return _loss(outputs, batch)

    return loss


def apart(policy: Policy) -> Side:
    """The loss of a group whose solutions are groups of their own, each with the prompt."""

    def loss(group: Group) -> Tensor:
        alone = [Group(f"{group.name}.{i}", group.prompt, (b,)) for i, b in enumerate(group.branches)]
        outputs, _ = policy(alone)
        return _loss(outputs, Batch.of([group]))

    return loss


def _loss(outputs: Outputs, batch: Batch) -> Tensor:
    return PlackettLuce()(outputs, batch).terms["plackett_luce"].value.sum()


def spent(policy: Policy, side: Side, group: Group) -> float:
    """Processor seconds of one forward and backward pass."""
    policy.zero_grad(set_to_none=True)
    began = time.process_time()
    side(group).backward()
    return time.process_time() - began


def refuse_other_gradients(policies: Sequence[Policy], sides: Sequence[Side], group: Group) -> None:
    """All sides must say the same of the same group."""
    found: list[Tensor] = []
    for policy, side in zip(policies, sides, strict=True):
        policy.zero_grad(set_to_none=True)
        side(group).backward()
        found.append(torch.cat([p.grad.flatten() for p in policy.trainable().values() if p.grad is not None]))
    for other in found[1:]:
        if (error := ((other - found[0]).norm() / found[0].norm()).item()) > 1e-4:
            raise SystemExit(f"the gradients differ by {error:.2g} of their norm: the sides do not do the same work")


def measure(policy: Policy, stock: Policy, groups: Sequence[Group], rounds: int) -> dict[str, Any]:
    """Per peer the ratio of times, of operations, and of the two, neighbouring turns paired."""
    peers: dict[str, tuple[Policy, Side, Callable[[Group], Work]]] = {
        "rows in a pack": (policy, apart(policy), rows),
        "padded rows, stock": (stock, apart(stock), padded),
    }
    ours = one_pack(policy)
    others = list(peers.values())
    refuse_other_gradients((policy, *(p for p, _, _ in others)), (ours, *(s for _, s, _ in others)), groups[0])
    found: dict[str, Any] = {}
    for name, (other, side, work) in peers.items():
        times: list[float] = []
        costs: list[float] = []
        for turn, group in enumerate([groups[0], *(g for _ in range(rounds) for g in groups)]):
            order = ((policy, ours), (other, side))
            both = {i: spent(*order[i], group) for i in ((0, 1) if turn % 2 else (1, 0))}
            times.append(both[0] / both[1])
            costs.append(shared(group).flops() / work(group).flops())
        times, costs = times[1:], costs[1:]  # the first turn warms up
        found[name] = {
            "time": median_interval(times),
            "operations": median_interval(costs),
            "excess": median_interval([t / c for t, c in zip(times, costs, strict=True)]),
        }
    return found


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = command_line("benchmarks.ranking_shape", __doc__)
    parser.add_argument("--groups", type=int, default=12, help="problems, each with its five solutions")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each problem")
    options = parser.parse_args()
    folder = pairs.gsm8k_folder()
    if folder is None:
        raise SystemExit("no GSM8K here: set TWOFOLD_SHARED, or put it in ../shared")
    torch.set_num_threads(1)
    facts = circumstances("benchmarks.ranking_shape")
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=pairs.VOCABULARY, **MODEL))
    policy, stock = Policy(copy.deepcopy(model), sharing="shared"), Policy(model, sharing="rows")
    groups = [
        Group(f"problem {i}", torch.tensor(p), tuple(Branch(torch.tensor(c), Role.RANKED) for c in solutions))
        for i, (p, solutions) in enumerate(pairs.gsm8k_rankings(folder, options.groups))
    ]
    groups = with_reference(groups, policy.logps(groups))
    lengths = {
        "prompt": sum(len(g.prompt) for g in groups) / len(groups),
        "solution": sum(len(b.tokens) for g in groups for b in g.branches) / sum(len(g.branches) for g in groups),
    }
    print_facts("mean tokens", lengths)
    found = measure(policy, stock, groups, options.rounds)
    report(found, len(groups) * options.rounds)
    if options.json:
        write_json(options.json, {**facts, "model": MODEL, "lengths": lengths, "target": TARGET, "found": found})


def report(found: dict[str, Any], turns: int) -> None:
    """The ratios beside the target."""
    table = [{"one pack, over": name, **{k: _shown(v) for k, v in ratios.items()}} for name, ratios in found.items()]
    print_table(f"{turns} paired turns; excess is time over operations, at most {TARGET} is asked for", table)


def _shown(found: Median) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
