"""`recaffe import`: a net of torchvision's or timm's gives the same scores as a Caffe net."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from recaffe import cli, config
from recaffe.imports.known import IMAGENET, KNOWN, Pixels
from recaffe.net import graph, parse, weights
from recaffe.net.prepare import walk_train
from tests import imported, torch_nets

NAME = "torchvision:squeezenet1_1"


def mean_of(made: imported.Imported) -> list[float]:
    return made.train["mean"]  # type: ignore[return-value]


# Wide enough that a picture finds its way through the narrowest layer.
THIN = {NAME: 4, "torchvision:squeezenet1_0": 4}


def agree(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5) -> bool:
    """Whether two pictures' scores are the same; raises where the pictures don't matter to them."""
    largest = np.abs(theirs).max()
    assert np.abs(theirs[0] - theirs[1]).max() > 1000 * tolerance * largest, "this compares little"
    return bool(np.abs(ours - theirs).max() <= tolerance * largest)


@pytest.mark.parametrize("name", torch_nets.NETS)
def test_a_net_gives_pytorchs_scores(name: str) -> None:
    thin = THIN.get(name, 8)
    net, pictures = torch_nets.net(name, thin=thin), imported.photographs()
    made = imported.build(name, net, thin)
    ours = imported.engine_scores(made, imported.caffe_input(pictures, mean_of(made)))
    tolerance = 1e-4 if name == "torchvision:resnet101" else 1e-5  # 101 layers of sums
    assert agree(ours, imported.pytorch_scores(net, pictures, KNOWN[name].pixels), tolerance)


def test_nets_that_are_not_compared_have_the_tables_of_those_that_are() -> None:
    others = set(KNOWN) - set(torch_nets.NETS)
    assert others == {"timm:resnet50", "timm:resnet101", "timm:densenet121", "timm:vgg19"}
    for name in others - {"timm:vgg19"}:
        assert KNOWN[name] == KNOWN[name.replace("timm", "torchvision")]
    theirs = KNOWN["torchvision:vgg19"].rules
    assert KNOWN["timm:vgg19"].rules == theirs[:-3] + KNOWN["timm:vgg16"].rules[-3:]


@pytest.mark.parametrize("name", KNOWN)
def test_a_nets_text_has_its_pictures_its_head_and_few_classes(name: str) -> None:
    tree = imported.write._tree(KNOWN[name], 4)
    net = parse.to_net(tree)
    assert graph.heads(net) == list(KNOWN[name].rules[-1].layers)
    assert sum(x.type == "Data" for x in net.layer) == 2
    assert [x.accuracy_param.top_k for x in net.layer if x.type == "Accuracy"].count(1) == 1
    assert all(x.accuracy_param.top_k < 5 for x in net.layer if x.type == "Accuracy")
    assert not parse.unknown_fields(tree)


@pytest.mark.parametrize("scale", [1, 0.017, 1 / 255])
def test_any_scale_gives_the_same_scores(scale: float) -> None:
    net, pictures = torch_nets.net(NAME, thin=4), imported.photographs()
    made = imported.build(NAME, net, 4, scale)
    data = imported.caffe_input(pictures, mean_of(made), scale)
    assert agree(
        imported.engine_scores(made, data), imported.pytorch_scores(net, pictures, IMAGENET)
    )
    said = {x.transform_param.scale for x in parse.to_net(parse.to_tree(made.train_val.encode(), "")).layer
            if x.type == "Data"}  # fmt: skip
    assert said == {np.float32(scale)}


def test_opencv_reads_a_net_without_its_round_mode(tmp_path: Path) -> None:
    name = "torchvision:googlenet"
    net, pictures = torch_nets.net(name, thin=8), imported.photographs()
    made = imported.build(name, net, 8)
    text, scores, _ = imported.deployed(made)
    (tmp_path / "deploy.prototxt").write_text(text)
    weights.write(made.weights, tmp_path / "x.caffemodel")
    other = cv2.dnn.readNetFromCaffe(
        str(tmp_path / "deploy.prototxt"), str(tmp_path / "x.caffemodel")
    )
    other.setInput(imported.caffe_input(pictures, mean_of(made)))
    theirs = imported.pytorch_scores(net, pictures, KNOWN[name].pixels)
    assert agree(other.forward(scores).reshape(2, -1), theirs)


def save(net: torch.nn.Module, path: Path, form: str = "") -> Path:
    state = net.state_dict()
    if form == "parallel":
        state = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    if form == "half":
        state = {k: v.half() for k, v in state.items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form != "legacy")
    return path


@pytest.mark.parametrize(
    ("file", "form"),
    [("x.safetensors", ""), ("x.pth", ""), ("x.pth", "legacy"), ("x.pt", "parallel"),
     ("x.safetensors", "half")],
)  # fmt: skip
def test_the_command_writes_a_net_its_weights_and_the_configs_keys(
    file: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = torch_nets.net(NAME, classes=3)
    if form == "half":
        net = net.half().float()
    source, out = save(net, tmp_path / file, form), tmp_path / "new" / "squeezenet"
    assert cli.main(["import", NAME, "--weights", str(source), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said == (out / "train.yaml").read_text()
    train = yaml.safe_load(said)["train"]
    assert train["mean"] == [103.53, 116.28, 123.675]
    run = config.complete({"dataset": "d", "images": "x", "train": train, "runs": {"a": {}}})[
        "runs"
    ]["a"]
    assert run["crop_size"] == 224
    assert run["net"] == str(out / "train_val.prototxt")
    written = parse.read_net(run["net"])
    loaded = weights.of_net(walk_train(written, (3, 224, 224), 1), run["weights"])
    assert loaded["conv10"][0].shape == (3, 512, 1, 1)
    wanted = imported.blobs(imported.build(NAME, net))
    assert wanted.keys() == loaded.keys()
    for layer, blobs in wanted.items():
        assert all((a == b).all() for a, b in zip(blobs, loaded[layer], strict=True)), layer


def test_other_numbers_of_normalisation_can_be_given(tmp_path: Path) -> None:
    net, pictures = torch_nets.net(NAME), imported.photographs()
    source, out = save(net, tmp_path / "x.pth"), tmp_path / "out"
    flags = ["--mean", "0.5,0.4,0.3", "--std", "0.25,0.2,0.5", "--scale", "1"]
    assert cli.main(["import", NAME, "--weights", str(source), "-o", str(out), *flags]) == 0
    mean = yaml.safe_load((out / "train.yaml").read_text())["train"]["mean"]
    assert mean == [76.5, 102, 127.5]
    made = imported.build(NAME, net)
    made.weights.ParseFromString((out / "squeezenet1_1.caffemodel").read_bytes())
    ours = imported.engine_scores(made, imported.caffe_input(pictures, mean, 1))
    normalised = Pixels((0.5, 0.4, 0.3), (0.25, 0.2, 0.5))
    assert agree(ours, imported.pytorch_scores(net, pictures, normalised))


def refused(source: Path, capsys: pytest.CaptureFixture[str], name: str = NAME) -> str:
    """The one message; nothing is written."""
    out = source.parent / "out"
    assert cli.main(["import", name, "--weights", str(source), "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert not out.exists()
    assert said.out == ""
    assert said.err.startswith("recaffe: ")
    assert said.err.count("\n") == 1
    return said.err


def test_another_nets_weights_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(torch_nets.net("torchvision:squeezenet1_0"), tmp_path / "x.safetensors")
    said = refused(source, capsys)
    assert "shapes differ: features.0.weight is 96×3×7×7, the net's 64×3×3×3" in said
    assert said.endswith("It is torchvision:squeezenet1_0.\n")
    said = refused(source, capsys, "torchvision:vgg16")
    assert re.search(
        "it lacks features.2.weight, .* more; it has more than the net: classifier.1", said
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("features.3.squeeze.bias"), "it lacks features.3.squeeze.bias."),
        (lambda s: s.update(extra=torch.ones(2)), "it has more than the net: extra."),
        (lambda s: s["classifier.1.bias"].fill_(float("nan")), "classifier.1.bias holds values"),
        (lambda s: s.update({"features.0.bias": torch.ones(64).int()}), "holds torch.int32"),
        (lambda s: s.update({"features.0.bias": torch.ones(63)}), "is 63, the net's 64"),
        (lambda s: s.update({"classifier.1.weight": torch.tensor(1.0)}), "weight is a number"),
        (lambda s: s.update(optimizer={}), "optimizer is a dict, no tensor"),
        (lambda s: s.clear(), "holds no state dict, but nothing"),
    ],
)
def test_a_state_dict_that_is_not_whole_is_refused(
    change, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch_nets.net(NAME).state_dict()
    change(state)
    torch.save(state, tmp_path / "x.pth")
    assert said in refused(tmp_path / "x.pth", capsys)


class Trap:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("sprung"),))


def test_nothing_but_tensors_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for legacy in (False, True):
        torch.save({"a": Trap()}, "x.pth", _use_new_zipfile_serialization=not legacy)
        said = refused(tmp_path / "x.pth", capsys)
        assert re.search("holds a pickled getattr beside .* a pickle can run code", said)
    torch.save(torch_nets.net(NAME, thin=8), "x.pth")
    assert "pickled tests.torch_nets.SqueezeNet" in refused(tmp_path / "x.pth", capsys)
    assert not Path("sprung").exists()


def test_older_forms_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "x.pth", "w") as tar:
        tar.addfile(tarfile.TarInfo("pickle"))
    assert "is in PyTorch's tar format of before 2017" in refused(tmp_path / "x.pth", capsys)
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/constants.pkl", b"")
        archive.writestr("x/version", b"3")
    assert "is a TorchScript program, which isn't run" in refused(tmp_path / "x.pth", capsys)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "can't be read as a state dict"),
        (b"no weights at all", "can't be read as a state dict"),
        (b"PK\x03\x04" + bytes(40), "can't be read as a state dict"),
        (b"\x20\0\0\0\0\0\0\0{" + b"x" * 40, "broken safetensors file"),
    ],
)
def test_a_file_that_is_none_is_told(
    data: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    assert said in refused(tmp_path / "x.pth", capsys)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:mobilenet_v2", "the zoo's MobileNet is v1"),
        ("torchvision:vgg16_bn", "the zoo has VGG-16 and VGG-19 without BatchNorm alone"),
        ("timm:resnet152", "the zoo has ResNet-50 and ResNet-101 alone: resnet50, resnet101"),
        ("torchvison:resnet50", "Did you mean torchvision:resnet50?"),
        ("keras:nasnet", "There are torchvision:alexnet, torchvision:vgg16"),
    ],
)
def test_a_net_without_counterpart_is_refused(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(tmp_path / "x.pth", capsys, name)


def test_a_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(torch_nets.net(NAME), tmp_path / "x.pth")
    assert cli.main(["import", NAME, "--weights", str(source), "-o", str(tmp_path)]) == 1
    assert f"{tmp_path} is there already" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_old_names_of_densenets_modules_are_known() -> None:
    name = "torchvision:densenet121"
    net = torch_nets.net(name, thin=8)
    new = imported.values(net)
    old = {re.sub(r"(denselayer\d+\.\w+)(\d\.)", r"\1.\2", k): v for k, v in new.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    known = imported.thinner(KNOWN[name], 8)
    made = imported.write.build(known, name, old, IMAGENET, 1)
    assert made.weights == imported.build(name, net, 8, 1).weights
