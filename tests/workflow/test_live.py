"""The view of a workflow, once; tests/workflow/faults/test_live.py has what can happen to it."""

from __future__ import annotations

from pathlib import Path

from tests.workflow.live import running


def test_a_terminal_shows_all_jobs_at_work_and_gives_them_back_as_lines(tmp_path: Path) -> None:
    with running(tmp_path) as terminal:
        screen = terminal.until(lambda screen: screen.text.count("30 of 100 img") == 2)
        assert "0 of 3 jobs" in screen.text
        lines = [line for line in screen.text.splitlines() if line.startswith("  make ")]
        assert len(lines) == 2
        for line in lines:
            assert "30%" in line and "img/s" in line and " left " in line
        assert len([*tmp_path.rglob(".*.status.json")]) == 2
        (tmp_path / "go").touch()
        assert terminal.end() == 0
        said = terminal.screen.text
        assert "✓ make one" in said and "✓ make two" in said
        assert "loss 0.25  val 50.0%" in said
        assert said.index("✓ make one") < said.index("All of it is there.")
        assert " of 100 img" not in said and " of 3 jobs" not in said
        assert screen.cursor_shown and not screen.unknown
        # A message goes by above; a line on the way, which the view has, does not.
        assert "one has begun." in said and "So far" not in said
    assert not [*tmp_path.rglob(".*.status.json*")]
    log = next((tmp_path / ".snakemake" / "log").iterdir()).read_text(encoding="utf-8")
    assert "Finished jobid: 1" in log
    assert "So far it goes well." in (tmp_path / "logs" / "one.log").read_text(encoding="utf-8")
