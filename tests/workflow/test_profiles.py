"""The profiles for clusters, where there is no cluster: they plan, and Kubernetes' commands run jobs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from recaffe.config import ROOT
from tests.workflow import running
from tests.workflow.faults.small import Small

# Stands for a cluster of one machine: it starts a Job's command here, and knows how it ended.
KUBECTL = """#!{python}
import json, pathlib, subprocess, sys
jobs = pathlib.Path("{jobs}")
if sys.argv[1] == "create":
    made = json.load(sys.stdin)
    name = made["metadata"]["generateName"] + str(len(list(jobs.iterdir())))
    (jobs / name).write_text(json.dumps(made))
    pod = made["spec"]["template"]["spec"]["containers"][0]
    ended = subprocess.run(
        pod["command"], cwd=pod["workingDir"], start_new_session=True, stdout=subprocess.DEVNULL
    )
    (jobs / f"{{name}}.ended").write_text("Complete" if ended.returncode == 0 else "Failed")
    print("job.batch/" + name)
elif sys.argv[1:3] == ["get", "job"]:
    print(sys.argv[3], (jobs / f"{{sys.argv[3]}}.ended").read_text())
"""


def test_slurm_is_planned_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "bash", "env", "which"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    small = Small.begin(tmp_path / "small")
    jobs = small.plan("--profile", str(ROOT / "profiles" / "slurm"))
    assert jobs["train"] == 1 and jobs["lmdb"] == 3


def test_every_entry_of_a_profile_is_one_that_snakemake_knows_and_is_explained() -> None:
    for path in (ROOT / "profiles").glob("*/config.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for name in yaml.safe_load("\n".join(lines)):
            (row,) = (i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
            above = lines[row - 1]
            # Two that belong together share one comment.
            assert above.startswith("#") or lines[row - 2].startswith("#"), (path, name)


def test_kubernetes_jobs_are_made_asked_after_and_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small.begin(tmp_path / "small")
    shutil.copytree(ROOT / "profiles" / "kubernetes", small.folder / "profiles" / "kubernetes")
    jobs, kubectl = tmp_path / "jobs", tmp_path / "bin" / "kubectl"
    jobs.mkdir()
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(python=sys.executable, jobs=jobs), encoding="utf-8")
    kubectl.chmod(0o755)
    paths = (kubectl.parent, Path(sys.executable).parent, os.environ["PATH"])
    monkeypatch.setenv("PATH", ":".join(map(str, paths)))
    command = ("--profile", "profiles/kubernetes", "--until", "split")
    running.ran(running.snakemake(small.file, *command))
    assert (small.results / "data" / "lists.json").is_file()
    (made,) = (json.loads(path.read_text()) for path in jobs.glob("recaffe-?"))
    spec = made["spec"]["template"]["spec"]
    (pod,) = spec["containers"]
    assert pod["image"] == "registry.example/recaffe:gpu" and pod["workingDir"] == str(small.folder)
    assert pod["resources"]["requests"] == {"cpu": "2", "memory": "2000M"}
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "recaffe"}
