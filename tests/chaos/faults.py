"""What can break under a run on several nodes: each fault, what is true after it, and how long it cost.

Every one ends with a run whose outputs are those of an undisturbed one, byte for byte or bit for bit, and
whose books balance; or it raises AssertionError.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.chaos.disk import own_disk
from tests.chaos.nodes import REPOSITORY, STORE_BYTES, Nodes, nodes
from tests.chaos.world import EVALUATE, PRECOMPUTE, SCORE, TRAIN, Command, Marks, Work, World

COUNT = 3


@dataclass(frozen=True)
class Outcome:
    """happened: to the command. lost: of what was done. seconds: until the first new thing was done.

    error: what the command said when it ended.
    """

    happened: str
    lost: str
    seconds: float
    error: str = ""


class Site:
    """The world, with a cluster that the faults share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = 0
        self._held = ExitStack()
        self._cluster: Nodes | None = None

    def cluster(self, count: int = COUNT) -> Nodes:
        """The cluster, with so many nodes of one CPU beside its head."""
        if self._cluster is None:
            self._cluster = self._held.enter_context(nodes())
        self._cluster.have(count)
        return self._cluster

    def run(self, work: Work, within: Path | None = None) -> Path:
        """A new run directory, ready for the step of some work."""
        self.number += 1
        return (within or self.world.folder) / f"{self.number:02d}-{work.step}"

    def close(self) -> None:
        self._held.close()


@contextmanager
def started(command: Command) -> Iterator[Command]:
    try:
        yield command
    finally:
        command.stop()


@contextmanager
def under_way(site: Site, work: Work, cluster: Nodes) -> Iterator[tuple[Path, Command]]:
    """A new run directory, and the command of the work's step, which has just been started on the cluster."""
    run = site.run(work)
    site.world.before(work.step, run)
    with started(site.world.command(work.step, run, environment=cluster.environment)) as command:
        yield run, command


def a_node_is_killed(site: Site, work: Work) -> Outcome:
    cluster = site.cluster(COUNT + work.spare_nodes)
    with under_way(site, work, cluster) as (run, command):
        at_work = command.wait_for(lambda: in_the_middle(work, run) and cluster.at_work(work.worker))
        assert len(at_work) >= work.least_nodes
        cluster.kill(at_work[0])
        return Outcome("the command went on", *to_the_end(site, command, work, run, work.marks(run)))


def nodes_join_and_leave(site: Site, work: Work) -> Outcome:
    """One node at first; two more join while it scores, and then the first leaves in order."""
    cluster = site.cluster(1)
    (first,) = cluster.nodes
    with under_way(site, work, cluster) as (run, command):
        command.wait_for(lambda: in_the_middle(SCORE, run))
        cluster.have(COUNT)
        command.wait_for(lambda: in_the_middle(work, run) and first in cluster.at_work(work.worker))
        cluster.remove(first)
        return Outcome("the command went on", *to_the_end(site, command, work, run, work.marks(run)))


def nodes_come_when_they_are_needed(site: Site, work: Work) -> Outcome:
    """Ray's autoscaler starts nodes, none of which is there at first, and ends them when they idle."""
    with nodes(most_nodes=COUNT) as cluster, under_way(site, work, cluster) as (run, command):
        seconds, most = seconds_until_new(command, work, run, {}), 0
        while command.process.poll() is None:
            most = max(most, cluster.alive() - 1)
            time.sleep(0.1)
        command.finish()
        assert most > 1
        assert "cluster: nodes joined: " in command.said.read_text()
        wait(lambda: cluster.alive() == 1)
    return Outcome(f"none, then {most} nodes, then none", lost(site.world, work, run, {}), seconds)


def the_object_stores_spill(site: Site, work: Work) -> Outcome:
    """Another job on the cluster holds more on every node than its store has room for."""
    cluster = site.cluster()
    with full_stores(cluster), under_way(site, work, cluster) as (run, command):
        cost = to_the_end(site, command, work, run, {})
        spilled = sum(path.stat().st_size for path in cluster.spilled())
    assert spilled > STORE_BYTES
    return Outcome(f"{spilled / 1e6:.0f} MB of another job spilled, the command went on", *cost)


def the_disk_is_full(site: Site, work: Work) -> Outcome:
    """The run directory is on a disk that has no room left, and then has some again."""
    with own_disk(site.world.folder / f"disk-{work.name}") as disk:
        run = site.run(work, disk.folder)
        seen = disk.seen / run.name
        site.world.before(work.step, seen)
        options = {"inside": disk.inside}
        with started(site.world.command(work.step, run, **options)) as command:
            command.wait_for(lambda: in_the_middle(work, seen))
            disk.fill()
            began = time.monotonic()
            error = command.fail()
            ended = time.monotonic() - began
        assert "the disk is full" in error, error
        before = work.marks(seen)
        disk.widen()
        with started(site.world.command(work.step, run, **options)) as command:
            cost = to_the_end(site, command, work, seen, before)
    return Outcome(f"the command ended after {ended:.0f} s with one error", *cost, error)


def the_head_is_lost(site: Site, work: Work) -> Outcome:
    """The head is killed, and another one is started while the nodes of the first still look for it."""
    cluster = site.cluster()
    with under_way(site, work, cluster) as (run, command):
        command.wait_for(lambda: in_the_middle(work, run))
        cluster.kill_head()
        began = time.monotonic()
        error = command.fail()
        ended = time.monotonic() - began
    assert "head" in error, error
    before = work.marks(run)
    cluster.start_head()
    cluster.have(COUNT)
    with started(site.world.command(work.step, run, environment=cluster.environment)) as command:
        cost = to_the_end(site, command, work, run, before)
    return Outcome(f"the command ended after {ended:.0f} s with one error", *cost, error)


# ---------------------------------------------------------------- what the faults share


def in_the_middle(work: Work, run: Path) -> bool:
    return len(work.marks(run)) >= work.begun


def to_the_end(site: Site, command: Command, work: Work, run: Path, before: Marks) -> tuple[str, float]:
    """What was lost, and seconds until the first new thing was done, when the command has come to its end."""
    seconds = seconds_until_new(command, work, run, before)
    command.finish()
    return lost(site.world, work, run, before), seconds


def seconds_until_new(command: Command, work: Work, run: Path, before: Marks) -> float:
    """Until something is done that was not, or is done again, or there is nothing left to do.

    Workers whose head is lost work on for a minute, and may have come to the end.
    """
    began = time.monotonic()
    command.wait_for(lambda: work.marks(run).items() - before.items() or command.process.poll() == 0)
    return time.monotonic() - began


def lost(world: World, work: Work, run: Path, before: Marks) -> str:
    """What had to be done again. Raises AssertionError for a run that is not as an undisturbed one."""
    world.check(work.step, run)
    after = work.marks(run)
    again = sum(after[name] != mark for name, mark in before.items())
    assert again <= work.at_risk, f"{again} {work.unit} of {len(before)} that were done are done again"
    return f"{again} of {len(before)} {work.unit} done again" if again else "nothing"


@contextmanager
def full_stores(cluster: Nodes) -> Iterator[None]:
    job = [sys.executable, "-m", "tests.chaos.neighbour", str(STORE_BYTES * 3 // 2)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(job, env=cluster.environment, cwd=REPOSITORY, **pipes) as process:
        assert process.stdout.readline()  # it has what it wants
        yield


def wait(what: Callable[[], bool], limit_seconds: float = 120) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < limit_seconds
        time.sleep(0.1)


@dataclass(frozen=True)
class Fault:
    """quick: one of its kind that `make test` does too."""

    name: str
    strike: Callable[[Site], Outcome]
    quick: bool = False


EVERYWHERE = {
    "a node is killed": a_node_is_killed,
    "object stores spill": the_object_stores_spill,
    "the disk is full": the_disk_is_full,
    "the head is lost": the_head_is_lost,
}
FAULTS = [
    *(
        Fault(f"{name} during {work.name}", partial(strike, work=work), quick=work is SCORE)
        for name, strike in EVERYWHERE.items()
        for work in (SCORE, PRECOMPUTE, TRAIN, EVALUATE)
    ),
    Fault("nodes join, and one leaves during precompute", partial(nodes_join_and_leave, work=PRECOMPUTE)),
    Fault(
        "nodes come and go with the load", partial(nodes_come_when_they_are_needed, work=SCORE), quick=True
    ),
]
