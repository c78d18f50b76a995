"""What a fit plans to take: enough for what people ask for, and flat where the collection grows."""

from dataclasses import replace

import pytest

from streamcluster.errors import BudgetError
from streamcluster.learn.plan import KEPT_SCORE_BYTES, Work, plan_fit
from streamcluster.runtime import memory
from streamcluster.runtime.memory import MIB

PIXELS = Work(
    n_rows=5000,
    n_live=5000,
    block_rows=512,
    block_bytes=512 * 12_288,
    n_features=12_288,
    temporary_bytes=0,
    n_components=1200,
    n_clusters=512,
    batch_rows=None,
    score_tile=8192,
)
COLOR = replace(PIXELS, n_features=5440, n_components=100)


@pytest.fixture(autouse=True)
def usual_process(monkeypatch):
    monkeypatch.setattr(memory, "resident_bytes", lambda: 200 * MIB)


def test_1200_components_of_64_by_64_rgb_fit_a_gibibyte_however_many_pictures():
    for n_rows in (5000, 500_000):
        assert plan_fit(replace(PIXELS, n_rows=n_rows, n_live=n_rows), 1024 * MIB, 2).pca_rows >= 1200
    with pytest.raises(BudgetError, match="--memory"):
        plan_fit(PIXELS, 700 * MIB, 2)


def test_few_scores_are_kept_where_the_budget_has_room_and_many_are_not():
    row_bytes = 4 * COLOR.n_components
    few = replace(COLOR, n_rows=KEPT_SCORE_BYTES // row_bytes)
    many = replace(few, n_rows=4 * few.n_rows)
    assert plan_fit(few, 1024 * MIB, 2).keeps_scores
    assert not plan_fit(many, 1024 * MIB, 2).keeps_scores
    tight = next(n for n in range(300, 1024) if _fits(few, n))
    assert not plan_fit(few, tight * MIB, 2).keeps_scores


def _fits(work, mebibytes):
    try:
        plan_fit(work, mebibytes * MIB, 2)
    except BudgetError:
        return False
    return True
