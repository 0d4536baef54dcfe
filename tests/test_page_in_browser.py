"""The page in a headless Chromium: what a reader clicks and types, and that nothing is fetched.

Needs Playwright (pip install playwright) and a Chromium on the path; skipped without.
"""

from __future__ import annotations

import shutil

import pages
import pytest

from benchmarks.report.change import Earlier
from benchmarks.report.change import compare as compare_runs
from benchmarks.report.page import write_page

sync_api = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATH = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(PATH is None, reason=f"none of {', '.join(NAMES)} is on the path")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # containers may permit no sandbox, which a page of ours does not need, and little /dev/shm
        given = ["--no-sandbox", "--disable-dev-shm-usage"]
        try:
            found = playwright.chromium.launch(executable_path=PATH, args=given)
        except sync_api.Error as error:
            pytest.skip(f"{PATH} does not start on this machine: {error.message.splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    suite, table, panels = pages.parts(kind=pages.Filmed, label=pages.HOSTILE)
    runs = {panel.name: of for panel, of in panels}
    change = compare_runs(suite, Earlier("before", runs), runs)
    out = tmp_path_factory.mktemp("page")
    return write_page(suite, table, panels, out, target=(35, "target"), change=change).as_uri()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page; at the end nothing was fetched, and nothing went wrong."""
    wrong: list[str] = []
    contexts = []

    def of(**options):
        settings = {"reduced_motion": "reduce", "viewport": {"width": 1280, "height": 900}}
        context = browser.new_context(**{**settings, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: wrong.append(r.url) if r.url.startswith("http") else None)
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(address)
        for plot in page.locator(".plot").all():
            plot.locator("svg.marks").wait_for()
        sync_api.expect(page.locator(".where")).not_to_be_empty()  # the film's images are decoded
        return page

    yield of
    for context in contexts:
        context.close()
    assert wrong == []


def rows(page):
    return [text.strip() for text in page.locator("#results tbody th").all_inner_texts()]


MIDDLE = "canvas.getContext('2d').getImageData(4, 4, 1, 1).data[0]"


def pixel(page, tile):
    """The level at the middle of a tile of the film."""
    return page.locator(".tile canvas").nth(tile).evaluate(f"canvas => {MIDDLE}")


def level(sequence, frame):
    return round(255 * (sequence / 4 + frame / 8))


def test_columns_are_sorted_by_a_click_and_by_keyboard(open_page):
    page = open_page()
    order = rows(page)
    mse, ssim = (page.locator(".sort", has_text=name).first for name in ("MSE", "SSIM"))
    mse.click()
    best_first = [pages.HOSTILE if x == "Ours" else x for x in pages.best_first()]
    found = rows(page)[: len(best_first)]
    assert all(row.startswith(x) for row, x in zip(found, best_first, strict=True))
    assert page.locator("th[aria-sort=ascending]").count() == 1
    mse.press("Enter")
    assert rows(page)[0].startswith("Last frame")
    mse.press("Enter")
    assert rows(page) == order and page.locator("th[aria-sort=none]").count() > 1
    ssim.click()  # of which the highest is the best
    best = pages.best_first("ssim")[0]
    assert rows(page)[0].startswith(pages.HOSTILE if best == "Ours" else best)
    assert page.locator("th[aria-sort=descending]").count() == 1


def test_conventions_are_explained_on_hover_and_on_focus(open_page):
    page = open_page()
    button = page.locator(".sort", has_text="SSIM").first
    explained = page.locator(f"#{button.get_attribute('aria-describedby')}")
    assert not explained.is_visible()
    button.hover()
    assert explained.is_visible() and "7x7 window" in explained.inner_text()
    page.mouse.move(0, 0)
    assert not explained.is_visible()
    page.locator(".sort").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert explained.is_visible()


def test_groups_of_columns_are_hidden(open_page):
    page = open_page()
    heads = page.locator("#results thead th:visible")
    before = heads.count()
    page.get_by_label("published", exact=True).uncheck()
    assert heads.count() < before
    assert page.locator("#results thead", has_text="published").filter(visible=True).count() == 1
    assert not page.locator("#results th", has_text="published").is_visible()
    page.get_by_label("published", exact=True).check()
    assert heads.count() == before


def test_a_switch_hides_a_row_everywhere(open_page):
    page = open_page()
    curves = page.locator(".chart").first.locator("svg.marks")
    lines = curves.locator(".mark-line path")
    assert lines.count() == 2  # the last frame has no curve
    page.get_by_role("checkbox", name="PredRNN").uncheck()
    sync_api.expect(lines).to_have_count(1)
    assert not page.locator(".tile[data-row=PredRNN]").is_visible()
    assert not page.locator("#results tr[data-row=PredRNN]").is_visible()
    page.get_by_role("button", name="none").click()
    sync_api.expect(lines).to_have_count(0)
    assert page.locator("#results tbody tr:visible").count() == 3  # of which there are no runs
    page.get_by_role("button", name="all").click()
    sync_api.expect(lines).to_have_count(2)
    assert page.locator(".tile:visible").count() == 4


def test_a_chart_shows_another_cost(open_page):
    page = open_page()
    chart = page.locator(".chart").first
    sync_api.expect(chart.locator("svg.marks")).to_contain_text("epoch")
    chart.get_by_label("minutes").check()
    sync_api.expect(chart.locator("svg.marks")).to_contain_text("training time, min")
    page.get_by_role("checkbox", name="PredRNN").uncheck()  # also of the chart that came later
    sync_api.expect(chart.locator("svg.marks .mark-line path")).to_have_count(1)


def test_a_film_is_stepped_by_slider_and_keyboard(open_page):
    page = open_page()
    where, stage = page.locator(".where"), page.locator(".stage")
    past = pages.SHAPE[1]
    assert where.inner_text() == f"{past + 1}: forecast 1"
    for frame in range(3):
        assert pixel(page, 0) == level(0, frame)  # the truth
        assert abs(pixel(page, 3) - (255 - level(0, frame))) <= 1  # a forecast
        stage.press("ArrowRight")
    stage.press("ArrowRight")
    assert where.inner_text() == "1: input"
    assert [pixel(page, tile) for tile in range(4)] == [128] * 4
    stage.press("ArrowLeft")
    page.locator(".time").fill("5")
    assert where.inner_text() == "5: forecast 2"
    page.locator(".sequence").select_option(label="2")
    truth = page.locator(".tile canvas").first.element_handle()
    shows = f"([canvas, level]) => {MIDDLE} === level"  # once its images are decoded
    page.wait_for_function(shows, arg=[truth, level(1, 1)])


def test_a_film_shows_differences_on_demand(open_page):
    page = open_page()
    page.locator(".time").fill("5")
    page.locator(".difference").check()
    truth = level(0, 1)
    assert pixel(page, 0) == truth
    assert pixel(page, 2) == 0  # predicted without an error
    assert abs(pixel(page, 3) - abs(255 - 2 * truth)) <= 1
    page.locator(".stage").press("d")
    assert not page.locator(".difference").is_checked() and pixel(page, 2) == truth
    page.locator(".play").press("Shift+D")  # wherever the focus is in the film
    assert page.locator(".difference").is_checked() and pixel(page, 2) == 0


def test_axes_of_epochs_have_whole_numbers_and_costs_a_number_at_each_tick(open_page):
    page = open_page()
    for chart, axis in ((0, "epoch"), (1, "FLOPs of inference, G"), (1, "test MSE")):
        found = page.locator(".chart").nth(chart).locator(f"svg [aria-label*='{axis}'].role-axis")
        labels = found.first.locator(".role-axis-label text").all_text_contents()
        assert len(labels) >= 3 and "" not in labels and len(set(labels)) == len(labels), labels


def test_a_film_plays_and_pauses(open_page):
    page = open_page(reduced_motion="no-preference")
    play, where = page.locator(".play"), page.locator(".where")
    sync_api.expect(play).to_have_text("Pause")  # it plays by itself unless motion is not wanted
    first = where.inner_text()
    sync_api.expect(where).not_to_have_text(first)
    page.locator(".stage").press(" ")
    sync_api.expect(play).to_have_text("Play")
    still = where.inner_text()
    page.wait_for_timeout(500)
    assert where.inner_text() == still
    play.click()
    sync_api.expect(where).not_to_have_text(still)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways(open_page, scheme):
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground, text = page.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    light = ground == "rgb(255, 255, 255)"
    assert light == (scheme == "light") and ground != text


def test_labels_stand_in_one_line_and_leave_room_for_numbers(open_page):
    page = open_page()
    boxes = [head.bounding_box() for head in page.locator("#results tbody th").all()]
    assert max(box["height"] for box in boxes) < 60
    assert 80 < max(box["width"] for box in boxes) < 300


def test_a_printed_page_has_no_controls(open_page):
    page = open_page()
    page.emulate_media(media="print")
    assert not page.locator("#rows").is_visible()
    assert page.locator("#results").is_visible() and page.locator(".tile").first.is_visible()


def test_a_reader_without_sight_gets_names_and_numbers(open_page):
    page = open_page()
    for plot in page.locator(".plot").all():
        assert "PredRNN" in str(plot.get_attribute("aria-label"))
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(e => "
        "!(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length"
    )
    assert unnamed == 0
    assert page.locator("canvas:not([aria-label])").count() == 0
