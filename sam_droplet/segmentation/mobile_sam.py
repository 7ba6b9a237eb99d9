"""MobileSAM in plain torch: image encoder, prompt encoder, two-way mask decoder, strict loading.

Coordinates here are in the model frame: image-corner pixels of the 1024×1024 padded input.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as PillowImage
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sam_droplet.errors import InputError, ModelUnavailable
from sam_droplet.segmentation.tiny_vit import (
    EMBEDDING_CHANNELS,
    EMBEDDING_SIDE,
    IMAGE_SIDE,
    LayerNorm2d,
    TinyViT,
)

LOW_RES_SIDE = 4 * EMBEDDING_SIDE
N_MASK_TOKENS = 4  # one single mask and three for ambiguous prompts
HEADS = 8
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

# Labels of prompt points. Negative and positive are the user's 0 and 1.
PADDING, NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3


@dataclass(frozen=True)
class ModelFrame:
    """Map an image of (height, width) pixels to the model's input, whose longest side is 1024."""

    height: int
    width: int

    @property
    def input_hw(self) -> tuple[int, int]:
        """Size of the resized image before padding."""
        scale = IMAGE_SIDE / max(self.height, self.width)
        # The official rule: half rounds up. At least one pixel, for slivers.
        return max(1, int(self.height * scale + 0.5)), max(1, int(self.width * scale + 0.5))

    def to_model_xy(self, points_xy: NDArray[Any]) -> NDArray[np.float32]:
        """Scale (..., 2) image-corner coordinates; the corner of the image stays the corner."""
        input_h, input_w = self.input_hw
        scale = np.array([input_w / self.width, input_h / self.height])
        scaled: NDArray[np.float32] = (np.asarray(points_xy, np.float64) * scale).astype(np.float32)
        return scaled


class FourierPosition(nn.Module):
    """Encode positions with fixed random frequencies."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        frequencies = torch.randn(2, EMBEDDING_CHANNELS // 2)
        self.register_buffer("positional_encoding_gaussian_matrix", frequencies)

    def forward(self, xy: Tensor) -> Tensor:
        """Encode (..., 2) model-frame coordinates into (..., 256)."""
        unit = 2 * xy / IMAGE_SIDE - 1  # the frame as [-1, 1]²
        angle = 2 * math.pi * (unit @ self.positional_encoding_gaussian_matrix)  # (..., 128)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def dense(self) -> Tensor:
        """Encode the centre of each embedding cell: (64 · 64, 256)."""
        centres = (torch.arange(EMBEDDING_SIDE, dtype=torch.float32) + 0.5) * (IMAGE_SIDE / EMBEDDING_SIDE)
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        grid = torch.stack([x, y], dim=-1).view(-1, 2)
        encoded: Tensor = self(grid.to(self.positional_encoding_gaussian_matrix.device))
        return encoded


class PromptEncoder(nn.Module):
    """Turn points, box corners and an optional mask into embeddings."""

    def __init__(self) -> None:
        super().__init__()
        c = EMBEDDING_CHANNELS
        self.pe_layer = FourierPosition()
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, c) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, c)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2), LayerNorm2d(4), nn.GELU(),
            nn.Conv2d(4, 16, 2, 2), LayerNorm2d(16), nn.GELU(),
            nn.Conv2d(16, c, 1),
        )  # fmt: skip
        self.no_mask_embed = nn.Embedding(1, c)

    def forward(self, points_xy: Tensor, labels: Tensor) -> Tensor:
        """Embed (B, N, 2) model-frame points with (B, N) labels in -1..3 into (B, N, 256)."""
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        by_label = torch.cat([kind.weight for kind in kinds])  # (5, 256), row 0 is padding
        position = self.pe_layer(points_xy) * (labels != PADDING)[..., None]
        embedded: Tensor = position + by_label[labels.long() + 1]  # (B, N, 256)
        return embedded

    def embed_mask(self, low_res_logits: Tensor | None) -> Tensor:
        """Embed a (B, 1, 256, 256) earlier answer, or its absence: (B or 1, 256, 64 or 1, 64 or 1)."""
        if low_res_logits is None:
            return self.no_mask_embed.weight[:, :, None, None]
        out: Tensor = self.mask_downscaling(low_res_logits)
        return out


class Attention(nn.Module):
    """Multi-head attention that may work in fewer channels than its input has."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(EMBEDDING_CHANNELS, inner)
        self.k_proj = nn.Linear(EMBEDDING_CHANNELS, inner)
        self.v_proj = nn.Linear(EMBEDDING_CHANNELS, inner)
        self.out_proj = nn.Linear(inner, EMBEDDING_CHANNELS)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from (B, Nq, 256) to (B, Nk, 256); a batch of one is shared by all."""
        q, k, v = split_heads(self.q_proj(q)), split_heads(self.k_proj(k)), split_heads(self.v_proj(v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, heads, Nq, Nk)
        mixed = scores.softmax(dim=-1) @ v  # (B, heads, Nq, d)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out  # (B, Nq, 256)


def split_heads(x: Tensor) -> Tensor:
    """View (B, N, heads · d) as (B, heads, N, d)."""
    b, n, width = x.shape
    return x.view(b, n, HEADS, width // HEADS).transpose(1, 2)


class TokenMlp(nn.Module):
    """The two linear layers of a transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(EMBEDDING_CHANNELS, 2048)
        self.lin2 = nn.Linear(2048, EMBEDDING_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class TwoWayBlock(nn.Module):
    """Tokens look at each other, then at the image; then the image looks at the tokens."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(EMBEDDING_CHANNELS)
        self.norm1 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.cross_attn_token_to_image = Attention(EMBEDDING_CHANNELS // 2)
        self.norm2 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.mlp = TokenMlp()
        self.norm3 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.norm4 = nn.LayerNorm(EMBEDDING_CHANNELS)
        self.cross_attn_image_to_token = Attention(EMBEDDING_CHANNELS // 2)

    def forward(
        self, tokens: Tensor, keys: Tensor, token_pe: Tensor, key_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        tokens = self.attend_to_each_other(tokens, token_pe)
        seen = self.cross_attn_token_to_image(tokens + token_pe, keys + key_pe, keys)
        tokens = self.digest(tokens, seen)
        drawn = self.cross_attn_image_to_token(keys + key_pe, tokens + token_pe, tokens)
        return tokens, self.norm4(keys + drawn)  # (B, T, 256), (B, 4096, 256)

    def attend_to_each_other(self, tokens: Tensor, token_pe: Tensor) -> Tensor:
        """Mix the tokens; in the first block they are their own position, so nothing is added."""
        if self.first:
            mixed = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            mixed = tokens + self.self_attn(placed, placed, tokens)
        out: Tensor = self.norm1(mixed)
        return out

    def digest(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Add what the tokens saw in the image, and think about it."""
        tokens = self.norm2(tokens + seen)
        out: Tensor = self.norm3(tokens + self.mlp(tokens))
        return out


class TwoWayTransformer(nn.Module):
    """Two blocks and a last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayBlock(first=True), TwoWayBlock(first=False)])
        self.final_attn_token_to_image = Attention(EMBEDDING_CHANNELS // 2)
        self.norm_final_attn = nn.LayerNorm(EMBEDDING_CHANNELS)

    def forward(self, keys: Tensor, key_pe: Tensor, token_pe: Tensor) -> tuple[Tensor, Tensor]:
        tokens = token_pe
        for layer in self.layers:
            tokens, keys = layer(tokens, keys, token_pe, key_pe)
        seen = self.final_attn_token_to_image(tokens + token_pe, keys + key_pe, keys)
        return self.norm_final_attn(tokens + seen), keys


class HeadMlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, c_out: int) -> None:
        super().__init__()
        c = EMBEDDING_CHANNELS
        self.layers = nn.ModuleList([nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c_out)])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.layers[0](x))
        x = F.relu(self.layers[1](x))
        out: Tensor = self.layers[2](x)
        return out


class MaskDecoder(nn.Module):
    """Predict four masks and their quality from an embedding and a prompt."""

    def __init__(self) -> None:
        super().__init__()
        c = EMBEDDING_CHANNELS
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, c)
        self.mask_tokens = nn.Embedding(N_MASK_TOKENS, c)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(c, c // 4, 2, 2), LayerNorm2d(c // 4), nn.GELU(),
            nn.ConvTranspose2d(c // 4, c // 8, 2, 2), nn.GELU(),
        )  # fmt: skip
        self.output_hypernetworks_mlps = nn.ModuleList(HeadMlp(c // 8) for _ in range(N_MASK_TOKENS))
        self.iou_prediction_head = HeadMlp(N_MASK_TOKENS)

    def forward(self, image: Tensor, dense_pe: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Decode all four masks.

        image: (1 or B, 256, h, w), embedding plus mask embedding; 64 × 64 cells, or a window of these.
        dense_pe: (h · w, 256) the positions of the cells, or (B, h · w, 256). prompt: (B, N, 256).
        Returns logits (B, 4, 4h, 4w) and predicted IoU (B, 4).
        """
        h, w = image.shape[2:]
        keys = image.flatten(2).transpose(1, 2)  # (1 or B, h · w, 256)
        tokens, keys = self.transformer(keys, dense_pe, self.with_output_tokens(prompt))
        image = keys.transpose(1, 2).reshape(-1, keys.shape[2], h, w)
        pixels = self.output_upscaling(image)  # (B, 32, 4h, 4w)
        weights, iou = self.read_tokens(tokens)
        logits = (weights @ pixels.flatten(2)).view(*iou.shape, *pixels.shape[2:])
        return logits, iou

    def with_output_tokens(self, prompt: Tensor) -> Tensor:
        """Put the IoU token and the mask tokens before the prompt: (B, 5 + N, 256)."""
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        return torch.cat([output.expand(len(prompt), -1, -1), prompt], dim=1)

    def read_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixel weights of each mask (B, 4, 32) and the predicted IoU (B, 4)."""
        heads = enumerate(self.output_hypernetworks_mlps, start=1)
        weights = torch.stack([head(tokens[:, i]) for i, head in heads], dim=1)
        return weights, self.iou_prediction_head(tokens[:, 0])


class MobileSam(nn.Module):
    """The whole network, in evaluation mode, with the parameter names of ``mobile_sam.pt``."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TinyViT()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    def preprocess(self, view: NDArray[np.uint8]) -> Tensor:
        """Resize the longest side of a (H, W, 3) uint8 RGB view to 1024, normalize, pad: (1, 3, 1024, 1024).

        Pillow's antialiased bilinear resize of the 8-bit image is what the network was trained behind.
        """
        if view.ndim != 3 or view.shape[2] != 3 or view.dtype != np.uint8:
            raise InputError(f"Expected a uint8 view of shape (H, W, 3), got {view.dtype} {view.shape}.")
        input_h, input_w = ModelFrame(*view.shape[:2]).input_hw
        resized = PillowImage.fromarray(view).resize((input_w, input_h), PillowImage.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).to(self.device).permute(2, 0, 1)  # (3, h, w)
        normed = (pixels - self.pixel_mean) / self.pixel_std
        return F.pad(normed, (0, IMAGE_SIDE - input_w, 0, IMAGE_SIDE - input_h))[None]

    @torch.inference_mode()
    def encode(self, view: NDArray[np.uint8]) -> Tensor:
        """Embed a (H, W, 3) uint8 RGB view: (1, 256, 64, 64) float32."""
        embedding: Tensor = self.image_encoder(self.preprocess(view))
        return embedding

    @torch.inference_mode()
    def decode(
        self, embedding: Tensor, points_xy: Tensor, labels: Tensor, low_res_logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Answer B prompts on one image: logits (B, 4, 256, 256) and predicted IoU (B, 4).

        Mask 0 is the single answer, masks 1 to 3 are for an ambiguous prompt.
        embedding: (1, 256, 64, 64). points_xy: (B, N, 2), model frame. labels: (B, N) in -1..3.
        low_res_logits: (B, 1, 256, 256) of an earlier answer to refine, or None.
        """
        image = embedding + self.prompt_encoder.embed_mask(low_res_logits)
        prompt = self.prompt_encoder(points_xy, labels)
        logits, iou = self.mask_decoder(image, self.prompt_encoder.pe_layer.dense(), prompt)
        return logits, iou


def prompt_points(
    points_xy: NDArray[Any], point_labels: NDArray[Any], box_xyxy: NDArray[Any] | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join points and box into the (N, 2) points and (N,) labels that the network reads.

    A box is its two corners; without one, the network was trained to see a padding point.
    """
    points = np.asarray(points_xy, np.float32).reshape(-1, 2)
    labels = np.asarray(point_labels, np.int64).reshape(-1)
    extra_xy = np.zeros((1, 2)) if box_xyxy is None else np.asarray(box_xyxy).reshape(2, 2)
    extra = [PADDING] if box_xyxy is None else [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    return np.concatenate([points, extra_xy]).astype(np.float32), np.concatenate([labels, extra])


def load_mobile_sam(path: Path, device: str | torch.device = "cpu") -> MobileSam:
    """Load the official layout strictly from ``.pt`` (no pickled code is run) or ``.safetensors``."""
    model = MobileSam()
    try:
        model.load_state_dict(_read_state(path), strict=True)
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"MobileSAM's weights are not at {path}: fetch them or put them there."
        ) from error
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, TypeError) as error:
        # torch's own sentence recommends to load such a file unsafely.
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "it holds something other than tensors" if unsafe else " ".join(str(error).split())[:300]
        raise ModelUnavailable(
            f"{path} is not a MobileSAM checkpoint: expected the official mobile_sam.pt layout ({reason})."
        ) from error
    return model.eval().requires_grad_(False).to(device)


def save_mobile_sam(model: MobileSam, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights in the official layout as fp16 safetensors, which ``load_mobile_sam`` reads.

    A tensor that fp16 cannot hold stays as it is.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        half = value.half() if value.is_floating_point() else value
        tensors[name] = (half if half.isfinite().all() else value).cpu().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={**metadata, "format": "sam-droplet.mobile-sam"})


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
