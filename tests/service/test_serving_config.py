import json
import shutil
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from mmgkeras.cli import main
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from mmgkeras.errors import InputError
from mmgkeras.savedmodel.servable import Servable, load_servable
from mmgkeras.service.serving import add_to_serving_folder, open_server
from tests.service.test_rest_api import REQUEST

NUMBER, TEXT, FLAG = "Int64Value", "StringValue", "BoolValue"
BATCHING = {
    "max_batch_size": NUMBER,
    "batch_timeout_micros": NUMBER,
    "max_enqueued_batches": NUMBER,
    "num_batch_threads": NUMBER,
    "thread_pool_name": TEXT,
    "max_execution_batch_size": NUMBER,
    "enable_large_batch_splitting": FLAG,
}
"""Of TensorFlow Serving's BatchingParameters, which its Python package has not; all but allowed_batch_sizes."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, export_mean_model: Callable[..., Path]) -> Path:
    """The folder `mine` with the versions 1, 2 and 3 of a model."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    for version in (1, 2, 3):
        export_mean_model(folder / str(version), changes={"pixel_type": "uint16"})
    return folder


@pytest.fixture(scope="module")
def first(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of version 1."""
    out = tmp_path_factory.mktemp("serving") / "out"
    add_to_serving_folder(out, model=models / "1")
    return out


@pytest.fixture
def out(first: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(first, tmp_path / "serving"))


def labels(out: Path, name: str = "mine") -> tuple[list[int], dict[str, int]]:
    config = text_format.Parse((out / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    model = next(model for model in config.model_config_list.config if model.name == name)
    assert model.base_path == f"/serving/models/{name}"
    assert (out / "models" / name).is_dir()
    return list(model.model_version_policy.specific.versions), dict(model.version_labels)


def message(fields: Mapping[str, str], *, numbers: str | None = None) -> Any:
    """A message of these fields, wrappers or messages by name, and one of repeated numbers."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{'-'.join(fields)}.proto", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    described = file.message_type.add(name="Config")
    optional, repeated = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, 3
    for number, (name, kind) in enumerate(fields.items(), start=1):
        described.field.add(name=name, number=number, label=optional, type=11, type_name=f".google.protobuf.{kind}")
    if numbers is not None:
        described.field.add(name=numbers, number=100, label=repeated, type=3)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Config"))()


def test_the_models_are_served_under_their_labels(first: Path) -> None:
    assert labels(first) == ([1], {"stable": 1})
    assert labels(first, "mine-patches") == ([1], {"stable": 1})


def test_a_later_version_is_the_canary_until_it_is_stable_and_one_can_go_back(out: Path, models: Path) -> None:
    before = (out / "models/mine/1/saved_model.pb").stat().st_mtime_ns
    add_to_serving_folder(out, model=models / "2")
    assert labels(out) == labels(out, "mine-patches") == ([1, 2], {"stable": 1, "canary": 2})
    add_to_serving_folder(out, model=None, stable=2)
    assert labels(out) == ([2], {"stable": 2})
    add_to_serving_folder(out, model=models / "3")
    assert labels(out) == ([2, 3], {"stable": 2, "canary": 3})
    add_to_serving_folder(out, model=None, stable=1, name="mine")
    assert labels(out) == ([1, 3], {"stable": 1, "canary": 3})
    add_to_serving_folder(out, model=models / "3", stable=3)
    assert labels(out) == ([3], {"stable": 3})
    assert (out / "models/mine/1/saved_model.pb").stat().st_mtime_ns == before


def test_several_models_keep_their_own_labels(out: Path, models: Path) -> None:
    add_to_serving_folder(out, model=models / "2", name="other")
    assert labels(out) == ([1], {"stable": 1})
    assert labels(out, "other") == labels(out, "other-patches") == ([2], {"stable": 2})
    with pytest.raises(InputError, match=r"name the model whose version is to be stable. Allowed: mine, mine-patches"):
        add_to_serving_folder(out, model=None, stable=2)


def test_the_files_of_a_file_browser_are_no_models(models: Path, tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    add_to_serving_folder(tmp_path, model=models / "1")
    for name in ("models/.DS_Store", "models/mine/.DS_Store", "models/mine-patches/1/variables/.DS_Store"):
        (tmp_path / name).touch()
    own = Path(shutil.copytree(models / "1", tmp_path.parent / "own" / "mine" / "1"))
    (own / "variables" / "._variables.index").touch()
    add_to_serving_folder(tmp_path, model=own)
    assert labels(tmp_path) == labels(tmp_path, "mine-patches") == ([1], {"stable": 1})


def test_batching_is_of_patches_alone(first: Path) -> None:
    assert not (first / "models/mine/1/batching_params.pbtxt").exists()
    parameters = text_format.Parse(
        (first / "models/mine-patches/1/batching_params.pbtxt").read_text(),
        message(BATCHING, numbers="allowed_batch_sizes"),
    )
    sizes = list(parameters.allowed_batch_sizes)
    assert sizes == sorted(sizes)
    assert sizes[-1] == parameters.max_execution_batch_size.value <= parameters.max_batch_size.value
    assert parameters.enable_large_batch_splitting.value
    threads = text_format.Parse((first / "batching.config").read_text(), type(parameters)())
    assert threads.num_batch_threads.value == 2


def test_monitoring_and_compose_say_the_same_path_and_port(first: Path) -> None:
    monitoring = (first / "monitoring.config").read_text()
    scrape = yaml.safe_load((first / "prometheus.yml").read_text())["scrape_configs"][0]
    assert f'path: "{scrape["metrics_path"]}"' in monitoring
    assert "enable: true" in monitoring
    compose = yaml.safe_load((first / "compose.yaml").read_text())
    assert compose["services"].keys() == {"serving-cpu", "serving-gpu", "prometheus"}
    for name in ("serving-cpu", "serving-gpu"):
        service = compose["services"][name]
        assert service["networks"]["default"]["aliases"] == [scrape["static_configs"][0]["targets"][0].split(":")[0]]
        files = [part.partition("=/serving/")[2] for part in service["command"] if "=/serving/" in part]
        assert sorted(files) == ["batching.config", "models.config", "monitoring.config"]
        assert all((first / file).is_file() for file in files)
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def replayed(servable: Servable, path: Path) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Endpoint and outputs of every warm-up request."""
    answers = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == servable.name
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        answers.append((request.model_spec.signature_name, servable.run(request.model_spec.signature_name, inputs)))
    return answers


def test_the_warm_up_is_replayed_on_both(first: Path) -> None:
    warm_up = Path("assets.extra/tf_serving_warmup_requests")
    for name, endpoints in (("mine", ["detect"] * 4), ("mine-patches", ["classify_patches"] * 5)):
        folder = first / "models" / name / "1"
        answers = replayed(load_servable(folder), folder / warm_up)
        assert [endpoint for endpoint, _ in answers][: len(endpoints)] == endpoints
        if name == "mine":
            assert {answer["probability"].shape[1:] for _, answer in answers} == {(1, 1), (3, 2), (9, 6), (11, 9)}
        else:
            sizes = [len(answer["probability"]) for _, answer in answers]
            assert sizes == [1, 8, 16, 32, 64] * 2


def test_padded_batches_give_what_separate_requests_do(first: Path) -> None:
    servable = load_servable(first / "models/mine-patches/1")
    rng = np.random.default_rng(0)
    requests = [rng.integers(0, 65536, (number, 8, 8, 1), dtype=np.uint16) for number in (3, 1, 2)]
    joined = np.concatenate([*requests, np.repeat(requests[0][:1], 2, axis=0)])  # padded to 8
    for endpoint in ("classify_patches", "localise_patches"):
        answer = servable.run(endpoint, {"patches": joined})
        start = 0
        for patches in requests:
            for name, values in servable.run(endpoint, {"patches": patches}).items():
                np.testing.assert_allclose(answer[name][start : start + len(patches)], values, atol=1e-6)
            start += len(patches)


def test_serve_takes_the_same_folder_with_its_labels(out: Path, models: Path) -> None:
    add_to_serving_folder(out, model=models / "2")
    server = open_server(out, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    for way, version in [("", "2"), ("/labels/stable", "1"), ("/labels/canary", "2"), ("/versions/1", "1")]:
        request = urllib.request.Request(f"{server.url}/v1/models/mine{way}:predict", json.dumps(REQUEST).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["predictions"][0]["model_version"] == version


def test_what_is_not_its_own_is_refused(out: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine: has no version 9. Allowed: 1$"):
        add_to_serving_folder(out, model=None, stable=9)
    with pytest.raises(InputError, match="serves no model yet"):
        add_to_serving_folder(tmp_path / "new", model=None, stable=1)
    with pytest.raises(InputError, match="name must be letters"):
        add_to_serving_folder(out, model=models / "1", name='a"b')
    (out / "compose.yaml").write_text("mine\n")
    with pytest.raises(InputError, match=r"compose.yaml: was not made by this command"):
        add_to_serving_folder(out, model=models / "2")
    (out / "models.config").write_text("{")
    with pytest.raises(InputError, match=r"models.config: is no model configuration"):
        add_to_serving_folder(out, model=models / "2")
    (out / "models.config").unlink()
    with pytest.raises(InputError, match=r"holds no models.config and is not empty"):
        add_to_serving_folder(out, model=models / "2")


@pytest.mark.parametrize(("word", "other"), [("versions: 1", ""), ("value: 1", "value: 2")])
def test_a_configuration_that_names_no_version_or_labels_another_is_one_line(out: Path, word: str, other: str) -> None:
    config = (out / "models.config").read_text()
    assert word in config
    (out / "models.config").write_text(config.replace(word, other))
    with pytest.raises(InputError, match=r"models.config: must name the versions of 'mine' that are served, and label"):
        open_server(out, host="127.0.0.1", port=0)


@pytest.mark.parametrize("change", [{"level": 1.0}, {"changes": {"pixel_type": "uint16", "fold": 2}}])
def test_another_model_of_a_version_that_is_served_is_refused(
    out: Path, models: Path, tmp_path: Path, export_mean_model: Callable[..., Path], change: dict[str, Any]
) -> None:
    add_to_serving_folder(out, model=models / "1")
    other = export_mean_model(tmp_path / "mine" / "1", **{"changes": {"pixel_type": "uint16"}} | change)
    with pytest.raises(InputError, match=rf"mine-patches/1: is there and is not {other}; what is served is never rep"):
        add_to_serving_folder(out, model=other)
    assert labels(out) == ([1], {"stable": 1})


def test_the_command_says_what_is_served(models: Path, tmp_path: Path) -> None:
    arguments = ["serve-config", "--model", str(models / "1"), "--out", str(tmp_path / "serving")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, "mine: stable 1\nmine-patches: stable 1\n")
    assert "docker compose" in result.stderr
    assert "finer" not in result.stderr
    assert CliRunner().invoke(main, ["serve-config", "--out", str(tmp_path / "serving")]).exit_code == 2


def test_the_finer_model_is_added_with_the_model_and_becomes_stable_with_it(
    models: Path, tmp_path: Path, export_finer_model: Callable[[Path], Path]
) -> None:
    out, arguments = tmp_path / "serving", ["serve-config", "--out", str(tmp_path / "serving")]
    own = [Path(shutil.copytree(models / version, tmp_path / "ours" / version)) for version in ("1", "2", "3")]
    export_finer_model(own[0])
    export_finer_model(own[1])
    result = CliRunner().invoke(main, [*arguments, "--model", str(own[0])])
    names = ("ours", "ours-finer", "ours-finer-patches", "ours-patches")
    assert result.stdout == "".join(f"{name}: stable 1\n" for name in names)
    add_to_serving_folder(out, model=own[1])
    assert [labels(out, name) for name in names] == [([1, 2], {"stable": 1, "canary": 2})] * 4
    assert CliRunner().invoke(main, [*arguments, "--stable", "2"]).exit_code == 0
    assert [labels(out, name) for name in names] == [([2], {"stable": 2})] * 4
    add_to_serving_folder(out, model=own[2], stable=3)
    assert [labels(out, name)[1] for name in names] == [{"stable": stable} for stable in (3, 2, 2, 3)]
    add_to_serving_folder(out, model=own[0], name="site")
    assert labels(out, "site") == labels(out, "site-finer") == ([1], {"stable": 1})
    with pytest.raises(InputError, match="name the model whose version is to be stable"):
        add_to_serving_folder(out, model=None, stable=1)
