import keras
import numpy as np

from mmgkeras.training.export_run import recalibrate_batch_norm


def make_network(*, has_batch_norm=True):
    image = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Rescaling(1.0)(image)
    if has_batch_norm:
        x = keras.layers.BatchNormalization(name="first")(x)
        x = keras.layers.Dropout(0.5)(x)
        x = keras.layers.Conv2D(3, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(x)
        x = keras.layers.BatchNormalization(name="second")(x)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


def make_batches():
    generator = np.random.default_rng(2)
    return [generator.integers(0, 255, (size, 4, 4, 1), np.uint8) for size in (5, 3, 4)]


def test_the_first_layer_gets_mean_and_variance_of_all_pixels():
    network, batches = make_network(), make_batches()
    recalibrate_batch_norm(network, batches)
    pixels = np.concatenate(batches).astype(np.float64)
    layer = network.get_layer("first")
    np.testing.assert_allclose(layer.moving_mean, [pixels.mean()], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [pixels.var()], rtol=1e-5)


def test_a_later_layer_gets_those_of_inputs_normalised_by_their_batch():
    network, batches = make_network(), make_batches()
    recalibrate_batch_norm(network, batches)
    convolution = next(layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))
    normalised = [(batch - batch.mean()) / np.sqrt(batch.var() + 1e-3) for batch in map(np.float64, batches)]
    inputs = np.concatenate([np.asarray(convolution(batch.astype(np.float32)), np.float64) for batch in normalised])
    layer = network.get_layer("second")
    np.testing.assert_allclose(layer.moving_mean, inputs.mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, inputs.var(axis=(0, 1, 2)), rtol=1e-4)


def test_no_trained_weight_changes():
    network = make_network()
    before = [variable.numpy().copy() for variable in network.trainable_variables]
    recalibrate_batch_norm(network, make_batches())
    for variable, value in zip(network.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_network_without_batch_normalisation_reads_nothing():
    def unread():
        raise AssertionError
        yield

    recalibrate_batch_norm(make_network(has_batch_norm=False), unread())
