"""Headless Chromium at a page: a thin hand on selenium, and what the tests ask of a page."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KEYS = {"Tab": "\ue004", "Enter": "\ue007", "ArrowDown": "\ue015", "ArrowUp": "\ue013"}
_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
_PATIENCE = 10.0  # seconds for what should be there at once, on a machine that is busy

CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text("utf-8")


class Browser:
    """One window, wide and light at first."""

    def __init__(self) -> None:
        """Skips the test where there is no Chromium."""
        selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        driver = shutil.which("chromedriver")
        if chromium is None or driver is None:
            pytest.skip("no chromium and chromedriver here; `make chromium` installs them")
        options = selenium.ChromeOptions()
        options.binary_location = chromium
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver: Any = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
        self.size(1280)

    def close(self) -> None:
        self.driver.quit()

    def size(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, page: Path, address: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{page.resolve().as_uri()}#{address}")
        self.wait(lambda: self.all("main"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def texts(self, selector: str) -> list[str]:
        """What each element says, visible or folded away, spaces joined."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return [" ".join(text.split()) for text in self.run(script, selector)]

    def text(self, selector: str) -> str:
        return " ".join(self.texts(selector))

    def wait(self, condition: Callable[[], Any]) -> Any:
        """The value of a condition as soon as it is true."""
        end = time.monotonic() + _PATIENCE
        while not (value := condition()):
            assert time.monotonic() < end, f"never so: {self.driver.current_url}"
            time.sleep(0.02)
        return value

    def wait_for(self, selector: str, text: str) -> None:
        self.wait(lambda: text in self.text(selector))

    def choose(self, field: str, option: str) -> None:
        """Pick an option of a select by its text."""
        for each in self.all(f"#{field} option"):
            if each.text == option:
                each.click()
                return
        raise AssertionError(f"{field} has no option {option}")

    def type(self, field: str, text: str) -> None:
        self.all(f"#{field}")[0].send_keys(text)

    def press(self, key: str) -> None:
        """A key at whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(KEYS.get(key, key))

    @property
    def focused(self) -> str:
        return str(self.run("return document.activeElement.textContent").strip())

    @property
    def address(self) -> str:
        return str(self.run("return decodeURIComponent(location.hash)"))

    def complaints(self) -> list[str]:
        """Errors of scripts and breaches of the policy, not files of clips that are gone."""
        logged = self.driver.get_log("browser")
        errors = [each["message"] for each in logged if each["level"] == "SEVERE"]  # no warnings
        return [each for each in errors if "ERR_FILE_NOT_FOUND" not in each]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        logged = [json.loads(each["message"]) for each in self.driver.get_log("performance")]
        events = [each["message"] for each in logged]
        sent = [each for each in events if each["method"] == "Network.requestWillBeSent"]
        return [str(each["params"]["request"]["url"]) for each in sent]

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.run("return document.documentElement.scrollWidth > innerWidth"))

    def poor_contrasts(self) -> list[str]:
        """Texts whose contrast falls short of WCAG's level AA."""
        return list(self.run(CONTRASTS))
