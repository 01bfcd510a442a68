from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from dino.evaluation.linear import probes as module
from dino.evaluation.linear.features import JointFeature
from dino.evaluation.linear.probes import ProbeBank
from dino.models import build_backbone
from tests.golden import make_backbone, make_linear

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "linear.json"
CPU = torch.device("cpu")


def build_bank(columns: list[slice], *, classes: int = 4, lrs: list[float] | None = None, seed: int = 0) -> ProbeBank:
    return ProbeBank(columns, classes=classes, lrs=lrs or [0.1, 1.0, 5.0], seed=seed, device=CPU)


def draw_batches(
    count: int, *, batch: int = 9, width: int = 12, classes: int = 4
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Features, targets and which images are held out."""
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randn(batch, width, generator=generator),
            torch.randint(classes, (batch,), generator=generator),
            torch.rand(batch, generator=generator) < 0.3,
        )
        for _ in range(count)
    ]


def plain_probe(bank: ProbeBank, feature: int, group: int) -> nn.Linear:
    """torch's own layer with the weights of one probe."""
    columns = slice(group * bank.classes, (group + 1) * bank.classes)
    probe = nn.Linear(len(bank.weights[feature]), bank.classes)
    with torch.no_grad():
        probe.weight.copy_(bank.weights[feature][:, columns].t())
        probe.bias.copy_(bank.biases[feature][columns])
    return probe


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    widths=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=3),
    rates=st.integers(1, 4),
    classes=st.integers(2, 6),
    batch=st.integers(2, 12),
    chunk=st.integers(1, 2000),
)
def test_every_probe_learns_as_a_layer_of_its_own_under_torchs_sgd(
    widths: list[tuple[int, int]], rates: int, classes: int, batch: int, chunk: int
) -> None:
    columns = [slice(start, start + width) for start, width in widths]
    lrs = [0.03 * 3**index for index in range(rates)]
    bank = build_bank(columns, classes=classes, lrs=lrs)
    groups = [(lr, False) for lr in lrs] + ([(lr, True) for lr in lrs] if rates > 1 else [])
    plain = {
        (feature, group): plain_probe(bank, feature, group)
        for feature in range(len(columns))
        for group in range(len(groups))
    }
    optimizers = {
        key: torch.optim.SGD(probe.parameters(), lr=groups[key[1]][0], momentum=0.9) for key, probe in plain.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        for step, (features, targets, held_out) in enumerate(draw_batches(4, batch=batch, classes=classes)):
            held_out[0] = False  # a batch of held-out images alone is a test of its own
            losses = bank.step(features, targets, held_out, factor=1 - 0.2 * step)
            for (feature, group), probe in plain.items():
                lr, trial = groups[group]
                kept = ~held_out if trial else torch.ones_like(held_out)
                loss = F.cross_entropy(probe(features[kept, columns[feature]]), targets[kept])
                optimizer = optimizers[feature, group]
                optimizer.param_groups[0]["lr"] = lr * (1 - 0.2 * step)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if not trial:
                    torch.testing.assert_close(losses[feature, group], loss.detach(), atol=1e-5, rtol=1e-5)
        for (feature, group), probe in plain.items():
            ours = plain_probe(bank, feature, group)
            torch.testing.assert_close(ours.weight, probe.weight, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(ours.bias, probe.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", list(make_linear.CASES))
def test_course_of_the_training_is_the_authors(case: str) -> None:
    golden = json.loads(GOLDEN.read_text())[case]
    backbone = build_backbone(arch="vit_tiny", patch_size=16, img_size=224).eval()
    with torch.no_grad():
        make_backbone.fill(backbone, seed=0)
    # Among others: probes of several features share one joint feature.
    joint = JointFeature(backbone, ["l4", "pool", case]).eval()
    start = make_linear.draw_weight(case)
    lr = make_linear.BASE_LR * make_linear.BATCH / 256
    bank = ProbeBank([joint.columns[case]], classes=make_linear.CLASSES, lrs=[lr / 3, lr], seed=0, device=CPU)
    bank.weights[0].copy_(start.t().repeat(1, 4))
    held_out = torch.zeros(make_linear.BATCH, dtype=torch.bool)
    with torch.no_grad():
        tested = [(joint(images), labels) for images, labels in make_linear.draw_batches(seed=50)]
        for epoch, expected in enumerate(golden["epochs"]):
            factor = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * epoch / make_linear.EPOCHS)))
            losses = [
                bank.step(joint(images), labels, held_out, factor=float(factor))[0, 1]
                for images, labels in make_linear.draw_batches(seed=epoch)
            ]
            assert float(sum(losses)) / len(losses) == pytest.approx(expected["train_loss"], abs=1e-4)
            right, right5, loss = sum(bank.score(*batch)[:, 0, 1] for batch in tested).tolist()
            total = make_linear.BATCH * make_linear.BATCHES
            assert 100 * right / total == pytest.approx(expected["acc1"])
            assert 100 * right5 / total == pytest.approx(expected["acc5"])
            assert loss / total == pytest.approx(expected["loss"], abs=1e-4)
    probe = plain_probe(bank, 0, 1)
    assert make_linear.summary(probe.weight) == pytest.approx(golden["weight"], abs=2e-5)
    assert probe.bias.tolist() == pytest.approx(golden["bias"], abs=2e-5)


def test_a_batch_of_held_out_images_leaves_trial_probes_to_their_momentum() -> None:
    bank = build_bank([slice(0, 12)])
    (features, targets, _), (more, others, _) = draw_batches(2)
    bank.step(features, targets, torch.zeros(9, dtype=torch.bool), factor=1.0)
    before, momentum = bank.weights[0].clone(), bank.state_dict()["momenta"][0].clone()
    bank.step(more, others, torch.ones(9, dtype=torch.bool), factor=1.0)
    lrs = torch.tensor([0.1, 1.0, 5.0]).repeat_interleave(4)
    torch.testing.assert_close(bank.weights[0][:, 12:], before[:, 12:] - 0.9 * momentum[:, 12:] * lrs)
    assert not torch.allclose(bank.weights[0][:, :12], before[:, :12] - 0.9 * momentum[:, :12] * lrs)


def test_scores_are_those_of_each_probe_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = build_bank([slice(0, 5), slice(3, 12)], classes=7)
    for features, targets, held_out in draw_batches(3, classes=7):
        bank.step(features, targets, held_out, factor=1.0)
    features, targets, _ = draw_batches(1, batch=50, classes=7)[0]
    for chunk in (module.CHUNK_BYTES, 1000):
        monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
        for trials in (False, True):
            scores = bank.score(features, targets, trials=trials)
            for feature, part in enumerate(bank.columns):
                for rate in range(3):
                    logits = plain_probe(bank, feature, rate + 3 * trials)(features[:, part]).detach()
                    hits = logits.topk(5, dim=1).indices == targets[:, None]
                    expected = [hits[:, 0].sum(), hits.sum(), F.cross_entropy(logits, targets, reduction="sum")]
                    assert scores[:, feature, rate].tolist() == pytest.approx(
                        [float(each) for each in expected], rel=1e-6
                    )


def test_probes_start_small_alike_for_all_rates_and_as_the_seed_says() -> None:
    bank = build_bank([slice(0, 400), slice(0, 400)], classes=50)
    weight = bank.weights[0].view(400, 6, 50)
    assert float(weight[:, 0].std()) == pytest.approx(0.01, rel=0.02)
    assert torch.equal(weight, weight[:, :1].expand_as(weight))
    assert not bank.biases[0].any()
    assert not torch.equal(bank.weights[0], bank.weights[1])
    assert torch.equal(bank.weights[0], build_bank([slice(0, 400)], classes=50).weights[0])
    assert not torch.equal(bank.weights[0], build_bank([slice(0, 400)], classes=50, seed=1).weights[0])


def test_one_learning_rate_needs_no_trial_probes() -> None:
    bank = build_bank([slice(0, 12)], lrs=[0.1])
    assert not bank.trials
    assert bank.weights[0].shape == (12, 4)
