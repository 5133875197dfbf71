"""The page in a real browser: light, dark, and as narrow as a phone."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tgscale.report.palette import THEMES
from tgscale.report.report import make_report

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = {"desktop": 1280, "phone": 360}
TOO_WIDE = """
return [...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect();
  return box.right > document.documentElement.clientWidth + 1 && !e.closest('.scroll, nav');
}).map(e => e.tagName + '.' + e.className);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that is driven through chromedriver; skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, of the dev extra, is not installed")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip(
            f"no {'chromium' if not program else 'chromedriver'} found: on Debian, apt-get install chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver, env=dict(os.environ)))
    yield started
    started.quit()


@pytest.fixture
def show(browser):
    """Opens a page at a width, in a theme."""

    def open_page(file: Path, width: int, theme: str) -> None:
        wished = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wished)
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(file.as_uri())

    return open_page


def requests_of(browser) -> set[str]:
    """Addresses that were asked for since this was last called."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {message["params"]["request"]["url"].partition("#")[0] for message in sent}


def color(text: str) -> str:
    """``#rrggbb`` as a browser says it."""
    return f"rgb({int(text[1:3], 16)}, {int(text[3:5], 16)}, {int(text[5:], 16)})"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_the_page_fits_follows_the_theme_and_asks_for_nothing(browser, show, runs, tmp_path, theme, device):
    file = tmp_path / "report.html"
    make_report(runs).save(file)
    requests_of(browser), browser.get_log("browser")
    show(file, WIDTHS[device], theme)
    assert browser.get_log("browser") == []
    assert requests_of(browser) <= {file.as_uri(), "data:,"}
    page = "document.documentElement"
    assert (
        browser.execute_script(f"return [{page}.scrollWidth, {page}.clientWidth]")
        == [browser.execute_script(f"return {page}.clientWidth")] * 2
    )
    assert browser.execute_script(TOO_WIDE) == []
    which = 2 if theme == "dark" else 1
    for name, element, style in (("page", "body", "backgroundColor"), ("paper", "section", "backgroundColor"),
                                 ("ink", "body", "color"), ("ink", "svg text", "fill")):  # fmt: skip
        found = browser.execute_script(f"return getComputedStyle(document.querySelector('{element}')).{style}")
        assert found == color(THEMES[name][which]), (element, style)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_and_are_large_enough_on_a_phone(browser, show, runs, tmp_path, theme):
    file = tmp_path / "report.html"
    make_report(runs).save(file)
    show(file, WIDTHS["phone"], theme)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('figure:not(.wide) svg text')]"
        ".map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a))"
    )
    assert smallest >= 8.4  # pixels of the page
    page, paper = (THEMES[name][2 if theme == "dark" else 1] for name in ("page", "paper"))
    for name in ("ink", "quiet"):
        for ground in (page, paper):
            assert contrast(THEMES[name][2 if theme == "dark" else 1], ground) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.1)."""
    light = []
    for text in (one, other):
        parts = [int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_lines_stand_out_from_the_paper_in_both_themes():
    for name, (_, light, dark) in THEMES.items():
        if name.startswith("c") and name[1:].isdigit():
            assert contrast(light, THEMES["paper"][1]) >= 3, name
            assert contrast(dark, THEMES["paper"][2]) >= 3, name
