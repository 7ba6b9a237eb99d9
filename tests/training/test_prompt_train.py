"""Crops stand for windows of the frame, losses and corrections do what they say, and runs go on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from sam_droplet.cli import main
from sam_droplet.errors import InputError
from sam_droplet.segmentation.mobile_sam import (
    BOX_TOP_LEFT,
    PADDING,
    MobileSam,
    load_mobile_sam,
    save_mobile_sam,
)
from sam_droplet.segmentation.sam_masks import MobileSamPredictor
from sam_droplet.segmentation.tiny_vit import STAGES, TinyViTBlock
from sam_droplet.training.prompt_corrections import largest_error, loosened_boxes, next_points
from sam_droplet.training.prompt_crops import PromptCrops
from sam_droplet.training.prompt_losses import dense_loss, drawing_loss
from sam_droplet.training.prompt_network import LearningSam, first_prompts, window_positions
from sam_droplet.training.prompt_practice import mean_iou, practise
from sam_droplet.training.prompt_recipes import ANSWERS, PLACES, RECIPES, Stage
from sam_droplet.training.prompt_train import WEIGHTS, train_mobile_sam
from sam_droplet.training.scene_store import Rendering, SceneStore

SMOKE = RECIPES["smoke"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return LearningSam(MobileSam())


def disc(x, y, radius, size=64):
    rows, columns = np.mgrid[:size, :size] + 0.5
    return torch.from_numpy(np.hypot(columns - x, rows - y) < radius)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("first_px", [224, 896])
@torch.no_grad()
def test_a_crop_has_the_attention_windows_of_the_whole_frame(stage, first_px):
    """Of 224 px from a multiple of it, and of the last 128 px, which the frame itself pads."""
    torch.manual_seed(1)
    channels, _, heads, window = STAGES[stage]
    block = TinyViTBlock(channels, heads, window).eval()
    torch.nn.init.normal_(block.attn.attention_biases)
    stride = 8 if stage == 1 else 16
    side = 1024 // stride
    x = torch.randn(1, side, side, channels)
    cells = slice(first_px // stride, min(1024, first_px + 224) // stride)
    whole = block._attend_in_windows(x)[:, cells, cells]
    torch.testing.assert_close(block._attend_in_windows(x[:, cells, cells]), whole)


@torch.no_grad()
def test_a_window_has_the_positions_of_its_cells(network):
    encoder = network.sam.prompt_encoder
    positions = window_positions(encoder.pe_layer.dense(), torch.tensor([[5, 9], [0, 0]]), 14)
    at = encoder.pe_layer(torch.tensor([(5 + 3 + 0.5) * 16, (9 + 2 + 0.5) * 16]))
    torch.testing.assert_close(positions[0, 2 * 14 + 3], at)


@torch.no_grad()
def test_a_crop_that_is_the_frame_is_answered_as_in_the_product(network):
    embedding = torch.randn(1, 256, 64, 64)
    clicks, boxes = (
        torch.tensor([[300.0, 200.0], [0, 0]]),
        torch.tensor([[0.0, 0, 0, 0], [100, 120, 400, 500]]),
    )
    prompts = first_prompts(clicks, boxes, torch.tensor([False, True]))
    assert prompts.lone_click.tolist() == [True, False]
    assert (prompts.labels[0, 1], prompts.labels[1, 0]) == (PADDING, BOX_TOP_LEFT)
    logits, iou = network.eval().decode(embedding, torch.zeros(1, 2, dtype=torch.long), prompts)
    expected, expected_iou = network.sam.decode(embedding, prompts.points_xy, prompts.labels)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(iou, expected_iou, atol=1e-4, rtol=1e-4)


def test_what_lies_beyond_a_picture_is_zero_as_in_the_product(network):
    view = np.random.default_rng(0).integers(0, 256, (40, 1024, 3), np.uint8)
    canvas = np.full((1024, 1024, 3), 7, np.uint8)
    canvas[:40] = view
    crops = torch.from_numpy(canvas).permute(2, 0, 1)[None]
    seen = network.preprocess(crops, torch.tensor([[40, 1024]]))
    torch.testing.assert_close(seen, network.sam.preprocess(view))


def loss_of(logits, lone, truth=None, predicted=None):
    truth = disc(32, 32, 12) if truth is None else truth
    logits = torch.stack([torch.nn.functional.avg_pool2d(m[None].float(), 2)[0] for m in logits])[None]
    predicted = torch.zeros(1, 4) if predicted is None else predicted
    box = torch.tensor([[40.0, 40.0, 88.0, 88.0]])
    return drawing_loss(40 * logits - 20, predicted, 4 * truth[None].byte(), box, torch.tensor([lone]))


def test_a_right_drawing_costs_little_and_an_empty_or_a_full_one_much():
    right, empty, full = disc(32, 32, 12), torch.zeros(64, 64, dtype=bool), torch.ones(64, 64, dtype=bool)
    cost = [
        float((loss.mask + loss.dice)[0]) for loss in (loss_of([m] * 4, False) for m in (right, empty, full))
    ]
    assert cost[0] < 0.5
    assert min(cost[1:]) > 3 * cost[0]


def test_of_a_lone_click_the_best_of_three_counts_and_of_others_mask_0():
    right, wrong = disc(32, 32, 12), disc(10, 10, 5)
    trusted = torch.tensor([[0.9, 0.1, 0.8, 0.1]])
    lone = loss_of([wrong, wrong, right, wrong], True, predicted=trusted)
    assert lone.iou[0] > 0.9
    assert lone.mask[0] < 0.1 * loss_of([wrong] * 4, True).mask[0]
    assert loss_of([wrong, right, right, right], False, predicted=trusted).iou[0] == 0
    # Trust in each of the three is judged by its own IoU.
    assert loss_of([wrong, wrong, right, wrong], True).quality > lone.quality


def test_the_dense_answer_costs_nothing_where_it_is_right():
    here = disc(8, 8, 5, 16)
    truth = torch.stack([here * share for share in (1.0, 0.4, 1.6, -0.5, 0.25)])[None]
    right = torch.cat([40 * truth[:, :1] - 20, torch.logit(truth[:, 1:2], 1e-6), truth[:, 2:]], dim=1)
    assert dense_loss(right, truth) < 1e-3
    assert dense_loss(right * torch.tensor([1, 1, 1, 1, -1.0])[:, None, None], truth) > 0.1
    assert dense_loss(torch.zeros_like(right), truth) > 0.5


def test_corrections_lie_in_the_errors_and_say_what_is_wrong():
    generator = torch.Generator().manual_seed(0)
    wanted = torch.stack([disc(20, 20, 10)] * 60)
    drawn = wanted.clone()
    drawn[:30, :, :18] = False  # much is missing
    drawn[30:] |= disc(48, 48, 6)  # something is too much
    points, labels = next_points(drawn, wanted, torch.ones_like(wanted), generator)
    columns, rows = (points / 2).long().T
    inside = wanted[torch.arange(60), rows, columns]
    assert torch.equal(inside, labels == 1)
    assert (labels[:30] == 1).float().mean() > 0.6
    assert (labels[30:] == 0).float().mean() > 0.6
    point, label = largest_error(drawn[[0, 59]], wanted[[0, 59]])
    assert label.tolist() == [1, 0]
    assert (point[1] / 2 - 48).abs().max() < 2


def test_a_perfect_drawing_is_pointed_at_inside():
    wanted = torch.stack([disc(20, 20, 10)] * 20)
    points, labels = next_points(wanted, wanted, torch.ones_like(wanted), torch.Generator().manual_seed(0))
    columns, rows = (points / 2).long().T
    assert torch.equal(wanted[torch.arange(20), rows, columns], labels == 1)


def test_half_of_the_boxes_are_loose():
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]]).repeat(200, 1)
    drawn = loosened_boxes(boxes, torch.Generator().manual_seed(0))
    exact = (drawn == boxes).all(dim=1).float().mean()
    assert 0.35 < exact < 0.65
    assert ((drawn - boxes).abs() <= torch.tensor([3.7, 7.3, 3.7, 7.3])).all()


def test_practice_works_in_half_precision_and_reaches_every_weight(network, tmp_path):
    store = SceneStore(tmp_path, 5, 192)
    with Rendering(store, 1, 0):
        crops = PromptCrops(store, 1, 64, 2, 9)
    batch = default_collate([crops[0], crops[1]])
    network.train()
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        embedding = network.encode(batch["picture"], batch["seen_hw"])
        rounds = list(practise(network, embedding, batch, 3, torch.Generator().manual_seed(3)))
        loss = dense_loss(network.dense(embedding), batch["dense"])
    (loss + sum((r.mask + r.dice + r.quality).mean() for r in rounds)).backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert {name for name in idle if "norm_head" not in name and ".head." not in name} == set()
    figures = mean_iou(network.eval(), batch)
    assert set(figures) == {"click1", "click2", "click3", "box"}


def test_a_few_steps_on_the_same_crops_are_learned(tmp_path):
    """Not that masks come out, which takes hundreds of steps, but that every loss falls."""
    store = SceneStore(tmp_path / "scenes", 2026, 192)
    recipe = replace(SMOKE, stages=(Stage(64, 2, 2, 1.0, 1e-3),), scene_px=192, distinct_crops=2, steps=12)
    train_mobile_sam(replace(recipe, rounds=1, note_every_s=0.0), tmp_path, lambda line: None)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    costs = [line["training"] for line in lines if "training" in line]
    assert store.available() == [0, 1]
    assert len(costs) == 12
    for part in ("mask", "dense"):
        assert np.mean([c[part] for c in costs[-3:]]) < 0.8 * np.mean([c[part] for c in costs[:2]])


@pytest.mark.parametrize(("learns", "moves"), [(PLACES, "image_encoder"), (ANSWERS, "mask_decoder")])
def test_a_stage_may_teach_one_part_alone(tmp_path, learns, moves):
    stage = Stage(64, 2, 4, 1.0, 1e-3, learns=learns, practices=2 if learns == ANSWERS else 1)
    recipe = replace(SMOKE, stages=(stage,), scene_px=192, steps=4, rounds=1, average_decay=0.0)
    torch.manual_seed(3)
    begun = MobileSam()
    save_mobile_sam(begun, tmp_path / "begun.safetensors", {})
    weights = train_mobile_sam(recipe, tmp_path, lambda line: None, start_from=tmp_path / "begun.safetensors")
    before, after = (load_mobile_sam(p).state_dict() for p in (tmp_path / "begun.safetensors", weights))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moves in moved
    assert moved <= ({moves} if learns == PLACES else {"mask_decoder", "prompt_encoder"})


def test_a_run_pauses_goes_on_and_writes_weights_that_the_product_loads(tmp_path):
    lines = []
    train_mobile_sam(SMOKE, tmp_path, lines.append, pause_after_minutes=1e-6)
    assert any("Paused" in line for line in lines)
    path = train_mobile_sam(SMOKE, tmp_path, lines.append)
    assert sum("Stage of" in line for line in lines) == 3  # the first twice, for the pause
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == [1, SMOKE.steps]
    assert set(curve[-1]["held_out_iou"]) == {"click1", "click2", "click3", "box"}
    assert path == tmp_path / WEIGHTS
    assert path.stat().st_size <= 21_000_000
    loaded = load_mobile_sam(path)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in loaded.parameters())
    assert MobileSamPredictor(loaded).place == "cpu"
    train_mobile_sam(SMOKE, tmp_path, lines.append)
    assert lines[-1].startswith(f"Step {SMOKE.steps}, 100.0 %")
    with pytest.raises(InputError, match="another recipe"):
        train_mobile_sam(replace(SMOKE, seed=1), tmp_path, lines.append)


def test_progress_is_counted_in_steps_or_in_minutes():
    gpu = RECIPES["gpu"]
    assert gpu.progress(gpu.steps // 2, 0.0) == pytest.approx(0.5)
    timed = replace(gpu, minutes=10.0)
    assert timed.progress(7, 300.0) == pytest.approx(0.5)
    assert [timed.stage_at(p).crop_px for p in (0.0, 0.6, 0.99, 1.0)] == [224, 448, 1024, 1024]
    rates = [timed.learning_rate(1000, p) for p in np.linspace(0, 0.49, 20)]
    assert rates == sorted(rates, reverse=True)
    assert timed.learning_rate(0, 0.0) < 0.01 * rates[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--minutes", "3"], "--minutes work with --model mobile-sam only"),
        (["--recipe", "proof"], "DropletNet has the recipes"),
        (["--model", "mobile-sam", "--minutes", "0"], "--minutes must be a number above 0"),
    ],
)
def test_options_that_do_not_fit_are_told(arguments, sentence, capsys, tmp_path):
    assert main(["train", *arguments, "--folder", str(tmp_path)]) == 1
    assert sentence in capsys.readouterr().err
