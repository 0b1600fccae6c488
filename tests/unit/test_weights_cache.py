"""`recaffe weights`: what is here, what is handed over by hand, and which forms are taken."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from google.protobuf import text_format

from recaffe import config, provenance
from recaffe.errors import ConfigError, WeightsError
from recaffe.files import write_json
from recaffe.net import blobs, hdf5
from recaffe.net import weights as caffemodel
from recaffe.proto import caffe_pb2 as pb
from recaffe.weights import cache, fetch, form
from recaffe.weights.source import HASHES, Source, of_net, of_run
from tests.unit.commands import recaffe

ARRAYS = [np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), np.ones(2, np.float32)]
NET = caffemodel.to_net("n", [("conv", "Convolution", ARRAYS)])
MODEL = NET.SerializeToString(deterministic=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one net, `small`, whose weights are MODEL; and a file of them."""
    card = yaml.safe_load((config.MODELS / "lenet" / "model.yaml").read_text(encoding="utf-8"))
    card["published"] = {
        "file": "small.caffemodel", "page": "the-page", "urls": ["https://no.such.host.invalid/small"],
        "sha256": hashlib.sha256(MODEL).hexdigest(), "size": len(MODEL), "licence": "MIT",
    }  # fmt: skip
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "models" / "small" / "model.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.setattr(config, "MODELS", tmp_path / "models")
    file = tmp_path / "by hand.caffemodel"
    file.write_bytes(MODEL)
    return file


def run(*words: object) -> int:
    from recaffe.cli import main

    return main(["weights", *map(str, words)])


def test_a_file_that_was_fetched_by_hand_is_handed_over(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("where", "small") == 1
    path = Path(capsys.readouterr().out.strip())
    assert not path.exists()
    assert run("add", "small", zoo) == 0
    assert run("where", "small") == 0
    assert run("fetch", "small") == 0  # without a network
    assert capsys.readouterr().out.split() == [str(path)] * 3
    assert path.read_bytes() == MODEL
    assert run("list") == 0
    row = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("small"))
    for word in ("small.caffemodel", "MIT", "in the cache", hashlib.sha256(MODEL).hexdigest()):
        assert word in row
    assert "unverified" not in row


def test_another_file_is_refused_unless_it_is_wanted(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = caffemodel.to_net("n", [("conv", "Convolution", [a + 1 for a in ARRAYS])])
    zoo.write_bytes(other.SerializeToString())
    assert run("add", "small", zoo) == 1
    said = capsys.readouterr().err
    assert "is not the published small.caffemodel" in said
    assert "--unverified" in said
    assert run("where", "small") == 1
    assert run("add", "small", zoo, "--unverified") == 0
    assert hashlib.sha256(zoo.read_bytes()).hexdigest() in capsys.readouterr().err
    path = cache.path_of(of_net("small"))
    assert json.loads(path.with_name(f"{path.name}.json").read_text())["verified"] is False
    assert run("list") == 0
    assert "in the cache, unverified" in capsys.readouterr().out
    assert run("verify") == 0
    assert "as it came, unverified" in capsys.readouterr().out


def test_a_file_that_is_no_caffemodel_is_never_taken(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo.write_text("<html>sign in</html>")
    assert run("add", "small", zoo, "--unverified") == 1
    assert "HTML page" in capsys.readouterr().err
    assert run("add", "small", zoo.with_name("nothing")) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert cache.kept() == []


def test_verify_finds_a_byte_that_changed(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", "small", zoo) == 0
    assert run("verify") == 0
    path = cache.path_of(of_net("small"))
    path.write_bytes(MODEL[:-1] + bytes([MODEL[-1] ^ 1]))
    for words in (("verify",), ("verify", "small")):
        capsys.readouterr()
        assert run(*words) == 1
        said = capsys.readouterr()
        assert f"{path} has changed" in said.out
        assert "1 read, 1 wrong" in said.err
    assert run("verify", "small") == 1


def test_a_url_of_a_config_is_handed_over_by_its_name_and_digest(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, digest = "https://no.such.host.invalid/a.caffemodel", hashlib.sha256(MODEL).hexdigest()
    assert run("add", url, zoo, "--sha256", digest) == 0
    assert run("where", url, "--sha256", digest) == 0
    assert run("where", url) == 1
    assert run("add", url, zoo) == 0
    assert "in the cache unverified" in capsys.readouterr().err
    assert run("where", url) == 0
    assert run("where", url, "--sha256", "f00") == 1


def test_nets_and_actions_that_do_not_exist_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert recaffe("weights fetch vgg99") == 1
    assert "no net 'vgg99'" in capsys.readouterr().err
    assert recaffe("weights where lenet") == 1
    assert "No weights of 'lenet' were published" in capsys.readouterr().err
    assert recaffe("weights get vgg16") == 2
    assert recaffe("weights add vgg16") == 2


def test_every_net_of_the_zoo_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert recaffe("weights list") == 0
    listed = capsys.readouterr().out
    for card in config.MODELS.glob("*/model.yaml"):
        about = config.model_card(card.parent.name)
        row = next(x for x in listed.splitlines() if x.split()[:1] == [card.parent.name])
        published = about.get("published", {})
        for key in ("file", "licence"):
            assert published.get(key, "") in row
        assert next((published[k] for k in HASHES if k in published), "none") in row
    assert "package ndf" in listed


def v1(name: str) -> pb.NetParameter:
    """NET in the form of 2014."""
    net = pb.NetParameter(name="n")
    layer = net.layers.add(name=name, type=pb.V1LayerParameter.CONVOLUTION)
    layer.blobs.extend(blobs.to_blob(a) for a in ARRAYS)
    return net


def v0(name: str) -> pb.NetParameter:
    """NET in the form of 2013."""
    net = pb.NetParameter(name="n")
    layer = net.layers.add().layer
    layer.name, layer.type = name, "conv"
    layer.blobs.extend(blobs.to_blob(a) for a in ARRAYS)
    return net


FORMS = {
    "of today": (MODEL, "as published"),
    "of 2014": (v1("conv").SerializeToString(), "upgraded from an older form"),
    "of 2013": (v0("conv").SerializeToString(), "upgraded from an older form"),
    "text": (text_format.MessageToString(NET).encode(), "turned from text to binary"),
    "text of 2014": (
        text_format.MessageToString(v1("conv")).encode(),
        "upgraded from an older form",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_caffemodel_becomes_one_that_caffe_reads(name: str, tmp_path: Path) -> None:
    data, says = FORMS[name]
    (tmp_path / "in").write_bytes(data)
    assert form.install(tmp_path / "in", tmp_path / "out.caffemodel") == says
    out = (tmp_path / "out.caffemodel").read_bytes()
    net = pb.NetParameter.FromString(out)
    assert [(x.name, x.type, len(x.blobs)) for x in net.layer] == [("conv", "Convolution", 2)]
    assert not net.layers
    found = caffemodel.read(tmp_path / "out.caffemodel")["conv"]
    assert all(np.array_equal(a.ravel(), b.ravel()) for a, b in zip(found, ARRAYS, strict=True))
    assert (out == data) == (name == "of today")


def test_hdf5_stays_as_it_is(tmp_path: Path) -> None:
    hdf5.write({"conv": ARRAYS}, tmp_path / "in.h5")
    assert form.install(tmp_path / "in.h5", tmp_path / "out.caffemodel") == "HDF5, as published"
    assert (tmp_path / "out.caffemodel").read_bytes() == (tmp_path / "in.h5").read_bytes()
    assert np.array_equal(caffemodel.read(tmp_path / "out.caffemodel")["conv"][0], ARRAYS[0])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "an empty file"),
        (MODEL[:-1], "cut short"),
        (b"PK\x03\x04zip", "a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"some words\n", "a text file"),
        (b'name: "n" layer { name: "a" type: "ReLU" }', "holds no weights"),
        (b'layer { name: "a" type: "ReLU" ', "line 1"),
        (b"\x89HDF\r\n\x1a\nnothing", "HDF5"),
        (NET.SerializeToString() + v1("conv").SerializeToString(), "both"),
    ],
)
def test_what_is_no_caffemodel_is_named(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(WeightsError, match=says):
        form.install(tmp_path / "x", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def run_of(**row: str) -> Source | None:
    full = config.complete({"dataset": "d", "images": "x", "runs": {"a": row}})
    return of_run(full["runs"]["a"])


def test_the_config_says_what_is_to_be_fetched(tmp_path: Path) -> None:
    assert run_of() is None, "SqueezeNet 1.1 comes from a package"
    assert run_of(net="vgg16") == of_net("vgg16")
    assert run_of(net="vgg16", weights="none") is None
    assert run_of(net="vgg16", weights=str(tmp_path / "own.caffemodel")) is None
    url = "https://host/own.caffemodel"
    known = run_of(weights=url, weights_sha256="0" * 64)
    assert known is not None
    assert (known.urls, known.sha256) == ((url,), "0" * 64)
    assert known.slug != run_of(weights=url).slug  # type: ignore[union-attr]


def test_a_digest_belongs_to_its_url() -> None:
    train = {"weights": "https://host/a.caffemodel", "weights_sha256": "0" * 64}
    rows = {"a": {}, "b": {"weights": "none"}, "c": {"weights": "https://host/c.caffemodel"}}
    full = config.complete({"dataset": "d", "images": "x", "train": train, "runs": rows})
    assert [full["runs"][r]["weights_sha256"] for r in "abc"] == ["0" * 64, "", ""]
    with pytest.raises(ConfigError, match="is the digest of a URL's file, but weights is 'zoo'"):
        run_of(weights_sha256="0" * 64)
    with pytest.raises(ConfigError, match="weights_sha256"):
        run_of(weights="https://host/a", weights_sha256="F" * 64)


def test_provenance_names_url_digest_and_licence_but_not_where_this_copy_came_from(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache.add(of_net("small"), zoo, "somewhere")
    file, note = fetch.get(of_net("small"))
    out = tmp_path / "small.caffemodel"
    done = form.install(file, out)
    write_json(out.with_suffix(".json"), fetch.record(of_net("small"), note, done))
    row = {"net": "small", "weights": "zoo", "weights_sha256": ""}
    (tmp_path / "models" / "small" / "train_val.prototxt").write_text("")
    images = {"package": "", "path": "x"}
    given = list(provenance._inputs(row, {"images": images}, [str(out)]))
    assert given[1] == {
        "url": "https://no.such.host.invalid/small", "page": "the-page", "licence": "MIT",
        "sha256": hashlib.sha256(MODEL).hexdigest(), "verified": True, "form": "as published",
    }  # fmt: skip
    assert given[2] == {"file": str(out), "sha256": hashlib.sha256(MODEL).hexdigest()}
    assert "somewhere" not in str(given)
