import copy
import dataclasses

import pytest
import torch
from torch import nn

from i2idist import model
from i2idist.data.batches import Images
from i2idist.errors import ConfigError, SizeError, SourceError
from i2idist.method import Described, Domain, Domains
from i2idist.methods.acgan import ACGAN
from i2idist.methods.minegan import MineGAN
from i2idist.methods.sngan import SNGAN
from i2idist.methods.wgan_gp import WGANGP
from i2idist.nn.resnet_gan import Verdict
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.labelled import CLASSES, images
from tests.methods.support import Drawn, Known, close, flat, mean

DOMAINS = Domains((Domain("image", 1, 16, 16),), CLASSES)
SMALL = {"blocks": 2, "width": 4, "latent_dim": 4}
WGAN = Described(method="wgan_gp", config=SMALL, domains=DOMAINS)
SN = Described(method="sngan", config=SMALL, domains=DOMAINS)
AC = Described(method="acgan", config={**SMALL, "condition": "concat"}, domains=DOMAINS)


def made(domains=DOMAINS, seed=0, **config):
    torch.manual_seed(seed)
    small = {"widths": (2, 3), "window": 4, "generators": {"one": WGAN}}
    return MineGAN(MineGAN.Config(**{**small, **config}), domains)


def batch(x, first=0):
    return Images(positions=torch.arange(len(x)) + first, x=x)


def known(*signs, **config):
    """M_i(u) = w u_0, G_i(z) = sign_i z everywhere, D(x) = w mean(x); all w are 1."""
    method = made(generators={f"g{n}": WGAN for n in range(len(signs))}, **config)
    method.M = nn.ModuleDict({f"g{n}": Known(lambda w, u: w * u[:, :1]) for n in range(len(signs))})
    method.G = nn.ModuleDict(
        {
            f"g{n}": Known(lambda w, z, y, s=s: (w * s * z)[:, :, None, None].expand(-1, 1, 16, 16))
            for n, s in enumerate(signs)
        }
    )
    method.D = Known(lambda w, x: Verdict(w * mean(x)[:, :, 0, 0]))
    return method


def terms(method, x, u):
    step, found = Drawn(batch(x), {"u": torch.tensor(u, dtype=torch.float64)}), {}
    for update in method.updates():
        step.begin(update.player)
        found[update.player] = update.backward(step)
    return found


GP = (1 - 1 / 16) ** 2
"""D's gradient is 1 / 256 at each of 256 pixels: its norm is 1 / 16."""


def test_terms_by_hand_of_one_generator():
    """Eqs. 3.3 and 3.4: x = 0.2 and -0.4, u = 0.5 and -0.25, of which D is the mean."""
    found = terms(known(1.0), flat(0.2, -0.4), [[[0.5, 9.0]], [[-0.25, 9.0]]])
    close(found["critic"], real=[-0.2, 0.4], fake=[0.5, -0.25], gp=[GP, GP])
    close(found["miner"], gan=[-0.5, 0.25])


def test_terms_by_hand_of_two_generators():
    """Eqs. 3.5 and 3.6: G_1(z) = z, G_2(z) = -z; of (0.5, -0.75) and (-0.25, -0.125) the maxima are 0.5 and -0.125."""
    u = [[[0.5, 0.0], [0.75, 0.0]], [[-0.25, 0.0], [0.125, 0.0]]]
    method = known(1.0, -1.0)
    found = terms(method, flat(0.2, -0.4), u)
    close(found["critic"], real=[-0.2, 0.4], fake=[0.5, -0.125], gp=[GP, GP])
    close(found["miner"], gan=[-0.5, 0.125])
    assert method.selector.wins.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]


def test_only_the_best_of_a_supersample_is_backpropagated():
    """-d max / dw: M_1 made 0.5 with u = 0.5 and M_2 -0.125 with u = 0.125; what they made else has no gradient."""
    u = [[[0.5, 0.0], [0.75, 0.0]], [[-0.25, 0.0], [0.125, 0.0]]]
    method = known(1.0, -1.0)
    terms(method, flat(0.2, -0.4), u)["miner"]["gan"].sum().backward()
    assert [method.M[name].w.grad.item() for name in ("g0", "g1")] == [-0.5, 0.125]


def test_validation_counts_nothing_and_has_no_penalty():
    method = known(1.0, -1.0).eval()
    step = Drawn(batch(flat(0.2)), {"u": torch.zeros(1, 2, 2, dtype=torch.float64)})
    with torch.no_grad():
        found = method.validation_terms(step)
    assert sorted(found) == ["critic/fake", "critic/real", "miner/gan"]
    assert int(method.selector.minibatches) == 0


def trained(method, steps):
    total = steps * 4 * 2
    trainer = Trainer(method, Training(total_images=total, batch_size=4), seed=0, comm=Comm.alone())
    for _ in range(steps):
        trainer.step(batch(images(), first=4 * n) for n in range(9))
    return trainer


def changed(network, before):
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def copied(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_mining_leaves_the_generators_and_their_statistics_alone():
    method = made(generators={"one": WGAN, "two": SN}, mine_share=1.0, critic_steps=2)
    before, miners = copied(method.G), copied(method.M)
    trainer = trained(method, 2)
    assert [stage.name for stage in method.stages()] == ["mining"] and trainer.stage.frozen == ("G",)
    assert not changed(method.G, before) and changed(method.M, miners)


def test_fine_tuning_trains_the_generators_and_their_statistics():
    method = made(mine_share=0.5, critic_steps=2)
    before = copied(method.G)
    trained(method, 2)
    assert changed(method.G, before) == set(before)


def test_in_fine_tuning_each_generator_is_normalised_by_its_own_fakes():
    """In mining by running averages; of what has no fake in a minibatch the statistics stay."""
    method = made(generators={"one": WGAN, "two": SN, "three": WGAN})
    u, i = torch.randn(5, 2), torch.tensor([1, 0, 1, 1, 0])
    alone = [copy.deepcopy(method.G[name])(method.M[name](u[i == n])) for n, name in enumerate(("one", "two"))]
    before = copied(method.G)
    images = method._make(u, i, [2, 3, 0])
    torch.testing.assert_close(images[i == 0], alone[0])
    torch.testing.assert_close(images[i == 1], alone[1])
    assert {name.partition(".")[0] for name in changed(method.G, before)} == {"one", "two"}
    mined = method._make(u, i)
    assert torch.equal(mined, method.eval()._make(u, i)) and (mined - images).abs().max() > 0.1


def sources(**classes):
    torch.manual_seed(1)
    found = {name: cls(cls.Config(**SMALL), DOMAINS) for name, cls in classes.items()}
    return found, {name: gan.state_dict() for name, gan in found.items()}


def test_it_starts_from_its_sources_and_one_of_their_critics():
    gans, states = sources(one=WGANGP, two=SNGAN)
    config = MineGAN.Config(widths=(2, 3), critic="two")
    config = MineGAN.with_sources(config, {"one": WGAN, "two": SN})
    method = MineGAN.build(config, DOMAINS, states)
    assert not any(changed(method.G[name], gan.G.state_dict()) for name, gan in gans.items())
    assert not changed(method.D, gans["two"].D.state_dict())
    assert method.code_dim == 3


@pytest.mark.parametrize(
    ("config", "given", "error", "message"),
    [
        ({}, {}, ConfigError, "starts from a generator"),
        ({}, {"one": WGANGP, "other": SNGAN}, ConfigError, "sources.other"),
        ({}, {"one": SNGAN}, SourceError, "sources.one isn't the network D"),
        ({"critic": "on"}, {"one": WGANGP}, ConfigError, "Did you mean 'one'"),
        ({"generators": {}}, {}, ConfigError, "name one or several"),
        ({"mine_share": 1.5}, {}, ConfigError, "mine_share"),
        ({"widths": ()}, {}, ConfigError, "widths"),
    ],
)
def test_what_it_refuses(config, given, error, message):
    with pytest.raises(error, match=message):
        MineGAN.build(MineGAN.Config(**{"generators": {"one": WGAN}, **config}), DOMAINS, sources(**given)[1])


def test_it_refuses_sources_of_other_images_and_mined_ones():
    with pytest.raises(SizeError, match=r"for 16x16 alone. Set data.size=\[16,16\]"):
        made(Domains((Domain("image", 1, 32, 16),)))
    with pytest.raises(ConfigError, match="1 channels, but those of image have 3"):
        made(Domains((Domain("image", 3, 16, 16),)))
    mined = Described(method="minegan", config=dataclasses.asdict(made().config), domains=DOMAINS)
    with pytest.raises(ConfigError, match="a model of minegan, which no other"):
        made(generators={"one": mined})


def test_a_family_has_a_miner_for_each_class_and_one_generator():
    method = made(generators={"digits": AC})
    assert list(method.M) == ["digits-0", "digits-1", "digits-2"] and list(method.G) == ["digits"]
    assert method.code_dim == 3 and method.targets == ()
    method.selector.record(torch.tensor([1, 0, 3]))
    assert method.probabilities() == {"digits, red": 0.25, "digits, green": 0.0, "digits, blue": 0.75}
    method.G["digits"] = Known(lambda w, z, y: y.argmax(1)[:, None, None, None].expand(-1, 1, 16, 16) / 4)
    made_of = method.sample(torch.tensor([[0.0, 0.0, -2.0], [0.0, 0.0, 2.0]]))
    assert made_of.mean((1, 2, 3)).tolist() == [0.0, 0.5]


def test_the_class_is_mined_as_an_embedding():
    bnorm = dataclasses.replace(AC, config={**SMALL, "condition": "bnorm"})
    method = made(generators={"digits": bnorm}, conditional="embedding")
    assert method.code_dim == 2 and len(method.mined) == 1
    method.generate(torch.randn(16, 2)).sum().backward()
    assert bool(method.M["digits"].embedding.last.bias.grad.ne(0).all())
    gans, states = sources(digits=ACGAN)
    filled = MineGAN.build(method.config, DOMAINS, states)
    assert not changed(filled.D, gans["digits"].D.state_dict())


def test_a_saved_model_keeps_the_selector(tmp_path):
    method = made(generators={"one": WGAN, "two": SN}, seed=3)
    method.selector.record(torch.tensor([1, 3]))
    model.save(str(tmp_path), method, method_name="minegan", domains=DOMAINS)
    found = model.load(str(tmp_path))
    assert found.method.probabilities() == {"one": 0.25, "two": 0.75}
    codes = torch.randn(5, 3)
    assert torch.equal(found.sample(5, codes), method.eval().sample(codes))


def test_a_code_alone_decides_the_generator():
    method = known(1.0, -1.0).eval()
    method.selector.record(torch.tensor([3, 1]))
    code = torch.tensor([[0.5, 0.0, 0.6], [0.5, 0.0, 0.7]], dtype=torch.float64)  # p_1 = 0.75 ends at 0.674
    assert method.sample(code).mean((1, 2, 3)).tolist() == [0.5, -0.5]
