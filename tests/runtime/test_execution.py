import threading

import dask.array as da
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from streamcluster.config import default_workers
from streamcluster.runtime.execution import Executor, many_blas_threads, one_blas_thread, using


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_items_whoever_is_done_first(workers):
    done = [threading.Event() for _ in range(20)]

    def finish_after_the_next(i):
        if i % workers < workers - 1 and i + 1 < len(done):
            done[i + 1].wait(10)
        done[i].set()
        return i * i

    with Executor(workers) as executor:
        assert list(executor.map(finish_after_the_next, range(20))) == [i * i for i in range(20)]


@pytest.mark.parametrize("window", [1, 2, 7])
def test_no_more_items_are_taken_than_the_window_holds(window):
    taken, most = 0, 0

    def items():
        nonlocal taken
        for i in range(30):
            taken += 1
            yield i

    with Executor(2) as executor:
        for received, _ in enumerate(executor.map(str, items(), window=window)):
            most = max(most, taken - received)
    assert (taken, most) == (30, window)


def test_by_default_the_window_is_three_items_a_worker():
    taken = []
    with Executor(2) as executor:
        next(executor.map(str, (taken.append(i) for i in range(30))))
    assert len(taken) == executor.window == 6


def test_no_items_give_no_results():
    with Executor(2) as executor:
        assert list(executor.map(str, [])) == []


def test_an_error_comes_out_in_its_place_and_cancels_what_has_not_begun():
    ran, go_on = [], threading.Event()

    def work(i):
        ran.append(i)
        if i == 1:
            raise KeyError(i)
        if i == 2:
            go_on.wait(10)
        return i

    with Executor(1) as executor:
        results = executor.map(work, range(6), window=6)
        assert next(results) == 0
        with pytest.raises(KeyError):
            next(results)
        go_on.set()
        assert list(executor.map(str, [7])) == ["7"]
    assert set(ran) <= {0, 1, 2}


def test_an_error_of_the_items_comes_out_and_cancels_what_has_not_begun():
    ran, go_on = [], threading.Event()

    def work(i):
        ran.append(i)
        go_on.wait(10)

    def items():
        yield from range(4)
        raise OSError("listing failed")

    with Executor(1) as executor:
        with pytest.raises(OSError, match="listing failed"):
            list(executor.map(work, items(), window=6))
        go_on.set()
        assert list(executor.map(str, [7])) == ["7"]
    assert set(ran) <= {0}


def test_leaving_a_stream_early_cancels_what_has_not_begun():
    ran, go_on = [], threading.Event()

    def work(i):
        ran.append(i)
        if i:
            go_on.wait(10)

    with Executor(1) as executor:
        results = executor.map(work, range(6), window=6)
        next(results)
        results.close()
        go_on.set()
        assert list(executor.map(str, [7])) == ["7"]
    assert set(ran) <= {0, 1}


def test_streams_may_feed_one_another_on_one_worker():
    with Executor(1) as executor:
        doubled = executor.map(lambda i: 2 * i, range(10))
        assert list(executor.map(lambda i: i + 1, doubled, window=2)) == list(range(1, 20, 2))


def test_algebra_runs_on_the_executors_own_threads():
    names = set()

    def note(block):
        names.add(threading.current_thread().name.rpartition("_")[0])
        return block

    rows = np.arange(40)
    with Executor(2) as executor:
        total, largest = executor.compute(
            da.from_array(rows, chunks=10).map_blocks(note, dtype=rows.dtype, meta=rows[:0]).sum(), rows.max()
        )
    assert (total, largest, names) == (780, 39, {"streamcluster"})


def test_a_callers_executor_stays_open_and_ones_own_is_closed():
    with Executor(1) as mine:
        with using(mine, 2) as executor:
            assert executor is mine
        assert list(mine.map(str, [1])) == ["1"]
    with using(None, 2) as executor:
        assert executor.workers == 2
    with pytest.raises(RuntimeError):
        list(executor.map(str, [1]))


def test_blas_uses_one_thread_for_a_while_and_more_within_it():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    np.ones((2, 2)) @ np.ones((2, 2))
    before = threads()
    with one_blas_thread():
        assert set(threads()) == {1}
        with many_blas_threads():
            assert set(threads()) == {min(4, default_workers())}
        assert set(threads()) == {1}
    assert threads() == before
