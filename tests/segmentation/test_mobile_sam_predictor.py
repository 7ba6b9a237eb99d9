"""MobileSAM behind the seam: one encoding per image, candidates, and what it says of doubtful answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from sam_droplet.errors import InputError
from sam_droplet.imaging.images import Image, encode_png, load_image
from sam_droplet.segmentation.checkpoints import file_sha256
from sam_droplet.segmentation.embedding_cache import EmbeddingCache
from sam_droplet.segmentation.mobile_sam import MobileSam
from sam_droplet.segmentation.mobile_sam_predictor import CachedMobileSam, load_mobile_sam_predictor
from sam_droplet.segmentation.prompts import Prompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, blob_sam: MobileSam) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    save_file(blob_sam.state_dict(), folder / "blobs.safetensors")
    return folder


def loaded(folder: Path) -> CachedMobileSam:
    cache = EmbeddingCache(folder / "embeddings", memory_bytes=10_000_000, disk_bytes=100_000_000)
    return load_mobile_sam_predictor(folder / "blobs.safetensors", "cpu", cache)


@pytest.fixture(scope="module")
def sam(folder: Path) -> CachedMobileSam:
    return loaded(folder)


@pytest.fixture(scope="module")
def image(view: np.ndarray) -> Image:
    return load_image(encode_png(view), "blobs.png")


def test_answer_names_the_weights_and_how_long_each_stage_took(
    sam: CachedMobileSam, image: Image, folder: Path
) -> None:
    answer = sam.predict(image, Prompt(((210.0, 150.0),), (1,)))
    assert answer.model.name == "mobile-sam"
    assert answer.model.sha256 == file_sha256(folder / "blobs.safetensors")
    assert len(answer.masks) == 1
    assert answer.message is None
    assert set(answer.timings_s) == {"embed", "decode"}
    assert answer.parameters["prompt"]["points_xy"] == ((210.0, 150.0),)


def test_a_lone_click_gives_the_most_trusted_candidate(sam: CachedMobileSam, image: Image) -> None:
    click = ((210.0, 150.0),), (1,)
    (best,) = sam.predict(image, Prompt(*click)).masks
    candidates = sam.predict(image, Prompt(*click, multimask=True)).masks
    assert 2 <= len(candidates) <= 3
    assert candidates[0].score == best.score
    assert np.array_equal(candidates[0].bits, best.bits)


def test_an_image_is_encoded_once_also_by_another_process(
    sam: CachedMobileSam, image: Image, folder: Path
) -> None:
    first = sam.predict(image, Prompt(((210.0, 150.0),), (1,)))
    again = sam.predict(image, Prompt(((210.0, 150.0),), (1,)))
    assert again.timings_s["embed"] < 0.1
    # A second predictor over the same folder stands for another worker, or a restart.
    other = loaded(folder).predict(image, Prompt(((210.0, 150.0),), (1,)))
    assert other.timings_s["embed"] < 0.5
    for answer in (again, other):
        assert answer.masks[0].box_xyxy == first.masks[0].box_xyxy
        assert answer.masks[0].bits.tobytes() == first.masks[0].bits.tobytes()


def test_boxes_are_ordered_and_cut_to_the_image(sam: CachedMobileSam, image: Image) -> None:
    straight = sam.predict(image, Prompt(box_xyxy=(170.0, 70.0, 230.0, 130.0)))
    turned = sam.predict(image, Prompt(box_xyxy=(230.0, 130.0, 170.0, 70.0)))
    assert straight.masks[0].box_xyxy == turned.masks[0].box_xyxy
    with pytest.raises(InputError, match="outside the image"):
        sam.predict(image, Prompt(((1e4, 5.0),), (1,)))


def test_an_outline_of_most_of_the_image_is_called_background(sam: CachedMobileSam, view: np.ndarray) -> None:
    # On a sliver of an image the round mask about the click covers nearly everything.
    sliver = load_image(encode_png(view[100:140, 100:500]), "sliver.png")
    points = tuple((x, 20.0) for x in range(20, 320, 40))
    answer = sam.predict(sliver, Prompt(points, (1,) * len(points)))
    assert answer.masks[0].area_px > 0.5 * sliver.width * sliver.height
    assert answer.message is not None
    assert "background" in answer.message
