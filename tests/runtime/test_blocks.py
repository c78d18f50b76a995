import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamcluster.runtime.blocks import rebatch, shuffled_batches, tile_rows

LENGTHS = st.lists(st.integers(0, 9), max_size=8)
SIZES = st.integers(1, 12)


def numbered(lengths):
    """Return arrays of these lengths whose rows are numbered through, in two columns."""
    starts = np.cumsum([0, *lengths])
    return [
        np.stack([np.arange(a, a + n), -np.arange(a, a + n)], axis=1) for a, n in zip(starts, lengths, strict=False)
    ]


@given(st.integers(0, 200), SIZES)
def test_tiles_hold_each_row_once_and_all_but_the_last_are_full(n_rows, block_rows):
    tiles = tile_rows(n_rows, block_rows)
    assert [row for tile in tiles for row in range(tile.start, tile.stop)] == list(range(n_rows))
    assert all(tile.stop - tile.start == block_rows for tile in tiles[:-1])
    assert all(0 < tile.stop - tile.start <= block_rows for tile in tiles)


@given(LENGTHS, SIZES)
def test_rebatch_keeps_every_row_in_order(lengths, n_rows):
    batches = list(rebatch(numbered(lengths), n_rows))
    total = sum(lengths)
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 2), int), *batches])[:, 0], np.arange(total))
    assert [len(batch) for batch in batches] == [tile.stop - tile.start for tile in tile_rows(total, n_rows)]


@given(LENGTHS, SIZES, SIZES, st.integers(0, 99))
def test_shuffled_batches_hold_every_row_once(lengths, window_rows, batch_rows, seed):
    batches = list(shuffled_batches(numbered(lengths), window_rows, batch_rows, np.random.default_rng(seed)))
    rows = np.concatenate([np.empty((0, 2), int), *batches])
    np.testing.assert_array_equal(np.sort(rows[:, 0]), np.arange(sum(lengths)))
    np.testing.assert_array_equal(rows[:, 1], -rows[:, 0])
    assert [len(b) for b in batches] == [tile.stop - tile.start for tile in tile_rows(sum(lengths), batch_rows)]


@given(LENGTHS, SIZES, SIZES)
def test_rows_are_mixed_within_their_window_and_no_further(lengths, window_rows, batch_rows):
    batches = shuffled_batches(numbered(lengths), window_rows, batch_rows, np.random.default_rng(0))
    rows = np.concatenate([np.empty((0, 2), int), *batches])[:, 0]
    window_rows = max(1, window_rows // batch_rows) * batch_rows
    np.testing.assert_array_equal(rows // window_rows, np.arange(len(rows)) // window_rows)


def test_a_window_is_shuffled_and_the_seed_says_how():
    def order(seed):
        batches = shuffled_batches(numbered([30, 70]), 100, 10, np.random.default_rng(seed))
        return np.concatenate(list(batches))[:, 0].tolist()

    assert order(0) == order(0)
    assert len({tuple(order(0)), tuple(order(1)), tuple(range(100))}) == 3
    assert len(set(order(0)[:50]) & set(range(30))) not in (0, 30)


def test_rebatch_reads_no_further_than_the_batch_it_gives():
    read = []

    def arrays():
        for i in range(9):
            read.append(i)
            yield np.full((2, 1), i)

    batches = rebatch(arrays(), 4)
    next(batches)
    assert read == [0, 1]
