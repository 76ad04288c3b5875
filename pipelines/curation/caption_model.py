"""The caption split by a language model: any causal or sequence-to-sequence transformers folder.

The model is asked for JSON and trusted with nothing: a split that does not parse, loses a word of the caption
or brings one of its own is refused, with the reason, and the caption is left to the rules.
"""

import json
import re
from dataclasses import dataclass

from pipelines.curation import english as en
from pipelines.curation.captions import CaptionSplit
from pipelines.language_model import LanguageModel, Task

PROMPT_VERSION = 1  # raise when the same model gives other splits
LONGEST_CAPTION_CHARACTERS = 600  # the prompt and a caption fit into 1,024 tokens
REFUSALS = {
    "too_long": f"captions of more than {LONGEST_CAPTION_CHARACTERS} characters are not shown to the model",
    "unreadable": "the answer is not the JSON object that was asked for",
    "lost_word": "a content word of the caption is in neither part",
    "invented_word": "a content word of the answer is not in the caption",
}

INSTRUCTION = """\
Divide the caption of a stock video into two parts and answer with one line of JSON.
"appearance" is what the first frame shows: who and what, looks, place, time. It has no motion in it.
"motion" is what changes: who or what moves, the verb, its direction and object, the motion of the camera.
It has no adjectives of looks, places or dates, and is empty when nothing moves.
Use only words of the caption, and every one of them in at least one part."""
EXAMPLES = (
    (
        "Beautiful girl with long hair walks on the beach at sunset, slow motion",
        CaptionSplit("Beautiful girl with long hair on the beach at sunset", "girl walks, slow motion"),
    ),
    (
        "Rome, italy - may 2016: aerial view of the old town",
        CaptionSplit("Rome, italy - may 2016: aerial view of the old town", ""),
    ),
    (
        "Barista pours hot milk into a white cup of coffee",
        CaptionSplit("Barista, hot milk, a white cup of coffee", "barista pours milk into cup"),
    ),
    (
        "Camera pans left over green hills while two cyclists ride by",
        CaptionSplit("Green hills, two cyclists", "camera pans left over hills, two cyclists ride by"),
    ),
)


def as_json(split: CaptionSplit) -> str:
    return json.dumps({"appearance": split.appearance, "motion": split.motion}, ensure_ascii=False)


TASK = Task(INSTRUCTION, tuple((caption, as_json(split)) for caption, split in EXAMPLES), "Caption", "JSON")


@dataclass(frozen=True)
class Refusal:
    reason: str  # one of REFUSALS


class CaptionModel:
    """A language model that splits captions in batches."""

    def __init__(self, path: str, *, batch_captions: int, max_new_tokens: int) -> None:
        self.batch_captions, self.max_new_tokens = batch_captions, max_new_tokens
        self.model = LanguageModel(path)

    def split(self, captions: list[str]) -> list[CaptionSplit | Refusal]:
        short = [caption for caption in captions if len(caption) <= LONGEST_CAPTION_CHARACTERS]
        answers: dict[str, str] = {}
        for start in range(0, len(short), self.batch_captions):
            batch = short[start : start + self.batch_captions]
            answers |= zip(batch, self.model.answers(TASK, batch, self.max_new_tokens), strict=True)
        return [
            checked(caption, answers[caption]) if caption in answers else Refusal("too_long")
            for caption in captions
        ]


# ---------------------------------------------------------------- what of an answer is accepted


def checked(caption: str, answer: str) -> CaptionSplit | Refusal:
    """The split that an answer gives, or why it is refused."""
    split = parse(answer)
    if split is None:
        return Refusal("unreadable")
    given, found = content_words(caption), content_words(f"{split.appearance} {split.motion}")
    if given - found:
        return Refusal("lost_word")
    return Refusal("invented_word") if found - given else split


def parse(answer: str) -> CaptionSplit | None:
    """The JSON object that an answer begins with; None unless it has exactly the two parts, as text."""
    try:
        value, _ = json.JSONDecoder().raw_decode(answer.lstrip())
    except ValueError:
        return None
    if not isinstance(value, dict) or set(value) != {"appearance", "motion"}:
        return None
    appearance, motion = value["appearance"], value["motion"]
    if not isinstance(appearance, str) or not isinstance(motion, str) or not appearance.strip():
        return None
    return CaptionSplit(" ".join(appearance.split()), " ".join(motion.split()))


def content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+(?:['’]\w+)*", text.lower()) if word not in en.FUNCTION_WORDS}
