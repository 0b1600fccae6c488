"""Single test pictures: the worst mistakes, and those that the net was least certain about."""

from __future__ import annotations

from typing import Any

from recaffe.report.album import Album

TITLE = "Mistakes and doubts"


def view(facts: dict[str, Any], album: Album) -> dict[str, Any]:
    """`mistakes`, worst first, and `doubts`, narrowest first, as answers."""
    answers = facts["first"]["answers"]
    wrong = [answer for answer in answers if not answer.right]
    wrong.sort(key=lambda answer: (-answer.confidence, answer.path))
    doubts = sorted(answers, key=lambda answer: (answer.lead, answer.path))
    wanted = facts["config"]["report"]
    return {
        "mistakes": wrong[: wanted["mistakes"]],
        "mistaken": len(wrong),
        "doubts": doubts[: wanted["doubts"]],
    }
