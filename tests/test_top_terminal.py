"""`sglang-collect top` as its user has it: in a terminal, on a pipe, without Textual."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleets import dead, echo
from screens import cells_of, terminal
from servers import answer, eventually, serving, silence

from sglang_collect.cli import main
from sglang_collect.simulator import LoadModel, Simulator

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"  # the terminal's other screen


@pytest.fixture
def busy() -> Iterator[Simulator]:
    with Simulator(LoadModel(dp=2, seed=5, load=0.9), frozen=True) as simulator:
        simulator.step(60)
        yield simulator


def once(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str]]:
    """Exit code and lines of `top --once`, run in this process."""
    code = main(("top", "--once", "--interval", "0.2", *args))
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, printed.out.splitlines()


def targets_file(folder: Path, **urls: str) -> str:
    """A file_sd file in which servers have names."""
    file = folder / "targets.json"
    groups = [{"targets": [url.split("/")[2]], "labels": {"instance": name}} for name, url in urls.items()]
    file.write_text(json.dumps(groups))
    return str(file)


# ------------------------------------------------------------------ a terminal


def test_a_terminal_of_80_by_24_shows_the_true_numbers(busy: Simulator, tmp_path: Path) -> None:
    level = busy.truth()["server_level"]
    names = targets_file(tmp_path, busy=busy.url, gone=dead())
    with terminal("top", "--file-sd", names, "--interval", "0.3") as screen:
        assert screen.shows(lambda lines: cells_of(lines, "busy").get("running") == str(level["running"]))
        assert screen.shows(lambda lines: cells_of(lines, "gone")["state"] == "down")
        row = cells_of(screen.lines, "busy")
        assert row["waiting"] == str(level["waiting"])
        assert row["kv"] == f"{level['used_ratio'] * 100:.0f}%"
        assert cells_of(screen.lines, "gone")["error"].startswith("connect failed, never up")
        assert "q Quit" in screen.lines[-1]
        busy.step(7)
        level = busy.truth()["server_level"]
        assert screen.shows(lambda lines: cells_of(lines, "busy").get("running") == str(level["running"]))
        screen.press("\r")
        assert screen.shows(lambda lines: any("RANK" in line for line in lines))
        screen.press("q")
        assert screen.ended() == 0
        assert ENTERED in screen.sent
        assert LEFT in screen.sent.partition(ENTERED)[2]


def test_there_are_colors_unless_none_are_wanted(busy: Simulator) -> None:
    for no_color in ({}, {"NO_COLOR": "1"}):
        with terminal("top", busy.url.split("/")[2], dead(), **no_color) as screen:
            assert screen.shows(lambda lines: any(" down " in line for line in lines))
            assert screen.shows(lambda lines: any(" up " in line for line in lines[3:]))
            assert ("red" in screen.colors()) == (not no_color)
            if no_color:
                assert screen.colors() == {"default"}
                assert not re.search(rb"\x1b\[([0-9;]*;)?(3[0-7]|4[0-7]|[34]8)(;[0-9;]*)?m", screen.sent)


@pytest.mark.parametrize("how", ["\x03", signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_keys_and_signals_end_it_and_the_terminal_is_as_before(how: str | signal.Signals) -> None:
    with serving(echo) as server, terminal("top", f"{server.url}/1") as screen:
        assert screen.shows(lambda lines: any(" up " in line for line in lines[3:]))
        if isinstance(how, str):
            screen.press(how)
        assert screen.ended(None if isinstance(how, str) else how) == 0
        after = screen.sent.partition(LEFT)[2]
        assert b"\x1b[?25h" in after  # the cursor is there again
        assert b"\x1b[?1000l" in after  # and the mouse the terminal's own
        assert b"Traceback" not in screen.sent


def test_back_from_the_background_it_draws_everything_again() -> None:
    with serving(echo) as server, terminal("top", f"{server.url}/1", "--interval", "60") as screen:
        assert screen.shows(lambda lines: any(" up " in line for line in lines[3:]))
        screen.process.send_signal(signal.SIGTSTP)
        assert eventually(lambda: LEFT in screen.sent)
        screen.process.send_signal(signal.SIGCONT)
        assert eventually(lambda: b"SERVER" in screen.sent.partition(LEFT)[2])


def test_a_small_terminal_shows_what_fits(busy: Simulator) -> None:
    with terminal("top", busy.url, columns=60, rows=10) as screen:
        assert screen.shows(lambda lines: any(" up " in line for line in lines[3:]))


# ------------------------------------------------------------------------ once


def test_once_prints_the_true_numbers_and_ends(
    capsys: pytest.CaptureFixture[str], busy: Simulator, tmp_path: Path
) -> None:
    level = busy.truth()["server_level"]
    code, lines = once(capsys, "--file-sd", targets_file(tmp_path, busy=busy.url))
    assert code == 0
    assert lines[0].split()[:5] == ["server", "state", "age", "running", "waiting"]
    words = lines[1].split()
    used = f"{level['used_ratio'] * 100:.0f}%"
    assert words[:2] == ["busy", "up"]
    assert words[3:6] == [str(level["running"]), str(level["waiting"]), used]
    assert words[6:] == ["–", "0", "–", "–", "–", "–"]  # the clock stands still
    assert lines[-1].startswith(f"1 server 1 up │ {level['running']} running")


def test_once_ends_with_1_where_a_server_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answer('sglang:num_running_reqs{x="1"} 4\n')) as server:
        code, lines = once(capsys, server.url, dead())
    assert code == 1
    words = lines[1].split()
    assert [words[1], *words[3:]] == ["up", "4", *"––––––––"]
    assert lines[2].split()[1:10] == ["down", *"––––––––"]
    assert lines[2].endswith("connect failed, never up, 2 failures")


def test_once_sorts_and_filters(capsys: pytest.CaptureFixture[str]) -> None:
    page = 'sglang:num_running_reqs{{x="1"}} {}\n'
    with serving(lambda request, _: answer(page.format(request.path[1:]))) as server:
        base = f"http://127.0.0.1:{server.port}"
        shown = []
        for args in (["--sort", "running"], ["--sort", "running", "--reverse"], ["--filter", "UP 127.0.0.1"]):
            _, lines = once(capsys, *args, f"{base}/3", f"http://localhost:{server.port}/8")
            shown.append([line.split()[3] for line in lines[1:-2]])
    assert shown == [["8", "3"], ["3", "8"], ["3"]]


def test_once_a_silent_server_makes_no_other_one_stale(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(silence) as silent, serving(answer('sglang:num_running_reqs{x="1"} 4\n')) as server:
        _, lines = once(capsys, "--timeout", "3", server.url, silent.url)  # many intervals
    assert [line.split()[1] for line in lines[1:3]] == ["up", "down"]


def test_once_on_a_pipe_needs_no_textual() -> None:
    script = (
        "import sys; sys.modules['textual'] = None; from sglang_collect.cli import main; sys.exit(main())"
    )
    with serving(echo) as server:
        ended = subprocess.run(
            [sys.executable, "-c", script, "top", "--once", "--interval", "0.1", f"{server.url}/1"],
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        )
    assert ended.returncode == 0
    assert ended.stderr == ""
    words = ended.stdout.splitlines()[1].split()
    assert (words[1], words[3]) == ("up", "-")


def test_it_says_how_to_install_textual(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)
    assert main(("top", "127.0.0.1:1")) == 1
    assert "pip install 'sglang-collect[top]'" in capsys.readouterr().err


def test_the_screen_is_not_written_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("top", "127.0.0.1:1")) == 1
    assert "--once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "no TARGET"),
        (["--window", "0", "x:1"], "window"),
        (["--interval", "0", "x:1"], "interval"),
        (["--sort", "nothing", "x:1"], "--sort"),
    ],
)
def test_bad_usage_of_top_is_told(capsys: pytest.CaptureFixture[str], args: list[str], told: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(("top", "--once", *args))
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_the_demo_has_servers_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = once(capsys, "--demo")
    assert code == 1
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["demo-busy", "up"],
        ["demo-calm", "up"],
        ["demo-idle", "idle"],
        ["demo-down", "down"],
    ]
