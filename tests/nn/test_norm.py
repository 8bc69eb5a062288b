import pytest
import torch
from torch import nn

from i2idist.nn.norm import (
    AffineInstanceNorm,
    ClassBatchNorm,
    CodeNorm,
    CrossReplicaBatchNorm,
    InstanceNorm,
    LayerNorm,
    evaluating,
)
from i2idist.nn.resnet import ReflectConv


def images(n=4, channels=3, seed=0):
    return torch.randn(n, channels, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def batch_norm(**options):
    norm = CrossReplicaBatchNorm(3, **options).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, 3.0]))
    return norm


def by_hand(x, axes):
    mean = x.mean(axes, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(axes, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("world_size", [1, 2])
def test_batch_norm_normalises_and_tracks(world_size):
    """At two workers with the identity for a sum, the formula of our own; at one, torch's kernel."""
    x, norm, theirs = images(), batch_norm(), nn.BatchNorm2d(3).double()
    norm.world_size = world_size
    theirs.load_state_dict(norm.state_dict(), strict=False)
    want = by_hand(x, (0, 2, 3)) * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), want)
    theirs(x)
    torch.testing.assert_close(norm.running_mean, theirs.running_mean)
    torch.testing.assert_close(norm.running_var, theirs.running_var)


def test_batch_norm_across_unequal_workers_equals_the_whole_batch():
    x = images(5)
    want = batch_norm()(x)
    mean = x.mean((0, 2, 3))
    for mine, other in ((slice(0, 3), x[3:]), (slice(3, 5), x[:3])):
        count = other.numel() / 3
        rest = [
            torch.cat([other.sum((0, 2, 3)), torch.tensor([count], dtype=x.dtype)]),
            (other - mean[:, None, None]).square().sum((0, 2, 3)),
        ]
        norm = batch_norm()
        norm.world_size = 2
        norm.sum = lambda t, rest=rest: t + rest.pop(0)
        torch.testing.assert_close(norm(x[mine]), want[mine])
        assert not rest


def test_batch_norm_across_workers_can_be_differentiated_twice():
    norm = batch_norm()
    norm.world_size = 2
    x = images(2)[:, :, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


def test_batch_norm_in_half_precision_computes_in_float32():
    x, norm = images().float() + 100, batch_norm().float()
    norm.world_size = 2
    low = x.bfloat16()
    torch.testing.assert_close(norm(low), norm(low.float()).bfloat16())


def test_batch_norm_at_test_takes_running_or_each_samples_statistics():
    x = images()
    sample, running = batch_norm(at_test="sample"), batch_norm(at_test="running")
    alone = torch.cat([batch_norm()(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(sample.eval()(x), alone)
    running.running_mean.fill_(2.0)
    running.running_var.fill_(4.0 - 1e-5)
    want = (x - 2) / 2 * running.weight[:, None, None] + running.bias[:, None, None]
    torch.testing.assert_close(running.eval()(x), want)


def test_instance_norm_by_hand():
    torch.testing.assert_close(InstanceNorm(3)(images()), by_hand(images(), (2, 3)))


def test_code_norm_by_hand():
    norm = CodeNorm(3, 2).double()
    z = torch.tensor([[1.0, -1.0], [0.5, 2.0], [0.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    gamma, beta = (z @ norm.affine.weight.T + norm.affine.bias).split(3, dim=1)
    want = by_hand(images(), (2, 3)) * (1 + gamma[:, :, None, None]) + beta[:, :, None, None]
    torch.testing.assert_close(norm(images(), z), want)


def test_a_code_tiled_before_a_reflecting_convolution_is_lost_in_the_norm():
    """Why `CodeNorm` exists."""
    conv = ReflectConv(5, 3, 3).double()
    x = images(2)
    tiled = torch.tensor([[1.0, -2.0], [5.0, 3.0]], dtype=torch.float64)[:, :, None, None].expand(-1, -1, 5, 6)
    with_code, without = (InstanceNorm(3)(conv(torch.cat([x, t], 1))) for t in (tiled, torch.zeros_like(tiled)))
    torch.testing.assert_close(with_code, without)


def test_evaluating_puts_the_mode_back_even_after_an_error():
    norm = batch_norm()
    with pytest.raises(ZeroDivisionError), evaluating(norm):
        assert not norm.training
        1 / 0  # noqa: B018
    assert norm.training


def affine_norm(at_test):
    norm = AffineInstanceNorm(3, at_test=at_test).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, 3.0]))
    return norm


@pytest.mark.parametrize("at_test", ["sample", "running"])
def test_affine_instance_norm_is_torchs(at_test):
    x, norm = images(), affine_norm(at_test)
    theirs = nn.InstanceNorm2d(3, affine=True, track_running_stats=at_test == "running").double()
    theirs.load_state_dict(norm.state_dict(), strict=False)
    torch.testing.assert_close(norm(x), theirs(x))
    torch.testing.assert_close(norm.eval()(x + 1), theirs.eval()(x + 1))
    assert sorted(name for name, _ in norm.named_buffers()) == ["running_mean", "running_var"] * (at_test == "running")


def test_affine_instance_norm_tracks_the_samples_of_unequal_workers_alike():
    x, whole = images(5), affine_norm("running")
    whole(x)
    for mine, other in ((slice(0, 3), x[3:]), (slice(3, 5), x[:3])):
        norm = affine_norm("running")
        var, mean = torch.var_mean(other, (2, 3))
        theirs = torch.cat([mean.sum(0), var.sum(0), torch.tensor([len(other)], dtype=x.dtype)])
        norm.sum = lambda t, theirs=theirs: t + theirs
        norm(x[mine])
        torch.testing.assert_close(norm.running_mean, whole.running_mean)
        torch.testing.assert_close(norm.running_var, whole.running_var)


@pytest.mark.parametrize("world_size", [1, 2])
def test_class_batch_norm_shares_statistics_and_has_scales_of_its_own(world_size):
    x, norm = images(), ClassBatchNorm(3, 2).double()
    norm.world_size = world_size
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]))
        norm.bias.copy_(torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, -1.0]]))
    classes = torch.tensor([0, 1, 1, 0])
    want = by_hand(x, (0, 2, 3)) * norm.weight[classes, :, None, None] + norm.bias[classes, :, None, None]
    torch.testing.assert_close(norm(x, torch.eye(2)[classes]), want)
    assert [key for key in norm.state_dict()] == ["weight", "bias", "running_mean", "running_var"]


def test_layer_norm_is_over_each_sample_with_scales_by_channel():
    x, norm = images(), LayerNorm(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(norm(x), by_hand(x, (1, 2, 3)) * norm.weight[:, None, None])


@pytest.mark.parametrize("at_test", ["sample", "running"])
def test_instance_norm_takes_a_worker_without_samples(at_test):
    """Another worker's three are what counts; torch's own kernel refuses none."""
    norm = AffineInstanceNorm(2, at_test=at_test)
    norm.sum = lambda totals: totals + torch.tensor([6.0, 3.0, 9.0, 3.0, 3.0])
    x = torch.zeros(0, 2, 4, 4, requires_grad=True)
    y = norm(x)
    assert y.shape == (0, 2, 4, 4)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.shape == x.shape
    if at_test == "running":
        assert norm.running_mean.tolist() == pytest.approx([0.2, 0.1])
        assert norm.running_var.tolist() == pytest.approx([0.9 + 0.3, 0.9 + 0.1])
