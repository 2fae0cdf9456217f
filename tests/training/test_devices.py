import pytest
import tensorflow as tf

from mmgkeras.config import TrainConfig
from mmgkeras.errors import InputError
from mmgkeras.training import devices as device


@pytest.fixture
def two_gpus(monkeypatch):
    found = {"GPU": ["a", "b"], "CPU": ["c"]}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found[kind])


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["c"] if kind == "CPU" else [])


def test_all_gpus_by_default(two_gpus):
    assert device.choose_devices() == ["GPU:0", "GPU:1"]


def test_the_processor_where_there_is_no_gpu(no_gpu):
    assert device.choose_devices() == ["CPU:0"]


def test_a_number_or_names_choose_gpus(two_gpus):
    assert device.choose_devices("1") == ["GPU:0"]
    assert device.choose_devices("gpu:1") == ["GPU:1"]
    assert device.choose_devices("GPU:1,GPU:0") == ["GPU:1", "GPU:0"]


@pytest.mark.parametrize("text", ["0", "", "TPU:0", "GPU", "GPU:0,GPU:0", "GPU:0;GPU:1"])
def test_anything_else_is_refused(two_gpus, text):
    with pytest.raises(InputError, match=r"devices: give a number of GPUs, or names .* Received: "):
        device.choose_devices(text)


def test_a_gpu_that_is_not_there_is_named(two_gpus):
    with pytest.raises(InputError, match=r"devices: GPU:2 is not there; this machine has 2 GPUs. Received: '3'"):
        device.choose_devices("3")


def test_all_gpus_but_one_are_hidden(two_gpus, monkeypatch):
    visible = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda device, kind: visible.append((device, kind)))
    assert device.use_only("GPU:1") == "GPU:0"
    assert visible == [("b", "GPU")]
    assert device.use_only("CPU:1") == "CPU:1"
    assert len(visible) == 1
    with pytest.raises(InputError, match=r"devices: GPU:2 is not there; this machine has 2 GPUs$"):
        device.use_only("GPU:2")


def test_the_processor_cannot_be_divided_late():
    tf.constant(1)
    tf.config.list_logical_devices()
    with pytest.raises(InputError, match="devices: the processor cannot be divided into 64 after"):
        device.choose_devices("CPU:63")


def test_one_device_needs_no_mirroring():
    strategy = device.open_strategy(["CPU:0"])
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    assert strategy.num_replicas_in_sync == 1


def test_on_the_processor_bfloat16_is_a_rewriting_of_the_graph_that_ends():
    def is_on():
        return tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)

    config = TrainConfig(precision="bfloat16")
    with device.graph_rewriting(config, devices=["CPU:0"]):
        assert is_on()
    assert not is_on()
    with device.graph_rewriting(config, devices=["GPU:0"]):
        assert not is_on()
    with device.graph_rewriting(TrainConfig(), devices=["CPU:0"]):
        assert not is_on()


def test_on_gpus_bfloat16_is_the_network_s_own():
    config = TrainConfig(precision="bfloat16")
    assert device.network_precision(config, devices=["GPU:0", "GPU:1"]) == "bfloat16"
    assert device.network_precision(config, devices=["CPU:0"]) == "float32"
    assert device.network_precision(TrainConfig(), devices=["GPU:0"]) == "float32"


def test_a_processor_without_bfloat16_instructions_is_told(tmp_path):
    config = TrainConfig(precision="bfloat16")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : sse avx2 avx512f\n")
    note = device.precision_note(config, devices=["CPU:0"], cpuinfo=cpuinfo)
    assert note is not None
    assert "no bfloat16 instructions" in note
    assert device.precision_note(config, devices=["GPU:0"], cpuinfo=cpuinfo) is None
    assert device.precision_note(TrainConfig(), devices=["CPU:0"], cpuinfo=cpuinfo) is None
    cpuinfo.write_text("flags : sse avx512_bf16\n")
    assert device.precision_note(config, devices=["CPU:0"], cpuinfo=cpuinfo) is None
