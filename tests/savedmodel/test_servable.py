from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from mmgkeras.errors import InputError
from mmgkeras.images import resample
from mmgkeras.images.jpeg import decode_jpeg
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.graph_division import FIELDS
from mmgkeras.savedmodel.mammogram_endpoint import detect_endpoint
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.savedmodel.servable import Servable, load_servable, servables, write_servables
from mmgkeras.schema import ImageRecord, Mammogram, Pixels, PixelType, ScoreMap, Side

OUTPUTS = {
    "activation",
    "cell_centres_px",
    "decision",
    "grid",
    "model_name",
    "model_spacing_mm",
    "model_version",
    "probability",
    "score",
    "spacing_mm",
    "store_checksum",
    "threshold",
}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Callable[..., Classifier]:
    """A classifier of 8 px patches of 0.2 mm; the brighter, the more probable."""
    numbers = iter(range(1, 100))

    def make_one(*, stride_px: int = 8, pixel_type: PixelType = "uint16") -> Classifier:
        folder = tmp_path_factory.mktemp("models") / "mean" / str(next(numbers))
        return load(export_mean_model(folder, changes={"stride_px": stride_px, "pixel_type": pixel_type}))

    return make_one


@pytest.fixture(scope="module")
def classifier(make: Callable[..., Classifier]) -> Classifier:
    return make()


@pytest.fixture(scope="module")
def written(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_servables(classifier, tmp_path_factory.mktemp("servables"), name="mine", version=7)


def encoded(pixels: np.ndarray, form: str = "png") -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def run(
    servable: Servable, images: Sequence[bytes], sides: Sequence[str], *, spacing_mm: Sequence[float] | None = None
) -> dict[str, Any]:
    inputs = {"image_bytes": np.array(images, object), "chest_wall": np.array([side.encode() for side in sides])}
    if spacing_mm is not None:
        inputs["spacing_mm"] = np.array(spacing_mm)
    return servable.run("detect", inputs)


def scored(classifier: Classifier, pixels: Pixels, side: Side) -> ScoreMap:
    return classifier.score(Mammogram(pixels, ImageRecord("x", "", "p", "L", "CC", "none", chest_wall=side)))


def noise(shape: tuple[int, int], dtype: type = np.uint8) -> Pixels:
    return np.random.default_rng(shape[0]).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("stride_px", [8, 5, 1])
def test_mixed_images_get_the_probabilities_of_the_library(make: Callable[..., Classifier], stride_px: int) -> None:
    classifier = make(stride_px=stride_px)
    servable, _ = servables(classifier, name="mine", version=3)
    jpeg = encoded(np.repeat(noise((33, 20))[:, :, None], 3, axis=2), "jpeg")
    images: list[tuple[Pixels, bytes, Side]] = [
        (noise((40, 27)), encoded(noise((40, 27))), "left"),
        (noise((9, 50), np.uint16), encoded(noise((9, 50), np.uint16)), "right"),
        (decode_jpeg(jpeg), jpeg, "right"),
        (np.zeros((3, 3), np.uint8), encoded(np.zeros((3, 3), np.uint8)), "left"),
    ]
    answer = run(servable, [data for _, data, _ in images], [side for _, _, side in images])
    assert answer.keys() == OUTPUTS
    for number, (pixels, _, side) in enumerate(images):
        expected = scored(classifier, pixels, side)
        rows, cols = expected.probabilities.shape
        np.testing.assert_allclose(answer["probability"][number, :rows, :cols], expected.probabilities, atol=1e-6)
        assert (answer["probability"][number, rows:] == -1).all()
        assert (answer["probability"][number, :, cols:] == -1).all()
        assert answer["grid"][number].tolist() == [getattr(expected.grid, name) for name in FIELDS]
        assert answer["score"][number] == pytest.approx(expected.probabilities.max(), abs=1e-6)
        assert answer["decision"][number] == (answer["score"][number] >= 0.5)
    assert all(np.isfinite(values).all() for values in answer.values() if values.dtype.kind == "f")
    assert answer["model_name"].tolist() == [b"mine"] * 4
    assert answer["model_version"].tolist() == [b"3"] * 4
    assert answer["store_checksum"].tolist() == [b"0" * 64] * 4
    assert answer["threshold"].tolist() == [0.5] * 4


def test_the_activation_is_that_of_the_library(classifier: Classifier) -> None:
    servable, _ = servables(classifier, name="mine", version=1)
    pixels = noise((20, 30))
    answer = run(servable, [encoded(pixels)], ["left"])
    mammogram = Mammogram(pixels, ImageRecord("x", "", "p", "L", "CC", "none"))
    _, activation = classifier.localise_mammogram(mammogram)
    np.testing.assert_allclose(answer["activation"][0], activation.values, atol=1e-5)
    np.testing.assert_array_equal(answer["cell_centres_px"], [activation.centres_px])


def test_an_image_of_another_pixel_size_is_resampled_to_the_models(classifier: Classifier) -> None:
    servable, _ = servables(classifier, name="mine", version=1)
    pixels = noise((41, 30))
    # 0.2001 mm is near enough to the model's 0.2, and 0 is unknown.
    answer = run(servable, [encoded(pixels)] * 4, ["left"] * 4, spacing_mm=[0.1, 0.2001, 0, 0.3])
    for number, factor in enumerate([0.5, 1, 1, 1.5]):
        expected = scored(classifier, resample(pixels, factor=factor), "left").probabilities
        rows, cols = expected.shape
        np.testing.assert_allclose(answer["probability"][number, :rows, :cols], expected, atol=1e-4 * (factor > 1))
    np.testing.assert_allclose(answer["spacing_mm"], [0.2, 0.2001, 0, 0.2], atol=1e-6)
    assert answer["model_spacing_mm"].tolist() == pytest.approx([0.2] * 4)


def test_one_blank_patch_stands_for_all(classifier: Classifier) -> None:
    detect = detect_endpoint(classifier, name="mine", version="1", blank_max=255 * 257)
    pixels = noise((16, 16))
    answer = detect(tf.constant([encoded(pixels)]), tf.constant(["left"]))
    first = scored(classifier, pixels, "left").probabilities[0, 0]
    np.testing.assert_allclose(answer["probability"], np.full((1, 2, 2), first), atol=1e-6)


GOOD = encoded(noise((9, 9)))


@pytest.mark.parametrize(
    ("images", "sides", "spacing_mm", "message"),
    [
        ([GOOD, b"no image"], ["left", "left"], [0.1, 0.1], "must be a PNG or a JPEG"),
        ([GOOD], ["middle"], [0.1], "chest_wall must be left or right"),
        ([GOOD], ["left"], [np.nan], "spacing_mm must be 0"),
        ([GOOD], ["left"], [-1], "spacing_mm must be 0"),
        ([GOOD, GOOD], ["left"], [0], "must be as many as images"),
        ([GOOD, GOOD], ["left", "left"], [0, 0, 0], "must be as many as images"),
        ([], [], [0.1], "at least one image"),
        ([encoded(np.zeros((2000, 300), np.uint8))], ["left"], [100], "resampled to the pixel size of the model"),
    ],
)
def test_a_bad_request_is_refused_with_the_rule(
    classifier: Classifier, images: list[bytes], sides: list[str], spacing_mm: list[float], message: str
) -> None:
    servable, _ = servables(classifier, name="mine", version=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(servable, images, sides, spacing_mm=spacing_mm)


def test_16_bits_are_not_rounded_to_8(make: Callable[..., Classifier]) -> None:
    servable, _ = servables(make(pixel_type="uint8"), name="mine", version=1)
    np.testing.assert_array_equal(run(servable, [GOOD], ["left"])["grid"][0, :2], [9, 9])
    with pytest.raises(tf.errors.InvalidArgumentError, match="takes 8 bits"):
        run(servable, [encoded(noise((9, 9), np.uint16))], ["left"])


def test_the_pair_is_written_and_says_the_same_when_loaded(classifier: Classifier, written: tuple[Path, Path]) -> None:
    whole, patches = written
    assert [path.parts[-2:] for path in written] == [("mine", "7"), ("mine-patches", "7")]
    loaded = load_servable(whole)
    assert (loaded.name, loaded.version) == ("mine", 7)
    assert loaded.functions.keys() == {"detect", "serving_default"}
    in_memory, _ = servables(classifier, name="mine", version=7)
    expected, received = run(in_memory, [GOOD], ["left"]), run(loaded, [GOOD], ["left"])
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(received[name], values)
    assert load_servable(patches).functions.keys() == {"classify_patches", "localise_patches", "serving_default"}
    assert load(patches).classify(np.zeros((1, 8, 8, 1), np.uint16)).shape == (1,)
    assert read_metadata(whole) == read_metadata(patches) == classifier.metadata


def test_a_servers_signature_names_everything_and_gives_the_spacing_a_default(written: tuple[Path, Path]) -> None:
    model = saved_model_pb2.SavedModel.FromString((written[0] / "saved_model.pb").read_bytes())
    signatures = model.meta_graphs[0].signature_def
    assert set(signatures) == {"detect", "serving_default", "__saved_model_init_op"}
    assert set(signatures["serving_default"].inputs) == {"image_bytes", "chest_wall", "spacing_mm"}
    assert set(signatures["serving_default"].outputs) == OUTPUTS
    assert set(signatures["serving_default"].defaults) == {"spacing_mm"}


def test_a_version_that_is_there_is_left_as_it_is(classifier: Classifier, written: tuple[Path, Path]) -> None:
    before = [(path / "saved_model.pb").stat().st_mtime_ns for path in written]
    assert write_servables(classifier, written[0].parents[1], name="mine", version=7) == written
    assert [(path / "saved_model.pb").stat().st_mtime_ns for path in written] == before


def test_a_damaged_one_is_one_line(written: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_servable(tmp_path / "mine" / "1")
