"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import importlib.metadata
import inspect
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fastapi
import pytest
from fleets import counting, dead, echo, finished
from servers import Server, answer, eventually, serving, silence, unused_port
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect._fleet_table import write_fleet
from sglang_collect._serve import require_token
from sglang_collect.cli import main
from sglang_collect.simulator import Simulator

PLAIN = "# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs 4.0\n"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, run in this process."""
    try:
        code: object = main(args)
    except SystemExit as ended:
        code = ended.code
    printed = capsys.readouterr()
    assert isinstance(code, int)
    return code, printed.out, printed.err


@contextmanager
def started(*args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own; it is killed where a test leaves it running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sglang_collect", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended_by(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Exit code and stderr after a signal."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def get(url: str, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as response:
        return json.load(response)


def refusal(url: str, **headers: str) -> int:
    """The HTTP status of a request that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url, **headers)
    with caught.value:
        return caught.value.code


def one_line(text: str) -> str:
    """The text, which has to be one line."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return text[:-1]


# -------------------------------------------------------------------- scrape


def test_scrape_prints_every_plan_field_with_its_true_value(
    capsys: pytest.CaptureFixture[str], sglang_simulator: Simulator
) -> None:
    code, out, err = run(capsys, "scrape", sglang_simulator.url)
    assert (code, err) == (0, "")
    level = sglang_simulator.truth()["server_level"]
    shown = dict(re.findall(r"^  (\w+) +(\S+)", out, re.MULTILINE))
    assert shown["num_requests_running"] == str(level["running"])
    assert shown["radix_cache_size"] == str(level["evictable_tokens"])
    for group in (sc.SGLangRequestMetrics, sc.SGLangCacheMetrics, sc.SGLangSystemMetrics):
        assert set(group.model_fields) <= set(shown)


def test_scrape_json_is_the_snapshot(capsys: pytest.CaptureFixture[str], sglang_simulator: Simulator) -> None:
    code, out, err = run(capsys, "scrape", "--json", "--instance-id", "here", sglang_simulator.url)
    assert (code, err) == (0, "")
    snapshot = sc.SGLangMetricsSnapshot.model_validate_json(out)
    assert snapshot.instance_id == "here"
    assert snapshot.endpoint == sglang_simulator.url
    assert snapshot.system_metrics.num_requests_running == sglang_simulator.truth()["server_level"]["running"]
    assert snapshot.raw_metrics


def test_a_bare_host_and_port_is_the_metrics_page(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answer(PLAIN)) as server:
        code, out, _ = run(capsys, "scrape", f"127.0.0.1:{server.port}")
    assert code == 0
    assert [request.path for request in server.requests] == ["/metrics"]
    assert out.startswith(f"127.0.0.1:{server.port}  http://127.0.0.1:{server.port}/metrics\n")


def test_what_the_page_does_not_have_is_a_dash_and_never_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answer(PLAIN)) as server:
        code, out, _ = run(capsys, "scrape", server.url)
    assert code == 0
    assert re.search(r"^  num_requests_running +4 ", out, re.MULTILINE)
    assert re.search(r"^  success_total +- ", out, re.MULTILINE)
    assert not re.search(r"^  \w+ +0(\.0)? ", out, re.MULTILINE)
    assert "latency" not in out


def test_ranks_and_latency_have_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with Simulator(frozen=True) as one:
        one.step(30)
        _, out, _ = run(capsys, "scrape", one.url)
    assert "\nlatency, seconds\n" in out
    assert re.search(r"^ +count +mean +p50 +p90 +p95 +p99$", out, re.MULTILINE)
    assert "\nranks\n" not in out


@pytest.mark.sglang_simulator(dp=3, load=0.8)
def test_every_data_parallel_group_has_a_line(
    capsys: pytest.CaptureFixture[str], sglang_simulator: Simulator
) -> None:
    _, out, _ = run(capsys, "scrape", sglang_simulator.url)
    lines = out.partition("\nranks\n")[2].splitlines()
    ranks = sglang_simulator.truth()["ranks"]
    assert lines[0].split()[:3] == ["dp_rank", "running", "waiting"]
    assert [[int(word) for word in line.split()[:4]] for line in lines[1:4]] == [
        [rank["dp_rank"], rank["running"], rank["waiting"], rank["used_tokens"]] for rank in ranks
    ]


def test_notes_of_the_snapshot_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    page = 'sglang:num_running_reqs{model_name="a"} 1\nsglang:num_running_reqs{model_name="b"} 2\n'
    with serving(answer(page)) as server:
        _, out, _ = run(capsys, "scrape", server.url)
    assert "\nnote: several models" in out


def test_text_of_the_server_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answer('sglang:num_running_reqs{model_name="a\x1b[2J\x9bm"} 1\n')) as server:
        _, out, _ = run(capsys, "scrape", server.url)
    assert "a\\x1b[2J\\x9bm" in out
    assert "\x1b" not in out


def test_headers_and_the_token_of_a_file_are_sent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with serving(answer(PLAIN)) as server:
        code, _, _ = run(
            capsys,
            *("scrape", server.url, "--bearer-token-file", str(token)),
            *("--header", "X-One: 1", "--header", "X-Two: a: b"),
        )
    assert code == 0
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer s3cret"
    assert (request.headers["x-one"], request.headers["x-two"]) == ("1", "a: b")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer("nope", status="404 Not Found"), ["404", "--enable-metrics"]),
        (answer("nope", status="401 Unauthorized"), ["401", "--bearer-token-file"]),
        (
            answer("", status="307 Temporary Redirect", headers={"Location": "/x"}),
            ["redirect", "ask for http://127.0.0.1:", "/metrics/"],
        ),
        (answer("", status="503 Service Unavailable"), ["503"]),
        (answer(""), ["no SGLang metrics", "fresh server"]),
        (answer("node_load1 0.5\n"), ["no SGLang metrics", "port of an SGLang server"]),
        (answer("<html>", content_type="text/html"), ["text/html"]),
        (answer(f"{PLAIN}}}\n"), ["line 3", "column 1"]),
        (answer(PLAIN, headers={"Content-Length": "1000"}), []),
    ],
)
def test_a_failed_scrape_is_one_line_on_stderr_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], reply: bytes, expected: list[str]
) -> None:
    with serving(lambda request, connection: connection.sendall(reply)) as server:
        code, out, err = run(capsys, "scrape", server.url, "--timeout", "60")
        assert (code, out) == (1, "")
        line = one_line(err)
        assert line.startswith(f"sglang-collect scrape: {server.url}: ")
        for words in expected:
            assert words in line


def test_a_refused_connection_asks_for_server_and_port(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "scrape", f"127.0.0.1:{unused_port()}")
    assert code == 1
    assert "is the server up" in one_line(err)


def test_a_silent_server_ends_in_a_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(silence) as server, Stopwatch() as took:
        code, _, err = run(capsys, "scrape", server.url, "--timeout", "0.3")
    assert code == 1
    assert took.seconds < 2
    assert server.url in one_line(err)


def test_without_a_command_it_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    for word in ("scrape", "fleet", "top --demo", "COMMAND --help", "Exit status"):
        assert word in err


@pytest.mark.parametrize("flag", ["--ca-file", "--client-cert", "--bearer-token-file"])
def test_a_missing_file_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    code, _, err = run(capsys, "scrape", "https://127.0.0.1:1/metrics", flag, "/nowhere/at/all")
    assert code == 1
    assert one_line(err) == "sglang-collect scrape: /nowhere/at/all: No such file or directory"


def test_hints_fit_what_was_asked_for(
    capsys: pytest.CaptureFixture[str], sglang_simulator: Simulator
) -> None:
    url = sglang_simulator.url
    _, _, err = run(capsys, "scrape", url.replace("/metrics", "/metric"))
    assert "SGLang server's page is /metrics" in one_line(err)
    _, _, err = run(capsys, "scrape", url.replace("http", "https"))
    assert f"a server without TLS is {url}" in one_line(err)
    _, _, err = run(capsys, "fleet", "--once", "--http-sd", dead())
    assert "Hint" not in one_line(err)


@pytest.mark.parametrize(
    "args",
    [
        ["conquer"],
        ["scrape"],
        ["scrape", "h:1", "--timeout", "soon"],
        ["scrape", "h:1", "--timeout", "0"],
        ["scrape", "h:1", "--timeout", "nan"],
        ["scrape", "h:1", "--client-key", "key.pem"],
        ["scrape", "h:1", "--header", "no colon"],
        ["scrape", "h:1", "--header", "X: a\nY: b"],
        ["fleet"],
        ["fleet", "h:1", "--interval", "0"],
        ["fleet", "h:1", "--interval", "soon"],
        ["fleet", "h:1", "h:1"],
        ["fleet", "h:1", "--timeout", "0"],
        ["fleet", "h:1", "--client-key", "key.pem"],
        ["simulate", "--port", "65536"],
        ["simulate", "--load", "2"],
        ["simulate", "--dp", "0"],
        ["serve", "--port", "x"],
        ["serve", "--include-raw", "maybe"],
        ["serve", "--instance", "no-url"],
        ["serve", "--allow", "nonsense/99"],
        ["serve", "--max-concurrent", "0"],
    ],
)
def test_bad_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ")
    assert "error: " in err.splitlines()[-1]


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (
        0,
        f"sglang-collect {importlib.metadata.version('sglang-collect')}\n",
    )


def test_the_console_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("sglang-collect")
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown == f"sglang-collect {sc.__version__}\n"


def test_ctrl_c_ends_a_scrape_with_130_and_no_words() -> None:
    with serving(silence) as server, started("scrape", server.url, "--timeout", "30") as process:
        assert eventually(lambda: len(server.requests) == 1)
        with Stopwatch() as took:
            assert ended_by(process, signal.SIGINT) == (130, "")
        assert took.seconds < 5


def test_a_reader_that_hangs_up_gets_no_traceback(sglang_simulator: Simulator) -> None:
    with started("scrape", "--json", sglang_simulator.url) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


# --------------------------------------------------------------------- fleet


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_fleet_scraped_once_is_a_line_of_json_for_each_target(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(echo) as server:
        code, out, err = run(
            capsys, "fleet", "--once", f"{server.url}/4", f"http://localhost:{server.port}/5"
        )
    assert (code, err) == (0, "")
    first, second = lines(out)
    assert [first["instance_id"], second["instance_id"]] == [
        f"127.0.0.1:{server.port}",
        f"localhost:{server.port}",
    ]
    for line, running in ((first, 4), (second, 5)):
        assert (line["up"], line["error"], line["window"]) == (True, None, None)
        snapshot = sc.SGLangMetricsSnapshot.model_validate(line["snapshot"])
        assert snapshot.system_metrics.num_requests_running == running
        assert snapshot.raw_metrics == []


def test_a_fleet_with_a_target_down_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(echo) as server:
        code, out, err = run(capsys, "fleet", "--once", f"{server.url}/4", dead(), "--timeout", "60")
    assert (code, err) == (1, "")
    good, bad = lines(out)
    assert (good["up"], bad["up"]) == (True, False)
    assert bad["error"]["reason"] == "connect_failed"
    assert bad["snapshot"] is None


def test_a_bare_host_and_port_of_a_fleet_is_its_metrics_page(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answer(PLAIN)) as server:
        code, _, _ = run(
            capsys, "fleet", "--once", f"127.0.0.1:{server.port}", "--header", "X-One: 1", "--interval", "1"
        )
    assert code == 0
    assert [(request.path, request.headers["x-one"]) for request in server.requests] == [("/metrics", "1")]


def file_of(path: Path, *servers: Server) -> str:
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    path.write_text(json.dumps([{"targets": addresses, "labels": {"zone": "x"}}]))
    return str(path)


def test_targets_come_from_files_and_services(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with serving(answer(PLAIN)) as one, serving(answer(PLAIN)) as two:
        file = file_of(tmp_path / "t.json", one)
        groups = json.dumps([{"targets": [f"127.0.0.1:{two.port}"]}])
        with serving(answer(groups, content_type="application/json")) as service:
            code, out, err = run(capsys, "fleet", "--once", "--file-sd", file, "--http-sd", service.url)
    assert (code, err) == (0, "")
    assert [(line["instance_id"], line["labels"]) for line in lines(out)] == [
        (f"127.0.0.1:{one.port}", {"zone": "x"}),
        (f"127.0.0.1:{two.port}", {}),
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--file-sd", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
        (["--file-sd", "BROKEN"], "t.json"),
        (["--file-sd", "/nowhere/*.json"], "no targets were found"),
        (["--http-sd", "DEAD"], "connection refused"),
        (["ftp://127.0.0.1/"], "ftp"),
    ],
)
def test_a_fleet_without_a_usable_source_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[str], words: str
) -> None:
    (tmp_path / "t.json").write_text("[")
    args = [{"BROKEN": str(tmp_path / "t.json"), "DEAD": dead()}.get(arg, arg) for arg in args]
    code, out, err = run(capsys, "fleet", *args)
    assert (code, out) == (1, "")
    assert words in one_line(err)


def test_a_yaml_file_without_pyyaml_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    code, _, err = run(capsys, "fleet", "--file-sd", "t.yml")
    assert code == 1
    assert "pip install 'sglang-collect[cli]'" in one_line(err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_fleet_is_read_again_and_again_until_a_signal(number: signal.Signals) -> None:
    with serving(counting(finished)) as server:
        with started("fleet", server.url, dead(), "--interval", "0.05") as process:
            found = [json.loads(first_line(process)) for _ in range(10)]
            code, errors = ended_by(process, number)
        assert eventually(lambda: server.closed == server.opened)
    assert (code, errors) == (0, "")
    assert any(line["window"] and line["window"]["requests_per_second"] > 0 for line in found)
    assert any(line["consecutive_failures"] for line in found)


def test_a_reader_that_goes_away_ends_a_fleet() -> None:
    with serving(echo) as server, started("fleet", f"{server.url}/1", "--interval", "0.05") as process:
        first_line(process)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1


# ------------------------------------------------------------- on a terminal


def on_a_terminal(*args: str, **environment: str) -> str:
    """What a command prints on a terminal."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sglang_collect", *args],
        stdout=child,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environment},
    ):
        os.close(child)
        shown = b""
        try:
            while chunk := os.read(parent, 65536):
                shown += chunk
        except OSError:  # the other side is closed
            pass
    os.close(parent)
    return shown.decode()


def test_a_fleet_on_a_terminal_is_a_table(server_with_latency: Server) -> None:
    url = server_with_latency.url
    shown = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", on_a_terminal("fleet", "--once", url, dead()))
    rows = [line.split() for line in shown.splitlines() if line.strip()]
    assert ["fleet"] in rows
    up = next(row for row in rows if row[0] == f"127.0.0.1:{server_with_latency.port}")
    assert up[2:] == ["4", "-", "-", "-", "-", "900", "up"]
    assert [row for row in rows if row[-2:] == ["connect", "failed"] or row == ["failed"]]
    whole = next(row for row in rows if row[0] == "all")
    assert whole[2] == "4"
    assert whole[-4:] == ["1", "of", "2", "up"]


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("top --demo", "textual", "top"),
        ("top --demo --once", "prometheus_client", "cli"),
        ("serve --port 0", "fastapi", "api"),
        ("serve --port 0", "uvicorn", "api"),
        ("serve --port 0 --demo", "prometheus_client", "cli"),
        ("simulate", "uvicorn", "cli"),
        ("fleet --once --file-sd t.yml", "yaml", "cli"),
    ],
)
def test_where_a_module_is_missing_the_extra_that_brings_it_is_named(
    command: str, missing: str, extra: str
) -> None:
    script = (
        "import sys; sys.modules[sys.argv.pop(1)] = None\n"
        "from sglang_collect.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, missing, *command.split()], capture_output=True, text=True
    )
    hint = f"{missing} is not installed: pip install 'sglang-collect[{extra}]'"
    assert done.stderr.splitlines()[-1] == f"sglang-collect {command.split()[0]}: {hint}"
    assert done.returncode == 1


def test_a_fleet_fits_80_columns_with_whole_names(server_with_latency: Server) -> None:
    gone = dead()
    shown = on_a_terminal("fleet", "--once", server_with_latency.url, gone, COLUMNS="80")
    lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown).splitlines()
    for name in (f"127.0.0.1:{server_with_latency.port}", re.sub("http://|/metrics", "", gone), "failed"):
        assert any(name in line.split() for line in lines)
    assert "…" not in shown


def test_a_fleet_on_a_terminal_without_rich_is_a_plain_table(
    server_with_latency: Server, tmp_path: Path
) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError")
    shown = on_a_terminal("fleet", "--once", server_with_latency.url, PYTHONPATH=str(tmp_path))
    assert re.search(r"^fleet\r?$", shown, re.MULTILINE)
    assert "\x1b" not in shown
    assert " 1 of 1 up" in shown


def test_a_target_that_was_not_read_yet_has_a_line_too() -> None:
    out = io.StringIO()
    with sc.Fleet([sc.Target("evil\x1b[2J", dead())]) as fleet:
        write_fleet(fleet, out)
    assert re.search(r"^  evil\\x1b\[2J( +-){7}  not read yet$", out.getvalue(), re.MULTILINE)
    assert "0 of 1 up" in out.getvalue()


@pytest.mark.parametrize("rich", [True, False])
def test_a_table_follows_its_fleet_until_a_signal(
    server_with_latency: Server, tmp_path: Path, rich: bool
) -> None:
    if not rich:
        (tmp_path / "rich.py").write_text("raise ImportError")
    args = [sys.executable, "-m", "sglang_collect", "fleet", server_with_latency.url, "--interval", "0.05"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "PYTHONPATH": str(tmp_path)}
    parent, child = pty.openpty()
    with subprocess.Popen(args, stdout=child, stderr=subprocess.PIPE, env=environment) as process:
        os.close(child)
        shown = b""
        while shown.count(b" of 1 up") < 3:
            shown += os.read(parent, 65536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # the other side is closed
            while os.read(parent, 65536):
                pass
        assert process.stderr is not None
        assert process.stderr.read() == b""
    os.close(parent)
    assert process.returncode == 0


@pytest.fixture
def server_with_latency() -> Iterator[Server]:
    """A server that has four requests running, and whose first tokens took up to a second."""
    name = "sglang:time_to_first_token_seconds"
    buckets = "".join(f'{name}_bucket{{le="{le}"}} {count}\n' for le, count in (("1", 10), ("+Inf", 10)))
    latency = f"# TYPE {name} histogram\n{buckets}{name}_sum 5\n{name}_count 10\n"
    with serving(answer(PLAIN + latency)) as server:
        yield server


def test_a_terminal_gets_colours_unless_no_color_is_set(sglang_simulator: Simulator) -> None:
    pytest.importorskip("rich")
    coloured = on_a_terminal("scrape", sglang_simulator.url, NO_COLOR="")
    plain = on_a_terminal("scrape", sglang_simulator.url, NO_COLOR="1")
    assert "\x1b[1;36m" in coloured
    assert "36m" not in plain
    for shown in (coloured, plain):
        assert "num_requests_running" in shown
        assert "Running requests" in shown


# ------------------------------------------------------------------ simulate


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_prints_its_url_and_stops_cleanly(number: signal.Signals) -> None:
    with started(
        "simulate", "--port", "0", "--dp", "2", "--seed", "4", "--steps", "30", "--freeze"
    ) as process:
        url = first_line(process)
        truth = get(url.replace("/metrics", "/simulator/truth"))
        assert (truth["dp"], truth["seed"], truth["step"], truth["frozen"]) == (2, 4, 30, True)
        snapshot = sc.scrape(url)
        assert snapshot.system_metrics.num_requests_running == truth["server_level"]["running"]
        assert ended_by(process, number) == (0, "")


def test_simulate_on_a_port_in_use_is_one_line(
    capsys: pytest.CaptureFixture[str], sglang_simulator: Simulator
) -> None:
    port = sglang_simulator.url.rpartition(":")[2].partition("/")[0]
    code, _, err = run(capsys, "simulate", "--port", port)
    assert code == 1
    assert one_line(err).endswith("Hint: --port 0 picks a free one")


# --------------------------------------------------------------------- serve


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_answers_for_its_instances_and_stops_cleanly(
    sglang_simulator: Simulator, number: signal.Signals
) -> None:
    with started("serve", "--port", "0", "--instance", f"one={sglang_simulator.url}") as process:
        base = first_line(process)
        assert get(f"{base}/health") == {"status": "ok"}
        snapshot = get(f"{base}/api/v1/metrics/sglang/one")
        running = sglang_simulator.truth()["server_level"]["running"]
        assert snapshot["system_metrics"]["num_requests_running"] == running
        code, _ = ended_by(process, number)
        assert code == 0


def test_serve_shows_targets_and_simulated_servers(sglang_simulator: Simulator) -> None:
    with started("serve", "--port", "0", "--demo", sglang_simulator.url) as process:
        base = first_line(process)
        with urllib.request.urlopen(base) as page:
            assert b"<title>SGLang fleet</title>" in page.read()
        name = sglang_simulator.url.split("/")[2]

        def up() -> bool:
            state = get(f"{base}/api/v1/fleet")
            ups = {target["instance_id"]: target["up"] for target in state["targets"]}
            assert list(ups) == [name, "demo-busy", "demo-calm", "demo-idle", "demo-down"]
            return list(ups.values()) == [True, True, True, True, False]

        assert eventually(up)
        assert ended_by(process, signal.SIGINT)[0] == 0


def test_the_token_is_checked_by_a_function_whose_annotations_every_fastapi_can_read() -> None:
    check = require_token("s3cret")
    assert inspect.isfunction(check)
    assert inspect.signature(check, eval_str=True).parameters["request"].annotation is fastapi.Request


def test_serve_takes_its_settings_from_the_environment_and_flags_win(
    sglang_simulator: Simulator, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    settings = {
        "SGLANG_COLLECT_PORT": "0",
        "SGLANG_COLLECT_ALLOW": "10.9.8.0/24, 127.0.0.1/32:1-65535",
        "SGLANG_COLLECT_INSTANCE": "one=127.0.0.1:1,two=127.0.0.1:2",
        "SGLANG_COLLECT_TOKEN_FILE": str(token),
        "SGLANG_COLLECT_INCLUDE_RAW": "yes",
        "SGLANG_COLLECT_MAX_BODY_BYTES": "1000",
    }
    with started("serve", "--max-body-bytes", "1000000", **settings) as process:
        url = f"{first_line(process)}/api/v1/metrics/sglang/any?endpoint={sglang_simulator.url}"
        assert get(url, Authorization="Bearer s3cret")["raw_metrics"]
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
            assert refusal(url, **wrong) == 401


def test_serve_without_allowed_targets_refuses_them(sglang_simulator: Simulator) -> None:
    with started("serve", "--port", "0") as process:
        url = f"{first_line(process)}/api/v1/metrics/sglang/any?endpoint={sglang_simulator.url}"
        assert refusal(url) == 403
        process.terminate()
        assert "allow" in process.communicate(timeout=60)[1]


def test_an_empty_token_file_does_not_open_the_service(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("\n")
    code, _, err = run(capsys, "serve", "--port", "0", "--token-file", str(tmp_path / "token"))
    assert code == 1
    assert "token: the file is empty" in err


def test_serve_is_quiet_about_tokens(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    with started("serve", "--port", "0", "--token-file", str(tmp_path / "token")) as process:
        first_line(process)
        assert "s3cret" not in ended_by(process, signal.SIGTERM)[1]


# ---------------------------------------------------------------------- demo


def test_demo_compares_every_plan_field_and_finds_them_equal(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "demo")
    assert (code, err) == (0, "")
    assert out.endswith("\nfields equal: 15 of 15\n")
    assert len(re.findall(r"^  \w+_metrics\.\w+ +\S+ +\S+  equal$", out, re.MULTILINE)) == 15


def test_demo_fails_where_a_field_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Simulator.truth

    def wrong(simulator: Simulator) -> dict[str, Any]:
        truth = real(simulator)
        truth["plan"]["request_metrics.success_total"] += 1
        return truth

    monkeypatch.setattr(Simulator, "truth", wrong)
    code, out, _ = run(capsys, "demo")
    assert code == 1
    assert re.search(r"success_total +\d+ +\d+  DIFFERS$", out, re.MULTILINE)
    assert out.endswith("\nfields equal: 14 of 15\n")


# ------------------------------------------------------------ what is missing


@pytest.mark.parametrize(
    ("args", "module", "extra"),
    [
        (["simulate"], "prometheus_client", "cli"),
        (["serve"], "fastapi", "api"),
        (["demo"], "starlette", "cli"),
    ],
)
def test_a_missing_extra_is_named(args: list[str], module: str, extra: str) -> None:
    script = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "from sglang_collect.cli import main\n"
        "sys.exit(main(sys.argv[2:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, module, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"sglang-collect[{extra}]" in one_line(done.stderr)


def test_help_needs_no_extra() -> None:
    script = (
        "import sys\n"
        "from sglang_collect import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'uvicorn', 'fastapi', 'pydantic', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")
