"""Weights by URL and from a mirror, in the workflow as a user runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from recaffe.cli import main
from recaffe.net import blobs, parse
from recaffe.net.prepare import walk_train
from recaffe.proto import caffe_pb2 as pb
from recaffe.weights.source import Source, of_net, of_url
from tests.file_server import Served, running
from tests.workflow.running import ran, refused, snakemake
from tests.workflow.test_workflow import SMALL_NET, write_config


def old_caffemodel() -> bytes:
    """Weights of the small net in the form of 2014."""
    random = np.random.default_rng(0)
    net = pb.NetParameter(name="small")
    shaped = walk_train(parse.to_net(parse.to_tree(SMALL_NET.encode(), "net")), (3, 28, 28), 1)
    for layer in (x for x in shaped if x.params):
        old = net.layers.add(name=layer.layer.name)
        old.type = getattr(
            pb.V1LayerParameter,
            {"Convolution": "CONVOLUTION"}.get(layer.layer.type, "INNER_PRODUCT"),
        )
        for shape, _ in layer.params:
            old.blobs.append(blobs.to_blob(random.normal(size=shape).astype(np.float32)))
    return net.SerializeToString()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def target(source: Source) -> str:
    """Where the workflow puts a source's file."""
    return f"resources/weights/published/{source.slug}.caffemodel"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a mirror of this test's own; the mirror's folder."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("RECAFFE_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("RECAFFE_MIRRORS", str(tmp_path / "mirror"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "mirror"


def test_weights_come_by_url_from_a_mirror_and_by_hand(
    class_folders: Path, tmp_path: Path, places: Path
) -> None:
    old, net = old_caffemodel(), pb.NetParameter(name="n")
    net.layer.add(name="conv", type="Convolution").blobs.add(data=[1, 2])
    new = net.SerializeToString()
    (places / "mirrored.caffemodel").write_bytes(new)
    (tmp_path / "by_hand").write_bytes(new)
    assert main(["weights", "add", "nin", str(tmp_path / "by_hand"), "--unverified"]) == 0
    elsewhere = "https://no.such.host.invalid/mirrored.caffemodel"
    with running(small=Served(old, cuts=[1000])) as server:
        config = write_config(tmp_path, str(class_folders))
        changed = yaml.safe_load(config.read_text(encoding="utf-8"))
        changed["runs"] = {
            "first": {"weights": f"{server.url}/small", "weights_sha256": sha256(old)},
            "second": {"weights": elsewhere, "weights_sha256": sha256(new)},
            "third": {"net": "nin", "weights": "zoo"},
        }
        config.write_text(yaml.safe_dump(changed), encoding="utf-8")
        mirrored = target(of_url(elsewhere, sha256(new)))
        by_hand = target(of_net("nin"))
        said = ran(snakemake(config, "--", "results/own/first/layers.csv", mirrored, by_hand))
    assert server.asked == [("small", ""), ("small", "bytes=1000-")]
    assert "small, upgraded from an older form" in said
    assert "nin_imagenet.caffemodel is unverified; its SHA-256 is" in said
    rows = (tmp_path / "results/own/first/layers.csv").read_text(encoding="utf-8").splitlines()
    assert [r.split(",")[:2] for r in rows[1:]] == [
        ["conv1", "copied"], ["conv2", "copied"], ["ip1", "copied"], ["ip2_own", "new"],
        ["ip2", "ignored"],
    ]  # fmt: skip
    for file, url, verified in ((mirrored, elsewhere, True), (by_hand, "dropbox", False)):
        assert (tmp_path / file).read_bytes() == new
        note = json.loads((tmp_path / file).with_suffix(".json").read_text(encoding="utf-8"))
        assert url in note["url"]
        assert note["verified"] is verified
    assert "Nothing to be done" in ran(snakemake(config, "-n", "--", mirrored, by_hand))


def test_weights_that_cannot_be_fetched_are_one_message(
    class_folders: Path, tmp_path: Path, places: Path
) -> None:
    config = write_config(tmp_path, str(class_folders))
    changed = yaml.safe_load(config.read_text(encoding="utf-8"))
    url = (tmp_path / "nowhere" / "w.caffemodel").as_uri()
    changed["runs"] = {"first": {"weights": url}}
    config.write_text(yaml.safe_dump(changed), encoding="utf-8")
    words = ("could not be fetched", "there is no such file", f"recaffe weights add '{url}' FILE")
    refused(config, *words, options=["--", target(of_url(url))])
