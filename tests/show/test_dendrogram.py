"""A laid out tree joins what Ward's tree joins, at its heights, and no branches cross."""

import numpy as np
import pytest

from streamcluster.learn.tree import ward_tree
from streamcluster.show.dendrogram import group_dendrogram


@pytest.mark.parametrize("k", [2, 3, 40])
def test_a_join_stands_over_its_leaves_and_no_others(k):
    rng = np.random.default_rng(k)
    centers, sizes = rng.normal(size=(k, 3)), rng.integers(1, 50, k)
    tree, laid = ward_tree(centers, sizes), group_dendrogram(centers, sizes)
    assert sorted(laid.order) == list(range(k))
    members, x, heights = [{i} for i in range(k)], [float(laid.order.index(i)) for i in range(k)], [0.0] * k
    for (first, second, height, _), join in zip(tree, laid.joins, strict=True):
        parts = members[int(first)], members[int(second)]
        assert set(laid.order[join.first : join.middle]) == parts[0]
        assert set(laid.order[join.middle : join.stop]) == parts[1]
        assert join.x == (x[int(first)], x[int(second)])
        assert join.feet == (heights[int(first)], heights[int(second)])
        assert join.height == height >= max(join.feet)
        members.append(parts[0] | parts[1])
        x.append(sum(join.x) / 2)
        heights.append(height)
