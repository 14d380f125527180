"""Discovery: files, services and names as sources of targets, and what stays known while one fails."""

from __future__ import annotations

import gc
import json
import socket
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from faults import then_close
from fleets import dead, names
from servers import Server, answer, eventually, serving, silence

import sglang_collect as sc
from sglang_collect.discovery import Discovery, DnsSD, FileSD, HttpSD, targets_of

SOON = 0.03  # seconds from one look to the next


def group(*addresses: str, **labels: str) -> dict[str, Any]:
    return {"targets": list(addresses), "labels": labels}


def write(path: Path, *groups: object) -> Path:
    """Writes the groups the way careful programs do, so that nobody sees half of them."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(groups))
    beside.replace(path)
    return path


def known(fleet: sc.Fleet) -> list[str]:
    return [target.instance_id for target in fleet.targets]


def json_answer(*groups: object) -> bytes:
    return answer(json.dumps(groups), content_type="application/json")


class Listed(Discovery):
    """A source that says what the test put there, or fails with it."""

    def __init__(self, *found: sc.Target) -> None:
        super().__init__(SOON)
        self.found: list[sc.Target] | Exception = list(found)
        self.looks = 0

    def __str__(self) -> str:
        return "the list"

    def find(self) -> list[sc.Target]:
        self.looks += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


# --------------------------------------------------------------------- groups


def test_a_group_gives_a_server_for_each_target() -> None:
    found = targets_of([group("a:1", "[::1]:2", zone="x", __meta_job="j"), {"targets": ["b:3"]}])
    assert found == [
        sc.Target("a:1", "http://a:1/metrics", {"zone": "x"}),
        sc.Target("[::1]:2", "http://[::1]:2/metrics", {"zone": "x"}),
        sc.Target("b:3", "http://b:3/metrics"),
    ]


def test_labels_say_scheme_path_and_name() -> None:
    labels = {"__scheme__": "https", "__metrics_path__": "/engine_metrics", "instance": "big"}
    assert targets_of([{"targets": ["a:1", "b:1"], "labels": labels}]) == [
        sc.Target("big", ["https://a:1/engine_metrics", "https://b:1/engine_metrics"], {"instance": "big"})
    ]
    assert targets_of([{"targets": [], "labels": {"instance": "big"}}]) == []


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({}, "a list of groups"),
        (None, "a list of groups"),
        ([1], "group 1: expected an object"),
        ([group("a:1"), {"labels": {}}], "group 2: targets is a list of texts"),
        ([{"targets": "a:1"}], "targets is a list of texts"),
        ([{"targets": [1]}], "targets is a list of texts"),
        ([{"targets": [""]}], "targets is a list of texts"),
        ([{"targets": ["a:1"], "labels": {"zone": 1}}], "labels has texts only"),
        ([{"targets": ["a:1"], "labels": ["zone"]}], "labels has texts only"),
    ],
)
def test_groups_that_are_none_are_refused_as_a_whole(groups: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        targets_of(groups)


# ---------------------------------------------------------------------- files


def test_a_json_file_is_read_again_when_it_changes(tmp_path: Path, server: Server) -> None:
    path = write(tmp_path / "t.json", group(f"127.0.0.1:{server.port}", __metrics_path__="/1"))
    with sc.Fleet(discovery=[FileSD(path, refresh=SOON)]) as fleet:
        assert known(fleet) == [f"127.0.0.1:{server.port}"]
        assert all(result.up for result in fleet.scrape())
        write(path, group(f"127.0.0.1:{server.port}", f"localhost:{server.port}", __metrics_path__="/1"))
        assert eventually(lambda: len(fleet.targets) == 2)
        assert names(fleet.scrape()) == [f"127.0.0.1:{server.port}", f"localhost:{server.port}"]
        write(path)
        assert eventually(lambda: fleet.targets == ())


def test_a_file_that_is_as_before_is_not_read_again(tmp_path: Path) -> None:
    source = FileSD(write(tmp_path / "t.json", group("a:1")))
    assert source.find()[0] is source.find()[0]
    write(tmp_path / "t.json", group("a:1"))
    assert source.find() == source.find() == targets_of([group("a:1")])


@pytest.mark.parametrize("suffix", ["yml", "yaml"])
def test_a_yaml_file_has_the_same_groups(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_text("- targets: ['a:1', 'b:2']\n  labels:\n    zone: x\n")
    assert FileSD(path).find() == targets_of([group("a:1", "b:2", zone="x")])


def test_yaml_values_are_texts_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "t.yml"
    path.write_text(
        "- &one {targets: [a:1], labels: &all {tp: 3, release: 1.10, on: yes, since: 2026-11-24}}\n"
        "- {targets: [b:1], labels: {<<: *all, tp: 0x4}}\n"
        "- {targets: [c:1], labels: }\n"
    )
    shown = {"tp": "3", "release": "1.10", "on": "yes", "since": "2026-11-24"}
    assert [target.labels for target in FileSD(path).find()] == [shown, {**shown, "tp": "0x4"}, {}]


def test_without_pyyaml_a_yaml_file_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ModuleNotFoundError):
        FileSD("t.yml")
    FileSD("t.json")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", b'[{"targets": ["a:1"'),
        ("t.json", b'{"targets": ["a:1"]}'),
        ("t.json", b"\xff\xfe"),
        ("t.yml", b"- targets: ['a:1"),
        ("t.yml", b"just words"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_keeps_its_targets(
    tmp_path: Path, name: str, text: bytes, log: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / name, group("a:1", "b:2"))
    source = FileSD(path)
    before = source.look()
    path.write_bytes(text)
    with pytest.raises(ValueError, match=name) as caught:
        source.find()
    assert "\n" not in str(caught.value)
    assert source.look() == source.look() == before
    path.unlink()
    assert source.look() == before
    assert len(log.records) == 1
    assert "2 known targets stay" in log.messages[0]
    write(path, group("c:3"))
    assert [target.instance_id for target in source.look()] == ["c:3"]


def test_a_pattern_is_all_files_that_are_there(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    source = FileSD(tmp_path / "*.json")
    assert source.look() == []
    write(tmp_path / "b.json", group("b:1"))
    write(tmp_path / "a.json", group("a:1"))
    (tmp_path / "c.txt").write_text("nothing")
    assert [target.instance_id for target in source.look()] == ["a:1", "b:1"]
    (tmp_path / "a.json").write_text("broken")
    (tmp_path / "b.json").unlink()
    assert [target.instance_id for target in source.look()] == ["a:1"]
    (tmp_path / "a.json").unlink()
    assert source.look() == []
    assert [str(tmp_path / "a.json") in message for message in log.messages] == [True]


# -------------------------------------------------------------------- services


def test_a_service_answers_with_groups(server: Server) -> None:
    with serving(json_answer(group(f"127.0.0.1:{server.port}", __metrics_path__="/1"))) as service:
        source = HttpSD(service.url, refresh=SOON, bearer_token="t0ken", headers={"X-Team": "blue"})
        with sc.Fleet(discovery=[source]) as fleet:
            assert all(result.up for result in fleet.scrape())
            service.reply = json_answer()
            assert eventually(lambda: fleet.targets == ())
    headers = service.requests[0].headers
    assert (headers["authorization"], headers["x-team"]) == ("Bearer t0ken", "blue")
    assert headers["accept"] == "application/json"
    assert headers["user-agent"].startswith("sglang-collect/")


@pytest.mark.parametrize(
    "reply",
    [
        answer("", status="500 Oops"),
        answer("<html>", content_type="text/html"),
        answer("[", content_type="application/json"),
        answer("{}", content_type="application/json"),
        then_close(answer(json.dumps([group("b:2")]), headers={"Content-Length": "1000"})),
        silence,
    ],
)
def test_a_service_that_fails_leaves_the_old_targets(reply: Any, log: pytest.LogCaptureFixture) -> None:
    with serving(json_answer(group("a:1"))) as service:
        source = HttpSD(f"{service.url}?token=secret", timeout=1.0 if reply is silence else 60)
        before = source.look()
        service.reply = reply
        with pytest.raises((sc.SGLangCollectError, ValueError)):
            source.find()
        assert source.look() == source.look() == before
        service.reply = json_answer(group("c:3"))
        assert [target.instance_id for target in source.look()] == ["c:3"]
    assert len(log.records) == 1
    assert service.url in log.text
    assert "secret" not in log.text


def test_a_service_that_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(sc.TargetRefused):
        HttpSD("ftp://127.0.0.1/")


# ----------------------------------------------------------------------- names


def test_every_address_of_a_name_is_a_target() -> None:
    asked: list[tuple[str, int]] = []

    def resolve(name: str, port: int) -> Iterable[str]:
        asked.append((name, port))
        return ["10.0.0.2", "10.0.0.1", "10.0.0.2", "fd00::1"]

    source = DnsSD("sglang.svc", 30001, scheme="https", path="/m", resolve=resolve)
    assert source.find() == [
        sc.Target("10.0.0.1:30001", "https://10.0.0.1:30001/m", {"name": "sglang.svc"}),
        sc.Target("10.0.0.2:30001", "https://10.0.0.2:30001/m", {"name": "sglang.svc"}),
        sc.Target("[fd00::1]:30001", "https://[fd00::1]:30001/m", {"name": "sglang.svc"}),
    ]
    assert asked == [("sglang.svc", 30001)]


def test_addresses_come_and_go_as_the_name_is_looked_up_again(server: Server) -> None:
    addresses = ["127.0.0.1", "127.0.0.2"]
    source = DnsSD("any", server.port, path="/5", refresh=SOON, resolve=lambda name, port: addresses)
    with sc.Fleet(discovery=[source]) as fleet:
        assert known(fleet) == [f"127.0.0.1:{server.port}", f"127.0.0.2:{server.port}"]
        first = fleet.scrape()[0]
        assert first.up
        addresses[1:] = ["127.0.0.3"]
        assert eventually(lambda: known(fleet)[1:] == [f"127.0.0.3:{server.port}"])
        assert fleet.latest[first.target.instance_id] is first  # a target that stays keeps what is known


def test_a_name_that_has_no_address_any_more_keeps_those_it_had(log: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [["10.0.0.1"], [], socket.gaierror(-2, "Name or service not known")]

    def resolve(name: str, port: int) -> Iterable[str]:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    source = DnsSD("sglang.svc", resolve=resolve)
    before = source.look()
    assert source.look() == source.look() == before
    assert log.messages == ["sglang.svc:30000: the name has no address; its 1 known targets stay"]


@pytest.mark.parametrize(
    "given", [{"name": ""}, {"port": 70000}, {"scheme": "ftp"}, {"path": "/a b"}, {"refresh": 0}]
)
def test_a_name_that_could_never_be_asked_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises((ValueError, sc.TargetRefused)):
        DnsSD(**{"name": "sglang.svc", **given})


def test_the_systems_resolver_is_asked_where_no_other_is_given() -> None:
    assert [target.endpoint for target in DnsSD("127.0.0.1", 1).find()] == ["http://127.0.0.1:1/metrics"]


# -------------------------------------------------------------- within a fleet


@pytest.mark.parametrize("refresh", [0, -1, float("nan"), 100_000])
def test_a_pause_out_of_range_is_refused(refresh: float) -> None:
    with pytest.raises(ValueError, match="refresh"):
        FileSD("t.json", refresh=refresh)


def test_sources_and_the_programs_own_targets_are_one_fleet(server: Server) -> None:
    own = sc.Target("own", f"{server.url}/1")
    one, two = Listed(sc.Target("one", f"{server.url}/2")), Listed(sc.Target("two", f"{server.url}/3"))
    with sc.Fleet([own], discovery=[one, two]) as fleet:
        assert known(fleet) == ["own", "one", "two"]
        one.found = []
        assert eventually(lambda: known(fleet) == ["own", "two"])
        one.found = RuntimeError("away")
        two.found = [sc.Target("new", f"{server.url}/4")]
        assert eventually(lambda: known(fleet) == ["own", "new"])
        fleet.remove("new")
        looks = two.looks
        assert eventually(lambda: two.looks > looks + 1)
        assert known(fleet) == ["own"]
        two.found = [sc.Target("newer", f"{server.url}/4")]
        assert eventually(lambda: known(fleet) == ["own", "newer"])


def test_a_target_that_is_found_with_another_endpoint_is_another(server: Server) -> None:
    source = Listed(sc.Target("x", dead()))
    with sc.Fleet(discovery=[source]) as fleet:
        assert not fleet.scrape()[0].up
        source.found = [sc.Target("x", f"{server.url}/1")]
        assert eventually(lambda: fleet.targets == tuple(source.found))  # type: ignore[arg-type]
        (result,) = fleet.scrape()
        assert result.up
        assert fleet.failures == {"x": {}}


def test_what_cannot_be_a_target_is_left_out_and_logged_once(
    server: Server, log: pytest.LogCaptureFixture
) -> None:
    good = sc.Target("good", f"{server.url}/1")
    source = Listed(
        *(good, sc.Target("good", f"{server.url}/2")),
        *(sc.Target("own", f"{server.url}/3"), sc.Target("bad", "ftp://127.0.0.1/")),
    )
    with sc.Fleet([sc.Target("own", f"{server.url}/4")], discovery=[source]) as fleet:
        assert known(fleet) == ["own", "good"]
        assert eventually(lambda: source.looks > 3)
        assert fleet.targets[1] == good
    assert len(log.records) == 3
    assert "called 'good': the first stands" in log.messages[0]
    assert "'own' that was found is left out: two targets" in log.messages[1]
    assert "'bad' that was found is left out" in log.messages[2]


async def test_an_async_fleet_looks_without_blocking_the_loop(tmp_path: Path, server: Server) -> None:
    path = write(tmp_path / "t.json", group(f"127.0.0.1:{server.port}", __metrics_path__="/1"))
    async with sc.Fleet(discovery=[FileSD(path, refresh=SOON)]) as fleet:
        async for results in fleet.watch(0.05):
            if "x" in names(results):
                break
            write(path, group(f"127.0.0.1:{server.port}", __metrics_path__="/1", instance="x"))
        assert known(fleet) == ["x"]


def test_a_source_that_hangs_holds_up_neither_the_fleet_nor_its_end(server: Server) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    class Hanging(Listed):
        def find(self) -> list[sc.Target]:
            if self.looks:
                hangs.set()
                goes_on.wait(60)
            return super().find()

    with sc.Fleet(discovery=[Hanging(sc.Target("x", f"{server.url}/1"))]) as fleet:
        assert hangs.wait(60)
        assert all(result.up for result in fleet.scrape())
        threading.Timer(0.2, goes_on.set).start()


def discovering() -> int:
    return sum(thread.name == "sglang_collect discovery" for thread in threading.enumerate())


def test_the_thread_ends_with_the_fleet_however_that_ends() -> None:
    assert eventually(lambda: discovering() == 0)  # of other tests
    with sc.Fleet(discovery=[Listed()]):
        assert discovering() == 1
    assert eventually(lambda: discovering() == 0)
    fleet = sc.Fleet(discovery=[Listed()]).__enter__()
    assert discovering() == 1
    del fleet
    gc.collect()
    assert eventually(lambda: discovering() == 0)


def test_a_source_is_a_discovery() -> None:
    sources: Any = ["targets.json"]
    with (
        pytest.raises(TypeError, match="expected a Discovery, such as FileSD, not str"),
        sc.Fleet(discovery=sources),
    ):
        pass


def test_a_fleet_that_is_closed_unentered_has_no_thread() -> None:
    before = discovering()
    sc.Fleet(discovery=[Listed()]).close()
    assert discovering() <= before
