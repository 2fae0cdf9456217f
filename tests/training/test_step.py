import math

import numpy as np
import pytest
import tensorflow as tf

from mmgkeras.training.checkpoint import SAMPLE
from mmgkeras.training.step import discrimination, fetch_samples


def test_discrimination_by_hand():
    labels = np.array([1, 1, 1, 0, 0])
    probabilities = np.array([0.9, 0.5, 0.2, 0.4, 0.6], np.float32)
    metrics, confusion = discrimination(labels, probabilities)
    assert metrics["auc"] == pytest.approx(3 / 6)  # of six pairs: 0.9 beats both, 0.5 beats one, 0.2 none
    assert metrics["sensitivity"] == pytest.approx(2 / 3)
    assert metrics["specificity"] == pytest.approx(1 / 2)
    assert confusion.tolist() == [[1, 1], [1, 2]]


def test_metrics_of_a_missing_class_are_nan():
    metrics, _ = discrimination(np.array([0, 0]), np.array([0.1, 0.7], np.float32))
    assert math.isnan(metrics["auc"])
    assert math.isnan(metrics["sensitivity"])
    assert metrics["specificity"] == 0.5


def test_samples_keep_their_order_and_types():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    losses = [tf.constant([1.0, 2.0]), tf.constant([3.0])]
    samples = fetch_samples(strategy, [(step, step / 10, tf.ones(len(step), tf.int32)) for step in losses])
    assert samples.dtype == SAMPLE
    assert samples["losses"].tolist() == [1, 2, 3]
    assert samples["probabilities"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert samples["labels"].tolist() == [1, 1, 1]
