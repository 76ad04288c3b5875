"""FactorizedDreamerPipeline: prompt → image → video, or image and motion caption → video."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from modeling.guidance import Branch, guidance_branches, guide
from modeling.image_features import image_tokens as clip_image_tokens
from modeling.latents import decode_latents, encode_pixels
from modeling.text import (
    appearance_ids,
    encode_appearance,
    encode_motion,
    motion_ids,
    without_padding,
)
from modeling.unet import FactorizedUNet
from modeling.windows import frame_windows

Generators: TypeAlias = torch.Generator | list[torch.Generator] | None
StepCallback: TypeAlias = Callable[[Any, int, int, dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@dataclass
class FactorizedDreamerOutput(BaseOutput):
    """frames (B, T, H, W, 3) float32 in 0..1; image (B, H, W, 3), what was animated, or None."""

    frames: Any
    image: Any = None


@dataclass(frozen=True)
class Inputs:
    """Conditions of a call, encoded; every tensor has B rows or is None."""

    text: torch.Tensor
    empty_text: torch.Tensor
    motion: torch.Tensor | None
    motion_mask: torch.Tensor | None
    image_tokens: torch.Tensor | None
    image_latents: torch.Tensor | None
    fps: torch.Tensor
    motion_score: torch.Tensor | None

    @property
    def has_image(self) -> bool:
        return self.image_latents is not None


class FactorizedDreamerPipeline(DiffusionPipeline):
    """The video model with all that it needs to draw; saves and loads in diffusers' folder format.

    text_to_image: any diffusers text-to-image pipeline; makes the image when a call brings none.
    motion_splitter: caption → (appearance, motion); makes the motion prompt when a call brings none.
    prompt_expander: prompt → a more descriptive appearance prompt.
    These three are attributes to set (or arguments of a call); they are not saved with the pipeline.
    image_token_count: CLIP tokens per image at most, as in the shards that the model was trained on.
    """

    model_cpu_offload_seq = "text_encoder->motion_encoder->image_encoder->unet->vae"
    # A list: diffusers adds another one to it.
    _optional_components: ClassVar = ["motion_encoder", "motion_tokenizer", "image_encoder"]

    unet: FactorizedUNet
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    motion_encoder: Any
    motion_tokenizer: Any
    image_encoder: Any
    config: Any
    progress_bar: Any

    def __init__(
        self,
        unet: FactorizedUNet,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        motion_encoder: Any = None,
        motion_tokenizer: Any = None,
        image_encoder: Any = None,
        image_token_count: int = 16,
        motion_token_count: int = 64,
    ) -> None:
        super().__init__()
        self.register_modules(
            unet=unet,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            motion_encoder=motion_encoder,
            motion_tokenizer=motion_tokenizer,
            image_encoder=image_encoder,
        )
        self.register_to_config(image_token_count=image_token_count, motion_token_count=motion_token_count)
        self.text_to_image: Any = None
        self.motion_splitter: Callable[[str], Any] | None = None
        self.prompt_expander: Callable[[str], str] | None = None

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent pixel."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        motion_prompt: str | Sequence[str] | None = None,
        image: Any = None,
        num_frames: int = 8,
        fps: float = 8.0,
        height: int | None = None,
        width: int | None = None,
        motion_score: float | None = None,
        num_inference_steps: int = 25,
        guidance_scale_text: float = 7.5,
        guidance_scale_image: float = 1.0,
        guidance_rescale: float = 0.7,
        generator: Generators = None,
        output_type: str = "np",
        image_noise: float = 0.0,
        window_frames: int | None = None,
        overlap_frames: int = 2,
        decode_chunk_frames: int | None = 16,
        text_to_image: Any = None,
        text_to_image_arguments: dict[str, Any] | None = None,
        motion_splitter: Callable[[str], Any] | None = None,
        prompt_expander: Callable[[str], str] | None = None,
        callback_on_step_end: StepCallback | None = None,
    ) -> FactorizedDreamerOutput:
        """Draw one video per prompt.

        image: (B, 3, H, W) torch or (B, H, W, 3) numpy in 0..1, a PIL image, or a list of these; it is
        scaled and centre-cropped to height × width. Without one, text_to_image makes it; without that
        either, the model gets no image. motion_score: as in the clip table. image_noise: standard
        deviation of the noise on the image latent. generator: one, or one per prompt.
        window_frames: frames that are drawn at once, as many as the model was trained on, for longer videos
        than that; None: all. Each window begins with the last overlap_frames of the one before: its image is
        the first of them, and they stay as they are while the others are drawn.
        output_type: "np", "pt" or "latent" (B, C, T, h, w). callback_on_step_end: called after every step, as
        in diffusers: with this pipeline, step, timestep and {"latents": …}; may return other latents.
        Raises ValueError that names the argument that does not fit.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        prompts, motions = self._captions(prompts, motion_prompt, motion_splitter, prompt_expander)
        if output_type not in ("np", "pt", "latent"):
            raise ValueError(f'output_type must be "np", "pt" or "latent", not {output_type!r}')
        if isinstance(generator, list) and len(generator) != len(prompts):
            raise ValueError(f"{len(generator)} generators for {len(prompts)} prompts")
        height, width = self._size(height, width)
        maker = text_to_image or self.text_to_image
        if image is None and maker is not None:
            arguments = {"generator": generator, "output_type": "pt", **(text_to_image_arguments or {})}
            image = maker(prompt=prompts, height=height, width=width, **arguments).images
        pixels = None if image is None else _pixels(image, len(prompts), height, width)

        windows = frame_windows(num_frames, window_frames or num_frames, overlap_frames)
        inputs = self._encode(prompts, motions, fps, motion_score)
        if pixels is not None:
            latents, _ = encode_pixels(self.vae, pixels, self._execution_device)
            latents = latents.to(self.unet.dtype)
            inputs = self._with_image(inputs, pixels, latents, image_noise, generator)
        factor = self.vae_scale_factor
        shape = (
            len(prompts),
            self.unet.image.config.in_channels,
            num_frames,
            height // factor,
            width // factor,
        )
        noise = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        latents = noise.new_empty((*shape[:2], 0, *shape[3:]))
        for start, stop in windows:
            known = latents[:, :, start:]  # (B, C, O, h, w), none in the first window
            if known.shape[2]:
                first = known[:, :, 0]
                inputs = self._with_image(
                    inputs,
                    decode_latents(self.vae, first, device=first.device),
                    first,
                    image_noise,
                    generator,
                )
            drawn = self.denoise(
                noise[:, :, start:stop],
                known,
                inputs,
                guidance_branches(guidance_scale_text, guidance_scale_image, has_image=inputs.has_image),
                num_inference_steps,
                guidance_rescale,
                generator,
                callback_on_step_end,
            )
            latents = torch.cat((latents[:, :, :start], drawn), dim=2)
        frames = latents if output_type == "latent" else self._decode(latents, decode_chunk_frames)
        shown = None if pixels is None else pixels.permute(0, 2, 3, 1)
        if output_type == "np":
            frames = frames.cpu().numpy()
            shown = None if shown is None else shown.cpu().numpy()
        self.maybe_free_model_hooks()
        return FactorizedDreamerOutput(frames=frames, image=shown)

    # ------------------------------------------------------------ inputs

    def _captions(
        self,
        prompts: list[str],
        motion_prompt: str | Sequence[str] | None,
        motion_splitter: Callable[[str], Any] | None,
        prompt_expander: Callable[[str], str] | None,
    ) -> tuple[list[str], list[str] | None]:
        """Appearance and motion captions; motion is None when there is none and nothing to split it off."""
        splitter, expander = motion_splitter or self.motion_splitter, prompt_expander or self.prompt_expander
        motions: list[str] | None
        if motion_prompt is not None:
            motions = (
                [motion_prompt] * len(prompts) if isinstance(motion_prompt, str) else list(motion_prompt)
            )
            if len(motions) != len(prompts):
                raise ValueError(f"{len(motions)} motion prompts for {len(prompts)} prompts")
        elif splitter is not None:
            parts = [tuple(splitter(prompt)) for prompt in prompts]
            prompts, motions = [part[0] for part in parts], [part[1] for part in parts]
        else:
            motions = None
        return [expander(prompt) for prompt in prompts] if expander is not None else prompts, motions

    def _size(self, height: int | None, width: int | None) -> tuple[int, int]:
        default = self.unet.image.config.sample_size or 64
        default_height, default_width = (default, default) if isinstance(default, int) else default
        height = height or default_height * self.vae_scale_factor
        width = width or default_width * self.vae_scale_factor
        unit = self.vae_scale_factor * 2 ** (len(self.unet.image.config.block_out_channels) - 1)
        if height % unit or width % unit:
            raise ValueError(f"height and width must be multiples of {unit} pixels, not {height}×{width}")
        return height, width

    def _encode(
        self,
        prompts: list[str],
        motions: list[str] | None,
        fps: float,
        motion_score: float | None,
    ) -> Inputs:
        """The captions and numbers of a call; no image yet."""
        device, dtype, clips = self._execution_device, self.unet.dtype, len(prompts)
        both = encode_appearance(self.text_encoder, appearance_ids(self.tokenizer, [*prompts, ""])).to(
            device, dtype
        )
        motion = motion_mask = None
        if motions is not None and self.unet.config.temporal and self.unet.config.motion_encoder:
            if self.motion_encoder is None or self.motion_tokenizer is None:
                raise ValueError("the model reads motion prompts, but the pipeline has no motion_encoder")
            ids = motion_ids(self.motion_tokenizer, motions, self.config.motion_token_count)
            motion, motion_mask = encode_motion(self.motion_encoder, without_padding(ids))
            motion, motion_mask = motion.to(device, dtype), motion_mask.to(device)
        return Inputs(
            text=both[:-1],
            empty_text=both[-1:].expand(clips, -1, -1),
            motion=motion,
            motion_mask=motion_mask,
            image_tokens=None,
            image_latents=None,
            fps=torch.full((clips,), float(fps), device=device),
            motion_score=None
            if motion_score is None
            else torch.full((clips,), float(motion_score), device=device),
        )

    def _with_image(
        self,
        inputs: Inputs,
        pixels: torch.Tensor,
        latents: torch.Tensor,
        image_noise: float,
        generator: Generators,
    ) -> Inputs:
        """The inputs with the image to start from, as pixels (B, 3, H, W) and as latents (B, C, h, w)."""
        tokens, device, dtype = None, latents.device, latents.dtype
        if image_noise > 0:
            noise = randn_tensor(latents.shape, generator=generator, device=device, dtype=dtype)
            latents = latents + image_noise * noise
        if self.unet.config.adapter:
            if self.image_encoder is None:
                raise ValueError("the model has a text-image adapter, but the pipeline has no image_encoder")
            tokens = clip_image_tokens(self.image_encoder, pixels, self.config.image_token_count)
            tokens = tokens.to(device, dtype)
        return replace(inputs, image_tokens=tokens, image_latents=latents)

    # ------------------------------------------------------------ sampling

    def denoise(
        self,
        noise: torch.Tensor,
        known: torch.Tensor,
        inputs: Inputs,
        branches: list[Branch],
        num_inference_steps: int,
        guidance_rescale: float,
        generator: Generators,
        callback: StepCallback | None,
    ) -> torch.Tensor:
        """Denoise noise (B, C, T, h, w) with the scheduler; the branches of guidance are one batch.

        known (B, C, O, h, w): latents of the first O frames, which are noised and not drawn.
        """
        arguments = _branched(inputs, branches)
        self.scheduler.set_timesteps(num_inference_steps, device=noise.device)
        latents = noise * self.scheduler.init_noise_sigma
        extra = self._step_arguments(generator)
        for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            latents = self._keep_known(latents, known, noise, timestep)
            scaled = self.scheduler.scale_model_input(latents, timestep)
            stacked = scaled.repeat(len(branches), 1, 1, 1, 1)
            output = self.unet(stacked, timestep.expand(len(stacked)), **arguments, predict_flow=False).sample
            guided = guide(list(output.chunk(len(branches))), branches, guidance_rescale)
            latents = self.scheduler.step(guided, timestep, latents, **extra).prev_sample
            if callback is not None:
                latents = callback(self, step, int(timestep), {"latents": latents}).get("latents", latents)
        return torch.cat((known, latents[:, :, known.shape[2] :]), dim=2)

    def _keep_known(
        self, latents: torch.Tensor, known: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """Latents whose first frames are the known ones, with as much of their noise as the timestep has."""
        if (frames := known.shape[2]) == 0:
            return latents
        noisy = self.scheduler.add_noise(known, noise[:, :, :frames], timestep.expand(len(known)))
        return torch.cat((noisy, latents[:, :, frames:]), dim=2)

    def _step_arguments(self, generator: Generators) -> dict[str, Any]:
        """`generator` for schedulers whose steps draw noise."""
        takes = "generator" in inspect.signature(self.scheduler.step).parameters
        return {"generator": generator} if takes and generator is not None else {}

    def _decode(self, latents: torch.Tensor, chunk: int | None) -> torch.Tensor:
        """(B, C, T, h, w) -> (B, T, H, W, 3)."""
        clips = len(latents)
        pixels = decode_latents(self.vae, latents.transpose(1, 2).flatten(0, 1), chunk, latents.device)
        return pixels.unflatten(0, (clips, -1)).permute(0, 1, 3, 4, 2)


def _branched(inputs: Inputs, branches: list[Branch]) -> dict[str, torch.Tensor | None]:
    """Arguments of the UNet, all branches as one batch; a dropped condition is masked, which equals None."""

    def repeated(x: torch.Tensor | None) -> torch.Tensor | None:
        return None if x is None else x.repeat(len(branches), *(1,) * (x.ndim - 1))

    clips, device = len(inputs.text), inputs.text.device
    motion_mask, image_mask = None, None
    if inputs.motion_mask is not None:
        motion_mask = torch.cat([inputs.motion_mask & branch.text for branch in branches])
    if inputs.has_image:
        image_mask = torch.cat([torch.full((clips,), branch.image, device=device) for branch in branches])
    return {
        "text_tokens": torch.cat([inputs.text if branch.text else inputs.empty_text for branch in branches]),
        "motion_tokens": repeated(inputs.motion),
        "motion_mask": motion_mask,
        "image_tokens": repeated(inputs.image_tokens),
        "image_latents": repeated(inputs.image_latents),
        "image_mask": image_mask,
        "fps": repeated(inputs.fps),
        "motion_score": repeated(inputs.motion_score),
    }


def _pixels(image: Any, clips: int, height: int, width: int) -> torch.Tensor:
    """Images in any of the accepted forms -> (B, 3, height, width) float32 in 0..1."""
    if isinstance(image, list | tuple):
        pixels = torch.cat([_pixels(one, 1, height, width) for one in image])
    else:
        if isinstance(image, torch.Tensor):
            pixels = image.float()
            channels_first = True
        else:
            array = np.asarray(image)
            scale = 255 if array.dtype == np.uint8 else 1
            pixels, channels_first = torch.from_numpy(array.astype(np.float32) / scale), False
        pixels = pixels[None] if pixels.ndim == 3 else pixels
        if pixels.ndim == 4 and not channels_first:
            pixels = pixels.permute(0, 3, 1, 2)
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"an image must have three channels, not shape {tuple(pixels.shape)}")
        if pixels.min() < 0 or pixels.max() > 1:
            raise ValueError(f"image values must be in 0..1, not {pixels.min():.3g}..{pixels.max():.3g}")
        pixels = _cover(pixels, height, width)
    if len(pixels) == 1 and clips > 1:
        pixels = pixels.expand(clips, -1, -1, -1)
    if len(pixels) != clips:
        raise ValueError(f"{len(pixels)} images for {clips} prompts")
    return pixels


def _cover(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Scale (B, 3, H, W) to cover height × width and crop the centre."""
    old_height, old_width = pixels.shape[-2:]
    if (old_height, old_width) == (height, width):
        return pixels
    scale = max(height / old_height, width / old_width)
    size = (max(height, round(old_height * scale)), max(width, round(old_width * scale)))
    pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return pixels[..., top : top + height, left : left + width]
