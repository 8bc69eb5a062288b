import os

import pytest
import torch

from i2idist.data.generated import resolve
from i2idist.data.manifest import load_manifest
from i2idist.methods import SEGAN, Pix2Pix
from i2idist.model import save


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Classifiers of the tests' own."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Handwritten and street digits with labels, 16x16, unpaired: the URL of a dataset."""
    return resolve("generated:digits?size=16&train=60&val=20&test=70", str(tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="session")
def edges(tmp_path_factory):
    """Pairs, 16x16: the URL of a dataset."""
    return resolve("generated:edges?size=16&train=8&val=8&test=20", str(tmp_path_factory.mktemp("edges")))


def _saved(folder, method, name, domains):
    for parameter in method.parameters():  # larger than the initial ones, so that the code shows in the output
        parameter.data.mul_(8)
    save(str(folder), method, method_name=name, domains=domains, lineage={"run": "r"})
    return str(folder)


def _segan(folder, data, seed):
    domains = load_manifest(data).domains_for(None)
    torch.manual_seed(seed)
    return _saved(folder, SEGAN(SEGAN.tiny()["unpaired_jsd"], domains), "segan", domains)


@pytest.fixture(scope="session")
def segan(tmp_path_factory, digits):
    """A tiny model with codes for digits: its URL."""
    return _segan(tmp_path_factory.mktemp("models") / "tiny", digits, 0)


@pytest.fixture(scope="session")
def rival(tmp_path_factory, digits):
    """Another one."""
    return _segan(tmp_path_factory.mktemp("models") / "rival", digits, 1)


@pytest.fixture(scope="session")
def plain(tmp_path_factory, edges):
    """A tiny model without codes, for pairs: its URL."""
    domains = load_manifest(edges).domains_for(None)
    torch.manual_seed(0)
    method = next(m for m in (Pix2Pix(config, domains) for config in Pix2Pix.tiny().values()) if not m.code_dim)
    return _saved(tmp_path_factory.mktemp("models") / "plain", method, "pix2pix", domains)
