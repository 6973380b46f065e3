"""The page in a real Chromium, in front of the real gateway, fed over MQTT.

The page tells its state through the document: the list of robots carries what the map shows.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import JavascriptException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.process import GatewayProcess
from tests.services import need

FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
)
WAIT_S: Final = 20.0
FRAMES: Final = """
window.frames_ = 0;
const request = window.requestAnimationFrame;
window.requestAnimationFrame = (then) => { window.frames_ += 1; return request(then); };
"""
"""Counts the animation frames that the page asks for."""

T = TypeVar("T")


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def until(self, what: str, check: Callable[[], T]) -> T:
        """Return the first true result of ``check``."""
        wait = WebDriverWait(
            self.driver, WAIT_S, 0.05, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: check(), f"{what}; {self.text('body')}")

    def text(self, css: str) -> str:
        """Return what a reader sees there; nothing when it is hidden."""
        found: str | None = self.run(
            "const found = document.querySelector(arguments[0]);"
            "return found?.checkVisibility() ? found.innerText : null",
            css,
        )
        return found or ""

    def shows(self, css: str, words: str) -> None:
        self.until(f"{css} does not show {words!r}", lambda: words in self.text(css))

    def attribute(self, css: str, name: str) -> str | None:
        value: str | None = self.run(
            "return document.querySelector(arguments[0])?.getAttribute(arguments[1]) ?? null",
            css,
            name,
        )
        return value

    def is_at(self, robot: str, x: float, y: float) -> None:
        css = f"#robots [data-robot={robot}]"
        self.until(
            f"{robot} is not at {x}, {y}",
            lambda: (
                (self.attribute(css, "data-x"), self.attribute(css, "data-y"))
                == (f"{x:g}", f"{y:g}")
            ),
        )

    def painted(self, canvas: str) -> str:
        """Return the picture, empty when nothing is painted."""
        return str(
            self.run(
                "const canvas = document.getElementById(arguments[0]);"
                "const blank = document.createElement('canvas');"
                "[blank.width, blank.height] = [canvas.width, canvas.height];"
                "const [picture, nothing] = [canvas.toDataURL(), blank.toDataURL()];"
                "return picture === nothing ? '' : picture",
                canvas,
            )
        )

    def complaints(self) -> list[str]:
        """Return what the console got since the last call: errors, refusals by the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextmanager
def browsing(profile: Path, language: str) -> Iterator[Browser]:
    chromium, chromedriver = need("chromium"), need("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(chromedriver)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def english(tmp_path: Path) -> Iterator[Browser]:
    with browsing(tmp_path / "profile", "en-GB,en") as browser:
        yield browser


@pytest.fixture
def korean(tmp_path: Path) -> Iterator[Browser]:
    with browsing(tmp_path / "profile", "ko-KR,ko") as browser:
        yield browser


class Site:
    """The gateway and a device in front of it."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self._publisher = str(need("mosquitto_pub"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.http}/"

    def publish(self, kind: str, robot: str = "r1", **payload: Any) -> None:
        """Publish at QoS 1; returns when the gateway has acknowledged."""
        broker = ["-h", "127.0.0.1", "-p", str(self.gateway.mqtt), "-q", "1"]
        message = ["-t", f"smartair/v1/home/{robot}/{kind}", "-m", json.dumps(payload)]
        subprocess.run([self._publisher, *broker, *message], check=True, timeout=10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    directory = tmp_path / "site"
    directory.mkdir()
    with GatewayProcess(directory) as gateway:
        yield Site(gateway)


def test_a_published_robot_is_on_the_page(site: Site, english: Browser) -> None:
    english.driver.get(site.url)
    english.shows("#live", "Live")
    english.shows("#map-empty", "mosquitto_pub")
    english.shows("#health", "Ready")
    assert english.painted("map") == ""

    site.publish("pose", map="f1", x=1.5, y=-2.25, theta=0.5)
    english.is_at("r1", 1.5, -2.25)
    english.until("nothing is on the map", lambda: english.painted("map"))
    english.until("the hint stays", lambda: not english.text("#map-empty"))

    site.publish("pose", map="f1", x=2.5, y=-2.0, theta=0.7)
    english.is_at("r1", 2.5, -2)
    site.publish("state", state="cleaning", battery=81)
    english.shows("#robots [data-robot=r1]", "cleaning · 81 %")
    site.publish("sensor", pm25=35.4, pm10=12, co2=1612, tvoc=120, temp=22.4, rh=41)
    english.until(
        "no air values",
        lambda: english.attribute("#robots [data-pm25]", "data-pm25") == "35.4",
    )
    assert english.attribute("#robots [data-robot=r1]", "data-aqi") == "100"  # EPA 2024
    english.shows("#robots [data-robot=r1]", "Moderate")
    assert english.attribute("#robots .over [data-co2], #robots dd.over", "data-co2") == "1612"

    site.publish("event", code="STUCK", level="warning", room="kitchen")
    english.shows("#events [data-code=STUCK][data-tone=warn]", "STUCK · kitchen")
    english.run("document.querySelector('#by-kind').click()")  # the sums hold canaries as well
    row = "#hops [data-hop=mqtt][data-kind={}] td:nth-of-type(2)"
    kinds = ("pose", "state", "sensor", "event")
    english.until(
        "the ledger does not count",
        lambda: (
            [english.attribute(row.format(kind), "data-v") for kind in kinds]
            == ["2", "1", "1", "1"]
        ),
    )
    english.shows("#balance[data-tone=good]", "Every message accounted for")
    assert english.attribute("#balance", "data-unaccounted") == "0"
    english.shows("#online", "1 of 1")
    assert english.complaints() == []


def test_text_from_a_robot_is_text(site: Site, english: Browser) -> None:
    site.publish("event", code="BEFORE")
    site.publish("state", state="idle", battery=50)
    english.driver.get(site.url)
    english.shows("#events", "BEFORE")  # what happened before the page was opened
    site.publish("state", state="error", error="<img src=x onerror=alert(1)>")
    english.shows("#events", "<img src=x onerror=alert(1)>")
    assert english.driver.find_elements(By.TAG_NAME, "img") == []
    assert english.complaints() == []
    with pytest.raises(JavascriptException, match="TrustedHTML"):
        english.run("document.body.innerHTML = '<p>markup</p>'")
    english.run(
        "const s = document.createElement('style'); s.append('a{}'); document.body.append(s)"
    )
    english.until(
        "the policy lets foreign styles in",
        lambda: [text for text in english.complaints() if "style-src" in text],
    )


def test_both_languages(site: Site, korean: Browser) -> None:
    site.publish("pose", x=1, y=1)
    korean.driver.get(site.url)
    korean.shows("#live", "실시간")
    korean.shows("#t-robots", "로봇과 공기")
    korean.shows("#online", "로봇 1대 중 1대 온라인")
    korean.shows("#balance", "모든 메시지 확인됨")
    assert korean.run("return document.documentElement.lang") == "ko"
    shown = korean.text("body")
    assert "undefined" not in shown

    korean.driver.find_element(By.CSS_SELECTOR, "button[value=en]").click()
    korean.shows("#t-robots", "Robots and air")
    korean.shows("#balance", "Every message accounted for")
    korean.driver.refresh()
    korean.shows("#live", "Live")
    assert korean.run("return document.documentElement.lang") == "en"
    assert korean.complaints() == []


def test_the_page_comes_back_after_the_gateway_was_killed(site: Site, english: Browser) -> None:
    site.publish("pose", x=1, y=1)
    english.driver.get(site.url)
    english.is_at("r1", 1, 1)
    site.gateway.kill()
    english.shows("#live-word", "Reconnecting")
    site.gateway.start()
    english.shows("#live-word", "Live")
    site.publish("pose", x=3.5, y=1)
    english.is_at("r1", 3.5, 1)
    assert not [text for text in english.complaints() if "Content Security Policy" in text]


def differs(browser: Browser, picture: str) -> Callable[[], bool]:
    return lambda: browser.painted("grid") != picture


def test_the_map_by_keyboard_and_at_rest(site: Site, english: Browser) -> None:
    english.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FRAMES})
    site.publish("pose", "r1", map="f1", x=1, y=1)
    site.publish("pose", "r2", map="f2", x=9, y=9)
    english.driver.get(site.url)
    english.is_at("r2", 9, 9)
    english.until(
        "the maps cannot be chosen",
        lambda: (
            english.run("return [...document.querySelectorAll('#map-choice option')].length") == 2
        ),
    )

    def at_rest() -> bool:
        before = english.run("return window.frames_")
        english.driver.execute_async_script("setTimeout(arguments[0], 400)")
        return bool(before == english.run("return window.frames_"))

    english.until("the page keeps drawing though nothing moves", at_rest)
    for key in ("+", "-", Keys.ARROW_LEFT, "0"):
        picture = english.painted("grid")
        english.driver.find_element(By.ID, "map").send_keys(key)
        english.until(f"{key!r} does nothing", differs(english, picture))
        english.until("the page keeps drawing", at_rest)

    english.driver.find_element(By.CSS_SELECTOR, "[data-robot=r2] .name").click()
    css = "[data-robot=r2] .name"
    english.until("not followed", lambda: english.attribute(css, "aria-pressed") == "true")
    assert english.run("return document.getElementById('map-choice').value") == "f2"
    english.driver.find_element(By.ID, "map").send_keys(Keys.ESCAPE)
    english.until("still followed", lambda: english.attribute(css, "aria-pressed") == "false")
    assert english.complaints() == []


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_screen(site: Site, korean: Browser, width: int) -> None:
    site.publish("sensor", pm25=135.4, pm10=312, co2=11612, tvoc=10120, temp=-22.4, rh=100)
    korean.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    korean.driver.get(site.url)
    korean.shows("#robots", "11,612")
    korean.shows("#hops", "MQTT")
    for choice in ("en", "ko"):
        korean.driver.find_element(By.CSS_SELECTOR, f"button[value={choice}]").click()
        assert korean.run("return document.documentElement.scrollWidth - innerWidth") <= 0
