"""Fixtures that several rooms share, and what a test run says at its end."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.embedded.sprites import make_sprites
from pipelines.embedded.world import WorldSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LEFT_OUT = "LEFT OUT"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes first: one that comes last keeps the other core waiting."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SpriteWorld: `sprites.csv`, `videos/`, `flow/`."""
    out = tmp_path_factory.mktemp("sprites")
    settings = WorldSettings(
        clips=16, validation_clips=4, held_out_clips=8, held_out_two_clips=2, held_out_pan_clips=2
    )
    make_sprites(out, settings, processes=1)
    return out


@pytest.fixture(scope="module")
def ray(request: pytest.FixtureRequest) -> None:
    """A local Ray for this module and the others of its folder that ask for one; it ends with the folder.

    What starts Ray in this process meanwhile joins it, and is spared its start and that of its workers. They
    do not see variables of the environment that are set later: who needs that ends it (`ray.shutdown()`).
    """
    import ray

    from pipelines.cluster import start_ray

    if ray.is_initialized():
        return
    folder = next(node for node in request.node.iter_parents() if isinstance(node, pytest.Dir))
    held = ExitStack()
    held.enter_context(start_ray())
    folder.addfinalizer(held.close)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A headless Chromium; without one the test is left out, and the end of the run says so.

    Of a module and not of the whole run: while it is open, an event loop runs in this thread.
    """
    try:
        from tests.browser import NoBrowserError, open_browser
    except ModuleNotFoundError as error:
        pytest.skip(f"{LEFT_OUT}: {error}; `make setup` installs it")
    try:
        with open_browser() as browser:
            yield browser
    except NoBrowserError as error:
        pytest.skip(f"{LEFT_OUT}: {error}; `make browser` installs it")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around pytest's own summary: this is what is read last
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Say loudly which tests were left out because this machine lacks something."""
    yield
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", ())]
    said = [place[-1].removeprefix("Skipped: ") for place in skipped if isinstance(place, tuple)]
    for reason, count in Counter(text for text in said if text.startswith(LEFT_OUT)).items():
        tests = "1 test was" if count == 1 else f"{count} tests were"
        line = f"{LEFT_OUT}: {tests} not run: {reason.removeprefix(LEFT_OUT + ': ')}"
        terminalreporter.write_line(line, red=True, bold=True)
