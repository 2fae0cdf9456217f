"""A model is a program: one that could do more than compute is refused, and nothing of it is run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from mmgkeras.errors import InputError
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.metadata import METADATA_FILE
from mmgkeras.savedmodel.operations import ALLOWED, check_operations

PATCHES = tf.TensorSpec((None, 4, 4, 1), tf.uint8, name="patches")


def answer(patches: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(patches, tf.float32), axis=(1, 2, 3)) / 255.0


def saved(folder: Path, module: tf.Module, function: Callable[[tf.Tensor], Any], *, like: Path) -> Path:
    """A SavedModel of a function of patches, with the metadata of a model of ours."""
    module.endpoint = tf.function(function, input_signature=[PATCHES], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"classify_patches": module.endpoint})
    (folder / METADATA_FILE.parent).mkdir()
    shutil.copy(like / METADATA_FILE, folder / METADATA_FILE)
    return folder


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize(
    "operation", ["WriteFile", "ReadFile", "EagerPyFunc", "StringFormat", "MatchingFiles", "RestoreV2"]
)
def test_an_operation_that_is_more_than_computing_is_refused_and_not_run(
    operation: str, tmp_path: Path, canary: Path, model_path: Path
) -> None:
    def touch() -> tf.Tensor:
        canary.touch()
        return tf.constant(0.0)

    effects = {
        "WriteFile": lambda: tf.io.write_file(str(canary), "was here"),
        "ReadFile": lambda: tf.io.read_file("/etc/hostname"),
        "EagerPyFunc": lambda: tf.py_function(touch, [], tf.float32),
        "StringFormat": lambda: tf.print("was here", output_stream=f"file://{canary}"),
        "MatchingFiles": lambda: tf.io.matching_files("/*"),
        "RestoreV2": lambda: tf.raw_ops.RestoreV2(
            prefix="other", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
        ),
    }

    def endpoint(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.group(effects[operation]())]):
            return {"probability": tf.identity(answer(patches))}

    folder = saved(tmp_path / "1", tf.Module(), endpoint, like=model_path)
    canary.unlink(missing_ok=True)  # tracing may have run it
    with pytest.raises(InputError, match=rf"saved_model.pb: the operation {operation} in .* is not allowed") as fault:
        load(folder)
    assert "\n" not in str(fault.value)
    assert not canary.exists()


def test_an_operation_deep_in_a_branch_is_found(tmp_path: Path, canary: Path, model_path: Path) -> None:
    def endpoint(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        def write() -> tf.Tensor:
            with tf.control_dependencies([tf.io.write_file(str(canary), "was here")]):
                return tf.constant(1.0)

        return {"probability": answer(patches) * tf.cond(tf.size(patches) > 0, write, lambda: tf.constant(1.0))}

    folder = saved(tmp_path / "1", tf.Module(), endpoint, like=model_path)
    with pytest.raises(InputError, match=r"the operation WriteFile in .* is not allowed"):
        load(folder)


def test_a_table_that_is_filled_from_a_file_is_refused(tmp_path: Path, model_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\t1\nb\t2\n")
    module = tf.Module()
    source = tf.lookup.TextFileInitializer(str(tmp_path / "words.txt"), tf.string, 0, tf.int64, 1)
    module.table = tf.lookup.StaticHashTable(source, 0)

    def endpoint(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probability": answer(patches) + tf.cast(module.table.lookup(tf.constant("a")), tf.float32)}

    folder = saved(tmp_path / "1", module, endpoint, like=model_path)
    with pytest.raises(InputError, match="is not allowed; a model may only compute"):
        load(folder)


def forged(folder: Path, change: Callable[[Any], None]) -> Path:
    """The model's saved_model.pb with its first graph changed."""
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())
    return folder


def saver_of(graph: Any) -> str:
    """The name of the function by which a server of the model saves variables: it writes files."""
    return next(f.signature.name for f in graph.graph_def.library.function if "traced_save" in f.signature.name)


@pytest.fixture
def copy(model_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "1"))


def test_the_function_that_saves_variables_cannot_be_called_by_an_endpoint(copy: Path) -> None:
    def change(graph: Any) -> None:
        wrapper = next(f for f in graph.graph_def.library.function if "signature_wrapper" in f.signature.name)
        call = next(node for node in wrapper.node_def if node.op == "StatefulPartitionedCall")
        call.attr["f"].func.name = saver_of(graph)

    with pytest.raises(InputError, match=r"calls __inference__traced_save.*, which reads or writes files"):
        load(forged(copy, change))


def test_the_function_that_saves_variables_cannot_be_an_endpoint(copy: Path) -> None:
    def change(graph: Any) -> None:
        functions = graph.object_graph_def.concrete_functions
        functions[saver_of(graph)].CopyFrom(next(iter(functions.values())))

    with pytest.raises(InputError, match=r"offers __inference__traced_save.*, which reads or writes files"):
        load(forged(copy, change))


def test_a_custom_operation_is_refused_by_name(copy: Path) -> None:
    def change(graph: Any) -> None:
        graph.graph_def.library.function[0].node_def.add(name="own", op="MyOwnOperation")

    with pytest.raises(InputError, match="the operation MyOwnOperation in "):
        load(forged(copy, change))


def test_an_object_of_a_class_of_its_own_is_refused(copy: Path) -> None:
    def change(graph: Any) -> None:
        graph.object_graph_def.nodes[0].registered_name = "evil.Class"

    with pytest.raises(InputError, match=r"object 0 is of kind evil.Class"):
        load(forged(copy, change))


def test_a_model_of_ours_passes(model_path: Path) -> None:
    check_operations(model_path)
    assert load(model_path).classify(np.zeros((1, 4, 4, 1), np.uint8)).shape == (1,)


def test_nothing_that_is_allowed_touches_files_the_net_or_python() -> None:
    suspicious = ("File", "Save", "Restore", "Py", "Print", "Debug", "Host", "Send", "Recv", "Dataset", "Read")
    found = {name for name in ALLOWED if any(part in name for part in suspicious)}
    assert found == {"DisableCopyOnRead", "ReadVariableOp"}


def test_a_graph_that_is_no_protocol_buffer_is_one_line(copy: Path) -> None:
    (copy / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot be loaded, is a file damaged or missing") as fault:
        check_operations(copy)
    assert "\n" not in str(fault.value)
