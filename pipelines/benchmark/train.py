"""Training against a bare PyTorch loop over the same network with its data in memory.

The loops take turns, a block of the same steps each, in one process with one number of threads: whatever else
the machine does meets them alike. Shares are medians over steps, each step against the bare loop's same step,
which has the same clips and noise. Our loop reads batches ahead in a thread: a block ends when that thread
rests, and its first steps, whose batches were read while another loop ran, are not counted.
"""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from pipelines.benchmark.bare_training import BareLoop, FrameEncoders, ModelBatch, random_frames, seconds_of
from pipelines.cluster import environment
from pipelines.layout import RunLayout
from pipelines.progress import track
from pipelines.recipe import Recipe, TrackingSettings, with_absolute_paths
from pipelines.training.allocator import keep_freed_memory
from pipelines.training.batch import Encoders, Prepared
from pipelines.training.engine import import_deepspeed
from pipelines.training.group import Group
from pipelines.training.index import read_index
from pipelines.training.log import read_log, tail_log
from pipelines.training.loop import train_stage
from pipelines.training.memory import MemoryWatch
from pipelines.training.plan import StagePlan, plan_stages
from pipelines.training.stage import StageRun, open_stage
from pipelines.training.start import first_unet
from pipelines.training.stream import BATCHES_AHEAD
from pipelines.workflow import write_recipe

WARM_STEPS = BATCHES_AHEAD + 1  # of each block: batches that were read beforehand
NEVER = 10**9
NO_INTERRUPTION = {"validate_every_steps": None, "sample_every_steps": None}
PHASES = ("data", "forward", "backward", "optimizer", "checkpoint")


class BenchmarkError(RuntimeError):
    """A measurement that cannot be made; the message says what to do."""


# ---------------------------------------------------------------- the loops


@dataclass
class OurLoop:
    """A stage of ours, stopped after every block of steps."""

    run: StageRun
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)  # of the log, by step
    # Seconds of the processor by step, of the thread that reads ahead too; none of a block's last step, which
    # a checkpoint follows.
    processor: dict[int, float] = field(default_factory=dict)
    _step_began: float | None = None

    def __post_init__(self) -> None:
        self.run.batches = self._clocked(self.run.batches)

    def _clocked(self, batches: Iterator[list[Prepared]]) -> Iterator[list[Prepared]]:
        for batch in batches:
            now, step = time.process_time(), self.run.step + 1
            if self._step_began is not None:
                self.processor[step - 1] = now - self._step_began
            self._step_began = now
            yield batch

    def block(self, last: int) -> None:
        """Steps up to `last`, through the loop that `dreamer train` runs."""
        self.run.plan = replace(self.run.plan, steps=last)
        self._step_began = None
        train_stage(self.run, MemoryWatch(self.run.plan, self.run.group))
        wait(self.run.ahead.waiting)
        self.lines |= {line["step"]: line for line in read_log(self.run.folder / "log.jsonl")}

    def ready(self, step: int) -> Prepared:
        """The batch of a step as it was read; only while the thread that reads ahead rests."""
        (whole,) = self.run.ahead.prepare(step - 1)
        return whole


@dataclass
class Measured:
    """Seconds and losses of the bare loop, and seconds of what it is spared, by step."""

    seconds: dict[int, float] = field(default_factory=dict)
    processor: dict[int, float] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    text: dict[int, float] = field(default_factory=dict)
    frames: dict[int, dict[str, float]] = field(default_factory=dict)


def measure_training(
    recipe: Recipe, command: Sequence[str], *, stage: str | None, block_steps: int, blocks: int
) -> dict[str, Any]:
    """What `measure_loops` tells, and how long `dreamer train` takes to its first step.

    command: arguments that start it. Raises what `measure_loops` and `seconds_to_first_step` raise.
    """
    recipe = one_stage(with_absolute_paths(recipe), stage)
    with beside_the_run(recipe) as scratch:
        first = seconds_to_first_step(scratch, command)
        return measure_loops(scratch, block_steps, blocks) | {"first_step": first}


def measure_loops(
    recipe: Recipe, block_steps: int, blocks: int, levels: Sequence[int] | None = None
) -> dict[str, Any]:
    """Our loop at some levels of ZeRO beside the bare loop, in fp32, one worker.

    recipe: of `one_stage`; loops write to its run directory. block_steps: steps of a block that are counted.
    levels: default: the recipe's, at most 2, and 3. Where one loop is looked at closer, it is the first.
    """
    assert recipe.train is not None
    levels = levels or (min(recipe.train.zero_stage, 2), 3)
    device = torch.device("cuda" if recipe.train.gpus_per_worker else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.train.threads_per_worker or threads)
    if device.type == "cpu":
        keep_freed_memory()  # as our workers do; the bare loop has the good of it too
    try:
        with environment({"LOCAL_RANK": "0"}):  # Ray's worker group sets it for DeepSpeed
            return compare(recipe, group_of_one(device), block_steps, blocks, levels)
    finally:
        torch.set_num_threads(threads)


@contextmanager
def beside_the_run(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe in a run directory for the time being, with the clips and shards of its own.

    Raises FileNotFoundError and ShardError, with what to do, when those are not there or of other settings.
    """
    assert recipe.train is not None
    read_index(recipe, recipe.train.stages[0])
    with tempfile.TemporaryDirectory() as folder:
        RunLayout(Path(folder)).data.symlink_to(RunLayout.of(recipe).data)
        yield recipe.model_copy(update={"run_directory": folder})


def one_stage(recipe: Recipe, name: str | None) -> Recipe:
    """The recipe with one of its stages alone, at a constant rate, without what interrupts its steps.

    name: default: the first. Raises BenchmarkError when there is no such stage.
    """
    if recipe.train is None:
        raise BenchmarkError(f"recipe {recipe.name!r} has no section `train`")
    stages = {stage.name: stage for stage in recipe.train.stages}
    chosen = stages.get(name) if name else recipe.train.stages[0]
    if chosen is None:
        raise BenchmarkError(f"no stage {name!r} in this recipe; it has {', '.join(stages)}")
    plain = chosen.model_copy(update={"steps": NEVER, "warmup_steps": 0, "decay_steps": 0})
    train = recipe.train.model_copy(
        update={"stages": (plain,), "checkpoint_every_steps": NEVER, **NO_INTERRUPTION}
    )
    return recipe.model_copy(
        update={"train": train, "evaluate": None, "tracking": TrackingSettings(experiment="benchmark")}
    )


def group_of_one(device: torch.device) -> Group:
    """The process group of this process alone, which stays: DeepSpeed holds on to the first that it sees."""
    import_deepspeed()
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return Group.current(device)


def open_loop(recipe: Recipe, plan: StagePlan, group: Group, encoders: Encoders, zero_stage: int) -> OurLoop:
    assert recipe.train is not None
    settings = {"workers": 1, "zero_stage": zero_stage, "precision": "fp32", "micro_batch_clips": None}
    spared = {"activation_checkpointing": False, "offload_optimizer": False, "offload_parameters": False}
    train = recipe.train.model_copy(update=settings | spared)
    plan = replace(plan, settings=train, folder=plan.folder / f"zero-{zero_stage}")
    return OurLoop(open_stage(recipe.model_copy(update={"train": train}), plan, group, encoders))


def compare(
    recipe: Recipe, group: Group, block_steps: int, blocks: int, levels: Sequence[int]
) -> dict[str, Any]:
    """Run the loops in turns and put what they took beside each other."""
    assert recipe.train is not None
    (plan,) = plan_stages(recipe)
    block = WARM_STEPS + block_steps
    plan = replace(plan, steps=(blocks + 1) * block)
    encoders = Encoders.load(recipe, group.device)
    with ExitStack() as stack:
        loops = {level: open_loop(recipe, plan, group, encoders, level) for level in levels}
        for loop in loops.values():
            stack.callback(loop.run.close)
        main = next(iter(loops.values()))
        bare = bare_loop(recipe, plan, main.run)
        frame_encoders, measured = FrameEncoders(recipe, group.device), Measured()
        with track(blocks + 1, "benchmark: blocks") as progress:
            for number in range(blocks + 1):
                steps = range(number * block + 1, (number + 1) * block + 1)
                turns: list[Any] = [*loops.values(), bare, frame_encoders]
                for turn in turns[number % len(turns) :] + turns[: number % len(turns)]:
                    take_turn(turn, main, steps, measured)
                progress.advance()
    counted = [s for s in measured.seconds if s > block and (s - 1) % block >= WARM_STEPS]
    return {
        "stage": plan.stage.name,
        "batch_clips": recipe.train.global_batch_clips,
        "clips": plan.clips,
        "threads": torch.get_num_threads(),
        "device": group.device.type,
        "steps": len(counted),
        **figures(recipe.train.global_batch_clips, loops, measured, counted),
    }


def bare_loop(recipe: Recipe, plan: StagePlan, ours: StageRun) -> BareLoop:
    """Over a network of its own, with our weights at the start."""
    network, _ = first_unet(recipe)
    trained = set(ours.trained)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    return BareLoop(network.to(ours.group.device).train(), plan.stage, plan.settings, ours.schedule)


def take_turn(turn: Any, main: OurLoop, steps: range, measured: Measured) -> None:
    """One block of one loop; batches of the others are made ready before the clock runs."""
    if isinstance(turn, OurLoop):
        turn.block(steps[-1])
        return
    device = main.run.group.device
    ready = {step: main.ready(step) for step in steps}
    if isinstance(turn, FrameEncoders):
        for step, each in ready.items():
            measured.text[step], _ = seconds_of(partial(main.run.model_batch, each), device)
            frames = random_frames(len(each.samples), each.samples[0].bucket)
            measured.frames[step] = turn.seconds(frames)
        return
    batches: dict[int, ModelBatch] = {step: main.run.model_batch(each) for step, each in ready.items()}
    for step, batch in batches.items():
        began = time.process_time()
        measured.seconds[step], measured.losses[step] = seconds_of(
            partial(turn.step, step, NEVER, batch), device
        )
        measured.processor[step] = time.process_time() - began


# ---------------------------------------------------------------- the figures


def figures(
    clips: int, loops: dict[int, OurLoop], measured: Measured, counted: Sequence[int]
) -> dict[str, Any]:
    """Medians over the counted steps; `overhead` is 0 for a loop as fast as the bare one."""
    main = next(iter(loops.values()))
    lines = [main.lines[step] for step in counted]
    seconds = {level: [loop.lines[s]["seconds_total"] for s in counted] for level, loop in loops.items()}
    bare = [measured.seconds[step] for step in counted]
    text = [measured.text[step] for step in counted]
    ours = next(iter(seconds.values()))
    parts = {name: [measured.frames[s][name] for s in counted] for name in ("vae", "image_encoder")}
    encoding = [sum(each) for each in zip(*parts.values(), strict=True)]
    return {
        "loops": {
            "bare": _speed(clips, bare),
            **{
                f"zero_{level}": {
                    **_speed(clips, each),
                    "overhead": _median_ratio(each, bare) - 1,
                    "processor_overhead": processor_overhead(loops[level], measured, counted),
                }
                for level, each in seconds.items()
            },
        },
        "phases_seconds": {phase: median(line[f"seconds_{phase}"] for line in lines) for phase in PHASES},
        "data_wait_share": sum(line["seconds_data"] for line in lines) / sum(ours),
        "text_encoders_share": _median_ratio(text, ours),
        "overhead_without_text_encoders": _median_ratio(
            [a - b for a, b in zip(ours, text, strict=True)], bare
        )
        - 1,
        "on_the_fly": {
            "seconds": median(a + b for a, b in zip(ours, encoding, strict=True)),
            "times_as_long": _median_ratio([a + b for a, b in zip(ours, encoding, strict=True)], ours),
            **{f"{name}_seconds": median(each) for name, each in parts.items()},
            "text_encoders_seconds": median(text),
        },
        "largest_difference_of_a_loss": {
            f"zero_{level}": max(abs(loop.lines[s]["loss"] - loss) for s, loss in measured.losses.items())
            for level, loop in loops.items()
        },
    }


def processor_overhead(loop: OurLoop, measured: Measured, counted: Sequence[int]) -> float:
    """As `overhead`, in seconds of the processor: others who use the machine are not in it."""
    both = [step for step in counted if step in loop.processor]
    return _median_ratio([loop.processor[s] for s in both], [measured.processor[s] for s in both]) - 1


def _speed(clips: int, seconds: Sequence[float]) -> dict[str, float]:
    return {"seconds": median(seconds), "samples_per_second": clips / median(seconds)}


def _median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


# ---------------------------------------------------------------- the whole command


def seconds_to_first_step(recipe: Recipe, command: Sequence[str]) -> dict[str, float]:
    """Start `dreamer train` as a process and look for its first step.

    Raises BenchmarkError with what the command said when it failed.
    """
    assert recipe.train is not None
    layout = RunLayout.of(recipe)
    write_recipe(recipe, layout)
    log = layout.log(f"first-1-steps/{recipe.train.stages[0].name}")
    arguments = [*command, str(layout.recipe), "--limit-steps", "1", "--json"]
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=said)
        first: float | None = None
        while process.poll() is None:
            if first is None and tail_log(log):
                first = time.perf_counter() - started
            time.sleep(0.01)
        if process.returncode or first is None:
            said.seek(0)
            raise BenchmarkError(f"{' '.join(arguments)} failed:\n{said.read().decode()[-2000:]}")
    return {"seconds": first, "workers": recipe.train.workers}
