"""The tiny VAE: AutoencoderKL, 4× downsampling, 4 latent channels."""

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from pipelines.embedded.frames import Stills
from pipelines.progress import track

SIDES_PIXELS = (32, 48, 64)
CROP_PIXELS = 32
CELL_PIXELS = 4
WINDOW_CELLS = 6  # side of the part that is looked at through another grid
SPACINGS = (0.7, 1.25)


def train_vae(stills: Stills, steps: int, batch: int = 24) -> AutoencoderKL:
    """Reconstruction (squared error and a little L1) with a faint KL term, on frames of several sizes.

    In half of the steps the latents are resampled, moved by fractions of a cell and zoomed, and must decode
    to the pixels resampled alike (EQ-VAE, Kouzelis et al., arXiv 2502.09509): what moves in a video then
    moves in its latents too, where an ordinary VAE's change from cell to cell.
    Larger frames are cropped to 32 pixels, so that every step costs the same. The squared error leads:
    under L1 alone the small sprites are outvoted by their background and lose their colour. One group in
    the norms: groups of two channels would normalise the colour away too.
    `scaling_factor` is set so that latents have unit standard deviation, as Stable Diffusion's have.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=64,
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    with track(steps, "VAE") as progress:
        for step in range(steps):
            numbers = rng.integers(0, len(stills.frames), batch)
            side = SIDES_PIXELS[step % len(SIDES_PIXELS)]
            top, left = rng.integers(0, side - CROP_PIXELS + 1, 2)
            pixels = stills.pixels(numbers, side)[:, :, top : top + CROP_PIXELS, left : left + CROP_PIXELS]
            posterior = vae.encode(pixels).latent_dist
            latents = posterior.sample(generator)
            if step % 2:
                spacing = rng.uniform(*SPACINGS)
                corners = rng.uniform(0, CROP_PIXELS / CELL_PIXELS - WINDOW_CELLS * spacing, (batch, 2))
                latents = resample(latents, WINDOW_CELLS, spacing, corners)
                pixels = resample(pixels, WINDOW_CELLS * CELL_PIXELS, spacing, CELL_PIXELS * corners)
            restored = vae.decode(latents).sample
            squared = F.mse_loss(restored, pixels)
            loss = 5 * squared + 0.1 * F.l1_loss(restored, pixels) + 1e-6 * posterior.kl().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress.advance(detail=f"squared error {squared.item():.4f}")
    with torch.no_grad():
        latents = vae.encode(stills.pixels(rng.integers(0, len(stills.frames), 256), 64)).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return vae.eval()


def resample(images: torch.Tensor, side: int, spacing: float, corners: np.ndarray) -> torch.Tensor:
    """images (B, C, H, W) → (B, C, side, side): bilinear samples on a square grid of another spacing.

    spacing: input pixels from sample to sample. corners (B, 2): (y, x) of the grid's corner in input pixels.
    """
    steps = (torch.arange(side) + 0.5) * spacing
    places = torch.from_numpy(corners).float()[:, :, None] + steps  # (B, 2, side)
    y, x = (2 * places[:, axis] / images.shape[2 + axis] - 1 for axis in (0, 1))  # (B, side) in −1..1
    grid = torch.stack(
        [x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1
    )  # (B, side, side, 2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
