"""The models that others trained, the parts that are added, and the noise that training takes out."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipelines.recipe.base import Settings


class ModelPaths(Settings):
    """Folders in Hugging Face / diffusers format; `embedded://NAME` is a model of this package."""

    text_to_image: str = Field(
        description="diffusers Stable Diffusion pipeline; its VAE, text encoder and UNet are used"
    )
    image_encoder: str = Field(description="transformers CLIPVisionModelWithProjection / CLIPModel folder")
    image_unet: str | None = Field(
        None,
        description="Stable Diffusion folder whose UNet the video model starts from, of the latent space of "
        "text_to_image (2.1-base beside 2.1); default: text_to_image",
    )
    motion_encoder: str = Field(
        description="transformers T5 encoder folder with its tokenizer, or a CLIP folder for its text model"
    )
    flow: str | None = Field(
        None,
        description="optical flow network such as RAFT, a torch.export file (.pt2): two batches of frames "
        "(N, 3, H, W) in -1..1 to flow (N, 2, H, W) in pixels; default: OpenCV's DIS on the CPU",
    )
    video_classifier: str | None = Field(None, description="features for the Fréchet video distance")

    @property
    def start_unet(self) -> str:
        """The folder of the UNet that the video model is built over."""
        return self.image_unet or self.text_to_image


class ModelSettings(Settings):
    """Which of the added parts the video UNet has; what is off costs nothing."""

    image_conditioning: bool = True
    adapter: bool = True
    pixel_attention: bool = True
    motion_encoder: bool = True
    predict_net: bool = True
    temporal_head_dim: PositiveInt = Field(64, description="channels per head of the temporal attentions")
    temporal_spatial_kernel: PositiveInt = Field(
        1, description="latent pixels, odd: side of the temporal convolution in space"
    )
    temporal_feed_forward_factor: PositiveInt = 4
    adapter_tokens: PositiveInt = Field(16, description="tokens that the image features are brought to")
    adapter_width: PositiveInt = 768
    adapter_depth: PositiveInt = 2
    adapter_head_dim: PositiveInt = 64
    pixel_attention_head_dim: PositiveInt = 64
    pixel_attention_window: PositiveInt | None = Field(
        None, description="latent pixels, even; null: full attention"
    )
    predict_net_width: PositiveInt = 128


class ScheduleSettings(Settings):
    shift: PositiveFloat = Field(1.0, description="s of ᾱ' = ᾱ / (s + (1 − s) ᾱ)")
    terminal_snr: Annotated[float, Field(ge=0)] = 0.0
    prediction: Literal["v", "epsilon"] = "v"

    @model_validator(mode="after")
    def _has_a_signal(self) -> Self:
        if self.prediction == "epsilon" and self.terminal_snr == 0:
            raise ValueError(
                "epsilon prediction carries no signal at terminal_snr=0: set a small positive one, 1e-3"
            )
        return self
