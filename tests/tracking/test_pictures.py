"""Pictures that a training shows, without MLflow."""

import numpy as np
import pytest

from i2idist.methods.sdit import SDIT
from i2idist.methods.stargan import StarGAN
from i2idist.tracking.pictures import Pictures
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer
from tests.methods.labelled import images, labelled, make_labelled


def trainer_of(method):
    return Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone())


@pytest.fixture
def pictures():
    return Pictures(lambda: labelled(images(5), [0, 1, 2, 0, 1]), seed=0)


@pytest.mark.parametrize(("bias", "level"), [(200.0, 255), (-200.0, 0)])
def test_attention_is_white_where_a_target_lets_the_image_change(pictures, bias, level):
    trainer = trainer_of(make_labelled(SDIT))
    last = trainer.method.G.attention[-2]
    last.weight.data.zero_()
    last.bias.data.fill_(bias)
    found = np.asarray(pictures.attention(trainer).convert("L"))
    assert found.shape == np.asarray(pictures.grid(trainer_of(make_labelled(StarGAN))))[..., 0].shape
    assert (found[60:-20, 100:-20] == level).mean() > 0.85
    assert trainer.method.training


def test_a_method_without_attention_has_no_such_picture(pictures):
    assert pictures.attention(trainer_of(make_labelled(StarGAN))) is None
    assert pictures.attention(trainer_of(make_labelled(SDIT, attention=False))) is None


def test_a_grid_shows_every_label(pictures):
    one, several = (pictures.grid(trainer_of(make_labelled(method))) for method in (StarGAN, SDIT))
    assert several.size[0] - one.size[0] == 6 * (80 + 2)
