"""GPUs are known by what CUDA calls them, their rates are dense, and what is not known is not guessed."""

import pytest

from pipelines.hardware import GPUS, HardwareError, find_gpu, peak_flops


@pytest.mark.parametrize(
    ("device", "bf16_tera", "fp32_tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5, 67),
        ("NVIDIA H100 PCIe", 756, 51),
        ("NVIDIA H100 NVL", 835.5, 60),
        ("NVIDIA H200", 989.5, 67),
        ("NVIDIA B200", 2250, 75),
        ("NVIDIA A100-SXM4-80GB", 312, 19.5),
        ("NVIDIA A100 80GB PCIe", 312, 19.5),
        ("A100-SXM4-40GB", 312, 19.5),
        ("NVIDIA L40S", 362.05, 91.6),
        ("NVIDIA L4", 121, 30.3),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6),
        ("NVIDIA GeForce RTX 3090", 71, 35.6),
    ],
)
def test_devices_are_recognised_by_the_name_that_cuda_gives(device, bf16_tera, fp32_tera):
    assert peak_flops(device, "bf16") == pytest.approx(bf16_tera * 1e12)
    assert peak_flops(device, "fp32") == pytest.approx(fp32_tera * 1e12)


@pytest.mark.parametrize(
    "device",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A10G",
        "NVIDIA GB200",
        "NVIDIA GH200 480GB",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM-64GB",
        "AMD Instinct MI300X",
        "cpu",
        "",
    ],
)
def test_namesakes_and_strangers_have_no_rate(device):
    assert peak_flops(device, "bf16") is None


@pytest.mark.parametrize("device", ["Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB", "Tesla T4"])
def test_gpus_without_bf16_units_have_no_rate_for_it(device):
    assert peak_flops(device, "bf16") is None
    assert peak_flops(device, "fp32") in (15.7e12, 8.1e12)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_rates_are_dense_and_sourced(gpu):
    assert gpu.source
    assert find_gpu(gpu.name) is gpu
    rates = gpu.flop_per_second
    if "bf16" in rates:  # tensor cores take bf16 at twice the rate of TF32: a sparse number stands out
        assert rates["bf16"] / rates["tf32"] == pytest.approx(2, rel=0.03)
        assert rates["tf32"] >= rates["fp32"]


def test_an_unknown_gpu_is_refused_with_the_nearest_and_all():
    with pytest.raises(HardwareError, match=r"no GPU 'h10'.*did you mean 'h100'\?") as refused:
        find_gpu("h10")
    assert all(gpu.name in str(refused.value) for gpu in GPUS)
    assert refused.value.exit_code == 2


def test_a_gpu_may_be_named_as_cuda_names_it():
    assert find_gpu("NVIDIA L4") is find_gpu("L4")
