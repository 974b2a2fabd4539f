"""What a sink keeps between runs survives a kill, is bounded, and belongs to one process."""

import fcntl
import json
import threading

import pytest

from gateway.sinks import cursor as module
from gateway.sinks.cursor import Cursor, SinkFiles, SinkState


@pytest.fixture
def files(tmp_path):
    return SinkFiles(tmp_path / "store", "influx")


def test_cursor_begins_at_zero_and_is_kept(files):
    assert files.load_cursor() == Cursor(rev=0, complete=0)
    cursor = Cursor(rev=41, complete=7, store="a", settled={"pruned_unsent": 3})
    files.save_cursor(cursor)
    assert files.load_cursor() == files.cursor_of("a") == cursor
    assert files.cursor_of("b") == Cursor()
    files.cursor_path.write_text('{"rev": 41, "complete": 7}')  # of an earlier version
    assert files.cursor_of("a") == Cursor(rev=41, complete=7)


def test_half_written_temporary_file_is_ignored(files):
    files.save_cursor(Cursor(rev=41))
    files.cursor_path.with_name("influx.cursor.new").write_bytes(b'{"rev": 9')
    assert files.load_cursor().rev == 41
    files.save_cursor(Cursor(rev=42))
    assert files.load_cursor().rev == 42
    assert sorted(p.name for p in files.dir.iterdir()) == ["influx.cursor"]


def test_kill_before_the_rename_keeps_the_old_cursor(files, monkeypatch):
    files.save_cursor(Cursor(rev=41))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        files.save_cursor(Cursor(rev=42))
    assert files.load_cursor().rev == 41


@pytest.mark.parametrize("content", [b"", b"{", b'{"rev": "x"}', b"\xff"])
def test_unreadable_files_begin_again(files, content):
    files.dir.mkdir(parents=True)
    files.cursor_path.write_bytes(content)
    files.state_path.write_bytes(content)
    assert files.load_cursor() == Cursor()
    assert files.load_state() == SinkState()


def test_state_is_kept(files):
    state = SinkState(cursor=3, last_revision=9, attempts=2, lines_written=5, last_error="away", last_success_ms=1)
    files.save_state(state)
    assert files.load_state() == state


def test_dead_letters_keep_line_and_reason_and_are_bounded(files, monkeypatch):
    monkeypatch.setattr(module, "DEAD_LETTER_BYTES", 2000)
    for i in range(100):
        files.add_dead([(b"raw,kit=k v=%di 1" % i, "conflict")], 7)
    kept = [
        json.loads(line)
        for path in (files.older_dead_path, files.dead_path)
        for line in path.read_text("utf-8").splitlines()
    ]
    assert kept[-1] == {"time_ms": 7, "reason": "conflict", "line": "raw,kit=k v=99i 1"}
    assert files.dead_path.stat().st_size + files.older_dead_path.stat().st_size <= 2000


def test_lock_waits_for_the_other_process(files):
    files.dir.mkdir(parents=True)
    with (files.dir / "influx.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        stop, got = threading.Event(), []

        def contend():
            with files.lock(stop) as alone:
                got.append(alone)

        waiting = threading.Thread(target=contend)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert got == []
        fcntl.flock(other, fcntl.LOCK_UN)
        waiting.join(5)
        assert got == [True]


def test_lock_gives_up_on_stop(files):
    stop = threading.Event()
    stop.set()
    with files.lock(stop) as alone:
        assert alone is False
