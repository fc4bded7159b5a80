"""The page in a real browser: everything draws, works, fits and stays silent."""

import json
import os
import shutil
from pathlib import Path

import pytest

from report.synthetic_study import AXES, study
from sharpscope.report import build_page

SCRIPT = "<script>alert(1)</script>"
CHROMIUM = os.environ.get("SHARPSCOPE_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: install it or set SHARPSCOPE_CHROMIUM"),
]
UNDRAWN = "document.querySelectorAll('.plot:not([data-drawn])').length"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a page; whatever it logs, asks for or pops up is collected in `.complaints`."""
    opened = []

    def visit(content, width=1280, scheme="light"):
        path = tmp_path / "report.html"
        path.write_text(content, encoding="utf-8")
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        tab.complaints = []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("dialog", lambda dialog: (tab.complaints.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: request.url == path.as_uri() or tab.complaints.append(request.url))
        tab.goto(path.as_uri())
        opened.append(tab)
        return tab

    yield visit
    for tab in opened:
        tab.close()


def wait_until_drawn(tab):
    for _ in range(600):  # wait_for_function would need eval, which the page's policy forbids
        if not tab.evaluate(UNDRAWN):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"{tab.evaluate(UNDRAWN)} charts were never drawn: {tab.complaints}")


def test_charts_draw_when_seen_and_all_of_them_in_the_end(visit, page):
    tab = visit(page)
    tab.wait_for_timeout(300)
    assert tab.evaluate(UNDRAWN) > 20
    wait_until_drawn(tab)
    # Every chart holds marks of its data, not only axes.
    marks = tab.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('svg .mark-symbol path,"
        " svg .mark-line path, svg .mark-rect path').length)"
    )
    assert len(marks) == 34
    assert min(marks) > 1
    assert tab.complaints == []


def test_a_page_printed_unseen_and_dark_is_drawn_whole_and_light(visit, page):
    tab = visit(page, scheme="dark")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    wait_until_drawn(tab)
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every(p => p.dataset.drawn === 'light')")
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.wait_for_timeout(1500)
    assert tab.evaluate("document.querySelectorAll('.plot[data-drawn=dark]').length") == 34
    assert tab.complaints == []


def test_runs_filter_and_sort(visit, page):
    tab = visit(page)
    filters = tab.locator(".filters")
    shown = "[...document.querySelectorAll('#run-table tbody tr')].filter(row => !row.hidden)"
    filters.get_by_label("status").select_option("diverged")
    assert tab.evaluate(f"{shown}.length") == 1
    tab.get_by_role("button", name="Reset").click()
    tab.wait_for_timeout(50)
    assert tab.locator("#shown").text_content() == "48 of 48 runs"
    tab.locator("#search").fill("adagrad 0.03")
    filters.get_by_label("batch size").select_option("128")
    assert tab.locator("#shown").text_content() == "3 of 48 runs"
    tab.get_by_role("button", name="Reset").click()
    heading = tab.locator("#run-table th button", has_text="test loss")
    column = "[...document.querySelector('#run-table thead tr').cells].findIndex(c => c.textContent === 'test loss')"
    for way, sign in (("ascending", 1), ("descending", -1)):
        heading.focus()
        tab.keyboard.press("Enter")
        assert heading.locator("..").get_attribute("aria-sort") == way
        values = tab.evaluate(f"{shown}.map(row => row.cells[{column}].dataset.sort)")
        assert values[-1] == ""  # the diverged run has none, and stays last either way
        numbers = [sign * float(value) for value in values[:-1]]
        assert numbers == sorted(numbers)
    assert tab.complaints == []


def test_colour_choice_data_table_and_downloads(visit, page):
    tab = visit(page)
    tab.locator("select[data-colour]").first.select_option("learning rate")
    first = tab.locator("#outcomes figure").first
    first.locator(".plot[data-drawn]").wait_for()
    tab.wait_for_timeout(300)
    assert "learning rate" in first.locator("svg").text_content()
    first.locator("details.data > summary").click()
    assert first.locator("details.data tbody tr").count() == 47
    for kind, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b"run,optimizer,learning rate")):
        with tab.expect_download() as download:
            first.get_by_role("button", name="as " + kind).click()
        assert download.value.suggested_filename == f"a-study-outcome-lambda-max-test-loss.{kind.lower()}"
        with open(download.value.path(), "rb") as file:
            assert file.read().startswith(start)
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(visit, page, scheme):
    tab = visit(page, width=360, scheme=scheme)
    wait_until_drawn(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    clipped = tab.evaluate(
        "[...document.querySelectorAll('.plot svg')].filter(s => s.getBoundingClientRect().right > 361).length"
    )
    assert clipped == 0
    assert tab.complaints == []


def test_hostile_names_draw_and_run_nothing(visit):
    breakout = "</script><img src=x onerror=alert(2)>\"'\\ [a.b] ${x}"
    names = {"lambda_max": SCRIPT, "trace": breakout, "optimizer": {"sgd": breakout, "adagrad": SCRIPT}}
    runs, measures, history = study(rates=(0.1, 0.3), seeds=2, epochs=3, names=names)
    axis = 'l.r["x"] ' + breakout
    runs = runs.rename(columns={"lr": axis})
    axes = [axis if name == "lr" else name for name in AXES]
    tab = visit(build_page(SCRIPT, breakout, runs, measures, history, axes, resamples=50), width=360)
    wait_until_drawn(tab)
    for summary in tab.locator("details.data > summary").all()[:3]:
        summary.click()
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.locator("img").count() == 0
    assert tab.complaints == []


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")]
)
def test_a_report_with_every_kind_of_chart(visit, whole_page, width, scheme):
    tab = visit(whole_page, width=width, scheme=scheme)
    wait_until_drawn(tab)
    drawn = tab.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#figures .plot')].map(p => [p.dataset.chart,"
        " p.querySelectorAll('svg .mark-symbol path, svg .mark-line path, svg .mark-rect path').length]))"
    )
    kinds = ("fig1", "fig2", "fig3", "curves", "followed", "line", "plane", "weights")
    assert {name for name in kinds if any(one.startswith(f"figure-{name}") for one in drawn)} == set(kinds)
    assert min(drawn.values()) > 1
    assert (
        tab.locator("#figures .note").text_content() == "Not drawn: the runs that it draws are not done yet."
    )
    assert tab.locator("#claim-K1 dt").all_text_contents() == [
        "Training loss",
        "Confounds",
        "What would change it",
    ]
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.complaints == []


def saved(tab, button, suffix: str) -> bytes:
    """Click and return what is saved; a busy browser hands a file out late or drops it, which is then asked again."""
    from playwright.sync_api import TimeoutError as NothingSaved

    for last in (False, False, True):
        try:
            with tab.expect_download(
                lambda file: file.suggested_filename.endswith(suffix), timeout=10_000
            ) as download:
                button.click()
            return Path(download.value.path()).read_bytes()
        except NothingSaved:
            if last:
                raise
    raise AssertionError


@pytest.mark.slow
def test_every_figure_of_a_paper_saves_as_svg_png_and_csv(visit, whole_page):
    tab = visit(whole_page)
    wait_until_drawn(tab)
    heads = {"SVG": b"<svg", "PNG": b"\x89PNG"}
    for chart in tab.locator("#figures figure").all():
        for kind in ("SVG", "PNG", "CSV"):
            content = saved(tab, chart.get_by_role("button", name="as " + kind), "." + kind.lower())
            if kind in heads:
                assert content.startswith(heads[kind])
            else:
                head, *body = content.decode().splitlines()
                assert len(head.split(",")) > 2
                assert len(body) > 3
    assert tab.complaints == []


def test_the_configuration_of_a_run_is_copied(visit, whole_page, tables):
    tab = visit(whole_page)
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    run = tables[0]["run_id"].iloc[3]
    tab.get_by_role("button", name=f"Copy the configuration of run {run}").click()
    tab.wait_for_timeout(200)
    assert tab.locator("#copied").text_content() in ("Configuration copied", "Configuration saved as a file")
    if tab.locator("#copied").text_content() == "Configuration copied":
        copied = tab.evaluate("navigator.clipboard.readText()")
        assert json.loads(copied) == {"model": "mlp", "batch_size": int(tables[0]["batch_size"].iloc[3])}
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save shown rows as CSV").click()
    with open(download.value.path(), encoding="utf-8") as file:
        assert file.read().splitlines()[4].startswith(f"{run},")
    assert tab.complaints == []
