import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError
from mmgkeras.models.network import build_network
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.metadata import METADATA_FILE, ModelMetadata, patients_digest
from mmgkeras.schema import ImageRecord, Laterality, Mammogram, Pixels


@pytest.fixture(scope="module")
def classifier(model_path: Path) -> Classifier:
    return load(model_path)


@pytest.fixture(scope="module")
def deep_classifier(deep_model_path: Path) -> Classifier:
    return load(deep_model_path)


def mammogram(pixels: Pixels, *, laterality: Laterality) -> Mammogram:
    return Mammogram(pixels, ImageRecord("one", "one.png", "p1", laterality, "CC", "complete"))


def expected(mean: float) -> float:
    return 1 / (1 + np.exp(-2 * (mean / 255 - 0.5)))


def test_more_patches_than_a_batch_keep_their_order(classifier: Classifier) -> None:
    means = np.arange(131) + 20
    patches = np.broadcast_to(means[:, None, None, None], (131, 4, 4, 1)).astype(np.uint8)
    np.testing.assert_allclose(classifier.classify(patches), [expected(mean) for mean in means], atol=1e-6)


def test_no_patches_give_no_probabilities(classifier: Classifier) -> None:
    assert classifier.classify(np.zeros((0, 4, 4, 1), np.uint8)).shape == (0,)


def test_eight_bits_into_a_model_of_sixteen_are_promoted_by_257(
    classifier: Classifier, deep_classifier: Classifier
) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    np.testing.assert_allclose(deep_classifier.classify(patches), classifier.classify(patches), atol=1e-6)


def test_sixteen_bits_into_a_model_of_eight_are_refused(classifier: Classifier) -> None:
    with pytest.raises(
        InputError, match=r"takes pixels of type uint8, and does not round 16 bits to 8. Received: uint16"
    ):
        classifier.classify(np.zeros((1, 4, 4, 1), np.uint16))


def test_other_types_are_refused(deep_classifier: Classifier) -> None:
    with pytest.raises(InputError, match=r"takes pixels of type uint8 or uint16. Received: float32"):
        deep_classifier.classify(np.zeros((1, 4, 4, 1), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 5, 4, 1), (2, 4, 4), (4, 4, 1), (2, 4, 4, 3)])
def test_patches_of_another_size_are_refused(classifier: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes patches of shape \(N, 4, 4, 1\). Received: \("):
        classifier.classify(np.zeros(shape, np.uint8))


def test_right_breast_is_scored_on_the_grid_of_its_bottom_right_corner(classifier: Classifier) -> None:
    pixels = np.full((5, 6), 255, np.uint8)
    score_map = classifier.score(mammogram(pixels, laterality="R"))
    # Two rows and two columns: the padding of 3 rows above and 2 columns to the left counts as 0.
    means = [[255 * 2 / 16, 255 * 4 / 16], [255 * 8 / 16, 255]]
    np.testing.assert_allclose(score_map.probabilities, np.vectorize(expected)(means), atol=1e-6)
    assert score_map.image_id == "one"
    assert score_map.seconds is not None
    assert score_map.seconds > 0


def test_left_breast_is_scored_on_the_grid_of_its_bottom_left_corner(classifier: Classifier) -> None:
    score_map = classifier.score(mammogram(np.full((5, 6), 255, np.uint8), laterality="L"))
    means = [[255 * 4 / 16, 255 * 2 / 16], [255, 255 * 8 / 16]]
    np.testing.assert_allclose(score_map.probabilities, np.vectorize(expected)(means), atol=1e-6)


def test_a_smaller_stride_overlaps(classifier: Classifier) -> None:
    score_map = classifier.score(mammogram(np.zeros((4, 8), np.uint8), laterality="L"), stride_px=2)
    assert score_map.probabilities.shape == (1, 3)
    assert score_map.grid.stride_px == 2


def test_activation_of_more_patches_than_a_batch_keeps_their_order(classifier: Classifier) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (131, 4, 4, 1), dtype=np.uint8)
    probability, activation = classifier.localise(patches)
    np.testing.assert_allclose(probability, classifier.classify(patches), atol=1e-6)
    # The model's log odds are 2 (mean / 255 - 0.5); with no layer before the pooling a cell is a pixel.
    np.testing.assert_allclose(activation, 2 * (patches[..., 0] / 255 - 0.5), atol=1e-6)
    assert activation.dtype == np.float32


def test_no_patches_give_no_activation(classifier: Classifier) -> None:
    probability, activation = classifier.localise(np.zeros((0, 4, 4, 1), np.uint8))
    assert probability.shape == (0,)
    assert activation.shape == (0, 4, 4)


def test_activation_of_a_mammogram_lies_where_its_pixels_are(classifier: Classifier) -> None:
    pixels = np.arange(4 * 8, dtype=np.uint8).reshape(4, 8)
    score_map, activation = classifier.localise_mammogram(mammogram(pixels, laterality="L"))
    np.testing.assert_array_equal(
        score_map.probabilities, classifier.score(mammogram(pixels, laterality="L")).probabilities
    )
    assert activation.values.shape == (1, 2, 4, 4)
    assert activation.centres_px.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(score_map.grid.join(activation.values), 2 * (pixels / 255 - 0.5), atol=1e-6)
    with pytest.raises(InputError, match=r"^one: .*Received: uint16"):
        classifier.localise_mammogram(mammogram(pixels.astype(np.uint16), laterality="L"))


@pytest.mark.parametrize("stride_px", [0, 5])
def test_a_stride_that_leaves_pixels_out_is_refused(classifier: Classifier, stride_px: int) -> None:
    with pytest.raises(InputError, match=f"takes a stride of 1 to 4 pixels. Received: {stride_px}"):
        classifier.score(mammogram(np.zeros((4, 8), np.uint8), laterality="L"), stride_px=stride_px)


def test_a_mammogram_of_the_wrong_type_is_named(classifier: Classifier) -> None:
    with pytest.raises(InputError, match=r"^one: .*Received: uint16"):
        classifier.score(mammogram(np.zeros((4, 8), np.uint16), laterality="L"))


def test_a_folder_that_is_no_saved_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: is no SavedModel"):
        load(tmp_path)


def test_a_saved_model_of_someone_else_is_refused(model_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_path, tmp_path / "1")
    (copy / METADATA_FILE).unlink()
    with pytest.raises(InputError, match=r"holds no assets.extra/mmgkeras.json; only models exported by mmgkeras"):
        load(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "should be an object. Received"),
        ('{"network": "x"}', "patch_px is missing"),
    ],
)
def test_damaged_metadata_is_named(model_path: Path, tmp_path: Path, text: str, message: str) -> None:
    copy = shutil.copytree(model_path, tmp_path / "1")
    (copy / METADATA_FILE).write_text(text)
    with pytest.raises(InputError, match=message):
        load(copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("patch_px", "4", "patch_px: Input should be a valid integer. Received: '4'"),
        ("fold", True, "fold: Input should be a valid integer. Received: True"),
        ("spacing_mm", "x", "spacing_mm: Input should be a valid number"),
        ("pixel_type", "float32", "pixel_type: Input should be 'uint8' or 'uint16'. Received: 'float32'"),
        ("stride_px", 5, "stride_px"),
        (
            "patch_px",
            6,
            r"patches of classify_patches is \(None, 6, 6, 1\) uint8. Received from the graph: \(None, 4, 4",
        ),
    ],
)
def test_metadata_that_break_a_rule_are_named(
    model_path: Path, tmp_path: Path, key: str, value: object, message: str
) -> None:
    copy = shutil.copytree(model_path, tmp_path / "1")
    values = json.loads((copy / METADATA_FILE).read_text())
    (copy / METADATA_FILE).write_text(json.dumps(values | {key: value}))
    with pytest.raises(InputError, match=message):
        load(copy)


@pytest.mark.parametrize("damaged", ["saved_model.pb", "variables/variables.index"])
def test_a_damaged_file_is_one_line(model_path: Path, tmp_path: Path, damaged: str) -> None:
    copy = shutil.copytree(model_path, tmp_path / "1")
    (copy / damaged).write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded, is a file damaged or missing") as fault:
        load(copy)
    assert "\n" not in str(fault.value)


def test_the_digest_of_patients_knows_a_set_and_not_an_order() -> None:
    assert patients_digest(["b", "a", "b"]) == patients_digest(["a", "b"])
    assert patients_digest(["a", "b"]) != patients_digest(["ab"])


def test_truncated_variables_are_one_line(model_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_path, tmp_path / "1")
    path = copy / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be loaded, is a file damaged or missing") as fault:
        load(copy)
    assert "\n" not in str(fault.value)


def save_endpoint(folder: Path, outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]], *, like: Path) -> Path:
    """A SavedModel whose only endpoint gives these outputs, with the metadata of another model."""
    patches = tf.TensorSpec((None, 4, 4, 1), tf.uint8, name="patches")
    module = tf.Module()
    module.endpoint = tf.function(outputs, input_signature=[patches], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"classify_patches": module.endpoint})
    (folder / METADATA_FILE).parent.mkdir()
    shutil.copy(like / METADATA_FILE, folder / METADATA_FILE)
    return folder


def mean(patches: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(patches, tf.float32), axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("outputs", "received"),
    [
        (lambda patches: {"score": mean(patches)}, r"score \(None,\) float32"),
        (lambda patches: {"probability": tf.cast(mean(patches), tf.float64)}, r"probability \(None,\) float64"),
        (lambda patches: {"probability": mean(patches)[:, None]}, r"probability \(None, 1\) float32"),
        (lambda patches: {"probability": tf.reduce_mean(mean(patches))}, r"probability \(\) float32"),
    ],
)
def test_a_model_without_a_probability_for_each_patch_is_one_line(
    model_path: Path, tmp_path: Path, outputs: Callable[[tf.Tensor], dict[str, tf.Tensor]], received: str
) -> None:
    folder = save_endpoint(tmp_path / "1", outputs, like=model_path)
    with pytest.raises(InputError, match=rf"classify_patches must give probability as float32 .* graph: {received}$"):
        load(folder)


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-0.5, "-0.5"), (1.5, "1.5")])
def test_an_answer_that_is_no_probability_is_one_line_with_the_image(
    model_path: Path, tmp_path: Path, value: float, shown: str
) -> None:
    folder = save_endpoint(
        tmp_path / "1",
        lambda patches: {"probability": mean(patches) * 0 + tf.constant(value, tf.float32)},
        like=model_path,
    )
    with pytest.raises(
        InputError, match=rf"^one: .*1: must give probabilities from 0 to 1. Received: {shown} for 2 of"
    ):
        load(folder).score(mammogram(np.ones((4, 8), np.uint8), laterality="L"))


@pytest.mark.parametrize("allowed", [True, False])
def test_it_rounds_as_in_its_training_whatever_the_process_is_set_to(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    copy = Path(shutil.copytree(model_path, tmp_path / "1"))
    values = json.loads((copy / METADATA_FILE).read_text())
    (copy / METADATA_FILE).write_text(json.dumps({**values, "config": {"train": {"tf32": allowed}}}))
    classifier, seen = load(copy), []
    is_enabled = tf.config.experimental.tensor_float_32_execution_enabled
    run = classifier.signature("classify_patches")
    functions = {"classify_patches": lambda **inputs: (seen.append(is_enabled()), run(**inputs))[1]}
    monkeypatch.setattr(classifier, "_functions", functions)
    before = is_enabled()
    classifier.classify(np.zeros((1, 4, 4, 1), np.uint8))
    assert seen == [allowed]
    assert is_enabled() == before


def test_with_its_weights_as_constants_a_model_says_the_same(tmp_path: Path) -> None:
    network = build_network(ModelConfig(weights="none", pooling="log_mean_exp"), patch_px=32, pixel_type="uint8")
    generator = np.random.default_rng(2)
    network.set_weights([generator.uniform(0.02, 0.2, weight.shape) for weight in network.get_weights()])
    fields = {"network": "resnet18", "patch_px": 32, "stride_px": 32, "pixel_type": "uint8", "spacing_mm": None}
    digests = {"test_patients_sha256": "0" * 64, "store_checksum": "0" * 64}
    export(network, tmp_path / "1", ModelMetadata(**fields, **digests, fold=1, test_subset="A"))
    plain, folded = load(tmp_path / "1"), load(tmp_path / "1", is_folded=True)
    patches = generator.integers(0, 256, (5, 32, 32, 1), dtype=np.uint8)
    np.testing.assert_allclose(folded.classify(patches), plain.classify(patches), rtol=1e-4, atol=1e-6)
    for received, expected in zip(folded.localise(patches), plain.localise(patches), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    assert folded.classify(patches[:0]).shape == (0,)
    assert folded.localise(patches[:0])[1].shape == (0, 1, 1)
    np.testing.assert_array_equal(folded.cell_centres_px, plain.cell_centres_px)
