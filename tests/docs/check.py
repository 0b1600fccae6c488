"""What can be said of a command without running it: its program, subcommand, options and files are there."""

from __future__ import annotations

import argparse
import re
import shlex
from functools import cache
from importlib.util import find_spec
from itertools import pairwise

from snakemake.cli import get_argument_parser

from recaffe import cli
from recaffe.config import ROOT

# Programs of others, whose options aren't checked.
FOREIGN = (
    "apptainer", "apt-get", "bash", "buildah", "cat", "cd", "cp", "curl", "docker", "echo", "export", "find", "git",
    "head", "kill", "kubectl", "ln", "ls", "mkdir", "mv", "nvidia-smi", "pip", "podman", "pytest", "python", "rm", "sbatch",
    "scancel", "scontrol", "sed", "sha256sum", "shuf", "source", "sort", "squeue", "srun", "ssh", "tail", "wait", "tee",
    "tensorboard", "torchrun", "touch", "$CAFFE_PYTHON",
)  # fmt: skip
# BVLC Caffe's, with the flags of its tools/*.cpp.
CAFFE = {
    "caffe": "gpu solver model phase level stage snapshot weights iterations sigint_effect sighup_effect",
    "convert_imageset": "gray shuffle backend resize_width resize_height check_size encoded encode_type",
    "compute_image_mean": "backend",
    "upgrade_net_proto_text": "",
    "upgrade_net_proto_binary": "",
}
CAFFE_ACTIONS = ("train", "test", "time", "device_query")
_PYTHON = re.compile(r"(?:.*/)?python3?(?:\.11)?")


def mistakes(command: str) -> list[str]:
    """What is wrong with a line of shell; empty if nothing is to be seen."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError as error:
        return [f"{command}: {error}"]
    found: list[str] = []
    part: list[str] = []
    for word in (*words, ";"):
        if re.fullmatch(r"[;|&]+", word):
            found += _one(part) if part else []
            part = []
        else:
            part.append(word)
    return [f"{command}: {mistake}" for mistake in found]


def _one(words: list[str]) -> list[str]:
    while words and (re.match(r"\w+=", words[0]) or words[0] in ("do", "then", "!")):
        words = words[1:]
    if not words or words[0] in ("for", "while", "if", "done", "fi", "(("):
        return []
    program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if _PYTHON.fullmatch(program) and rest[:1] == ["-m"]:
        program, rest = rest[1], rest[2:]
        if program not in ("recaffe", "snakemake"):
            return [] if find_spec(program) else [f"there is no module {program}"]
    if program == "make":
        return _make(rest)
    if program == "recaffe":
        return _recaffe(rest)
    if program == "snakemake":
        return _snakemake(rest)
    if program in CAFFE:
        return _caffe(program, rest)
    if "/" in program and not program.startswith(("/", "$")):
        return [] if (ROOT / program).is_file() else [f"there is no {program}"]
    return [] if program in FOREIGN else [f"{program} is a program that tests/docs/check.py lacks"]


def _make(words: list[str]) -> list[str]:
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"(?m)^([a-z-]+):", text))
    return [f"make has no target {target}" for target in targets if target not in known]


@cache
def _commands() -> dict[str, argparse.ArgumentParser]:
    choices = next(a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(choices.choices)


def _recaffe(words: list[str]) -> list[str]:
    if not words or words[0] in ("--version", "--help", "COMMAND"):
        return []
    command = _commands().get(words[0])
    if not command:
        return [f"recaffe has no command {words[0]}"]
    nested = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
    known = set(command._option_string_actions)
    for action in nested:
        if len(words) > 1 and words[1] not in action.choices:
            return [f"recaffe {words[0]} has no {words[1]}"]
        if len(words) > 1:
            known |= set(action.choices[words[1]]._option_string_actions)
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    flags = [f"-{flag}" if re.match(r"-[a-z][a-z_]", flag) else flag for flag in flags]
    return [f"recaffe {words[0]} has no {flag}" for flag in flags if flag not in known]


@cache
def _snakemake_options() -> frozenset[str]:
    return frozenset(get_argument_parser()._option_string_actions)


def _snakemake(words: list[str]) -> list[str]:
    flags = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    found = [f"snakemake has no {flag}" for flag in flags if flag not in _snakemake_options()]
    for flag, value in pairwise(words):
        if flag == "--profile" and not (ROOT / value / "config.yaml").is_file():
            found.append(f"there is no profile {value}")
    return found


def _caffe(program: str, words: list[str]) -> list[str]:
    flags = [m[1] for word in words if (m := re.match(r"--?([a-z_]+)", word))]
    found = [f"{program} has no -{flag}" for flag in flags if flag not in CAFFE[program].split()]
    if program == "caffe" and words and words[0] not in CAFFE_ACTIONS:
        found.append(f"caffe has no {words[0]}")
    return found
