"""Files of networks come from others: none of them can run code here."""

import ast
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.curation.image_scores import load_aesthetic_head
from pipelines.curation.transnet import load_transnet
from pipelines.models import ModelFileError, load_clip, load_flow_network, load_language_model, resolve_model
from tests.language_models import causal, saved, tokenizer_of

ROOT = Path(__file__).parents[2]


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What planted code would write; the fixture proves that it does."""
    torch.save(Planted(tmp_path / "proof"), tmp_path / "proof.pth")
    torch.load(tmp_path / "proof.pth", weights_only=False)
    assert (tmp_path / "proof").exists()
    return tmp_path / "mark"


@pytest.mark.parametrize("load", [load_transnet, load_aesthetic_head])
def test_a_pickle_among_weights_is_refused_and_not_run(
    load: Callable[[str], Any], mark: Path, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"weight": Planted(mark)}, file)
    with pytest.raises(ValueError, match=r"weights\.pth"):
        load(str(file))
    assert not mark.exists()


def test_an_exported_network_with_a_pickle_in_it_is_refused_and_not_run(mark: Path, tmp_path: Path) -> None:
    sound, planted = tmp_path / "sound.pt2", tmp_path / "planted.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), sound)
    load_flow_network(str(sound), "cpu")(torch.ones(1, 2))
    pickled = io.BytesIO()
    torch.save({"inputs": Planted(mark)}, pickled)
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(planted, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled.getvalue() if "sample_inputs" in name else old.read(name))
    with pytest.raises(ModelFileError, match="may run code"):
        load_flow_network(str(planted), "cpu")
    assert not mark.exists()


def test_code_in_a_model_folder_is_not_run(mark: Path, tmp_path: Path) -> None:
    folder, tokenizer = tmp_path / "model", tokenizer_of(["a red star"])
    saved(causal(tokenizer), tokenizer, folder)
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "planted",
        "auto_map": {"AutoConfig": "planted.Planted", "AutoModelForCausalLM": "planted.Planted"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "planted.py").write_text(f"open({str(mark)!r}, 'w')\nclass Planted: pass\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_language_model(str(folder))
    assert not mark.exists()


def test_weights_that_are_not_safetensors_are_refused(mark: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(resolve_model("embedded://clip"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({"logit_scale": Planted(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_clip(str(folder))
    assert not mark.exists()


def test_no_call_of_ours_lets_pytorch_unpickle() -> None:
    """The linter knows pickle, eval and YAML; this one it does not know."""
    for package in ("jobs", "pipelines", "modeling"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    assert given.get("weights_only") == "True" or given.get("allow_pickle") == "False", file
