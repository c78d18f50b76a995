"""What the groups mean: every feature and score space on pictures of known classes, through ingest and fit.

`python -m benchmarks.quality [SET ...]`
"""

from __future__ import annotations

import csv
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from benchmarks import WORK
from benchmarks.pictures import SHARED
from streamcluster import FitSettings, IngestSettings, fit, ingest, open_collection
from streamcluster.learn.features import SPACES

#: Groups to make of each set, as the sets' description says.
CLUSTERS = {"clothing": 30, "sprites": 20, "faces-orl": 40, "faces-dark": 20}
#: Sets whose pictures are darkened; those of the other one are dark already.
DARKENED = ("clothing", "sprites", "faces-orl")
DARK_SHARE = 0.3
DARK_FACTORS = (0.2, 0.6)
SEEDS = (0, 1, 2)
#: All fits are made in this process, which remembers what it freed.
MEMORY = "4GiB"
#: Feature and score spaces: every one with the default scores, and the main ones with the others.
DEFAULT_SCORES = "half-whitened-unit"
DEFAULT_CASES = [(features, DEFAULT_SCORES) for features in SPACES]
ALL_CASES = DEFAULT_CASES + [
    (features, scores) for features in ("color", "texture", "rgb") for scores in ("plain", "whitened")
]

#: Group or class of each picture, by its path.
Groups = dict[str, int]
Classes = dict[str, str]
Case = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well groups agree with classes: normalised mutual information, purity and adjusted Rand index."""

    information: float
    purity: float
    rand: float

    def __str__(self) -> str:
        return f"{self.information:.3f} / {self.purity:.2f} / {self.rand:.3f}"


def compare(classes: Classes, groups: Groups) -> Agreement:
    """Return how well the groups of pictures agree with their classes; other pictures are left out."""
    found, true = [groups[path] for path in classes], list(classes.values())
    purity = float(contingency_matrix(true, found).max(axis=0).sum() / len(true))
    return Agreement(normalized_mutual_info_score(true, found), purity, adjusted_rand_score(true, found))


def compare_all(classes: Classes, several: Iterable[Groups]) -> Agreement:
    """Return the mean agreement of several groupings."""
    measures = [astuple(compare(classes, groups)) for groups in several]
    return Agreement(*map(statistics.mean, zip(*measures, strict=True)))


def group_pictures(folder: Path, work: Path, k: int, cases: Sequence[Case]) -> dict[Case, list[Groups]]:
    """Ingest a folder, fit each case, and return the groups, one for each seed."""
    found: dict[Case, list[Groups]] = {case: [] for case in cases}
    store = work / "quality.zarr"
    for seed in SEEDS:
        shutil.rmtree(store, ignore_errors=True)
        ingest(IngestSettings(sources=(str(folder),), store=str(store), seed=seed))
        for features, scores in cases:
            settings = {"store": str(store), "clusters": k, "features": features, "scores": scores, "memory": MEMORY}
            fit(FitSettings.from_mapping(settings))
            pictures = open_collection(str(store)).grouped_pictures()
            found[features, scores].append({picture.source: picture.cluster for picture in pictures})
    return found


def read_classes(folder: Path) -> Classes:
    """Return the class of each picture of a shared set."""
    with open(folder / "truth.csv", newline="", encoding="utf-8") as file:
        return {str(folder / row["path"]): row["label"] for row in csv.DictReader(file)}


def darken(folder: Path, target: Path) -> tuple[Classes, Classes]:
    """Write every picture with a seeded share of them darkened; return the classes of all, and of the darkened ones.

    Pictures are written as they are compared, small and on white, so that darkening is all that changes.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    rng = np.random.default_rng(0)
    everything, darkened = {}, {}
    for i, (path, label) in enumerate(read_classes(folder).items()):
        factor = rng.uniform(*DARK_FACTORS) if rng.random() < DARK_SHARE else 1.0
        written = target / f"{i}.png"
        written.write_bytes(cv2.imencode(".png", cv2.convertScaleAbs(_on_white(path), alpha=factor))[1].tobytes())
        everything[str(written)] = label
        if factor < 1:
            darkened[str(written)] = label
    return everything, darkened


def _on_white(path: str) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded.ndim == 3 and decoded.shape[2] == 4:
        alpha = decoded[..., 3:] / 255
        decoded = np.rint(decoded[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    small: NDArray[np.uint8] = cv2.resize(decoded, (64, 64), interpolation=cv2.INTER_AREA)
    return small


def measure(work: Path, sets: Sequence[str] = tuple(CLUSTERS)) -> list[str]:
    """Return the lines of the report."""
    return [*_measure_spaces(work, sets), "", *_measure_darkened(work, [name for name in sets if name in DARKENED])]


def _measure_spaces(work: Path, sets: Sequence[str]) -> list[str]:
    columns = []
    for name in sets:
        classes = read_classes(SHARED.parent / name)
        found = group_pictures(SHARED.parent / name, work, CLUSTERS[name], ALL_CASES)
        columns.append([compare_all(classes, found[case]) for case in ALL_CASES])
    return [
        "### What the groups mean",
        "",
        "Normalised mutual information / purity / adjusted Rand index between groups and the classes of real pictures, "
        f"through `ingest` and `fit` with their defaults; means of {len(SEEDS)} seeds.",
        "",
        f"| `--features` | `--scores` | {' | '.join(f'{name}, {CLUSTERS[name]} groups' for name in sets)} |",
        f"|---|---|{'---|' * len(sets)}",
        *(
            f"| {features} | {scores} | {' | '.join(map(str, row))} |"
            for (features, scores), *row in zip(ALL_CASES, *columns, strict=True)
        ),
    ]


def _measure_darkened(work: Path, sets: Sequence[str]) -> list[str]:
    low, high = DARK_FACTORS
    lines = [
        "### Darkened pictures",
        "",
        f"Normalised mutual information with a seeded {DARK_SHARE:.0%} of the pictures darkened to {low} – {high} of "
        "their values: of all pictures, of the darkened ones, and of these in the set as it was.",
        "",
        "| set | `--features` | all | darkened | before |",
        "|---|---|---|---|---|",
    ]
    for name in sets:
        k, folder = CLUSTERS[name], work / f"quality-{name}"
        everything, darkened = darken(SHARED.parent / name, folder)
        after = group_pictures(folder, work, k, DEFAULT_CASES)
        originals = dict(zip(everything, read_classes(SHARED.parent / name).items(), strict=True))
        as_it_was = dict(originals[path] for path in darkened)
        before = group_pictures(SHARED.parent / name, work, k, DEFAULT_CASES)
        for case in DEFAULT_CASES:
            told = [compare_all(everything, after[case]), compare_all(darkened, after[case])]
            told.append(compare_all(as_it_was, before[case]))
            lines.append(f"| {name} | {case[0]} | {' | '.join(f'{one.information:.3f}' for one in told)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(measure(WORK, sys.argv[1:] or tuple(CLUSTERS))))
