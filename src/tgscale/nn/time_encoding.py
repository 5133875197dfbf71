"""Time encoding phi(dt) = cos(omega dt + bias)."""

import torch
from torch import Tensor, nn


def time_encoding(dt: Tensor, omega: Tensor, bias: Tensor) -> Tensor:
    """cos(omega dt + bias), shape ``dt.shape + omega.shape``, in omega's dtype.

    The phase is taken in float64: at the time spans that streams have, a float32 phase has no correct digit left.
    """
    return torch.cos(dt.double().unsqueeze(-1) * omega.double() + bias.double()).to(omega.dtype)


class TimeEncoding(nn.Module):
    """Functional time encoding (TGAT eq. 6, in the one-cosine form of TGN, TGL and DistTGL).

    Starts at ``omega = 10^(-linspace(0, 9, dim))`` and ``bias = 0``. Fixed by default: then no gradient has to pass
    through the cosine of every sampled event.

    Args:
        dim: width of the encoding.
        learned: make ``omega`` and ``bias`` parameters.
    """

    def __init__(self, dim: int, learned: bool = False) -> None:
        super().__init__()
        self.dim = dim
        self.omega = nn.Parameter(10 ** -torch.linspace(0, 9, dim), requires_grad=learned)
        self.bias = nn.Parameter(torch.zeros(dim), requires_grad=learned)

    def forward(self, dt: Tensor) -> Tensor:
        """Encode integer time differences: ``[...]`` -> ``[..., dim]``."""
        return time_encoding(dt, self.omega, self.bias)

    def extra_repr(self) -> str:
        return f"{self.dim}, learned={self.omega.requires_grad}"
