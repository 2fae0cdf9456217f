import keras
import numpy as np
import pytest

from mmgkeras.config import TrainConfig
from mmgkeras.models.optimizer import SGD, make_optimizer, step_decay

RATE, MOMENTUM, L2 = 0.1, 0.9, 0.005


def small_model():
    """Two dense layers with a batch normalisation between; the last one is the head."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4, activation="tanh", name="first"),
            keras.layers.BatchNormalization(name="normalised"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def small_batches(*, num_batches):
    generator = np.random.default_rng(2)
    for _ in range(num_batches):
        yield generator.normal(size=(8, 5)).astype(np.float32), generator.integers(0, 2, size=8)


def gradients_of(model, batch):
    """Gradients of the cross entropy at the present weights, on whichever backend is there."""
    image, label = batch
    variables = model.trainable_variables

    def loss_of(logits):
        return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True))

    if keras.backend.backend() == "jax":
        import jax

        def loss(values, others):
            logits, _ = model.stateless_call(values, others, image, training=True)
            return loss_of(logits)

        values = [variable.value for variable in variables]
        return jax.grad(loss)(values, [variable.value for variable in model.non_trainable_variables])
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss_value = loss_of(model(image, training=True))
    return tape.gradient(loss_value, [variable.value for variable in variables])


def matlab_factors(path, *, batch_norm, bias, head):
    l2 = {"bias": bias, "gamma": batch_norm, "beta": batch_norm}.get(path.rpartition("/")[2], 1.0)
    return l2, head if "head/" in path else 1.0


def test_follows_matlabs_rule_over_epochs_with_rate_drops():
    config = TrainConfig(
        learning_rate=RATE,
        learning_rate_drop_factor=0.3,
        learning_rate_drop_period=2,
        momentum=MOMENTUM,
        l2=L2,
        l2_batch_norm_factor=0.5,
        l2_bias_factor=0.25,
        head_rate_factor=10.0,
    )
    steps_per_epoch, epochs = 3, 6
    model = small_model()
    optimizer = make_optimizer(config, steps_per_epoch=steps_per_epoch)
    weights = [np.asarray(variable, dtype=np.float64) for variable in model.trainable_variables]
    velocities = [np.zeros_like(weight) for weight in weights]
    factors = [matlab_factors(v.path, batch_norm=0.5, bias=0.25, head=10.0) for v in model.trainable_variables]
    assert sorted(set(factors)) == [(0.25, 1.0), (0.25, 10.0), (0.5, 1.0), (1.0, 1.0), (1.0, 10.0)]

    for step, batch in enumerate(small_batches(num_batches=steps_per_epoch * epochs)):
        gradients = gradients_of(model, batch)
        rate = RATE * 0.3 ** (step // steps_per_epoch // 2)
        for index, (l2_factor, rate_factor) in enumerate(factors):
            gradient = np.asarray(gradients[index], dtype=np.float64) + L2 * l2_factor * weights[index]
            velocities[index] = MOMENTUM * velocities[index] - rate * rate_factor * gradient
            weights[index] = weights[index] + velocities[index]
        optimizer.apply(gradients, model.trainable_variables)

    for variable, expected in zip(model.trainable_variables, weights, strict=True):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(np.asarray(variable), expected, rtol=0, atol=1e-6 * largest, err_msg=variable.path)


def test_averages_follow_the_weights_from_the_first_step_on():
    model = small_model()
    optimizer = make_optimizer(TrainConfig(learning_rate=RATE, ema_momentum=0.75), steps_per_epoch=3)
    expected = None
    for batch in small_batches(num_batches=4):
        optimizer.apply(gradients_of(model, batch), model.trainable_variables)
        weights = [np.asarray(variable, dtype=np.float64) for variable in model.trainable_variables]
        expected = expected or weights
        expected = [0.75 * average + 0.25 * weight for average, weight in zip(expected, weights, strict=True)]
    for average, right in zip(optimizer.averages(), expected, strict=True):
        np.testing.assert_allclose(np.asarray(average), right, rtol=0, atol=1e-6)
    assert make_optimizer(TrainConfig(), steps_per_epoch=3).averages() == []


@pytest.mark.parametrize(("epochs", "momentum"), [(1, 0.0), (10, 0.9), (1000, 0.999), (2000, 0.999)])
def test_averages_are_taken_over_a_third_of_the_run_at_most(epochs, momentum):
    optimizer = make_optimizer(TrainConfig(epochs=epochs, ema_momentum=0.999), steps_per_epoch=3)
    assert optimizer.ema_momentum == pytest.approx(momentum)


def test_without_l2_and_factors_equals_keras_sgd_bit_for_bit():
    ours, theirs = small_model(), small_model()
    optimizers = SGD(RATE, momentum=MOMENTUM), keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    for batch in small_batches(num_batches=4):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.apply(gradients_of(model, batch), model.trainable_variables)
    for left, right in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_l2_alone_shrinks_kernels_but_not_biases():
    model = small_model()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    zeros = [np.zeros(variable.shape, dtype=np.float32) for variable in model.trainable_variables]
    SGD(0.5, momentum=0.0, l2=0.25, head_rate_factor=2.0).apply(zeros, model.trainable_variables)
    found = {v.path.partition("/")[2] if "/" in v.path else v.path: v for v in model.trainable_variables}
    values = {"/".join(v.path.split("/")[-2:]): float(np.asarray(v).flat[0]) for v in found.values()}
    assert {path: round(value, 6) for path, value in values.items()} == {
        "first/kernel": 0.875,
        "first/bias": 1.0,
        "normalised/gamma": 0.875,
        "normalised/beta": 0.875,
        "head/kernel": 0.75,
        "head/bias": 1.0,
    }


def test_layer_whose_name_only_contains_head_is_not_the_head():
    layer = keras.layers.Dense(1, name="head_norm")
    layer.build((None, 1))
    layer.kernel.assign([[1.0]])
    SGD(0.5, momentum=0.0, head_rate_factor=10.0).apply([np.ones((1, 1), np.float32)], [layer.kernel])
    assert float(np.asarray(layer.kernel)[0, 0]) == 0.5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs Keras' TensorFlow backend")
def test_factors_hold_under_a_distribution_strategy():
    import tensorflow as tf

    def trained():
        model = small_model()
        optimizer = SGD(RATE, momentum=MOMENTUM, l2=L2, head_rate_factor=10.0)
        optimizer.build(model.trainable_variables)
        zeros = [tf.fill(variable.shape, 0.1) for variable in model.trainable_variables]
        strategy = tf.distribute.get_strategy()
        tf.function(lambda: strategy.run(lambda: optimizer.apply(zeros, model.trainable_variables)))()
        return [variable.numpy() for variable in model.trainable_variables]

    plain = trained()
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        mirrored = trained()
    for left, right in zip(plain, mirrored, strict=True):
        np.testing.assert_array_equal(left, right)


def test_survives_its_configuration():
    optimizer = make_optimizer(TrainConfig(), steps_per_epoch=7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert isinstance(again, SGD)
    assert again.get_config() == optimizer.get_config()
    assert (again.l2, again.momentum, again.head_rate_factor) == (0.005, 0.9, 10.0)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.001), (6, 0.001), (7, 0.0003), (13, 0.0003), (14, 0.00009), (63, 0.001 * 0.3**9)]
)
def test_rate_drops_after_each_epoch(step, expected):
    schedule = step_decay(TrainConfig(), steps_per_epoch=7)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)


def test_rate_drops_after_each_period():
    schedule = step_decay(TrainConfig(learning_rate_drop_period=3), steps_per_epoch=7)
    assert [round(float(schedule(step)), 6) for step in (20, 21, 41, 42)] == [0.001, 0.0003, 0.0003, 0.00009]


def test_rate_drops_exactly_at_the_epoch_for_long_epochs():
    steps_per_epoch = 323
    schedule = step_decay(TrainConfig(), steps_per_epoch=steps_per_epoch)
    for epoch in range(1, 10):
        before, after = (float(schedule(epoch * steps_per_epoch + shift)) for shift in (-1, 0))
        assert before == pytest.approx(0.001 * 0.3 ** (epoch - 1), rel=1e-6)
        assert after == pytest.approx(0.001 * 0.3**epoch, rel=1e-6)
