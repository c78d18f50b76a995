"""The plots beside `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.report import DOCS

#: Okabe & Ito 2008, told apart by the colour-blind; markers and hatches tell the same without colour.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
STYLE = {
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
DPI = 110

#: Values of y for those of x.
Line = Mapping[int, float]


def save_lines(name: str, panels: Mapping[str, Mapping[str, Line]], x_label: str, *, logarithmic: bool = True) -> str:
    """Draw lines over a common x, a panel for each title, and return what shows them in the report."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.3), layout="constrained")
        for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            _draw_lines(axes, lines, logarithmic)
            axes.set_title(title)
            axes.set_xlabel(x_label)
        _add_legend(figure)
        return _save(figure, name, "; ".join(panels))


def _draw_lines(axes: Axes, lines: Mapping[str, Line], logarithmic: bool) -> None:
    for (label, line), color, marker in zip(lines.items(), COLORS, MARKERS, strict=False):
        axes.plot(list(line), list(line.values()), color=color, marker=marker, markersize=5, label=label)
    ticks = sorted({x for line in lines.values() for x in line})
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.12 * max(y for line in lines.values() for y in line.values()))
    axes.set_xticks(ticks, [f"{x:,}" for x in ticks], rotation=0 if logarithmic else 30)
    axes.set_xticks([], minor=True)


def save_bars(name: str, panels: Mapping[str, Mapping[str, Sequence[float]]], labels: Sequence[str]) -> str:
    """Draw horizontal bars with common labels, a panel for each title and a colour for each of its keys."""
    with mpl.rc_context(STYLE):
        n_bars = len(next(iter(panels.values()))) * len(labels)
        figure = Figure(figsize=(8.4, 1.0 + 0.26 * n_bars), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (title, bars) in zip(grid, panels.items(), strict=True):
            _draw_bars(axes, bars, len(labels))
            axes.set_title(title)
        grid[0].set_yticks([group + 0.4 - 0.4 / len(bars) for group in range(len(labels))], labels)
        grid[0].invert_yaxis()
        _add_legend(figure)
        return _save(figure, name, "; ".join(panels))


def _draw_bars(axes: Axes, bars: Mapping[str, Sequence[float]], n_groups: int) -> None:
    height = 0.8 / len(bars)
    for i, ((label, values), color) in enumerate(zip(bars.items(), COLORS, strict=False)):
        at = [group + i * height for group in range(n_groups)]
        drawn = axes.barh(at, values, height * 0.92, color=color, label=label)
        axes.bar_label(drawn, fmt="{:.3g}", padding=3)
    axes.margins(x=0.18)
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="y")


def _add_legend(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _save(figure: Figure, name: str, described: str) -> str:
    figure.savefig(DOCS / f"benchmark-{name}.png", dpi=DPI)
    return f"![{described}](benchmark-{name}.png)"
