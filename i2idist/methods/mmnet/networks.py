"""Mix-and-match networks' parts, by the settings."""

from __future__ import annotations

from typing import Any

from torch import nn

from i2idist.method import Domain
from i2idist.methods.label_maps import channels_of
from i2idist.methods.mmnet.config import MMNetConfig
from i2idist.nn.init import init_normal
from i2idist.nn.patchgan import StridedPatchGAN
from i2idist.nn.pooled import PooledEncoder, ResidualDecoder
from i2idist.nn.segnet import BatchNormDiscriminator, SegNetDecoder, SegNetEncoder, UpsamplingDecoder


def make_encoder(config: MMNetConfig, domain: Domain) -> nn.Module:
    """A modality's encoder, images to latent features: Table A.3, or A.7 and A.11."""
    channels = channels_of(domain)
    network: nn.Module
    if config.networks == "residual":
        shape: dict[str, Any] = {
            "width": config.width,
            "downs": config.halvings,
            "blocks": config.blocks,
            "kernel": config.kernel,
        }
        network = PooledEncoder(channels, **shape, indices=config.side == "indices", tilt=True)
    else:
        is_vgg = config.pretrained and domain.name == config.anchor
        network = SegNetEncoder(
            channels, width=config.width, convs=config.convs, side=config.side, batch_norm=not is_vgg, imagenet=is_vgg
        )
    init_normal(network)
    return network


def make_decoder(config: MMNetConfig, domain: Domain) -> nn.Module:
    """A modality's decoder, latent features to images: Tables A.4 and A.5, or A.8 and A.12."""
    channels = channels_of(domain)
    network: nn.Module
    if config.networks == "residual":
        shape = {"width": config.width, "ups": config.halvings, "blocks": config.blocks, "kernel": config.kernel}
        network = ResidualDecoder(channels, **shape)
    elif domain.name in config.plain:
        network = UpsamplingDecoder(channels, width=config.width, ups=config.halvings)
    else:
        network = SegNetDecoder(channels, width=config.width, convs=config.convs, side=config.side)
    init_normal(network)
    return network


def make_discriminator(config: MMNetConfig, domain: Domain) -> nn.Module:
    """An image modality's discriminator: Table A.6, or A.9."""
    shape = {"width": config.discriminator_width, "layers": config.discriminator_layers}
    kind = StridedPatchGAN if config.networks == "residual" else BatchNormDiscriminator
    network = kind(domain.channels, **shape)
    init_normal(network)
    return network
