"""Which accelerator is behind the name that the driver gives."""

import pytest

from codelm.train.hardware import ACCELERATORS, by_product

# As torch.cuda.get_device_name and nvidia-smi print them.
NAMES = {
    "NVIDIA A100-SXM4-40GB": "a100-40gb",
    "NVIDIA A100-SXM4-80GB": "a100-80gb",
    "NVIDIA A100 80GB PCIe": "a100-80gb",
    "NVIDIA A100-PCIE-40GB": "a100-40gb",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA H100 NVL": "h100-nvl",
    "NVIDIA H200": "h200",
    "NVIDIA H200 NVL": "h200-nvl",
    "NVIDIA GH200 480GB": "gh200",
    "NVIDIA B200": "b200",
    "NVIDIA A10": "a10",
    "NVIDIA A10G": "a10g",
    "NVIDIA A40": "a40",
    "NVIDIA L4": "l4",
    "NVIDIA L40": "l40",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA GeForce RTX 3090": "rtx-3090",
    "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada",
    "NVIDIA RTX A6000": "rtx-a6000",
    "Tesla V100-SXM2-16GB": "v100-16gb",
    "Tesla V100-SXM2-32GB": "v100-32gb",
    "Tesla T4": "t4",
}


@pytest.mark.parametrize("product", NAMES)
def test_every_name_leads_to_its_chip(product: str) -> None:
    found = by_product(product)
    assert found is not None
    assert found.name == NAMES[product]


@pytest.mark.parametrize("product", ["NVIDIA GeForce GTX 1080", "Radeon", "", "NVIDIA A1000"])
def test_what_is_not_in_the_table_is_not_guessed(product: str) -> None:
    assert by_product(product) is None


def test_figures_are_of_their_units() -> None:
    for found in ACCELERATORS.values():
        assert 5e13 < found.flops < 5e15
        assert 1e10 < found.memory < 1e12
        assert 1e11 < found.bandwidth < 1e13
        assert 0 < found.attention < found.matmul < 1
