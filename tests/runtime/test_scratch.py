"""Rows in a scratch file come back as they were, in any order, and a disk that refuses them is told in one line."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from streamcluster.errors import ScratchError
from streamcluster.runtime import scratch
from streamcluster.runtime.scratch import ScratchRows


def test_rows_come_back_in_the_order_that_is_asked_for():
    rows = np.random.default_rng(0).integers(0, 256, (300, 37), dtype=np.uint8)
    with ScratchRows(37) as stored:
        for start in range(0, 300, 70):
            stored.append(rows[start : start + 70])
        orders = [np.random.default_rng(seed).permutation(300) for seed in range(8)]
        with ThreadPoolExecutor(4) as pool:
            for order, found in zip(orders, pool.map(stored.read, orders), strict=True):
                assert np.array_equal(found, rows[order])


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "scratch_folder", lambda: str(tmp_path / "missing"))
    with pytest.raises(ScratchError, match="missing"):
        ScratchRows(8)
