"""The page as a rater uses it: with keys on a desk, with thumbs on a phone."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.study.plan import Study
from pipelines.study.questions import WORDING
from pipelines.study.votes import VoteStore
from tests.pipelines.report.test_in_browser import contrast
from tests.pipelines.study import world

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

DESK, PHONE = (1280, 900), (390, 844)
HOSTILE = "<img src=x onerror=alert(1)> A red disc over sand slides to the right"
OPEN = "#choices button:enabled"
VIDEOS = """() => [...document.querySelectorAll("video")].map(video => ({
  time: video.currentTime, ready: video.readyState, playing: !video.paused && !video.ended,
  box: video.getBoundingClientRect().toJSON(), rendering: getComputedStyle(video).imageRendering,
  pixels: [video.videoWidth, video.videoHeight], duration: video.duration,
}))"""
COLOURS = """() => {
  const style = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(document.createElement("i"));
  const found = {};
  for (const name of ["paper", "card", "ink", "soft", "accent", "on-accent"]) {
    probe.style.color = style.getPropertyValue("--" + name);
    found[name] = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number);
  }
  probe.remove();
  return found;
}"""


@dataclass
class Site:
    """A served study, and a new rater's address each time."""

    base: str
    study: Study
    store: VoteStore
    raters: int = 0

    def new_rater(self) -> str:
        self.raters += 1
        return f"{self.base}/{self.store.ensure_raters(self.raters)[-1]}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browsed")
    clips = world.clips([HOSTILE, world.CAPTIONS[0]])
    runs = [
        world.evaluated_run(folder / "steady", clips),
        world.evaluated_run(folder / "grainy", clips, noise=14),
    ]
    study = world.study_of(*runs)
    store = VoteStore(folder / "study.sqlite")
    with world.served(study, store) as base:
        yield Site(base, study, store)


def new_page(browser: "Browser", size: tuple[int, int], **more: Any) -> "tuple[Page, list[str]]":
    """A page in a window of that size, and all that it complains of."""
    phone = size == PHONE
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, is_mobile=phone, has_touch=phone, **more
    )
    page, noise = context.new_page(), []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    return page, noise


def begin(page: "Page", address: str) -> None:
    page.goto(address)
    page.click("#begin")
    page.wait_for_selector(OPEN)


def come_late(route: "Route") -> None:
    """A video that arrives half its length after the other one."""
    time.sleep(world.FRAMES / world.FPS / 2)
    route.continue_()


def answered(page: "Page", count: int) -> None:
    """Wait until the page shows that many answers and takes the next."""
    page.wait_for_selector(f"#progress[value='{count}']")
    page.wait_for_selector(OPEN)


def test_keys_answer_all_questions_of_all_pairs(browser: "Browser", site: Site):
    page, noise = new_page(browser, DESK)
    begin(page, site.new_rater())
    keys = ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowLeft")
    captions = []
    for number, key in enumerate(keys * 2, 1):
        captions.append(page.inner_text("#caption"))
        page.keyboard.press(key)
        if number < 8:
            answered(page, number)
    page.wait_for_selector("#done:not([hidden])")
    votes = site.store.votes(site.raters)
    assert [vote.answer for vote in votes] == ["left", "same", "right", "left"] * 2
    assert [vote.question for vote in votes] == [*WORDING] * 2
    assert sorted(captions) == [HOSTILE] * 4 + [world.CAPTIONS[0]] * 4  # as text, whatever it says
    assert noise == []
    page.context.close()


def test_thumbs_do_on_a_phone_and_nothing_scrolls_sideways(browser: "Browser", site: Site):
    page, noise = new_page(browser, PHONE)
    begin(page, site.new_rater())
    for number, answer in enumerate(("right", "same", "left", "right"), 1):
        page.tap(f"#choices [data-answer={answer}]")
        answered(page, number)
    assert [vote.answer for vote in site.store.votes(site.raters)] == ["right", "same", "left", "right"]
    wide, high = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert wide <= PHONE[0]
    assert high <= PHONE[1]  # a pair and its questions are one screen
    boxes = page.evaluate("[...document.querySelectorAll('#choices button')].map(b => b.offsetHeight)")
    assert min(boxes) >= 44  # what a thumb hits
    assert noise == []
    page.context.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_tiny_videos_play_side_by_side_in_step_large_and_crisp(
    browser: "Browser", site: Site, size: tuple[int, int]
):
    page, _ = new_page(browser, size)
    page.route("**/right.mp4", come_late)
    begin(page, site.new_rater())
    apart, times = [], []
    for _ in range(12):
        left, right = page.evaluate(VIDEOS)
        apart.append(abs(left["time"] - right["time"]))
        times.append(left["time"])
        page.wait_for_timeout(150)
    assert left["ready"] >= 3  # HAVE_FUTURE_DATA: decoded, not just loaded
    assert left["pixels"] == [world.SIDE, world.SIDE]
    assert median(apart) < 1 / world.FPS  # a look may fall between two starts
    assert any(later < earlier for earlier, later in pairwise(times))  # it began again
    assert left["rendering"] == right["rendering"] == "pixelated"
    assert left["box"]["width"] > min(0.4 * size[0], 8 * world.SIDE)
    assert left["box"]["width"] == pytest.approx(right["box"]["width"], abs=0.1)
    assert left["box"]["height"] == pytest.approx(right["box"]["height"], abs=0.1)
    assert left["box"]["top"] == right["box"]["top"]
    assert left["box"]["right"] < right["box"]["left"]
    page.context.close()


def test_a_rater_who_comes_back_is_where_they_left(browser: "Browser", site: Site):
    page, _ = new_page(browser, DESK)
    address = site.new_rater()
    begin(page, address)
    for number in range(1, 6):
        page.keyboard.press("ArrowLeft")
        answered(page, number)
    caption = page.inner_text("#caption")
    page.context.close()
    page, _ = new_page(browser, PHONE)  # on another device
    page.goto(address)
    page.wait_for_selector(OPEN)
    assert page.inner_text("#place") == "Pair 2 of 2"
    assert page.inner_text("#caption") == caption
    assert page.inner_text("#title") == "Motion quality"
    page.context.close()


def test_undo_goes_back_to_the_last_answer_of_the_pair_before(browser: "Browser", site: Site):
    page, _ = new_page(browser, DESK)
    begin(page, site.new_rater())
    for number in range(1, 5):
        page.keyboard.press("ArrowRight")
        answered(page, number)
    assert page.inner_text("#place") == "Pair 2 of 2"
    page.keyboard.press("z")
    answered(page, 3)
    assert page.inner_text("#place") == "Pair 1 of 2"
    assert page.inner_text("#title") == "Temporal consistency"
    page.keyboard.press("ArrowLeft")
    answered(page, 4)
    assert [vote.answer for vote in site.store.votes(site.raters)] == ["right"] * 3 + ["left"]
    page.context.close()


def test_an_answer_that_does_not_arrive_is_said_and_can_be_given_again(browser: "Browser", site: Site):
    page, _ = new_page(browser, DESK)
    begin(page, site.new_rater())
    page.context.set_offline(True)
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#message:not([hidden])")
    assert "did not arrive" in page.inner_text("#message")
    assert page.inner_text("#title") == "Visual quality"
    page.context.set_offline(False)
    page.keyboard.press("ArrowLeft")
    answered(page, 1)
    assert page.is_hidden("#message")
    assert len(site.store.votes(site.raters)) == 1
    page.context.close()


def test_two_windows_of_one_rater_count_no_answer_twice(browser: "Browser", site: Site):
    address = site.new_rater()
    first, _ = new_page(browser, DESK)
    second, _ = new_page(browser, DESK)
    begin(first, address)
    begin(second, address)
    first.keyboard.press("ArrowLeft")
    answered(first, 1)
    second.keyboard.press("ArrowRight")  # still shows the first question
    answered(second, 1)
    assert second.inner_text("#title") == "Motion quality"
    assert [vote.answer for vote in site.store.votes(site.raters)] == ["left"]
    first.context.close()
    second.context.close()


def test_a_key_that_is_held_down_answers_once(browser: "Browser", site: Site):
    page, _ = new_page(browser, DESK)
    begin(page, site.new_rater())
    page.keyboard.down("ArrowLeft")
    answered(page, 1)
    for _ in range(5):
        page.keyboard.down("ArrowLeft")  # what the keyboard repeats
    page.wait_for_timeout(300)
    assert len(site.store.votes(site.raters)) == 1
    page.context.close()


def test_pause_stops_both_videos_and_goes_on_with_both(browser: "Browser", site: Site):
    page, _ = new_page(browser, DESK)
    begin(page, site.new_rater())
    page.keyboard.press("p")
    stopped = [video["time"] for video in page.evaluate(VIDEOS)]
    page.wait_for_timeout(500)
    assert [video["time"] for video in page.evaluate(VIDEOS)] == stopped
    page.keyboard.press("p")
    assert page.evaluate("[...document.querySelectorAll('video')].every(video => !video.paused)")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_schemes(browser: "Browser", site: Site, scheme: str):
    page, _ = new_page(browser, DESK, color_scheme=scheme)
    begin(page, site.new_rater())
    colours = page.evaluate(COLOURS)
    for text, ground in (("ink", "paper"), ("soft", "paper"), ("ink", "card"), ("soft", "card")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    page.context.close()
