"""The chart that is drawn without JavaScript: steps within their box, gaps as gaps, an axis that holds all values."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.web.chart import HEIGHT, WIDTH, steps_chart


@given(st.lists(st.one_of(st.none(), st.floats(-50, 2000)), min_size=1, max_size=60), st.integers(0, 500_000))
def test_the_drawn_steps_stay_in_their_box_and_break_at_gaps(values, first_hour):
    chart = steps_chart(values, first_hour)
    runs = sum(v is not None and (i == 0 or values[i - 1] is None) for i, v in enumerate(values))
    assert chart.path.count("M") == runs
    assert chart.path.count("H") == sum(v is not None for v in values)
    numbers = [float(n) for n in chart.path.replace("M", " ").replace("V", " ").replace("H", " ").split()]
    assert all(0 <= n <= WIDTH for n in numbers)
    ticks = [tick.at for tick in chart.rows]
    assert all(0 <= at <= HEIGHT for at in ticks)
    assert ticks == sorted(ticks, reverse=True)
    labels = [float(tick.text) for tick in chart.rows]
    assert labels[0] <= min([v for v in values if v is not None], default=0) + 1e-6  # no pixel shows less
    assert labels[-1] >= max([v for v in values if v is not None], default=0)
    assert 3 <= len(labels) <= 7


def test_a_gap_breaks_the_line_and_a_day_begins_with_its_date():
    chart = steps_chart([10.0, 10.0, None, 20.0], first_hour=22)
    first, _, second = chart.path.partition("M")[2].partition("M")
    assert first.count("H") == 2
    assert second.count("H") == 1
    assert [(tick.text, tick.strong) for tick in chart.columns] == [("2 Jan", True)]
