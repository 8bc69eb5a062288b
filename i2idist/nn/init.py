"""Initial parameters."""

from __future__ import annotations

from torch import nn

from i2idist.nn.norm import CrossReplicaBatchNorm


def init_normal(network: nn.Module, std: float = 0.02) -> None:
    """Set weights ~ N(0, std^2), biases 0, batch norm's scales ~ N(1, std^2) (DCGAN, arXiv:1511.06434, section 4)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, CrossReplicaBatchNorm):
            nn.init.normal_(module.weight, 1.0, std)


def init_kaiming(network: nn.Module) -> None:
    """Set weights ~ N(0, 2 / inputs), biases 0, for ReLU (He et al. 2015, arXiv:1502.01852, section 2.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_xavier(network: nn.Module, gain: float = 1.0) -> None:
    """Set weights ~ N(0, 2 gain^2 / (inputs + outputs)), biases 0 (Glorot and Bengio 2010, section 4.2.1)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
