"""FactorizedUNet: a latent video UNet over the UNet of any Stable Diffusion 1.x/2.x."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from modeling.adapter import DecoupledAttention, Resampler
from modeling.inputs import check_inputs, read_image_unet
from modeling.layers import ScalarEmbedding, pixel_positions, zero_initialised
from modeling.pixel_attention import ImagePyramid, PixelAttention
from modeling.predict_net import PredictNet
from modeling.schedule import Prediction
from modeling.spatial import check_supported, pairs, places, residual, spatial_transformer, upsample
from modeling.temporal import FrameEmbedding, MotionText, TemporalModule


@dataclass
class FactorizedUNetOutput(BaseOutput):
    """sample (B, C, T, h, w): the prediction (v or ε). flow (B, 2, T − 1, h, w) in latent pixels, or None."""

    sample: torch.Tensor
    flow: torch.Tensor | None = None


@dataclass(frozen=True)
class WeightTransfer:
    """Names of tensors: from the image model, new ones, and the image model's that found no place."""

    loaded: tuple[str, ...]
    initialised: tuple[str, ...]
    left_out: tuple[str, ...]
    prediction: str | None  # what the image model was trained to predict; None: not known

    def as_dict(self) -> dict[str, Any]:
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


class Conditions(NamedTuple):
    """What every place of the walk needs besides its features."""

    frames: int
    embedding: torch.Tensor  # (B·T, E), after its activation
    text: torch.Tensor  # (B, N, D)
    motion: MotionText | None
    image: tuple[torch.Tensor, torch.Tensor | None] | None  # tokens (B, Q, D), keep (B, 1, 1)
    pixels: list[torch.Tensor] | None  # image features per level, (B, C_i, h_i, w_i)
    positions: list[torch.Tensor] | None  # per level, (h_i·w_i, C_i)
    keep_pixels: torch.Tensor | None  # (B, 1, 1)


class FactorizedUNet(ModelMixin, ConfigMixin):
    """Spatial blocks of an image UNet (`self.image`) with the added modules beside them.

    image_unet: the configuration of a diffusers UNet2DConditionModel. The other settings are the added
    parts'; what is switched off has no parameters and costs nothing. Parameters are grouped by part:
    `image.`, `temporal_modules.`, `frame_embedding.`, `image_conv_in.`, `resampler.`, `decoupled_attention.`,
    `image_pyramid.`, `paca.`, `flow_predictor.`, `fps_embedding.`, `motion_score_embedding.`.

    motion_dim, image_dim: widths of T5 tokens and of CLIP vision tokens (defaults: T5-XL, ViT-H).
    pixel_attention_window: side of PACA's windows in latent pixels (even); None: full attention.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("TemporalModule", "BasicTransformerBlock", "ResnetBlock2D")

    @register_to_config
    def __init__(
        self,
        image_unet: dict[str, Any],
        prediction: Prediction | None = None,
        motion_dim: int = 2048,
        image_dim: int = 1280,
        temporal: bool = True,
        motion_encoder: bool = True,
        image_conditioning: bool = True,
        adapter: bool = True,
        pixel_attention: bool = True,
        predict_net: bool = True,
        temporal_head_dim: int = 64,
        temporal_kernel: int = 3,
        temporal_spatial_kernel: int = 1,
        temporal_feed_forward_factor: int = 4,
        adapter_tokens: int = 16,
        adapter_width: int = 768,
        adapter_depth: int = 2,
        adapter_head_dim: int = 64,
        pixel_attention_head_dim: int = 64,
        pixel_attention_window: int | None = None,
        predict_net_width: int = 128,
        max_frames: int = 1024,
    ) -> None:
        super().__init__()
        check_supported(image_unet)
        self.image = UNet2DConditionModel(**image_unet)
        self.gradient_checkpointing = False
        settings = self.image.config
        widths, latent_channels = tuple(settings.block_out_channels), settings.in_channels
        embedding_dim = self.image.time_embedding.linear_2.out_features
        where = list(places(self.image))

        self.fps_embedding = ScalarEmbedding(widths[0], embedding_dim)
        self.motion_score_embedding = ScalarEmbedding(widths[0], embedding_dim)
        if temporal:
            self.frame_embedding = FrameEmbedding(
                widths[0], embedding_dim, motion_dim if motion_encoder else None
            )
            self.temporal_modules = nn.ModuleDict(
                {
                    name: TemporalModule(
                        channels,
                        embedding_dim,
                        head_dim=temporal_head_dim,
                        kernel=temporal_kernel,
                        spatial_kernel=temporal_spatial_kernel,
                        feed_forward_factor=temporal_feed_forward_factor,
                        motion_dim=motion_dim if motion_encoder else None,
                    )
                    for name, channels, _, _ in where
                }
            )
        if image_conditioning:
            # Beside SD's own conv_in: image latents and a mask channel; without bias, so that a dropped
            # image (all zero) adds exactly nothing.
            self.image_conv_in = zero_initialised(
                nn.Conv2d(latent_channels + 1, widths[0], 3, padding=1, bias=False)
            )
        if adapter:
            self.resampler = Resampler(
                image_dim, adapter_width, adapter_tokens, adapter_depth, adapter_head_dim
            )
            self.decoupled_attention = nn.ModuleDict(
                {
                    name: nn.ModuleList(
                        DecoupledAttention(block.attn2.to_q.out_features, adapter_width)
                        for block in attention.transformer_blocks
                    )
                    for name, _, _, attention in where
                    if attention is not None
                }
            )
        if pixel_attention:
            self.image_pyramid = ImagePyramid(latent_channels, widths)
            # After the first pair of every block: one per scale and direction.
            self.paca = nn.ModuleDict(
                {
                    name: PixelAttention(channels, pixel_attention_head_dim, pixel_attention_window)
                    for name, channels, _, _ in where
                    if name.endswith("_0")
                }
            )
        if predict_net:
            self.flow_predictor = PredictNet(tuple(reversed(widths)), predict_net_width)
        self.weight_transfer: WeightTransfer | None = None

    @classmethod
    def from_image_unet(
        cls, unet: UNet2DConditionModel | str | Path, *, prediction: Prediction | None = None, **settings: Any
    ) -> "FactorizedUNet":
        """The video model over an image UNet, whose every tensor lands in it one to one.

        unet: a UNet2DConditionModel, or the folder of one or of a whole Stable Diffusion pipeline.
        prediction: what its weights were trained to predict; None: as the pipeline folder's scheduler says.
        settings: of this class. `.weight_transfer` of the result tells what was loaded and what is new.
        Raises ValueError for UNets of another family.
        """
        if not isinstance(unet, UNet2DConditionModel):
            unet, found = read_image_unet(Path(unet))
            prediction = prediction or found
        # Without diffusers' private keys, one of which is the folder that the weights were read from.
        config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
        video = cls(image_unet=config, prediction=prediction, **settings)
        nn.Module.to(
            video, unet.dtype
        )  # ModelMixin's own warns of modules to keep in float32; there are none
        video.image.load_state_dict(unet.state_dict(), strict=True)
        video.weight_transfer = WeightTransfer(
            loaded=tuple(f"image.{name}" for name in unet.state_dict()),
            initialised=tuple(name for name in video.state_dict() if not name.startswith("image.")),
            left_out=(),
            prediction=prediction,
        )
        return video

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        text_tokens: torch.Tensor,
        *,
        motion_tokens: torch.Tensor | None = None,
        motion_mask: torch.Tensor | None = None,
        image_tokens: torch.Tensor | None = None,
        image_latents: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        fps: torch.Tensor | None = None,
        motion_score: torch.Tensor | None = None,
        predict_flow: bool = True,
    ) -> FactorizedUNetOutput:
        """Predict v or ε of noisy latents, and the flow between their frames.

        latents (B, C, T, h, w); timesteps (B,); text_tokens (B, N, D) of CLIP.
        motion_tokens (B, N, D) of T5; motion_mask (B, N) bool, False at padding; a row that is all False
        is a sample without motion caption. image_tokens (B, N, D) of CLIP vision; image_latents
        (B, C, h, w); image_mask (B,) bool, False for samples without image. fps, motion_score (B,), NaN for
        samples that are not told.
        What is None is absent; a sample that a mask leaves out gets exactly what None gives it.
        predict_flow=False leaves PredictNet out.
        """
        inputs: Mapping[str, torch.Tensor | None] = {
            "text_tokens": text_tokens,
            "motion_tokens": motion_tokens,
            "image_tokens": image_tokens,
            "image_latents": image_latents,
        }
        check_inputs(self, latents, timesteps, inputs, {"fps": fps, "motion_score": motion_score})
        clips, _, frames, *size = latents.shape
        keep = None if image_mask is None else image_mask.to(latents.dtype).view(-1, 1, 1)

        x = (
            latents.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        )  # (BT, C, h, w)
        x = self.image.conv_in(x)
        if image_latents is not None and hasattr(self, "image_conv_in"):
            x = self._add_image(x, image_latents, keep, frames)
        motion = None if motion_tokens is None else MotionText.of(motion_tokens, motion_mask)
        conditions = Conditions(
            frames=frames,
            embedding=self._embedding(latents, timesteps, fps, motion_score, motion),
            text=text_tokens,
            motion=motion,
            image=self._resample(image_tokens, keep),
            **self._pixel_conditions(image_latents, keep),
        )
        x, decoder_features = self._walk(x, conditions)
        x = self.image.conv_norm_out(x) if self.image.conv_norm_out is not None else x
        x = self.image.conv_act(x) if self.image.conv_act is not None else x
        sample = self.image.conv_out(x).unflatten(0, (clips, frames)).transpose(1, 2)
        flow = None
        if predict_flow and hasattr(self, "flow_predictor"):
            one_frame = frames == 1
            flow = (
                latents.new_zeros(clips, 2, 0, *size)
                if one_frame
                else self.flow_predictor(decoder_features, frames)
            )
        return FactorizedUNetOutput(sample=sample, flow=flow)

    # ------------------------------------------------------------ conditions

    def _embedding(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        fps: torch.Tensor | None,
        motion_score: torch.Tensor | None,
        motion: MotionText | None,
    ) -> torch.Tensor:
        """Time embedding of every frame, (B·T, E), with fps, motion score, frame index and caption added."""
        clips, frames = latents.shape[0], latents.shape[2]
        embedding = self.image.time_embedding(self.image.time_proj(timesteps.expand(clips)).to(latents.dtype))
        if fps is not None:
            embedding = embedding + self.fps_embedding(fps)
        if motion_score is not None:
            embedding = embedding + self.motion_score_embedding(motion_score)
        embedding = embedding[:, None]  # (B, 1, E)
        if hasattr(self, "frame_embedding"):
            indices = torch.arange(frames, device=latents.device)
            embedding = embedding + self.frame_embedding(indices, motion)
        embedding = embedding.expand(clips, frames, -1).flatten(0, 1)
        return self.image.down_blocks[0].resnets[0].nonlinearity(embedding)

    def _add_image(
        self, x: torch.Tensor, image_latents: torch.Tensor, keep: torch.Tensor | None, frames: int
    ) -> torch.Tensor:
        """Add image latent and mask channel, the same for every frame, to conv_in's output (B·T, C, h, w)."""
        stacked = torch.cat((image_latents, torch.ones_like(image_latents[:, :1])), dim=1)
        stacked = stacked if keep is None else stacked * keep[..., None]
        return x + self.image_conv_in(stacked).repeat_interleave(frames, dim=0)

    def _resample(
        self, image_tokens: torch.Tensor | None, keep: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        if image_tokens is None or not hasattr(self, "resampler"):
            return None
        return self.resampler(image_tokens), keep

    def _pixel_conditions(
        self, image_latents: torch.Tensor | None, keep: torch.Tensor | None
    ) -> dict[str, Any]:
        if image_latents is None or not hasattr(self, "image_pyramid"):
            return {"pixels": None, "positions": None, "keep_pixels": None}
        pixels = self.image_pyramid(image_latents)
        positions = [pixel_positions(level) for level in pixels]
        return {"pixels": pixels, "positions": positions, "keep_pixels": keep}

    # ------------------------------------------------------------ the walk

    def _walk(self, x: torch.Tensor, conditions: Conditions) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Down, middle, up. x (B·T, C, h, w) after conv_in. Also gives the up blocks' features."""
        skips, last = [x], len(self.image.down_blocks) - 1
        for i, block in enumerate(self.image.down_blocks):
            for j, (resnet, attention) in enumerate(pairs(block)):
                x = self._place(f"down_{i}_{j}", i, resnet, attention, x, conditions)
                skips.append(x)
            if block.downsamplers is not None:
                x = block.downsamplers[0](x)
                skips.append(x)
        middle = self.image.mid_block
        if middle is not None:
            for j, attention in enumerate(middle.attentions):
                x = self._place(f"mid_{j}", last, middle.resnets[j], attention, x, conditions)
            x = residual(middle.resnets[-1], x, conditions.embedding)
        decoder_features = []
        for i, block in enumerate(self.image.up_blocks):
            for j, (resnet, attention) in enumerate(pairs(block)):
                x = torch.cat((x, skips.pop()), dim=1)
                x = self._place(f"up_{i}_{j}", last - i, resnet, attention, x, conditions)
            decoder_features.append(x)
            if block.upsamplers is not None:
                x = upsample(block.upsamplers[0], x)
        return x, decoder_features

    def _place(
        self, name: str, level: int, resnet: Any, attention: Any, x: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(self._at, name, level, resnet, attention, x, conditions)
        return self._at(name, level, resnet, attention, x, conditions)

    def _at(
        self, name: str, level: int, resnet: Any, attention: Any, x: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """One place: residual block, spatial attention (text and adapter), PACA, temporal module."""
        x = residual(resnet, x, conditions.embedding)
        if attention is not None:
            decoupled = self.decoupled_attention[name] if conditions.image is not None else None
            x = spatial_transformer(attention, x, conditions.text, conditions.image, decoupled)
        if conditions.pixels is not None and conditions.positions is not None and name in self.paca:
            pixels, positions = conditions.pixels[level], conditions.positions[level]
            x = self.paca[name](x, pixels, positions, conditions.keep_pixels, conditions.frames)
        if hasattr(self, "temporal_modules"):
            x = self.temporal_modules[name](x, conditions.embedding, conditions.frames, conditions.motion)
        return x
