import keras
import numpy as np
import pytest

from mmgkeras.config import AugmentationConfig, ModelConfig
from mmgkeras.errors import ConfigError
from mmgkeras.models.backbones import find_backbone
from mmgkeras.models.network import (
    HEAD,
    backbone_of,
    batch_norm_layers,
    build_network,
    training_model,
    training_normalisation,
)
from mmgkeras.models.preprocessing import DivideByMaximum, LocalContrast, Preprocess, TrainingNormalisation

# Keras' own reading of its variables on JAX is behind numpy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALL_UINT16 = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256, 1)
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_network(ModelConfig(), patch_px=32, pixel_type="uint16")


def some_patches(pixel_type="uint16", *, num=3, patch_px=32):
    high = np.iinfo(pixel_type).max
    return np.random.default_rng(5).integers(
        0, high, size=(num, patch_px, patch_px, 1), dtype=pixel_type, endpoint=True
    )


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


class TestDivideByMaximum:
    def test_equals_numpys_quotient_bit_for_bit(self):
        found = numpy_of(DivideByMaximum(pixel_type="uint16")(ALL_UINT16))
        np.testing.assert_array_equal(found, ALL_UINT16 / np.float32(65535))

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_equals_numpys_quotient_bit_for_bit_when_compiled(self, jit_compile):
        layer = DivideByMaximum(pixel_type="uint16")
        if ON_TENSORFLOW:
            import tensorflow as tf

            found = tf.function(layer, jit_compile=jit_compile)(tf.constant(ALL_UINT16)).numpy()
        else:
            import jax

            found = jax.jit(layer)(ALL_UINT16)
        np.testing.assert_array_equal(found, ALL_UINT16 / np.float32(65535))

    def test_promoted_8_bit_pixel_gives_the_same_float(self):
        pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        promoted = pixels.astype(np.uint16) * np.uint16(257)
        narrow = numpy_of(DivideByMaximum(pixel_type="uint8")(pixels))
        np.testing.assert_array_equal(narrow, numpy_of(DivideByMaximum(pixel_type="uint16")(promoted)))

    def test_unrounded_augmented_pixel_stays_unrounded(self):
        found = numpy_of(DivideByMaximum(pixel_type="uint8")(np.full((1, 1, 1, 1), 127.5, dtype=np.float32)))
        assert found.item() == 0.5


class TestLocalContrast:
    def test_a_pixel_becomes_its_difference_from_the_mean_of_81(self) -> None:
        gray = np.full((1, 11, 11, 1), 0.25, dtype=np.float32)
        gray[0, 5, 5, 0] = 0.25 + 0.081
        found = numpy_of(LocalContrast()(gray))[0, :, :, 0]
        assert found[5, 5] == pytest.approx(0.5 + 8 * (0.081 - 0.001), abs=1e-5)
        assert found[5, 1] == pytest.approx(0.5 - 8 * 0.081 / (9 * 6), abs=1e-5)  # 6 columns lie in the patch
        assert found[0, 0] == pytest.approx(0.5, abs=1e-5)

    def test_brightness_is_gone_and_contrast_stays(self) -> None:
        gray = np.random.default_rng(0).uniform(0, 0.5, (2, 16, 16, 1)).astype(np.float32)
        np.testing.assert_allclose(
            numpy_of(LocalContrast()(gray + 0.25)), numpy_of(LocalContrast()(gray)), rtol=0, atol=1e-5
        )


class TestPreprocess:
    def test_resnet18_standardises_by_imagenet(self):
        found = numpy_of(Preprocess(network="resnet18")(np.full((1, 1, 1, 1), 0.5, dtype=np.float32)))
        expected = (0.5 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        np.testing.assert_allclose(found[0, 0, 0], expected, rtol=1e-6)

    @pytest.mark.parametrize("network", ["resnet50", "resnet101"])
    def test_resnet50_and_101_subtract_the_mean_of_blue_green_red(self, network):
        found = numpy_of(Preprocess(network=network)(np.ones((1, 1, 1, 1), dtype=np.float32)))
        np.testing.assert_allclose(found[0, 0, 0], 255 - np.array([103.939, 116.779, 123.68]), rtol=1e-6)

    def test_mobilenet_scales_to_plus_minus_one(self):
        layer = Preprocess(network="MobileNetV2")
        found = numpy_of(layer(np.array([0.0, 1.0], dtype=np.float32).reshape(1, 1, 2, 1)))
        assert found[0, 0].tolist() == [[-1.0] * 3, [1.0] * 3]

    @pytest.mark.parametrize(
        "layer",
        [
            LocalContrast(),
            Preprocess(network="resnet50"),
            TrainingNormalisation(network="resnet50"),
            DivideByMaximum(pixel_type="uint8"),
        ],
    )
    def test_layer_survives_its_configuration(self, layer):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert again.get_config() == layer.get_config()


class TestTrainingNormalisation:
    def normalised(self, network):
        layer = TrainingNormalisation(network=network)
        gray = np.array([0.25, 0.75], dtype=np.float32).reshape(1, 1, 2, 1)
        layer(gray)
        layer.set_statistics(mean=0.5, deviation=0.125)
        found = numpy_of(layer(gray))
        assert found.shape == (1, 1, 2, 3)
        assert (found == found[..., :1]).all()
        return found[0, 0, :, 0].tolist()

    @pytest.mark.parametrize("network", ["resnet18", "MobileNetV2", "DenseNet121"])
    def test_networks_whose_own_preprocessing_scales_get_z_scores(self, network):
        assert self.normalised(network) == [-2.0, 2.0]

    @pytest.mark.parametrize("network", ["resnet50", "resnet101", "VGG16"])
    def test_networks_that_only_take_a_mean_away_keep_the_scale_of_255(self, network):
        assert self.normalised(network) == [-63.75, 63.75]

    def test_statistics_are_weights_that_no_training_changes(self):
        config = ModelConfig(weights="none", width=0.1, normalisation="training")
        network = build_network(config, patch_px=32, pixel_type="uint8")
        layer = training_normalisation(network)
        assert [weight.path.split("/")[-1] for weight in layer.weights] == ["mean", "deviation"]
        assert layer.trainable_weights == []
        assert {id(weight) for weight in layer.weights} <= {id(variable) for variable in network.variables}
        behind = training_model(network, AugmentationConfig())
        assert layer in behind.layers
        assert (
            training_normalisation(build_network(ModelConfig(weights="none"), patch_px=32, pixel_type="uint8")) is None
        )


class TestNetwork:
    def test_takes_raw_patches_and_gives_two_float32_logits(self, network):
        assert network.input_shape == (None, 32, 32, 1)
        assert keras.backend.standardize_dtype(network.input.dtype) == "uint16"
        assert network.layers[-1].name == HEAD
        logits = numpy_of(network(some_patches()))
        assert logits.shape == (3, 2)
        assert logits.dtype == np.float32

    def test_resnet18_has_the_layers_and_parameters_of_torchvisions(self, network):
        backbone = backbone_of(network)
        assert len(batch_norm_layers(network)) == 20
        assert {(layer.epsilon, layer.momentum) for layer in batch_norm_layers(network)} == {(1e-5, 0.9)}
        # torchvision's 11,689,512 less its classifier of 512 x 1000 + 1000.
        assert sum(np.prod(v.shape) for v in backbone.trainable_variables) == 11_689_512 - 513_000

    def test_width_multiplies_the_filters_of_every_layer(self, network):
        narrow = build_network(ModelConfig(weights="none", width=0.5), patch_px=32, pixel_type="uint8")
        pairs = zip(backbone_of(narrow).layers, backbone_of(network).layers, strict=True)
        filters = [(a.filters, b.filters) for a, b in pairs if isinstance(b, keras.layers.Conv2D)]
        assert len(filters) == 20
        assert all(2 * half == whole for half, whole in filters)
        assert narrow.output_shape == (None, 2)

    def test_convolutions_of_one_shape_start_differently(self, network):
        kernels = [backbone_of(network).get_layer(f"conv2_block1_{i}_conv").kernel for i in (1, 2)]
        assert not np.array_equal(numpy_of(kernels[0].value), numpy_of(kernels[1].value))

    def test_bfloat16_gives_float32_logits_near_those_of_float32(self, network):
        before = keras.config.dtype_policy().name
        half = build_network(ModelConfig(), patch_px=32, pixel_type="uint16", precision="bfloat16")
        assert keras.config.dtype_policy().name == before
        assert half.get_layer("resnet18").get_layer("conv1_conv").compute_dtype == "bfloat16"
        assert {keras.backend.standardize_dtype(v.dtype) for v in half.weights} == {"float32"}
        half.set_weights(network.get_weights())
        logits = numpy_of(half(some_patches()))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, numpy_of(network(some_patches())), atol=0.05)

    @pytest.mark.skipif(not ON_TENSORFLOW, reason="needs Keras' TensorFlow backend")
    def test_synchronized_batch_norm_reaches_every_layer(self):
        config = ModelConfig(synchronized_batch_norm=True)
        layers = batch_norm_layers(build_network(config, patch_px=32, pixel_type="uint8"))
        assert len(layers) == 20
        assert all(layer.synchronized for layer in layers)

    def test_synchronized_batch_norm_elsewhere_than_on_tensorflow_is_refused(self, monkeypatch):
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(ConfigError, match="only possible with Keras' TensorFlow backend"):
            build_network(ModelConfig(synchronized_batch_norm=True), patch_px=32, pixel_type="uint8")

    def test_keras_application_is_found_by_its_class_name(self):
        network = build_network(ModelConfig(network="MobileNetV2"), patch_px=48, pixel_type="uint8")
        assert numpy_of(network(some_patches("uint8", patch_px=48))).shape == (3, 2)

    @pytest.mark.parametrize("name", ["resnet50", "resnet101", "DenseNet121", "EfficientNetV2B0", "MobileNetV3Small"])
    def test_offered_network_is_known(self, name):
        assert find_backbone(name).name == name

    @pytest.mark.parametrize(
        ("name", "nearest"), [("resnt50", "resnet50"), ("densenet121", "DenseNet121"), ("resnet-18", "resnet18")]
    )
    def test_unknown_network_names_the_nearest(self, name, nearest):
        with pytest.raises(ConfigError, match=f"model.network: no such network '{name}'; did you mean {nearest}\\?"):
            build_network(ModelConfig(network=name), patch_px=32, pixel_type="uint8")

    def test_unknown_network_far_from_all_lists_them(self):
        with pytest.raises(ConfigError, match=r"allowed: resnet18, resnet50, resnet101, .*VGG16"):
            find_backbone("?")

    def test_efficientnet_whose_weights_hold_input_statistics_is_not_offered(self):
        with pytest.raises(ConfigError, match="did you mean EfficientNetV2B0"):
            find_backbone("EfficientNetB0")

    def test_patch_too_small_for_the_network_is_refused(self):
        with pytest.raises(ConfigError, match=r"patches.patch_px: resnet50: .*at least 32x32. Received: 16$"):
            build_network(ModelConfig(network="resnet50"), patch_px=16, pixel_type="uint8")


class TestTrainingModel:
    def test_shares_its_weights_with_the_network(self, network):
        model = training_model(network, AugmentationConfig())
        assert [id(v) for v in model.trainable_variables] == [id(v) for v in network.trainable_variables]

    def test_operation_0_gives_the_networks_logits(self, network):
        model = training_model(network, AugmentationConfig())
        batch = {"image": some_patches(), "augmentation": np.zeros(3, dtype=np.int32)}
        np.testing.assert_array_equal(numpy_of(model(batch)), numpy_of(network(some_patches())))

    def test_turned_patch_gives_the_networks_logits_of_the_turned_patch(self, network):
        model = training_model(network, AugmentationConfig())
        batch = {"image": some_patches(), "augmentation": np.array([1, 2, 7], dtype=np.int32)}
        one, two, seven = some_patches()
        turned = np.stack([np.rot90(one), np.rot90(two, 2), np.fliplr(np.rot90(seven, 3))])
        np.testing.assert_allclose(numpy_of(model(batch)), numpy_of(network(turned)), rtol=1e-5, atol=1e-5)

    def test_intensity_reaches_the_backbone_unrounded(self):
        network = build_network(ModelConfig(), patch_px=32, pixel_type="uint8")
        model = training_model(network, AugmentationConfig())
        odd = np.where(some_patches("uint8") % 2 == 0, np.uint8(1), np.uint8(3))
        halved = odd * np.float32(0.5)
        for layer in network.layers[1:]:
            halved = layer(halved)
        found = numpy_of(model({"image": odd, "augmentation": np.full(3, 8, dtype=np.int32)}))
        np.testing.assert_array_equal(found, numpy_of(halved))
        assert not np.allclose(found, numpy_of(network(odd // np.uint8(2))), atol=1e-4)
