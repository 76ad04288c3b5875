"""What a clip's middle frame is worth, and whether its caption fits it, by weights that the recipe names.

Both are read off CLIP's joint space (A. Radford et al.: "Learning Transferable Visual Models From Natural
Language Supervision", 2021, arXiv 2103.00020): `text_match` is the cosine of picture and caption;
`aesthetic_score` is what LAION's improved aesthetic predictor makes of the picture's features
(https://github.com/christophschuhmann/improved-aesthetic-predictor: `sac+logos+ava1-l14-linearMSE.pth` over
CLIP ViT-L/14, rated about 1 to 10 by people). Open-Sora's curation filters by the two of them.

The whole frame is squeezed into CLIP's square, as everywhere in this project; LAION's code crops the middle.

Pass 1 keeps the features beside the scores. The predictor is an affine map of them, so the query applies it,
and another predictor decodes nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.curation.decode import DecoderError, DecoderProcess
from pipelines.curation.verdicts import CurationError

if TYPE_CHECKING:
    from pipelines.clip_features import ClipFeatures

PARAMETER = re.compile(r"(?:.*\.)?(?P<layer>\d+)\.(?P<kind>weight|bias)")
SINGLE_LAYER = {"weight": (-1, "weight"), "bias": (-1, "bias")}
LARGEST_STEP = 2  # from one linear layer's number to the next: dropout alone is between them


# ---------------------------------------------------------------- in the decoder process


class ImageScorer:
    """Scores pictures of one source against its caption, one at a time."""

    def __init__(self, clip: str, caption: str) -> None:
        """clip: folder of a CLIPModel. Without a caption there is no text match.

        Raises FileNotFoundError when there is no such folder.
        """
        self._clip = _clip_features(clip)
        self._caption = _unit_length(self._clip.text(caption)) if caption else None

    def scores(self, frame: np.ndarray) -> dict[str, Any]:
        """(H, W, 3) uint8 RGB → `image_embedding` (D,) of length 1, and its cosine with the caption.

        The network sees this picture alone: in a batch, results would depend on its neighbours.
        """
        image = _unit_length(self._clip.frames(frame[None])[0])
        match = None if self._caption is None else float(image @ self._caption)
        return {"image_embedding": image.astype(np.float32).tolist(), "text_match": match}


def _unit_length(features: np.ndarray) -> np.ndarray:
    """(D,) float64."""
    exact = features.astype(np.float64)
    return exact / np.linalg.norm(exact)


@cache
def _clip_features(clip: str) -> "ClipFeatures":
    import torch

    from pipelines.clip_features import ClipFeatures

    # A task with a share of a GPU sees it; one without sees none.
    return ClipFeatures(clip, "cuda" if torch.cuda.is_available() else "cpu")


@cache
def warm_up(clip: str) -> None:
    """Have the CLIP in memory, all of it: weights are read from disk when they are first computed with."""
    ImageScorer(clip, "a video").scores(np.zeros((64, 64, 3), np.uint8))


# ---------------------------------------------------------------- outside of it


def prepare_decoder(decoder: DecoderProcess, clip: str) -> None:
    """Load the CLIP in the decoder process; nothing is done in one that has it.

    Call it before every video, for a decoder that died is another one. It is a call of its own, for neither
    the time that loading takes nor what libraries say meanwhile is to be taken for a video's.

    Raises CurationError when it takes more time or memory than a video may.
    """
    try:
        decoder.call(warm_up, clip)
    except DecoderError as error:
        raise CurationError(
            f"curation.image_scores.clip: the decoder process could not load {clip} ({error.reason}); raise "
            "curation.decode.timeout_seconds or curation.decode.max_memory_gb, which bound its networks too"
        ) from error


@dataclass(frozen=True)
class AestheticHead:
    """An affine map of image embeddings: rating = weight · embedding + bias."""

    path: str
    weight: np.ndarray  # (D,) float64
    bias: float

    def scores(self, embeddings: pa.ChunkedArray) -> list[float | None]:
        """Ratings of N lists of D numbers, null for null; each by itself, whatever else is in the column.

        Raises CurationError when the embeddings are not as long as the head's input.
        """
        return [self._score(each.values) for chunk in embeddings.chunks for each in chunk]

    def _score(self, embedding: pa.Array | None) -> float | None:
        if embedding is None:
            return None
        features = embedding.to_numpy().astype(np.float64)
        if features.shape != self.weight.shape:
            raise CurationError(misfit(self, len(features)))
        return float(features @ self.weight) + self.bias


def misfit(head: AestheticHead, width: int) -> str:
    """What is wrong with a head over a CLIP that gives `width` numbers."""
    return (
        f"curation.image_scores.aesthetic_head: {head.path} rates {len(head.weight)} numbers, the CLIP of "
        f"curation.image_scores.clip gives {width}; take the CLIP that the head was trained on (LAION's: "
        "ViT-L/14, 768)"
    )


def load_aesthetic_head(path: str) -> AestheticHead:
    """The linear layers of a .pth or .safetensors file, in the order of their numbers, as one affine map.

    `layers.0.weight` (1024, D), `layers.0.bias` (1024,), `layers.2.weight` (128, 1024) ... to a width of 1,
    or one layer `weight` (1, D), `bias` (1,). Of a pickled file tensors alone are read.

    Raises FileNotFoundError, or ValueError when the file holds anything else, or layers between which there
    is room for an activation (LAION's `reluMSE` variants): those do not fold.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no aesthetic head {path}: set curation.image_scores.aesthetic_head")
    layers = _linear_layers(path, _tensors(path))
    weight, bias = layers[0]
    for next_weight, next_bias in layers[1:]:
        weight, bias = next_weight @ weight, next_weight @ bias + next_bias
    return AestheticHead(path, weight[0], float(bias[0]))


def _tensors(path: str) -> dict[str, Any]:
    """{name: tensor} of a file of weights."""
    import torch

    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways, all with the same mend
        raise ValueError(f"{path} holds no weights that can be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise ValueError(f"{path} holds no dictionary of tensors: save a state_dict()")
    return found


def _linear_layers(path: str, tensors: dict[str, Any]) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """(weight (out, in), bias (out,)) float64 of each layer, the last with out = 1; raises ValueError."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        match = PARAMETER.fullmatch(name)
        if match is None and name not in SINGLE_LAYER:
            raise ValueError(
                f"{path}: {name!r} is no weight or bias of a numbered layer, as layers.0.weight is"
            )
        number, kind = (int(match["layer"]), match["kind"]) if match else SINGLE_LAYER[name]
        found.setdefault(number, {})[kind] = tensor.double().numpy()
    numbers = sorted(found)
    for number, following in pairwise(numbers):
        if following - number > LARGEST_STEP:
            raise ValueError(
                f"{path}: between layers {number} and {following} there is room for an activation; only "
                "linear layers are read (LAION's linearMSE, not reluMSE)"
            )
    layers = [found[number] for number in numbers]
    shapes = [{kind: each.shape for kind, each in layer.items()} for layer in layers]
    widths = [shape["weight"][1] for shape in shapes if len(shape.get("weight", ())) == 2]
    expected = [{"weight": (wide, width), "bias": (wide,)} for width, wide in pairwise([*widths, 1])]
    if not layers or shapes != expected or len(tensors) != 2 * len(layers):
        said = ", ".join(f"{name} {tuple(each.shape)}" for name, each in tensors.items()) or "nothing"
        raise ValueError(
            f"{path}: not linear layers with a bias each that lead from one to the next and end in one "
            f"number, but {said}"
        )
    return [(layer["weight"], layer["bias"]) for layer in layers]
