"""log.jsonl."""

from pathlib import Path

from pipelines.training.log import StepLog, read_log, tail_log


def write(path: Path, steps: range, *, after_step: int) -> None:
    log = StepLog(path, after_step=after_step)
    for step in steps:
        log.write({"step": step, "loss": 1 / step})
    log.close()


def test_lines_after_the_checkpoint_are_cut_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, range(1, 8), after_step=0)
    write(path, range(5, 10), after_step=4)
    assert [line["step"] for line in read_log(path)] == list(range(1, 10))


def test_a_line_that_a_kill_cut_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, range(1, 4), after_step=0)
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert tail_log(path)["step"] == 3
    write(path, range(4, 5), after_step=3)
    assert [line["step"] for line in read_log(path)] == [1, 2, 3, 4]
