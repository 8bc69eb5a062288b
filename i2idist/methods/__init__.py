"""Methods of image translation and GAN transfer, one file each."""

from __future__ import annotations

import importlib

from i2idist.errors import ConfigError, nearest
from i2idist.method import Domains, Method
from i2idist.methods.acgan import ACGAN
from i2idist.methods.bicyclegan import BicycleGAN
from i2idist.methods.bsa import BSA
from i2idist.methods.cyclegan import CycleGAN, CycleGANNoise
from i2idist.methods.dgn_am import DGNAM
from i2idist.methods.drit import DRIT
from i2idist.methods.icgan import IcGAN
from i2idist.methods.minegan import MineGAN
from i2idist.methods.mmnet import MMNet, MMNetUnpaired
from i2idist.methods.msgan import MSGAN, MSGANDRIT
from i2idist.methods.munit import MUNIT
from i2idist.methods.pix2pix import Pix2Pix
from i2idist.methods.ppgn import PPGN
from i2idist.methods.sdit import SDIT
from i2idist.methods.segan import SEGAN, Pix2PixNoise
from i2idist.methods.sngan import SNGAN
from i2idist.methods.stargan import StarGAN
from i2idist.methods.stargan_modal import StarGANModal
from i2idist.methods.tigan import TIGAN
from i2idist.methods.transfergan import TransferGAN
from i2idist.methods.udit import MUNITPI, UDIT
from i2idist.methods.unit import UNIT
from i2idist.methods.unit_adaptation import UNITAdaptation
from i2idist.methods.vae import VAE
from i2idist.methods.wgan_gp import WGANGP

__all__ = [
    "ACGAN",
    "BSA",
    "DGNAM",
    "METHODS",
    "BicycleGAN",
    "CycleGAN",
    "CycleGANNoise",
    "IcGAN",
    "DRIT",
    "MMNet",
    "MMNetUnpaired",
    "MSGAN",
    "MSGANDRIT",
    "MUNIT",
    "MUNITPI",
    "MineGAN",
    "PPGN",
    "Pix2Pix",
    "Pix2PixNoise",
    "SDIT",
    "SEGAN",
    "SNGAN",
    "StarGAN",
    "StarGANModal",
    "TIGAN",
    "TransferGAN",
    "UDIT",
    "UNIT",
    "UNITAdaptation",
    "VAE",
    "WGANGP",
    "check_label_maps",
    "load_method",
]

METHODS: dict[str, type[Method]] = {
    "segan": SEGAN,
    "pix2pix": Pix2Pix,
    "pix2pix_noise": Pix2PixNoise,
    "cyclegan": CycleGAN,
    "cyclegan_noise": CycleGANNoise,
    "bicyclegan": BicycleGAN,
    "msgan": MSGAN,
    "drit": DRIT,
    "msgan_drit": MSGANDRIT,
    "munit": MUNIT,
    "udit": UDIT,
    "munit_pi": MUNITPI,
    "unit": UNIT,
    "stargan": StarGAN,
    "stargan_modal": StarGANModal,
    "sdit": SDIT,
    "icgan": IcGAN,
    "mmnet": MMNet,
    "mmnet_unpaired": MMNetUnpaired,
    "tigan": TIGAN,
    "unit_adaptation": UNITAdaptation,
    "wgan_gp": WGANGP,
    "acgan": ACGAN,
    "sngan": SNGAN,
    "transfergan": TransferGAN,
    "minegan": MineGAN,
    "bsa": BSA,
    "vae": VAE,
    "dgn_am": DGNAM,
    "ppgn": PPGN,
}


def load_method(name: str) -> type[Method]:
    """Find a method by its name in `METHODS`, or anybody's by `package.module:Class`.

    Raises:
        ConfigError: there is no such method; names the nearest.
    """
    if ":" in name:
        return _from_outside(name)
    if name not in METHODS:
        raise ConfigError(
            f"method.name is '{name}', which is no method of i2idist.{nearest(name, METHODS)} "
            "A method of your own is named package.module:Class."
        )
    return METHODS[name]


def check_label_maps(name: str, domains: Domains) -> None:
    """Refuse label maps for a method that would take the numbers of their classes for levels of grey.

    Args:
        name: of the method, as `load_method` takes it.
        domains: what it is to be trained on.

    Raises:
        ConfigError: names the domains, and the methods that take label maps.
    """
    maps = [domain.name for domain in domains.images if domain.classes]
    if maps and not load_method(name).label_maps:
        able = ", ".join(known for known, method in METHODS.items() if method.label_maps)
        raise ConfigError(
            f"data.label_maps names {', '.join(maps)}, but the method {name} knows no label maps: it would take the "
            f"numbers of classes for levels of grey. Methods that take them: {able}. To train on the levels all the "
            "same, leave data.label_maps empty."
        )


def _from_outside(path: str) -> type[Method]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"method.name is '{path}', but importing {module_name} failed: {error}. "
            "Install its package, or put its folder on PYTHONPATH."
        ) from error
    found = vars(module).get(class_name)
    if found is None:
        raise ConfigError(
            f"method.name is '{path}', but {module_name} has no '{class_name}'.{nearest(class_name, vars(module))}"
        )
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ConfigError(f"method.name is '{path}', which is no subclass of i2idist.method.Method.")
    return found
