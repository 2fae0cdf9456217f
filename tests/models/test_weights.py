import gc
import hashlib
import importlib.util
import json
import socket
import struct
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from mmgkeras.config import ModelConfig
from mmgkeras.errors import InputError, WeightsError
from mmgkeras.models import weights as weights_module
from mmgkeras.models.backbones import Backbone
from mmgkeras.models.network import HEAD, backbone_of, build_network
from mmgkeras.models.weights import load_weights

# Keras' own reading of its variables on JAX is behind numpy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PATIENCE_S = 600
"""A test that ends well must not depend on how fast the machine serves 46 MB."""
RECIPE = Path(__file__).parent / "make_resnet18_reference.py"


@pytest.fixture(scope="module")
def recipe():
    specification = importlib.util.spec_from_file_location("make_resnet18_reference", RECIPE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tensors(recipe):
    """As a file of torchvision's has them, counters of batches too."""
    tensors = recipe.random_tensors()
    counters = [name.replace("running_var", "num_batches_tracked") for name in tensors if "running_var" in name]
    return tensors | {name: np.array(7, dtype=np.int64) for name in counters}


@pytest.fixture(scope="module")
def weights_file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(tensors, path)
    return path


def network_of(**config):
    return build_network(ModelConfig(**config), patch_px=32, pixel_type="uint8")


@pytest.fixture(scope="module")
def resnet18():
    return network_of(weights="none")


@pytest.fixture(scope="module")
def mobilenet():
    return network_of(network="MobileNetV2", weights="none")


@pytest.fixture(scope="module", params=[224, 96])
def size_px(request):
    return request.param


@pytest.fixture(scope="module")
def found(size_px, weights_file, recipe):
    """The pooled features and the mean of each stage, from raw patches through the network's own layers."""
    config = ModelConfig(weights=str(weights_file))
    network = build_network(config, patch_px=size_px, pixel_type="uint8")
    load_weights(network, config)
    x = recipe.random_patches(size_px)
    for layer in network.layers[1:-2]:
        x = layer(x)
    backbone = backbone_of(network)
    stages = {f"layer{stage - 1}": backbone.get_layer(f"conv{stage}_block2_out").output for stage in (2, 3, 4)}
    answers = keras.Model(backbone.input, stages | {"features": backbone.output})(x)
    return {
        name: keras.ops.convert_to_numpy(answer if answer.ndim == 2 else keras.ops.mean(answer, axis=(1, 2)))
        for name, answer in answers.items()
    }


class TestTorchvisionReference:
    @pytest.mark.parametrize("name", ["layer1", "layer2", "layer3", "features"])
    def test_pytorchs_features_of_every_stage(self, found, name, size_px, recipe):
        with np.load(recipe.REFERENCE, allow_pickle=False) as reference:
            expected = reference[f"{name}_{size_px}"]
        assert found[name].shape == expected.shape
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4 * expected.std())

    def test_pytorchs_logits_behind_its_own_classifier(self, found, tensors, size_px, recipe):
        with np.load(recipe.REFERENCE, allow_pickle=False) as reference:
            expected = reference[f"logits_{size_px}"]
        logits = found["features"] @ tensors["fc.weight"].T + tensors["fc.bias"]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * expected.std())


class TestSafetensors:
    def test_head_keeps_its_random_weights(self, resnet18, weights_file):
        before = resnet18.get_layer(HEAD).get_weights()
        load_weights(resnet18, ModelConfig(weights=str(weights_file)))
        np.testing.assert_array_equal(resnet18.get_layer(HEAD).get_weights()[0], before[0])

    def refused(self, network, tensors, tmp_path, *, match):
        path = tmp_path / "odd.safetensors"
        save_file(tensors, path)
        before = network.get_weights()
        with pytest.raises(WeightsError, match=match) as raised:
            load_weights(network, ModelConfig(weights=str(path)))
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)
        for left, right in zip(before, network.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)

    def test_missing_tensor_is_named(self, resnet18, tensors, tmp_path):
        fewer = {name: tensor for name, tensor in tensors.items() if name != "layer3.0.downsample.1.running_var"}
        match = r"lacks the tensor 'layer3.0.downsample.1.running_var' of resnet18, and 0 more"
        self.refused(resnet18, fewer, tmp_path, match=match)

    def test_tensor_of_another_network_is_named(self, resnet18, tensors, tmp_path):
        more = tensors | {"layer1.2.conv1.weight": np.zeros((64, 64, 3, 3), dtype=np.float32)}
        self.refused(resnet18, more, tmp_path, match=r"has the tensor 'layer1.2.conv1.weight', unknown to resnet18")

    def test_mis_shaped_tensor_is_named_with_both_shapes(self, resnet18, tensors, tmp_path):
        wrong = tensors | {"conv1.weight": np.zeros((64, 1, 7, 7), dtype=np.float32)}
        match = r"'conv1.weight' must have shape \(7, 7, 3, 64\) .* Received: shape \(7, 7, 1, 64\)"
        self.refused(resnet18, wrong, tmp_path, match=match)

    def test_tensor_that_is_not_finite_is_named(self, resnet18, tensors, tmp_path):
        wrong = tensors | {"bn1.bias": np.full(64, np.nan, dtype=np.float32)}
        self.refused(resnet18, wrong, tmp_path, match="'bn1.bias' must be finite")

    @pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "I8", "BOOL"])
    def test_tensor_of_a_type_that_holds_no_weights_is_named(self, resnet18, tmp_path, kind):
        header = json.dumps({"conv1.weight": {"dtype": kind, "shape": [4], "data_offsets": [0, 4]}}).encode()
        path = tmp_path / "odd.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        with pytest.raises(WeightsError, match=f"'conv1.weight' must be of F64, F32, F16, BF16. Received: {kind}$"):
            load_weights(resnet18, ModelConfig(weights=str(path)))

    @pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
    def test_damaged_file_is_refused(self, resnet18, tmp_path, content):
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged.safetensors: is not a readable safetensors file"):
            load_weights(resnet18, ModelConfig(weights=str(path)))

    def test_truncated_file_is_refused(self, resnet18, weights_file, tmp_path):
        path = tmp_path / "truncated.safetensors"
        path.write_bytes(weights_file.read_bytes()[:100_000])
        with pytest.raises(WeightsError, match=r"truncated.safetensors: is not a readable safetensors file"):
            load_weights(resnet18, ModelConfig(weights=str(path)))


class TestLocalFile:
    def test_missing_file_says_what_is_allowed(self, resnet18):
        with pytest.raises(WeightsError, match=r'no such file \'imagnet\'; allowed: "imagenet", "none", the path'):
            load_weights(resnet18, ModelConfig(weights="imagnet"))

    @pytest.mark.parametrize(("network", "suffix"), [("resnet18", ".safetensors"), ("resnet50", ".h5")])
    def test_pickle_is_refused(self, resnet18, tmp_path, network, suffix):
        path = tmp_path / "resnet.pth"
        path.write_bytes(b"\x80\x02")
        with pytest.raises(WeightsError, match=f"{network} takes weights from a {suffix} file. Received: '.pth'"):
            load_weights(resnet18, ModelConfig(network=network, weights=str(path)))

    @pytest.mark.parametrize("layout", ["keras 3", "keras.applications"])
    def test_h5_without_classifier_is_loaded(self, mobilenet, tmp_path, layout):
        path = tmp_path / "mobilenet.weights.h5"
        other = backbone_of(network_of(network="MobileNetV2", weights="none"))
        if layout == "keras 3":
            other.save_weights(path)
        else:
            path = tmp_path / "mobilenet_notop.h5"
            write_applications_layout(other, path)
        load_weights(mobilenet, ModelConfig(network="MobileNetV2", weights=str(path)))
        for left, right in zip(backbone_of(mobilenet).get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_h5_that_is_not_finite_is_refused(self, tmp_path, value):
        network = network_of(network="MobileNetV2", weights="none")
        other = backbone_of(network_of(network="MobileNetV2", weights="none"))
        other.variables[3].assign(np.full(other.variables[3].shape, value, np.float32))
        other.save_weights(tmp_path / "odd.weights.h5")
        match = rf"odd.weights.h5: {other.variables[3].path} must be finite"
        with pytest.raises(WeightsError, match=match):
            load_weights(network, ModelConfig(network="MobileNetV2", weights=str(tmp_path / "odd.weights.h5")))

    @pytest.mark.parametrize("name", ["small.weights.h5", "small.h5"])
    def test_h5_of_another_network_is_refused(self, mobilenet, tmp_path, name):
        path = tmp_path / name
        small = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        if name == "small.weights.h5":
            small.save_weights(path)
        else:
            write_applications_layout(small, path)
        with pytest.raises(WeightsError, match=f"{name}: is not a file of mobilenetv2") as raised:
            load_weights(mobilenet, ModelConfig(network="MobileNetV2", weights=str(path)))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("name", ["damaged.weights.h5", "damaged.h5"])
    def test_damaged_h5_is_refused(self, mobilenet, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(b"not hdf5")
        with pytest.raises(WeightsError, match=f"{name}: is not a file of mobilenetv2"):
            load_weights(mobilenet, ModelConfig(network="MobileNetV2", weights=str(path)))


def write_applications_layout(model, path):
    """The older layout in which keras.applications publishes its files."""
    layers = [layer for layer in model.layers if layer.weights]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.4.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights] if layer in layers else []
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


@pytest.fixture(scope="module")
def server(weights_file):
    """Serves the weights on this machine; /silent says nothing, /short breaks off, anything else is not there."""
    content = weights_file.read_bytes()
    silence = Event()

    class Handler(BaseHTTPRequestHandler):
        requests = 0

        def do_GET(self):
            type(self).requests += 1
            if self.path == "/silent":
                silence.wait()
            elif self.path in ("/whole", "/short"):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content if self.path == "/whole" else content[:1000])
            else:
                self.send_error(404)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        silence.set()
        server.shutdown()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
class TestDownload:
    @pytest.fixture(autouse=True)
    def sockets_of_failed_downloads_are_collected(self):
        """urllib leaves the socket of a server that timed out to the garbage collector."""
        yield
        gc.collect()

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        """The folder for downloaded files, in a home of its own."""
        monkeypatch.setenv("HOME", str(tmp_path))
        return tmp_path / ".keras" / "models"

    @pytest.fixture
    def serve(self, server, weights_file, monkeypatch):
        """Has resnet18's file come from a place of the server; the address."""

        def serve(place, *, sha256=None, timeout_s=PATIENCE_S):
            url = f"http://127.0.0.1:{server.server_port}/{place}"
            monkeypatch.setattr(weights_module, "RESNET18_URL", url)
            digest = sha256 or hashlib.sha256(weights_file.read_bytes()).hexdigest()
            monkeypatch.setattr(weights_module, "RESNET18_SHA256", digest)
            monkeypatch.setattr(weights_module, "_TIMEOUT_S", timeout_s)
            return url

        return serve

    def test_file_is_kept_and_not_fetched_twice(self, server, serve, resnet18, tensors, cache, capsys):
        serve("whole")
        before = server.RequestHandlerClass.requests
        for _ in range(2):
            load_weights(resnet18, ModelConfig())
        assert server.RequestHandlerClass.requests == before + 1
        assert [path.name for path in cache.iterdir()] == ["resnet18.tv_in1k.safetensors"]
        mean = backbone_of(resnet18).get_layer("conv1_bn").moving_mean
        np.testing.assert_array_equal(mean.numpy(), tensors["bn1.running_mean"])
        assert capsys.readouterr().out == ""

    def test_damaged_file_in_the_cache_is_fetched_again(self, serve, resnet18, weights_file, cache):
        serve("whole")
        cache.mkdir(parents=True)
        kept = cache / "resnet18.tv_in1k.safetensors"
        kept.write_bytes(b"half written")
        load_weights(resnet18, ModelConfig())
        assert kept.read_bytes() == weights_file.read_bytes()

    @pytest.mark.parametrize(
        ("place", "changes", "reason"),
        [
            ("whole", {"sha256": "0" * 64}, "hash does not match"),
            ("missing", {}, "404"),
            ("short", {}, "retrieval incomplete"),
            ("silent", {"timeout_s": 0.5}, "timed out"),
        ],
    )
    def test_failed_download_says_what_to_do_and_leaves_nothing(self, serve, resnet18, cache, place, changes, reason):
        url = serve(place, **changes)
        with pytest.raises(WeightsError, match=reason) as raised:
            load_weights(resnet18, ModelConfig())
        assert str(raised.value).startswith(f"model.weights: {url} cannot be downloaded: ")
        assert str(raised.value).count(url) == 1
        assert str(raised.value).endswith('(learned from phantoms, resnet18) or "none" (random)')
        assert "\n" not in str(raised.value)
        assert not list(cache.glob("*"))
        assert socket.getdefaulttimeout() is None

    @pytest.mark.usefixtures("cache")
    def test_closed_port_is_one_line(self, resnet18, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.safetensors"
            monkeypatch.setattr(weights_module, "RESNET18_URL", url)
        with pytest.raises(WeightsError, match="Connection refused"):
            load_weights(resnet18, ModelConfig())

    def test_cache_that_cannot_be_made_is_refused(self, serve, resnet18, cache):
        serve("whole")
        cache.parent.touch()
        with pytest.raises(InputError, match="cannot be written"):
            load_weights(resnet18, ModelConfig())

    def test_missing_home_is_one_line(self, resnet18, monkeypatch):
        def nobody(path):
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "expanduser", nobody)
        with pytest.raises(WeightsError, match="there is no home folder to keep downloaded weights in; set HOME"):
            load_weights(resnet18, ModelConfig())

    def test_pinned_file_is_named_by_revision_and_sha256(self):
        pinned = "https://huggingface.co/timm/resnet18.tv_in1k/resolve/bbd144b3e556"
        assert weights_module.RESNET18_URL.startswith(pinned)
        assert len(weights_module.RESNET18_SHA256) == 64

    def test_keras_applications_weights_come_from_keras(self, mobilenet, monkeypatch):
        other = backbone_of(network_of(network="MobileNetV2", weights="none"))
        asked = []

        def build(self, *, patch_px, weights=None):
            asked.append((self.name, patch_px, weights))
            return other

        monkeypatch.setattr(Backbone, "build", build)
        load_weights(mobilenet, ModelConfig(network="MobileNetV2", weights="imagenet"))
        assert asked == [("MobileNetV2", 32, "imagenet")]
        for left, right in zip(backbone_of(mobilenet).get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(left, right)

    def test_failed_download_of_keras_applications_says_what_to_do(self, mobilenet, monkeypatch):
        def build(self, *, patch_px, weights=None):
            raise Exception("URL fetch failure on https://example.org/notop.h5: None -- unreachable")

        monkeypatch.setattr(Backbone, "build", build)
        match = (
            "model.weights: ImageNet weights of MobileNetV2 cannot be downloaded: .*https://example.org/notop.h5.*"
            "; fetch that file elsewhere and set model.weights to its path"
        )
        with pytest.raises(WeightsError, match=match):
            load_weights(mobilenet, ModelConfig(network="MobileNetV2", weights="imagenet"))


def test_none_changes_nothing(resnet18):
    before = resnet18.get_weights()
    load_weights(resnet18, ModelConfig(weights="none"))
    for left, right in zip(before, resnet18.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
