"""A headless Chromium for the tests of the page, or the reason why there is none."""

import contextlib
import json
import shutil
from collections.abc import Iterator

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def missing() -> str | None:
    """Why the browser cannot be driven here; None where it can."""
    if _program() is None or shutil.which("chromedriver") is None:
        return "no chromium with chromedriver: apt-get install chromium chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no selenium: pip install -e '.[browser]'"
    return None


@contextlib.contextmanager
def chromium(width: int, height: int, *, dark: bool = False) -> Iterator:
    """A browser window; its console and its network are recorded."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _program() or ""
    for word in (
        "--headless=new",
        "--no-sandbox",  # containers run as root
        "--disable-dev-shm-usage",
        "--enable-unsafe-swiftshader",  # WebGL without a GPU
        "--hide-scrollbars",
    ):
        options.add_argument(word)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        # Narrower than the least window that Chromium opens.
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        set_theme(driver, dark=dark)
        yield driver
    finally:
        driver.quit()


def set_theme(driver, *, dark: bool) -> None:
    """What the page is told that its reader prefers."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def complaints(driver) -> list[str]:
    """The errors of the console."""
    return [
        entry["message"]
        for entry in driver.get_log("browser")
        if entry["level"] == "SEVERE"
    ]


def requests(driver) -> list[str]:
    """The addresses that were asked for, but the page's own and inline data."""
    messages = (
        json.loads(e["message"])["message"] for e in driver.get_log("performance")
    )
    urls = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [u for u in urls if not u.startswith(("file:", "data:", "blob:", "chrome:"))]


def _program() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)
