from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.pipelines.training import training_world


@pytest.fixture(scope="session")
def training_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random tiny models in Hugging Face's formats."""
    return training_world.build_models(tmp_path_factory.mktemp("training_models"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums of several threads differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    return tmp_path / "run"
