"""The page in a real browser: headless Chromium through Playwright.

Skipped where there is no Playwright (`pip install coterie[browser]`) or no Chromium: one named in
COTERIE_CHROMIUM, the system's, or Playwright's own. The accessibility check needs axe-core's
`axe.min.js`: where COTERIE_AXE names it, or in the virtual environment, where
`npm install --prefix .venv axe-core` puts it.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.report.pages import (
    comparison,
    not_finite,
    old,
    page_of,
    quantized,
    with_everything_after,
    with_predictor,
    without_a_cut,
)

from coterie.report.page.predict import prediction
from coterie.report.schema.explorer import PredictorPart

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright: pip install coterie[browser]"
)

AXE = Path(
    os.environ.get("COTERIE_AXE") or Path(sys.prefix, "node_modules", "axe-core", "axe.min.js")
)


@pytest.fixture(scope="module")
def browser():
    found = os.environ.get("COTERIE_CHROMIUM") or shutil.which("chromium")
    with playwright.sync_playwright() as running:
        try:
            # Without its sandbox, which containers do not allow; the only page is ours.
            started = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: apt-get install chromium ({str(error).splitlines()[0]})")
        yield started
        started.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a record's page from disk; nothing may be asked of a network or said on the console."""
    asked, said, contexts = [], [], []

    def open_page(*records, **options):
        file = tmp_path / "report.html"
        file.write_text(page_of(*records), encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)  # a machine may be busy with other tests
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said and all(url.startswith("file:") and url.endswith(".html") for url in asked)


def screen(page):
    return page.locator(".screen")


def cut(page, *players):
    """Cut these on screen, and nothing else."""
    page.get_by_role("button", name="Restore every layer").click()
    for player in players:
        page.locator(f'.player[data-player="{player}"]').click()


def hostile():
    return with_predictor(hub_id='<script>throw "x"</script>')


def deep():
    return with_predictor(126)


RECORDS = (old, hostile, not_finite, with_everything_after, quantized, without_a_cut, comparison)


def test_every_page_opens_from_disk_without_a_word_or_a_request(opened):
    # What is said and asked is looked at when all are open; the deep one is opened below.
    assert opened(*(make() for make in RECORDS)).locator("article").count() == len(RECORDS)
    for make in (not_finite, quantized, without_a_cut):
        assert opened(make()).locator("h1").is_visible()


CUTS = ((), (0,), (3,), (5,), (3, 5), (2, 7, 8), tuple(range(16)))


def test_the_stack_predicts_what_python_does(opened):
    record = with_predictor()
    page = opened(record)
    for cuts in CUTS:
        cut(page, *cuts)
        expected = prediction(PredictorPart.from_json(record["predictor"]), cuts)
        loss = float(screen(page).get_attribute("data-loss"))
        assert loss == pytest.approx(expected.loss, abs=1e-6)
        how = screen(page).locator("output.how").inner_text()
        assert ("measured" in how, "guess" in how) == (expected.measured, expected.guessed)
        if expected.error is not None:
            told = screen(page).locator("output.loss").inner_text()
            assert f"± {expected.error:.4f}" in told
        sizes, size = record["player_sizes"], record["size"]
        for kind in ("parameters", "bytes"):
            left = size[f"{kind}_before"] - sum(sizes[kind][player] for player in cuts)
            assert float(screen(page).get_attribute(f"data-{kind}")) == left
        times = record["player_times"]
        left = times["rest"] + sum(
            seconds for player, seconds in enumerate(times["seconds"]) if player not in cuts
        )
        milliseconds = float(screen(page).get_attribute("data-milliseconds"))
        assert milliseconds == pytest.approx(1000 * left)


def test_a_ring_marks_the_cut_on_screen_among_the_points(opened):
    page = opened(with_predictor())
    picture = page.locator("svg[data-measure=players]")
    ring = picture.locator(".here")
    for cuts, told in (((), "none cut"), ((3,), "3 cut"), ((3, 5), "3, 5 cut")):
        cut(page, *cuts)
        point = picture.locator(".other circle").filter(has_text=told).first
        for place in ("cx", "cy"):
            at = float(point.get_attribute(place))
            assert float(ring.get_attribute(place)) == pytest.approx(at, abs=0.06)
    cut(page, *range(16))  # it loses far more than the picture has room for
    highest = min(float(one.get_attribute("cy")) for one in picture.locator("circle").all())
    assert float(ring.get_attribute("cy")) == highest


def test_the_command_that_is_copied_cuts_these_layers(opened):
    page = opened(with_predictor(), permissions=["clipboard-read", "clipboard-write"])
    cut(page, 8, 3, 7)
    page.get_by_role("button", name="Copy command").click()
    page.get_by_role("status").get_by_text("Copied.").wait_for(state="attached")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "coterie cut some/model --layers 3,7-8 --output small"
    page.get_by_role("button", name="As in this run").click()
    assert "--layers 3,5 " in screen(page).locator(".line").inner_text()


def test_the_keyboard_is_enough(opened):
    page = opened(with_predictor())
    page.locator('.player[data-player="4"]').focus()
    page.keyboard.press("Space")
    assert screen(page).locator("output.cut").inner_text() == "3: 3-5"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert screen(page).locator("output.cut").inner_text() == "2: 3-4"


def test_a_table_sorts_by_its_numbers(opened):
    page = opened(old(), with_predictor())
    runs = page.get_by_role("region", name="The runs side by side")
    column = runs.get_by_role("button", name="parameters", exact=True)
    for order in ("ascending", "descending"):
        column.click()
        assert column.locator("xpath=..").get_attribute("aria-sort") == order


def test_nothing_is_wider_than_the_screen(opened):
    page = opened(deep())
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".advice").is_visible()


def test_dark_mode_is_dark(opened):
    page, shades = opened(old()), {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        shades[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shades == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def test_one_measure_of_the_front_is_shown_and_all_are_printed(opened):
    page = opened(with_predictor())
    views = page.locator(".view")
    shown = [views.nth(place).is_visible() for place in range(views.count())]
    assert shown == [True, False, False, False]
    page.get_by_role("button", name="weights on disk").click()
    shown = [views.nth(place).is_visible() for place in range(views.count())]
    assert shown == [False, False, True, False]
    page.emulate_media(media="print")
    assert all(views.nth(place).is_visible() for place in range(views.count()))
    assert not page.get_by_role("button", name="Copy command").is_visible()
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("name", ['<script>throw "x"</script>', "a'b\"c & $(touch x)"])
def test_a_hostile_name_is_only_text(opened, name):
    page = opened(with_predictor(hub_id=name))
    assert page.locator("h1").inner_text() == name
    assert page.locator("script").count() == 2


@pytest.mark.skipif(
    not AXE.is_file(), reason="no axe-core: npm install --prefix .venv axe-core, or COTERIE_AXE"
)
@pytest.mark.parametrize("makes", [[with_everything_after], [comparison, old]])
def test_axe_finds_nothing_serious(opened, makes):
    page = opened(*(make() for make in makes), bypass_csp=True)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate("axe.run()")["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
