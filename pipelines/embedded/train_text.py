"""The tiny text models: a CLIP with both towers, and a T5 encoder, with their tokenizers."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from modeling.image_features import clip_pixels
from pipelines.embedded.frames import Stills
from pipelines.progress import track

TEXT_TOKENS = 32
SENTINELS = 8
LONGEST_SPAN = 2
RARE = -12.0  # log-probability of a single sign: below any word's


def build_clip_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
    """CLIP's byte-level BPE with `</w>`, over the captions' own words; any other text falls into pieces."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        show_progress=False,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
    )
    bpe.train_from_iterator(captions, trainer)
    vocabulary = bpe.get_vocab()
    # Every byte also ends a word.
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(f"{byte}</w>", len(vocabulary))
    merges = [tuple(merge) for merge in _merges(bpe)]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_TOKENS)


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    return json.loads(tokenizer.to_str())["model"]["merges"]


def train_clip(stills: Stills, steps: int, batch: int = 96) -> tuple[CLIPModel, CLIPTokenizer]:
    """Contrastive training on single frames; frames that show the same things count as the same class."""
    tokenizer = build_clip_tokenizer(stills.captions)
    tower = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    clip = CLIPModel(
        CLIPConfig(
            text_config={
                **tower,
                **special,
                "pad_token_id": tokenizer.pad_token_id,
                "num_hidden_layers": 2,
                "vocab_size": len(tokenizer),
                "max_position_embeddings": TEXT_TOKENS,
                "projection_dim": 64,
            },
            vision_config={
                **tower,
                "num_hidden_layers": 3,
                "image_size": 64,
                "patch_size": 8,
                "projection_dim": 64,
            },
            projection_dim=64,
        )
    )
    tokens = tokenizer(stills.captions, padding="max_length", truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    rng = np.random.default_rng(0)
    with track(steps, "CLIP") as progress:
        for _ in range(steps):
            numbers = rng.integers(0, len(stills.frames), batch)
            pixels = clip_pixels(stills.pixels(numbers, 64) / 2 + 0.5, 64)
            logits = clip(input_ids=tokens[numbers], pixel_values=pixels).logits_per_image  # (B, B)
            same = (stills.content[numbers, None] == stills.content[None, numbers]).float()
            targets = same / same.sum(1, keepdim=True)
            loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                clip.logit_scale.clamp_(max=4.6)
            progress.advance(detail=f"loss {loss.item():.3f}")
    return clip.eval(), tokenizer


def build_t5_tokenizer(captions: Sequence[str]) -> PreTrainedTokenizerFast:
    """T5's unigram pieces with its special tokens: pad 0, end 1, unknown 2, sentinels last.

    The pieces are the captions' words, and below them every printable ASCII sign for words never seen.
    """
    split = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace()])
    counts = Counter(piece for caption in captions for piece, _ in split.pre_tokenize_str(caption))
    total = counts.total()
    words = [(piece, math.log(count / total)) for piece, count in sorted(counts.items())]
    signs = [(chr(code), RARE) for code in range(33, 127)] + [("▁", RARE)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *words]
    vocabulary += [sign for sign in signs if sign[0] not in counts]
    unigram = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    unigram.pre_tokenizer = split
    unigram.decoder = decoders.Metaspace()
    unigram.add_special_tokens(
        ["<pad>", "</s>", "<unk>", *(f"<extra_id_{number}>" for number in range(SENTINELS))]
    )
    unigram.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=unigram,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TEXT_TOKENS,
    )


def train_t5(
    captions: Sequence[str], steps: int, batch: int = 128
) -> tuple[T5EncoderModel, PreTrainedTokenizerFast]:
    """Denoising of captions, with the whole caption as target; only the encoder is kept.

    The "BERT-style" objective of the T5 paper (Raffel et al., arXiv 1910.10683, section 3.3.1). Under span
    corruption so small an encoder need not tell apart what may stand in each other's place, and `left`
    and `right` came out nearly alike.
    """
    tokenizer = build_t5_tokenizer(captions)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=160,
        num_heads=4,
        num_layers=2,
        num_decoder_layers=1,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    ids = [tokenizer(caption)["input_ids"] for caption in captions]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.05)
    batches = _corrupted(ids, len(tokenizer) - SENTINELS, batch)
    with track(steps, "T5") as progress:
        for _ in range(steps):
            inputs, labels = next(batches)
            loss = model(input_ids=inputs, attention_mask=inputs != 0, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.advance(detail=f"loss {loss.item():.3f}")
    encoder = T5EncoderModel(config)
    encoder.load_state_dict(model.state_dict(), strict=False)
    return encoder.eval(), tokenizer


def _corrupted(
    captions: list[list[int]], sentinel: int, batch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of (inputs, labels): at most LONGEST_SPAN tokens in a row are hidden, all are asked for."""
    rng = np.random.default_rng(0)
    while True:
        inputs, labels = [], []
        for number in rng.integers(0, len(captions), batch):
            *tokens, end = captions[number]
            start, length = rng.integers(len(tokens)), rng.integers(LONGEST_SPAN + 1)
            inputs.append([*tokens[:start], sentinel, *tokens[start + length :], end])
            labels.append([*tokens, end])
        yield _padded(inputs, 0), _padded(labels, -100)


def _padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
