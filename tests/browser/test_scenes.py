"""The page on made-up states: how it reads from none to fifty replicas, without traffic, on a phone, by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import IMAGES, NOT_A_NUMBER, Seen
from tests.browser.fake_feed import HOSTILE, SCENES, FakeAdmin


def shown(page: Page, fake: FakeAdmin, scene: str) -> Page:
    page.goto(f"{fake.url}/{scene}/")
    expect(page.locator("#link")).to_contain_text("live")
    expect(page.locator("#charts canvas")).to_have_count(3)
    return page


def words(page: Page) -> str:
    """All text of the page, with what only a screen reader says."""
    said = page.evaluate(
        "() => document.body.innerText + [...document.querySelectorAll('[aria-label],title')]"
        ".map((one) => one.ariaLabel ?? one.textContent).join('\\n')"
    )
    return str(said)


@pytest.mark.parametrize("scene", SCENES)
def test_no_scene_reads_as_not_a_number_or_is_wider_than_the_window(page: Page, fake: FakeAdmin, scene: str) -> None:
    shown(page, fake, scene)
    assert re.findall(NOT_A_NUMBER, words(page)) == []
    page.set_viewport_size({"width": 360, "height": 780})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert re.findall(NOT_A_NUMBER, words(page)) == []


@pytest.mark.parametrize(("scene", "rows"), [("none", 0), ("one", 1), ("three", 3), ("fifty", 50)])
def test_each_replica_has_a_row_and_a_place_in_the_picture(page: Page, fake: FakeAdmin, scene: str, rows: int) -> None:
    shown(page, fake, scene)
    expect(page.locator("#replica-rows .row:not(.head)")).to_have_count(rows)
    expect(page.locator("#graph .node.replica")).to_have_count(rows)
    swatches = page.evaluate("[...document.querySelectorAll('.rows .address i')].map((one) => one.style.background)")
    assert len(set(swatches)) == rows


def test_fifty_replicas_have_their_buttons_behind_one_and_an_ejected_one_is_named(
    page: Page, fake: FakeAdmin, request: pytest.FixtureRequest
) -> None:
    shown(page, fake, "fifty")
    expect(page.get_by_role("button", name="Sicken")).to_have_count(0)
    sick = fake.scene("fifty").addresses[20]
    page.get_by_role("button", name=f"Break {sick}").click()
    page.get_by_role("button", name=f"Sicken {sick}").click()
    expect(page.locator("#graph .node.ejected")).to_contain_text(f"{sick} ejected")
    if request.config.getoption("--screenshots"):
        page.set_viewport_size({"width": 1280, "height": 1100})
        page.wait_for_timeout(3000)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=IMAGES / "page-50.png")


def test_without_a_replica_the_page_says_so(page: Page, fake: FakeAdmin) -> None:
    shown(page, fake, "none")
    expect(page.locator("#replica-rows")).to_contain_text("No replica is registered in etcd")
    expect(page.locator("#calls")).to_contain_text("No calls yet")


def test_a_page_without_buttons_says_why(page: Page, fake: FakeAdmin) -> None:
    shown(page, fake, "off")
    expect(page.locator("#actions")).to_contain_text("start book-client with --admin-actions")
    expect(page.locator("button[data-action]")).to_have_count(0)


def test_a_servers_page_has_its_limiter_and_registration_and_no_replicas(page: Page, fake: FakeAdmin) -> None:
    shown(page, fake, "server")
    expect(page.locator("#tiles")).to_contain_text("Registered")
    expect(page.locator("#tiles")).to_contain_text("Rate limiter")
    expect(page.locator("#replicas")).to_be_hidden()


def test_hostile_names_are_text(page: Page, fake: FakeAdmin, seen: Seen) -> None:
    seen.expected = ("404",)
    shown(page, fake, "hostile")
    page.locator(".call .look").first.click()
    expect(page.locator("#waterfall .spans li")).to_have_count(5)
    assert page.locator("img, main script").count() == 0
    assert page.title() == "book-client 10.244.2.7 · meshkit"
    expect(page.locator("#waterfall")).to_contain_text(HOSTILE)


def test_a_call_shows_its_spans_once_zipkin_has_them(page: Page, fake: FakeAdmin, seen: Seen) -> None:
    seen.expected = ("404",)  # asked for too early, twice
    shown(page, fake, "story")
    page.locator(".call .look").nth(3).click()
    expect(page.locator("#waterfall")).to_contain_text("Asking Zipkin")
    expect(page.locator("#waterfall .spans li")).to_have_count(5)
    expect(page.locator("#waterfall .spans")).to_contain_text("BookService/GetBookList")
    page.keyboard.press("Escape")
    expect(page.locator("#waterfall")).to_be_hidden()


def test_traces_link_to_zipkins_page(page: Page, fake: FakeAdmin) -> None:
    shown(page, fake, "story")
    links = page.evaluate("[...document.querySelectorAll('a.trace')].map((one) => one.href)")
    assert len(links) > 50
    assert [
        link for link in links if not re.fullmatch(re.escape(fake.url) + r"/zipkin/traces/[0-9a-f]{32}", link)
    ] == []


def test_buttons_work_by_keyboard_and_their_answer_is_shown(page: Page, fake: FakeAdmin) -> None:
    shown(page, fake, "three")
    address = fake.scene("three").addresses[0]
    button = page.get_by_role("button", name=f"Sicken {address}")
    button.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") in {"solid", "auto", "none"}
    page.keyboard.press("Enter")
    expect(page.locator(".answers li").first).to_contain_text(f"sicken {address}")
    expect(page.locator(f".row[data-key='{address}']")).to_have_attribute("data-state", "ejected")
    expect(page.locator(f".row[data-key='{address}'] .state")).to_contain_text(re.compile(r"back in \d+ s"))
    expect(page.locator("#events .event.ejected")).to_have_count(1)
    expect(button).to_be_focused()
    page.get_by_role("button", name=f"Heal {address}").click()
    expect(page.locator(f".row[data-key='{address}']")).to_have_attribute("data-state", "ready")


def test_the_page_is_live_again_by_itself_and_says_when_it_was_not(page: Page, fake: FakeAdmin, seen: Seen) -> None:
    seen.expected = ("404", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION")
    shown(page, fake, "three")
    fake.cut.set()
    try:
        expect(page.locator("#banner")).to_contain_text("book-client has not been heard since")
    finally:
        fake.cut.clear()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#link")).to_contain_text("live")


def test_colours_stay_after_a_reload(page: Page, fake: FakeAdmin) -> None:
    shown(page, fake, "fifty")
    script = (
        "[...document.querySelectorAll('.rows .address')]"
        ".map((one) => [one.innerText, one.firstChild.style.background])"
    )
    before = page.evaluate(script)
    page.reload()
    expect(page.locator("#replica-rows .row:not(.head)")).to_have_count(50)
    assert page.evaluate(script) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_keep_text_readable(chromium: Browser, fake: FakeAdmin, scheme: str) -> None:
    with chromium.new_context(color_scheme="dark" if scheme == "dark" else "light") as context:
        page = shown(context.new_page(), fake, "story")
        ratio = page.evaluate(CONTRAST)
    assert {name: value for name, value in ratio.items() if value < 4.5} == {}


# WCAG's contrast of the texts' colours with the panel.
CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = style.getPropertyValue(name);
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ratio = (one, other) => Math.max(light(one), light(other)) / Math.min(light(one), light(other));
  const found = {};
  for (const ink of ["--ink", "--quiet", "--good", "--warn", "--bad", "--accent"]) found[ink] = ratio(ink, "--panel");
  for (const tone of ["good", "warn", "bad", "accent"]) found[tone] = ratio(`--${tone}`, `--${tone}-back`);
  return found;
}"""
