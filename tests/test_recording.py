"""A recording is read as it is or refused with the line and the reason; nothing is changed silently."""

import pytest
from typer.testing import CliRunner

from gateway.commands.tree import tree
from gateway.errors import RecordingError
from gateway.simulate import model, recording

HEADER = "datetime_utc,pm2_5_cf_1,pm2_5_cf_1_b,pm2_5_atm,pm2_5_atm_b,current_temp_f,current_humidity"
ROWS = [f"2023-09-01 00:{2 * m:02}:52,12.73,11.52,12.7,11.5,73,54" for m in range(5)]


@pytest.fixture
def read(tmp_path):
    def write_and_read(*lines, header=HEADER, encoding="utf-8", end="\n"):
        path = tmp_path / "recording.csv"
        path.write_bytes(end.join([header, *lines, ""]).encode(encoding))
        return recording.read(path)

    return write_and_read


def changed(line, number, cell):
    cells = line.split(",")
    cells[number] = cell
    return ",".join(cells)


def test_values_become_hundredths_of_canonical_units(read):
    found = read(*ROWS)
    assert found.end_s[0] == 1693526452
    assert found.interval_s == 120
    assert found.rows[0] == (
        1273, 1270, None, None, None, None, None, None, 1152, 1150, None, None, 2278, 5400,
    )  # fmt: skip
    assert not found.has_counts


@pytest.mark.parametrize("cell", ["", "nan", "NaN", " ", "NA", "null"])
def test_a_blank_is_kept_as_a_silent_sensor_and_counted(read, cell):
    found = read(ROWS[0], changed(ROWS[1], 1, cell), *ROWS[2:])
    assert found.rows[1][0] is None
    assert found.blank_count == 1


@pytest.mark.parametrize(
    ("number", "cell", "reason"),
    [
        (1, "-0.4", "can only report 0 to 65535"),
        (1, "1e9", "can only report"),
        (1, "inf", "not a number"),
        (2, "twelve", "not a number"),
        (2, "1_000", "not a number"),
        (0, "2023-09-01 00:02:52.4", "whole seconds"),
        (5, "-60", "current_temp_f is -60; the sensor can only report -40 to 257"),
        (6, "101", "can only report 0 to 100 %"),
        (0, "01/09/2023 00:02", "not a time like"),
        (0, "", "not a time like"),
        (0, "1901-01-01 00:00:00", "outside 1970 to 2106"),
    ],
)
def test_what_no_sensor_could_say_is_refused_with_its_line(read, number, cell, reason):
    with pytest.raises(RecordingError, match=r"line 3: .*") as refused:
        read(ROWS[0], changed(ROWS[1], number, cell), *ROWS[2:])
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("order", "reason"), [((0, 2, 1, 3), "line 4: .*earlier"), ((0, 1, 1, 2), "line 4: .*repeats")]
)
def test_times_that_do_not_rise_are_refused(read, order, reason):
    with pytest.raises(RecordingError, match=reason):
        read(*[ROWS[i] for i in order])


@pytest.mark.parametrize(
    ("lines", "header", "reason"),
    [
        ([], HEADER, "has 0 rows"),
        (ROWS[:1], HEADER, "has 1 rows"),
        (ROWS, HEADER.replace("pm2_5_atm_b", "other"), "lacks the columns pm2_5_atm_b"),
        (ROWS, HEADER.replace("pm2_5_atm_b", "pm2_5_atm"), "lacks the columns"),
        ([ROWS[0], ROWS[1][:-3]], HEADER, "line 3: has 6 cells for 7 columns"),
        ([ROWS[0], '"2023-09-01 00:02:52'], HEADER, "is not CSV"),
    ],
)
def test_a_broken_file_is_refused(read, lines, header, reason):
    with pytest.raises(RecordingError, match=reason):
        read(*lines, header=header)


def test_an_empty_and_a_binary_file_are_refused(tmp_path):
    for content, reason in ((b"", "is empty"), (b"\xff\xfe\x00", "is not UTF-8")):
        path = tmp_path / "x.csv"
        path.write_bytes(content)
        with pytest.raises(RecordingError, match=reason):
            recording.read(path)


def test_other_line_ends_a_byte_order_mark_and_further_columns_are_read(read):
    plain = read(*ROWS)
    assert read(*ROWS, end="\r\n") == plain
    assert read(*ROWS, header="\ufeff" + HEADER) == plain
    assert read(*[row + ",x" for row in ROWS], header=HEADER + ",firmware_ver") == plain


def test_a_time_with_an_offset_is_the_instant_it_names(read):
    shifted = [row.replace(" 00:", "T02:").replace(":52,", ":52+02:00,") for row in ROWS]
    assert read(*shifted).end_s == read(*ROWS).end_s


def test_a_gap_is_a_stretch_without_power(read):
    late = [row.replace(" 00:", " 01:") for row in ROWS]
    spans = read(*ROWS, *late).spans(None)
    starts = [1693526452 - 120, 1693526452 + 3600 - 120]
    assert [(s.start_s, s.end_s) for s in spans] == [(start, start + 600) for start in starts]
    assert [(s.start_s, s.end_s) for s in read(*ROWS, *late).spans(0.1)] == [(starts[0], starts[0] + 360)]


def test_the_command_refuses_with_one_line_and_without_a_traceback(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(HEADER + "\n" + "\n".join([ROWS[1], ROWS[0]]) + "\n")
    done = CliRunner().invoke(tree(), ["demo", "--replay", str(path), "--once", "--dir", str(tmp_path / "d")])
    assert isinstance(done.exception, RecordingError)
    assert "line 3" in str(done.exception)
    assert not (tmp_path / "d").exists()


def test_invented_air_is_a_recording_like_any_other(tmp_path):
    invented = model.invent(1, 0, 86_400)
    assert len(invented.spans(None)) == 1
    assert all(b - a == model.INTERVAL_S for a, b in zip(invented.end_s, invented.end_s[1:], strict=False))
    assert all(v is not None and v >= 0 for row in invented.rows for v in row)
    invented.write_signal(tmp_path / "s")
    assert (tmp_path / "s").read_text().splitlines()[0] == recording.SIGNAL_HEADER
