"""The page on real programs: what happens is drawn in time, each button does what it says, links lead to traces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from localmesh.components import FAST, BookServer
from localmesh.ports import free_port
from tests.browser.conftest import IMAGES, NOT_A_NUMBER, Seen
from tests.browser.real_mesh import RealMesh, real_mesh

ROUNDS = 5
DRAWN_WITHIN = 1.5  # seconds after it is in the feed
EJECTED_WITHIN, BACK_WITHIN = 5.0, 10.0

# Notes when a message has arrived, and when an element with its key was drawn.
NOTES = """
window.fed = {};
window.drawn = {};
const Source = window.EventSource;
window.EventSource = class extends Source {
  constructor(url) {
    super(url);
    this.addEventListener("mark", ({ data }) => {
      const { t, kind, instance, text } = JSON.parse(data);
      window.fed[JSON.stringify([t, kind, instance, text])] = { kind, at: performance.now() };
    });
    this.addEventListener("call", ({ data }) => {
      const { t, trace, attempts } = JSON.parse(data);
      const kind = attempts.some(({ code }) => code !== "OK") ? "retry" : "call";
      window.fed[`${t} ${trace} ${attempts.length}`] = { kind, at: performance.now() };
    });
  }
};
new MutationObserver((changes) => {
  for (const { addedNodes } of changes) for (const node of addedNodes) {
    if (node.dataset?.key) window.drawn[node.dataset.key] ??= performance.now();
  }
}).observe(document, { childList: true, subtree: true });
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMesh]:
    with real_mesh(tmp_path_factory.mktemp("mesh")) as running:
        yield running


@pytest.fixture
def live(page: Page, mesh: RealMesh) -> Page:
    """The client's page, with three replicas that are ready."""
    page.add_init_script(NOTES)
    page.goto(mesh.page)
    expect(page.locator(".rows .row[data-state=ready]")).to_have_count(3)
    return page


def row(page: Page, address: str) -> Locator:
    return page.locator(f".rows .row[data-key='{address}']")


def press(page: Page, name: str, address: str | None = None) -> None:
    """Press a button; its answer is good, and its mark is among the events."""
    before = page.locator(f"#events .event.action:has-text('{name}:')").count()
    place = row(page, address) if address else page.locator("#actions")
    place.locator(f"button[data-action={name}]").click()
    expect(page.locator(".answers li").first).to_have_class("good", timeout=90_000)
    expect(page.locator(f"#events .event.action:has-text('{name}:')")).to_have_count(before + 1)


def delays(page: Page, kind: str) -> list[float]:
    """Seconds from a message's arrival to its drawing, of all of a kind; one that was not drawn is late for ever."""
    fed: dict[str, Any] = page.evaluate("window.fed")
    drawn: dict[str, float] = page.evaluate("window.drawn")
    return [(drawn.get(key, 1e9) - found["at"]) / 1000 for key, found in fed.items() if found["kind"] == kind]


def marked(page: Page, kind: str, address: str) -> list[float]:
    """The program's times of the marks of a kind, oldest first."""
    keys = [json.loads(key) for key in page.evaluate("Object.keys(window.fed).filter((key) => key[0] === '[')")]
    return sorted(t for t, its, instance, _ in keys if its == kind and instance == address)


def test_a_button_makes_a_replica_sick_nobody_notices_and_another_heals_it(
    live: Page, mesh: RealMesh, request: pytest.FixtureRequest
) -> None:
    for n in range(ROUNDS):
        sick = mesh.mesh.servers[n % 3].address
        told = {kind: live.locator(f"#events .event.{kind}[data-instance='{sick}']") for kind in ("ejected", "back")}
        before = {kind: events.count() for kind, events in told.items()}
        press(live, "sicken", sick)
        expect(told["ejected"]).to_have_count(before["ejected"] + 1)
        expect(row(live, sick)).to_have_attribute("data-state", "ejected")
        expect(row(live, sick).locator(".state")).to_contain_text(re.compile(r"back in \d+ s|its trial is due"))
        press(live, "heal", sick)
        expect(told["back"]).to_have_count(before["back"] + 1, timeout=60_000)
        pressed, ejected, healed, back = (
            marked(live, kind, sick)[at] for kind, at in (("action", -2), ("ejected", -1), ("action", -1), ("back", -1))
        )
        print(
            f"round {n + 1}: ejected {ejected - pressed:.2f} s after its button, back {back - healed:.2f} s after heal"
        )
        assert ejected - pressed < EJECTED_WITHIN
        assert back - healed < BACK_WITHIN
        expect(row(live, sick)).to_have_attribute("data-state", "ready", timeout=30_000)
    assert mesh.failed_calls() == []
    for kind in ("ejected", "back", "retry"):
        late = delays(live, kind)
        print(f"{kind}: {len(late)} drawn, the slowest after {max(late) * 1000:.0f} ms")
        assert len(late) >= ROUNDS
        assert max(late) < DRAWN_WITHIN
    if request.config.getoption("--screenshots"):
        live.set_viewport_size({"width": 1280, "height": 1020})
        for scheme in ("light", "dark"):
            live.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            live.wait_for_timeout(1500)
            live.evaluate("scrollTo(0, 0)")
            live.screenshot(path=IMAGES / f"page-{scheme}.png")


def test_a_change_in_etcd_is_drawn_at_once(live: Page, mesh: RealMesh) -> None:
    for _ in range(ROUNDS):
        press(live, "more")
        expect(live.locator(".rows .row[data-state=ready]")).to_have_count(4, timeout=30_000)
        press(live, "fewer")
        expect(live.locator(".rows .row[data-state=ready]")).to_have_count(3, timeout=30_000)
    for kind in ("came", "went"):
        late = delays(live, kind)
        print(f"{kind}: {len(late)} drawn, the slowest after {max(late) * 1000:.0f} ms")
        assert len(late) >= ROUNDS
        assert max(late) < DRAWN_WITHIN


@pytest.mark.parametrize("name", ["garble", "hang"])
def test_a_replica_that_answers_nothing_of_use_is_ejected(live: Page, mesh: RealMesh, name: str) -> None:
    bad = mesh.mesh.servers[0].address
    press(live, name, bad)
    expect(row(live, bad)).to_have_attribute("data-state", "ejected", timeout=60_000)
    press(live, "heal", bad)
    expect(row(live, bad)).to_have_attribute("data-state", "ready", timeout=60_000)


def test_a_slow_replica_is_seen_to_be_slow(live: Page, mesh: RealMesh) -> None:
    slow = mesh.mesh.servers[1].address
    live.get_by_label("Seconds that a slowed replica is late").fill("0.5")
    press(live, "slow", slow)
    # 500 ms and more, of its last 10 s.
    expect(row(live, slow).locator(".p99")).to_contain_text(re.compile(r"[5-9]\d\d ms|\d\.\d\d s"), timeout=30_000)
    press(live, "heal", slow)


def test_a_killed_replica_goes_and_another_can_come(live: Page, mesh: RealMesh) -> None:
    dead = mesh.mesh.servers[2].address
    press(live, "kill", dead)
    expect(row(live, dead)).not_to_have_attribute("data-state", "ready", timeout=30_000)
    expect(live.locator(f"#events .event.went[data-instance='{dead}']").first).to_be_visible(timeout=30_000)
    press(live, "more")
    expect(row(live, dead)).to_have_attribute("data-state", "ready", timeout=60_000)


def test_what_the_program_refuses_is_said(live: Page, mesh: RealMesh, seen: Seen) -> None:
    seen.expected = ("400",)
    live.get_by_label("Seconds that a slowed replica is late").fill("")
    row(live, mesh.mesh.servers[0].address).locator("button[data-action=slow]").click()
    expect(live.locator(".answers li").first).to_have_class("bad")
    expect(live.locator(".answers li").first).to_contain_text("seconds")


def test_each_link_leads_to_a_trace_that_zipkin_has(live: Page, mesh: RealMesh, seen: Seen) -> None:
    seen.expected = ("404",)  # a trace may be asked for before its spans are there
    expect(live.locator("a.trace").nth(20)).to_be_visible()
    links = sorted(set(live.evaluate("[...document.querySelectorAll('a.trace')].map((one) => one.href)")))
    for link in links:
        mesh.wait_trace(link.rpartition("/")[2])
    assert {link.rpartition("/")[0] for link in links} == {f"{mesh.mesh.zipkin.url}/zipkin/traces"}
    assert mesh.status(links[0]) == 200
    live.locator(".call .look").first.click()
    expect(live.locator("#waterfall .spans li")).to_have_count(5)
    assert re.findall(NOT_A_NUMBER, live.locator("body").inner_text()) == []


def test_etcds_outage_is_told(live: Page, mesh: RealMesh) -> None:
    tile = live.locator("#tiles .tile[data-key=etcd]")
    press(live, "etcd-stop")
    expect(tile).to_contain_text("away", timeout=30_000)
    expect(live.locator("#events .event.etcd-away").first).to_be_visible()
    press(live, "etcd-start")
    expect(tile).to_contain_text("there", timeout=60_000)
    expect(live.locator("#events .event.etcd-back").first).to_be_visible()
    expect(live.locator(".rows .row[data-state=ready]")).to_have_count(3, timeout=60_000)


def test_zipkins_outage_is_told(live: Page, mesh: RealMesh) -> None:
    tile = live.locator("#tiles .tile[data-key='Spans sent']")
    press(live, "zipkin-stop")
    expect(tile).to_contain_text("Zipkin away since", timeout=60_000)
    press(live, "zipkin-start")
    expect(tile).not_to_contain_text("Zipkin away since", timeout=60_000)
    expect(live.locator("#events .event.zipkin-back").first).to_be_visible()


def test_a_servers_own_page_says_that_it_is_registered(page: Page, mesh: RealMesh, chromium: Browser) -> None:
    address = f"127.0.0.1:{free_port()}"
    where: dict[str, Any] = {"etcd": mesh.mesh.etcd.address, "zipkin": mesh.mesh.zipkin.collector}
    server = BookServer(mesh.mesh.run_dir, *FAST, "--admin", address, **where)
    mesh.do(server.start_ready())
    try:
        page.goto(f"http://{address}/")
        expect(page.locator("#tiles .tile[data-key=Registered]")).to_contain_text("yes")
        expect(page.locator("#graph")).to_contain_text("book-server")
        assert re.findall(NOT_A_NUMBER, page.locator("body").inner_text()) == []
    finally:
        mesh.do(server.stop())
