import math

import pytest
import torch

from i2idist.data.batches import Paired, Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.methods.stargan_modal import StarGANModal
from i2idist.nn.labelled import Judgement
from tests.methods.support import Known, close, domains, flat, make, mean, step_of

LN2 = math.log(2)


def known(paired):
    """G(x, c, s, t) = 2 x to b and x - 1 to a; D_src(x) = x, minus for b; D_cls(x) = (0, mean(x))."""
    method = make(StarGANModal, b=1, paired=paired)
    method.G = Known(lambda w, x, c, source, target: w * (2 * x if target else x - 1))
    method.D = Known(
        lambda w, x, m: Judgement(
            w * (-x if m else x), w * torch.cat([0 * mean(x), mean(x)], 1)[:, :, 0, 0], x.new_empty(len(x), 0)
        )
    )
    return method


def run(method, kind, a, b):
    step, terms = step_of(kind(positions=torch.arange(len(a)), a=a, b=b)), {}
    for update in method.updates():
        step.begin(update.player)
        terms[update.player] = update.backward(step)
    return terms


def sp(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("paired", [True, False])
def test_terms_by_hand(paired):
    """a = 0.5, b = 0.2: b_hat = 1, a_hat = -0.8; back again: a = 0, b = -1.6. D_src's gradient is 1 on 256 pixels."""
    method = known(paired)
    terms = run(method, Paired if paired else Unpaired, flat(0.5), flat(0.2))
    close(
        terms["discriminator"],
        real=[-0.5 + 0.2],
        fake=[-0.8 - 1.0],
        cls=[sp(0.5) + sp(-0.2)],
        gp=[2 * 15.0**2],
    )
    last = {"l1": [1.3 + 0.8]} if paired else {"rec": [0.5 + 1.8]}
    close(terms["generator"], gan=[0.8 + 1.0], cls=[sp(-0.8) + sp(-1.0)], **last)


def test_the_label_names_the_target():
    method = known(True)
    run(method, Paired, flat(0.5), flat(0.2))
    assert [(c.tolist(), s, t) for _, c, s, t in method.G.calls] == [([[1, 0]], 1, 0), ([[0, 1]], 0, 1)]


def test_modalities_of_other_channels_share_all_but_the_outer_layers():
    method = make(StarGANModal, a=1, b=3)
    assert [layer.in_channels for layer in method.G.first] == [3, 5]
    assert [layer.out_channels for layer in method.G.last] == [1, 3]
    assert [layer.in_channels for layer in method.D.first] == [1, 3]
    a = torch.rand(2, 1, 16, 16)
    b = method.translate(a)
    assert b.shape == (2, 3, 16, 16)
    assert method.translate(b, target="a").shape == (2, 1, 16, 16)


def test_refusals():
    method = make(StarGANModal)
    with pytest.raises(ConfigError, match="translates to b or a only"):
        method.translate(torch.rand(1, 1, 16, 16), target="c")
    with pytest.raises(SizeError, match="multiples of 4"):
        method.translate(torch.rand(1, 1, 18, 16))
    with pytest.raises(ConfigError, match="use the method stargan"):
        StarGANModal.Config(attributes=("young",))
    with pytest.raises(SizeError, match="at least 64"):
        StarGANModal(StarGANModal.Config(), domains(size=(32, 32)))
    kinds = [StarGANModal.batch_type(StarGANModal.Config(paired=paired)) for paired in (True, False)]
    assert kinds == [Paired, Unpaired]
