"""The page of a fleet, in a real browser: what it shows, to whom, and what it lets nobody do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import resources
from typing import Any

import pytest
from apps import running
from browsers import chromium
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from fleets import dead
from servers import answer, serving, unused_port

import sglang_collect as sc
from sglang_collect import _recent, dashboard
from sglang_collect.api import RouterSettings, create_app
from sglang_collect.simulator import LoadModel, Simulator

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> & </script><script>document.title='owned'</script>"
LATE = 60_000  # ms in which a busy machine draws what it was told


# ------------------------------------------------------------------ without one


def folder() -> set[str]:
    root = resources.files(dashboard)
    own = {file.name for file in root.iterdir() if file.is_file() and not file.name.endswith((".py", ".pyc"))}
    return own | {f"vendor/{file.name}" for file in root.joinpath("vendor").iterdir()}


@pytest.fixture
def files(client: TestClient) -> TestClient:
    return client


def test_every_file_is_served_and_nothing_else(files: TestClient) -> None:
    assert set(dashboard.FILES) == folder()
    for name in dashboard.FILES:
        response = files.get(f"/dashboard/{name}")
        assert response.status_code == 200
        assert response.content == resources.files(dashboard).joinpath(name).read_bytes()
        assert response.headers["x-content-type-options"] == "nosniff"
    kinds = {name: files.get(f"/dashboard/{name}").headers["content-type"] for name in dashboard.FILES}
    assert kinds["app.js"] == "text/javascript; charset=utf-8"
    assert kinds["style.css"] == "text/css; charset=utf-8"
    assert kinds["icon.svg"] == "image/svg+xml"
    for name in ("", "__init__.py", "../api.py", "..%2fapi.py", "vendor", "vendor/", "nothing.js"):
        assert files.get(f"/dashboard/{name}").status_code == 404, name


def test_the_page_is_at_the_root_and_has_a_policy(files: TestClient) -> None:
    response = files.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in response.headers["content-security-policy"]
    again = files.get("/", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert files.head("/").status_code == 200
    assert files.post("/").status_code == 405


def test_the_page_asks_for_nothing_of_others_and_has_nothing_inline() -> None:
    for name in dashboard.FILES:
        text = resources.files(dashboard).joinpath(name).read_text("utf-8")
        if not name.startswith("vendor/"):
            assert not re.search(r"https?://(?!www\.w3\.org/)", text), name
        assert "innerHTML" not in text, name
        assert "eval(" not in text, name
    page = resources.files(dashboard).joinpath("index.html").read_text("utf-8")
    assert not re.search(r"<script[^>]*>[^<]", page)
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)


def test_the_files_need_no_token_and_hold_no_data() -> None:
    def nobody() -> None:
        raise HTTPException(401)

    settings = RouterSettings(instances={"secret": "http://secret/"}, dependencies=[Depends(nobody)])
    with TestClient(create_app(settings)) as client:
        assert client.get("/").status_code == 200
        assert all("secret" not in client.get(f"/dashboard/{name}").text for name in dashboard.FILES[:3])
        assert client.get("/api/v1/fleet/events").status_code == 401


# -------------------------------------------------------------------- in one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Tab:
    """A page of the browser, and all it complained about."""

    def __init__(self, browser: Any, port: int, **options: Any) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self.context.set_default_timeout(LATE)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.expected = "$^"  # complaints that the test brings about
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str = "") -> Tab:
        self.page.goto(self.url + path)
        return self

    def text(self, selector: str) -> str:
        text: str = self.page.locator(selector).inner_text()
        return text

    def cells(self, name: str) -> dict[str, str]:
        """A row of the fleet's table, by the headings of its columns."""
        labels = (
            *("server", "state", "age", "running", "waiting", "kv", "requests", "output", "prompt", "hits"),
            *("first p50", "first p95", "between p50", "between p95"),
        )
        row = self.page.locator("table.fleet tbody tr").filter(has=self.link(name))
        return dict(zip(labels, row.locator("th, td").all_inner_texts(), strict=True))

    def link(self, name: str) -> Any:
        return self.page.get_by_role("link", name=name, exact=True)

    def until(self, condition: Callable[[], object]) -> None:
        """Waits for what the page is about to show."""
        for _ in range(LATE // 50):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(self.page.locator("body").inner_text())

    def names(self) -> list[str]:
        names: list[str] = self.page.locator("table.fleet tbody tr:visible th").all_inner_texts()
        return names


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def tab(browser: Any, stack: ExitStack) -> Iterator[Callable[..., Tab]]:
    """Opens pages, closed before what they look at; none may complain, or ask for anything of others."""
    tabs: list[Tab] = []

    def opened(port: int, path: str = "", **options: Any) -> Tab:
        tabs.append(Tab(browser, port, **options))
        return tabs[-1].open(path)

    yield opened
    for each in tabs:
        each.page.wait_for_timeout(50)
        complaints = [text for text in each.complaints if not re.search(each.expected, text)]
        asked = each.asked
        each.context.close()
        assert complaints == []
        assert [url for url in asked if not url.startswith(each.url)] == []


@pytest.fixture
def simulate(stack: ExitStack) -> Callable[..., Simulator]:
    def simulated(*, steps: int = 60, port: int = 0, **load: Any) -> Simulator:
        model = LoadModel(**load)
        model.step(steps)
        return stack.enter_context(Simulator(model, port=port, frozen=True))

    return simulated


@pytest.fixture
def serve(stack: ExitStack) -> Callable[..., int]:
    def served(instances: dict[str, str], **settings: Any) -> int:
        app = create_app(RouterSettings(instances=instances, **{"watch_interval": 0.1, **settings}))
        return stack.enter_context(running(app))

    return served


def seconds(text: str) -> float:
    number, unit = text.split(" ")
    return float(number) * {"s": 1, "ms": 1e-3}[unit]


def percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def test_it_shows_the_true_numbers_and_goes_on_showing_them(
    tab: Callable[..., Tab],
    serve: Callable[..., int],
    simulate: Callable[..., Simulator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_recent, "_MINUTE", 3600.0)  # a machine may be slow
    busy, calm = simulate(dp=2, tp=2, load=0.9), simulate(load=0.2)
    page = tab(serve({"busy": busy.url, "calm": calm.url}))
    earlier = sc.scrape(busy.url)
    page.until(lambda: page.names() == ["busy", "calm"] and page.text("#connection") == "live")
    for _ in range(2):
        for name, simulator in (("busy", busy), ("calm", calm)):
            level = simulator.truth()["server_level"]
            page.until(lambda: page.cells(name)["running"] == str(level["running"]))  # noqa: B023
            cells = page.cells(name)
            assert cells["waiting"] == str(level["waiting"])
            assert cells["kv"] == percent(level["used_ratio"])
            assert cells["state"] == "● up"
        levels = [simulator.truth()["server_level"] for simulator in (busy, calm)]
        both = {name: sum(level[name] for level in levels) for name in ("running", "waiting")}
        page.until(lambda: f"Running\n{both['running']}\nWaiting\n{both['waiting']}" in page.text("#totals"))  # noqa: B023
        page.until(
            lambda: f"running {both['running']} waiting {both['waiting']}" in page.text("#fleet-charts")  # noqa: B023
        )
        assert "Servers up\n2 of 2" in page.text("#totals")
        for simulator in (busy, calm):
            simulator.step(20)
    page.until(lambda: page.cells("busy")["running"] == str(busy.truth()["server_level"]["running"]))
    window = sc.scrape(busy.url).since(earlier)
    cells = page.cells("busy")
    assert window.cache_hit_rate is not None
    assert cells["hits"] == percent(window.cache_hit_rate)
    for name, latency in (
        ("first", window.latency.time_to_first_token),
        ("between", window.latency.inter_token),
    ):
        assert latency is not None
        assert seconds(cells[f"{name} p50"]) == pytest.approx(latency.p50, rel=0.01)
        assert seconds(cells[f"{name} p95"]) == pytest.approx(latency.p95, rel=0.01)


def test_one_server_in_depth(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate(dp=2, load=0.9)
    page = tab(serve({"other": dead(), "a/b c": simulator.url}, watch_interval=0.5))
    page.link("a/b c").click()
    page.until(lambda: page.page.evaluate("document.activeElement.id") == "server-heading")
    assert page.text("#server-heading") == "a/b c"
    page.until(lambda: page.page.locator("#charts canvas").count() == 6)
    truth = simulator.truth()
    page.until(lambda: page.page.locator("#ranks tbody tr").count() == 2)
    ranks = [row.split("\t") for row in page.page.locator("#ranks tbody tr").all_inner_texts()]
    assert [(int(rank[1]), int(rank[2])) for rank in ranks] == [
        (rank["running"], rank["waiting"]) for rank in truth["ranks"]
    ]
    assert "meta-llama/Llama-3.1-8B-Instruct" in page.text("#server-about")
    page.page.get_by_label("since the server started").check()
    finished = truth["totals"]["finished_requests"]
    page.until(lambda: f"Whole request: {finished}" in page.text("#histograms"))
    counts = page.page.locator("#histograms table").nth(2).locator("tbody td:nth-child(2)").all_inner_texts()
    assert sum(map(int, counts)) == finished
    assert f"Finished total\t{finished}" in page.text("#groups")
    assert "Speculative" not in page.text("#groups")  # this server does not speculate
    page.page.reload()
    page.until(lambda: page.text("#server-heading") == "a/b c" and "● up" in page.text("#server-state"))
    page.page.get_by_role("link", name="All servers", exact=True).click()
    page.until(lambda: page.names() == ["other", "a/b c"])


def test_a_server_goes_down_and_comes_back(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    port = unused_port()
    steady = simulate(load=0.2)
    first = simulate(load=0.9, port=port)
    page = tab(serve({"a": f"http://127.0.0.1:{port}/metrics", "steady": steady.url}))
    page.until(lambda: page.names() == ["a", "steady"] and page.cells("a")["state"] == "● up")
    first.stop()
    page.until(lambda: page.cells("a")["state"] == "✕ down · connect_failed")
    cells = page.cells("a")
    assert {text for name, text in cells.items() if name not in ("server", "state", "age")} == {"–"}
    assert "Servers up\n1 of 2" in page.text("#totals")
    assert page.text("#news") == "Down: a"
    page.link("a").click()
    page.until(lambda: "no connection to the target came about" in page.text("#server-state"))
    assert page.page.locator("#ranks").is_hidden()
    page.page.go_back()
    second = simulate(load=0.9, port=port, steps=30)
    page.until(lambda: page.cells("a")["state"].startswith("● up"))
    assert page.cells("a")["running"] == str(second.truth()["server_level"]["running"])
    assert "restarted" in page.cells("a")["state"]
    page.until(lambda: page.text("#news") == "Up again: a")


def test_what_a_page_does_not_tell_is_a_dash_and_what_is_idle_says_so(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    idle = simulate(load=0)
    with serving(answer("sglang:num_requests_running 4\n")) as server:
        page = tab(serve({"old": server.url, "idle": idle.url}))
        page.until(lambda: page.names() == ["old", "idle"] and page.cells("idle")["state"] == "○ idle")
        page.until(lambda: page.cells("old")["running"] == "4")
        cells = page.cells("old")
        told = {name for name, text in cells.items() if text != "–"}
        assert told == {"server", "state", "age", "running"}
        assert (page.cells("idle")["running"], page.cells("idle")["first p50"]) == ("0", "–")
        page.link("old").click()
        page.until(lambda: "● up" in page.text("#server-state"))
        assert "Time to first token: –" in page.text("#histograms")
        assert page.page.locator("#groups table:visible").count() == 0


def test_text_of_others_stays_text(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    label = json.dumps(HOSTILE)
    metrics = answer(f"sglang:num_running_reqs{{model_name={label},engine_type={label}}} 4\n")
    with serving(metrics) as server:
        page = tab(serve({HOSTILE: server.url}))
        page.until(lambda: page.names() == [HOSTILE])
        page.link(HOSTILE).click()
        page.until(lambda: HOSTILE in page.text("#server-about"))
        assert page.text("#server-heading") == HOSTILE
        assert page.page.locator("main img, main script").count() == 0
        assert page.page.title() == f"{HOSTILE} – SGLang fleet"


def test_the_policy_holds(tab: Callable[..., Tab], serve: Callable[..., int]) -> None:
    page = tab(serve({}))
    page.until(lambda: "No servers are registered" in page.text("#nothing"))
    refused = page.page.evaluate(
        """async () => {
            const refused = [];
            addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
            try { document.body.innerHTML = "<b>x</b>"; } catch { refused.push("innerHTML"); }
            const script = document.createElement("script");
            script.append("window.owned = true");
            try { document.body.append(script); } catch { refused.push("script"); }
            document.body.setAttribute("style", "color: red");
            try { await fetch("http://127.0.0.2:9/"); } catch { refused.push("fetch"); }
            for (let n = 0; n < 600 && !refused.includes("connect-src"); n++)
                await new Promise((resolve) => setTimeout(resolve, 100));
            return [...refused, window.owned ?? "not owned"];
        }"""
    )
    assert {"innerHTML", "style-src-attr", "connect-src", "fetch", "not owned"} <= set(refused)
    assert any(directive.startswith(("script-src", "require-trusted-types")) for directive in refused)
    page.expected = "Content Security Policy|requires 'Trusted"
    page.asked = [url for url in page.asked if "127.0.0.2" not in url]


def test_it_can_be_used_with_the_keyboard_alone(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    few, many = simulate(load=0.2), simulate(load=0.9)
    page = tab(serve({"few": few.url, "many": many.url}, watch_interval=0.5))
    page.until(lambda: page.names() == ["few", "many"] and page.cells("many")["running"] not in ("–", "0"))
    focused = "document.activeElement.textContent"

    def tab_to(text: str) -> None:
        for _ in range(40):
            page.page.keyboard.press("Tab")
            if page.page.evaluate(focused) == text:
                return
        raise AssertionError(f"no way to {text}")

    page.page.keyboard.press("Tab")
    assert page.page.evaluate(focused) == "Skip to the content"
    tab_to("Running")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.names() == ["many", "few"])
    assert page.page.locator("[aria-sort]").get_attribute("aria-sort") == "descending"
    page.page.keyboard.press("Space")
    page.until(lambda: page.names() == ["few", "many"])
    assert page.page.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"
    tab_to("many")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.page.evaluate("document.activeElement.id") == "server-heading")
    chart = page.page.get_by_role("slider", name="Requests", exact=True)
    page.until(lambda: int(chart.get_attribute("aria-valuemax") or 0) >= 2)
    chart.focus()
    last = chart.get_attribute("aria-valuetext")
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d: running {many.truth()['server_level']['running']}, waiting \d+", last
    )
    page.page.keyboard.press("Home")
    assert chart.get_attribute("aria-valuenow") == "0"
    page.page.keyboard.press("ArrowRight")
    assert chart.get_attribute("aria-valuenow") == "1"
    moment = chart.get_attribute("aria-valuetext").partition(": ")[0]
    assert f"at {moment}" in page.text("#charts figure:first-child")
    page.page.go_back()
    page.until(lambda: page.page.evaluate(focused) == "many")


def test_rows_are_found_and_sorted(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate()
    names = ["s10", "s9", "gone", "s1"]
    page = tab(serve({name: dead() if name == "gone" else simulator.url for name in names}))
    page.until(lambda: page.names() == names and "down" in page.cells("gone")["state"])
    page.page.get_by_role("button", name="Server", exact=True).click()
    page.until(lambda: page.names() == ["gone", "s1", "s9", "s10"])
    page.page.get_by_role("button", name="State", exact=True).click()
    page.until(lambda: page.names() == ["gone", "s10", "s9", "s1"])
    page.page.get_by_role("button", name="Now: Running", exact=True).click()
    page.until(lambda: page.names() == ["s10", "s9", "s1", "gone"])  # what is absent is last
    page.page.get_by_role("searchbox").fill("S1")
    page.until(lambda: page.names() == ["s10", "s1"])
    assert page.text("#filtered") == "2 of 4 shown"
    heads = page.page.get_by_role("columnheader")
    assert (
        heads.filter(has=page.page.get_by_role("button", name="Between tokens: p95", exact=True)).count() == 1
    )
    page.page.get_by_role("searchbox").fill("down")
    page.until(lambda: page.names() == ["gone"])
    page.page.get_by_role("searchbox").fill("")
    page.page.get_by_label("only those that are down").check()
    page.until(lambda: page.names() == ["gone"] and page.text("#filtered") == "1 of 4 shown")


def test_charts_of_all_fold_away_and_stay_away(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    page = tab(serve({"a": simulate().url}))
    canvases = page.page.locator("#fleet-charts canvas:visible")
    page.until(lambda: canvases.count() == 4)
    page.page.locator("summary").press("Enter")
    page.until(lambda: canvases.count() == 0)
    page.page.reload()
    page.until(lambda: page.names() == ["a"] and page.cells("a")["state"] == "● up")
    assert canvases.count() == 0
    page.page.locator("summary").press("Enter")
    page.until(lambda: canvases.count() == 4)


def test_a_service_with_a_token_asks_for_it(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    def require_token(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer t0ken":
            raise HTTPException(401)

    page = tab(serve({"a": simulate().url}, dependencies=[Depends(require_token)]))
    field = page.page.get_by_label("Token", exact=True)
    page.until(lambda: page.page.evaluate("document.activeElement.id") == "token")
    assert page.text("#connection") == "not allowed"
    field.fill("wrong")
    page.page.keyboard.press("Enter")
    page.until(lambda: "does not accept this token" in page.text("#token-form"))
    field.fill("t0ken")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.names() == ["a"] and page.cells("a")["state"] == "● up")
    page.page.reload()
    page.until(lambda: page.names() == ["a"])  # this tab keeps it
    page.expected = "status of 401"


def test_a_server_that_nobody_registered_is_told_to_be_none(
    tab: Callable[..., Tab], serve: Callable[..., int]
) -> None:
    page = tab(serve({"a": dead()}), "#/server/nobody")
    page.expected = "status of 404"
    page.until(lambda: page.text("#connection") == "no such server")
    page.page.get_by_role("link", name="All servers", exact=True).click()
    page.until(lambda: page.names() == ["a"])


def test_many_that_go_down_at_once_are_not_all_read_out(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate()
    page = tab(serve({f"s{n}": simulator.url for n in range(8)}))
    page.until(lambda: "Servers up\n8 of 8" in page.text("#totals"))
    page.page.evaluate(
        """() => {
            const news = document.getElementById("news");
            window.told = [];
            new MutationObserver(() => window.told.push(news.textContent)).observe(news, { childList: true });
        }"""
    )
    simulator.stop()
    page.until(lambda: "Servers up\n0 of 8" in page.text("#totals"))
    told = page.page.evaluate("window.told")
    assert all(text.count(",") <= 4 for text in told)
    assert any(text.startswith("Down: ") for text in told)


def test_a_connection_that_breaks_is_told_and_comes_back(
    tab: Callable[..., Tab], stack: ExitStack, simulate: Callable[..., Simulator]
) -> None:
    app = create_app(RouterSettings(instances={"a": simulate().url}, watch_interval=0.1))
    port = unused_port()
    with running(app, port=port, grace=1):
        page = tab(port)
        page.until(lambda: page.names() == ["a"])
    page.until(lambda: page.text("#connection") == "connection lost, trying again")
    assert page.names() == ["a"]
    with running(app, port=port, grace=1):
        page.until(lambda: page.text("#connection") == "live")
    page.expected = "net::ERR_"


def test_it_works_below_another_path_and_without_a_lifespan(
    tab: Callable[..., Tab], stack: ExitStack, simulate: Callable[..., Simulator]
) -> None:
    outer = FastAPI()
    outer.mount("/some/where", create_app(RouterSettings(instances={"a": simulate().url})))
    page = tab(stack.enter_context(running(outer)), "some/where/")
    page.until(lambda: page.names() == ["a"] and page.cells("a")["state"] == "● up")
    page.link("a").click()
    page.until(lambda: page.page.locator("#charts canvas").count() == 6)


def test_numbers_are_written_for_people(tab: Callable[..., Tab], serve: Callable[..., int]) -> None:
    wanted = [
        *(("count", 0, "0"), ("count", 1234567, "1,234,567"), ("count", None, "–")),
        *(("rate", 0, "0"), ("rate", 0.01234, "0.0123"), ("rate", 12.345, "12.3"), ("rate", 1234.5, "1,235")),
        *(("percent", 0, "0.0 %"), ("percent", 0.12345, "12.3 %"), ("percent", 1, "100.0 %")),
        *(("seconds", 0.0004, "0.4 ms"), ("seconds", 0.0612, "61.2 ms"), ("seconds", 2, "2 s")),
        *(("age", 0.04, "0.0 s"), ("age", 59.6, "60 s"), ("age", 600, "10 min"), ("age", 1e5, "28 h")),
        *(("bytes", 0, "0 B"), ("bytes", 17114071040, "15.9 GiB"), ("bytes", 2**60, "1,050,000 TiB")),
        *((name, None, "–") for name in ("rate", "percent", "seconds", "age", "bytes", "timeOfDay")),
    ]
    page = tab(serve({}))
    got = page.page.evaluate(
        """async (asked) => {
            const format = await import("/dashboard/format.js");
            return asked.map(([name, value]) => format[name](value));
        }""",
        [(name, value) for name, value, _ in wanted],
    )
    assert list(zip(wanted, got, strict=True)) == [(each, each[2]) for each in wanted]


def test_states_are_told_in_words(tab: Callable[..., Tab], serve: Callable[..., int]) -> None:
    absent = {"error": None, "at": None, "restarted": None, "running": None, "waiting": None}
    wanted: list[tuple[dict[str, Any], str]] = [
        ({"up": None}, "… not read yet"),
        ({"up": True, "at": 99, "running": 1}, "● up"),
        ({"up": True, "at": 99, "running": 0, "waiting": 1}, "● up"),
        ({"up": True, "at": 99, "running": 0, "waiting": 0}, "○ idle"),
        ({"up": True, "at": 94, "running": 1}, "▲ stale"),
        ({"up": True, "at": 99, "running": 1, "restarted": 88}, "● up · restarted 12 s ago"),
        ({"up": True, "at": 99, "running": 1, "restarted": 30}, "● up"),
        ({"up": False, "at": 94, "error": "timeout_body: words"}, "✕ down · timeout_body"),
    ]
    page = tab(serve({}))
    told = page.page.evaluate(
        """async (rows) => {
            const { Clock, describe } = await import("/dashboard/fleet.js");
            const clock = new Clock();
            clock.set({ now: 100, interval: 1 });
            return rows.map((row) => describe(row, clock).text);
        }""",
        [{**absent, **row} for row, _ in wanted],
    )
    assert told == [text for _, text in wanted]


def test_a_queue_and_a_cache_that_is_nearly_full_stand_out(
    tab: Callable[..., Tab], serve: Callable[..., int], stack: ExitStack
) -> None:
    instances = {}
    for waiting, used in ((0, 0.5), (1, 0.8), (0, 0.95)):
        body = f"sglang:num_queue_reqs {waiting}\nsglang:token_usage {used}\n"
        instances[f"{used:.0%}"] = stack.enter_context(serving(answer(body))).url
    page = tab(serve(instances))
    page.until(lambda: page.names() == list(instances))
    levels = {}
    for name in instances:
        page.until(lambda: page.cells(name)["kv"] != "–")  # noqa: B023
        cells = page.page.locator("table.fleet tbody tr").filter(has=page.link(name)).locator("td")
        levels[name] = [cells.nth(place).get_attribute("data-level") for place in (3, 4)]
    assert levels == {"50%": [None, None], "80%": ["warn", "warn"], "95%": [None, "bad"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    tab: Callable[..., Tab], serve: Callable[..., int], simulate: Callable[..., Simulator], scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    simulator = simulate(dp=2, load=0.9)
    port = serve({"a": simulator.url, "gone": dead(), "idle": simulate(load=0).url})
    page = tab(port, color_scheme=scheme, bypass_csp=True)
    page.until(
        lambda: (
            len(page.names()) == 3
            and "down" in page.text("table.fleet")
            and page.cells("a")["running"] != "–"
        )
    )
    assert axe.run(page.page).response["violations"] == []
    ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    page.link("a").click()
    page.until(lambda: page.page.locator("#ranks tbody tr").count() == 2)
    assert axe.run(page.page).response["violations"] == []


def test_colours_are_those_that_were_chosen(tab: Callable[..., Tab], serve: Callable[..., int]) -> None:
    page = tab(serve({}), color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    page.page.get_by_label("Colours").select_option("dark")
    assert page.page.evaluate(ground) == "rgb(20, 23, 26)"
    page.page.reload()
    assert page.page.evaluate(ground) == "rgb(20, 23, 26)"
    page.page.get_by_label("Colours").select_option("of the system")
    assert page.page.evaluate(ground) == "rgb(255, 255, 255)"
