"""The review page as a person meets it: in headless Chromium, over reports in Postgres."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request

from pipeline.ledger import LedgerState
from pipeline.report import Finding, Language, PriorStudy
from pipeline.store.store import Store
from pipeline.web import create_app, serving
from tests.invented_outcomes import answered_outcome, invented_outcome, save_as_flows, study_uid

BANNER = "Machine-made draft. Not read by a radiologist. Not for clinical use."
CONTRAST = """element => {
  const linear = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 }
  const light = rgb => .2126 * linear(rgb[0]) + .7152 * linear(rgb[1]) + .0722 * linear(rgb[2])
  const numbers = text => text.match(/[\\d.]+/g).map(Number)
  let ground = [0, 0, 0, 0], above = element
  while (ground.length > 3 && ground[3] === 0 && above) {
    ground = numbers(getComputedStyle(above).backgroundColor); above = above.parentElement
  }
  const pair = [light(numbers(getComputedStyle(element).color)), light(ground)].sort((a, b) => b - a)
  return (pair[0] + .05) / (pair[1] + .05)
}"""


@dataclass
class Visit:
    """A page on our server, and what went wrong or out while it was looked at."""

    page: Page
    url: str
    store: Store
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.url}{path}")
        return self.page


@pytest.fixture
def visit(browser: Browser, database_url: str) -> Iterator[Visit]:
    with Store(database_url) as store:
        app = create_app(store, token="", audit=lambda _: None, clock=lambda: datetime.now(UTC))
        with serving(app) as url, browser.new_context(viewport={"width": 1280, "height": 800}) as context:
            made = Visit(context.new_page(), url.rstrip("/"), store)
            made.page.on("console", lambda message: made.complaints.append(message.text))
            made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
            made.page.on("dialog", lambda dialog: made.complaints.append("a dialog opened"))
            made.page.on("request", lambda request: made.asked.append(_address(request)))
            yield made
            assert made.complaints == []
            assert all(address.startswith((made.url, "data:")) for address in made.asked)


def _address(request: Request) -> str:
    return request.url


def test_from_the_list_to_a_report_and_its_regions(visit: Visit) -> None:
    save_as_flows(visit.store, [invented_outcome(number) for number in range(3)])
    page = visit.open("/")
    assert page.locator("tbody tr").count() == 3
    row = page.locator("tbody tr", has_text="ACC-0")
    for text in (
        "Invented Person 0",
        "MRN-0",
        "2026-01-01",
        "partial",
        "1 check",
        "1 missing",
        "firstread-mini",
    ):
        assert row.get_by_text(text, exact=True).is_visible(), text
    row.get_by_role("link").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Invented Person 0"
    assert (
        "small left pleural effusion" in page.get_by_role("region", name="Findings", exact=True).inner_text()
    )
    assert "Nodule in the right" in page.get_by_role("region", name="Impression").inner_text()
    attention = page.get_by_role("region", name="Before you read").inner_text()
    assert "2 of 3 announced instances were held" in attention
    assert "the classifier sees none" in attention
    assert page.get_by_role("row", name="pleural effusion left lower zone small 0.93").is_visible()
    assert "Stated as absent: pneumothorax" in page.inner_text("main")
    page.locator("summary", has_text="Instances").click()
    assert page.get_by_text("the model reads frontal ones").is_visible()


def test_a_box_lies_where_the_region_is_and_can_be_hidden(visit: Visit) -> None:
    save_as_flows(visit.store, [invented_outcome(0)])
    page = visit.open("/reports/report-0")
    drawn = page.locator("svg image").bounding_box()
    box = page.locator("#region-1 rect").first.bounding_box()
    assert drawn is not None
    assert box is not None
    scale = drawn["width"] / 2000
    assert drawn["height"] == pytest.approx(2400 * scale, rel=0.01)
    expected = (1150 * scale, 1500 * scale, 500 * scale, 450 * scale)
    found = (box["x"] - drawn["x"], box["y"] - drawn["y"], box["width"], box["height"])
    assert found == pytest.approx(expected, abs=5)
    loaded = "() => document.querySelector('svg image').getBBox().width"
    assert page.evaluate(loaded) == 2000
    page.get_by_label("Show region 1 on the image").click()
    assert page.evaluate("() => document.querySelector(':target').id") == "region-1"
    page.get_by_label("Show regions").uncheck()
    assert not page.locator("#region-1").is_visible()


def test_answers_stand_in_tables_and_on_the_picture(visit: Visit) -> None:
    save_as_flows(visit.store, [answered_outcome(0)])
    page = visit.open("/reports/report-0")
    answers = page.get_by_role("region", name="Further answers")
    text = answers.inner_text()
    for shown in ("Is there a pneumothorax?", "No, there is no pneumothorax.", "may be cut short", "smollm2"):
        assert shown in text
    assert answers.get_by_role("row", name="other yes 0.72").is_visible()
    assert answers.get_by_role("row", name="heart found 0.88").is_visible()
    assert answers.get_by_role("row", name="tube not found").is_visible()
    assert '"side": "left"' in answers.locator("pre").inner_text()
    assert "study of 2025-04-03" in page.inner_text(".facts >> nth=0")
    drawn = page.locator("svg image").bounding_box()
    assert drawn is not None
    scale = drawn["width"] / 2000
    heart = page.locator("#region-3 rect").first.bounding_box()
    assert heart is not None
    assert heart["x"] - drawn["x"] == pytest.approx(760 * scale, abs=5)
    carina = page.locator("#region-4 circle").bounding_box()
    assert carina is not None
    assert carina["x"] + carina["width"] / 2 - drawn["x"] == pytest.approx(1010 * scale, abs=3)
    assert carina["y"] + carina["height"] / 2 - drawn["y"] == pytest.approx(820 * scale, abs=3)
    answers.get_by_label("Show region 4 on the image").click()
    assert page.evaluate("() => document.querySelector(':target').id") == "region-4"
    page.get_by_label("Show answers").uncheck()
    assert not page.locator("#region-3").is_visible()
    assert page.locator("#region-1").is_visible()


STROKE = "number => getComputedStyle(document.querySelector(`#region-${number} rect`)).strokeWidth"


def test_each_sentence_leads_to_what_it_rests_on(visit: Visit) -> None:
    save_as_flows(visit.store, [answered_outcome(0)])
    page = visit.open("/reports/report-0")
    thin, thick = "2.5px", "4.5px"
    assert [page.evaluate(STROKE, number) for number in (1, 2, 3)] == [thin] * 3
    findings = page.get_by_role("region", name="Findings", exact=True)
    findings.get_by_role("link", name="There is a nodule").hover()
    assert [page.evaluate(STROKE, number) for number in (1, 2, 3)] == [thin, thick, thin]
    page.mouse.move(0, 0)
    impression = page.get_by_role("region", name="Impression")
    impression.get_by_role("link", name="Small left pleural effusion and right nodule.").focus()
    assert [page.evaluate(STROKE, number) for number in (1, 2, 3)] == [thick, thick, thin]
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.querySelector(':target').id") == "region-1"
    impression.get_by_role("link", name="Follow-up is advised.").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.querySelector(':target').id") == "findings"
    image_only = findings.get_by_role("link", name="No pneumothorax.")
    assert image_only.get_attribute("title") == "Rests on image 1, without a region"
    image_only.click()
    assert page.evaluate("() => document.querySelector(':target').id") == "picture-1"


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("language", Language)
def test_an_answered_report_is_legible_in_both_languages(
    visit: Visit, scheme: str, language: Language
) -> None:
    save_as_flows(visit.store, [answered_outcome(0, language)])
    visit.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page = visit.open("/reports/report-0")
    page.set_viewport_size({"width": 700, "height": 500})
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
    banner = page.get_by_role("note", name="Safety notice")
    place = banner.bounding_box()
    assert place is not None
    assert 0 <= place["y"] < 500
    assert BANNER in banner.inner_text()
    assert ("机器生成" in banner.inner_text()) == (language is Language.CHINESE)
    for selector in (".sentence", ".answered *", ".number"):
        for element in page.locator(selector).all():
            if element.is_visible() and element.inner_text().strip():
                assert element.evaluate(CONTRAST) >= 4.5, selector
    assert page.locator("#findings + p").get_attribute("lang") == language


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_banner_stays_in_sight_and_text_is_legible(visit: Visit, scheme: str) -> None:
    save_as_flows(visit.store, [invented_outcome(number) for number in range(2)])
    visit.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in ("/", "/reports/report-0", "/nowhere"):
        page = visit.open(path)
        page.set_viewport_size({"width": 900, "height": 300})
        page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
        banner = page.get_by_role("note", name="Safety notice")
        place = banner.bounding_box()
        assert BANNER in banner.inner_text()
        assert place is not None
        assert 0 <= place["y"] < 300
        for selector in ("p", "a", "h1", "h2", "th", "td", "dt", "dd", ".pill", ".flag", ".quiet", "summary"):
            for element in page.locator(selector).all():
                if element.is_visible() and element.inner_text().strip():
                    assert element.evaluate(CONTRAST) >= 4.5, (path, selector)
    if any("404" in complaint for complaint in visit.complaints):
        visit.complaints[:] = [one for one in visit.complaints if "404" not in one]


def test_hostile_values_are_shown_as_text(visit: Visit) -> None:
    script = "<script>alert(1)</script>"
    image = '"><img src=x onerror=alert(2)><svg onload=alert(3)>'
    save_as_flows(
        visit.store,
        [
            invented_outcome(
                0, name=script, findings=f"{image} {{{{ 7 * 7 }}}}", impression=f"</p>{script}'\"&amp;"
            )
        ],
    )
    page = visit.open("/")
    assert page.locator("tbody th").get_by_text(script).is_visible()
    page.locator("tbody").get_by_role("link").click()
    assert page.get_by_role("heading", level=1).inner_text() == script
    text = page.get_by_role("region", name="Findings", exact=True).inner_text()
    assert image in text
    assert "{{ 7 * 7 }}" in text
    assert f"</p>{script}'\"&amp;" in page.get_by_role("region", name="Impression").inner_text()
    assert page.locator("script, main img, [onerror], [onload]").count() == 0


def test_huge_values_do_not_break_the_page(visit: Visit) -> None:
    name, text = "N" * 5_000, "consolidation " * 1_400 + "X" * 3_000
    save_as_flows(visit.store, [invented_outcome(0, name=name, findings=text), invented_outcome(1)])
    for path in ("/", "/reports/report-0"):
        page = visit.open(path)
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.get_by_role("region", name="Impression").is_visible()


def test_the_keyboard_reaches_everything(visit: Visit) -> None:
    save_as_flows(visit.store, [invented_outcome(0)])
    page = visit.open("/reports/report-0")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.innerText") == "Skip to content"
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("() => document.activeElement.id || document.activeElement.innerText.trim()")
        )
    assert {"regions", "1", "2"} <= reached
    for summary in ("Checks", "Classifier", "Instances", "Provenance", "Versions"):
        assert any(one.startswith(summary) for one in reached), summary


def reported_again(store: Store, number: int, impression: str) -> None:
    """Study ``number`` is drafted anew, in other words."""
    outcome = invented_outcome(number, impression=impression)
    ledger_id = next(
        row.ledger_id for row in store.studies() if row.study_instance_uid == outcome.draft.study_instance_uid
    )
    assert store.standing.reopen([ledger_id], [], again=True) == (ledger_id,)
    (claim,) = store.claim("recipe", owner="tests", limit=1, lease_seconds=60)
    store.record_complete(claim, replace(outcome.completeness, manifest_digest="other"))
    store.advance([claim], LedgerState.DRAFTED)
    store.save(
        replace(outcome, claim=claim, completeness=replace(outcome.completeness, manifest_digest="other"))
    )


def test_the_list_begins_with_what_cannot_wait_or_with_what_is_new(visit: Visit) -> None:
    for number in range(3):
        drafted = invented_outcome(number)
        found = Finding("pneumothorax", number == 1, sentence="Pneumothorax.")
        draft = replace(drafted.draft, findings=(*drafted.draft.findings[:2], found))
        save_as_flows(visit.store, [replace(drafted, draft=draft)])
    page = visit.open("/")
    names = page.locator("tbody th")
    assert names.all_inner_texts() == [f"Invented Person {number}" for number in (1, 2, 0)]
    assert page.locator("tbody tr").get_by_text("critical finding").all_inner_texts() == ["critical finding"]
    assert "pneumothorax" in page.locator(".heading").inner_text()

    def walked(*reports: int) -> None:
        """From the first of the list to the last by the key j, and back by k."""
        beside = page.get_by_role("navigation", name="Reports beside this one")
        below, above = (beside.get_by_role("link", name=f"Report {where}") for where in ("below", "above"))
        names.first.get_by_role("link").click()
        assert not above.count()
        for number in reports[1:]:
            assert below.get_attribute("accesskey") == "j"
            below.focus()
            page.keyboard.press("Enter")
            page.wait_for_url(f"**/reports/report-{number}*")
        assert not below.count()
        for number in reversed(reports[:-1]):
            assert above.get_attribute("accesskey") == "k"
            above.click()
            page.wait_for_url(f"**/reports/report-{number}*")

    walked(1, 2, 0)
    assert page.locator(".heading").get_by_text("critical finding").is_visible()
    visit.open("/")
    page.get_by_label("Order").select_option("newest first")
    page.get_by_role("button", name="Search").click()
    assert names.all_inner_texts() == [f"Invented Person {number}" for number in (2, 1, 0)]
    assert page.get_by_label("Order").input_value() == "newest"
    walked(2, 1, 0)


def test_what_changed_between_two_drafts_is_marked(visit: Visit) -> None:
    save_as_flows(visit.store, [invented_outcome(0)])
    reported_again(visit.store, 0, "Small left pleural effusion. Mass in the right upper zone.")
    page = visit.open("/reports/report-0")
    changed = page.get_by_role("region", name="What version 2 says otherwise than 1")
    assert changed.locator("del").inner_text().strip() == "Nodule"
    assert changed.locator("ins").inner_text().strip() == "Mass"
    assert "Findings" not in changed.inner_text()


def test_the_earlier_film_stands_beside_the_one_that_is_compared_with_it(visit: Visit) -> None:
    """Studies 0 and 3 are of one patient, study 1 is of another."""
    compared = answered_outcome(3)
    for number, prior in ((3, 0), (4, 0)):
        outcome = answered_outcome(number) if number != 3 else compared
        draft = replace(outcome.draft, prior=PriorStudy(study_uid(prior), date(2026, 1, 1)))
        if number == 3:
            save_as_flows(visit.store, [invented_outcome(prior)])
        save_as_flows(visit.store, [replace(outcome, draft=draft)])
    page = visit.open("/reports/report-3")
    page.set_viewport_size({"width": 1440, "height": 900})
    shown = [one.bounding_box() for one in page.locator("figure svg").all()]
    assert len(shown) == 2
    now, then = shown
    assert now is not None
    assert then is not None
    assert now["y"] == pytest.approx(then["y"], abs=2)
    assert now["y"] + now["height"] <= 900, "the whole film is in view"
    assert then["x"] > now["x"] + now["width"] - 1
    page.get_by_role("link", name="study of 2026-01-01").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Invented Person 0"
    page = visit.open("/reports/report-4")
    assert page.locator("figure svg").count() == 1, "a study of another patient is never shown"


PIXEL = """async () => {
  const svg = document.querySelector('figure svg').getBoundingClientRect()
  return [svg.x + svg.width / 2, svg.y + svg.height / 2]
}"""


def grey(page: Page) -> float:
    """The mean grey of the middle of the first film as it is on the screen."""
    x, y = page.evaluate(PIXEL)
    shot = page.screenshot(clip={"x": x - 40, "y": y - 40, "width": 80, "height": 80})
    return float(np.asarray(Image.open(io.BytesIO(shot)).convert("L"), np.float64).mean())


def test_the_look_of_a_film_can_be_changed(visit: Visit) -> None:
    save_as_flows(visit.store, [invented_outcome(0)])
    page = visit.open("/reports/report-0")
    page.get_by_label("Show regions").uncheck()
    plain = grey(page)
    page.get_by_label("Inverted").check()
    assert grey(page) == pytest.approx(255 - plain, abs=6)
    page.get_by_label("Brighter").check()
    assert grey(page) > plain + 5
    page.get_by_label("As shown").check()
    assert grey(page) == pytest.approx(plain, abs=2)
    before = page.locator("figure svg").bounding_box()
    page.get_by_label("Large").check()
    after = page.locator("figure svg").bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > 1.5 * before["width"]
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_the_list_has_low_rows_and_is_cards_on_a_phone(visit: Visit) -> None:
    """A narrow column for the model broke its name within words, and six rows filled a screen."""
    save_as_flows(visit.store, [invented_outcome(number) for number in range(3)])
    page = visit.open("/")
    model = page.get_by_text("firstread-mini").first.bounding_box()
    assert model is not None
    assert model["height"] < 30, "one line"
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    card = page.locator("tbody tr").first
    for text in ("Invented Person", "1 check", "partial", "firstread-mini"):
        cell = card.get_by_text(text).first
        assert cell.is_visible(), text
        place = cell.bounding_box()
        assert place is not None
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= 390
    assert not page.locator("thead").is_visible()


def test_an_empty_store_says_so(visit: Visit) -> None:
    page = visit.open("/")
    assert "No reports yet" in page.inner_text("main")
    assert BANNER in page.inner_text("body")
