"""MobileSAM against the reference implementation, on identical random weights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sam_droplet.errors import InputError, ModelUnavailable
from sam_droplet.segmentation.mobile_sam import MobileSam, ModelFrame, load_mobile_sam, prompt_points

TOLERANCE = 1e-4

# Points in pixel indices of the 1024 frame, their labels, and a box, as the reference takes them.
PROMPTS: dict[str, tuple[list[list[float]], list[int], list[float] | None]] = {
    "one point": ([[500, 375]], [1], None),
    "two points, one negative": ([[500, 375], [610.5, 42.25]], [1, 0], None),
    "box": ([], [], [120, 80, 410, 515]),
    "box and points": ([[200, 300], [130, 90]], [1, 0], [120, 80, 410, 515]),
    "outside the image": ([[1023, 1023]], [1], None),
}


def ask_reference(
    model: Any, embedding: Tensor, prompt: tuple[list[list[float]], list[int], list[float] | None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the reference's prompt embedding, four low-resolution masks and their quality."""
    points_xy, labels, box_xyxy = prompt
    points = (torch.tensor([points_xy]), torch.tensor([labels])) if points_xy else None
    boxes = None if box_xyxy is None else torch.tensor([box_xyxy])
    with torch.no_grad():
        sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=None)
        logits, iou = model.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
    return sparse, logits, iou


def our_prompt(
    prompt: tuple[list[list[float]], list[int], list[float] | None],
) -> tuple[Tensor, Tensor]:
    """Move a reference prompt from pixel indices to the image-corner frame, as a batch of one."""
    points_xy, labels, box_xyxy = prompt
    corner_xy = np.array(points_xy).reshape(-1, 2) + 0.5
    corner_box = None if box_xyxy is None else np.array(box_xyxy) + 0.5
    points, kinds = prompt_points(corner_xy, np.array(labels), corner_box)
    return torch.from_numpy(points)[None], torch.from_numpy(kinds)[None]


def test_state_dict_has_the_official_names_shapes_and_types(reference_sam: Any) -> None:
    theirs, ours = reference_sam.state_dict(), MobileSam().state_dict()
    assert {n: (v.shape, v.dtype) for n, v in ours.items()} == {
        n: (v.shape, v.dtype) for n, v in theirs.items()
    }


@pytest.mark.parametrize("hw", [(600, 800), (1500, 700), (1024, 1024), (37, 5)])
def test_preprocess_matches_the_reference(
    reference: ModuleType, reference_sam: Any, our_sam: MobileSam, hw: tuple[int, int]
) -> None:
    view = np.random.default_rng(1).integers(0, 256, (*hw, 3), np.uint8)
    resized = reference.SamPredictor(reference_sam).transform.apply_image(view)
    theirs = reference_sam.preprocess(torch.as_tensor(resized).permute(2, 0, 1)[None])
    ours = our_sam.preprocess(view)
    assert ours.shape == (1, 3, 1024, 1024)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_encoder_agrees_with_the_reference(
    reference: ModuleType, reference_sam: Any, embedding: Tensor, view: np.ndarray
) -> None:
    predictor = reference.SamPredictor(reference_sam)
    predictor.set_image(view)
    assert embedding.shape == (1, 256, 64, 64)
    assert embedding.std() > 0.1
    torch.testing.assert_close(embedding, predictor.features, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompt_encoder_and_decoder_agree_with_the_reference(
    reference_sam: Any, our_sam: MobileSam, embedding: Tensor, name: str
) -> None:
    their_prompt, their_logits, their_iou = ask_reference(reference_sam, embedding, PROMPTS[name])
    points, labels = our_prompt(PROMPTS[name])
    with torch.no_grad():
        ours = our_sam.prompt_encoder(points, labels)
    # The official code puts points before the box, and so do we; a padding point comes last.
    torch.testing.assert_close(ours, their_prompt, atol=TOLERANCE, rtol=0)
    logits, iou = our_sam.decode(embedding, points, labels)
    assert logits.shape == (1, 4, 256, 256)
    assert logits.std() > 0.5
    torch.testing.assert_close(logits, their_logits, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(iou, their_iou, atol=TOLERANCE, rtol=0)


def test_a_batch_of_prompts_gives_what_each_gives_alone(our_sam: MobileSam, embedding: Tensor) -> None:
    points = torch.tensor([[[100.0, 200.0], [0, 0]], [[700.0, 500.0], [0, 0]]])
    labels = torch.tensor([[1, -1], [1, -1]])
    together, _ = our_sam.decode(embedding, points, labels)
    alone, _ = our_sam.decode(embedding, points[1:], labels[1:])
    torch.testing.assert_close(together[1:], alone, atol=TOLERANCE, rtol=0)


def test_refining_an_earlier_answer_agrees_with_the_reference(
    reference_sam: Any, our_sam: MobileSam, embedding: Tensor
) -> None:
    earlier = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(3)) * 5
    with torch.no_grad():
        _, dense = reference_sam.prompt_encoder(points=None, boxes=None, masks=earlier)
        ours = our_sam.prompt_encoder.embed_mask(earlier)
        torch.testing.assert_close(ours, dense, atol=TOLERANCE, rtol=0)
    points, labels = our_prompt(PROMPTS["one point"])
    refined, _ = our_sam.decode(embedding, points, labels, earlier)
    fresh, _ = our_sam.decode(embedding, points, labels)
    assert (refined - fresh).abs().max() > 0.01


def test_dense_positions_agree_with_the_reference(reference_sam: Any, our_sam: MobileSam) -> None:
    theirs = reference_sam.prompt_encoder.get_dense_pe()[0].flatten(1).T
    ours = our_sam.prompt_encoder.pe_layer.dense()
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_load_reads_the_official_layout(
    reference_sam: Any, our_sam: MobileSam, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = reference_sam.state_dict()
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    loaded = load_mobile_sam(path)
    assert not loaded.training
    expected = our_sam.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_load_refuses_another_layout_and_runs_no_pickled_code(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"layer.weight": torch.zeros(3)}, other)
    with pytest.raises(ModelUnavailable, match=r"official mobile_sam\.pt layout"):
        load_mobile_sam(other)

    class Bomb:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "exploded"), "w"))

    bomb = tmp_path / "bomb.pt"
    torch.save({"weights": Bomb()}, bomb)
    with pytest.raises(ModelUnavailable):
        load_mobile_sam(bomb)
    assert not (tmp_path / "exploded").exists()
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not weights")
    with pytest.raises(ModelUnavailable):
        load_mobile_sam(garbage)
    with pytest.raises(ModelUnavailable, match="not at"):
        load_mobile_sam(tmp_path / "absent.pt")


def test_frame_keeps_corners_and_uses_the_official_rounding(reference: ModuleType) -> None:
    official = reference.predictor.ResizeLongestSide
    for hw in [(600, 800), (1501, 700), (37, 41), (1024, 1024)]:
        frame = ModelFrame(*hw)
        assert frame.input_hw == official.get_preprocess_shape(*hw, 1024)
        corner = frame.to_model_xy(np.array([[hw[1], hw[0]]]))
        np.testing.assert_allclose(corner[0], frame.input_hw[::-1], rtol=1e-6)


def test_encode_refuses_what_is_not_an_rgb_view(our_sam: MobileSam) -> None:
    with pytest.raises(InputError, match="uint8"):
        our_sam.encode(np.zeros((10, 10), np.uint8))
    with pytest.raises(InputError, match="float"):
        our_sam.encode(np.zeros((10, 10, 3)))  # type: ignore[arg-type]
