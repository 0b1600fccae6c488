"""All of Caffe's upgrades of a NetParameter or SolverParameter, in its order."""

from __future__ import annotations

from recaffe.errors import NetError
from recaffe.net.upgrade import v0, v1
from recaffe.proto import caffe_pb2 as pb

SOLVERS = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}
# BatchNorm's three blobs are statistics; nets written for its first version give them rates.
BATCH_NORM_PARAMS = 3


def upgrade_net(net: pb.NetParameter) -> list[str]:
    """Bring `net` up to date in place; a sentence for each field that had to be left out.

    Raises `NetError` where Caffe aborts: both forms of layers, an unknown V0 type, a padding layer
    that can't be folded, inputs without a shape of their own.
    """
    lost = []
    if v0.needed(net):
        lost += v0.upgrade(net)
    if v1.data_upgrade_needed(net):
        v1.move_transforms(net)
    if net.layers:
        lost += v1.upgrade(net)
    if net.input:
        _inputs(net)
    for layer in net.layer:
        if is_old_batch_norm(layer):
            for spec in layer.param:
                spec.lr_mult = spec.decay_mult = 0
    return lost


def upgrade_solver(solver: pb.SolverParameter) -> None:
    """Turn the enum `solver_type` into the string `type`, in place.

    Raises `NetError` if both are set.
    """
    if not solver.HasField("solver_type"):
        return
    if solver.HasField("type"):
        raise NetError(
            "The solver has both `solver_type`, the old form, and `type`. Remove `solver_type`."
        )
    solver.type = SOLVERS[pb.SolverParameter.SolverType.Name(solver.solver_type)]
    solver.ClearField("solver_type")


def is_old_batch_norm(layer: pb.LayerParameter) -> bool:
    """Whether a layer is a BatchNorm that names rates for its three blobs."""
    return layer.type == "BatchNorm" and len(layer.param) == BATCH_NORM_PARAMS


def input_shapes(net: pb.NetParameter) -> list[list[int]]:
    """The shapes of the net's `input`s; none for a caffemodel of old, which names inputs alone.

    Raises `NetError` if there are fewer shapes than inputs.
    """
    if not net.input_shape and not net.input_dim:
        return []
    dims = list(net.input_dim)
    legacy = [dims[i : i + 4] for i in range(0, len(dims) - 3, 4)]
    shapes = [list(s.dim) for s in net.input_shape] or legacy
    if len(shapes) < len(net.input):
        raise NetError(
            f"The net has {len(net.input)} `input` but shapes for {len(shapes)}. Give each an "
            "`input_shape`, or four `input_dim`."
        )
    return shapes[: len(net.input)]


def _inputs(net: pb.NetParameter) -> None:
    shapes = input_shapes(net)
    if shapes:
        layer = pb.LayerParameter(name="input", type="Input", top=net.input)
        for dims in shapes:
            layer.input_param.shape.add(dim=dims)
        rest = list(net.layer)
        del net.layer[:]
        net.layer.extend([layer, *rest])
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
