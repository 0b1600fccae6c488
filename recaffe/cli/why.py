"""What the next run of the workflow would redo, what it would keep, and why.

Give it in the folder where you run snakemake. It plans as `snakemake -n` does and runs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recaffe.config import ROOT
from recaffe.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommand's flags."""
    parser.add_argument(
        "targets",
        metavar="TARGET",
        nargs="*",
        help="files, rules, or steps such as train:first (the report and all before it)",
    )
    parser.add_argument("--configfile", default="config/config.yaml", help="as for snakemake")
    parser.add_argument("--directory", default=".", help="where snakemake runs (here)")
    parser.add_argument(
        "--deep", action="store_true", help="read every picture again, whatever its date says"
    )


def main(args: argparse.Namespace) -> int:
    """Print the plan on stdout."""
    from snakemake.exceptions import RuleException, WorkflowError

    config = Path(args.configfile).absolute()
    if not config.is_file():
        raise ConfigError(f"{config}: there is no such file. Give the run's --configfile.")
    try:
        lines = _plan(args.targets, config, Path(args.directory), args.deep)
    except (WorkflowError, RuleException) as error:
        raise ConfigError(str(error).strip()) from None
    print("\n".join(lines))
    return 0


def _plan(targets: Sequence[str], config: Path, folder: Path, deep: bool) -> list[str]:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        ResourceSettings,
    )

    quiet = OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
    with SnakemakeApi(quiet) as api:
        planned = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(
                config={"deep_check": True} if deep else {}, configfiles=(config,)
            ),
            snakefile=ROOT / "Snakefile",
            workdir=folder.absolute(),
        )
        files = {name for name in targets if "/" in name}
        # Names of steps are looked up in the plan of all.
        wanted = files if len(files) == len(targets) else {"all", *files}
        planned.dag(DAGSettings(targets=frozenset(wanted), force_incomplete=True))
        # Snakemake's own --dag prints just this graph; there is no public way to have it.
        workflow = planned._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        return _say(workflow, targets)


def _say(workflow: Any, targets: Sequence[str]) -> list[str]:
    dag = workflow.dag
    order = [job for level in dag.toposorted() for job in level if not job.is_norun]
    if targets and "all" not in targets:
        asked = [job for name in targets for job in _called(name, order)]
        needed = set(dag.bfs(dag.dependencies, *asked))
        order = [job for job in order if job in needed]
    redone = [job for job in order if dag.needrun(job)]
    kept = sorted(_name(job) for job in order if not dag.needrun(job))
    if not redone:
        return [f"Nothing: all of {len(kept)} steps are up to date."]
    lines = [f"{len(redone)} of {len(order)} steps would run:"]
    width = max(len(_name(job)) for job in redone)
    longer: set[str] = set()
    for job in redone:
        words = _why(job, workflow, longer)
        lines.append(f"  {_name(job):{width}}  {'; '.join(words)}")
    if kept:
        lines.append(f"Kept: {', '.join(kept)}")
    return lines


def _called(name: str, jobs: Sequence[Any]) -> list[Any]:
    """The jobs that make a file, of a rule, or of the name that is printed for them."""
    found = [
        job for job in jobs if name in (job.rule.name, _name(job)) or name in map(str, job.output)
    ]
    if not found:
        raise ConfigError(
            f"{name} is neither a file that the workflow makes nor a step of it. Steps are "
            f"{', '.join(sorted(map(_name, jobs)))}; files are given from where snakemake runs."
        )
    return found


def _why(job: Any, workflow: Any, longer: set[str]) -> list[str]:
    from recaffe import reasons

    dag, notes = workflow.dag, workflow.persistence
    upstream = [_name(other) for other in dag.dependencies[job] if dag.needrun(other)]
    known = next((out for out in job.output if notes.params(out) is not None), None)
    words = []
    if known is not None:
        data = Path(workflow.globals["DATA"])
        words = reasons.of_params(notes.params(known), notes._params(job), data)
    run = ":".join(job.wildcards)  # with the fold, if there are any
    if job.rule.name == "solver" and reasons.continues(words, notes._params(job), upstream):
        longer.add(run)
    if job.rule.name == "train" and run in longer and not words:
        return [f"after solver:{run}; goes on from its last snapshot"]
    return words + reasons.of_job(dag.reason(job), list(job.output), upstream, bool(words))


def _name(job: Any) -> str:
    """`train:first` for the rule train with the wildcard first."""
    return ":".join([job.rule.name, *job.wildcards])
