"""The pages as a browser shows them: on a phone and on a desk, light and dark."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.layout import RunLayout
from pipelines.report.lines import WIDTH

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = (360, 390, 1280, 1440)
LEAST_CONTRAST = 4.5  # WCAG AA for text
COLOURS = """() => {
  const style = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(document.createElement("i"));
  const found = {};
  for (const name of ["paper", "card", "ink", "soft", "kept", "failed"]) {
    probe.style.color = style.getPropertyValue("--" + name);
    found[name] = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number);
  }
  probe.remove();
  return found;
}"""


@pytest.fixture(scope="module", params=("a run", "two runs"))
def address(
    request: pytest.FixtureRequest, trained: RunLayout, page_of_trained: str, comparison_page: Path
) -> str:
    assert page_of_trained  # written
    return (trained.report if request.param == "a run" else comparison_page).as_uri()


@pytest.fixture(params=("light", "dark"))
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=WIDTHS)
def opened(
    request: pytest.FixtureRequest, browser: "Browser", address: str, scheme: str
) -> "Iterator[tuple[Page, list[str]]]":
    """The page in a window of that width and scheme, and what it complained of or asked for."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, color_scheme=scheme)
    page, noise = context.new_page(), []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: noise.append(request.url) if not _own(request.url, address) else None)
    page.goto(address)
    yield page, noise
    context.close()


def _own(url: str, address: str) -> bool:
    return url == address or url.startswith("data:")


def test_it_opens_without_an_error_a_request_or_a_sideways_scroll(opened: "tuple[Page, list[str]]"):
    page, noise = opened
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    blank = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
    images = page.evaluate("document.images.length")
    assert noise == []
    assert overflow <= 0
    assert images >= 4
    assert blank == 0


def test_links_of_the_page_lead_somewhere(browser: "Browser", address: str):
    page = browser.new_page()
    page.goto(address)
    targets = page.evaluate("[...document.links].map(link => link.getAttribute('href'))")
    lost = [target for target in targets if page.query_selector(target) is None]
    assert len(targets) >= 5
    assert lost == []
    page.close()


def test_text_is_legible_in_both_schemes(browser: "Browser", address: str, scheme: str):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    colours = page.evaluate(COLOURS)
    context.close()
    assert (luminance(colours["paper"]) > 0.5) == (scheme == "light")
    for text in ("ink", "soft", "kept", "failed"):
        for ground in ("paper", "card"):
            assert contrast(colours[text], colours[ground]) >= LEAST_CONTRAST, (text, ground)


def test_a_chart_is_read_by_pointing_at_it(browser: "Browser", address: str):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    chart = page.locator("svg.lines").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    told = chart.locator(".moment text")
    assert not any(each.is_visible() for each in told.all())
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert sum(each.is_visible() for each in told.all()) == 1
    page.close()


def test_what_a_chart_tells_fits_into_it(browser: "Browser", address: str):
    page = browser.new_page()
    page.goto(address)
    texts = "[...document.querySelectorAll('svg.lines text')].map(text => text.getBBox())"
    boxes = page.evaluate(f"{texts}.map(box => [box.x, box.x + box.width])")
    page.close()
    assert len(boxes) > 40
    assert min(left for left, _ in boxes) >= 0
    assert max(right for _, right in boxes) <= WIDTH


def luminance(colour: Any) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Any, other: Any) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
