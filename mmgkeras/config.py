"""What can be set, its defaults and its limits. `configs/*.toml` holds only what differs.

Owns the settings and how they are read and written; each function of the library takes its own section, never the
whole. The defaults are those of Sakaida et al. 2023; docs/protocol.md names the paper's place for each.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmgkeras.errors import ConfigError, counted, shown
from mmgkeras.json_files import Text, describe_fault, home_path, possible_path, read_limited, values_in_unicode

_MAX_BYTES: Final = 64 * 1024
_MAX_FAULTS: Final = 100
_MAX_DOTS: Final = 200
"""In one line: the time and memory of the parser grow with the square of a key's dots."""


class Section(BaseModel):
    """A table of the configuration file; its keys are fixed and its values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PatchesConfig(Section):
    """How mammograms are divided and patches labelled (paper, 3.2)."""

    patch_px: int = Field(default=224, ge=8, le=4096)
    stride_px: int | None = Field(default=None, ge=1, le=4096)
    """None for `patch_px`: no overlap, as in the paper."""
    spacing_mm: float | None = Field(default=None, ge=0.01, le=10)
    """Images of known, other pixel size are resampled to this one, their regions with them; None takes every image as
    it is, as in the paper."""
    cluster_fraction: float = Field(
        default=0.5, gt=0, le=1, validation_alias=AliasChoices("cluster_fraction", "envelope_fraction")
    )  # the second name is that of earlier versions, whose files are still read
    """A patch is positive if it holds this part of a cluster region, or a cluster region covers this part of it."""
    min_marks: int = Field(default=1, ge=1, le=1000)
    """A patch that holds some individual marks but fewer than this, and no such part of a cluster region, is unknown.
    More than 1 makes groups of calcifications what is looked for; the paper takes every calcification."""
    label_source: Literal["annotated", "assumed"] = "annotated"
    """"assumed" takes unmarked patches of images whose pathology is "normal" as free of calcification."""

    @model_validator(mode="after")
    def _stride_leaves_nothing_out(self) -> Self:
        if self.stride_px is not None and self.stride_px > self.patch_px:
            raise ValueError(f"stride_px must not exceed patch_px ({self.patch_px}). Received: {self.stride_px}")
        return self


class SplitConfig(Section):
    """How patients are divided into subsets (paper, 3.2 and Table 4)."""

    num_subsets: int = Field(default=5, ge=2, le=26)
    seed: int = Field(default=0, ge=0, lt=2**32)


class AugmentationConfig(Section):
    """How the classes are balanced (paper, 3.2 and Table 6)."""

    scheme: Literal["paper", "symmetric"] = "paper"
    """"paper": only positives are turned and darkened, so that a dark patch is a positive one and a network may learn
    that shortcut. "symmetric": negatives take part as often as in the paper, twice an epoch, but turned, flipped and
    darkened as positives are, by operations drawn anew each epoch: brightness and orientation no longer tell the class.
    """
    intensities: tuple[float, ...] = Field(default=(1.0, 0.5, 0.75), min_length=1, max_length=100, strict=False)
    """Factors on the pixel values of positives, each times 4 rotations and 2 flips; the first must be 1."""
    negatives_per_positive: float | None = Field(default=None, gt=0, le=10**6)
    """At most so many negative patches for each positive one, drawn anew every epoch; None for all, as in the paper."""
    min_negative_tissue: float = Field(default=0.0, ge=0, le=1)
    """Negatives on which the breast covers less of the patch are not trained on; the paper keeps even black ones."""
    insertion: float = Field(default=0.0, ge=0, le=0.9)
    """This part of the tissue negatives, drawn anew every time, gets calcifications of the phantom put in at the
    patch's own noise and sharpness, and becomes positive; none in the paper. The store must know its pixel size."""

    @model_validator(mode="after")
    def _first_is_unchanged(self) -> Self:
        if self.intensities[0] != 1.0 or not all(0 < factor <= 1 for factor in self.intensities):
            raise ValueError(f"intensities must begin with 1.0 and lie in (0, 1]. Received: {self.intensities}")
        return self


def _without_home(weights: str) -> str:
    path = Path(weights)
    return weights if home_path(path) == path else str(home_path(path))


class ModelConfig(Section):
    """Which network, and what it starts from (paper, 3.3)."""

    network: Text = "resnet18"
    """resnet18, resnet50, resnet101, or the name of a class of keras.applications such as "DenseNet121"."""
    width: float = Field(default=1.0, gt=0, le=1)
    """Times the number of filters in every layer of resnet18: 0.5 has a quarter of its weights and about a third of
    its time. Other networks, and weights from elsewhere, have 1 alone."""
    weights: Annotated[Text, AfterValidator(possible_path), AfterValidator(_without_home)] = "imagenet"
    """"imagenet", "none", "detector" (it comes with the package), the path of a local file, .safetensors
    (resnet18) or .h5 (the others), or the folder of a model that mmgkeras exported, such as
    "saved_models/phantom/1", to go on from whole."""
    normalisation: Literal["network", "training", "local"] = "network"
    """What a network sees: "network", the brightness as its pretrained weights expect it; "training", less the mean of
    the training patches, for networks whose own normalisation scales also divided by their standard deviation, as
    MATLAB's trainNetwork does unless told otherwise (the paper is silent); or "local", around middle gray, how each
    pixel differs from the mean of the 9 x 9 px around it."""
    pooling: Literal["average", "log_mean_exp", "top_k"] = "average"
    """How the cells of the last feature map, 32 px apart in ResNets, make one answer: the mean of their log odds, as in
    the paper, in which one small mark drowns; log(mean(exp(sharpness * log odds))) / sharpness; or the mean of the
    `pooling_top_k` highest."""
    pooling_sharpness: float = Field(default=1.0, gt=0, le=100)
    """Of "log_mean_exp". 1: the odds of a patch are the mean of its cells' odds. Toward 0 it becomes the average,
    toward infinity the highest cell."""
    pooling_top_k: int = Field(default=3, ge=1, le=10**6)
    """Of "top_k"; all cells where there are no more."""
    synchronized_batch_norm: bool = False

    @model_validator(mode="after")
    def _only_resnet18_is_narrow(self) -> Self:
        if self.width != 1 and (self.network != "resnet18" or self.weights == "imagenet"):
            raise ValueError(
                "width other than 1 needs network resnet18 and weights none or those of such a model. "
                f"Received: {self.width:g} with {self.network} and {self.weights}"
            )
        return self


class TrainConfig(Section):
    """How the network is trained (paper, 3.3); the update rule is MATLAB's `sgdm`."""

    epochs: int = Field(default=10, ge=1, le=10**5)
    batch_size: int = Field(default=128, ge=2, le=2**16)
    """Of all devices together; divisible by their number."""
    learning_rate: float = Field(default=0.001, gt=0, le=1000)
    learning_rate_drop_factor: float = Field(default=0.3, gt=0, le=1)
    learning_rate_drop_period: int = Field(default=1, ge=1, le=10**5)
    """In epochs."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    l2: float = Field(default=0.005, ge=0, le=1000)
    l2_batch_norm_factor: float = Field(default=1.0, ge=0, le=1000)
    l2_bias_factor: float = Field(default=0.0, ge=0, le=1000)
    head_rate_factor: float = Field(default=10.0, gt=0, le=1000)
    """Times the learning rate for the last layer, new unless `model.weights` is an exported model; the paper is silent,
    MATLAB's usual script has 10."""
    precision: Literal["float32", "bfloat16"] = "float32"
    tf32: bool = False
    """Whether GPUs may round the factors of float32 products to 10 bits (TensorFloat-32): TensorFlow's own default, and
    several times as fast; the weights then differ from those of other machines in the third digit."""
    jit_compile: bool = False
    """Compile the forward and backward pass with XLA: takes minutes at the start, then may be faster on GPUs."""
    batch_norm_recalibration: bool = Field(
        default=True, validation_alias=AliasChoices("batch_norm_recalibration", "population_statistics")
    )
    """Recompute batch-norm statistics at the end over an epoch of what was trained on, as MATLAB does."""
    ema_momentum: float = Field(default=0.0, ge=0, lt=1)
    """The exported weights are their exponential moving average over the steps by this momentum; 0 for the last ones.
    0.999 averages over about a thousand steps; never over more than a third of the run, so that the first weights count
    for no more than 5 %. An unfinished run exports the last ones."""
    initial_share: float = Field(default=0.0, ge=0, le=1)
    """The exported weights are this part of the initial ones and the rest of the trained ones (WiSE-FT, Wortsman 2022):
    a safeguard where few patients are learned from. Initial weights of a whole network alone; a finished run is
    exported again with another share, without training."""
    validation_patients: float = Field(default=0.0, ge=0, lt=1)
    """The part of the training patients that is held out and watched; none in the paper."""
    checkpoint_minutes: float = Field(default=2.0, gt=0, le=1440)
    """A run that is killed loses no more than this and a few steps; each epoch also ends with a checkpoint."""
    checkpoint_steps: int | None = Field(default=None, ge=1, le=10**9)
    """Also after so many steps of an epoch; None by time alone."""
    shuffle: Literal["every_epoch", "once"] = "every_epoch"
    """"once" repeats the first epoch's order, MATLAB's default; the paper is silent."""
    deterministic: bool = True
    """Same weights for the same seed on GPUs too, at some cost in speed."""
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _averages_need_statistics_of_their_own(self) -> Self:
        if self.ema_momentum and not self.batch_norm_recalibration:
            raise ValueError("ema_momentum needs batch_norm_recalibration. Received: batch_norm_recalibration = false")
        return self


TRAINING_SECTIONS: Final = ("augmentation", "model", "train")
"""What a training is made of; [patches] and [split] say how a store is to be made, and it was made before."""
NOT_OF_WEIGHTS: Final = frozenset({"checkpoint_minutes", "checkpoint_steps"})
"""Keys of [train] that change no weight: a run goes on with another value of them."""
AT_EXPORT: Final = "initial_share"
"""The key of [train] that counts at the end alone: a finished run is exported again with another value of it."""


Range = Annotated[tuple[float, float], Field(strict=False)]
"""From and to, drawn evenly for every image."""


class PhantomConfig(Section):
    """How phantoms look (docs/phantom.md). Whatever follows `looks` counts for `looks = "randomised"` alone.

    [mini-MIAS]: as measured on its films, without labels, by `benchmarks/phantom_statistics.py`.
    """

    looks: Literal["plain", "randomised"] = "plain"
    """"plain": one digital detector and one display. "randomised": every image has a look of its own, drawn from ranges
    that go beyond what is real, so that a network trained on them does not rely on any of it."""
    findings_per_breast: float = Field(default=6.0, ge=0, le=50)
    """Mean number; about 2.8 give the prevalence of the paper, more give a network more to learn from an image."""
    skin_findings_per_breast: float = Field(default=0.3, ge=0, le=50)
    """Mean number of groups of small ring-shaped calcifications as of the skin; general knowledge."""
    noise: Range = (0.25, 1.4)
    """Times the plain noise, drawn on a log scale [mini-MIAS: about 0.35]."""
    noise_trend: Range = (-2.0, 1.0)
    """The noise's deviation goes as the root of the attenuation to this power: 1 for quanta, less for films [mini-MIAS:
    falls with brightness]."""
    noise_sigma_px: Range = (0.3, 0.6)
    """Gaussian by which neighbouring pixels' noise is correlated; plain 0.35 [mini-MIAS: slope -1.7 at 1.5-2.4 /mm]."""
    blur_mm: Range = (0.0, 0.12)
    """Deviation of a Gaussian blur of the whole image, calcifications too, besides the detector's: film and scanner."""
    texture: Range = (0.3, 1.5)
    """Times the plain contrast of the finer glandular texture."""
    skin: Range = (0.1, 1.0)
    """Times the plain attenuation of the skin line, which films hardly show."""
    muscle: Range = (0.7, 2.5)
    """Times the plain thickness of the pectoral muscle, which is among the brightest of a film."""
    needles_per_cm2: Range = (0.0, 3.0)
    """Straight strands, each in a direction of its own; plain 4.5."""
    strands_per_cm2: Range = (8.0, 50.0)
    """Strands that follow one smooth field of directions, as Cooper's ligaments do; none in plain phantoms."""
    dust_per_cm2: Range = (0.02, 0.3)
    """Sharp specks; plain 0.18."""
    dark_dust: Range = (0.1, 0.9)
    """The part of them that is darker than its surroundings; plain 0.25."""
    fat_gray: Range = (0.1, 0.6)
    """Gray of fat, from black 0 to white 1 [mini-MIAS: mean gray of patches 0.28 to 0.79]."""
    tissue_range: Range = (0.25, 0.6)
    """By how much the densest tissue is brighter, at most to 0.97."""
    evenness: Range = (0.0, 1.0)
    """The part of the loss of thickness toward the skin that is made up for; a film fades out at 0, plain 0.8-0.97."""
    curve: Range = (-0.6, 0.6)
    """Bend of the tone curve into an S (positive) or its opposite; a film's characteristic curve is an S."""
    gamma: Range = (0.6, 1.7)
    """Exponent of the tone curve, drawn on a log scale: vendors' displays."""
    sharpening: Range = (0.0, 1.5)
    """Half of the images: times which the difference from a blurred image is added, as vendors' processing does."""
    sharpening_mm: Range = (0.3, 3.0)
    """Deviation of that blur, drawn on a log scale."""
    fog: Range = (0.0, 0.08)
    """Gray of the background."""
    lettering: Range = (0.0, 8.0)
    """Number of words, labels and arrows in the background and, in half of the images, also on the breast."""
    levels: Range = (90.0, 256.0)
    """A third of the images: number of gray levels."""
    jpeg_quality: Range = (40.0, 98.0)
    """A third of the images: JPEG and back."""
    line_gray: Range = (0.0, 0.015)
    """A fifth of the images: by how much rows, columns or a grid's stripes are off, as of a plate or its reader."""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name, value in self:
            lowest = -math.inf if name in ("noise_trend", "curve") else 0
            if isinstance(value, tuple) and not lowest <= value[0] <= value[1] <= 1000:
                raise ValueError(f"{name} must be a range from {lowest} at least to 1000 at most. Received: {value}")
        return self


class Config(Section):
    """The whole configuration; functions take their sections."""

    patches: PatchesConfig = PatchesConfig()
    split: SplitConfig = SplitConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    phantom: PhantomConfig = PhantomConfig()


def read_config(path: Path | None = None, *, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a TOML file with `section.key=value` overrides on top; all defaults without a file.

    Raises:
        ConfigError: for a file that is not there or not TOML, an unknown key, a value out of range.
    """
    values = {} if path is None else _read_toml(path)
    for override in overrides:
        _apply(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        where = path if path is not None else "configuration"
        faults = error.errors()
        more = [f"{where}: and {counted(len(faults) - _MAX_FAULTS, 'more fault')}"] if len(faults) > _MAX_FAULTS else []
        raise ConfigError(
            "\n".join([*(f"{where}: {_one_line(fault)}" for fault in faults[:_MAX_FAULTS]), *more])
        ) from error


def read_configs(paths: Sequence[Path], *, overrides: Sequence[str] = ()) -> dict[str, Config]:
    """The configuration of each TOML file by the file's name without its suffix, in order.

    Raises:
        ConfigError: as `read_config`, and for two files of one name.
    """
    configs: dict[str, Config] = {}
    for path in paths:
        if path.stem in configs:
            raise ConfigError(f"{path}: is called {path.stem}, as another configuration; give files of different names")
        configs[path.stem] = read_config(path, overrides=overrides)
    return configs


def write_config(config: Config, path: Path) -> None:
    """Writes every key, defaults too, as TOML that `read_config` reads back to an equal configuration."""
    lines = []
    for section, values in values_in_unicode(config.model_dump(mode="json")).items():
        lines.append(f"[{section}]")
        texts = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items() if value is not None}
        lines.extend(f"{key} = {text}" for key, text in texts.items())
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")


def _read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: if it cannot be read or is not TOML.
    """
    data = read_limited(path, max_bytes=_MAX_BYTES, kind=ConfigError)
    try:
        return _parse_toml(data.decode("utf-8-sig"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


def _parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML text.

    Raises:
        ValueError: if it is none, or nests so deep that the parser would need too much time or memory.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > _MAX_DOTS:
            raise ValueError(f"line {number} has over {_MAX_DOTS} dots; a key has one")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def _apply(values: dict[str, Any], override: str) -> None:
    """Sets one `section.key=value`; the value is TOML, and text that is not TOML stands for itself."""
    name, equals, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set takes section.key=value, such as train.epochs=3. Received: {shown(override)}")
    try:
        value = _parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    table = values.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{section}: must be a table of keys. Received: {shown(table)}")
    table[key] = value


def _one_line(fault: Any) -> str:
    """What is wrong with one key, what was received and what is allowed; for an unknown key also the nearest."""
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return describe_fault(fault)
    *parents, key = (str(part) for part in fault["loc"])
    fields = _fields(parents)
    near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(fields)}"
    return f"{place}: no such key; {hint}"


def _fields(parents: Sequence[str]) -> list[str]:
    section: type[BaseModel] = Config
    for parent in parents:
        section = cast(type[BaseModel], section.model_fields[parent].annotation)
    return list(section.model_fields)
