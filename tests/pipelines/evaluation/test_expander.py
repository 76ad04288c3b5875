from pathlib import Path
from typing import Any

import pytest

from pipelines.evaluation.expander import EXPANSION, ExpansionError, PromptExpander
from pipelines.evaluation.prompts import Request, generate
from tests.language_models import memorised, tokenizer_of

LEARNED = {
    "A red star over grass": "A red star over grass with soft shadows,  painted\nand more lines",
    "A moon": "The sun above the sea",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model that knows the answers of LEARNED by heart."""

    class Plain:
        chat_template = None

    tokenizer: Any = tokenizer_of(
        [f"{EXPANSION.prompt(text, Plain())} {out}" for text, out in LEARNED.items()]
    )
    answers = {EXPANSION.prompt(text, tokenizer): out for text, out in LEARNED.items()}
    return memorised(answers, tokenizer, tmp_path_factory.mktemp("expander"))


@pytest.fixture(scope="module")
def expander(folder: str) -> PromptExpander:
    return PromptExpander(folder)


def test_a_prompt_becomes_the_first_line_of_its_description(expander: PromptExpander) -> None:
    assert expander("A red star over grass") == "A red star over grass with soft shadows, painted"


def test_a_description_that_loses_a_word_of_the_prompt_is_refused(expander: PromptExpander) -> None:
    with pytest.raises(ExpansionError, match=r"'A moon' leaves out moon: 'The sun above the sea'"):
        expander("A moon")


def test_a_video_is_drawn_from_the_description(run: Path, folder: str, tmp_path: Path) -> None:
    asked = Request("A red star over grass", "The star slides to the left")
    made = generate([asked], model=run, out=tmp_path, steps=1, expander=folder)["videos"][0]
    assert made["appearance"] == "A red star over grass with soft shadows, painted"
    assert made["prompt"] == asked.prompt
