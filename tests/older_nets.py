"""Random nets in each of Caffe's forms, for hypothesis."""

from typing import Any

from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from recaffe.net.upgrade import v0, v1
from recaffe.proto import caffe_pb2 as pb

V1 = pb.V1LayerParameter
NAMES = st.text("ab/_é \"'\\\n#{}", max_size=6)
_SCALARS = {
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "string": NAMES,
}
_TYPES = {1: "double", 2: "float", 3: "int64", 5: "int32", 8: "bool", 9: "string", 13: "uint32"}


@st.composite
def messages(draw: st.DrawFn, kind: Any, skip: tuple[str, ...] = (), most: int = 4) -> Any:
    """A message of type `kind` with up to `most` of its fields set."""
    message = kind()
    fields = [f for f in kind.DESCRIPTOR.fields if f.name not in skip]
    for f in draw(st.lists(st.sampled_from(fields), max_size=most, unique_by=lambda f: f.name)):
        _fill(draw, message, f)
    for path in message.FindInitializationErrors():  # Clip's min and max, the only such fields
        inner, name = path.rsplit(".", 1) if "." in path else ("", path)
        setattr(_at(message, inner), name, draw(_SCALARS["float"]))
    return message


def _at(message: Any, path: str) -> Any:
    for part in filter(None, path.replace("]", "").replace("[", ".").split(".")):
        message = message[int(part)] if part.isdigit() else getattr(message, part)
    return message


def _fill(draw: st.DrawFn, message: Any, f: Any) -> None:
    if f.message_type is not None:
        one: st.SearchStrategy[Any] = messages(GetMessageClass(f.message_type))
    elif f.enum_type is not None:
        one = st.sampled_from([v.number for v in f.enum_type.values])
    else:
        one = _SCALARS[_TYPES[f.type]]
    if f.is_repeated:
        getattr(message, f.name).extend(draw(st.lists(one, min_size=1, max_size=3)))
    elif f.message_type is not None:
        getattr(message, f.name).SetInParent()
        getattr(message, f.name).CopyFrom(draw(one))
    else:
        setattr(message, f.name, draw(one))


@st.composite
def inputs(draw: st.DrawFn, net: pb.NetParameter) -> None:
    """Net inputs of one form, or none, or names without shapes as old caffemodels have them; and
    now and then more shapes than names."""
    names = draw(st.lists(NAMES, max_size=2, unique=True))
    count = len(names) + draw(st.sampled_from((0, 0, 1)))
    net.input.extend(names)
    form = draw(st.sampled_from(("none", "dim", "shape", "both")))
    if form in ("dim", "both"):
        net.input_dim.extend(draw(st.lists(st.integers(1, 9), min_size=4, max_size=4)) * count)
    if form in ("shape", "both"):
        for _ in range(count):
            net.input_shape.add(dim=draw(st.lists(st.integers(1, 9), max_size=3)))


@st.composite
def v2_nets(draw: st.DrawFn) -> pb.NetParameter:
    """A net of today's form, BatchNorm with rates and net inputs among it."""
    net = draw(messages(pb.NetParameter, skip=("layers", "input", "input_dim", "input_shape")))
    draw(inputs(net))
    for n in draw(st.lists(st.integers(0, 4), max_size=2)):
        layer = net.layer.add(name="norm", type="BatchNorm")
        layer.param.extend(draw(messages(pb.ParamSpec)) for _ in range(n))
    return net


@st.composite
def v1_nets(draw: st.DrawFn) -> pb.NetParameter:
    """A net in the form of 2014; its data layers often with a transformation of their own."""
    skip = ("layer", "layers", "input", "input_dim", "input_shape")
    net = draw(messages(pb.NetParameter, skip=skip))
    draw(inputs(net))
    for _ in range(draw(st.integers(1, 4))):
        layer = net.layers.add()
        layer.CopyFrom(draw(messages(V1, skip=("layer", "type"), most=6)))
        if draw(st.booleans()):
            layer.type = draw(st.sampled_from(V1.LayerType.values()))
        else:
            kind = draw(st.sampled_from(sorted(v1.TRANSFORMED)))
            layer.type = V1.LayerType.Value(kind)
            own = getattr(layer, v1.TRANSFORMED[kind])
            own.SetInParent()
            own.CopyFrom(draw(messages(type(own))))
    return net


@st.composite
def v0_nets(draw: st.DrawFn) -> pb.NetParameter:
    """A net in the form of 2013: a chain with padding layers, and fields that fit or don't."""
    skip = ("layer", "layers", "input", "input_dim", "input_shape")
    net = draw(messages(pb.NetParameter, skip=skip, most=1))
    net.input.append("top0")
    if draw(st.booleans()):
        net.input_dim.extend((1, 2, 3, 4))
    kinds = draw(st.lists(st.sampled_from((*v0.TYPES, "padding", "padding")), max_size=5))
    count = 0
    for kind in kinds or ["conv"]:
        pair = (kind, draw(st.sampled_from(("conv", "pool")))) if kind == "padding" else (kind,)
        for one in pair:
            layer = net.layers.add(bottom=[f"top{count}"], top=[f"top{count + 1}"])
            layer.layer.CopyFrom(draw(messages(pb.V0LayerParameter, skip=("type",), most=6)))
            layer.layer.type = one
            count += 1
    if draw(st.integers(0, 9)) == 0:  # what the old form has no place for
        net.layers[0].MergeFrom(draw(messages(V1, skip=("layer", "bottom", "top"), most=2)))
    return net
