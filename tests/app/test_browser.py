"""The app as a visitor uses it, in a real headless browser."""

from __future__ import annotations

import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow
PATIENCE = 120_000  # milliseconds: the machine may be busy


@pytest.fixture
def page(browser, address):
    """The page, open; nothing on it may fail to load, or come from elsewhere."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.get_by_role("button", name="Sample", exact=True).wait_for()
    yield page
    ours = urlsplit(address).netloc
    foreign = {url for url in asked if urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != ours}
    page.close()
    assert not foreign and not errors


def playing(page, count):
    """Wait until so many videos on the page play."""
    script = "n => { const v = [...document.querySelectorAll('.va-card video')].filter(x => x.offsetParent); "
    script += "return v.length === n && v.every(x => x.currentTime > 0 && !x.error) }"
    page.wait_for_function(script, arg=count)


def test_pick_a_class_press_and_a_video_plays(page):
    page.get_by_label("Class").click()
    page.get_by_role("option", name="breakout").click()
    page.get_by_role("button", name="Sample", exact=True).click()
    page.locator(".va-bar").first.wait_for()  # while it is made
    playing(page, 2)
    assert page.locator(".va-card figcaption b").all_inner_texts() == ["breakout · seed 0", "breakout · seed 1"]
    page.get_by_text("The same from a shell or from Python").click()
    assert "--label breakout --num 2 --seed 0" in page.locator(".cm-content").first.inner_text().replace("\n", " ")
    page.get_by_role("tab", name="Scale by scale").click()
    page.get_by_role("button", name="Show its scales").click()
    page.get_by_text("… + 8x12").wait_for()


def test_scales_before_a_sample_give_a_message(page):
    page.get_by_role("tab", name="Scale by scale").click()
    page.get_by_role("button", name="Show its scales").click()
    page.get_by_text("sample something first", exact=True).wait_for()


def test_reconstruct_a_clip_and_refuse_a_bad_one(page, clip_file, tmp_path):
    page.get_by_role("tab", name="Reconstruct").click()
    upload = page.locator("#clip input[type=file]")
    bad = tmp_path / "broken.mp4"
    bad.write_bytes(b"this is no video")
    upload.set_input_files(bad)
    page.get_by_text("broken").first.wait_for()
    page.get_by_role("button", name="Reconstruct").click()
    message = page.locator(".toast-body").first
    message.wait_for()
    assert "broken.mp4" in message.inner_text() and "/tmp" not in message.inner_text()
    page.locator("#clip").get_by_label("Clear").first.click()
    page.locator("#clip input[type=file]").set_input_files(clip_file)
    page.get_by_text("my clip").first.wait_for()
    page.get_by_role("button", name="Reconstruct").click()
    playing(page, 2)
    assert "dB PSNR" in page.locator(".va-card figcaption b").last.inner_text()


def test_the_guidance_curve_follows_the_choice(page):
    before = page.locator(".va-curve").inner_html()
    page.get_by_label("Guidance", exact=True).click()
    page.get_by_role("option", name="none").click()
    page.wait_for_function("old => document.querySelector('.va-curve').innerHTML !== old", arg=before)
    assert page.locator(".va-curve rect title").first.text_content().endswith("γ = 1.00")


@pytest.mark.parametrize("path", ["/etc/hostname", "pyproject.toml", "{model}/generator/config.json"])
def test_no_file_of_the_server_is_given_out(address, model, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}gradio_api/file={path.format(model=model)}")
    assert refused.value.code in (403, 404)
