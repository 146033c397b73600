"""The architecture: a small residual network whose evidence map sums to its logit.

Input is greyscale uint8; outputs are a logit, the evidence map and the pooled features. Everything
from pixels to logit is inside the network, including normalisation, so serving repeats nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from training.fit.augmentation import Augmentation
from training.fit.sizes import margin_of

_PACKAGE = "lungwatch"
_LEVEL = 6.0  # largest range of grey levels in a frame, because of JPEG noise
_HALF = 1  # rows that mix frame and film, at the size of the input


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The parameters of the network."""

    height: int = 160  # of the input, pixels
    width: int = 160
    margin: int = 16  # pixels ignored on each side of the input: letters, borders
    stem: int = 16  # channels after the first convolution, at half size
    stages: tuple[int, ...] = (32, 64, 128, 192)  # channels of each residual stage
    strides: tuple[int, ...] = (2, 2, 2, 1)  # the last map is 8 x 8: finer evidence than 4 x 4
    dropout: float = 0.25  # of whole channels before the head, in training
    anti_aliased: bool = True  # each stage blurs before it halves

    @classmethod
    def of(cls, side: int) -> Architecture:
        """Return the architecture for films of this many pixels a side.

        A tenth on each side is ignored, if the strides then divide the rest evenly.
        """
        margin = margin_of(side, cell=math.prod((2, *cls.strides)))
        return cls(height=side, width=side, margin=margin)


@keras.saving.register_keras_serializable(_PACKAGE)
class FillFrame(layers.Layer):  # type: ignore[misc] # keras has no types
    """Replace a uniform frame around a film by continuing the film to its edges.

    (n, h, w, 1) of any number type to (n, h, w, 1) float32. Collimators, exports and screenshots
    leave such frames, and a network that pools over the whole film takes them for a finding. Rows
    and columns from the edges inwards with one grey level, within `_LEVEL`, are replaced by the
    first row or column of film that is not partly frame. A film without a frame, or a uniform one,
    stays bit for bit as it is.
    """

    def call(self, films: Any) -> Any:
        """Fill rows, then columns."""
        films = ops.cast(films, "float32")
        return self._fill(self._fill(films, axis=1), axis=2)

    def _fill(self, films: Any, *, axis: int) -> Any:
        across = (3 - axis, 3)
        size = films.shape[axis]
        spread = ops.max(films, axis=across) - ops.min(films, axis=across)
        film = ops.cast(spread > _LEVEL, "int32")  # (n, size): 1 for a row that is not frame
        first = ops.cast(ops.argmax(film, axis=1), "int32")
        last = size - 1 - ops.cast(ops.argmax(ops.flip(film, axis=1), axis=1), "int32")
        # Pixels between frame and film are mixtures of both.
        first = ops.where(first > 0, ops.minimum(first + _HALF, last), first)
        last = ops.where(last < size - 1, ops.maximum(last - _HALF, first), last)
        place = ops.arange(size, dtype="int32")
        source = ops.minimum(ops.maximum(place[None, :], first[:, None]), last[:, None])
        # A product with a selection matrix is exact, and every converter supports it.
        chosen = ops.cast(ops.equal(source[:, :, None], place[None, None, :]), "float32")
        pixels = ops.squeeze(films, axis=3)
        filled = (
            ops.matmul(chosen, pixels)
            if axis == 1
            else ops.matmul(pixels, ops.transpose(chosen, (0, 2, 1)))
        )
        return ops.expand_dims(filled, axis=3)


@keras.saving.register_keras_serializable(_PACKAGE)
class Standardise(layers.Layer):  # type: ignore[misc] # keras has no types
    """Give each film mean 0 and standard deviation 1, which cancels exposure and contrast.

    (n, h, w, 1) of any number type to (n, h, w, 1) float32. The epsilon, in grey levels squared,
    keeps a uniform film at 0 instead of dividing by 0.
    """

    def call(self, films: Any) -> Any:
        """Standardise each film by its own mean and variance."""
        films = ops.cast(films, "float32")
        centred = films - ops.mean(films, axis=(1, 2, 3), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)
        return centred * ops.rsqrt(variance + 1.0)


@keras.saving.register_keras_serializable(_PACKAGE)
class BlurPool(layers.Layer):  # type: ignore[misc] # keras has no types
    """Blur by [1 2 1] / 4 in both directions, then take every second pixel, to avoid aliasing.

    (n, h, w, c) float32 to (n, h / 2, w / 2, c), h and w even. The output then depends less on
    small shifts of the film: Zhang 2019, *Making Convolutional Networks Shift-Invariant Again*,
    with the smaller of its filters.
    """

    def call(self, maps: Any) -> Any:
        """Blur each channel, and halve."""
        line = np.array([1, 2, 1], dtype=np.float32) / 4
        kernel = np.tile(np.outer(line, line)[:, :, None, None], (1, 1, maps.shape[-1], 1))
        return ops.depthwise_conv(maps, kernel, strides=2, padding="same")


@keras.saving.register_keras_serializable(_PACKAGE)
class EvidenceHead(layers.Layer):  # type: ignore[misc] # keras has no types
    """Global average pooling and one dense output, which also gives the evidence map.

    (n, h, w, c) to a dict of `logit` (n, 1), `evidence` (n, rows, columns, 1) and `features`
    (n, c). The evidence is the class activation map of Zhou et al. 2016, *Learning Deep Features
    for Discriminative Localization*, divided by h * w, with the bias spread evenly: it sums to the
    logit. It covers the whole film and is 0 in the ignored margin: each cell is cut into `parts` *
    `parts`, and `rim` such parts are added on all sides.
    """

    def __init__(self, *, parts: int = 1, rim: int = 0, **options: Any) -> None:
        """Set the placement of the map on the film."""
        super().__init__(**options)
        self.parts = parts
        self.rim = rim

    def get_config(self) -> dict[str, Any]:
        """Return the arguments to build this layer again."""
        return {**super().get_config(), "parts": self.parts, "rim": self.rim}

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the dense layer's kernel, (c, 1), and bias, (1,)."""
        self.kernel = self.add_weight(
            name="kernel", shape=(shape[-1], 1), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")

    def call(self, maps: Any) -> dict[str, Any]:
        """Compute the evidence first and the logit as its sum."""
        _, height, width, channels = maps.shape
        kernel = ops.reshape(self.kernel, (1, 1, channels, 1))
        evidence = (ops.conv(maps, kernel) + self.bias) / (height * width)
        return {
            "logit": ops.sum(evidence, axis=(1, 2)),
            "evidence": self._over_the_film(evidence),
            "features": ops.mean(maps, axis=(1, 2)),
        }

    def _over_the_film(self, evidence: Any) -> Any:
        if self.parts > 1:
            evidence = ops.repeat(ops.repeat(evidence, self.parts, axis=1), self.parts, axis=2)
            evidence = evidence / self.parts**2
        rim = (self.rim, self.rim)
        return ops.pad(evidence, ((0, 0), rim, rim, (0, 0))) if self.rim else evidence


def build_network(architecture: Architecture) -> keras.Model:
    """Build the network with new weights.

    Returns:
        A model from (n, height, width, 1) uint8 to the dict of `EvidenceHead`. Augmentation is its
        first layer and does nothing outside training.
    """
    films = keras.Input((architecture.height, architecture.width, 1), dtype="uint8", name="film")
    x = Augmentation(name="augmentation")(films)
    x = FillFrame(name="fill_frame")(x)
    x = layers.Cropping2D(architecture.margin, name="margin")(x)
    x = Standardise(name="standardise")(x)
    x = _convolution(x, architecture.stem, size=5, stride=2)
    x = layers.ReLU()(x)
    for channels, stride in zip(architecture.stages, architecture.strides, strict=True):
        x = _residual(x, channels, stride=stride, anti_aliased=architecture.anti_aliased)
    x = layers.SpatialDropout2D(architecture.dropout)(x)
    cell = math.prod((2, *architecture.strides))  # pixels of the input
    part = math.gcd(cell, architecture.margin)
    head = EvidenceHead(parts=cell // part, rim=architecture.margin // part, name="head")
    return keras.Model(films, head(x), name="lungwatch")


def shift_logit(network: keras.Model, shift: float) -> None:
    """Add to the network's bias, and so to every logit."""
    bias = network.get_layer("head").bias
    bias.assign(bias + shift)


def describe(architecture: Architecture) -> dict[str, Any]:
    """Return the architecture as plain values, for the manifest."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(architecture).items()
    }


def _convolution(x: Any, channels: int, *, size: int = 3, stride: int = 1) -> Any:
    x = layers.Conv2D(
        channels,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    # Momentum 0.9, because an epoch has some sixty steps and the running statistics must follow.
    return layers.BatchNormalization(momentum=0.9)(x)


def _residual(x: Any, channels: int, *, stride: int, anti_aliased: bool) -> Any:
    """He et al. 2016, with the pooled shortcut of He et al. 2019 (*Bag of Tricks*, ResNet-D)."""
    shortcut = x
    blurred = anti_aliased and stride == 2
    if stride > 1 or x.shape[-1] != channels:
        if stride > 1:
            shortcut = layers.AveragePooling2D(stride)(shortcut)
        shortcut = _convolution(shortcut, channels, size=1)
    y = _convolution(x, channels, stride=1 if blurred else stride)
    y = layers.ReLU()(BlurPool()(y) if blurred else y)
    y = _convolution(y, channels)
    return layers.ReLU()(layers.Add()([shortcut, y]))
