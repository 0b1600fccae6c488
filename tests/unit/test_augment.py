"""Augmentation: what it does to a picture, that it follows from seed and place alone, and that off is off."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from google.protobuf import text_format

from recaffe import augment, config, sweeps
from recaffe.augment import Augment
from recaffe.cli import main
from recaffe.engines import jobfile, jobs
from recaffe.engines.base import TrainJob
from recaffe.engines.torch import losses
from recaffe.engines.torch.data import Feed, mixup
from recaffe.engines.torch.net import Net
from recaffe.engines.torch.replica import Replica
from recaffe.engines.torch.train import train
from recaffe.errors import ConfigError, DataError, NetError
from recaffe.evaluate import groups
from recaffe.images import changed
from recaffe.lmdb.read import open_records
from recaffe.net.parse import read_net
from recaffe.proto import caffe_pb2 as pb
from tests.training import IGNORE, write_records, write_training
from tests.unit.trained import final, same

ALL = Augment(
    rotate=20, scale=(0.8, 1.25), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, mixup=0.4
)
RNG = np.random.default_rng(0)
PICTURE = cv2.GaussianBlur(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8), (0, 0), 3)


def records(tmp_path: Path, **changes: str) -> pb.NetParameter:
    """A data layer in TRAIN on 46 records, batches of 8."""
    if not (tmp_path / "train").exists():
        tmp_path.mkdir(exist_ok=True)
        write_records(tmp_path / "train", 46, 0)
    text = (
        'layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "%s" batch_size: 8 '
        "backend: LMDB } transform_param { crop_size: 10 mirror: true mean_value: 100 scale: 0.01 } }"
        % (tmp_path / "train")
    )
    for old, new in changes.items():
        text = text.replace(old, new)
    return text_format.Parse(text, pb.NetParameter())


def blobs(feed: Feed, count: int, first: int = 0) -> list[dict[str, torch.Tensor]]:
    batches = feed.batches(first)
    return [b.blobs for b in itertools.islice(batches, count)]


def equal(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> bool:
    return all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        for x, y in zip(a, b, strict=True)
    )


def test_without_strength_a_picture_stays() -> None:
    assert (changed.moved(PICTURE, 0, 1) == PICTURE).all()
    assert (changed.recoloured(PICTURE, 1, 1, 1) == PICTURE).all()
    assert (
        np.abs(changed.turned_hue(PICTURE, 1.0).astype(int) - PICTURE).max() <= 4
    )  # as HSV rounds
    record = PICTURE.transpose(2, 0, 1)
    assert (changed.change(record, Augment(mixup=1), np.random.default_rng(1)) == record).all()


def test_a_quarter_turn_is_one_and_any_turn_is_opencvs() -> None:
    turned = changed.moved(PICTURE, 90, 1)
    assert np.abs(turned.astype(int) - np.rot90(PICTURE)).max() <= 1
    matrix = cv2.getRotationMatrix2D((19.5, 19.5), 33, 1.5)
    wanted = cv2.warpAffine(PICTURE, matrix, (40, 40), borderMode=cv2.BORDER_REFLECT_101)
    assert (changed.moved(PICTURE, 33, 1.5) == wanted).all()


def test_colours_change_as_their_words_say() -> None:
    values = PICTURE.astype(float)
    luma = values @ [0.114, 0.587, 0.299]
    bright = changed.recoloured(PICTURE, 1.2, 1, 1)
    assert np.allclose(bright, np.clip(np.rint(1.2 * values), 0, 255), atol=1)
    gray = changed.recoloured(PICTURE, 1, 1, 0)
    assert np.allclose(gray, np.rint(luma)[:, :, None], atol=1)
    flat = changed.recoloured(PICTURE, 1, 0, 1)
    assert np.allclose(flat, np.rint(luma.mean()), atol=1)
    one = changed.recoloured(PICTURE[:, :, 0], 1, 0.5, 1)
    assert np.allclose(one, np.rint(values[:, :, 0] / 2 + values[:, :, 0].mean() / 2), atol=1)
    blue = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    green = changed.turned_hue(blue, -1 / 3)
    assert green[0, 0].argmax() == 1
    assert green[0, 0, 1] == 255


def test_off_gives_the_bits_of_before(tmp_path: Path) -> None:
    net = records(tmp_path)
    assert equal(
        blobs(Feed(net, pb.TRAIN, 3), 7), blobs(Feed(net, pb.TRAIN, 3, augment=Augment()), 7)
    )
    tested = [Feed(net, pb.TEST, 3, augment=a) for a in (None, ALL)]
    assert equal(blobs(tested[0], 3), blobs(tested[1], 3)), "only training pictures are changed"


def test_each_setting_changes_pictures_and_leaves_labels(tmp_path: Path) -> None:
    net = records(tmp_path)
    plain = blobs(Feed(net, pb.TRAIN, 3), 2)
    for name, value in ALL.settings.items():
        other = blobs(Feed(net, pb.TRAIN, 3, augment=Augment.of({name: value})), 2)
        for a, b in zip(plain, other, strict=True):
            assert not torch.equal(a["data"], b["data"]), name
            assert torch.equal(a["label"], b["label"]), name


@pytest.mark.parametrize("kind", ["Data", "ImageData"])
def test_a_picture_follows_from_seed_and_place_alone(tmp_path: Path, kind: str) -> None:
    net = records(tmp_path)
    if kind == "ImageData":
        lines = []
        for i in range(11):
            shift = np.roll(PICTURE, i, 0)
            cv2.imwrite(str(tmp_path / f"{i}.png"), shift)
            lines.append(f"{tmp_path}/{i}.png {i % 3}\n")
        (tmp_path / "list").write_text("".join(lines))
        layer = net.layer[0]
        layer.type = "ImageData"
        layer.image_data_param.source = str(tmp_path / "list")
        layer.image_data_param.batch_size = 8
        layer.image_data_param.shuffle = True
    whole = blobs(Feed(net, pb.TRAIN, 3, augment=ALL), 6)
    assert equal(whole, blobs(Feed(net, pb.TRAIN, 3, augment=ALL), 6))
    assert not equal(whole, blobs(Feed(net, pb.TRAIN, 4, augment=ALL), 6))
    assert equal(whole[2:], blobs(Feed(net, pb.TRAIN, 3, augment=ALL), 4, first=2))
    for world in (2, 4):
        shares = [
            blobs(Feed(net, pb.TRAIN, 3, augment=ALL, rank=r, world=world), 6) for r in range(world)
        ]
        for i, batch in enumerate(whole):
            for name in ("data", "label", mixup.partners_of("label")):
                assert torch.equal(torch.cat([s[i][name] for s in shares]), batch[name]), name
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert equal(whole, blobs(Feed(net, pb.TRAIN, 3, augment=ALL), 6))
    finally:
        torch.set_num_threads(threads)


def test_mixed_pictures_are_the_weighted_sum_of_two_of_the_batch(tmp_path: Path) -> None:
    net = records(tmp_path)
    plain = blobs(Feed(net, pb.TRAIN, 3), 3)
    mixed = blobs(Feed(net, pb.TRAIN, 3, augment=Augment(mixup=0.5)), 3)
    for index, (a, b) in enumerate(zip(plain, mixed, strict=True)):
        mix = mixup.draw(0.5, 3, index, 8, range(8))
        other = a["data"][torch.from_numpy(mix.others)]
        assert sorted(mix.others) == list(range(8))
        assert torch.allclose(b["data"], mix.share * a["data"] + (1 - mix.share) * other, atol=1e-6)
        assert torch.equal(b[mixup.partners_of("label")], a["label"][torch.from_numpy(mix.others)])
        assert float(b[mixup.SHARE]) == pytest.approx(mix.share)


def test_the_loss_of_mixed_pictures_is_the_weighted_sum_of_both_labels(tmp_path: Path) -> None:
    write_training(tmp_path)
    param = read_net(tmp_path / "net.prototxt")
    feed = Feed(param, pb.TRAIN, 3, augment=Augment(mixup=1.0))
    net = Net(param, pb.TRAIN, feed.shapes, seed=1)
    replica = Replica(net, losses.terms(net.walked, net.name), "fp32")
    batch = blobs(feed, 1)[0]
    share = float(batch[mixup.SHARE])

    def plain(label: torch.Tensor) -> tuple[float, list[torch.Tensor], dict[str, torch.Tensor]]:
        torch.manual_seed(0)  # for dropout
        net.zero_grad()
        loss, outputs = replica({"data": batch["data"], "label": label}, [1.0, 1.0])
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in net.parameters()], outputs  # type: ignore[union-attr]

    own, own_grads, own_outputs = plain(batch["label"])
    other, other_grads, other_outputs = plain(batch[mixup.partners_of("label")])
    assert own != other
    torch.manual_seed(0)
    net.zero_grad()
    loss, outputs = replica(batch, [1.0, 1.0])
    loss.backward()
    assert float(loss.detach()) == pytest.approx(share * own + (1 - share) * other, rel=1e-5)
    for p, a, b in zip(net.parameters(), own_grads, other_grads, strict=True):
        assert torch.allclose(p.grad, share * a + (1 - share) * b, atol=1e-6)  # type: ignore[arg-type]
    for name in ("aux_loss", "loss"):
        wanted = share * own_outputs[name] + (1 - share) * other_outputs[name]
        assert torch.allclose(outputs[name], wanted, rtol=1e-5)


def test_a_training_goes_on_from_a_snapshot_as_if_never_stopped(tmp_path: Path) -> None:
    write_training(tmp_path, iter_size=2)
    whole = final(tmp_path, augment=ALL)
    plain = tmp_path / "plain"
    write_training(plain, iter_size=2)
    assert not same(whole, final(plain))
    before = whole.read_bytes()
    whole.unlink()
    resumed = final(tmp_path, augment=ALL, resume=tmp_path / "snap_iter_8.solverstate")
    assert resumed.read_bytes() == before
    parts = tmp_path / "parts"
    write_training(parts, iter_size=2)
    assert same(resumed, final(parts, augment=ALL, micro_batch=4), 1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Data": "DummyData"}, "'data' .DummyData. reads something else"),
        ({'top: "label"': ""}, r"'data' \(1 tops\)"),
    ],
)
def test_data_that_is_no_picture_is_refused(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        Feed(records(tmp_path, **changes), pb.TRAIN, 0, augment=ALL)


def test_losses_that_mixup_cant_weigh_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="leaves out those with ignore_label 2"):
        train(TrainJob(write_training(tmp_path, loss=IGNORE), device="cpu", augment=ALL))
    train(TrainJob(tmp_path / "solver.prototxt", device="cpu", augment=replace(ALL, mixup=0)))
    solver = write_training(tmp_path / "other")
    net = solver.with_name("net.prototxt")
    net.write_text(
        net.read_text() + 'layer { name: "twice" type: "Power" bottom: "label" top: "twice" }'
    )
    with pytest.raises(NetError, match="'twice' .Power. makes something else of 'label'"):
        train(TrainJob(solver, device="cpu", augment=Augment(mixup=1)))


def test_mixup_alone_takes_records_of_floats(tmp_path: Path) -> None:
    net = records(tmp_path / "bytes", **{"mean_value: 100": ""})
    (tmp_path / "train").mkdir()
    with (
        open_records(tmp_path / "bytes" / "train") as found,
        lmdb.open(str(tmp_path / "train"), map_size=2**24) as env,
        env.begin(write=True) as txn,
    ):
        for key, value in found:
            old = pb.Datum.FromString(bytes(value))
            new = pb.Datum(channels=3, height=12, width=12, label=old.label, float_data=old.data)
            txn.put(key, new.SerializeToString())
    floats = records(tmp_path, **{"mean_value: 100": ""})
    mix = Augment(mixup=0.5)
    a, b = (blobs(Feed(x, pb.TRAIN, 3, augment=mix), 2) for x in (net, floats))
    assert equal(a, b)


def test_what_has_no_colours_or_no_bytes_is_refused(tmp_path: Path) -> None:
    gray = np.zeros((1, 12, 12), np.uint8)
    shown = changed.change(gray + 7, Augment(rotate=5, contrast=0.5), np.random.default_rng(0))
    assert shown.shape == gray.shape
    with pytest.raises(DataError, match="records of floats"):
        changed.change(gray.astype(np.float32), ALL, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="records have 4 channels: only mixup"):
        augment.check_channels(Augment(rotate=3), 4)
    augment.check_channels(Augment(mixup=3), 4)
    with pytest.raises(ConfigError, match=r"scale is \[2, 1\]"):
        Augment.of({"scale": [2, 1]})


def test_a_job_file_carries_it() -> None:
    job = TrainJob(Path("s"), augment=ALL)
    assert jobfile.from_json(jobfile.to_json(job)) == job
    assert jobfile.from_json('{"solver": "s"}').augment == Augment()
    assert str(ALL).startswith("rotate ±20°, scale 0.8 to 1.25, brightness ±0.2")
    assert str(Augment()) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn=3", "'turn' is no augmentation; there are rotate, scale"),
        ("rotate", "'rotate' is no setting of rotate; write it like rotate=0.2"),
        ("scale=2", "write it like scale=0.8:1.25"),
        ("hue=0.7", "hue goes from 0 to 0.5"),
        ("rotate=nan", "rotate goes from 0 to 180"),
        ("scale=2:1", "must not be more than the second"),
    ],
)
def test_a_flag_that_says_something_else_is_refused(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--solver", "none", "--augment", text]) == 2
    assert message in capsys.readouterr().err


def test_the_flag_and_the_config_have_the_same_bounds() -> None:
    found = config.schema()["properties"]["train"]["properties"]["augment"]["properties"]
    bounds = {
        name: (part["minimum"], part["maximum"])
        for name, sub in found.items()
        for part in [sub.get("items", sub)]
    }
    assert bounds == augment._BOUNDS
    assert Augment.parse("rotate=20,scale=0.8:1.25,hue=0.1") == Augment(20, (0.8, 1.25), hue=0.1)
    assert Augment.parse("") == Augment.of(config.train_defaults()["augment"]) == Augment()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"engine": "caffe", "augment": {"rotate": 5}}}, r"runs\.a\.augment is rotate ±5°, but engine is caffe"),
        ({"lmdb": {"gray": True}, "train": {"mean": "file", "augment": {"hue": 0.1}}}, r"runs\.a\.augment\.hue is 0\.1, but records have 1 channel:"),
        ({"train": {"augment": {"rotate": 200}}}, "augment.rotate is 200; allowed is at most 180"),
        ({"train": {"augment": {"turn": 2}}}, "unknown key 'turn' at train.augment"),
        ({"train": {"augment": {"scale": [3, 1]}}}, r"runs\.a\.augment\.scale is \[3, 1\]"),
        ({"train": {"net": "lenet", "test_crops": 10}, "lmdb": {"width": 28, "height": 28}}, r"runs\.a: test_crops is 10, but .* would show the same"),
        ({"train": {"test_crops": 5}}, "test_crops is 5; allowed is one of 1, 10"),
    ],
)  # fmt: skip
def test_a_config_that_cant_be_followed_is_refused(settings: dict, message: str) -> None:
    given = {"dataset": "x", "images": "y", "runs": {"a": {"weights": "none"}}, **settings}
    with pytest.raises(ConfigError, match=message):
        config.complete(given)


def test_a_sweep_names_its_augmentations() -> None:
    row = {"weights": "none", "sweep": {"augment": [{}, {"rotate": 10, "scale": [0.8, 1.2]}]}}
    full = config.complete({"dataset": "x", "images": "y", "runs": {"a": row}})
    assert list(full["runs"]) == ["a_augment-none", "a_augment-rotate10-scale0.8-1.2"]
    assert not Augment.of(full["runs"]["a_augment-none"]["augment"])
    words = [groups.text(run["augment"]) for run in full["runs"].values()]
    assert words == ["none", "rotate ±10°, scale 0.8 to 1.2"]


def test_runs_with_equal_augmentations_belong_together() -> None:
    rows = {"a": {"rotate": 5, "hue": 0.1}, "b": {"hue": 0.1, "rotate": 5}}
    runs: dict[str, dict] = {
        name: {"weights": "none", "augment": row} for name, row in rows.items()
    }
    runs["b"]["seed"] = 2
    full = config.complete({"dataset": "x", "images": "y", "runs": runs})
    assert [len(members) for members in sweeps.groups(full).values()] == [2]


def test_it_belongs_to_what_a_training_is(tmp_path: Path) -> None:
    solver = write_training(tmp_path)
    run = {**config.train_defaults(), "engine": "torch"}
    keys = [
        jobs.job_key({"stage": 1, "run": row}, tmp_path / "net.prototxt", solver, [], [], ())
        for row in (
            {k: v for k, v in run.items() if k != "augment"},  # of before it was known
            run,
            {**run, "augment": {"rotate": 5}},
            {**run, "augment": {"rotate": 6}},
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
