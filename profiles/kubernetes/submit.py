"""submit.py OPTIONS JOBSCRIPT: start Snakemake's job script as a Kubernetes Job; prints NAMESPACE/NAME.

Only the standard library and kubectl, since this runs for every job.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# Seconds between SIGTERM and SIGKILL: for a training's step, test and snapshot.
GRACE = 300
# Kubernetes tells only a container's first process, and that must tell the others.
RUN = """trap 'trap "" TERM; kill -TERM 0' TERM; sh "$0" & job=$!; wait $job; status=$?
while kill -0 $job 2>/dev/null; do wait $job; status=$?; done; exit $status"""


def manifest(args: argparse.Namespace) -> dict[str, Any]:
    """The Job: one pod, never restarted, since Snakemake itself tries again."""
    wants = {"cpu": str(args.cpus), "memory": f"{args.megabytes}M"}
    limits = {"memory": f"{args.megabytes}M"}
    if args.gpus:
        limits[args.gpu_resource] = str(args.gpus)
    container = {
        "name": "job",
        "image": args.image,
        "command": ["bash", "-c", RUN, args.jobscript],
        "workingDir": str(Path.cwd()),
        "resources": {"requests": wants, "limits": limits},
        "volumeMounts": [{"name": "shared", "mountPath": args.mount}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "recaffe-", "labels": {"app": "recaffe"}},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 60 * args.minutes,
            # Long enough for Snakemake to see how it ended.
            "ttlSecondsAfterFinished": 86400,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": GRACE,
                    "containers": [container],
                    "volumes": [
                        {"name": "shared", "persistentVolumeClaim": {"claimName": args.claim}}
                    ],
                }
            },
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Start a job script as a Kubernetes Job.")
    for name in ("--image", "--claim", "--mount"):
        parser.add_argument(name, required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--gpu-resource", default="nvidia.com/gpu")
    for name in ("--cpus", "--megabytes", "--minutes", "--gpus"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("jobscript")
    args = parser.parse_args()
    made = subprocess.run(
        ["kubectl", "create", "--namespace", args.namespace, "--filename", "-", "--output", "name"],
        input=json.dumps(manifest(args)), stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if made.returncode == 0:
        print(f"{args.namespace}/{made.stdout.strip().rpartition('/')[2]}")
    return made.returncode


if __name__ == "__main__":
    sys.exit(main())
