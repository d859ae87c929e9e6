import pytest
import torch

from xalign_dist.encoder.head import build_head, constrain, fits
from xalign_dist.errors import ConfigError

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_no_projection_is_no_head():
    assert build_head("none", 8) is None


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_an_untrained_head_of_the_same_width_changes_nothing(kind):
    torch.testing.assert_close(build_head(kind, 8)(X), X, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_that_changes_the_width_starts_the_same_everywhere(kind):
    one, other = build_head(kind, 8, 3), build_head(kind, 8, 3)
    assert one(X).shape == (5, 3)
    assert torch.equal(one(X), other(X))
    assert build_head(kind, 8, 12)(X).shape == (5, 12)


def train(head):
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(10):
        loss = (head(X) - torch.roll(X, 1, dims=1)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("out", [8, 5, 12])
def test_an_orthogonal_head_moves_and_stays_orthogonal(out):
    head = build_head("linear", 8, out, orthogonal=True)
    before = head[0].weight.detach().clone()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        head(X).cos().sum().backward()
        optimizer.step()
    after = head[0].weight.detach()
    assert (after - before).abs().max() > 0.01
    small = after.T @ after if out >= 8 else after @ after.T
    torch.testing.assert_close(small, torch.eye(min(out, 8)), atol=1e-5, rtol=1e-5)


def test_a_free_head_does_not_stay_orthogonal():
    head = build_head("linear", 8)
    train(head)
    weight = head[0].weight.detach()
    assert (weight.T @ weight - torch.eye(8)).abs().max() > 0.1


def test_constraining_a_trained_orthogonal_matrix_does_not_move_it():
    head = build_head("linear", 8)
    with torch.no_grad():
        head[0].weight.copy_(
            torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
        )
    before = head(X).detach()
    torch.testing.assert_close(constrain(head)(X), before, atol=1e-5, rtol=1e-5)


def test_both_branches_of_the_mlp_learn():
    head = build_head("mlp", 8)
    first = (head(X) - torch.roll(X, 1, dims=1)).square().sum().item()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(60):
        loss = (head(X) - torch.roll(X, 1, dims=1)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first


def test_orthogonal_needs_a_linear_head():
    for kind in ("none", "mlp"):
        with pytest.raises(ConfigError, match=f"projection={kind}"):
            build_head(kind, 8, orthogonal=True)


def test_fits_tells_kinds_and_widths_apart():
    linear, mlp = build_head("linear", 8), build_head("mlp", 8, 4)
    assert fits(linear, "linear", None)
    assert fits(linear, "none", None)
    assert fits(build_head("linear", 8, orthogonal=True), "linear", 8)
    assert fits(mlp, "mlp", 4)
    assert not fits(linear, "mlp", None)
    assert not fits(mlp, "linear", None)
    assert not fits(mlp, "mlp", 8)
