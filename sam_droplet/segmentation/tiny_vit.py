"""TinyViT, the image encoder of MobileSAM: a 1024×1024 image becomes a (256, 64, 64) embedding.

Parameter names are those of the official checkpoint; sizes are fixed to the one published network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE_SIDE = 1024
EMBEDDING_SIDE = 64
EMBEDDING_CHANNELS = 256

# One row a stage: channels, blocks, attention heads, window side. Stage 0 is convolutional.
STAGES = ((64, 2, 2, 7), (128, 2, 4, 7), (160, 6, 5, 14), (320, 2, 10, 7))


class ConvNorm(nn.Sequential):
    """Convolve without bias, then batch-normalize; named ``c`` and ``bn`` as in the checkpoint."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module(
            "c", nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
        )
        self.add_module("bn", nn.BatchNorm2d(c_out))


class LayerNorm2d(nn.Module):
    """Normalize the channels of each pixel of a (B, C, H, W) tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        normed = F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, eps=1e-6)
        return normed.permute(0, 3, 1, 2)  # (B, C, H, W)


class PatchEmbed(nn.Module):
    """Reduce the image four times with two strided convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.seq = nn.Sequential(ConvNorm(3, half, 3, 2), nn.GELU(), ConvNorm(half, channels, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)  # (B, C, H / 4, W / 4)
        return out


class MBConv(nn.Module):
    """Inverted bottleneck: widen, convolve per channel, narrow, add."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.conv1 = ConvNorm(channels, wide)
        self.conv2 = ConvNorm(wide, wide, 3, groups=wide)
        self.conv3 = ConvNorm(wide, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.conv1(x))  # (B, 4C, H, W)
        h = F.gelu(self.conv2(h))
        return F.gelu(x + self.conv3(h))  # (B, C, H, W)


class PatchMerging(nn.Module):
    """Change the channels and, except before the last stage, halve the sides."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(c_in, c_out)
        self.conv2 = ConvNorm(c_out, c_out, 3, stride, groups=c_out)
        self.conv3 = ConvNorm(c_out, c_out)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.conv1(x))
        h = F.gelu(self.conv2(h))  # (B, C_out, H / stride, W / stride)
        out: Tensor = self.conv3(h)
        return out


class WindowAttention(nn.Module):
    """Self-attention inside a window, with one learned bias for each head and distance."""

    attention_bias_idxs: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        y, x = y.flatten(), x.flatten()  # (N,) with N = window²
        distance = (y[:, None] - y).abs() * window + (x[:, None] - x).abs()  # (N, N)
        self.register_buffer("attention_bias_idxs", distance, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n_windows, n, channels = x.shape
        # Queries, keys and values lie side by side within each head, not one after the other.
        qkv = self.qkv(self.norm(x)).view(n_windows, n, self.heads, -1)  # (windows, N, heads, 3d)
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=-1)  # (windows, heads, N, d) each
        bias = self.attention_biases[:, self.attention_bias_idxs]  # (heads, N, N)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (windows, heads, N, d)
        mixed: Tensor = self.proj(out.transpose(1, 2).reshape(n_windows, n, channels))
        return mixed  # (windows, N, C)


class Mlp(nn.Module):
    """Two linear layers behind a normalization."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Attention in windows, a 3×3 convolution per channel, then an MLP."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(channels, heads, window)
        self.mlp = Mlp(channels)
        self.local_conv = ConvNorm(channels, channels, 3, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend_in_windows(x)  # (B, H, W, C)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, H, W, C)
        thought: Tensor = self.mlp(x)
        return x + thought

    def _attend_in_windows(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        side = self.window
        # The official network pads with zeros that take part in the attention; so do we.
        padded = F.pad(x, (0, 0, 0, -w % side, 0, -h % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        tiles = padded.view(b, rows, side, columns, side, c).transpose(2, 3)
        tiles = tiles.reshape(-1, side * side, c)  # (B · rows · columns, window², C)
        mixed = self.attn(tiles).view(b, rows, columns, side, side, c).transpose(2, 3)
        whole: Tensor = mixed.reshape(b, rows * side, columns * side, c)
        return whole[:, :h, :w]  # (B, H, W, C)


class ConvStage(nn.Module):
    """Stage 0: inverted bottlenecks, then a merge; (B, C, H, W) in and out."""

    def __init__(self, channels: int, depth: int, c_next: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MBConv(channels) for _ in range(depth))
        self.downsample = PatchMerging(channels, c_next, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.downsample(x)
        return out


class AttentionStage(nn.Module):
    """Stages 1 to 3: TinyViT blocks, then a merge except after the last; (B, C, H, W) in and out."""

    def __init__(self, stage: int) -> None:
        super().__init__()
        channels, depth, heads, window = STAGES[stage]
        self.blocks = nn.ModuleList(TinyViTBlock(channels, heads, window) for _ in range(depth))
        self.downsample: PatchMerging | None = None
        if stage < 3:
            # MobileSAM keeps 64×64 in its last stage, where TinyViT would halve once more.
            self.downsample = PatchMerging(channels, STAGES[stage + 1][0], stride=2 if stage < 2 else 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C)
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """Encode a normalized, padded image: (B, 3, 1024, 1024) to (B, 256, 64, 64) float32."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(STAGES[0][0])
        self.layers = nn.ModuleList(
            [ConvStage(STAGES[0][0], STAGES[0][1], STAGES[1][0]), *(AttentionStage(i) for i in (1, 2, 3))]
        )
        # The classifier is never run; it is here because the official checkpoint holds it.
        self.norm_head = nn.LayerNorm(STAGES[3][0])
        self.head = nn.Linear(STAGES[3][0], 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(STAGES[3][0], EMBEDDING_CHANNELS, 1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)  # (B, 64, 256, 256)
        for layer in self.layers:
            x = layer(x)  # (B, 128, 128, 128), (B, 160, 64, 64), (B, 320, 64, 64) twice
        embedding: Tensor = self.neck(x)  # (B, 256, 64, 64)
        return embedding.contiguous()
