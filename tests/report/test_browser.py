"""The page in a real browser: drawn, readable by pointer and keys, silent, offline."""

import io

import numpy as np
import pytest
from PIL import Image

from kd_heuristics import report
from tests.report import browser, folders

pytestmark = pytest.mark.skipif(
    browser.missing() is not None, reason=str(browser.missing())
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """`(address, arrays by study)`."""
    root = tmp_path_factory.mktemp("runs")
    arrays = folders.write(root, ["sgdr"])
    return report.write(root).as_uri(), arrays


@pytest.fixture(scope="module")
def driver(page):
    """A wide, light window in which the page is drawn."""
    with browser.chromium(1200, 900) as driver:
        load(driver, page[0])
        yield driver


def load(driver, address):
    """Loads the page and opens all that is folded."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(address)
    panels = driver.execute_script("""
        for (const one of document.querySelectorAll("details")) one.open = true;
        return document.querySelectorAll(".panel").length;
    """)
    drawn = "return Number(document.documentElement.dataset.drawn)"
    WebDriverWait(driver, 120).until(lambda d: d.execute_script(drawn) == panels)


def visible(driver, selector):
    """How many elements are shown."""
    found = driver.find_elements("css selector", selector)
    return sum(one.is_displayed() for one in found)


def test_folded_it_draws_nothing_and_one_opened_figure_alone(page):
    from selenium.webdriver.support.ui import WebDriverWait

    with browser.chromium(1200, 900) as driver:
        driver.get(page[0])
        drawn = "return document.documentElement.dataset.drawn"
        assert driver.execute_script("return typeof Plotly") == "undefined"
        assert visible(driver, "img") == 1  # the figure that shows the answer
        fold = driver.find_element("css selector", ".explore summary")
        fold.click()
        WebDriverWait(driver, 60).until(lambda d: d.execute_script(drawn) == "4")
        assert visible(driver, "img") == 0
        assert visible(driver, ".plot") == 4
        fold.click()
        assert visible(driver, "img") == 1
        button = driver.find_element("css selector", "nav button")
        button.click()
        stills = len(driver.find_elements("css selector", "img"))
        assert visible(driver, "img") == stills > 1
        assert driver.execute_script(drawn) == "4"


def test_the_contents_stay_in_reach(page):
    for width in (380, 1200):
        with browser.chromium(width, 700) as driver:
            driver.get(page[0])
            driver.execute_script("window.scrollTo(0, 600)")
            script = "return document.querySelector('nav a').getBoundingClientRect().y"
            assert 0 <= driver.execute_script(script) < 100


def test_on_a_phone_the_verdict_is_seen_without_scrolling_sideways(page):
    with browser.chromium(380, 800) as driver:
        driver.get(page[0])
        script = """
            return [...document.querySelectorAll(".badge, .stacked td")]
                .map((e) => e.getBoundingClientRect())
                .filter((box) => box.width && (box.left < 0 || box.right > 380)).length;
        """
        assert driver.execute_script(script) == 0
        assert visible(driver, ".stacked .badge") > 0


def test_stills_are_not_white_in_the_dark(page):
    with browser.chromium(1200, 900, dark=True) as driver:
        driver.get(page[0])
        still = driver.find_element("css selector", ".still")
        with Image.open(io.BytesIO(still.screenshot_as_png)) as image:
            pixels = np.asarray(image.convert("RGB"), float).reshape(-1, 3)
    assert np.median(pixels) < 64
    assert np.quantile(pixels.mean(1), 0.999) > 100  # what was black is light


def test_every_panel_is_drawn_without_a_complaint_or_a_request(driver):
    script = """
        const panels = [...document.querySelectorAll(".panel")];
        const empty = panels.filter((p) => !p.querySelector(".main-svg, canvas"));
        return [panels.length, Number(document.documentElement.dataset.drawn),
                empty.length, [...document.querySelectorAll("figure.with-live .still")]
                    .filter((i) => i.offsetParent !== null).length];
    """
    panels, drawn, empty, stills = driver.execute_script(script)
    assert panels == drawn == 24
    assert (empty, stills) == (0, 0)
    assert browser.complaints(driver) == []
    assert browser.requests(driver) == []


def cell(arrays, row, column):
    """A value of Figure 14, and what is said of it beside the noise floor."""
    value, floor = (
        arrays["sgdr"][f"maps/{name}"].mean(0)[row, column]
        for name in ("restart", "floor")
    )
    return value, ", not above the noise floor" if value <= floor else ""


def test_the_pointer_names_both_layers_and_the_value(driver, page):
    from selenium.webdriver import ActionChains

    plot = driver.find_element("css selector", "#sgdr-figure14 .heat .plot")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    grid = plot.find_element("css selector", ".nsewdrag")
    # Row 0 (on top), column 2 of 3 x 3 cells.
    side = grid.size["width"] / 3, grid.size["height"] / 3
    ActionChains(driver).move_to_element_with_offset(
        grid, round(side[0]), round(-side[1])
    ).perform()
    value, noise = cell(page[1], 0, 2)
    output = driver.find_element("css selector", "#sgdr-figure14 .readout")
    assert output.text == f"epoch 0: 00_conv, epoch 1: 02_fc: {value:.3f}{noise}"
    hover = plot.find_element("css selector", ".hovertext").text
    assert f"{value:.3f}" in hover
    assert "00_conv" in hover


def test_arrow_keys_read_the_cells(driver, page):
    from selenium.webdriver import Keys

    plot = driver.find_element("css selector", "#sgdr-figure14 .heat .plot")
    for key in (Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT):
        plot.send_keys(key)
    value, noise = cell(page[1], 1, 1)
    output = driver.find_element("css selector", "#sgdr-figure14 .readout")
    assert output.text == f"epoch 0: 01_relu, epoch 1: 01_relu: {value:.3f}{noise}"
    assert plot.get_attribute("aria-label").startswith(
        "(a) Over a restart: w0 against w1."
    )


def test_buttons_switch_the_surface_between_train_and_test(driver):
    buttons = driver.find_elements("css selector", "#sgdr-figure3 .switch button")
    assert [button.text for button in buttons] == ["train loss", "test loss"]
    driver.execute_script("arguments[0].click()", buttons[1])
    visible = driver.execute_script(
        "return document.querySelector('#sgdr-figure3 .plot').data.map(t => t.visible)"
    )
    assert visible == [False, False, True, True]
    assert buttons[1].get_attribute("aria-pressed") == "true"


def test_fits_a_phone_and_follows_its_theme(page):
    with browser.chromium(380, 800) as driver:
        load(driver, page[0])
        width = "return document.documentElement.scrollWidth"
        assert driver.execute_script(width) <= 380
        ground = "return getComputedStyle(document.body).backgroundColor"
        text = "return document.querySelector('.plot').layout.font.color"
        light = driver.execute_script(ground), driver.execute_script(text)
        browser.set_theme(driver, dark=True)
        dark = driver.execute_script(ground), driver.execute_script(text)
        assert light == ("rgb(255, 255, 255)", "#1c2024")
        assert dark == ("rgb(20, 23, 26)", "#e6e8ea")
        assert browser.complaints(driver) == []


def test_prints_still_images(driver):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    script = """
        const shown = (s) => [...document.querySelectorAll(s)]
            .filter((e) => e.offsetParent !== null).length;
        const images = document.querySelectorAll("img").length;
        return [shown(".plot"), shown(".still"), images];
    """
    plots, stills, images = driver.execute_script(script)
    assert plots == 0
    assert stills == images > 0


def test_without_scripts_the_still_images_are_there(page):
    with browser.chromium(1200, 900) as driver:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        driver.get(page[0])
        assert visible(driver, ".still") == 1
        assert visible(driver, ".explore") == 0
        for fold in driver.find_elements("css selector", "section > details > summary"):
            fold.click()
        stills = driver.find_elements("css selector", ".still")
        assert len(stills) > 1
        assert all(image.is_displayed() for image in stills)
