"""The operations that a SavedModel's graph may hold: a model is a program, and this one may only compute.

Owns the list of what is allowed and its check, which parses saved_model.pb and runs nothing of it. Allowed is
arithmetic on tensors and variables; what reads or writes files, calls Python, reaches the net or comes from another
library is not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from mmgkeras.errors import InputError
from mmgkeras.locks import MODEL_FILE

GRAPH_FILE: Final = MODEL_FILE

_COMPUTING: Final = """
Abs Add AddN AddV2 All Any ArgMax ArgMin AssignAddVariableOp AssignVariableOp AvgPool AvgPool3D BatchMatMul
BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BiasAdd Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs BroadcastTo
Bucketize Case Cast Ceil ClipByValue CombinedNonMaxSuppression Concat ConcatOffset ConcatV2 Const Conv2D
Conv2DBackpropInput Conv3D CropAndResize Cumprod Cumsum DepthToSpace DepthwiseConv2dNative Diag DisableCopyOnRead Einsum
Elu EmptyTensorList EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 ExtractImagePatches Fill Floor FloorDiv FloorMod
FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If
ImageProjectiveTransformV3 InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift Less LessEqual LinSpace
Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart MatrixDiagV3 Max MaxPool MaxPool3D MaxPoolV2
Maximum Mean Merge Min Minimum MirrorPad Mod Mul MulNoNan Neg NoOp NonMaxSuppressionV3 NonMaxSuppressionV4
NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault Pow
PreventGradient Prod Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic
ResizeBilinear ResizeNearestNeighbor ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt ScaleAndTranslate
ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Size Slice Softmax Softplus Softsign SpaceToBatchND
SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf
StatelessWhile StopGradient StridedSlice Sub Sum Switch Tan Tanh TensorListConcatV2 TensorListElementShape
TensorListFromTensor TensorListGetItem TensorListLength TensorListReserve TensorListResize TensorListSetItem
TensorListStack TensorScatterAdd TensorScatterMax TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod
Unique UniqueV2 Unpack UnsortedSegmentMax UnsortedSegmentSum VarHandleOp VarIsInitializedOp Where While Xdivy Xlogy
ZerosLike
"""
_DECODING: Final = "Assert DecodeJpeg DecodePng DecodeRaw ExtractJpegShape StringLength Substr"
"""Of the endpoint that takes encoded images."""
ALLOWED: Final = frozenset([*_COMPUTING.split(), *_DECODING.split()])
_SAVER: Final = frozenset(
    ["MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename", "StaticRegexFullMatch", "StringJoin"]
)
"""What every SavedModel has besides, in the two functions by which a server restores its variables."""
_KINDS: Final = frozenset({"user_object", "function", "bare_concrete_function", "variable", "constant"})
"""Kinds of saved objects; assets, tables and other resources are left out."""


def check_operations(folder: Path) -> None:
    """Refuses a SavedModel whose graph may do more than compute; reads its saved_model.pb and runs nothing.

    Raises:
        InputError: naming the first operation that is not allowed, or if the file cannot be read.
    """
    path = folder / GRAPH_FILE
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise InputError(f"{folder}: cannot be loaded, is a file damaged or missing? {path.name}: {error}") from error
    fault = next((fault for graph in model.meta_graphs for fault in _faults(graph)), None)
    if fault is not None:
        raise InputError(
            f"{path}: {fault}; a model may only compute, not touch files, run Python or bring objects of its own"
        )


def _faults(graph: Any) -> Iterator[str]:
    nodes, library = graph.graph_def.node, graph.graph_def.library.function
    # The nodes that save and restore variables, which only a server of the model runs, and the functions they call.
    saver_nodes = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name} - {""}
    saver = {node.attr["f"].func.name for node in nodes if node.name in saver_nodes} - {""}
    for node in nodes:
        is_saver_call = node.name in saver_nodes and node.op == "StatefulPartitionedCall"
        yield from _node_faults(node, where="its graph", allowed=ALLOWED, unreachable=() if is_saver_call else saver)
    for function in library:
        allowed = ALLOWED | _SAVER if function.signature.name in saver else ALLOWED
        for node in function.node_def:
            yield from _node_faults(node, where=function.signature.name, allowed=allowed, unreachable=saver)
    for name in graph.object_graph_def.concrete_functions:
        if name in saver:
            yield f"offers {name}, which reads or writes files, as a function"
    for number, saved in enumerate(graph.object_graph_def.nodes):
        kind = saved.WhichOneof("kind")
        if kind not in _KINDS or saved.registered_name:
            yield f"object {number} is of kind {saved.registered_name or kind}, which is not allowed"


def _node_faults(node: Any, *, where: str, allowed: frozenset[str], unreachable: Any) -> Iterator[str]:
    if node.op not in allowed:
        yield f"the operation {node.op} in {where} is not allowed"
    for value in node.attr.values():
        for called in (value.func, *value.list.func):
            if called.name in unreachable:
                yield f"{where} calls {called.name}, which reads or writes files"
