"""What the results say: ratios, geometric means, the goals, as a Markdown table and a plot."""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.driver import JAX_PEERS, LIBRARIES, VARIANTS

OURS = "jaxrnn"
FLAX = ("flax", "flax-optimized")
MEASURES = {"forward": "forward", "gradient": "forward and backward", "step": "optimizer step", "decode": "decoding"}
GROUPS = {"LSTM": "lstm", "GRU": "gru", "vanilla": "vanilla"}  # by how the name of a cell starts
LINEAR, FLAT, ROOT = 0.15, 0.15, 0.6  # time a step; compile time; growth of memory as a power of T


class Goal(NamedTuple):
    """One line of the goals table."""

    where: str
    goal: str
    measured: str
    reached: bool | None  # None: not measured


def read(path: pathlib.Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and the records of a results file; of a case measured twice, both. A cut last line is dropped."""
    found = []
    for text in path.read_text().splitlines():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            break
    if not found or "run" not in found[0]:
        raise ValueError(f"results: expected those of a run of benchmark.py, got none in {path}")
    return found[0]["run"], found[1:]


# ---- numbers -----------------------------------------------------------------------------------------------------


def geometric_mean(values: Iterable[float]) -> float:
    """The n-th root of the product."""
    return statistics.geometric_mean(list(values))


def seconds(record: dict, library: str, measure: str, of: Any = min) -> float | None:
    """The time of a library, if it has one and its results were right."""
    entry = record["libraries"].get(library, {})
    times = entry.get(measure, {}).get("times")
    return of(times) if times and entry.get("check", {}).get("ok", True) else None


def ratios(records: list[dict], measure: str, peers: Iterable[str], of: Any = min) -> list[tuple[dict, float]]:
    """For each case the time of the fastest peer over ours; cases that either lacks are left out."""
    found = []
    for record in records:
        ours = seconds(record, OURS, measure, of)
        theirs = [t for peer in peers if (t := seconds(record, peer, measure, of)) is not None]
        if ours is not None and theirs:
            found.append((record["case"], min(theirs) / ours))
    return found


def growth(sizes: list[float], values: list[float]) -> float:
    """The power of the size that the value grows with, from the first to the last."""
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def failures(records: list[dict]) -> list[str]:
    """Every result that was wrong and every library that broke, in words."""
    found = []
    for record in records:
        for library, entry in record["libraries"].items():
            check = entry.get("check", {})
            if not check.get("ok", True):
                found.append(f"{name(record['case'])}: {library} FAILED, {check['of']} is off by {check['error']:.1e}")
            states = [entry, *(entry[m] for m in (*MEASURES, "compile", "remat") if m in entry)]
            found += [f"{name(record['case'])}: {library} broke, {s['error']}" for s in states if "error" in s]
    return found


# ---- goals -------------------------------------------------------------------------------------------------------


def goals(records: list[dict]) -> list[Goal]:
    """The goals table, filled in. On a machine with a GPU the same lines are read against its own peers."""
    found = [
        _against("forward and backward / fastest JAX library", records, "gradient", JAX_PEERS, mean=1.5, least=1.1),
        _against("forward / fastest JAX library", records, "forward", JAX_PEERS, mean=1.2, least=1.0),
    ]
    for group, start in GROUPS.items():
        mine = [r for r in records if r["case"]["cell"].startswith(start)]
        mean, least = (1.0, 0.8) if group == "LSTM" else (1.3, None)
        found.append(_against(f"forward and backward / PyTorch, {group}", mine, "gradient", ["torch"], mean, least))
    found.append(_against("decoding at batch 1 / PyTorch", records, "decode", ["torch"], least=10.0))
    found.append(_beside_flax("bytes kept for the backward pass / Flax", records, lambda c: c["residuals"], most=0.6))
    found.append(_beside_flax("compile time / Flax", records, lambda c: min(c["times"]), most=1.2))
    return [*found, *_over_time(records)]


def _against(
    where: str, records: list[dict], measure: str, peers: Iterable[str],
    mean: float | None = None, least: float | None = None,
) -> Goal:  # fmt: skip
    """Ratios of times, their geometric mean and the least of them, each against its bound."""
    parts = [] if mean is None else [f"≥ {mean:g}× geometric mean"]
    goal = ", ".join(parts if least is None else [*parts, f"none below {least:.2g}×"])
    found = ratios(records, measure, peers)
    if not found:
        return Goal(where, goal, "not measured", None)
    average = geometric_mean(r for _, r in found)
    case, lowest = min(found, key=lambda pair: pair[1])
    below = sum(r < least for _, r in found) if least is not None else 0
    measured = f"{average:.2f}× over {len(found)} cases, least {lowest:.2f}× ({name(case)})"
    if below:
        measured += f", {below} below {least:.2g}×"
    return Goal(where, goal, measured, (mean is None or average >= mean) and below == 0)


def _beside_flax(where: str, records: list[dict], value: Any, most: float) -> Goal:
    """A cost of compiling over that of the better Flax cell, at its worst."""
    found = []
    for record in records:
        compiled = {k: v["compile"] for k, v in record["libraries"].items() if "times" in v.get("compile", {})}
        if OURS in compiled and compiled.keys() & set(FLAX):
            best = min(value(compiled[library]) for library in FLAX if library in compiled)
            found.append((value(compiled[OURS]) / best, record["case"]))
    if not found:
        return Goal(where, f"≤ {most:g}×", "not measured", None)
    worst, case = max(found, key=lambda pair: pair[0])
    return Goal(where, f"≤ {most:g}×", f"at most {worst:.2f}× ({name(case)})", worst <= most)


def _over_time(records: list[dict]) -> list[Goal]:
    """What must not grow with T, or not faster than it, in cases that differ in T alone."""
    found = []
    for measure, words in (("gradient", "forward and backward"), ("forward", "forward")):
        series = _series(records, lambda r, m=measure: seconds(r, OURS, m), shortest=1000)
        a_step = [[v / T for T, v in one] for one in series]
        worst = max((max(one) / min(one) - 1 for one in a_step), default=None)
        words = f"{words}: time a step, T = 1e3 to 1e5"
        measured = (
            "not measured"
            if worst is None
            else f"{worst:.0%} apart, " + " / ".join(f"{v * 1e6:.2f}" for v in a_step[0]) + " µs"
        )
        found.append(Goal(words, "within 15%", measured, worst if worst is None else worst <= LINEAR))
    series = _series(records, lambda r: seconds(r, OURS, "compile"), shortest=1000)
    worst = max((max(v for _, v in one) / min(v for _, v in one) - 1 for one in series), default=None)
    found.append(Goal("compile time, T = 1e3 to 1e5", "flat", "not measured" if worst is None else f"{worst:.0%} apart",
                      worst if worst is None else worst <= FLAT))  # fmt: skip
    series = _series(records, lambda r: r["libraries"].get(OURS, {}).get("remat", {}).get("remat"))
    power = max((growth(*map(list, zip(*one, strict=True))) for one in series), default=None)
    found.append(Goal("memory of the gradient with remat", "O(√T)", "not measured" if power is None else
                      f"grows as T^{power:.2f}, " + ", ".join(f"{v / 1e6:.2f} MB at {T}" for T, v in series[0]),
                      power if power is None else power <= ROOT))  # fmt: skip
    return found


def _series(records: list[dict], value: Any, shortest: int = 0) -> list[list[tuple[int, float]]]:
    """(T, value) of cases that differ in T alone, in order, where there are several of them."""
    found: dict[tuple, dict[int, float]] = {}
    for record in records:
        case, v = record["case"], value(record)
        if v is not None and case["steps"] >= shortest:
            key = tuple(case[k] for k in case if k != "steps")
            found.setdefault(key, {})[case["steps"]] = v
    return [sorted(one.items()) for one in found.values() if len(one) > 1]


# ---- words -------------------------------------------------------------------------------------------------------


def name(case: dict) -> str:
    """A case in a few words."""
    words = f"{case['cell']} {case['batch']}×{case['hidden']} T={case['steps']}"
    if case["inputs"] != case["hidden"]:
        words += f" I={case['inputs']}"
    return words + (" bf16" if case["dtype"] == "bfloat16" else "")


def table(records: list[dict], measure: str) -> list[str]:
    """One measure: our milliseconds, and every other library's time over ours."""
    records = [r for r in records if any(measure in entry for entry in r["libraries"].values())]
    there = {library for r in records for library, entry in r["libraries"].items() if measure in entry}
    others = [library for library in (*LIBRARIES, *VARIANTS) if library in there and library != OURS]
    if not records:
        return []
    unit = "µs a step" if measure == "decode" else "ms"
    lines = [f"### {MEASURES[measure].capitalize()}", "", "| " + " | ".join(
        ["case", f"{OURS}, {unit}", "median", *others, "fastest JAX peer"]) + " |"]  # fmt: skip
    lines.append("|---" + "|---:" * (len(others) + 3) + "|")
    for record in records:
        best, middle = (_unit(record, measure, seconds(record, OURS, measure, of)) for of in (min, statistics.median))
        ours = seconds(record, OURS, measure)
        cells = [_cell(record, library, measure, ours) for library in others]
        fastest = ratios([record], measure, JAX_PEERS)
        last = f"{fastest[0][1]:.2f}" if fastest else "n/a"
        lines.append("| " + " | ".join([name(record["case"]), best, middle, *cells, last]) + " |")
    means = [ratios(records, measure, [library]) for library in others] + [ratios(records, measure, JAX_PEERS)]
    words = [f"**{geometric_mean(r for _, r in found):.2f}**" if found else "n/a" for found in means]
    return [*lines, "| " + " | ".join(["**geometric mean**", "", "", *words]) + " |", ""]


def _unit(record: dict, measure: str, value: float | None) -> str:
    if value is None:
        return _cell(record, OURS, measure, None)
    return f"{value / record['case']['steps'] * 1e6:.3g}" if measure == "decode" else f"{value * 1e3:.4g}"


def _cell(record: dict, library: str, measure: str, ours: float | None) -> str:
    entry = record["libraries"].get(library, {})
    theirs = seconds(record, library, measure)
    if theirs is not None and ours is not None:
        return f"{theirs / ours:.2f}"
    if "error" in entry or "error" in entry.get(measure, {}):
        return "ERROR"
    return "FAILED" if not entry.get("check", {}).get("ok", True) else "n/a"


def compile_table(records: list[dict]) -> list[str]:
    """Compile time, and memory of the gradient."""
    lines = ["### Compiling the gradient", "",
             "| case | library | compile, s | kept for backward, MB | temporary, MB |",
             "|---|---|---:|---:|---:|"]  # fmt: skip
    for record in records:
        for library, entry in record["libraries"].items():
            if "times" in (found := entry.get("compile", {})):
                megabytes = [f"{found[key] / 1e6:.2f}" for key in ("residuals", "temporary")]
                lines.append(
                    f"| {name(record['case'])} | {library} | {min(found['times']):.3f} | {' | '.join(megabytes)} |"
                )
    return [*lines, ""] if len(lines) > 4 else []


def write(out: pathlib.Path) -> str:
    """Write table.md and ratios.png beside the results; return the goals for the terminal."""
    run, records = read(out / "results.jsonl")
    verdicts = {True: "reached", False: "missed", None: "–"}
    found = goals(records)
    versions = {k: v for said in run["libraries"].values() for k, v in said.items()}
    versions = {k: v for k, v in versions.items() if isinstance(v, str) and k not in ("missing", "error")}
    calls = [
        len(e[m]["times"])
        for r in records
        for e in r["libraries"].values()
        for m in MEASURES
        if "times" in e.get(m, {})
    ]
    idle = max((v for r in records for k, v in r.items() if k.startswith("idle")), default=0.0)
    lines = [
        "# Benchmark", "",
        f"{run['date']}, {run['cpu']}, {run['cores']} cores, {run['device']}; "
        + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + ".",
        f"Times are minima of {min(calls, default=0)} to {max(calls, default=0)} calls; other columns are a library's "
        f"time over jaxrnn's: above 1 jaxrnn is faster. Waiting processes used at most {idle:.1%} of a core.", "",
        "## Goals", "", "| where | goal | measured | |", "|---|---|---|---|",
        *(f"| {g.where} | {g.goal} | {g.measured} | {verdicts[g.reached]} |" for g in found), "",
        "## Results", "",
    ]  # fmt: skip
    wrong = failures(records)
    lines += ["Wrong or broken:", "", *(f"- {text}" for text in wrong), ""] if wrong else []
    for measure in MEASURES:
        lines += table(records, measure)
    lines += compile_table(records)
    (out / "table.md").write_text("\n".join(lines))
    plotted = plot(records, out / "ratios.png")
    text = [f"{verdicts[g.reached]:8} {g.where}: {g.measured} (goal {g.goal})" for g in found if g.reached is not None]
    text += wrong
    return "\n".join([*text, f"{out / 'table.md'}" + (f" and {out / 'ratios.png'}" if plotted else "")])


def plot(records: list[dict], path: pathlib.Path) -> bool:
    """Draw the ratios of every case, a panel a measure, a row a library; False if there is nothing to draw."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator
    except ImportError:
        print("no plot: matplotlib is missing; pip install matplotlib")
        return False
    others = [library for library in (*LIBRARIES, *VARIANTS) if library != OURS]
    data = {m: {lib: ratios(records, m, [lib]) for lib in others} for m in ("forward", "gradient", "step", "decode")}
    data = {m: {lib: found for lib, found in by.items() if found} for m, by in data.items()}
    data = {m: by for m, by in data.items() if by}
    if not data:
        return False
    figure = Figure(figsize=(3.6 * len(data) + 1.2, 3.8), layout="constrained")
    panels = figure.subplots(1, len(data), squeeze=False)[0]
    for axes, (measure, by) in zip(panels, data.items(), strict=True):
        for row, found in enumerate(by.values()):
            values = [r for _, r in found]
            axes.plot(values, [row + 0.18] * len(values), "|", color="0.45", markersize=9)
            axes.plot(geometric_mean(values), row, "o", color="tab:blue")
            axes.annotate(f"{geometric_mean(values):.2f}×", (geometric_mean(values), row), xytext=(0, 6),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
        axes.axvline(1, color="black", linewidth=1)
        axes.set(xscale="log", title=MEASURES[measure], ylim=(len(by) - 0.4, -0.6))
        axes.set_yticks(range(len(by)), list(by))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(axis="x", which="both", alpha=0.25)
    figure.supxlabel(
        "time over jaxrnn's, log scale: right of 1 jaxrnn is faster (bars: cases, dots: geometric means)", fontsize=9
    )
    figure.savefig(path, dpi=150)
    return True
