"""What is sent next, and again: the window over a ring kept in a list."""

import pytest
from lichen.ring import Ring
from lichen.window import BATCH, LIMIT, LIVE_ROOM, PATIENCE, ROUNDS, Window

COLUMNS = ("seq", "up", "t", "q", "dt")


def ring_with(path, boot, n):
    ring = Ring(str(path / "ring"), boot, COLUMNS)
    for seq in range(1, n + 1):
        ring.append([seq, seq * 60, None, 0, 60])
    return ring


def send_all(window, limit=99):
    """Sends until the window holds; returns what went."""
    out = []
    while len(out) < limit:
        item = window.next()
        if not item:
            break
        live, boot, seq, count, first = item
        last = min(window._ring.last(boot), seq + count - 1)
        if boot in window._aside:
            last = min(last, seq + count - 1)
        window.sent(boot, last)
        out.append((live, boot, seq, last, first))
    return out


@pytest.fixture
def two_boots(tmp_path):
    old = ring_with(tmp_path, 1, 150)
    old._end()
    return ring_with(tmp_path, 2, 1)


def test_live_first_then_the_oldest_boot(two_boots):
    window = Window(two_boots, 2)
    window.restart()
    assert send_all(window) == [(True, 2, 1, 1, 1), (False, 1, 1, 100, 1), (False, 1, 101, 150, 1)]


def test_holds_beyond_the_window_and_starts_again_behind_the_receipt(tmp_path):
    ring = ring_with(tmp_path, 2, 1000)
    window = Window(ring, 2)
    window.restart()
    sent = send_all(window)
    assert sent[-1][3] == LIMIT - LIVE_ROOM
    assert window.receipt(2, 50)
    assert ring.first(2) == 51
    assert send_all(window) == [(False, 2, LIMIT - LIVE_ROOM + 1, LIMIT - LIVE_ROOM + 50, 51)]
    window.restart()
    assert send_all(window, 1) == [(False, 2, 51, 50 + BATCH, 51)]


def test_the_newest_row_is_live_when_nothing_older_is_unsent(tmp_path):
    ring = ring_with(tmp_path, 2, 3)
    window = Window(ring, 2)
    window.restart()
    assert send_all(window) == [(False, 2, 1, 3, 1)]
    ring.append([4, 240, None, 0, 60])
    assert send_all(window) == [(True, 2, 4, 4, 1)]


def test_receipts_for_unknown_boots_and_beyond_the_end_do_no_harm(two_boots):
    window = Window(two_boots, 2)
    assert not window.receipt(77, 5)
    assert window.receipt(1, 10**12)
    assert two_boots.pending == 1
    assert two_boots.boots() == [2]


def test_patience_sends_again_then_sets_the_first_batch_aside(two_boots):
    window = Window(two_boots, 2)
    window.restart()
    first = send_all(window)
    for _ in range(ROUNDS - 1):
        assert [window.tick() for _ in range(PATIENCE)] == [False] * (PATIENCE - 1) + [True]
        assert send_all(window) == first
    assert [window.tick() for _ in range(PATIENCE)][-1]
    assert window.set_aside() == 1
    # `first` passes what is set aside, so that a receipt can
    assert send_all(window) == [(True, 2, 1, 1, 1), (False, 1, 101, 150, 101)]
    assert window.receipt(2, 1)
    assert window.receipt(1, 150)
    assert two_boots.first(1) == 1  # kept
    assert window.next() is None
    # at the next connection it is tried again, last, and a receipt after its PUBACK frees it
    window.restart()
    two_boots.append([2, 120, None, 0, 60])
    assert send_all(window) == [(True, 2, 2, 2, 2)]  # nothing else while that is under way
    assert window.receipt(2, 2)
    assert send_all(window) == [(False, 1, 1, 100, 1)]
    window.acknowledged(1)
    assert window.receipt(1, 150)
    assert two_boots.pending == 0
    assert window.set_aside() == 0


def live(window, ring, boot):
    """A row is made, sent and receipted; returns what went besides."""
    seq = ring.last(boot) + 1
    ring.append([seq, seq * 60, None, 0, 60])
    sent = send_all(window)
    assert sent[0][1:4] == (boot, seq, seq)
    assert window.receipt(boot, seq)
    return sent[1:]


def set_first_aside(window, ring):
    """No receipt for five rounds, then receipts for everything but the first batch of the oldest boot."""
    window.restart()
    for _ in range(ROUNDS * PATIENCE):
        send_all(window)
        window.tick()
    send_all(window)
    assert window.set_aside() == 1
    for boot in ring.boots():
        assert window.receipt(boot, ring.last(boot))


@pytest.fixture(params=["earlier boot", "this boot"])
def one_aside(request, tmp_path):
    """A new connection with rows 1 to 100 set aside, of an earlier boot or of this one."""
    earlier = request.param == "earlier boot"
    ring = ring_with(tmp_path, 1, 150)
    if earlier:
        ring._end()
        ring = ring_with(tmp_path, 2, 1)
    window = Window(ring, ring.boot)
    set_first_aside(window, ring)
    window.restart()
    return window, ring


def held(ring):
    """Whether what was set aside is all there."""
    return ring.first(1) == 1 and [row[0] for row in ring.read(1, 1, 100)] == list(range(1, 101))


def test_a_receipt_before_the_puback_does_not_free_what_was_set_aside(one_aside):
    window, ring = one_aside
    live(window, ring, ring.boot)
    assert send_all(window) == [(False, 1, 1, 100, 1)]
    assert window.receipt(1, ring.last(1))  # of a row that went before: it has passed the batch all along
    assert held(ring)
    window.acknowledged(1)
    assert held(ring)  # nor does the PUBACK by itself
    assert window.receipt(1, 99)
    assert held(ring)
    assert window.receipt(1, ring.last(1))
    assert window.set_aside() == 0
    assert ring.pending == 0


def test_every_part_of_what_was_set_aside_needs_its_puback(one_aside):
    window, ring = one_aside
    live(window, ring, ring.boot)
    window.sent(1, 60)
    window.acknowledged(1)
    window.receipt(1, ring.last(1))
    assert held(ring)
    window.sent(1, 100)
    window.receipt(1, ring.last(1))
    assert held(ring)
    window.acknowledged(1)
    window.receipt(1, ring.last(1))
    assert ring.pending == 0


def test_receipts_of_later_rows_do_not_free_what_was_set_aside(one_aside):
    """The broker took the batch and lost it; rows made later arrive."""
    window, ring = one_aside
    live(window, ring, ring.boot)
    assert send_all(window) == [(False, 1, 1, 100, 1)]
    window.acknowledged(1)
    for _ in range(5):
        assert live(window, ring, ring.boot) == []
        assert window.receipt(1, ring.last(1))
    assert held(ring)
    window.restart()  # the next connection tries again
    live(window, ring, ring.boot)
    assert send_all(window) == [(False, 1, 1, 100, 1)]
    window.acknowledged(1)
    window.receipt(1, ring.last(1))
    assert ring.pending == 0


def test_what_was_set_aside_waits_for_the_receipt_of_a_row_sent_once(one_aside):
    """Copies of older rows may still lie with the broker: their receipts would be taken for the batch's."""
    window, ring = one_aside
    assert send_all(window) == []
    window.receipt(1, 150)  # as after `status`
    assert send_all(window) == []
    seq = ring.last(ring.boot) + 1
    ring.append([seq, seq * 60, None, 0, 60])
    send_all(window)
    assert [window.tick() for _ in range(PATIENCE)][-1]
    assert [item[1:4] for item in send_all(window)] == [(ring.boot, seq, seq)]  # now sent twice
    window.receipt(ring.boot, seq)
    assert send_all(window) == []
    live(window, ring, ring.boot)
    assert send_all(window) == [(False, 1, 1, 100, 1)]


def test_a_puback_of_an_earlier_connection_does_not_count(one_aside):
    window, ring = one_aside
    live(window, ring, ring.boot)
    send_all(window)
    window.acknowledged(1)
    window.restart()
    window.receipt(1, ring.last(1))
    assert held(ring)


def test_what_was_set_aside_and_given_up_by_a_full_ring_is_not_sent_again(one_aside):
    window, ring = one_aside
    ring._end()
    ring._drop_oldest()
    live(window, ring, ring.boot)
    assert send_all(window) == []


def test_a_receipt_resets_patience(two_boots):
    window = Window(two_boots, 2)
    window.restart()
    send_all(window)
    for _ in range(50):
        assert not window.tick()
        assert not window.tick()
        assert window.receipt(1, 1)


def test_a_ring_that_gave_up_rows_is_followed(tmp_path):
    ring = ring_with(tmp_path, 2, 5000)
    window = Window(ring, 2)
    window.restart()
    send_all(window)
    for _ in range(3):
        ring._drop_oldest()
    assert ring.dropped == ring.first(2) - 1 > LIMIT
    assert send_all(window, 1)[0][2] == ring.first(2)


def test_boots_that_are_done_take_no_room(tmp_path):
    for boot in range(1, 6):
        ring_with(tmp_path, boot, 100)._end()
    ring = ring_with(tmp_path, 9, 1)
    window = Window(ring, 9)
    window.restart()
    for boot in range(1, 6):
        send_all(window)
        assert window.receipt(boot, 100)
    assert window.receipt(9, 1)
    assert (window.outstanding(), ring.pending) == (0, 0)


def test_a_restart_does_not_send_again_what_was_marked(tmp_path):
    ring = ring_with(tmp_path, 1, 200)
    ring.free(1, 130)
    ring.mark()
    ring._end()
    again = Ring(str(tmp_path / "ring"), 2, COLUMNS)
    assert (again.first(1), again.pending, again.boot_number) == (131, 70, 2)
