"""All faults, or those whose names have one of the words, as a table: `python -m tests.chaos [WORD]...`.

What commands said when they ended, and why a fault failed, goes to standard error.
"""

import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tests.chaos.disk import CannotError
from tests.chaos.faults import FAULTS, Fault, Site
from tests.chaos.world import World

COLUMNS = ("fault", "what happened", "lost", "seconds")


def main(words: list[str]) -> int:
    """Exit code: 0 when no fault that this machine can do cost anything."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    failed = False
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with closing(Site(World(folder))) as site:
        for fault in faults:
            cells, worked = row(fault, site)
            print(f"| {' | '.join(cells)} |", flush=True)
            failed |= not worked
    if failed:
        print(f"what the runs left and said is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


def row(fault: Fault, site: Site) -> tuple[list[str], bool]:
    try:
        outcome = fault.strike(site)
    except CannotError as error:
        return [fault.name, f"not tried: {error}", "", ""], True
    except Exception as error:  # the others are struck all the same
        print(f"{fault.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return [fault.name, "**FAILED**", "", ""], False
    if outcome.error:
        print(f"{fault.name}: {outcome.error}", file=sys.stderr)
    return [fault.name, outcome.happened, outcome.lost, f"{outcome.seconds:.1f}"], True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
