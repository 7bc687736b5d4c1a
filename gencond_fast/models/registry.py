"""Names of the classifiers, for feature networks and for evaluation alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import torch

from gencond_fast.errors import InputError
from gencond_fast.models.alexnet import alexnet
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.convnet import convnet
from gencond_fast.models.custom import build_own, is_own, own_identity
from gencond_fast.models.mobilenet import mobilenetv2
from gencond_fast.models.resnet import resnet18, resnet50
from gencond_fast.models.vgg import vgg11
from gencond_fast.models.vit import vit

_BUILDERS: dict[str, Callable[..., Classifier]] = {
    "convnet3": partial(convnet, depth=3),
    "convnet4": partial(convnet, depth=4),
    "convnet5": partial(convnet, depth=5),
    "convnet3bn": partial(convnet, depth=3, norm="batch"),
    "resnet18": resnet18,
    "resnet18in": partial(resnet18, norm="instance"),
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "vgg11": vgg11,
    "vgg11bn": partial(vgg11, norm="batch"),
    "alexnet": alexnet,
    "vit": vit,
    "vit-s": partial(vit, width=384, heads=6, depth=12),
}
_WITH_WIDTH = tuple(name for name in _BUILDERS if name.startswith("convnet"))
_OTHERS = ("resnet18", "vgg11", "alexnet", "vit")  # than the ConvNets, one of each kind

ConvNetName = Literal["convnet3", "convnet4", "convnet5"]
MODEL_NAMES = tuple(_BUILDERS)
ALL = "all"  # stands for a ConvNet and one of each other kind


def choose_models(names: Iterable[str], image_size: int) -> tuple[str, ...]:
    """The names, with `all` spelled out for the image size; each once.

    `all` is a ConvNet of the depth that the literature takes for the side (3 up to 32 pixels, 4 up
    to 64, 5 above), ResNet-18, VGG-11, AlexNet and the small ViT.
    """
    every = (usual_convnet(image_size), *_OTHERS)
    found = [each for name in names for each in (every if name == ALL else (name,))]
    return tuple(dict.fromkeys(found))


def usual_convnet(image_size: int) -> ConvNetName:
    """The ConvNet of the depth that the literature takes for images of this side."""
    return "convnet3" if image_size <= 32 else "convnet4" if image_size <= 64 else "convnet5"


def has_width(name: str) -> bool:
    """Whether a width can be chosen."""
    return name in _WITH_WIDTH


def _split_width(name: str) -> tuple[str, int | None]:
    """The name of a model without the width that it states, as in `convnet3@64`, and the width."""
    base, _, width = name.partition("@")
    stated = base in _WITH_WIDTH and width.isascii() and width.isdecimal() and len(width) <= 5
    return (base, int(width)) if stated and int(width) else (name, None)


def model_identity(name: str) -> str:
    """What the weights of a trained model depend on beside their shapes, for cache keys.

    Raises:
        InputError: it is the user's own, and its module cannot be imported.
    """
    return own_identity(name) if is_own(name) else name


def build_classifier(
    name: str,
    channels: int,
    num_classes: int,
    image_size: int,
    *,
    seed: int,
    width: int | None = None,
) -> Classifier:
    """Builds a classifier whose initial weights depend on `seed` alone.

    Args:
        name: one of `MODEL_NAMES`, a ConvNet with its width (`convnet3@64`), `timm:NAME` or
            `torchvision:NAME` where that is installed, or `module:function` of the user's own,
            which is called with channels, num_classes and image_size and returns a module. Weights
            of others' networks depend on the seed as far as they are drawn from PyTorch's global
            random state on the CPU.
        channels: input channels, 1 or 3.
        num_classes: number of logits.
        image_size: side of the square input in pixels.
        seed: of the initial weights; the global random state is left as it was.
        width: channels a block, for the ConvNets; their default (128) when None.

    Raises:
        InputError: the name is unknown, a width is given to a network that has none, the images
            are too small for it, or the user's own cannot be used (see `build_own`).
    """
    base, stated = _split_width(name)
    if base not in _BUILDERS and not is_own(name):
        raise InputError(
            f"unknown model {name!r}: choose one of {', '.join(MODEL_NAMES)}, a ConvNet with its "
            "width such as convnet3@64, timm:NAME, torchvision:NAME, or write module:function for "
            "one of your own"
        )
    if width is not None and not has_width(name):
        raise InputError(f"model {name!r} has a fixed width: leave the width option out")
    width = stated or width
    options = {} if width is None else {"width": width}
    build = _BUILDERS.get(base) or partial(build_own, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(channels, num_classes, image_size, **options)
