"""GPUs: what their makers say they compute and hold.

Rates are dense (a data sheet's number "with sparsity" is twice that) and count a multiplication and an
addition as two, as `clip_flop` does. They are those of tensor cores that sum in fp32, and for `fp32` those of
the ordinary cores.
"""

import difflib
import re
from dataclasses import dataclass, field

TERA = 1e12
# Assumed where none was measured: model FLOP utilisation, the share of its peak rate that training gets out
# of a GPU. Models of a few million parameters stay far below it: launching their kernels takes longer.
MFU = 0.35


class HardwareError(ValueError):
    """A GPU that is not in the table, or cannot compute in the precision asked for."""

    exit_code = 2


@dataclass(frozen=True)
class Gpu:
    name: str  # as on the command line
    device_names: str  # pattern of what torch.cuda.get_device_name() says, whole and without the maker
    memory_gb: float  # 10⁹ bytes, as sold
    flop_per_second: dict[str, float] = field(hash=False)  # by precision; one that is missing is not built in
    source: str = ""


def _gpu(name: str, device_names: str, memory_gb: float, source: str, **tera: float) -> Gpu:
    return Gpu(name, device_names, memory_gb, {k: v * TERA for k, v in tera.items()}, source)


HOPPER = "NVIDIA H100 Tensor Core GPU data sheet"
H200 = "NVIDIA H200 Tensor Core GPU data sheet"
AMPERE = "NVIDIA A100 Tensor Core GPU data sheet"
ADA = "NVIDIA Ada GPU architecture white paper, appendix A"
GA102 = "NVIDIA Ampere GA102 GPU architecture white paper, appendix A"
VOLTA = "NVIDIA V100 Tensor Core GPU data sheet"

# Neither Volta nor Turing has bf16 or TF32 tensor cores.
GPUS = (
    _gpu("b200", r"B200", 180, "NVIDIA HGX B200 data sheet, an eighth", bf16=2250, tf32=1125, fp32=75),
    _gpu("h200", r"H200", 141, H200, bf16=989.5, tf32=494.7, fp32=67),
    _gpu("h200-nvl", r"H200 NVL", 141, H200, bf16=835.5, tf32=417.5, fp32=60),
    _gpu("h100", r"H100( SXM5)?( 80GB HBM3)?", 80, HOPPER, bf16=989.5, tf32=494.7, fp32=67),
    _gpu("h100-pcie", r"H100 PCIe", 80, HOPPER, bf16=756, tf32=378, fp32=51),
    _gpu("h100-nvl", r"H100 NVL", 94, HOPPER, bf16=835.5, tf32=417.5, fp32=60),
    _gpu("a100-80", r"A100(-SXM4-80GB| 80GB PCIe)", 80, AMPERE, bf16=312, tf32=156, fp32=19.5),
    _gpu("a100-40", r"A100-(SXM4|PCIE)-40GB", 40, AMPERE, bf16=312, tf32=156, fp32=19.5),
    _gpu("a30", r"A30", 24, "NVIDIA A30 data sheet", bf16=165, tf32=82, fp32=10.3),
    _gpu("a10", r"A10", 24, "NVIDIA A10 data sheet", bf16=125, tf32=62.5, fp32=31.2),
    _gpu("l40s", r"L40S", 48, "NVIDIA L40S data sheet", bf16=362.05, tf32=183, fp32=91.6),
    _gpu("l40", r"L40", 48, "NVIDIA L40 data sheet", bf16=181.05, tf32=90.5, fp32=90.5),
    _gpu("l4", r"L4", 24, "NVIDIA L4 data sheet, halved", bf16=121, tf32=60, fp32=30.3),
    _gpu("rtx4090", r"GeForce RTX 4090", 24, ADA, bf16=165.2, tf32=82.6, fp32=82.6),
    _gpu("rtx3090", r"GeForce RTX 3090", 24, GA102, bf16=71, tf32=35.6, fp32=35.6),
    _gpu("rtx-a6000", r"RTX A6000", 48, GA102, bf16=154.8, tf32=77.4, fp32=38.7),
    _gpu("v100", r"V100-SXM2-16GB", 16, VOLTA, fp32=15.7),
    _gpu("v100-32", r"V100-SXM[23]-32GB(-LS)?", 32, VOLTA, fp32=15.7),
    _gpu("t4", r"T4", 16, "NVIDIA T4 data sheet", fp32=8.1),
)
MAKERS = re.compile(r"^(NVIDIA|Tesla) +", re.IGNORECASE)


def find_gpu(name: str) -> Gpu:
    """A GPU by its name here (`h100`) or by what CUDA calls it (`NVIDIA H100 80GB HBM3`).

    Raises HardwareError that names the nearest and lists all.
    """
    known = {gpu.name: gpu for gpu in GPUS}
    found = known.get(name.lower()) or recognise(name)
    if found is not None:
        return found
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise HardwareError(f"no GPU {name!r} is known; {hint}known are: {', '.join(known)}")


def recognise(device_name: str) -> Gpu | None:
    """The GPU that `torch.cuda.get_device_name()` names; None for any other, for there is no guess.

    A name must fit whole: an `RTX 4090 Laptop GPU` or an `A10G` is another chip than its namesake.
    """
    bare = MAKERS.sub("", device_name.strip())
    return next((gpu for gpu in GPUS if re.fullmatch(gpu.device_names, bare, re.IGNORECASE)), None)


def peak_flops(device_name: str, precision: str) -> float | None:
    """Dense peak rate of a device in FLOP/s; None if the device or its rate in that precision is not known.

    device_name: as torch.cuda.get_device_name() gives it. precision: `bf16`, `tf32` or `fp32`, which is also
    what PyTorch's matrix products do in float32 unless TF32 is allowed.
    """
    gpu = recognise(device_name)
    return None if gpu is None else gpu.flop_per_second.get(precision)
