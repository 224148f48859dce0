#!/usr/bin/env python3
"""Compares the training losses of runs: how far apart they are over ranges of steps, and one SVG with a line each.

  scripts/compare_losses.py [--svg FILE] NAME=FOLDER...    FOLDER is a run folder or its metrics.jsonl
"""
import argparse
import itertools
import json
import pathlib
import statistics

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f")  # the first run's is drawn last
LEFT, TOP, WIDTH, HEIGHT = 48, 30, 700, 240


def losses(path):
    """Step -> loss of one run."""
    path = pathlib.Path(path)
    file = path / "metrics.jsonl" if path.is_dir() else path
    rows = (json.loads(line) for line in file.read_text().splitlines())
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def ranges(steps):
    """1 to 10, 11 to 50, 51 to 100, and every hundred from there, as far as there are steps."""
    borders = [0, 10, 50, 100, *range(200, steps + 100, 100)]
    return [(a + 1, min(b, steps)) for a, b in itertools.pairwise(borders) if a < steps]


def distance(a, b, first, last):
    """Root mean square and median of the difference in loss."""
    apart = [abs(a[step] - b[step]) for step in range(first, last + 1)]
    return (sum(d * d for d in apart) / len(apart)) ** 0.5, statistics.median(apart)


def table(runs):
    """For each run and range its mean distance to the others: root mean square, and median in brackets."""
    steps = min(max(run) for run in runs.values())
    yield "| steps | " + " | ".join(runs) + " |"
    yield "|---|" + "---|" * len(runs)
    for first, last in ranges(steps):
        cells = []
        for name, run in runs.items():
            apart = [distance(run, other, first, last) for n, other in runs.items() if n != name]
            rms, median = (statistics.mean(values) for values in zip(*apart))
            cells.append(f"{rms:.3f} ({median:.3f})")
        yield f"| {first}–{last} | " + " | ".join(cells) + " |"
    mean = [f"{statistics.mean(run[s] for s in range(steps - 19, steps + 1)):.3f}" for run in runs.values()]
    yield "| mean loss of the last 20 | " + " | ".join(mean) + " |"


def svg(runs):
    """Lines of the loss by step."""
    steps = max(max(run) for run in runs.values())
    values = [loss for run in runs.values() for loss in run.values()]
    low, high = int(min(values)), int(max(values)) + 1
    x = lambda step: LEFT + WIDTH * step / steps
    y = lambda loss: TOP + HEIGHT * (high - loss) / (high - low)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 12} {TOP + HEIGHT + 40}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="Training loss by step">'
    )
    yield f'<rect width="{LEFT + WIDTH + 12}" height="{TOP + HEIGHT + 40}" fill="white"/>'
    for tick in range(low, high + 1):
        yield f'<path d="M{LEFT} {y(tick):.1f}H{LEFT + WIDTH}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>'
    for tick in range(0, steps + 1, max(steps // 6, 1)):
        yield f'<text x="{x(tick):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{tick}</text>'
    yield f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">step</text>'
    named = list(zip(runs.items(), itertools.cycle(COLOURS)))
    for (name, run), colour in reversed(named):
        points = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in sorted(run.items()))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1"/>'
    for place, ((name, _), colour) in enumerate(named):
        left = LEFT + WIDTH * place / len(named)
        yield f'<path d="M{left:.1f} 16h20" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{left + 26:.1f}" y="20">{name}</text>'
    yield "</svg>"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--svg", help="file to write")
    arguments = parser.parse_args()
    runs = {name: losses(path) for name, path in (run.split("=", 1) for run in arguments.runs)}
    if len(runs) < 2:
        parser.error("needs two runs at least")
    print("\n".join(table(runs)))
    if arguments.svg:
        pathlib.Path(arguments.svg).write_text("\n".join(svg(runs)) + "\n")


if __name__ == "__main__":
    main()
