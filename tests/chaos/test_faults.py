"""One fault of each kind; `python -m tests.chaos` does all of them."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.chaos.disk import CannotError
from tests.chaos.faults import FAULTS, Fault, Site
from tests.chaos.world import World
from tests.conftest import LEFT_OUT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with closing(Site(World(tmp_path_factory.mktemp("chaos")))) as site:
        yield site


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name.replace(" ", "_")
)
def test_nothing_that_was_done_is_lost_when(fault: Fault, site: Site) -> None:
    try:
        fault.strike(site)  # which compares what is left with an undisturbed run's, and raises AssertionError
    except CannotError as error:
        pytest.skip(f"{LEFT_OUT}: {error}")
