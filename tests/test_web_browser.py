"""The page in a real browser: nothing leaves this machine, it works without JavaScript, fits a phone, can be read."""

from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from made_store import DAY_S, HOUR_S, START_S, MadeStore, day_of_air, settings_of

from gateway.aqi.scheme import load
from gateway.watch import Part
from gateway.web.app import create_app
from gateway.web.server import WebServer

pytestmark = pytest.mark.chromium

NOW_S = START_S + 2 * DAY_S + 10 * HOUR_S + 1400
HOSTILE = '"><img src=http://192.0.2.1/x onerror="document.title=1"><script>document.title=1</script>'
CATEGORIES = load("us-2024").categories
LIMIT_MS = 30_000


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = MadeStore(tmp_path_factory.mktemp("store"))
    store.add_span("roof", START_S, NOW_S - 20, day_of_air)
    store.add_span(HOSTILE, NOW_S - 3 * HOUR_S, NOW_S - HOUR_S, lambda t: 60 + day_of_air(t))
    store.derive()
    yield store
    store.db.close()


class Clock:
    """What the gateway takes for now."""

    now_s = NOW_S


@pytest.fixture(scope="module")
def site(made):
    settings = settings_of(made.dir)
    server = WebServer(
        lambda: create_app(settings, lambda: True, clock_ms=lambda: Clock.now_s * 1000), settings.web, Part("page", 60)
    )
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.stop()


class Watched:
    """A page, everything it asked for, and everything that went wrong on it."""

    def __init__(self, page):
        self.page, self.asked, self.troubles = page, [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))


@contextmanager
def visiting(browser, url, **options):
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(LIMIT_MS)
    watched = Watched(context.new_page())
    watched.page.goto(url)
    yield watched
    context.close()


def wait_until_drawn(page):
    for figure in page.locator("[data-chart]").all():
        figure.locator(".uplot canvas").wait_for()
    assert page.locator("[data-chart]").count() == page.locator("[data-drawn]").count() == 2


def test_nothing_leaves_this_machine_and_nothing_goes_wrong(browser, site):
    with visiting(browser, site) as watched:
        wait_until_drawn(watched.page)
        assert {urlsplit(url).hostname for url in watched.asked} == {"127.0.0.1"}
        assert any("/api/v1/series?" in url for url in watched.asked)
        assert watched.troubles == []
        # What the watch looks for does show: a request elsewhere is stopped, and the console tells.
        with watched.page.expect_console_message(lambda message: "Content Security Policy" in message.text):
            watched.page.evaluate("fetch('http://192.0.2.1/').catch(() => {})")
        assert watched.troubles


def test_a_hostile_name_is_text(browser, site):
    with visiting(browser, site) as watched:
        wait_until_drawn(watched.page)
        assert watched.page.title() == "The air here · Lichen"
        assert watched.page.locator("img").count() == 1
        assert HOSTILE in watched.page.locator("h2").all_inner_texts()


def test_the_chart_shows_each_reading_and_the_hours(browser, site):
    with visiting(browser, site) as watched:
        wait_until_drawn(watched.page)
        figure = watched.page.locator("[data-chart][data-kit=roof]")
        assert figure.locator("canvas").count() == 1
        assert figure.locator("svg.fallback").count() == 0
        painted = figure.locator("canvas").evaluate(
            "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
        )
        assert painted > 10
        figure.locator(".u-over").hover()
        figure.locator(".u-value", has_text="2023-09-02").wait_for()
        values = figure.locator(".u-legend .u-value").all_inner_texts()
        assert 5 < float(values[1]) < 60


def test_without_javascript_every_number_and_a_chart_are_there(browser, site):
    with visiting(browser, site, java_script_enabled=False) as watched:
        page = watched.page
        assert not any("/api/" in url for url in watched.asked)
        kit = page.locator("article.kit", has=page.get_by_role("heading", name="Kit roof"))
        assert kit.locator(".value").count() == 3
        assert kit.get_by_text("interval: none").count() == 3
        drawing = kit.locator("svg.fallback")
        assert drawing.bounding_box()["height"] > 150
        assert drawing.locator(".steps").get_attribute("d").count("H") == 48
        kit.locator("summary").click()
        assert kit.locator("tbody tr").count() == 48
        assert kit.get_by_role("cell", name="100 %").first.is_visible()
        assert page.locator('noscript meta[http-equiv="refresh"]').count() == 1


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_the_page_fits_its_window(browser, site, width):
    with visiting(browser, site, viewport={"width": width, "height": 800}) as watched:
        wait_until_drawn(watched.page)
        assert watched.page.evaluate("document.documentElement.scrollWidth") == width
        too_wide = """w => [...document.querySelectorAll('body *')].filter(e => !e.closest('.skip, .scroll'))
            .filter(e => e.getBoundingClientRect().right > w + 1).map(e => e.outerHTML.slice(0, 80))"""
        assert watched.page.evaluate(too_wide, width) == []
        watched.page.locator("summary").first.click()
        assert watched.page.locator(".scroll").first.evaluate("e => e.scrollWidth - e.clientWidth") == 0


CONTRASTS = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest('noscript, script, .skip')) continue;
    const style = getComputedStyle(e);
    const ink = numbers(e.closest('svg') ? style.fill : style.color);
    const [high, low] = [luminance(ink), luminance(ground(e))].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser, site, scheme):
    grounds = {}
    for javascript in (True, False):
        with visiting(browser, site, color_scheme=scheme) as watched:
            if javascript:
                wait_until_drawn(watched.page)
            for summary in watched.page.locator("summary").all():
                summary.click()
            contrasts = watched.page.evaluate(CONTRASTS)
            grounds[scheme] = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert len(contrasts) > 100
        assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5] == []
    bright = sum(int(part) for part in grounds[scheme].strip("rgb()").split(",")) > 384
    assert bright == (scheme == "light")


def test_the_page_has_a_language_landmarks_and_one_main_heading(browser, site):
    with visiting(browser, site) as watched:
        page = watched.page
        assert page.locator("html").get_attribute("lang") == "en"
        for role in ("banner", "main", "contentinfo"):
            assert page.get_by_role(role).count() == 1, role
        assert page.get_by_role("heading", level=1).count() == 1
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        named = page.evaluate(
            "[...document.querySelectorAll('[aria-labelledby]')].map(e => e.ariaLabelledByElements?.length)"
        )
        assert named
        assert set(named) == {1}
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"


def test_the_category_is_a_word_and_a_shape_beside_its_colour(browser, site):
    with visiting(browser, site) as watched:
        cards = watched.page.locator("article.index", has=watched.page.locator("svg.shape:not(:has(.none))"))
        assert cards.count() == 2
        assert watched.page.locator(".category", has_text="Not enough data").count() == 2
        for card in cards.all():
            assert card.locator(".category").inner_text() in {
                "Good",
                "Moderate",
                "Unhealthy for Sensitive Groups",
                "Unhealthy",
            }
            assert card.locator("svg.shape > *").count() == 1
            colour = card.locator("svg.shape").get_attribute("fill")
            tall = card.locator("svg.strip rect[height='12']")
            assert tall.count() == 1
            assert tall.get_attribute("fill") == colour


def test_news_come_within_the_open_page_and_an_open_table_stays_open(browser, site, made):
    context = browser.new_context()
    context.set_default_timeout(LIMIT_MS)
    page = context.new_page()
    page.clock.install(time=NOW_S * 1000)
    page.goto(site)
    wait_until_drawn(page)
    page.locator("[data-kit=roof] summary").click()
    made.add_span("roof", NOW_S, NOW_S + 600, lambda _: 300.0, boot=9)
    made.derive()
    Clock.now_s = NOW_S + 620
    try:
        page.clock.run_for(61_000)
        page.locator(".now", has_text="10:33").wait_for()
        assert page.locator(".state", has_text="10:33").count() == 1
        assert page.locator("[data-kit=roof] details").get_attribute("open") is not None
        assert page.locator("[data-kit=roof] canvas").count() == 1
    finally:
        Clock.now_s = NOW_S
        context.close()
