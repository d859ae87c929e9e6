"""The whole objective: off is plain InfoNCE to the bit; every part acts, is traced, and has its switch."""

import pytest
import torch
import torch.nn.functional as F

from xalign_dist.config import ObjectiveConfig
from xalign_dist.errors import ConfigError, DataError
from xalign_dist.objective import BatchMeta, DynamicObjective

N, D = 24, 16
TRACE = {
    *("loss", "tau", "gap", "accuracy", "lambda_R", "lambda_A", "uniformity", "effective_negatives"),
    *("contrastive", "regulariser", "adversary", "masked_share", "off_diagonal", "spread"),
    *("lambda_C", "effective_pairs"),
}


def unit(seed: int, noise_of: torch.Tensor | None = None) -> torch.Tensor:
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x if noise_of is None else noise_of + 0.3 * x, dim=1)


def batch(weights: torch.Tensor | None = None, references: bool = True) -> BatchMeta:
    ref = unit(7)
    return BatchMeta(
        src_key_B=torch.arange(N),
        tgt_key_B=torch.arange(N) + 1000,
        src_lang_B=torch.zeros(N, dtype=torch.int64),
        tgt_lang_B=torch.arange(N) % 3,
        weight_B=torch.ones(N) if weights is None else weights,
        ref_src_BD=ref if references else None,
        ref_tgt_BD=unit(8, ref) if references else None,
    )


def only(part: str) -> ObjectiveConfig:
    off = ObjectiveConfig.infonce().model_dump()
    off[part]["enabled"] = True
    return ObjectiveConfig.model_validate(off)


def gradients(objective: DynamicObjective, meta: BatchMeta, progress: float = 0.4):  # type: ignore[no-untyped-def]
    x, y = unit(1).requires_grad_(), unit(2, unit(1)).requires_grad_()
    out = objective(x, y, meta, progress)
    out.loss.backward()
    return out, x.grad, y.grad


def test_all_off_is_fixed_temperature_cross_entropy_to_the_bit() -> None:
    x, y = unit(1).requires_grad_(), unit(2, unit(1)).requires_grad_()
    labels = torch.arange(N)
    expected = (F.cross_entropy(x @ y.T / 0.05, labels) + F.cross_entropy(y @ x.T / 0.05, labels)) / 2
    expected.backward()
    out, gx, gy = gradients(
        DynamicObjective(ObjectiveConfig.infonce(0.05), D, 4), batch(torch.full((N,), 0.3))
    )
    assert torch.equal(out.loss, expected)
    assert torch.equal(gx, x.grad)
    assert torch.equal(gy, y.grad)
    assert out.trace["loss"] == out.trace["contrastive"] == expected.item()
    assert out.trace["lambda_R"] == out.trace["lambda_A"] == out.trace["masked_share"] == 0


@pytest.mark.parametrize("part", ["temperature", "hardness", "false_negatives", "regulariser", "adversary"])
def test_each_part_alone_changes_the_gradient_and_keeps_the_trace_whole(part: str) -> None:
    torch.manual_seed(0)
    _, plain, _ = gradients(DynamicObjective(ObjectiveConfig.infonce(), D, 4), batch())
    meta = batch()
    if part == "false_negatives":
        meta.tgt_key_B[3] = meta.tgt_key_B[9]
    out, changed, _ = gradients(DynamicObjective(only(part), D, 4), meta)
    assert set(out.trace) == TRACE
    assert not torch.allclose(plain, changed)
    assert {
        "temperature": out.trace["tau"] != 0.05,
        "hardness": True,
        "false_negatives": out.trace["masked_share"] > 0,
        "regulariser": out.trace["lambda_R"] > 0 and out.trace["regulariser"] > 0,
        "adversary": out.trace["lambda_A"] > 0 and out.trace["adversary"] > 0,
    }[part]


@pytest.mark.parametrize("within", [0.0, 1.0])
def test_blocks_of_rows_give_the_same_loss_and_gradient(within: float) -> None:
    settings = ObjectiveConfig.paper().model_dump()
    settings["regulariser"]["within"] = within
    config = ObjectiveConfig.model_validate(settings)
    whole, gx, gy = gradients(DynamicObjective(config, D, 4), batch())
    parts, hx, hy = gradients(DynamicObjective(config, D, 4, block_rows=7), batch())
    assert torch.allclose(whole.loss, parts.loss, rtol=1e-6)
    for one, other in ((gx, hx), (gy, hy)):  # rounding of sums grows with what is summed
        assert (one - other).abs().max() < 1e-6 * one.abs().max()
    assert parts.trace == pytest.approx(whole.trace, rel=1e-5)


def test_within_adds_the_divergence_of_each_side_with_itself() -> None:
    def regulariser(within: float) -> float:
        config = only("regulariser").model_dump()
        config["regulariser"]["within"] = within
        objective = DynamicObjective(ObjectiveConfig.model_validate(config), D, 4)
        return gradients(objective, batch())[0].trace["regulariser"]

    x, y, meta, other = unit(1), unit(2, unit(1)), batch(), ~torch.eye(N, dtype=torch.bool)
    config = ObjectiveConfig().regulariser
    expected = 0.0
    for own, ref in ((x, meta.ref_src_BD), (y, meta.ref_tgt_BD)):
        assert ref is not None
        p = torch.softmax((own @ own.T)[other].view(N, -1).double() / config.student_temperature, 1)
        q = torch.softmax((ref @ ref.T)[other].view(N, -1).double() / config.reference_temperature, 1)
        expected += (q * (q / p).log()).sum(1).mean().item() / 2
    assert regulariser(2.0) - regulariser(0.0) == pytest.approx(2 * expected, rel=1e-4)


def test_confidence_weights_count_relative_to_their_mean() -> None:
    weights = torch.linspace(0.1, 1.0, N)
    config = ObjectiveConfig.infonce(0.05)
    out, _, _ = gradients(DynamicObjective(config, D, 4), batch(weights))
    x, y, labels = unit(1), unit(2, unit(1)), torch.arange(N)
    rows = F.cross_entropy(x @ y.T / 0.05, labels, reduction="none")
    rows = (rows + F.cross_entropy(y @ x.T / 0.05, labels, reduction="none")) / 2
    assert out.loss.item() == pytest.approx(((weights * rows).sum() / weights.sum()).item(), rel=1e-5)
    with pytest.raises(DataError, match="confidences of all pairs"):
        gradients(DynamicObjective(config, D, 4), batch(torch.zeros(N)))


def test_effective_pairs_are_the_share_that_confidences_leave() -> None:
    config = ObjectiveConfig.infonce(0.05)
    for weights, share in (
        (torch.full((N,), 0.3), 1.0),
        (torch.tensor([1.0] * 6 + [0.0] * (N - 6)), 6 / N),
        (torch.tensor([3.0] + [1.0] * (N - 1)), (N + 2) ** 2 / (N * (N + 8))),
    ):
        out, _, _ = gradients(DynamicObjective(config, D, 4), batch(weights))
        assert out.trace["effective_pairs"] == pytest.approx(share)


def test_in_the_adversarial_warm_up_no_pair_is_believed() -> None:
    settings = ObjectiveConfig.paper().model_dump()
    settings["adversary"] |= {"warmup": 0.3, "ramp": 0.1}
    warm = ObjectiveConfig.model_validate(settings)
    for progress, weight in ((0.0, 0.0), (0.29, 0.0), (0.3, 1.0), (0.9, 1.0)):
        out, grad, _ = gradients(DynamicObjective(warm, D, 4), batch(), progress)
        t = out.trace
        assert t["lambda_C"] == weight
        parts = weight * t["contrastive"] + t["lambda_R"] * t["regulariser"] + t["lambda_A"] * t["adversary"]
        assert t["loss"] == pytest.approx(parts, rel=1e-6)
        assert grad is not None
        # The gradient is the sum of what acts: the whole one less the contrastive part where that is off.
        _, full, _ = gradients(
            DynamicObjective(
                ObjectiveConfig.model_validate(
                    settings | {"adversary": settings["adversary"] | {"warmup": 0.0}}
                ),
                D,
                4,
            ),
            batch(),
            progress,
        )
        assert torch.equal(grad, full) == (weight == 1.0)
    with pytest.raises(ValueError, match=r"warmup needs adversary\.enabled and regulariser\.enabled"):
        ObjectiveConfig.model_validate(settings | {"regulariser": {"enabled": False}})


def test_statistics_are_what_they_say() -> None:
    out, _, _ = gradients(DynamicObjective(ObjectiveConfig.paper(), D, 4), batch())
    sim = (unit(1) @ unit(2, unit(1)).T).double()
    off = sim[~torch.eye(N, dtype=torch.bool)]
    rest = sim.masked_fill(torch.eye(N, dtype=torch.bool), -1)
    gap = ((sim.diagonal() - rest.amax(1)).mean() + (sim.diagonal() - rest.amax(0)).mean()) / 2
    hits = (
        (sim.diagonal() > rest.amax(1)).double().mean() + (sim.diagonal() > rest.amax(0)).double().mean()
    ) / 2
    x, y = unit(1).double(), unit(2, unit(1)).double()
    distance = torch.cdist(x, y).square()[~torch.eye(N, dtype=torch.bool)]
    expected = {
        "gap": gap.item(),
        "spread": off.std(correction=0).item(),
        "accuracy": hits.item(),
        "off_diagonal": off.mean().item(),
        "uniformity": torch.exp(-2 * distance).mean().log().item(),
    }
    assert {k: out.trace[k] for k in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_state_continues_and_evaluation_leaves_it_alone() -> None:
    one = DynamicObjective(ObjectiveConfig.paper(), D, 4, seed=1)
    for _ in range(3):
        gradients(one, batch())
    two = DynamicObjective(ObjectiveConfig.paper(), D, 4, seed=2)
    two.load_state_dict(one.state_dict())
    a, ga, _ = gradients(one, batch())
    b, gb, _ = gradients(two, batch())
    assert a.trace == b.trace
    assert torch.equal(ga, gb)
    before = {k: v.clone() for k, v in one.state_dict().items()}
    one.eval()
    gradients(one, batch())
    assert all(torch.equal(before[k], v) for k, v in one.state_dict().items())


def test_discriminator_has_full_gradient_while_the_encoder_is_still_spared() -> None:
    objective = DynamicObjective(only("adversary"), D, 4)
    _, gx, _ = gradients(objective, batch(), progress=0.0)
    _, plain, _ = gradients(DynamicObjective(ObjectiveConfig.infonce(), D, 4), batch(), progress=0.0)
    assert torch.allclose(gx, plain, atol=1e-8)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.parameters())
    assert not list(DynamicObjective(ObjectiveConfig.paper(), D, languages=1).parameters())


def test_structure_term_without_references_is_refused() -> None:
    with pytest.raises(ConfigError, match="no reference vectors"):
        gradients(DynamicObjective(ObjectiveConfig.paper(), D, 4), batch(references=False))
