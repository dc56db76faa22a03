"""The head of a network in closed form: what each pixel says, and the gradient of the verdict.

After the dense features all is done pixel by pixel, but for one mean over the pixels before the last, linear layer; so normalisations are
part of matrices, and frames lie side by side in one vector.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from howdah.methods.tap.network import SLOPE, Tap

__all__ = ["Arrow"]

Tensor = torch.Tensor


class Arrow:
    """The head of a network, in closed form.

    Args:
        network: In evaluation mode.
        device: Where.
        published: Gradients are those of the first logit, not of the first one less the mean of the others.
        frames: Frames of a sample, where they are others than in training; only an equivariant head takes any number.
    """

    def __init__(
        self,
        network: Tap,
        device: torch.device | str = "cpu",
        *,
        published: bool = False,
        frames: int | None = None,
    ) -> None:
        self.frames = frames or int(network.form["frames"])
        head: Any = network.classification_head
        with torch.no_grad():
            if network.form["head"] == "equivariant":
                first, second = (_stacked(layer.layers[0], self.frames) for layer in head.layers)
                last = head.head[1].layers[0]
                own, joint = last.L.weight.double(), last.G.weight.double()
                eye = torch.eye(self.frames, dtype=torch.float64)
                out = torch.kron(eye, own) + torch.kron(torch.full_like(eye, 1 / self.frames), joint)
                shift = (last.L.bias + last.G.bias).double().expand(self.frames)
                layers = [first, second]
            else:
                (w1, b1), (w2, b2) = (
                    (layer.weight.flatten(1), layer.bias) for layer in (head.layers[0], head.layers[2])
                )
                last = head.head[2].weight.double()
                layers = [(w1.double(), b1.double())]
                out, shift = last @ w2.double(), last @ b2.double()
            self.layers = [(w.to(device, torch.float32), b.to(device, torch.float32)) for w, b in layers]
            self.out, self.shift = out.to(device, torch.float32), shift.to(device, torch.float32)
        self.verdict = self.out[0] - self.out[1:].mean(0)
        self.constant = self.shift[0] - self.shift[1:].mean()
        self.goal = self.out[0] if published else self.verdict

    def see(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Look at pixels.

        Args:
            z: (P, T * F) features of P pixels, frame after frame.

        Returns:
            What each pixel says, (P,), logit units; and the sum over these pixels of the gradient of the verdict, (T * F,), to be
            divided by the number of all pixels.
        """
        slopes = []
        for weight, bias in self.layers:
            z = functional.linear(z, weight, bias)
            slopes.append(torch.where(z > 0, 1.0, SLOPE))
            z = z * slopes[-1]
        said = z @ self.verdict + self.constant
        back = self.goal * slopes[-1]
        for (weight, _), slope in zip(reversed(self.layers[1:]), reversed(slopes[:-1]), strict=True):
            back = (back @ weight) * slope
        return said, back.sum(0) @ self.layers[0][0]


def _stacked(layer: Any, frames: int) -> tuple[Tensor, Tensor]:
    """An equivariant layer with its normalisation as one matrix (T * out, T * in) and one vector, float64."""
    norm = layer.norm
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    own, joint = layer.L.weight.double() * scale[:, None], layer.G.weight.double() * scale[:, None]
    bias = (layer.L.bias.double() + layer.G.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    eye = torch.eye(frames, dtype=torch.float64)
    return torch.kron(eye, own) + torch.kron(torch.full_like(eye, 1 / frames), joint), bias.repeat(frames)
