"""The branched ERFNet: one encoder, three decoders (paper, section 3.1), in two or three dimensions.

Names and shapes of its weights are those of the published checkpoints. S stands for the spatial axes, (Y, X) or
(Z, Y, X); each is a multiple of :func:`multiple_of`. D = 2 or 3 is their number.
"""

from __future__ import annotations

import torch
from torch import nn

from howdah.nn.checkpoint import State

__all__ = ["BranchedERFNet", "multiple_of", "published", "shapes"]

Tensor = torch.Tensor
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}

N_POOLINGS = 3
FEATURES = 128
EPS, MOMENTUM = 1e-3, 0.1
DILATIONS = (2, 4, 8, 16)


def multiple_of(n_dims: int = 2, keep_axials: int = 0) -> tuple[int, ...]:
    """Return what each spatial size of an image must be a multiple of, (Y, X) or (Z, Y, X)."""
    whole: int = 2**N_POOLINGS
    return (whole, whole) if n_dims == 2 else (2 ** (N_POOLINGS - keep_axials), whole, whole)


def _strides(n_dims: int, keep_axials: int) -> list[tuple[int, ...]]:
    """Stride of each pooling; in 3D the first ``keep_axials`` leave z alone."""
    return [(2, 2) if n_dims == 2 else (1 if level < keep_axials else 2, 2, 2) for level in range(N_POOLINGS)]


class _Down(nn.Module):
    """Half the size: strided convolution beside maximum pooling."""

    def __init__(self, n_in: int, n_out: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        dims = len(stride)
        self.conv = CONV[dims](n_in, n_out - n_in, 3, stride=stride, padding=1)  # type: ignore[arg-type]
        self.pool = POOL[dims](stride, stride=stride)
        self.bn = NORM[dims](n_out, eps=EPS, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.conv(x), self.pool(x)], dim=1)
        return torch.relu(self.bn(both))


class _Up(nn.Module):
    """Twice the size: transposed convolution."""

    def __init__(self, n_in: int, n_out: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        dims, more = len(stride), tuple(s - 1 for s in stride)
        self.conv = TRANSPOSED[dims](n_in, n_out, 3, stride=stride, padding=1, output_padding=more)  # type: ignore[arg-type]
        self.bn = NORM[dims](n_out, eps=EPS, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class _Residual(nn.Module):
    """Convolutions along one axis after the other, twice, the second time dilated; added to what came in."""

    def __init__(self, width: int, *, n_dims: int, dropout: float = 0.0, dilation: int = 1) -> None:
        super().__init__()
        for number, spread in ((1, 1), (2, dilation)):
            for name, axis in zip(("conv3x1", "conv1x3", "conv1x1x3"), _axes(n_dims), strict=False):
                kernel = tuple(3 if i == axis else 1 for i in range(n_dims))
                wide = spread if axis >= n_dims - 2 else 1  # along z there are few planes: nothing is skipped
                padding = tuple(wide if i == axis else 0 for i in range(n_dims))
                steps = tuple(wide if i == axis else 1 for i in range(n_dims))
                conv = CONV[n_dims](width, width, kernel, padding=padding, dilation=steps)  # type: ignore[arg-type]
                setattr(self, f"{name}_{number}", conv)
            setattr(self, f"bn{number}", NORM[n_dims](width, eps=EPS, momentum=MOMENTUM))
        self.names = ("conv3x1", "conv1x3", "conv1x1x3")[:n_dims]
        self.dropout = DROPOUT[n_dims](dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self._half(torch.relu(self._half(x, 1)), 2)
        return torch.relu(self.dropout(inner) + x)

    def _half(self, x: Tensor, number: int) -> Tensor:
        for name in self.names[:-1]:
            x = torch.relu(getattr(self, f"{name}_{number}")(x))
        x = getattr(self, f"{self.names[-1]}_{number}")(x)
        normed: Tensor = getattr(self, f"bn{number}")(x)
        return normed


def _axes(n_dims: int) -> tuple[int, ...]:
    """The axis of each convolution of a residual block: y, x, then z."""
    return (0, 1) if n_dims == 2 else (1, 2, 0)


class _Encoder(nn.Module):
    def __init__(self, n_channels: int, n_dims: int, strides: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.initial_block = _Down(n_channels, 16, strides[0])
        layers: list[nn.Module] = [_Down(16, 64, strides[1])]
        layers += [_Residual(64, n_dims=n_dims, dropout=0.03) for _ in range(5)]
        layers.append(_Down(64, FEATURES, strides[2]))
        layers += [_Residual(FEATURES, n_dims=n_dims, dropout=0.3, dilation=d) for d in DILATIONS * 2]
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.initial_block(x)
        for layer in self.layers:
            x = layer(x)
        return x


class _Decoder(nn.Module):
    def __init__(self, n_in: int, n_out: int, n_dims: int, strides: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                _Up(n_in, 64, strides[2]),
                *(_Residual(64, n_dims=n_dims) for _ in range(2)),
                _Up(64, 16, strides[1]),
                *(_Residual(16, n_dims=n_dims) for _ in range(2)),
            ]
        )
        self.output_conv = TRANSPOSED[n_dims](16, n_out, strides[0], stride=strides[0])  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.output_conv(x)
        return out


class BranchedERFNet(nn.Module):
    """The network: a pair of frames to offsets, bandwidths, seediness, and tracking offsets, all before activation.

    Args:
        n_dims: 2 or 3 spatial axes.
        n_channels: Channels of an image.
        keep_axials: In 3D, how many of the three poolings leave z alone.
    """

    def __init__(self, n_dims: int = 2, n_channels: int = 1, keep_axials: int = 0) -> None:
        super().__init__()
        strides = _strides(n_dims, keep_axials)
        self.n_dims = n_dims
        self.encoder = _Encoder(n_channels, n_dims, strides)
        self.decoders = nn.ModuleList(
            [
                _Decoder(FEATURES, 2 * n_dims, n_dims, strides),
                _Decoder(FEATURES, 1, n_dims, strides),
                _Decoder(2 * FEATURES, n_dims, n_dims, strides),
            ]
        )
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """An untrained network says: no offset, and a bandwidth of a few pixels."""
        for number in (0, 2):
            last = self.decoders[number].output_conv
            last.weight.zero_()  # type: ignore[union-attr, operator]
            last.bias.zero_()  # type: ignore[union-attr, operator]
        self.decoders[0].output_conv.bias[self.n_dims :] = 1.0  # type: ignore[union-attr, operator]

    def encode(self, image: Tensor) -> Tensor:
        """Turn images (B, C, *S) into features (B, 128, *S / 8)."""
        features: Tensor = self.encoder(image)
        return features

    def segment(self, features: Tensor) -> Tensor:
        """Turn features into (B, 2 D + 1, *S): offsets (y, x) or (z, y, x), bandwidths likewise, seediness."""
        return torch.cat([self.decoders[0](features), self.decoders[1](features)], dim=1)

    def track(self, later: Tensor, earlier: Tensor) -> Tensor:
        """Turn the features of two frames into tracking offsets (B, D, *S) of the later one's pixels."""
        offsets: Tensor = self.decoders[2](torch.cat([later, earlier], dim=1))
        return offsets

    def forward(self, later: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Do all of it for pairs of frames (B, C, *S).

        Returns:
            Segmentation of the later and of the earlier frames, (B, 2 D + 1, *S), and tracking offsets, (B, D, *S).
        """
        n = len(later)
        features = self.encode(torch.cat([later, earlier]))  # normalised together in training
        both = self.segment(features)
        return both[:n], both[n:], self.track(features[:n], features[n:])


def shapes(n_dims: int = 2, n_channels: int = 1, keep_axials: int = 0) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the entries of the state dict."""
    with torch.device("meta"):
        network = BranchedERFNet(n_dims, n_channels, keep_axials)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def published(state: State) -> bool:
    """Tell whether a state dict (its keys without ``module.``) is one of a branched ERFNet, ours or the authors'."""
    return "encoder.initial_block.conv.weight" in state and "decoders.2.output_conv.weight" in state
