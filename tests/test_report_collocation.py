"""The collocation report: the numbers of the evaluation, in words and pictures that stand by themselves."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from collocated import INPUTS, TARGET, columns, joined, made

from calibration import table
from calibration.evaluation.evaluate import evaluate_record, evaluate_table
from calibration.fitting.fit import fit_table
from calibration.inputs import parse
from gateway.report.axes import Axes, nice, span, ticks
from gateway.report.collocation import as_html, as_json, in_words
from gateway.report.pictures import MOST_DOTS, pictures, thinned

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HOSTILE = '"><img src=http://192.0.2.1/x onerror="document.title=1"><script>document.title=1</script>'
FACTS = {"title": "School roof", "source": "rows.csv", "now": NOW}


@pytest.fixture(scope="module")
def found():
    return evaluate_table(made(2400, noise=1.5), target=TARGET, inputs=parse(INPUTS))


@pytest.fixture(scope="module")
def several():
    parts = [columns(1500, unit=unit, seed=i) for i, unit in enumerate(("north", "south", HOSTILE))]
    return evaluate_table(joined(*parts), target=TARGET, inputs=parse(INPUTS))


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield opened
        opened.close()


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words, self.tags, self.skipped = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.skipped += tag == "style"

    def handle_endtag(self, tag):
        self.skipped -= tag == "style"

    def handle_data(self, data):
        if not self.skipped:
            self.words.append(data.strip())


def read(page):
    parser = Text()
    parser.feed(page)
    return " ".join(w for w in parser.words if w), parser.tags


def test_the_page_says_what_the_evaluation_found(found):
    words, tags = read(as_html(found, **FACTS))
    assert f"typically {found.agreement.rmse:.1f} µg/m³ off" in words
    assert f"{found.agreement.rmse:.2f}" in words
    assert "barkjohn2021@1" in words
    assert "first 50 %" in words
    assert "The first 70 % of each unit's rows in time order were learned from" in words
    assert "Class 1" in words
    titles = [a["id"] for t, a in tags if t == "figure"]
    assert titles == [
        "scatter",
        "target",
        "series-",
        "residuals-rh",
        "residuals-temp",
        "drift",
        "bland-altman",
        "learning",
    ]
    assert not [a for t, a in tags if {"src", "href"} & a.keys() or t in {"script", "link", "img"}]


def test_words_follow_the_numbers(found):
    from dataclasses import replace

    narrow = replace(found, coverage=0.7)
    assert any("70% of the rows: it is too narrow" in line for line in in_words(narrow))
    bad = replace(found, agreement=replace(found.agreement, rmse=99.0, bias=-3.0))
    assert "3.0 µg/m³ too low" in in_words(bad)[0]
    assert any("Use that one" in line for line in in_words(bad))
    assert not any("Use that one" in line for line in in_words(replace(bad, fixed={})))


def test_the_json_holds_the_same_numbers_and_every_row(found):
    told = json.loads(as_json(found, **FACTS))
    assert told["agreement"]["rmse"] == found.agreement.rmse
    rows = told["rows"]
    value, reference = np.array(rows["value"], float), np.array(rows["reference"], float)
    assert np.sqrt(((value - reference) ** 2).mean()) == pytest.approx(found.agreement.rmse)
    assert len(rows["time"]) == found.agreement.n
    assert rows["time"][0].endswith("Z")
    assert set(INPUTS) <= rows.keys()


def test_names_from_a_table_are_text_on_the_page(several):
    page = as_html(several, title=HOSTILE, source=HOSTILE, now=NOW)
    _, tags = read(page)
    assert not [t for t, _ in tags if t in {"script", "img"}]


def test_a_record_is_reported_without_a_split():
    record = fit_table(made(1200), target=TARGET, inputs=INPUTS, name="roof-2026")
    judged = evaluate_record(made(600, seed=5), target=TARGET, record=record)
    words, _ = read(as_html(judged, **FACTS))
    assert "roof-2026" in words
    assert "had not seen" not in words
    assert "learned from, everything after" not in words


def test_a_dot_lies_where_its_row_is(found):
    scatter = next(p for p in pictures(found, "µg/m³") if p.id == "scatter").axes
    dots = next(m for m in scatter.marks if m.look == "dots")
    places = [tuple(map(float, p)) for p in re.findall(r"M([\d.]+) ([\d.]+)h0", dots.path)]
    rows = found.predictions
    assert len(places) == len(rows)
    left, top, right, bottom = scatter.box
    low, high = scatter.x_span
    x = left + (right - left) * (rows.reference - low) / (high - low)
    y = bottom - (bottom - top) * (rows.value - low) / (high - low)
    assert np.allclose(places, np.column_stack([x, y]), atol=0.06)


def test_a_target_plots_distance_is_the_rmse(found):
    target = next(p for p in pictures(found, "µg/m³") if p.id == "target").axes
    place = next(m for m in target.marks if m.look == "value point").path
    x, y = map(float, re.match(r"M([\d.]+) ([\d.]+)h0", place).groups())
    left, top, right, bottom = target.box
    reach = target.x_span[1]
    at = ((x - left) / (right - left) * 2 - 1) * reach, (1 - (y - top) / (bottom - top) * 2) * reach
    assert np.hypot(*at) == pytest.approx(found.agreement.rmse / np.std(found.predictions.reference), abs=0.01)
    assert at[1] == pytest.approx(found.agreement.bias / np.std(found.predictions.reference), abs=0.01)


def test_no_line_is_drawn_over_rows_that_are_missing():
    rows = columns(1200)
    gap = {n: np.delete(v, slice(1000, 1100)) for n, v in rows.items()}
    judged = evaluate_table(table.of(gap), target=TARGET, inputs=parse(INPUTS), learning=False)
    series = next(p for p in pictures(judged, "µg/m³") if p.id == "series-").axes
    value = next(m for m in series.marks if m.look == "value")
    assert value.path.count("M") == 2
    assert sum(m.look == "band" for m in series.marks) == 2


def test_a_page_of_many_rows_stays_small():
    assert len(thinned(1_000_000)) == MOST_DOTS
    assert thinned(10).tolist() == list(range(10))
    assert thinned(1_000_000)[[0, -1]].tolist() == [0, 999_999]


def test_ticks_are_round_and_within():
    assert ticks(-1.2, 4.9) == [0.0, 2.0, 4.0]
    assert nice(0.03) == 0.05
    assert span(np.array([1.0, np.nan, 3.0])) == pytest.approx((0.9, 3.1))
    assert span(np.array([1.0, 3.0]), around=0.0) == pytest.approx((-3.3, 3.3))
    assert span(np.array([np.nan])) == pytest.approx((-0.05, 1.05))
    year = Axes("", "", (1_700_000_000, 1_730_000_000), (0, 1), is_time=True)
    assert 4 <= len(year.x_ticks) <= 8


CONTRAST = """() => {
  const lum = c => c.match(/[\\d.]+/g).map(Number).slice(0, 3).map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('h1, h2, h3, p, td, th, li, code, svg text')].filter(e => e.textContent.trim())
    .map(e => { const ink = getComputedStyle(e)[e.closest('svg') ? 'fill' : 'color'];
      const [a, b] = [lum(ink), lum(ground(e))].sort((x, y) => y - x); return (a + .05) / (b + .05); });
}"""


@pytest.mark.chromium
@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_the_page_stands_by_itself_fits_its_window_and_can_be_read(browser, several, tmp_path, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(as_html(several, **FACTS), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, wrong = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    assert asked == [path.as_uri()]
    assert wrong == []
    assert page.title().startswith("School roof")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("figure").count() == 10
    for i in range(page.locator("figure > .scroll > svg").count()):
        box = page.locator("figure > .scroll > svg").nth(i).bounding_box()
        assert box["height"] > 150
        assert box["width"] > 280
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 150
    assert min(contrasts) >= 4.5
    page.close()


@pytest.mark.chromium
def test_words_in_a_picture_do_not_lie_on_each_other(browser, found, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(as_html(found, **FACTS), "utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 900})
    page.goto(path.as_uri())
    overlaps = page.evaluate("""() => [...document.querySelectorAll('figure > .scroll > svg')].flatMap(s => {
      const boxes = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
      return boxes.flatMap(([n, a], i) => boxes.slice(i + 1).filter(([, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
        .map(([m]) => [n, m])); })""")
    assert overlaps == []
    page.close()
