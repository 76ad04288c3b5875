"""Small random networks of the same classes as the big ones."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from modeling.unet import FactorizedUNet

SMALL = {
    "motion_dim": 12,
    "image_dim": 20,
    "temporal_head_dim": 16,
    "adapter_tokens": 3,
    "adapter_width": 16,
    "adapter_depth": 1,
    "adapter_head_dim": 8,
    "pixel_attention_head_dim": 16,
    "predict_net_width": 8,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def image_unet():
    """Makes a small UNet2DConditionModel; settings override."""

    def make(**settings):
        return UNet2DConditionModel(
            **{
                "sample_size": 8,
                "in_channels": 4,
                "out_channels": 4,
                "block_out_channels": (16, 32),
                "layers_per_block": 1,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "cross_attention_dim": 24,
                "norm_num_groups": 8,
                "attention_head_dim": 2,
                **settings,
            }
        ).eval()

    return make


@pytest.fixture
def video_unet(image_unet):
    """Makes a small FactorizedUNet over an image UNet (a default one when None); settings override."""

    def make(image=None, **settings):
        image = image_unet() if image is None else image
        return FactorizedUNet.from_image_unet(image, prediction="v", **{**SMALL, **settings}).eval()

    return make


@pytest.fixture
def awaken():
    """Gives the zero-initialised parameters random values, as training does."""

    def act(unet):
        for parameter in unet.parameters():
            if not parameter.detach().any():
                torch.nn.init.normal_(parameter, std=0.3)
        return unet

    return act


@pytest.fixture
def conditions():
    """Makes all conditions of a batch."""

    def make(clips=2, size=(8, 8), channels=4):
        return {
            "motion_tokens": torch.randn(clips, 5, 12),
            "motion_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2] * clips)[:clips],
            "image_tokens": torch.randn(clips, 9, 20),
            "image_latents": torch.randn(clips, channels, *size),
            "image_mask": torch.ones(clips, dtype=torch.bool),
            "fps": torch.full((clips,), 8.0),
            "motion_score": torch.linspace(1, 9, clips),
        }

    return make
