"""Tiny language models for tests: a random one, and one that knows a few answers by heart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def tokenizer_of(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def causal(tokenizer: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=1024,
            n_embd=64,
            n_layer=2,
            n_head=4,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


def saved(model: Any, tokenizer: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def memorised(answers: Mapping[str, str], tokenizer: Any, folder: Path) -> str:
    """The folder of a model that gives each prompt its answer, after a few seconds of training."""
    model = causal(tokenizer)
    starts = [tokenizer(prompt)["input_ids"] for prompt in answers]
    ends = [tokenizer(f" {answer}<end>")["input_ids"] for answer in answers.values()]
    length = max(len(start) + len(end) for start, end in zip(starts, ends, strict=True))
    ids = torch.full((len(starts), length), tokenizer.eos_token_id)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        left = length - len(start) - len(end)  # padded on the left, as when it is asked
        ids[row, left:] = torch.tensor(start + end)
        labels[row, length - len(end) :] = torch.tensor(end)
        mask[row, left:] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(300):
        loss = model(input_ids=ids, attention_mask=mask, position_ids=positions, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            break
    return saved(model, tokenizer, folder)
