"""The artifact that shows whether a generator remembers training images."""

import numpy as np
import torch

from i2idist.data.batches import Images
from i2idist.method import Domain, Domains
from i2idist.methods.wgan_gp import WGANGP
from i2idist.tracking.samples import Samples
from i2idist.train.comm import Comm
from i2idist.train.settings import Training
from i2idist.train.trainer import Trainer

SIDE, LEFT, TOP = 80, 12, 54
"""16 pixels, enlarged to be legible; where a sheet's first cell begins."""


def cell(picture, column):
    left = LEFT + column * SIDE + (8 + 2 * (column - 1) if column else 0)
    return np.asarray(picture.crop((left, TOP, left + SIDE, TOP + SIDE)), np.int64)


def test_beside_a_sample_stand_the_training_images_nearest_to_it():
    torch.manual_seed(0)
    method = WGANGP(WGANGP.Config(latent_dim=4, blocks=2, width=4), Domains((Domain("image", 1, 16, 16),)))
    trainer = Trainer(method, Training(total_images=8, batch_size=4), seed=0, comm=Comm.alone())
    samples = Samples(trainer, seed=0)
    first = samples._made(samples._codes[:1, None])[0, 0]
    near = (first + 0.1 * (1 - 2 * (first > 0).float())).clamp(-1, 1)
    training = Images(positions=torch.arange(3), x=torch.stack([-first.sign(), near, first]))
    picture = samples.nearest(training)
    off = [np.abs(cell(picture, column) - cell(picture, 0)).max() for column in (1, 2, 3)]
    assert off[0] == 0 and 12 <= off[1] <= 14 and off[2] > 100
