"""Muon (Jordan et al., 2024): momentum whose matrices are made orthogonal before each step.

torch.optim.Muon takes two-dimensional parameters only, and the autoencoder consists of convolutions.
"""

from __future__ import annotations

from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the published quintic Newton-Schulz iteration's
_ITERATIONS = 5


def orthogonal(gradient: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of the gradient, as a matrix [out, everything else], near one."""
    matrix = gradient.flatten(1)  # [out, in * kernel]
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.T).view_as(gradient) * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5


class Muon(torch.optim.Optimizer):
    """The optimizer of parameters with two or more dimensions. Give the others to AdamW."""

    def __init__(self, parameters, lr: float, momentum: float = 0.9):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one update with Nesterov momentum."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(momentum, group["momentum"])
                parameter.add_(orthogonal(update), alpha=-group["lr"])
