import re
import sys
import threading
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcluster.errors import BudgetError
from streamcluster.runtime import memory
from streamcluster.runtime.memory import MIB, MemoryGate, format_bytes, peak_bytes, resident_bytes, room_bytes

BYTES = st.integers(0, 1 << 40)


def room(budget_bytes, needed_bytes, taken_bytes):
    with mock.patch.object(memory, "resident_bytes", return_value=taken_bytes):
        return room_bytes(budget_bytes, needed_bytes, "the work")


@given(BYTES, BYTES, BYTES)
def test_the_room_and_what_is_taken_stay_within_the_budget(budget, needed, taken):
    try:
        left = room(budget, needed, taken)
    except BudgetError:
        assert taken + needed > 0.9 * budget - 1
    else:
        assert needed <= left <= budget - taken


@given(BYTES, BYTES)
def test_the_budget_that_a_refusal_asks_for_is_enough(needed, taken):
    with pytest.raises(BudgetError) as refused:
        room(0, needed + 1, taken)
    advice = re.search(r"--memory (\d+)MiB", str(refused.value))
    assert room(int(advice[1]) * MIB, needed + 1, taken) > needed


@given(st.integers(1, 1 << 14))
def test_the_budget_is_enough_to_the_byte(tenths):
    assert room(10 * tenths * MIB, 9 * tenths * MIB, 0) == 9 * tenths * MIB


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 42, "20.0 TiB")],
)
def test_sizes_are_shown_in_the_largest_fitting_unit(n_bytes, shown):
    assert format_bytes(n_bytes) == shown


def test_resident_bytes_see_a_large_array():
    before = resident_bytes()
    kept = np.ones(64 * MIB, np.uint8)
    assert resident_bytes() - before > 48 * MIB
    assert kept[0] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_the_peak_outlives_the_array():
    before = resident_bytes()
    np.ones(64 * MIB, np.uint8)
    assert peak_bytes() - before > 48 * MIB


def test_no_more_is_held_at_a_time_than_the_room_has():
    gate, lock = MemoryGate(10), threading.Lock()
    held, most, finished = 0, 0, []

    def work(n_bytes):
        nonlocal held, most
        for _ in range(50):
            with gate.hold(n_bytes):
                with lock:
                    held += n_bytes
                    most = max(most, held)
                with lock:
                    held -= n_bytes
        finished.append(n_bytes)

    threads = [threading.Thread(target=work, args=(n,)) for n in (10, 7, 6, 4, 3, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(finished) == [1, 3, 4, 6, 7, 10]
    assert most <= 10


def test_work_waits_until_there_is_room():
    gate, order = MemoryGate(10), []

    def wait():
        with gate.hold(4):
            order.append("waiter")

    waiter = threading.Thread(target=wait)
    with gate.hold(7):
        waiter.start()
        waiter.join(0.05)
        order.append("holder")
    waiter.join(30)
    assert order == ["holder", "waiter"]


def test_small_work_passes_while_the_room_is_full():
    gate = MemoryGate(10, small_bytes=3)
    with gate.hold(10), gate.hold(3):
        pass


def test_work_that_never_fits_is_refused():
    with pytest.raises(ValueError, match="11"), MemoryGate(10).hold(11):
        pass


def test_failed_work_gives_its_room_back():
    gate = MemoryGate(10)
    with pytest.raises(KeyError), gate.hold(10):
        raise KeyError
    with gate.hold(10):
        pass
