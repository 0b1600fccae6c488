"""The tree of a prototxt: every text that protobuf takes, byte for byte, and no other one."""

import re

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from recaffe.errors import NetError
from recaffe.net import parse
from recaffe.net.prototxt import Message
from recaffe.net.prototxt import parse as parse_text
from recaffe.net.upgrade.tree import upgrade_tree
from recaffe.proto import caffe_pb2 as pb

LISTED = """layer {
  name: "a"  # first
  param: [  # rates
    { lr_mult: 1 },  # of the weights
    # and of the bias:
    { lr_mult: 2 }
  ]  # that was all
  top: "a"
}
"""


def taken(text: str) -> pb.NetParameter | None:
    """What protobuf makes of a text; None where it refuses it."""
    try:
        return text_format.Parse(text, pb.NetParameter(), allow_unknown_field=True)
    except text_format.ParseError:
        return None


def ours(text: str) -> pb.NetParameter | None:
    try:
        return parse.raw_net(parse_text(text))
    except NetError:
        return None


def layer_of(tree: Message) -> Message:
    return next(tree.messages("layer"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("p {\n  a: 1\n  b: 2 c: 3\n}\n", "p {\n  a: 1\n  c: 3\n}\n"),
        ("p {\n  a: 1\n  # why\n  b: 2 b: 4 c: 3 # so\n}\n", "p {\n  a: 1\n  c: 3 # so\n}\n"),
        ("p { a: 1 b: 2 c: 3 }\n", "p { a: 1 c: 3 }\n"),
    ],
)
def test_fields_behind_a_removed_one_on_its_line_stay_apart(text: str, left: str) -> None:
    tree = parse_text(text)
    tree.child("p").remove("b")
    assert tree.render() == left


def test_fewer_values_leave_the_next_field_apart() -> None:
    tree = parse_text("p {\n  a: 1\n  b: 2\n  b: 4 c: 3\n}\n")
    tree.child("p").set("b", 7)
    assert tree.render() == "p {\n  a: 1\n  b: 7\n  c: 3\n}\n"


def test_a_list_of_messages_is_as_many_fields() -> None:
    tree = parse_text(LISTED)
    assert tree.render() == LISTED
    layer = layer_of(tree)
    assert [p.get("lr_mult") for p in layer.messages("param")] == [1, 2]
    assert [f.line for f in layer.all("param")] == [4, 6]
    assert [f.comments for f in layer.all("param")] == [
        ["# rates"], ["# of the weights", "# and of the bias:", "# that was all"],
    ]  # fmt: skip


def test_an_edit_within_a_list_leaves_it_a_list() -> None:
    tree = parse_text(LISTED)
    next(layer_of(tree).messages("param")).set("lr_mult", 7)
    assert tree.render() == LISTED.replace("lr_mult: 1", "lr_mult: 7")


@pytest.mark.parametrize("gone", [0, 1])
def test_a_list_that_loses_one_is_written_out(gone: int) -> None:
    tree = parse_text(LISTED)
    layer = layer_of(tree)
    layer.fields.remove(layer.all("param")[gone])
    net = taken(tree.render())
    assert net is not None
    assert [p.lr_mult for p in net.layer[0].param] == [2 - gone]
    assert "[" not in tree.render()
    kept = "# rates" if gone else "# of the weights"
    assert kept in tree.render() and "# first" in tree.render()


def test_a_field_put_between_a_lists_own_writes_it_out() -> None:
    tree = parse_text(LISTED)
    layer_of(tree).add("param", at=2).set("lr_mult", 5)
    net = taken(tree.render())
    assert net is not None
    assert [p.lr_mult for p in net.layer[0].param] == [1, 5, 2]
    assert all(c in tree.render() for c in re.findall("#.*", LISTED))


def test_a_renamed_list_keeps_its_values() -> None:
    tree = parse_text('layers: [{ name: "a" }, < name: "b" >]')
    for f in tree.all("layers"):
        f.rename("layer")
    net = taken(tree.render())
    assert net is not None and [x.name for x in net.layer] == ["a", "b"]


def test_an_older_nets_list_of_layers_is_upgraded_with_its_comments() -> None:
    text = """layers: [  # two
      { name: "a" type: RELU bottom: "x" top: "a" },  # first
      { name: "b" type: CONVOLUTION bottom: "a" top: "b" blobs_lr: [1, 2] } ]
    """
    new = upgrade_tree(parse_text(text))
    assert not new.warnings
    rendered = new.tree.render()
    assert "# two" in rendered and "# first" in rendered and "layers" not in rendered
    net = taken(rendered)
    assert net is not None and net == parse.to_net(parse_text(text))


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("layer {\n  param: [{lr_mult: 1},]\n}", "line 2, column 24", "a message is wanted"),
        ("layer {\n  param: [{lr_mult: 1} {}]\n}", "line 2, column 24", "',' or ']' is wanted"),
        ("layer {\n  param: [{lr_mult: 1}, 3]\n}", "line 2, column 25", "a message is wanted"),
        ("layer {\n  param: [{lr_mult: 1},\n  {lr_mult: }]\n}", "line 3, column 13", "'lr_mult'"),
        ("layer {\n  param: [{lr_mult: 1},\n", "line 3, column 1", "a message is wanted"),
        ("layer {\n  top: ['a',]\n}", "line 2, column 13", "a value for 'top'"),
        ("layer {\n  loss_weight: [1 2]\n}", "line 2, column 19", "',' or ']'"),
        ("layer {\n  loss_weight: [1, {}]\n}", "line 2, column 20", "a value for"),
        ("layer {\n  loss_weight [1, 2]\n}", "line 2, column 16", "':' is wanted"),
    ],
)
def test_a_mistake_in_a_list_is_told_with_its_place(text: str, place: str, said: str) -> None:
    assert taken(text) is None
    with pytest.raises(NetError, match=f"net.prototxt, {place}: .*{re.escape(said)}"):
        parse_text(text, "net.prototxt")


def test_a_wrong_type_in_a_list_is_told_with_its_place() -> None:
    text = 'layer {\n  param: [{lr_mult: 1}, {lr_mult: 2}, {lr_mult: "x"}]\n}'
    with pytest.raises(NetError, match=r"net.prototxt, line 2, column 49"):
        parse.to_net(parse_text(text), "net.prototxt")


def test_adjacent_strings_in_a_list_are_one() -> None:
    text = "top: ['a' \"b\", 'c'] bottom : # 1: one\n 'x' name: 'n' ; type: 't'\n , phase: TEST"
    tree = parse_text(f"layer {{ {text} }}")
    layer = layer_of(tree)
    assert layer.values("top") == ["ab", "c"] and layer.get("bottom") == "x"
    net = taken(tree.render())
    assert net is not None and list(net.layer[0].top) == ["ab", "c"]


# -- any text

GAPS = st.sampled_from(("", " ", "\n", " # c: [1\n", "\t"))
SEPARATORS = st.sampled_from(("", ",", ";", "\n,", " # c\n ;"))
SCALARS = {
    "name": ('"a"', "'b' \"c\""), "top": ('"a"', "'[{'"), "loss_weight": ("1", "0.5f", "-.5e3", "0x1F"),
    "phase": ("TEST", "0"), "unheard_of": ("1", '"x"', "-inf", "WORD"),
}  # fmt: skip
MESSAGES = ("param", "include", "unknown_param", "blobs")


@st.composite
def fields(draw: st.DrawFn, depth: int = 0) -> str:
    """Some fields of a layer, in any of the ways in which protobuf lets write them."""
    out = ""
    for _ in range(draw(st.integers(0, 3))):
        out += draw(GAPS) + "\n"
        many = draw(st.booleans())
        if depth < 3 and draw(st.booleans()):
            name = draw(st.sampled_from(MESSAGES))
            count = draw(st.integers(0, 3)) if many else 1
            bodies = [draw(fields(depth=depth + 1)) for _ in range(count)]
            pairs = [draw(st.sampled_from((("{", "}"), ("<", ">")))) for _ in bodies]
            values = [
                f"{a}{body}{draw(GAPS)}{b}" for body, (a, b) in zip(bodies, pairs, strict=True)
            ]
            colon = draw(st.sampled_from((":", "")))
        else:
            name = draw(st.sampled_from(sorted(SCALARS)))
            value = st.sampled_from(SCALARS[name])
            values, colon = draw(st.lists(value, min_size=not many, max_size=3 if many else 1)), ":"
        between = (draw(GAPS) + "," + draw(GAPS)).join
        text = between(values) if not many else f"[{draw(GAPS)}{between(values)}{draw(GAPS)}]"
        out += f"{name}{draw(GAPS)}{colon}{draw(GAPS)} {text}{draw(SEPARATORS)}"
    return out


LAYERS = fields().map(lambda text: f"layer {{{text}\n}}")


@settings(max_examples=50, deadline=None)
@given(LAYERS)
def test_what_protobuf_takes_is_kept_byte_for_byte(text: str) -> None:
    wanted = taken(text)
    if wanted is None:  # a list for a field that isn't repeated, say
        return
    tree = parse_text(text)
    assert tree.render() == text
    assert parse.raw_net(tree) == wanted


def written_out(tree: Message) -> None:
    for f in tree.fields:
        f.listed = None
        if f.message is not None:
            written_out(f.message)


@settings(max_examples=50, deadline=None)
@given(LAYERS)
def test_lists_that_are_written_out_say_the_same(text: str) -> None:
    wanted = taken(text)
    if wanted is None:
        return
    tree = parse_text(text)
    written_out(tree)
    assert taken(tree.render()) == wanted
    kept = parse_text(tree.render())
    assert kept.render() == tree.render()


@settings(max_examples=100, deadline=None)
@given(
    LAYERS, st.floats(0, 1), st.integers(0, 2),
    st.sampled_from(("", ",", ";", "[", "]", "{", "}", "<", ">", ":", '"', "a", "# x", "\n")),
)  # fmt: skip
def test_what_protobuf_refuses_is_refused_and_nothing_else(
    text: str, where: float, cut: int, put: str
) -> None:
    at = round(where * len(text))
    broken = text[:at] + put + text[at + cut :]
    assert ours(broken) == taken(broken)
