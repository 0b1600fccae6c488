"""The checks themselves: what is wrong with a command or a page is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.check import mistakes
from tests.docs.pages import blocks


@pytest.mark.parametrize(
    "command",
    [
        'make images TARGETS="cpu gpu"',
        "find photos -name '*.jpg' | .venv/bin/recaffe predict pets-model - --format jsonl > answers",
        "recaffe train -solver=solver.prototxt --gpu 0,1",
        "recaffe weights list",
        "snakemake --profile profiles/slurm --configfile my.yaml   # in tmux",
        "python -m recaffe verify results --deep",
        "JOBS=3 make caffe && source .caffe/install/env.sh",
        "for f in a b; do recaffe upgrade $f $f.new; done",
    ],
)
def test_right_commands_pass(command: str) -> None:
    assert mistakes(command) == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make fault", "no target fault"),
        ("recaffe verify --shallow", "no --shallow"),
        ("recaffe weights lst", "no lst"),
        ("echo x | recaffe predikt -", "no command predikt"),
        ("snakemake --jobz 3", "no --jobz"),
        ("snakemake --profile profiles/slurms", "no profile profiles/slurms"),
        ("caffe train -wights x", "no -wights"),
        ("caffe trane -solver x", "no trane"),
        ("python -m recafe", "no module recafe"),
        ("docker/no-such-script.sh", "there is no docker/no-such-script.sh"),
        ("frobnicate --all", "frobnicate is a program"),
        ("echo 'half a quote", "No closing quotation"),
    ],
)
def test_wrong_commands_are_named(command: str, said: str) -> None:
    assert said in mistakes(command)[0]


def test_blocks_are_read_with_the_comments_above_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "1. First\n\n"
        "   <!-- run in a fresh clone, exits 3 -->\n   ```sh\n   a \\\n     b   # why\n   # all\n   c\n   ```\n\n"
        "<!-- not run: a GPU -->\n```console\n$ d\nits answer\n```\n\n"
        "<!-- write config/x.yaml in a fresh clone -->\n```yaml\nkey: 1\n```\n\n```text\nfree\n```\n",
        encoding="utf-8",
    )
    run, other, written, free = blocks(page)
    assert (run.place, run.status, run.reason) == ("a fresh clone", 3, "")
    assert [line.split() for line in run.commands()] == [["a", "b", "#", "why"], ["c"]]
    assert (other.place, other.reason, other.commands()) == ("", "a GPU", ["d"])
    assert (written.place, written.target, written.text) == (
        "a fresh clone",
        "config/x.yaml",
        "key: 1",
    )
    assert (free.place, free.reason, free.target) == ("", "", "")
