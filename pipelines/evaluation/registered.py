"""A registered model: what `mlflow.pyfunc.load_model("models:/NAME/VERSION")` gives.

Prompts in, paths of videos out, drawn as `dreamer generate` draws them. MLflow stores no pickle: of code it
keeps `registered_code.py` alone, which names the class below, so this package must be installed where a model
is loaded.
"""

import tempfile
from pathlib import Path
from typing import Any

from mlflow.pyfunc import PythonModel

CODE = Path(__file__).with_name("registered_code.py")
PIPELINE, RECIPE = "pipeline", "recipe"  # MLflow's names of what lies beside the code
# What a version can be loaded with: load_model(URI, model_config={...}).
MODEL_CONFIG: dict[str, Any] = {"text_to_image": None, "out": None, "batch_videos": 4}
RESULT_COLUMNS = ("prompt", "appearance", "motion", "seed", "video", "gif")


class PromptsToVideos(PythonModel):
    """Rows with `prompt` and optional `motion`, `seed`, `image` → a table with the path of each video.

    model_config: `text_to_image`, folder of the model that draws first frames (default: the one that the
    recipe names, which is not part of the version); `out`, folder for the videos (default: a new temporary
    one for each call, which the caller removes); `batch_videos`, drawn at once.
    """

    _skip_type_hint_validation = True  # or MLflow warns, in colour, that `predict` has none: see `signature`

    def load_context(self, context: Any) -> None:
        from pipelines.evaluation.prompts import Artist  # networks' libraries only where a model is loaded
        from pipelines.recipe_file import load_recipe

        self.config = {**MODEL_CONFIG, **(context.model_config or {})}
        recipe = load_recipe(context.artifacts[RECIPE])
        if self.config["text_to_image"]:
            models = recipe.models.model_copy(update={"text_to_image": str(self.config["text_to_image"])})
            recipe = recipe.model_copy(update={"models": models})
        self.artist = Artist(Path(context.artifacts[PIPELINE]), recipe)

    # Without annotations, of which MLflow would infer another schema.
    def predict(self, context, model_input, params=None):
        """params: `frames` and `steps`, 0 for the recipe's own. Raises GenerationError that names the row."""
        import pandas as pd

        from pipelines.evaluation.prompts import draw_requests, requests_of

        asked = params or {}
        artist = self.artist.at(asked.get("steps") or None, asked.get("frames") or None)
        out = Path(self.config["out"] or tempfile.mkdtemp(prefix="dreamer-")).absolute()
        requests = requests_of(_rows(model_input), "the model's input")
        drawn = draw_requests(artist, requests, out, int(self.config["batch_videos"]))
        return pd.DataFrame(drawn["videos"], columns=list(RESULT_COLUMNS))


def _rows(model_input: Any) -> list[dict[str, Any]]:
    """Rows of a DataFrame or a list of records; what is missing is None, as in a file of prompts."""
    import pandas as pd

    frame = pd.DataFrame(model_input).astype(object)
    return frame.where(frame.notna(), None).to_dict("records")


def signature() -> Any:
    """Columns and parameters, for MLflow's checks and its page of the model."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    columns = [ColSpec("string", "prompt")]
    columns += [ColSpec("string", name, required=False) for name in ("motion", "image")]
    columns += [ColSpec(AnyType(), "seed", required=False)]  # a missing one makes a float of a pandas column
    params = [ParamSpec(name, "long", 0) for name in ("frames", "steps")]
    outputs = [ColSpec("long" if name == "seed" else "string", name) for name in RESULT_COLUMNS]
    return ModelSignature(Schema(columns), Schema(outputs), ParamSchema(params))
