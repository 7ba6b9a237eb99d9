"""At the start of training, a click already means a place."""

from __future__ import annotations

import torch

from sam_droplet.segmentation.mobile_sam import POSITIVE, MobileSam, split_heads
from sam_droplet.training.prompt_start import begin_with_places


def _clicked_cells_found(sam: MobileSam) -> float:
    """Return how often a click's query likes its own cell or a neighbour best, by place alone."""
    clicks = torch.rand(64, 1, 2, generator=torch.Generator().manual_seed(3)) * 1024
    encoder, attention = sam.prompt_encoder, sam.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    with torch.inference_mode():
        tokens = encoder(clicks, torch.full((64, 1), POSITIVE))
        query = split_heads(attention.q_proj(tokens))
        key = split_heads(attention.k_proj(encoder.pe_layer.dense()[None]))
        best = (query @ key.transpose(-2, -1)).sum(dim=1)[:, 0].argmax(dim=1)
    cell = (clicks[:, 0] / 16).long()
    off = torch.stack([best % 64, best // 64], dim=1) - cell
    return float((off.abs().amax(dim=1) <= 1).float().mean())


def test_a_click_finds_its_cell_from_the_start_and_did_not_before() -> None:
    torch.manual_seed(1)
    sam = MobileSam()
    before = _clicked_cells_found(sam)
    begin_with_places(sam)
    assert _clicked_cells_found(sam) > 0.95
    assert before < 0.2


def test_the_network_and_its_file_stay_what_they_are() -> None:
    sam, plain = MobileSam(), MobileSam()
    begin_with_places(sam)
    assert {k: v.shape for k, v in sam.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
