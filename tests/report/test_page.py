"""The page in headless Chromium: what a reader can do with it."""

from dataclasses import replace

import pytest

from ovmer.baselines.errors import Status
from ovmer.runners.folder.records import Prediction
from ovmer.runners.report.boards import make_boards
from ovmer.runners.report.page import write_page
from ovmer.runners.report.runs import collect
from tests.report.browser import Browser
from tests.report.folders import said, write_run
from tests.runners.conftest import write_tables


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def without_complaints(browser):
    yield
    assert browser.complaints() == []
    browser.size(1280)
    browser.prefer("light")


def baselines(browser) -> list[str]:
    return browser.texts(".table-responsive[aria-label=Figures] tbody th .fw-semibold")


def clips(browser) -> list[str]:
    return browser.texts(".clip-link .fw-semibold")


def at_gallery(browser, page, address=""):
    browser.open(page, f"view=gallery&{address}")
    browser.wait_for("#found", "clip")


def test_the_leaderboard_ranks_and_compares(browser, page):
    browser.open(page)
    assert baselines(browser) == ["ground_truth", "lexicon", "talker", "half"]
    rows = browser.texts(".table-responsive[aria-label=Figures] tbody tr")
    assert "100.0" in rows[0]
    assert "upper bound" in rows[0]
    assert "not finished: 9 of 10 clips are missing" in rows[3]
    assert "9 not done" in rows[3]
    assert "best" in rows[1]
    assert "4 ok6 empty" in rows[1]
    assert "no clear difference" in rows[2]
    assert "p = 0." in rows[2]
    assert "1 unreadable" in rows[2]
    notes = browser.text("[role=note]")
    assert "not comparable with papers" in notes
    assert "Not finished: 9 of 10 clips are missing (half)" in notes
    assert "Made 20" in browser.text("footer")


def test_columns_sort_both_ways_and_say_so(browser, page):
    browser.open(page)
    header = "th[aria-sort]"
    browser.all("th .btn-sort")[0].click()
    browser.wait(lambda: baselines(browser) == ["ground_truth", "half", "lexicon", "talker"])
    assert browser.all(header)[0].get_attribute("aria-sort") == "ascending"
    browser.all("th .btn-sort")[0].click()
    browser.wait(lambda: baselines(browser)[0] == "talker")
    assert browser.all(header)[0].get_attribute("aria-sort") == "descending"
    assert "sort=-name" in browser.address


def test_runs_scored_otherwise_are_kept_apart(browser, page):
    browser.open(page)
    names = browser.texts("#board option")
    assert len(names) == 2
    browser.choose("board", names[1])
    browser.wait(lambda: baselines(browser) == ["other_rule"])
    assert "parser friendly" in browser.text("main")
    assert "kept apart" in browser.text("label[for=board]")


def test_figures_are_drawn_and_described_for_screen_readers(browser, page):
    browser.open(page)
    browser.wait(lambda: len(browser.all("svg[role=img]")) == 3)
    labels = [each.get_attribute("aria-label") for each in browser.all("svg")]
    assert "lexicon 29.3" in labels[0]
    assert "ground_truth" not in labels[0]
    assert "Precision against recall" in labels[1]
    assert "surprised" in labels[2]
    browser.choose("figure", "wheel 2, level 1")
    browser.wait_for("section[aria-label='Precision against recall'] h3", "wheel 2, level 1")
    browser.choose("wheel", "wheel 3, level 2")
    browser.wait_for("#measured", "Wheel 3, level 2")
    assert browser.texts(".clusters tbody th")


def test_a_clip_shows_all_that_there_is(browser, page):
    at_gallery(browser, page, "clip=good_news")
    browser.wait_for("article", "She is happy")
    assert browser.all("video")[0].get_attribute("src").endswith("good_news.mp4")
    browser.wait(lambda: browser.run("return document.querySelector('video').duration > 1"))
    assert browser.all("audio")[0].get_attribute("src").endswith("good_news.wav")
    talker = "section[aria-label=talker]"
    assert browser.texts(f"{talker} .chip-matched") == ["✓ happy (matched)"]
    assert browser.texts(f"{talker} .chip-surplus, {talker} .chip-outside")
    assert "12 tokens" in browser.text(talker)
    thinking = browser.all(f"{talker} details")[0]
    assert thinking.get_attribute("open") is None
    assert "A smile, so joy." in thinking.get_attribute("textContent")
    assert "not done" not in browser.text("section[aria-label=half]")


def test_markup_from_a_model_is_text(browser, page):
    at_gallery(browser, page, "clip=good_news")
    browser.wait_for("article", "<script>window.hacked = 1</script><img src=x")
    assert browser.run("return window.hacked") is None
    at_gallery(browser, page, "clip=late_night")
    browser.wait_for("section[aria-label=talker]", "<b>no</b> video stream")
    assert "unreadable" in browser.text("section[aria-label=talker] .badge")


def test_a_megabyte_is_shown_when_asked_for(browser, page):
    at_gallery(browser, page, "clip=broken_promise")
    browser.wait_for("section[aria-label=talker]", "Show all 1,080,000 characters")
    assert len(browser.text("section[aria-label=talker]")) < 5000
    browser.run("document.querySelector('section[aria-label=talker] button').click()")
    browser.wait(lambda: len(browser.text("section[aria-label=talker]")) > 1_000_000)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("q=伤心", ["farewell"]),
        ("q=ONERROR", ["good_news"]),
        ("q=so happy", ["good_news"]),
        ("q=no such words", []),
        ("label=lonely", ["farewell"]),
        ("status=unreadable", ["late_night"]),
        ("status=failed", ["late_night"]),
        ("q=surprised&row=1", []),
    ],
)
def test_filters_are_in_the_address(browser, page, address, found):
    at_gallery(browser, page, address)
    browser.wait_for("#found", f"{len(found)} of 10 clips")
    assert clips(browser) == found


def test_filters_answer_as_one_types(browser, page):
    at_gallery(browser, page)
    assert len(clips(browser)) == 10
    browser.type("q", "looks surprised")
    browser.wait(lambda: len(clips(browser)) == 6)
    assert "q=looks+surprised" in browser.address
    browser.choose("status", "empty")
    assert len(clips(browser)) == 6
    browser.choose("by", "talker")
    browser.wait_for("#found", "0 of 10 clips")


def test_worst_and_best_and_most_disputed_clips_come_first(browser, page):
    at_gallery(browser, page, "row=2&sort=best")
    assert clips(browser)[0] in ("farewell", "good_news", "late_night", "broken_promise")
    browser.choose("order", "worst first")
    browser.wait(lambda: clips(browser)[0] not in ("farewell", "good_news"))
    scores = [int(each.split()[-2]) for each in browser.texts(".clip-link .small")]
    assert scores == sorted(scores)
    browser.choose("order", "most disagreement first")
    browser.choose("disagree", "at least 75 %")
    browser.wait(lambda: 0 <= len(clips(browser)) < 10)


def test_labels_are_matched_under_the_chosen_wheel(browser, page):
    at_gallery(browser, page, "clip=farewell")
    browser.wait_for("article", "伤心")
    marks = browser.texts("section[aria-label=lexicon] .chip")
    browser.choose("mapping", "word form")
    browser.wait(lambda: browser.texts("section[aria-label=lexicon] .chip") != marks)
    assert "− sad (missed)" in browser.texts("section[aria-label=lexicon] .chip")
    assert browser.all("section[aria-label=talker] .words")[0].get_attribute("lang") == "zh"


def test_two_runs_are_compared_clip_by_clip(browser, page):
    browser.open(page, "view=compare")
    browser.wait_for("section[aria-label='Paired test']", "No clear difference in M-avg")
    assert "lexicon less talker: +" in browser.text("section[aria-label='Paired test']")
    told = browser.texts("main article h3 .ms-auto")
    sizes = [0 if each == "level" else int(each.split()[-2]) for each in told]
    assert sizes == sorted(sizes, reverse=True)
    assert told[0].startswith("second ahead by ")
    assert told[1].startswith("first ahead by ")
    browser.choose("b", "ground_truth")
    browser.wait_for("main", "No test of ground_truth (upper bound).")
    browser.choose("b", "lexicon")
    browser.wait_for("main", "Choose two different runs")
    browser.choose("b", "half")
    browser.wait_for("main", "No test of half (not finished)")


def test_the_keyboard_goes_everywhere(browser, page):
    browser.open(page)
    browser.press("Tab")
    assert browser.focused.startswith("Skip")
    browser.press("Enter")
    browser.wait(lambda: browser.run("return document.activeElement.id") == "main")
    for _ in range(8):
        browser.press("Tab")
        if browser.run("return document.activeElement.className") == "btn-sort":
            break
    browser.press("Enter")
    browser.wait(lambda: "sort=name" in browser.address)
    at_gallery(browser, page)
    browser.run("document.querySelector('.clip-link').focus()")
    browser.press("ArrowDown")
    assert "broken_promise" in browser.focused
    browser.press("ArrowUp")
    browser.press("Enter")
    browser.wait(lambda: browser.focused == "good_news")
    assert "clip=good_news" in browser.address
    assert browser.driver.title == "good_news – Gallery – Emotion recognition report"


VIEWS = ("view=board", "view=gallery&clip=good_news&q=happy", "view=compare")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_can_be_read(browser, page, width, scheme):
    browser.size(width)
    browser.prefer(scheme)
    for view in VIEWS:
        browser.open(page, view)
        browser.wait(lambda: "…" not in browser.texts("main .card p"))
        browser.run("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        theme = browser.run("return document.documentElement.dataset.bsTheme")
        assert theme == scheme
        assert browser.poor_contrasts() == []
        assert not browser.overflows()


def test_filters_are_folded_away_on_a_phone(browser, page):
    browser.size(390)
    at_gallery(browser, page)
    assert not browser.all("#status")[0].is_displayed()
    browser.all("#more")[0].click()
    browser.wait(lambda: browser.all("#status")[0].is_displayed())
    assert browser.all("#more")[0].get_attribute("aria-expanded") == "true"
    browser.size(1280)
    assert not browser.all("#more")[0].is_displayed()


def test_the_best_figure_is_in_sight_on_a_phone(browser, page):
    browser.size(390)
    browser.open(page)
    figure = browser.all(".table-responsive[aria-label=Figures] tbody td:nth-child(3)")[0]
    assert figure.rect["x"] + figure.rect["width"] <= 390


def test_the_theme_can_be_changed(browser, page):
    browser.open(page)
    browser.all("#theme")[0].click()
    browser.wait(lambda: browser.run("return document.documentElement.dataset.bsTheme") == "dark")
    assert "Light" in browser.text("#theme")


def test_controls_have_names_and_images_words(browser, page):
    for view in VIEWS:
        browser.open(page, view)
        browser.wait(lambda: browser.all("main h2"))
        unnamed = browser.run("""
            return [...document.querySelectorAll("input, select, button, a, svg, video, audio")]
              .filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel))
              .map((e) => e.outerHTML)""")
        assert unnamed == []
        assert len(browser.all("h1")) == 1
        assert browser.run("return document.documentElement.lang") == "en"


def test_markup_is_text_wherever_it_comes_from(browser, tmp_path):
    """Names of clips, files and runs, labels, notes, thoughts, errors, subtitles, settings."""
    mark = '<b title="&quot;">&amp;\'</b>'
    data = write_tables(tmp_path / "<b>data", ["one<b>", "two"])
    texts = [
        said("one<b>", mark, notes=(mark,), thinking=mark),
        Prediction("two", Status.CRASHED, error=mark),
    ]
    runs = []
    for name in ("first", "second"):
        folder = write_run(
            tmp_path,
            name,
            texts,
            {texts[0].name: [mark]},
            "dataset=ovmerd",
            f"dataset.root='{data}'",
        )
        runs += collect([folder.rename(folder.with_name(f"{name}<b>"))])
    for run in runs:
        run.dataset = mark
        run.settings.baseline["title"] = mark
        run.warnings.append(f"{mark}: {mark}")
        run.clips = [replace(each, subtitle=mark, labels=("happy", mark)) for each in run.clips]
    page = tmp_path / "page.html"
    write_page(page, make_boards(runs))
    for view in ("view=board", "view=gallery&clip=one<b>", "view=gallery&clip=two", "view=compare"):
        browser.open(page, view)
        browser.wait_for("main table" if view == "view=board" else "main article", mark)
        browser.wait(lambda: "…" not in browser.texts("main .card p"))
        assert browser.all("b") == []


def test_without_true_labels_the_gallery_speaks_of_no_score(browser, tmp_path):
    """And of no disagreement on a clip of which nobody named an emotion."""
    answers = [said(name, "He talks.") for name in ("good_news", "farewell")]
    runs = []
    for name, labels in (("first", {"farewell": ["sad"]}), ("second", {"farewell": ["happy"]})):
        runs += collect([write_run(tmp_path, name, answers, labels)])
    for run in runs:
        run.clips = [replace(each, labels=()) for each in run.clips]
    page = tmp_path / "page.html"
    write_page(page, make_boards(runs))
    at_gallery(browser, page, "clip=good_news")
    assert browser.text("#found").endswith("clips")
    assert "Disagreement" not in browser.text("main article")
    at_gallery(browser, page, "clip=farewell&sort=disagreement")
    assert "Disagreement between the baselines: 50 %" in browser.text("main article")
    assert browser.text("#found").endswith("with the disagreement between the baselines")
    assert browser.texts(".clip-link .small.text-nowrap") == ["50 % apart"]
    assert browser.texts("#order option") == ["data set", "most disagreement first", "name"]
    at_gallery(browser, page, "sort=worst")
    assert clips(browser), "an address of another board's hides no clip"


def test_media_travel_in_the_page_when_asked_for(browser, outputs, tmp_path):
    page = tmp_path / "alone.html"
    write_page(page, make_boards(collect([outputs / "sample" / "lexicon"])), embed=True)
    at_gallery(browser, page, "clip=good_news")
    browser.wait(lambda: browser.run("return document.querySelector('video')?.duration > 1"))
    assert browser.all("video")[0].get_attribute("src").startswith("blob:")


def test_nothing_is_asked_of_the_network(browser, page):
    browser.requests()
    for view in VIEWS:
        browser.open(page, view)
        browser.wait(lambda: "…" not in browser.texts("main .card p"))
    asked = browser.requests()
    assert any(each.endswith("good_news.mp4") for each in asked)
    assert [each for each in asked if not each.startswith(("file:", "about:", "data:"))] == []


def test_a_moved_media_folder_is_reported_where_the_clip_would_play(browser, page, tmp_path):
    moved = tmp_path / "a" / "b" / "c" / "report.html"
    moved.parent.mkdir(parents=True)
    moved.write_bytes(page.read_bytes())
    at_gallery(browser, moved, "clip=good_news")
    browser.wait_for(".media", "The video cannot be played")
    assert "good_news.mp4" in browser.text(".media")


def test_a_page_that_is_watched_shows_the_progress_and_the_latest_answers(browser, outputs, page):
    live = outputs / "live.html"
    write_page(live, make_boards(collect([outputs])), reload=600)
    browser.open(live)
    browser.wait_for(".latest", "happy")
    assert browser.texts("nav a.active") == ["Progress"]
    first = browser.texts("main section h2")[0]
    assert first == "half 1 of 10 clips"  # what is running comes first
    assert "9 not done" in browser.texts("main section")[0]
    browser.all(".latest a")[0].click()
    browser.wait_for("#clip-name", "good_news")
    browser.open(page)
    assert "Progress" not in browser.texts("nav a")


def test_runs_that_answered_nothing_are_folded_away(browser, outputs, tmp_path):
    texts = {name: said(name, "happy") for name in ("good_news", "farewell")}
    broken = [Prediction(name, Status.CRASHED, error="no such layer") for name in texts]
    write_run(
        tmp_path / "outputs", "talker", list(texts.values()), {name: ["happy"] for name in texts}
    )
    write_run(tmp_path / "outputs", "broken", broken, {})
    page = tmp_path / "report.html"
    write_page(page, make_boards(collect([tmp_path / "outputs"])))
    browser.open(page)
    assert "broken" not in baselines(browser)
    (folded,) = browser.texts("#failed-starts")
    assert folded.startswith("1 run that answered no clip")
    assert "2 crashed" in folded
