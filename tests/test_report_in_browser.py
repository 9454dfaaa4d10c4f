"""The report in a real browser: it draws, sorts, and its divider follows mouse and keys."""

import io

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.report import report_html
from tests import browser
from tests.test_report import CLASSES, PALETTE, measured, result_of

pytestmark = pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    scores = measured(size=(240, 400))
    text = report_html(scores, result_of(scores), class_names=CLASSES, palette=PALETTE)
    (folder / "report.html").write_text(text, encoding="utf-8")
    with browser.Browser(folder / "profile") as window:
        window.open(folder / "report.html")
        yield window


@pytest.fixture
def stack(page):
    """Left, top, width and height of the first picture in the window, scrolled to."""
    page.run("document.querySelector('.stack').scrollIntoView({block: 'center'})")
    return page.run(
        "const r = document.querySelector('.stack').getBoundingClientRect();"
        "return [r.left, r.top, r.width, r.height]"
    )


def divider(page):
    return float(page.run("return document.querySelector('.stack input').value"))


def seen(page, stack):
    """The first picture as it is on the screen, uint8 [h, w, 3]."""
    left, top, width, height = stack
    screen = Image.open(io.BytesIO(page.picture())).convert("RGB")
    return np.asarray(screen.crop((left, top, left + width, top + height)))


def choose(page, side, view):
    page.run(
        "const s = document.querySelector(`select[data-side=${arguments[0]}]`);"
        "s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        side,
        view,
    )


def test_it_loads_without_errors_and_without_a_network(page):
    assert page.run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.run("return document.querySelectorAll('.stack').length") == 6
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert page.console() == []
    assert page.requests() == []


def test_the_mouse_moves_the_divider(page, stack):
    left, top, width, height = stack
    middle = top + height / 2
    page.drag((left + width / 2, middle), (left + 0.25 * width, middle))
    assert divider(page) == pytest.approx(25, abs=3)
    page.drag((left + 0.25 * width, middle), (left + 0.8 * width, middle))
    assert divider(page) == pytest.approx(80, abs=3)


def test_keys_move_the_divider(page, stack):
    page.run("document.querySelector('.stack input').value = 50")
    page.run("document.querySelector('.stack input').focus()")
    page.press(*[browser.ARROW_RIGHT] * 3)
    assert divider(page) == 53
    assert "53 percent image, 47 percent prediction" in page.run(
        "return document.querySelector('.stack input').getAttribute('aria-valuetext')"
    )
    page.press(browser.TAB)  # to the next picture's
    assert page.run(
        "return document.activeElement === document.querySelectorAll('.stack input')[1]"
    )


def test_each_side_shows_the_chosen_view(page, stack):
    """Colours of the palette where labels are shown; red, laid over the image, where errors are."""
    red = lambda pixels: (pixels[..., 0] > 180) & (pixels[..., 1:].max(axis=-1) < 110)  # noqa: E731
    page.run(
        "const i = document.querySelector('.stack input');"
        "i.value = 50; i.dispatchEvent(new Event('input'))"
    )
    choose(page, "left", "truth")
    choose(page, "right", "error")
    picture = seen(page, stack)
    half = picture.shape[1] // 2
    left, right = picture[10:-40, 30 : half - 10], picture[10:-40, half + 10 : -10]
    colors = {tuple(color) for color in left[::4, ::4].reshape(-1, 3).tolist()}
    assert {PALETTE[0], PALETTE[1]} <= colors
    assert not red(left).any()
    assert 0.1 < red(right).mean() < 0.6
    pale = right[~red(right)]
    assert np.median(pale) > 110  # the image is nearly black, and pale where it is right
    choose(page, "left", "image")
    choose(page, "right", "image")
    whole = seen(page, stack)[10:-40, 10:-10]
    assert whole.max() < 60  # the image's own values are class ids; there is no divider
    choose(page, "right", "prediction")


def test_headings_sort_the_table(page):
    def column(index):
        return page.run(
            "return [...document.querySelector('#classes').tBodies[0].rows]"
            ".map(r => r.cells[arguments[0]].dataset.value)",
            index,
        )

    def click(index):
        page.run("document.querySelectorAll('#classes th button')[arguments[0]].click()", index)

    assert column(0) == list(CLASSES)
    click(1)
    highest_first = column(1)
    assert highest_first[-1] == ""  # no label: last
    assert list(map(float, highest_first[:2])) == sorted(
        map(float, highest_first[:2]), reverse=True
    )
    click(1)
    assert column(1) == [*highest_first[1::-1], ""]
    click(0)
    assert column(0) == sorted(CLASSES)
    assert page.run("return document.querySelector('#classes th').ariaSort") == "ascending"


def test_light_and_dark(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    assert page.run(background) == "rgb(255, 255, 255)"
    page.run("document.querySelector('#theme').click()")
    assert page.run(background) == "rgb(20, 23, 29)"
    page.run("document.querySelector('#theme').click()")
    assert page.run(background) == "rgb(255, 255, 255)"
    assert page.console() == []
