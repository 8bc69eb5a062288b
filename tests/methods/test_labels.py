import pytest
import torch

from i2idist.errors import ConfigError
from i2idist.methods.labels import Labels, shuffled
from tests.methods.labelled import images, labelled, labelled_domains
from tests.methods.support import step_of

FACES = ("bald", "hat", "young")


def test_classes_become_one_hot_vectors():
    labels = Labels.of(labelled_domains(), ())
    assert (labels.names, len(labels)) == (("red", "green", "blue"), 3)
    assert labels.read(labelled(images(2), [2, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert labels.target("green", images(2)).tolist() == [[0, 1, 0]] * 2


def test_chosen_attributes_become_vectors_of_their_columns():
    labels = Labels.of(labelled_domains(FACES), ("young", "bald"))
    assert labels.names == ("young", "bald")
    assert labels.read(labelled(images(2), [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])).tolist() == [[0, 1], [1, 0]]
    assert labels.target("bald", images(1)).tolist() == [[0, 1]]
    assert labels.target("bald+young", images(1)).tolist() == [[1, 1]]


def test_losses_are_softmax_for_classes_and_sigmoids_for_attributes():
    logits, y = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert Labels.of(labelled_domains(), ()).loss(logits, y).item() == pytest.approx(1.0986123)
    assert Labels.of(labelled_domains(FACES), FACES).loss(logits, y).item() == pytest.approx(3 * 0.6931472)


def test_refusals():
    classes, faces = Labels.of(labelled_domains(), ()), Labels.of(labelled_domains(FACES), ("hat", "bald"))
    with pytest.raises(ConfigError, match="'hut', which the dataset doesn't have. Did you mean 'hat'"):
        Labels.of(labelled_domains(FACES), ("hut",))
    with pytest.raises(ConfigError, match="takes two or more"):
        Labels.of(labelled_domains(("only",)), ())
    with pytest.raises(ConfigError, match="leave method.attributes empty"):
        faces.read(labelled(images(2), [1, 0]))
    with pytest.raises(ConfigError, match="name some in method.attributes"):
        classes.read(labelled(images(1), [[1.0, 0.0, 0.0]]))
    with pytest.raises(ConfigError, match="translates to red, green, blue. Did you mean 'green'"):
        classes.target("gren", images(1))
    with pytest.raises(ConfigError, match="'red\\+blue'"):
        classes.target("red+blue", images(1))
    with pytest.raises(ConfigError, match="'hat\\+b', .*several joined by \\+"):
        faces.target("hat+b", images(1))


def test_shuffled_labels_are_the_batches_own_in_another_order_each_step():
    y = torch.eye(8)
    orders = []
    for number in range(3):
        step = step_of(labelled(images(8), [0] * 8, first=8 * number))
        step.images = 8 * number
        step.begin("player")
        found = shuffled(y, step)
        assert sorted(found.argmax(1).tolist()) == list(range(8))
        orders.append(tuple(found.argmax(1).tolist()))
    assert len(set(orders)) == 3


class Together:
    """Two workers' labels, as one of them would gather them."""

    def __init__(self, rank, everyone):
        self.rank, self.everyone = rank, everyone

    def gather(self, x):
        assert torch.equal(x, self.everyone[self.everyone[:, -1] == self.rank])
        return self.everyone


def test_workers_of_unequal_shares_get_what_one_worker_would():
    y = torch.eye(5)
    alone = step_of(labelled(images(5), [0] * 5))
    alone.begin("player")
    want = shuffled(y, alone)
    ranks = torch.tensor([0.0, 0, 0, 1, 1])[:, None]
    found = []
    for rank, rows in ((0, slice(0, 3)), (1, slice(3, 5))):
        step = step_of(labelled(images(5), [0] * 5)[rows])
        step.comm = Together(rank, torch.cat([y, ranks], 1))
        step.begin("player")
        found.append(shuffled(y[rows], step))
    assert torch.equal(torch.cat(found), want)
