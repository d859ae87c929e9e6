"""Each part of the objective against its formula, computed by hand or in another way."""

import math

import pytest
import torch
import torch.nn.functional as F

from xalign_dist.config.model import (
    AdversaryConfig,
    FalseNegativeConfig,
    HardnessConfig,
    RegulariserConfig,
    TemperatureConfig,
)
from xalign_dist.errors import TrainingError
from xalign_dist.objective import CollapseGuard
from xalign_dist.objective.adversary import (
    LanguageAdversary,
    adversary_weight,
    contrastive_weight,
    reverse_gradient,
)
from xalign_dist.objective.false_negatives import duplicate_mask, too_similar_mask
from xalign_dist.objective.hardness import log_negative_weights
from xalign_dist.objective.infonce import effective_negatives, info_nce
from xalign_dist.objective.regulariser import fading_weight, structure_divergence
from xalign_dist.objective.smoothing import ExponentialMean
from xalign_dist.objective.temperature import DynamicTemperature


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def not_diagonal(n: int) -> torch.Tensor:
    return ~torch.eye(n, dtype=torch.bool)


def test_exponential_mean_is_debiased() -> None:
    mean = ExponentialMean(0.9)
    assert mean.value.item() == 0.0
    mean.update(torch.tensor(3.0))
    assert mean.value.item() == pytest.approx(3.0)
    mean.update(torch.tensor(1.0))
    assert mean.value.item() == pytest.approx((0.9 * 3 + 1) / 1.9)


def test_temperature_falls_with_progress_and_with_the_gap_and_stays_in_bounds() -> None:
    config = TemperatureConfig(enabled=True, start=0.07, end=0.04, sensitivity=0.3, smoothing=0.0)
    tau = DynamicTemperature(config)
    tau.observe(torch.tensor(0.0), torch.tensor(0.1))
    assert float(tau(0.0)) == pytest.approx(0.07)
    assert float(tau(0.5)) == pytest.approx(math.sqrt(0.07 * 0.04))
    tau.observe(torch.tensor(0.1), torch.tensor(0.1))
    assert float(tau(1.0)) == pytest.approx(0.04 * math.exp(-0.3 * math.tanh(1)))
    tau.observe(torch.tensor(-0.1), torch.tensor(0.1))
    assert float(tau(1.0)) == pytest.approx(0.04 * math.exp(0.3 * math.tanh(1)))
    narrow = DynamicTemperature(config.model_copy(update={"sensitivity": 50.0}))
    narrow.observe(torch.tensor(1.0), torch.tensor(0.1))
    assert float(narrow(0.0)) == pytest.approx(config.minimum)
    narrow.observe(torch.tensor(-1.0), torch.tensor(0.1))
    assert float(narrow(0.0)) == pytest.approx(config.maximum)


def test_temperature_carries_no_gradient_and_off_is_fixed() -> None:
    gap = torch.tensor(0.2, requires_grad=True)
    tau = DynamicTemperature(TemperatureConfig(enabled=True))
    tau.observe(gap, torch.tensor(0.1))
    value = tau(0.3)
    assert isinstance(value, torch.Tensor)
    assert not value.requires_grad
    assert DynamicTemperature(TemperatureConfig(enabled=False, fixed=0.05))(0.9) == 0.05


def test_hardness_weights_have_mean_one_over_negatives_and_ratio_exp_beta() -> None:
    sim, negative = rand(4, 6), torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) > 0.3
    log_w = log_negative_weights(sim, negative, HardnessConfig(enabled=True, beta=2.0))
    assert log_w is not None
    assert torch.all(log_w[~negative] == 0)
    for i in range(4):
        w = log_w[i][negative[i]].exp()
        assert w.mean().item() == pytest.approx(1.0, rel=1e-5)
        s = sim[i][negative[i]]
        assert torch.allclose(w / w[0], torch.exp(2.0 * (s - s[0])), rtol=1e-5)
    assert log_negative_weights(sim, negative, HardnessConfig(enabled=False)) is None
    none_left = log_negative_weights(sim, torch.zeros_like(negative), HardnessConfig(enabled=True))
    assert none_left is not None
    assert torch.isfinite(none_left).all()


def test_duplicates_of_either_side_and_copies_are_masked() -> None:
    src = torch.tensor([1, 2, 1, 4])
    tgt = torch.tensor([10, 20, 30, 20])
    mask = duplicate_mask(src, tgt, tgt, src)
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    expected[1, 3] = expected[3, 1] = True
    assert torch.equal(mask, expected)
    copy = duplicate_mask(
        torch.tensor([1, 2]), torch.tensor([5, 1]), torch.tensor([5, 1]), torch.tensor([1, 2])
    )
    assert copy.tolist() == [[True, True], [False, True]]


def test_too_similar_acts_after_warmup_only() -> None:
    sim = torch.tensor([[0.5, 0.53, 0.51], [0.9, 0.6, 0.1], [0.0, 0.0, 0.7]])
    config = FalseNegativeConfig(delta=0.02, warmup=0.1)
    assert too_similar_mask(sim, sim.diagonal()[:, None], config, 0.05) is None
    mask = too_similar_mask(sim, sim.diagonal()[:, None], config, 0.1)
    assert mask is not None
    assert mask.tolist() == [[False, True, False], [True, False, False], [False, False, False]]


def test_info_nce_is_its_formula_with_weights_and_mask() -> None:
    sim, target = rand(3, 5).double(), torch.tensor([1, 2, 4])
    masked = torch.zeros(3, 5, dtype=torch.bool)
    masked[0, 0] = masked[2, 1] = True
    log_w = rand(3, 5, seed=2).double().scatter(1, target[:, None], 0.0)
    got = info_nce(sim, target, 0.1, masked, log_w)
    for i in range(3):
        terms = [math.exp(log_w[i, j]) * math.exp(sim[i, j] / 0.1) for j in range(5) if not masked[i, j]]
        assert got[i].item() == pytest.approx(
            -math.log(math.exp(sim[i, target[i]] / 0.1) / sum(terms)), rel=1e-4
        )


def test_effective_negatives_between_one_and_all() -> None:
    negative = not_diagonal(5)
    assert torch.allclose(effective_negatives(torch.zeros(5, 5), negative, 0.05, None), torch.full((5,), 4.0))
    sim = torch.zeros(5, 5)
    sim[:, 0], sim[0, 1] = 1.0, 1.0
    assert torch.allclose(effective_negatives(sim, negative, 0.01, None), torch.ones(5))
    assert effective_negatives(sim, torch.zeros_like(negative), 0.05, None).tolist() == [0.0] * 5


def test_structure_divergence_is_kl_and_zero_at_equality() -> None:
    config = RegulariserConfig(reference_temperature=0.05, student_temperature=0.05)
    sim, ref = rand(4, 6), rand(4, 6, seed=5)
    assert torch.allclose(structure_divergence(ref, ref, config), torch.zeros(4), atol=1e-5)
    q, p = torch.softmax(ref.double() / 0.05, 1), torch.softmax(sim.double() / 0.05, 1)
    expected = (q * (q.log() - p.log())).sum(1).float()
    assert torch.allclose(structure_divergence(sim, ref, config), expected, rtol=1e-4)


def test_structure_divergence_of_some_columns_is_that_of_these_columns_alone() -> None:
    config, kept = RegulariserConfig(), not_diagonal(4)
    sim, ref = rand(4, 4).requires_grad_(), rand(4, 4, seed=5)
    masked = structure_divergence(sim, ref, config, kept)
    alone = structure_divergence(sim[kept].view(4, 3), ref[kept].view(4, 3), config)
    assert torch.allclose(masked, alone, rtol=1e-5)
    masked.sum().backward()
    assert sim.grad is not None
    assert torch.all(sim.grad[~kept] == 0)
    assert torch.isfinite(sim.grad).all()


def test_regulariser_fades_with_accuracy_to_its_floor() -> None:
    config = RegulariserConfig(weight=1.0, floor=0.3)
    assert float(fading_weight(torch.tensor(0.0), config)) == pytest.approx(1.3)
    assert float(fading_weight(torch.tensor(0.75), config)) == pytest.approx(0.55)
    assert float(fading_weight(torch.tensor(1.0), config)) == pytest.approx(0.3)
    assert fading_weight(torch.tensor(0.5), RegulariserConfig(enabled=False)) == 0.0


def test_adversary_ramps_then_decays() -> None:
    config = AdversaryConfig(enabled=True, weight=0.02, ramp=0.2, decay_from=0.6)
    got = [adversary_weight(p, config) for p in (0.0, 0.1, 0.2, 0.6, 0.8, 1.0)]
    assert got == pytest.approx([0.0, 0.01, 0.02, 0.02, 0.01, 0.0])
    assert adversary_weight(0.5, AdversaryConfig(enabled=False)) == 0.0
    assert [
        contrastive_weight(p, AdversaryConfig(enabled=True, warmup=0.2)) for p in (0.0, 0.19, 0.2, 1.0)
    ] == [0, 0, 1, 1]
    assert contrastive_weight(0.0, AdversaryConfig(enabled=True)) == 1.0
    assert contrastive_weight(0.0, AdversaryConfig(enabled=False, warmup=0.2)) == 1.0


def test_reversal_negates_and_scales_the_gradient() -> None:
    x = rand(3, 2).requires_grad_()
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, -0.25 * 2 * x.detach())


def test_discriminator_learns_languages_and_encoder_is_pushed_the_other_way() -> None:
    net = LanguageAdversary(8, 2, 16, seed=3)
    lang = torch.tensor([0, 1] * 32)
    x = F.normalize(rand(64, 8) + 2 * lang[:, None] * torch.eye(8)[0], dim=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        net(x, lang, 0.0).mean().backward()
        optimizer.step()
    assert net(x, lang, 0.0).mean().item() < 0.1
    leaf = x.clone().requires_grad_()
    loss = net(leaf, lang, 1.0).mean()
    loss.backward()
    assert leaf.grad is not None
    # A descent step on the reversed gradient makes the languages harder to tell apart.
    assert net(leaf.detach() - 5.0 * leaf.grad, lang, 1.0).mean() > loss.detach()
    same = LanguageAdversary(8, 2, 16, seed=3)
    assert torch.equal(same.hidden.weight, LanguageAdversary(8, 2, 16, seed=3).hidden.weight)


def test_guard_warns_then_raises_naming_what_it_saw(caplog: pytest.LogCaptureFixture) -> None:
    guard = CollapseGuard(patience=3)
    fallen = {"off_diagonal": 0.9991, "spread": 1e-4, "uniformity": -0.003, "accuracy": 0.02}
    healthy = fallen | {"off_diagonal": 0.7, "spread": 0.05}
    guard.check(1, fallen)
    guard.check(2, healthy)
    guard.check(3, fallen)
    guard.check(4, fallen)
    assert caplog.text.count("collapsed") == 2
    with pytest.raises(TrainingError, match=r"step 5: .*0\.9991.*uniformity -0\.003"):
        guard.check(5, fallen)
