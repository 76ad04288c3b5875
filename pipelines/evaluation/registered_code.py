"""The code of a registered model, copied by MLflow beside its weights and run when it is loaded."""

from mlflow.models import set_model

from pipelines.evaluation.registered import PromptsToVideos

set_model(PromptsToVideos())
