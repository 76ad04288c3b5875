"""A plan is made for the recipes that the tests of training run."""

from tests.pipelines.training.conftest import one_thread, run_directory, training_models

__all__ = ["one_thread", "run_directory", "training_models"]
