"""The fast decoder against the plain one, which is itself tested equal to the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam_droplet.segmentation.engines import Engines, why_no_openvino
from sam_droplet.segmentation.fast_decoder import MAX_TOKENS, FastMaskDecoder, SharedImage
from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.segmentation.sam_masks import decoder_for

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def fast(our_sam: MobileSam) -> FastMaskDecoder:
    return FastMaskDecoder(our_sam)


@pytest.fixture(scope="module")
def shared(fast: FastMaskDecoder, embedding: Tensor) -> SharedImage:
    return fast.share(embedding)


def random_prompts(count: int, n_points: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(count * 100 + n_points)
    points = torch.rand(count, n_points, 2, generator=rng) * 1024
    labels = torch.randint(-1, 4, (count, n_points), generator=rng)
    return points, labels


@pytest.mark.parametrize(("count", "n_points"), [(1, 2), (3, 2), (2, 1), (2, 5), (1, MAX_TOKENS - 5)])
def test_logits_and_quality_equal_those_of_the_plain_decoder(
    our_sam: MobileSam,
    fast: FastMaskDecoder,
    shared: SharedImage,
    embedding: Tensor,
    count: int,
    n_points: int,
) -> None:
    points, labels = random_prompts(count, n_points)
    expected, expected_iou = our_sam.decode(embedding, points, labels)
    logits, iou = fast.decode(shared, our_sam.prompt_encoder(points, labels))
    assert logits.shape == (count, 4, 256, 256)
    assert expected.std() > 0.5
    assert (logits - expected).abs().max() < TOLERANCE
    assert (iou - expected_iou).abs().max() < 1e-4
    assert ((logits > 0) == (expected > 0)).float().mean() > 0.9999


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_equality_holds_for_weak_and_strong_embeddings(
    our_sam: MobileSam, fast: FastMaskDecoder, embedding: Tensor, scale: float
) -> None:
    points, labels = random_prompts(1, 2)
    expected, _ = our_sam.decode(embedding * scale, points, labels)
    logits, _ = fast.decode(fast.share(embedding * scale), our_sam.prompt_encoder(points, labels))
    assert (logits - expected).abs().max() < TOLERANCE


def test_a_window_holds_the_same_logits_as_the_whole_mask(
    our_sam: MobileSam, fast: FastMaskDecoder, shared: SharedImage
) -> None:
    answer = fast.answer(shared, our_sam.prompt_encoder(*random_prompts(2, 2)))
    masks = torch.tensor([3, 0])
    whole = fast.draw(shared, answer, 1, masks)
    x0, y0, x1, y1 = 5, 40, 23, 64
    part = fast.draw(shared, answer, 1, masks, (x0, y0, x1, y1))
    assert part.shape == (2, 4 * (y1 - y0), 4 * (x1 - x0))
    torch.testing.assert_close(part, whole[:, 4 * y0 : 4 * y1, 4 * x0 : 4 * x1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_what_is_drawn_where_it_is_present_is_all_that_rises_above_the_level(
    blob_sam: MobileSam, embedding: Tensor, level: float
) -> None:
    fast = FastMaskDecoder(blob_sam)
    shared = fast.share(embedding)
    points, _ = random_prompts(6, 2)
    labels = torch.tensor([1, -1]).expand(6, 2)
    answer = fast.answer(shared, blob_sam.prompt_encoder(points, labels))
    masks, drawn_in_part = torch.tensor([1, 2, 3]), 0
    for i in range(6):
        whole = fast.draw(shared, answer, i, masks)
        present = fast.draw_present(shared, answer, i, masks, level)
        above = whole > level
        assert above.any()
        assert torch.equal(present > level, above)
        torch.testing.assert_close(present[above], whole[above], atol=1e-4, rtol=0)
        drawn_in_part += int(not torch.allclose(present, whole, atol=1e-4))
    assert drawn_in_part == 6


def test_a_mask_all_over_the_picture_is_drawn_whole(
    our_sam: MobileSam, fast: FastMaskDecoder, shared: SharedImage
) -> None:
    answer = fast.answer(shared, our_sam.prompt_encoder(*random_prompts(1, 2)))
    masks = torch.tensor([0, 2])
    whole = fast.draw(shared, answer, 0, masks)
    assert torch.equal(fast.draw_present(shared, answer, 0, masks, -100.0), whole)


def test_a_large_update_that_cancels_the_base_stays_accurate(our_sam: MobileSam, embedding: Tensor) -> None:
    """The variance is found from inner products; an update against the base is its worst case."""
    strong = MobileSam()
    strong.load_state_dict(our_sam.state_dict())
    with torch.no_grad():
        for layer in strong.mask_decoder.transformer.layers:
            layer.cross_attn_image_to_token.out_proj.weight *= 30  # type: ignore[union-attr, operator]
    points, labels = random_prompts(2, 2)
    expected, _ = strong.decode(embedding, points, labels)
    fast = FastMaskDecoder(strong)
    with torch.no_grad():
        logits, _ = fast.decode(fast.share(embedding), strong.prompt_encoder(points, labels))
    assert (logits - expected).abs().max() < TOLERANCE * max(1.0, float(expected.abs().max()) / 20)


@pytest.mark.skipif(why_no_openvino() is not None, reason="OpenVINO is not installed")
def test_the_compiled_decoder_answers_and_draws_the_same(
    our_sam: MobileSam, fast: FastMaskDecoder, shared: SharedImage, tmp_path: Path
) -> None:
    compiled = decoder_for(our_sam, Engines("openvino", "cpu", 2, tmp_path))
    assert {path.name.rsplit("-", 1)[0] for path in tmp_path.glob("*.xml")} == {
        "mobile-sam-answer",
        "mobile-sam-draw",
    }
    for count, n_points in ((1, 2), (3, 2), (2, 3)):
        prompt = our_sam.prompt_encoder(*random_prompts(count, n_points))
        expected, expected_iou = fast.decode(shared, prompt)
        logits, iou = compiled.decode(shared, prompt)
        assert (logits - expected).abs().max() < TOLERANCE
        assert (iou - expected_iou).abs().max() < 1e-4
    prompts = our_sam.prompt_encoder(*random_prompts(5, 2))
    threads, n_answers = torch.get_num_threads(), 0
    for one, answer in zip(torch.split(prompts, 1), compiled.answers(shared, prompts), strict=True):
        expected_answer = fast.answer(shared, one)
        assert (answer.iou - expected_answer.iou).abs().max() < 1e-4
        masks = torch.tensor([1, 3])
        drawn = compiled.draw_present(shared, answer, 0, masks, 0.0)
        again = fast.draw_present(shared, expected_answer, 0, masks, 0.0)
        assert (drawn - again).abs().max() < TOLERANCE
        n_answers += 1
    assert n_answers == 5
    assert torch.get_num_threads() == threads
    for _answer in compiled.answers(shared, prompts):  # to stop early leaves nothing running
        break
    assert (compiled.decode(shared, prompts)[0] - fast.decode(shared, prompts)[0]).abs().max() < TOLERANCE
    answer = compiled.answer(shared, our_sam.prompt_encoder(*random_prompts(2, 2)))
    chosen = torch.tensor([3, 1])
    for window in (None, (10, 20, 30, 25)):
        drawn = compiled.draw(shared, answer, 1, chosen, window)
        assert (drawn - fast.draw(shared, answer, 1, chosen, window)).abs().max() < TOLERANCE
