"""The networks there are: by name, how to build each without its classifier and how its input is normalised.

Owns the choice of a backbone. Weights are loaded in `weights`, the classifier is added in `network`.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import keras

from mmgkeras.errors import ConfigError
from mmgkeras.models.resnet18 import resnet18, standardise

_PAPER_NETWORKS: Final = {"resnet50": "ResNet50", "resnet101": "ResNet101"}

# EfficientNetB0 to B7 keep the statistics of their input in the weights file and change their layers with the kind of
# weights: copied into another network of the same name, as export and checkpoints do, they would be wrong in silence.
_LEFT_OUT: Final = frozenset({"efficientnet"})


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network without its classifier.

    Attributes:
        name: as in `ModelConfig.network`.
        application: the class of keras.applications; None for our own ResNet18.
        preprocess: of images (B, H, W, 3) float32 between 0 and `white`, to the network's input.
        white: what `preprocess` takes for the brightest value.
    """

    name: str
    application: Callable[..., Any] | None
    preprocess: Callable[[Any], Any]
    white: float

    def build(
        self, *, patch_px: int, weights: str | None = None, is_pooled: bool = True, width: float = 1.0
    ) -> keras.Model:
        """(B, patch_px, patch_px, 3) normalised images in, (B, F) globally averaged features out.

        Args:
            patch_px: edge of a patch in pixels.
            width: times the number of filters, of our own ResNet18 alone.
            is_pooled: if not, the last feature map (B, h, w, F) comes out; the weights are the same.
            weights: None for random weights; "imagenet" to let keras.applications download its own.

        Raises:
            ConfigError: if the network does not work on patches so small.
        """
        input_shape = (patch_px, patch_px, 3)
        if self.application is None:
            return resnet18(input_shape=input_shape, name=self.name, is_pooled=is_pooled, width=width)
        try:
            pooling = "avg" if is_pooled else None
            return self.application(include_top=False, weights=weights, input_shape=input_shape, pooling=pooling)
        except ValueError as error:
            if "Input size must be at least" not in str(error):
                raise
            rule = str(error).partition(";")[0].replace("Input size", "patches")
            raise ConfigError(f"patches.patch_px: {self.name}: {rule}. Received: {patch_px}") from error


def find_backbone(name: str) -> Backbone:
    """The network of this name.

    Raises:
        ConfigError: if there is none; the nearest name is suggested.
    """
    if name == "resnet18":
        return Backbone(name, application=None, preprocess=standardise, white=1.0)
    modules = _application_modules()
    class_name = _PAPER_NETWORKS.get(name, name)
    if class_name not in modules:
        names = ["resnet18", *_PAPER_NETWORKS, *modules]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
        raise ConfigError(f"model.network: no such network {name!r}; {hint}")
    module = modules[class_name]

    def preprocess(image: Any) -> Any:
        return module.preprocess_input(image, data_format="channels_last")

    return Backbone(name, application=getattr(keras.applications, class_name), preprocess=preprocess, white=255.0)


def _application_modules() -> dict[str, ModuleType]:
    """For every network of keras.applications that is offered, the module with its preprocessing."""
    modules = {}
    for name, build in vars(keras.applications).items():
        if name[0].isupper():
            module_name = build.__module__.rpartition(".")[2]
            if module_name not in _LEFT_OUT:
                modules[name] = getattr(keras.applications, module_name)
    return modules
