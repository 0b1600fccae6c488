"""A config from a look at the pictures: what is seen, what is chosen, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from recaffe import config
from recaffe.cli import main
from recaffe.images import inventory
from recaffe.init import choose, forms, machine, survey, write
from recaffe.init.machine import Machine
from tests.conftest import save, texture
from tests.workflow.running import ran, snakemake

CPU = Machine(cores=2)
GPU = Machine(cores=16, gpu="H100", gigabytes=85.9, torch_on_gpu=True)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own on a machine without Caffe and GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "look", lambda results: CPU)
    return tmp_path


def pictures(root: Path, **classes: int) -> Path:
    """So many small pictures of each class, no two alike."""
    for hue, (name, count) in enumerate(classes.items()):
        for i in range(count):
            save(texture(1000 * hue + i, hue), root / name / f"{i:03d}.png")
    return root


def written(folder: str | Path, *flags: str) -> dict[str, Any]:
    """The config that `recaffe init` writes for a folder."""
    assert main(["init", str(folder), "-o", "my.yaml", *flags]) == 0
    config.load("my.yaml")
    return yaml.safe_load(Path("my.yaml").read_text(encoding="utf-8"))


def refused(folder: str | Path, capsys: Capture, *words: str) -> None:
    """One message with these words, and no file."""
    assert main(["init", str(folder), "-o", "my.yaml"]) == 1
    said = capsys.readouterr().err
    for word in words:
        assert word in said, said
    assert not Path("my.yaml").exists()


def test_the_config_of_a_folder_is_one_that_the_workflow_plans_with(
    class_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.undo()  # this machine as it is
    out = class_folders.parent / "config" / "own.yaml"
    monkeypatch.chdir(class_folders.parent)
    assert main(["init", class_folders.name, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    for words in ("120 files in 3 classes", "grün Wald", "All were decoded", "snakemake --cores"):
        assert words in said
    text = out.read_text(encoding="utf-8")
    made = yaml.safe_load(text)
    assert made["images"] == class_folders.name
    for section in ("split", "lmdb", "train"):
        rows = text.split(f"\n{section}:\n")[1].split("\n\n")[0].splitlines()
        assert all("#" in row for row in rows if "height" not in row), rows
    shutil.copy(out, "own.yaml")
    planned = ran(snakemake(class_folders.parent / "own.yaml", "-n"))
    assert "Training finetune" in planned


def test_a_file_that_is_there_is_kept_unless_force_is_given(here: Path, capsys: Capture) -> None:
    pictures(here / "pets", cat=20, dog=20)
    Path("my.yaml").write_text("mine")
    assert main(["init", "pets", "-o", "my.yaml"]) == 1
    said = capsys.readouterr()
    assert "my.yaml is there already" in said.err and "--force" in said.err
    assert Path("my.yaml").read_text() == "mine" and not said.out
    assert main(["init", "pets", "-o", "my.yaml", "--force"]) == 0
    assert "dataset: my\n" in Path("my.yaml").read_text()


def test_a_dry_run_shows_the_config_and_writes_nothing(here: Path, capsys: Capture) -> None:
    pictures(here / "pets", cat=20, dog=20)
    before = sorted(here.rglob("*"))
    assert main(["init", "pets", "--dry-run"]) == 0
    assert "dataset: pets" in capsys.readouterr().out
    assert sorted(here.rglob("*")) == before


def test_too_little_to_train_on_is_said_plainly(here: Path, capsys: Capture) -> None:
    refused("nowhere", capsys, "There is no", "nowhere")
    (here / "empty").mkdir()
    refused("empty", capsys, "no pictures in")
    refused(pictures(here / "one", cat=40), capsys, "only one class ('cat')")
    refused(pictures(here / "few", cat=9, dog=9), capsys, "only 18 pictures", "at least 30")
    for i in range(40):
        (here / "text" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (here / "text" / "ab"[i % 2] / f"{i}.jpg").write_text("no picture")
    refused("text", capsys, "None of the 40 files", "not a picture")


def test_ctrl_c_while_pictures_are_looked_at_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pictures(here / "pets", cat=20, dog=20)
    before = sorted(here.rglob("*"))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "decode", interrupted)
    assert main(["init", "pets", "-o", "config/my.yaml"]) == 130
    assert "stopped" in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_classes_below_a_single_folder_are_pointed_at(here: Path, capsys: Capture) -> None:
    pictures(here / "set" / "all", cat=20, dog=20)
    refused("set", capsys, "holds cat, dog", "recaffe init set/all")


def test_what_is_odd_is_named(here: Path, capsys: Capture) -> None:
    root = pictures(here / "pets", cat=130, Dog=15, dog=15)
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / "cat" / "cut.png").write_bytes((root / "cat" / "000.png").read_bytes()[:300])
    shutil.copy(root / "cat" / "000.png", root / "cat" / "again.png")
    shutil.copy(root / "cat" / "001.png", root / "dog" / "stray.png")
    (root / "beside.png").write_bytes(b"")
    (root / "cat" / "005.png").rename(root / "cat" / "x.png")
    (root / "cat" / "006.png").rename(root / "cat" / "X.png")
    grey = np.repeat(texture(7)[:, :, :1], 3, axis=2)
    save(grey, root / "cat" / "grey.png")
    for name in ("indoors", "outdoors"):
        save(texture(99, 1), root / "bird" / name / "a.png")
    made = written("pets")
    said = capsys.readouterr().out
    for words in (
        "Not pictures, by their names: 1 (1 .txt)",
        "Can't be used: 2 of 167 (cat/cut.png: broken or truncated",
        "Equal or nearly equal to another picture: 3 (bird/indoors/a.png = bird/outdoors/a.png)",
        "Under two labels: 1 (such as cat and dog)",
        "'Dog' and 'dog' differ only in capitals",
        "differ only in capitals: 2 (cat/X.png and cat/x.png)",
        "Beside the class folders, in none: 1 (beside.png",
        "'bird' holds its pictures in folders of their own (indoors, outdoors",
        "fewer than 20 pictures: 3 of 4 (bird: 2, Dog: 15, dog: 16)",
        "Grey: 1 of 165",
    ):
        assert words in said, said
    assert made["split"]["oversample"] is True


def test_more_rejects_than_the_run_allows_are_told(here: Path, capsys: Capture) -> None:
    root = pictures(here / "pets", cat=30, dog=30)
    for i in range(6):
        (root / "cat" / f"bad{i}.jpg").write_bytes(b"\xff\xd8")
    written("pets")
    assert "the run stops above scan.max_rejects (5%)" in capsys.readouterr().out


def test_a_sample_is_the_same_each_time_and_has_every_class(here: Path, capsys: Capture) -> None:
    root = pictures(here / "pets", cat=90, dog=30, rare=3)
    items, _ = inventory.list_pictures(forms.complete({"path": str(root)}))
    first = survey.sample(items, 20)
    assert sorted(map(str, first)) == sorted(map(str, survey.sample(items[::-1], 20)))
    labels = [item.label for item in first]
    assert [labels.count(x) for x in ("cat", "dog", "rare")] == [15, 5, 2]
    written("pets", "--sample", "20")
    assert "22 of them were decoded: a sample" in capsys.readouterr().out


def test_folders_of_splits_and_lists_and_tables_are_recognised(here: Path) -> None:
    root = pictures(here / "pets", cat=20, dog=20)
    for split in ("train", "val"):
        pictures(here / "splits" / split, cat=20, dog=20)
    made = written("splits")
    assert made["images"] == "splits"
    lines = [f"cat/{i:03d}.png 0\n" for i in range(20)] + [
        f"dog/{i:03d}.png 1\n" for i in range(20)
    ]
    (here / "lists").mkdir()
    (here / "lists" / "train.txt").write_text("".join(lines[:38]))
    (here / "lists" / "val.txt").write_text("".join(lines[38:]))
    (here / "lists" / "labels.txt").write_text("cat\ndog\n")
    root.rename(here / "lists" / "jpegs")
    assert written("lists", "--force")["images"] == {
        "train": {"list": "lists/train.txt", "root": "lists/jpegs"},
        "val": {"list": "lists/val.txt", "root": "lists/jpegs"},
        "label_names": "lists/labels.txt",
    }
    rows = "".join(f"{line.split()[0]},{line[:3]},train\n" for line in lines)
    Path("lists/table.csv").write_text("Filename,class,set\n" + rows)
    assert written("lists/table.csv", "--force")["images"] == {
        "path": "lists/table.csv",
        "path_column": "Filename",
        "label_column": "class",
        "split_column": "set",
        "root": "lists/jpegs",
    }


def test_a_table_with_unknown_columns_is_refused_with_their_names(
    here: Path, capsys: Capture
) -> None:
    Path("odd.csv").write_text("x,y\n1,2\n")
    refused("odd.csv", capsys, "the columns x, y", "images.path_column")


@pytest.mark.parametrize("name", ["weiß & rot: #1", "- no", "line\nbreak", "'quoted\"", "null"])
def test_any_name_of_a_folder_makes_a_config_that_means_it(here: Path, name: str) -> None:
    pictures(here / name, **{"a: b": 20, "#c": 20})
    made = yaml.safe_load(
        write.text_of("d", {"path": name}, [f"said of {name}"], chosen(here / name, CPU))
    )
    assert made["images"] == name


def chosen(root: Path, where: Machine) -> list[choose.Choice]:
    settings = forms.bare({"path": str(root)})
    return choose.choose(
        survey.take(settings["images"], settings["scan"], 0, 1), where, settings["scan"]
    )


def many(size: tuple[int, int], count: int, grey: bool = False) -> survey.Survey:
    """A survey of so many pictures of two classes, of which forty were decoded."""
    items = [inventory.Item("r", f"{'ab'[i % 2]}/{i}.jpg", "", "ab"[i % 2]) for i in range(count)]
    rows = [
        {"path": i.path, "label": i.label, "split": "", "width": size[0], "height": size[1], "grey": grey}
        for i in items[:40]
    ]  # fmt: skip
    counts = survey.Counter(i.label for i in items)
    return survey.Survey(items, ["a", "b"], counts, 1, rows, [])


def values(seen: survey.Survey, where: Machine) -> Callable[[str], Any]:
    """The value that is chosen for a key."""
    scan = forms.bare({"path": "x"})["scan"]
    found = {c.key: c.value for c in choose.choose(seen, where, scan)}
    return found.get


def test_the_net_follows_from_the_pictures_and_the_machine() -> None:
    photo = (640, 480)
    assert values(many(photo, 800), CPU)("net") == "squeezenet_v1.1"
    assert values(many(photo, 20_000), CPU)("net") == "squeezenet_v1.1"
    assert values(many(photo, 800), GPU)("net") == "googlenet"
    assert values(many(photo, 20_000), GPU)("net") == "resnet50"
    digits = values(many((28, 28), 20_000, grey=True), CPU)
    assert (digits("net"), digits("weights"), digits("gray")) == ("lenet", "none", True)
    assert (digits("width"), digits("height")) == (28, 28)
    assert values(many((32, 32), 20_000), GPU)("net") == "quick"


def test_the_engine_is_real_caffe_unless_only_the_other_has_the_gpu() -> None:
    photos = many((640, 480), 800)
    assert values(photos, CPU)("engine") == "torch"
    assert values(photos, Machine(2, caffe=True))("engine") == "caffe"
    both = Machine(2, "T4", 16.0, caffe=True, torch_on_gpu=True)
    assert values(photos, both)("engine") == "torch"
    assert values(photos, Machine(2, "T4", 16.0, True, True, True))("engine") == "caffe"


def test_more_pictures_want_fewer_epochs_and_a_small_card_a_smaller_batch() -> None:
    photo = (640, 480)
    epochs = [values(many(photo, n), CPU)("epochs") for n in (300, 3000, 60_000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[2]
    small = Machine(2, "GTX 1050", 2.1, torch_on_gpu=True)
    assert values(many(photo, 6000), small)("batch_size") < values(many(photo, 6000), GPU)(
        "batch_size"
    )


def test_proportions_and_room_decide_how_records_are_made() -> None:
    assert values(many((640, 640), 800), CPU)("mode") == "warp"
    assert values(many((640, 400), 800), CPU)("mode") == "crop"
    assert values(many((900, 300), 800), CPU)("mode") == "fill"
    tight = Machine(2, disk=10**9)
    assert values(many((640, 640), 8000), tight)("encoded") == "jpg"
    assert values(many((640, 640), 8000), CPU)("encoded") is None


def test_a_seed_is_found_that_gives_each_class_pictures_in_each_set(here: Path) -> None:
    root = pictures(here / "pets", cat=30, dog=8)
    found = {c.key: c for c in chosen(root, CPU)}
    assert found["val"].value == 0.25
    assert "each class has pictures in all three sets" in found["seed"].why
