"""What is sent next, and again: the window over a ring kept in a list."""

import pytest
from lichen.ring import Ring
from lichen.window import Window

BATCH, LIMIT, LIVE_ROOM, PATIENCE, ROUNDS = 100, 256, 16, 3, 5  # as the firmware has them
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
    assert sent[0] == (True, 2, 1000, 1000, 1)
    assert sent[-1][3] == LIMIT - LIVE_ROOM - 1
    assert window.outstanding() == LIMIT - LIVE_ROOM
    assert window.receipt(2, 50)
    assert ring.first(2) == 51
    assert send_all(window) == [(False, 2, LIMIT - LIVE_ROOM, LIMIT - LIVE_ROOM + 49, 51)]
    window.restart()
    assert send_all(window, 2) == [(True, 2, 1000, 1000, 51), (False, 2, 51, 50 + BATCH, 51)]


def test_live_rows_go_before_the_backlog_of_their_boot_and_once(tmp_path):
    ring = ring_with(tmp_path, 2, 500)
    window = Window(ring, 2)
    window.restart()
    sent = []
    made = 500
    while made < 520 or sent[-1]:
        if made < 520:
            made += 1
            ring.append([made, made * 60, None, 0, 60])
        item = send_all(window, 2)
        if made <= 520 and item and item[0][0]:
            assert item[0][1:4] == (2, made, made)
        sent.append(item)
        for _, boot, _, last, _ in item:
            done = {seq for part in sent for _, _, f, z, _ in part for seq in range(f, z + 1)}
            upto = ring.first(boot) - 1
            while upto + 1 in done:
                upto += 1
            window.receipt(boot, upto)
            assert last <= made
    every = [seq for part in sent for _, _, first, last, _ in part for seq in range(first, last + 1)]
    assert sorted(every) == list(range(1, 521))
    assert (window.outstanding(), ring.pending) == (0, 0)


def test_live_rows_keep_room_in_a_window_without_receipts(tmp_path):
    ring = ring_with(tmp_path, 2, 500)
    window = Window(ring, 2)
    window.restart()
    send_all(window)
    for seq in range(501, 501 + LIVE_ROOM):
        ring.append([seq, seq * 60, None, 0, 60])
        assert send_all(window) == [(True, 2, seq, seq, 1)]
    ring.append([517, 517 * 60, None, 0, 60])
    assert send_all(window) == []
    assert window.outstanding() == LIMIT
    assert [window.tick() for _ in range(PATIENCE)][-1]
    assert send_all(window, 1) == [(True, 2, 517, 517, 1)]


def test_receipts_for_unknown_boots_and_beyond_the_end_do_no_harm(two_boots):
    window = Window(two_boots, 2)
    assert not window.receipt(77, 5)
    assert window.receipt(1, 10**12)
    assert two_boots.pending == 1
    assert two_boots.boots() == [2]


def test_patience_sends_again_then_sets_the_first_batch_aside(two_boots):
    window = Window(two_boots, 2)
    window.restart()
    _, *old = send_all(window)
    assert window.receipt(2, 1)
    for _ in range(ROUNDS - 1):
        assert [window.tick() for _ in range(PATIENCE)] == [False] * (PATIENCE - 1) + [True]
        assert send_all(window) == old
    assert [window.tick() for _ in range(PATIENCE)][-1]
    assert len(two_boots.asides()) == 1
    assert two_boots.set_aside == 100
    # `first` passes what is set aside, so that a receipt can
    assert send_all(window) == [(False, 1, 101, 150, 101)]
    assert window.receipt(1, 150)
    assert held(two_boots)
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
    assert two_boots.boots() == []
    assert len(two_boots.asides()) == 0


def test_receipts_of_another_boot_or_without_progress_do_not_buy_patience(two_boots):
    window = Window(two_boots, 2)
    window.restart()
    send_all(window)
    for tick in range(PATIENCE * ROUNDS):
        window.tick()
        window.receipt(2, 1)  # live rows arrive all the while
        window.receipt(1, 0)  # and the gateway says again how far it is
        two_boots.append([tick + 2, tick * 60, None, 0, 60])
        send_all(window)
        window.receipt(2, tick + 2)
    assert two_boots.asides() == [(1, 1, 100)]
    assert two_boots.first(1) == 101


def test_what_was_set_aside_is_remembered_by_the_next_start(two_boots, tmp_path):
    two_boots.put_aside(1, 100)
    two_boots.free(1, 150)
    two_boots.mark()
    two_boots._end()
    again = Ring(str(tmp_path / "ring"), 3, COLUMNS)
    assert (again.asides(), again.set_aside, again.pending) == ([(1, 1, 100)], 100, 1)
    assert held(again)
    window = Window(again, 3)
    window.restart()
    assert window.receipt(1, 150)  # as after `status`
    assert held(again)
    again.settle(1, 1, 60)
    assert again.asides() == [(1, 61, 100)]
    again.settle(1, 61, 100)
    assert len(again._segments) == 1


def test_a_full_ring_gives_up_what_is_set_aside_and_counts_it(tmp_path):
    ring = ring_with(tmp_path, 1, 3000)
    ring.put_aside(1, 100)
    ring.free(1, 3000)
    assert (ring.pending, ring.set_aside, len(ring._segments)) == (0, 100, 2)
    gone = []
    ring.on_drop = lambda *drop: gone.append(drop)
    ring._drop_oldest()
    assert (ring.set_aside, ring.dropped, gone) == (0, 100, [(1, 1, 100)])


def test_what_rotted_is_passed_by_first(tmp_path):
    ring = ring_with(tmp_path, 1, 10)
    ring._end()
    segment = ring._segments[0]
    path = tmp_path / "ring" / segment.name
    data = bytearray(path.read_bytes())
    data[segment.at(4)] ^= 1
    path.write_bytes(data)
    assert [row[0] for row in ring.read(1, 1, 99)] == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert ring.rotten == 1
    ring.free(1, 3)
    assert ring.first(1) == 5  # so that a receipt can pass it


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
        if ring.boot != 1:
            window.receipt(ring.boot, ring.last(ring.boot))
        window.tick()
    send_all(window)
    assert len(ring.asides()) == 1
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
    return ring.asides() == [(1, 1, 100)] and [row[0] for row in ring.read(1, 1, 100)] == list(range(1, 101))


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
    assert len(ring.asides()) == 0
    assert ring.pending == 0


def test_every_part_of_what_was_set_aside_needs_its_puback_and_receipt(one_aside):
    window, ring = one_aside
    live(window, ring, ring.boot)
    window.next()
    window.sent(1, 60)  # more did not go into the message
    assert window.next() is None
    window.acknowledged(1)
    window.receipt(1, ring.last(1))
    assert ring.asides() == [(1, 61, 100)]
    window.receipt(1, ring.last(1))  # a second one of the same part proves nothing
    assert ring.asides() == [(1, 61, 100)]
    assert live(window, ring, ring.boot) == []
    assert send_all(window) == [(False, 1, 61, 100, 61)]
    window.receipt(1, ring.last(1))
    assert ring.asides() == [(1, 61, 100)]
    window.acknowledged(1)
    window.receipt(1, ring.last(1))
    assert (ring.pending, ring.set_aside) == (0, 0)


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


def test_a_receipt_that_gets_its_boot_further_resets_patience(two_boots):
    window = Window(two_boots, 2)
    window.restart()
    send_all(window)
    assert window.receipt(2, 1)
    for seq in range(1, 51):
        assert not window.tick()
        assert not window.tick()
        assert window.receipt(1, seq)


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
