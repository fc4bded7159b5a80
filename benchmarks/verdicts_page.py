"""The tables of docs/claims.md, made of the figures that benchmarks/verdicts.py computes."""

from __future__ import annotations

from math import sqrt

SEEDS = (2, 3, 5, 10)
"""Numbers of seeds of the table on coverage."""


def share(value: float | None) -> str:
    """A share in per cent, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def _range(ends: list[float]) -> str:
    return "–".join(dict.fromkeys(map(share, ends)))


def thousands(count: int) -> str:
    """A count with a space between its thousands."""
    return f"{count:,}".replace(",", " ")


def tables(found: dict[str, dict]) -> dict[str, list[str]]:
    """The tables of docs/claims.md by the name of their marker, lines of Markdown."""
    lines = {
        "coverage": [
            "| kind | 2 seeds | 3 | 5 | 10 | wrongly decided, at most |",
            "|---|---|---|---|---|---|",
        ]
    }
    counts = found["repetitions"]
    least = {name: min(count.values()) for name, count in counts.items()}
    coverage, others = least["coverage"], min(n for name, n in least.items() if name != "coverage")
    lines["repetitions"] = [
        f"In the first table they are from {thousands(coverage)} simulated tables each, so that one near 95 errs "
        f"by at most {200 * sqrt(0.05 * 0.95 / coverage):.1f}, and the largest of sixteen shares of 5.0 is "
        f"{5 + 177 * sqrt(0.05 * 0.95 / coverage):.1f} on average; in all others from {thousands(others)} or more, "
        f"so that it errs by at most {200 * sqrt(0.05 * 0.95 / others):.1f}."
    ]
    plateau = found["coverage"]["optimum, nothing changes anywhere"].values()
    lines["deciding"] = [
        "Beside a verdict stands the interval of the check that decides. On a plateau, where nothing changes "
        "anywhere, that one of the two of an `optimum` covers up to "
        f"{share(max(cell['deciding'] for cell in plateau))} %: it leaves out the threshold exactly where the claim "
        "is decided, and chance, which would have to produce a gain and a fall, decides at most "
        f"{share(max(cell['wrong'] for cell in plateau))} %."
    ]
    for kind, row in found["coverage"].items():
        cells = [
            "–" if row[str(k)] is None else f"{share(row[str(k)]['low'])}–{share(row[str(k)]['high'])}"
            for k in SEEDS
        ]
        wrong = [cell["wrong"] for cell in row.values() if cell is not None]
        first = found["first_seeds"].get(kind, {})
        wrong += [cell["wrong"] for cell in first.values()]
        ranges = [f"{k} seeds: {share(cell['low'])}–{share(cell['high'])}" for k, cell in first.items()]
        note = f" ({', '.join(ranges)})" if ranges else ""
        lines["coverage"].append(
            f"| {kind}{note} | {' | '.join(cells)} | {share(max(wrong)) if wrong and max(wrong) else '–'} |"
        )
    ladder = list(next(iter(found["power_of_kinds"].values()))["normal"])
    lines["power_of_kinds"] = [f"| kind | {' | '.join(ladder)} seeds |", "|---" * (len(ladder) + 1) + "|"]
    lines["power_of_kinds"] += [
        f"| {kind} | {' | '.join(share(row['normal'][k]) for k in ladder)} |"
        for kind, row in found["power_of_kinds"].items()
    ]
    seeds = list(found["power"]["trend"])
    lines["power"] = [f"| rule | {' | '.join(seeds)} seeds |", "|---" * (len(seeds) + 1) + "|"]
    most = {"the most, if slopes may differ": found["best_power"]}
    for rule, row in (found["power"] | {"former rule": found["former_power"]} | most).items():
        lines["power"].append(f"| {rule} | {' | '.join(share(row.get(k)) for k in seeds)} |")
    slopes = found["random_slopes"]
    seeds = list(next(iter(slopes.values())))
    lines["slopes"] = [
        f"| settings, slopes' sd / noise | {' | '.join(seeds)} seeds |",
        "|---" * (len(seeds) + 1) + "|",
    ]
    lines["slopes"] += [
        f"| {sd} | {' | '.join(share(row[k]) for k in seeds)} |" for sd, row in slopes.items()
    ]
    unequal = found["unequal_noise"]
    lines["unequal"] = [f"| noise | {' | '.join(map(str, SEEDS))} seeds |", "|---" * (len(SEEDS) + 1) + "|"]
    lines["unequal"] += [
        f"| {name} | {' | '.join(f'{_range(row[str(k)])} ({_range(pooled[str(k)])})' for k in SEEDS)} |"
        for name, row, pooled in (
            (name, row, unequal["pooled"][name]) for name, row in unequal["judged"].items()
        )
    ]
    lines["conjunctions"] = ["| parts | any part at 5 % | Holm | decided either way |", "|---|---|---|---|"]
    lines["conjunctions"] += [
        f"| {parts} | {share(row['any'])} | {share(row['holm'])} | {share(row['decided'])} |"
        for parts, row in found["conjunctions"].items()
    ]
    wrong = found["looks"]["wrong"]
    lines["looks"] = ["| kind, noise, seed effects | 95 % at each look | planned looks |", "|---|---|---|"]
    lines["looks"] += [
        f"| {name} | {share(row['naive'])} | {share(row['planned'])} |" for name, row in wrong.items()
    ]
    lines["effort"] = ["| effect / sd | decided by 12 seeds | seeds on average |", "|---|---|---|"]
    lines["effort"] += [
        f"| {effect} | {share(row['decided'])} | {row['seeds']:.1f} |"
        for effect, row in found["looks"]["effort"].items()
    ]
    lines["level"] = [
        f"For looks at 3, 5, 8 and 12 seeds each interval has the level {100 * found['looks']['level']:.2f} % "
        f"(found anew by bisection on other draws: {100 - 100 * found['looks']['found level']:.2f} %)."
    ]
    lines["unplanned"] = [
        "| noise | 95 % at each seed | confidence sequence | α/(k(k − 1)) |",
        "|---|---|---|---|",
    ]
    lines["unplanned"] += [
        f"| {noise} | {share(row['naive'])} | {share(row['sequence'])} | {share(row['bonferroni'])} |"
        for noise, row in found["unplanned"]["wrong"].items()
    ]
    seeds = list(next(iter(found["unplanned"]["width"].values())))
    lines["width"] = [f"| prior variance | {' | '.join(seeds)} seeds |", "|---" * (len(seeds) + 1) + "|"]
    lines["width"] += [
        f"| {prior} | {' | '.join('none' if row[k] is None else f'{row[k]:.2f}' for k in seeds)} |"
        for prior, row in found["unplanned"]["width"].items()
    ]
    shapes = list(next(iter(found["humps"].values())))
    lines["humps"] = [f"| configurations × seeds | {' | '.join(shapes)} |", "|---" * (len(shapes) + 1) + "|"]
    lines["humps"] += [
        f"| {pool} | {' | '.join(share(row[name]) for name in shapes)} |"
        for pool, row in found["humps"].items()
    ]
    return lines


def renew(page: str, found: dict[str, dict]) -> str:
    """The page with what lies between each pair of markers, ``<!-- name -->`` and ``<!-- /name -->``, written
    anew."""
    for name, lines in tables(found).items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start in page:
            before, _, rest = page.partition(start)
            _, _, after = rest.partition(end)
            page = f"{before}{start}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page
