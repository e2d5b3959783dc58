"""Figures and paired tests in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.cli import evaluate_benchmarks, evaluate_judges
from twofold.cli.terminal import results, table

Figures = Mapping[str, Any]
_SIDE_BY_SIDE = 4


def show(figures: Figures) -> None:
    """The tables of an evaluation."""
    if "win_rates" in figures:
        _show_win_rates(figures)
        if figures["comparisons"]:
            _show_tests(figures["comparisons"], {c["metric"] for c in figures["comparisons"]})
    elif "benchmark" in figures:
        evaluate_benchmarks.show(figures)
        if figures["comparisons"]:
            _show_tests(figures["comparisons"], evaluate_benchmarks.shares(figures))
        evaluate_judges.beside(figures)
        evaluate_benchmarks.remark(figures)
    elif "players" in figures:
        _show_contest(figures)
    elif "judges" in figures:
        evaluate_judges.show(figures)
    elif "points" in figures:
        _show_frontier(figures)
    elif "samples" in figures:
        _show_pass_at_k(figures)
    else:
        metrics = [(m, f) for model in figures["models"] for m, f in _estimates(model).items()]
        _show_models(figures["models"])
        _show_subsets(figures["models"])
        if figures["comparisons"]:
            _show_tests(figures["comparisons"], {m for m, f in metrics if "count" in f})
        evaluate_judges.beside(figures)


def origin(figures: Figures) -> dict[str, Any]:
    """A frontier's reference as one of its points."""
    return {"model": "reference", **figures["reference"]}


def _n(figure: Figures) -> str:
    """The number of items; and of prompts, where those repeat."""
    return f"{figure['n']} of {figure['clusters']} prompts" if "clusters" in figure else str(figure["n"])


def _estimates(model: Figures) -> dict[str, Figures]:
    return {name: f for name, f in model.items() if isinstance(f, Mapping) and "low" in f}


def _show_models(models: Sequence[Figures]) -> None:
    """Metrics side by side, or one below the other where they are many."""
    estimates = {model["name"]: _estimates(model) for model in models}
    metrics = list(dict.fromkeys(m for told in estimates.values() for m in told))
    if len(metrics) > _SIDE_BY_SIDE or len({f["n"] for told in estimates.values() for f in told.values()}) > 1:
        rows = table("model", "metric", "#n", "#value", "95% interval")
        for name, told in estimates.items():
            for metric, f in told.items():
                rows.add_row(name, metric, _n(f), *(_share(f) if "count" in f else _number(f, "–")))
    else:
        counts = list(dict.fromkeys(k for model in models for k, value in model.items() if isinstance(value, int)))
        heads = [head for metric in metrics for head in (f"#{metric}", "95% interval")]
        rows = table("model", "#n", *heads, *(f"#{name}" for name in counts))
        for model in models:
            told = estimates[model["name"]]
            cells = [c for m in metrics for c in (_share(told[m]) if "count" in told[m] else _number(told[m], "–"))]
            n = _n(next(iter(told.values())))
            rows.add_row(model["name"], n, *cells, *(str(model[name]) for name in counts))
    results().print(rows)


def _show_subsets(models: Sequence[Figures]) -> None:
    """Parts of the items, each with its own n."""
    if not any(model.get("subsets") for model in models):
        return
    rows = table("model", "subset", "metric", "#n", "#value", "95% interval")
    for model in models:
        for subset, metrics in model["subsets"].items():
            for metric, f in metrics.items():
                rows.add_row(model["name"], subset, metric, _n(f), *_share(f))
    results().print(rows)


def _show_pass_at_k(figures: Figures) -> None:
    from twofold.reports.tables import p_value

    out, tests = results(), figures["comparisons"]
    rows = table("model", "figure", "metric", "#n", "#value", "95% interval")
    for model in figures["models"]:
        for f in model["figures"]:
            rows.add_row(model["name"], f["figure"], f["metric"], _n(f), f"{f['value']:.1%}", _percents(f))
    out.print(rows)
    _show_subsets(figures["models"])
    if tests:
        several = "p_holm" in tests[0]
        rows = table("a", "b", "figure", "metric", "#b − a", "95% interval", "#p, paired", *(["#Holm"] * several))
        for c in tests:
            d = c["difference"]
            told = f"{d['value']:+.1%}", _percents(d), p_value(c["p_value"]), *_holm(c)
            rows.add_row(c["a"], c["b"], c["figure"], c["metric"], *told)
        out.print(rows)
    evaluate_judges.beside(figures)


def _show_win_rates(figures: Figures) -> None:
    from twofold.reports.tables import percent

    ordered = any("orders" in rate for rate in figures["win_rates"])
    heads = ("model", "#T", "#n", "#win rate", "95% interval", "#ties", "#LC", "95% interval", "#length")
    rows = table(*heads, *(["#orders agree"] * ordered))
    named = [(r["model"], "" if r["temperature"] is None else f"{r['temperature']:g}", r) for r in figures["win_rates"]]
    named += [("canary", "", figures["canary"])] if "canary" in figures else []
    for name, temperature, rate in named:
        length = f"{rate['length']:.0f} : {rate['other_length']:.0f}"
        controlled = rate["length_controlled"]
        cells = (str(rate["ties"]), *(("—", "") if controlled["extrapolated"] else _share(controlled)), length)
        agreed = [percent(rate["orders"]["value"]) if "orders" in rate else ""] * ordered
        rows.add_row(name, temperature, _n(rate), *_share(rate), *cells, *agreed)
    out = results()
    out.print(rows)
    if "people" in figures:
        kappa, same = figures["people"]["kappa"], figures["people"]["same"]
        told = f"judge and people: κ {kappa['value']:.2f} [{kappa['low']:.2f}, {kappa['high']:.2f}]"
        out.print(f"{told}, the same verdict on {same['count']} of {same['n']}")
    evaluate_judges.beside(figures)
    out.print("ties count ½; LC: at equal lengths; length: characters, model : other", style="dim")


def _show_contest(figures: Figures) -> None:
    """Players by score, and every two of them by their own matches."""
    from twofold.reports.tables import p_value, percent

    out, grouped = results(), len({player["group"] for player in figures["players"]}) > 1
    rows = table("player", "#n", "#score", "95% interval", "#win rate", "95% interval", "#ties", "#length",
                 *(["#group"] * grouped))  # fmt: skip
    for player in figures["players"]:
        score, rate = player["score"], player["rate"]
        interval = f"{score['low']:+.2f} … {score['high']:+.2f}"
        cells = (str(rate["n"]), f"{score['value']:+.2f}", interval, *_share(rate), str(player["ties"]))
        length = f"{player['length']:.0f}"
        rows.add_row(player["name"], *cells, length, *([str(player["group"] + 1)] * grouped))
    out.print(rows)
    several = len(figures["comparisons"]) > 1
    rows = table("a", "b", "#n", "#a wins", "#ties", "#b wins", "#rate of a", "95% interval", "#p",
                 *(["#Holm"] * several))  # fmt: skip
    for match, test in zip(figures["matches"], figures["comparisons"], strict=True):
        counts = (str(match[key]) for key in ("n", "wins", "ties", "losses"))
        rows.add_row(match["a"], match["b"], *counts, *_share(match), p_value(test["p_value"]), *_holm(test))
    out.print(rows)
    agreed = [m["orders"]["value"] for m in figures["matches"] if "orders" in m]
    evaluate_judges.beside(figures)
    orders = f"; the judge's two orders agree on {percent(sum(agreed) / len(agreed))}" if agreed else ""
    out.print(f"score: Bradley–Terry, log-odds, mean 0; ties count ½; length: characters{orders}", style="dim")
    holm = f"; Holm's correction over {len(figures['comparisons'])} tests" if several else ""
    out.print(f"p: {', '.join(sorted({c['test'] for c in figures['comparisons']}))}{holm}", style="dim")


def _show_frontier(figures: Figures) -> None:
    from twofold.reports.tables import p_value

    out = results()
    rows = table("model", "#step", "#n", "#KL, nats", "95% interval", "#KL, drawn", "95% interval", "#reward",
                 "95% interval")  # fmt: skip
    for x in (origin(figures), *figures["points"]):
        cells = [cell for name in ("kl", "kl_drawn", "reward") for cell in _number(x[name])]
        step = x.get("step")
        rows.add_row(x["model"], "" if step is None else str(step), str(x["reward"]["n"]), *cells)
    for x in figures.get("best_of", ()):
        reward = _number(x["reward"])
        rows.add_row(f"best of {x['n']}", "", str(x["reward"]["n"]), f"≤ {x['kl_at_most']:.3f}", "", "", "", *reward)
    out.print(rows)
    if "areas" in figures:
        over = figures["areas"]
        rows = table("frontier", "#seeds", "#mean height", "95% interval")
        for name, height in over["heights"].items():
            rows.add_row(name, str(height["n"]), *_number(height))
        out.print(rows)
        if over["comparisons"]:
            rows = table("a", "b", "#b − a", "95% interval", "#p")
            for c in over["comparisons"]:
                rows.add_row(c["a"], c["b"], *_number(c["difference"]), p_value(c["p_value"]))
            out.print(rows)
        out.print(f"height above the reference, mean up to {over['limit']:.3g} nats", style="dim")
    evaluate_judges.beside(figures)


def _show_tests(tests: Sequence[Figures], shares: set[str]) -> None:
    """Paired tests, with Holm's correction where there are several."""
    from twofold.evaluation.figures import LOGARITHMS
    from twofold.reports.tables import interval, p_value, points
    from twofold.statistics import Estimate

    several = "p_holm" in tests[0]
    sides = ("#only a", "#only b") if all(c["metric"] in shares for c in tests) else ("#a higher", "#b higher")
    rows = table("a", "b", "metric", "#n", "#b − a", "95% interval", *sides, "#p", *(["#Holm"] * several))
    for c in tests:
        d = Estimate.from_dict(c["difference"])
        share = c["metric"] in shares
        told = (points(d.value), interval(d, signed=True)) if share else _number(c["difference"])
        counts = str(c["only_a"]), str(c["only_b"])
        cells = (*told, *counts, p_value(c["p_value"]), *_holm(c))
        rows.add_row(c["a"], c["b"], c["metric"], _n(c["difference"]), *cells)
    out = results()
    out.print(rows)
    holm = f"; Holm's correction over {len(tests)} tests" if several else ""
    if any(LOGARITHMS in c["difference"]["method"] for c in tests):
        out.print("b − a of a perplexity is that of its logarithm: nats per token", style="dim")
    out.print(f"p: {', '.join(sorted({c['test'] for c in tests}))}{holm}", style="dim")


def _holm(test: Figures) -> list[str]:
    from twofold.reports.tables import p_value

    return [p_value(test["p_holm"])] if "p_holm" in test else []


def _share(figure: Figures) -> tuple[str, str]:
    """The value and its interval."""
    from twofold.reports.tables import interval, percent
    from twofold.statistics import Estimate

    return percent(figure["value"]), interval(Estimate.from_dict(figure))


def _number(figure: Figures, to: str = "…") -> tuple[str, str]:
    from twofold.reports.tables import number

    return number(figure["value"]), f"{number(figure['low'])} {to} {number(figure['high'])}"


def _percents(figure: Figures) -> str:
    return f"{figure['low']:.1%} … {figure['high']:.1%}"
