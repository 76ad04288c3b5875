"""Asking a language model by path: one instruction, a few examples, one answer per text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.models import load_language_model


@dataclass(frozen=True)
class Task:
    """What a language model is asked to do with a text, and how that is written down."""

    instruction: str
    examples: tuple[tuple[str, str], ...]  # (text, answer)
    text_label: str
    answer_label: str

    def prompt(self, text: str, tokenizer: Any) -> str:
        """Instruction, examples and text, in the tokenizer's chat template if it has one."""
        text = " ".join(text.split())
        if tokenizer.chat_template:
            asked = [f"{self.text_label}: {one}" for one in (*(first for first, _ in self.examples), text)]
            turns = [{"role": "user", "content": f"{self.instruction}\n\n{asked[0]}"}]
            for (_, answer), following in zip(self.examples, asked[1:], strict=True):
                turns.append({"role": "assistant", "content": answer})
                turns.append({"role": "user", "content": following})
            return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        shown = [f"{self.text_label}: {one}\n{self.answer_label}: {answer}" for one, answer in self.examples]
        return "\n\n".join([self.instruction, *shown, f"{self.text_label}: {text}\n{self.answer_label}:"])


class LanguageModel:
    """A causal or sequence-to-sequence transformers folder, on the GPU if there is one."""

    def __init__(self, path: str) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.tokenizer = load_language_model(path)
        self.model.to(self.device)

    @torch.inference_mode()
    def answers(self, task: Task, texts: Sequence[str], max_new_tokens: int) -> list[str]:
        """One answer for each text, the most likely ones, all texts as one batch."""
        prompts = [task.prompt(text, self.tokenizer) for text in texts]
        special = not self.tokenizer.chat_template  # a chat template writes its own
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=special)
        ids = inputs["input_ids"].to(self.device)
        output = self.model.generate(
            input_ids=ids,
            attention_mask=inputs["attention_mask"].to(self.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        if not self.model.config.is_encoder_decoder:
            output = output[:, ids.shape[1] :]
        return self.tokenizer.batch_decode(output, skip_special_tokens=True)
