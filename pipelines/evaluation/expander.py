"""Appearance prompts made highly descriptive by a language model, as the factorized method wants them."""

from pipelines.curation.caption_model import content_words
from pipelines.language_model import LanguageModel, Task

LONGEST_TOKENS = 64  # a CLIP text encoder reads 77 of its own tokens
EXPANSION = Task(
    instruction="""\
Describe the first frame of a video in one sentence with rich visual detail, given its short caption.
Keep every word of the caption. Add looks, materials, light, surroundings and the style of the picture.
Nothing moves in a single frame: do not write of motion or of what happens later.""",
    examples=(
        (
            "a girl on the beach",
            "a girl on the beach in a white summer dress, long hair, wet sand with shallow foam, golden "
            "light of the evening sun, soft clouds above the horizon, photograph with shallow depth of field",
        ),
        (
            "Red car on a bridge",
            "Red car on a bridge of grey steel, polished paint with reflections, a wide river below, pale "
            "morning fog, city skyline in the distance, sharp photograph taken from the roadside",
        ),
        (
            "aerial view of green hills",
            "aerial view of green hills with scattered oaks and a winding gravel road, long shadows, clear "
            "sky, distant blue mountains, high detail, drone photograph",
        ),
    ),
    text_label="Caption",
    answer_label="Description",
)


class ExpansionError(ValueError):
    """A language model's description that cannot stand for the prompt; the message says why."""


class PromptExpander:
    """prompt → a descriptive one that keeps its words: `FactorizedDreamerPipeline.prompt_expander`."""

    def __init__(self, path: str) -> None:
        self.model = LanguageModel(path)

    def __call__(self, prompt: str) -> str:
        """Raises ExpansionError when the answer is empty or leaves words of the prompt out."""
        answer = self.model.answers(EXPANSION, [prompt], LONGEST_TOKENS)[0].strip()
        description = " ".join(answer.splitlines()[0].split()) if answer else ""
        if missing := content_words(prompt) - content_words(description):
            raise ExpansionError(
                f"the language model's description of {prompt!r} leaves out {', '.join(sorted(missing))}: "
                f"{description[:80]!r}; draw without it, or give a larger language model"
            )
        return description
