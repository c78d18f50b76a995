"""Figures of a fit, as PNG and SVG. The only door to matplotlib; no window, no pyplot, no figure that stays open.

Colours are those of Okabe & Ito 2008, which the colour-blind tell apart; a marker and the group's number beside its
points say the same without colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from streamcluster.errors import MissingExtraError
from streamcluster.learn.eigenimages import Eigenimages
from streamcluster.runtime.words import count
from streamcluster.show.dendrogram import Dendrogram
from streamcluster.show.groups import MOST_GROUPS, GroupPictures, largest_groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What our files say that they come from.
MARK: Final = "streamcluster plot"
ENDINGS: Final = ("png", "svg")
DPI: Final = 130
#: Rows of a column of the legend.
LEGEND_ROWS: Final = 34
#: Height of a picture in a sheet.
TILE_INCHES: Final = 0.92

COLORS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#4d4d4d", "#F0E442")
MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")
OTHERS: Final = "#c8c8c8"
STYLE: Final[Any] = {
    "axes.edgecolor": "#888888",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "image.composite_image": False,
    "legend.frameon": False,
    "svg.hashsalt": MARK,
}


@dataclass(frozen=True, slots=True)
class Points:
    """The pictures that a scatter shows.

    Attributes
    ----------
    labels : int32 (n,)
        Group of each.
    scores : float32 (n, 3)
        The first three, zero where the fit has fewer.
    places : float32 (n, 2)
        On the map of all pictures.
    total : int
        Pictures that they are drawn from.
    """

    labels: NDArray[np.int32]
    scores: NDArray[np.float32]
    places: NDArray[np.float32]
    total: int

    @property
    def shown(self) -> str:
        """How many of how many."""
        n = len(self.labels)
        return count(n, "picture") if n == self.total else f"{n:,} of {count(self.total, 'picture')}, drawn by lot"


def check_extra() -> None:
    """Raise MissingExtraError if matplotlib is not installed."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "plots") from None


def encode(draw: Callable[[], Figure]) -> dict[str, bytes]:
    """Return a figure as the bytes of a file of each ending; the same figure gives the same bytes.

    matplotlib's settings are changed while it is drawn, and put back.
    """
    import matplotlib as mpl

    metadata = {"png": {"Software": MARK}, "svg": {"Creator": MARK, "Date": None}}
    files = {}
    with mpl.rc_context(STYLE):
        figure = draw()
        for ending in ENDINGS:
            buffer = BytesIO()
            figure.savefig(buffer, format=ending, dpi=DPI, metadata=metadata[ending])
            files[ending] = buffer.getvalue()
            figure.set_layout_engine("none")  # the first file's holds for the others
    return files


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_variance(ratio: NDArray[np.float64], wanted: float | None) -> Figure:
    """Draw the cumulative explained variance ratio against the number of components, with the chosen one marked.

    Parameters
    ----------
    ratio : float64 (d,)
        Explained variance ratio of each component.
    wanted : float, optional
        What the fit was asked to reach.
    """
    figure = _figure(7.5, 4.6)
    axes = figure.subplots()
    numbers, held = np.arange(1, len(ratio) + 1), np.cumsum(ratio)
    axes.plot(numbers, held, color=COLORS[0], marker="." if len(ratio) <= 30 else "")
    axes.plot(numbers[-1:], held[-1:], "o", color=COLORS[5], clip_on=False)
    for level in (0.5, 0.8, 0.9, 0.95, 0.99):
        if held[0] < level < held[-1]:
            n = int(np.searchsorted(held, level)) + 1
            axes.plot([0, n, n], [level, level, 0], color="#999999", linewidth=0.8, linestyle=":")
            axes.annotate(f" {n}", (n, 0), (0, 3), textcoords="offset points", color="#666666", fontsize=8)
    if wanted is not None:
        axes.axhline(wanted, color=COLORS[5], linewidth=0.8, linestyle="--")
    axes.set_xlim(0, len(ratio) * 1.06)
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("components")
    axes.set_ylabel("cumulative explained variance ratio")
    axes.set_title(f"{count(len(ratio), 'component')}, the chosen number, hold {held[-1]:.1%} of the variance")
    return figure


def draw_scatter(points: Points, sizes: NDArray[np.int64], ratio: NDArray[np.float64], space: str) -> Figure:
    """Draw the first two scores, coloured by group.

    Parameters
    ----------
    points : Points
    sizes : int64 (k,)
        Pictures of each group.
    ratio : float64 (d,)
        Explained variance ratio of each component.
    space : str
        What the scores are.
    """
    figure = _figure(_scatter_width(sizes), 7)
    axes = figure.subplots()
    _draw_groups(axes, points.scores[:, :2], points.labels, sizes)
    axes.set_xlabel(_axis_label(0, ratio))
    axes.set_ylabel(_axis_label(1, ratio))
    axes.set_title(f"First two scores ({space}): {points.shown}")
    return figure


def draw_scatter_3d(points: Points, sizes: NDArray[np.int64], ratio: NDArray[np.float64], space: str) -> Figure:
    """Draw the first three scores, coloured by group; parameters as of `draw_scatter`."""
    figure = _figure(_scatter_width(sizes), 7)
    axes: Any = figure.add_subplot(projection="3d")
    _draw_groups(axes, points.scores, points.labels, sizes)
    axes.set_xlabel(_axis_label(0, ratio))
    axes.set_ylabel(_axis_label(1, ratio))
    axes.set_zlabel(_axis_label(2, ratio))
    axes.set_box_aspect((1, 1, 0.85), zoom=1.02)
    axes.set_title(f"First three scores ({space}): {points.shown}")
    return figure


def draw_map(points: Points, sizes: NDArray[np.int64]) -> Figure:
    """Draw the map of all pictures, coloured by group; its axes have no meaning of their own."""
    figure = _figure(_scatter_width(sizes), 7)
    axes = figure.subplots()
    _draw_groups(axes, points.places, points.labels, sizes)
    axes.set_aspect("equal", adjustable="datalim")
    axes.axis("off")
    axes.set_title(f"Map by t-SNE, like pictures near one another: {points.shown}")
    return figure


def _axis_label(component: int, ratio: NDArray[np.float64]) -> str:
    if component >= len(ratio):
        return f"no component {component + 1}"
    return f"PC{component + 1} ({ratio[component]:.1%} of the variance)"


def _legend_columns(n_groups: int) -> int:
    return -(-n_groups // LEGEND_ROWS)


def _scatter_width(sizes: NDArray[np.int64]) -> float:
    return 7.6 + 0.95 * _legend_columns(len(largest_groups(sizes)))


def _draw_groups(axes: Any, at: NDArray[np.float32], labels: NDArray[np.int32], sizes: NDArray[np.int64]) -> None:
    """Draw points, each group in its colour and marker, its number amid them, and a legend beside the axes.

    `at` is (n, 2) or (n, 3). The point layer is one picture in an SVG.
    """
    numbers = largest_groups(sizes)
    others = ~np.isin(labels, numbers)
    area = float(np.clip(12_000 / max(len(labels), 1), 4, 26))
    if others.any():
        axes.scatter(*at[others].T, s=area / 2, color=OTHERS, linewidths=0, rasterized=True)
    flat = {"depthshade": False} if at.shape[1] == 3 else {}
    handles = []
    for i, number in enumerate(numbers):
        own = at[labels == number]
        style = {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i // len(COLORS) % len(MARKERS)]}
        axes.scatter(*own.T, s=area, linewidths=0, alpha=0.75, rasterized=True, **style, **flat)
        handles.append(_legend_entry(f"{number}  ({sizes[number]:,})", style))
        if len(own):
            _write_number(axes, np.median(own, axis=0), str(number))
    if others.any():
        n_others = np.count_nonzero(sizes) - len(numbers)
        handles.append(_legend_entry(f"{n_others:,} smaller", {"color": OTHERS, "marker": "o"}))
    axes.figure.legend(
        handles=handles,
        loc="outside right upper",
        ncols=_legend_columns(len(handles)),
        fontsize=8,
        title="group (pictures)",
        title_fontsize=8,
        handletextpad=0.1,
        columnspacing=0.8,
        labelspacing=0.35,
    )


def _legend_entry(label: str, style: dict[str, Any]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", markersize=6, label=label, markeredgewidth=0, **style)


def _write_number(axes: Any, at: NDArray[np.float32], number: str) -> None:
    from matplotlib.patheffects import withStroke

    axes.text(
        *map(float, at),
        number,
        ha="center",
        va="center",
        fontsize=8,
        fontweight="bold",
        color="#111111",
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
        zorder=1000,
    )


def draw_sizes(sizes: NDArray[np.int64]) -> Figure:
    """Draw the number of pictures of each group, int64 (k,); of more than 100 groups as a line by rank."""
    n = len(sizes)
    figure = _figure(float(np.clip(2 + 0.19 * n, 6, 16)), 4.2)
    axes = figure.subplots()
    if n <= MOST_GROUPS:
        bars = axes.bar(np.arange(n), sizes, color=COLORS[0], width=0.8)
        axes.bar_label(bars, [f"{size:,}" for size in sizes], fontsize=7, padding=2, rotation=90 if n > 15 else 0)
        axes.set_xticks(np.arange(n), list(map(str, range(n))), fontsize=8 if n <= 50 else 6)
        axes.set_xlim(-0.8, n - 0.2)
        axes.margins(y=0.14)
        axes.set_xlabel("group")
    else:
        axes.plot(np.arange(1, n + 1), np.sort(sizes)[::-1], color=COLORS[0])
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xlabel("groups, the largest first")
    axes.set_ylabel("pictures")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_axisbelow(True)
    axes.grid(axis="y")
    least, middle, most = (f"{size:,.0f}" for size in np.quantile(sizes, [0, 0.5, 1]))
    axes.set_title(f"{count(n, 'group')} of {least} to {most} pictures, half of them of up to {middle}")
    return figure


def draw_groups(pictures: GroupPictures, n_groups: int) -> Figure:
    """Draw a sheet of the groups: of each the mean, and the picture that is nearest to its centre."""
    pairs = np.concatenate([pictures.means, pictures.nearest], axis=2)
    captions = [f"{n}  ({size:,})" for n, size in zip(pictures.numbers, pictures.sizes, strict=True)]
    of_all = "" if len(captions) == n_groups else f"; the {len(captions)} largest of {n_groups:,}"
    title = f"Groups (pictures): the mean of each, and beside it the picture nearest to its centre{of_all}"
    return _draw_sheet(pairs, captions, title, columns=_pair_columns(len(captions)))


def _pair_columns(n_pairs: int) -> int:
    """Return how many pairs stand side by side in a sheet that is half as high again as wide, at most 8."""
    return min(8, max(1, round(math.sqrt(n_pairs))))


def draw_eigenimages(found: Eigenimages | None, ratio: NDArray[np.float64], features: str) -> Figure:
    """Draw the mean and the components that are shown as pictures, or say why these features have none."""
    if found is None:
        return _draw_words(f"{features}: a component is a direction among a model's numbers, and no picture")
    captions = ["mean"]
    for i, share in enumerate(found.shares):
        part = f"\n{share:.0%} here" if found.others else ""
        captions.append(f"PC{i + 1}  {ratio[i]:.1%}{part}")
    title = f"Eigenimages of {features}: components as departures from grey, with their share of the variance"
    if found.others:
        title += f"\nThe rest of a component is {found.others}; 'here' is how much of it the picture shows"
    return _draw_sheet(np.concatenate([found.mean[None], found.components]), captions, title, columns=8)


def _draw_sheet(pictures: NDArray[np.uint8], captions: Sequence[str], title: str, columns: int) -> Figure:
    """Draw pictures, uint8 (n, h, w, 3), row by row in thin frames, each with a caption of a line or two below."""
    from matplotlib.image import AxesImage
    from matplotlib.patches import Rectangle

    n, height, width = pictures.shape[:3]
    n_lines = max(caption.count("\n") + 1 for caption in captions)
    step_x, step_y = width + 0.2 * height, height * (1.06 + 0.17 * n_lines)
    across, down = min(n, columns) * step_x, -(-n // columns) * step_y
    inches = TILE_INCHES / height
    figure = _figure(max(across * inches, 6.5), down * inches + 0.6)
    axes = figure.subplots()
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        y, x = i // columns * step_y, i % columns * step_x
        # One image for all of them would be taken to the size of the figure in 64 bits a channel.
        image = AxesImage(axes, extent=(x, x + width, y + height, y), interpolation="none")
        image.set_data(picture)
        axes.add_image(image)
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=OTHERS, linewidth=0.6))
        axes.text(x, y + 1.04 * height, caption, fontsize=7.5, va="top")
    axes.set_xlim(0, across)
    axes.set_ylim(down, 0)
    axes.set_aspect("equal", anchor="NW")
    axes.axis("off")
    axes.set_title(title)
    return figure


def _draw_words(words: str) -> Figure:
    figure = _figure(8, 2)
    figure.text(0.5, 0.5, words, ha="center", va="center", wrap=True)
    return figure


def draw_tree(tree: Dendrogram, pictures: GroupPictures, n_groups: int) -> Figure:
    """Draw Ward's tree of the groups, each leaf with its number, its size and its picture.

    Parameters
    ----------
    tree : Dendrogram
        Over the groups of `pictures`.
    pictures : GroupPictures
    n_groups : int
        Groups of the fit.
    """
    n = len(pictures.numbers)
    if n < 2:
        return _draw_words("one group: there is nothing to join in a tree")
    figure = _figure(9, 1.1 + 0.3 * n)
    axes = figure.subplots()
    for join in tree.joins:
        (a, b), (foot_a, foot_b), height = join.x, join.feet, join.height
        line = [foot_a, height, height, foot_b], [a, a, b, b]
        axes.plot(*line, color=COLORS[0], linewidth=1.2, solid_joinstyle="miter")
    highest = tree.joins[-1].height or 1.0
    axes.set_xlim(1.03 * highest, -0.02 * highest)
    axes.set_ylim(n - 0.4, -0.6)
    axes.yaxis.tick_right()
    labels = [f"{pictures.numbers[i]}  ({pictures.sizes[i]:,})" for i in tree.order]
    axes.set_yticks(np.arange(n), labels, fontsize=8)
    axes.tick_params(axis="y", length=0, pad=26)
    for y, i in enumerate(tree.order):
        _put_picture(axes, pictures.nearest[i], y)
    axes.spines["left"].set_visible(False)
    of_all = "" if n == n_groups else f", the {n} largest of {n_groups:,}"
    axes.set_title(f"Ward's tree of the groups (pictures){of_all}")
    axes.set_xlabel("height: half of its square is the inertia that a join adds")
    return figure


def _put_picture(axes: Axes, picture: NDArray[np.uint8], y: float) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    image = OffsetImage(picture, zoom=19 / len(picture), interpolation="antialiased")
    box = AnnotationBbox(
        image,
        (1, y),
        xybox=(14, 0),
        xycoords=("axes fraction", "data"),
        boxcoords="offset points",
        frameon=False,
        pad=0,
        annotation_clip=False,
    )
    axes.add_artist(box)
