"""The epochs of a small network: checkpoints by the clock, divergence, faults of the writing."""

import keras
import numpy as np
import pytest

from mmgkeras.config import AugmentationConfig, TrainConfig
from mmgkeras.errors import ConfigError, InputError
from mmgkeras.models.augmentation import NEGATIVE_OPS, num_positive_ops
from mmgkeras.models.network import batch_norm_layers, training_model
from mmgkeras.models.optimizer import make_optimizer
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.epoch import EpochPlan
from mmgkeras.progress import untracked
from mmgkeras.training import devices, loop
from mmgkeras.training.checkpoint import Progress, load_checkpoint
from mmgkeras.training.loop import TrainingSetup, run_epochs

AUGMENTATION = AugmentationConfig()


@pytest.fixture
def set_up(training_store, tmp_path):
    """Makes the setup of a run with a network of one convolution."""
    store = PatchStore.open(training_store)
    labels = store.patches["label"].to_numpy()

    def make(name, **settings):
        train = TrainConfig(**{"epochs": 2, "batch_size": 16, "learning_rate": 0.01, **settings})
        plan = EpochPlan(
            positives=np.flatnonzero(labels == 1)[:3],
            negatives=np.flatnonzero(labels == 0)[:30],
            num_positive_ops=num_positive_ops(AUGMENTATION),
            negative_ops=NEGATIVE_OPS,
            batch_size=train.batch_size,
            seed=0,
        )
        strategy = devices.open_strategy(["CPU:0"])
        keras.utils.set_random_seed(1)
        with strategy.scope():
            image = keras.Input((32, 32, 1), dtype="uint8", name="image")
            x = keras.layers.Rescaling(1 / 255, dtype="float32")(image)
            x = keras.layers.Conv2D(3, 8, strides=8)(x)
            x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
            network = keras.Model(image, keras.layers.Dense(2, name="head")(x))
            model = training_model(network, AUGMENTATION)
            optimizer = make_optimizer(train, steps_per_epoch=plan.steps_per_epoch)
            optimizer.build(model.trainable_variables)
        run = tmp_path / name
        run.mkdir(exist_ok=True)
        return TrainingSetup(
            run=run,
            store=store,
            plan=plan,
            validation=np.zeros(0, np.int64),
            strategy=strategy,
            network=network,
            model=model,
            optimizer=optimizer,
            train=train,
            augmentation=AUGMENTATION,
            insertion=None,
        )

    return make


def run(setup, progress=None):
    rows = []
    run_epochs(setup, progress or Progress(), track=untracked, report=rows.append)
    return rows


def counted(monkeypatch):
    """The steps of the checkpoints that are saved from now on."""
    steps, save = [], loop.save_checkpoint
    monkeypatch.setattr(
        loop, "save_checkpoint", lambda path, taken: (steps.append(int(taken["step"])), save(path, taken))
    )
    return steps


def test_checkpoints_are_taken_by_the_clock_by_steps_and_at_the_end_of_epochs(set_up, monkeypatch):
    steps = counted(monkeypatch)
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    setup = set_up("rarely", checkpoint_minutes=1)
    per_epoch = setup.plan.steps_per_epoch
    run(setup)
    assert steps == [per_epoch, 2 * per_epoch]
    steps.clear()
    run(set_up("steps", checkpoint_minutes=1, checkpoint_steps=3))
    assert per_epoch == 8
    assert steps == [3, 6, 8, 9, 12, 15, 16]
    steps.clear()

    def by_a_minute():
        now[0] += 61
        return now[0]

    monkeypatch.setattr(loop.time, "monotonic", by_a_minute)
    run(set_up("minutes", checkpoint_minutes=1, epochs=1))
    assert steps == [*range(1, per_epoch + 1)]


def test_the_weights_do_not_depend_on_when_checkpoints_are_taken(set_up):
    first, second = set_up("first"), set_up("second", checkpoint_steps=1)
    rows = [run(setup) for setup in (first, second)]
    assert [row.loss for row in rows[0]] == [row.loss for row in rows[1]]
    for left, right in zip(first.network.get_weights(), second.network.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(set_up):
    good = set_up("run", epochs=1)
    run(good)
    path = good.run / "checkpoint.npz"
    before = path.read_bytes()
    bad = set_up("run", epochs=2, learning_rate=1000.0, l2=1000.0, checkpoint_steps=1)
    progress = load_checkpoint(path, model=bad.network.variables, optimizer=bad.optimizer.variables)
    with pytest.raises(
        ConfigError, match=r"^train.learning_rate: .*run diverged by step \d+ of 16: .* Received: 1000$"
    ):
        run(bad, progress)
    kept = load_checkpoint(path, model=good.network.variables, optimizer=good.optimizer.variables)
    assert kept.step >= 8
    assert path.read_bytes() == before or kept.step > 8


def test_a_loss_beyond_reason_is_divergence_though_it_is_finite(set_up):
    good = set_up("run", epochs=1)
    run(good)
    before = (good.run / "checkpoint.npz").read_bytes()
    bad = set_up("run", learning_rate=0.1, learning_rate_drop_factor=1.0, l2=0.0)
    progress = load_checkpoint(
        good.run / "checkpoint.npz", model=bad.network.variables, optimizer=bad.optimizer.variables
    )
    bad.network.layers[-1].kernel.assign(1e4 * bad.network.layers[-1].kernel)
    with pytest.raises(
        ConfigError, match=r"run diverged by step \d+ of 16: the loss of its last steps is [\d.e+]+; give"
    ):
        run(bad, progress)
    assert (good.run / "checkpoint.npz").read_bytes() == before


def test_weights_that_are_not_finite_are_never_saved(set_up):
    setup = set_up("run")
    run(setup)
    before = (setup.run / "checkpoint.npz").read_bytes()
    (layer,) = batch_norm_layers(setup.network)
    layer.moving_mean.assign([np.nan, 0.0, 0.0])  # which does not show in the loss of training batches
    with pytest.raises(ConfigError, match="diverged by step 16 of 16"):
        run(setup, Progress(step=8))
    assert (setup.run / "checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_disk_that_is_full_stops_the_training(set_up, monkeypatch, epochs):
    def fail(path, taken):
        raise InputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(loop, "save_checkpoint", fail)
    with pytest.raises(InputError, match=r"checkpoint.npz: cannot be written: No space left"):
        run(set_up("run", epochs=epochs))


def test_a_step_compiled_by_xla_learns_the_same(set_up):
    plain, compiled = set_up("plain", epochs=1), set_up("compiled", epochs=1, jit_compile=True)
    rows = [run(setup) for setup in (plain, compiled)]
    assert rows[1][0].loss == pytest.approx(rows[0][0].loss, rel=1e-4)
    for left, right in zip(plain.network.get_weights(), compiled.network.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)
