"""The forms of the pages as a browser sends them, with the Origin that it gives them: in headless Chromium."""

from contextlib import ExitStack
from datetime import UTC, datetime

from playwright.sync_api import Browser

from flows.knowledge import SiteKnowledge, load_all
from pipeline.store.store import Store
from pipeline.web import create_app, serving
from tests.benchmarks.measure_knowledge import BASE
from tests.invented_outcomes import invented_outcome
from tests.memory_reader import MemoryReader

TOKEN = "a-token-of-this-site"


def test_a_person_signs_in_asks_the_knowledge_base_and_signs_out(browser: Browser, work_url: str) -> None:
    reader = MemoryReader()
    reader.save_all([invented_outcome(0)])
    with ExitStack() as stack:
        store = stack.enter_context(Store(work_url))
        list(load_all(store, [BASE]))
        app = create_app(
            reader,
            token=TOKEN,
            audit=lambda _: None,
            clock=lambda: datetime.now(UTC),
            knowledge=SiteKnowledge(store, (BASE,)),
        )
        url = stack.enter_context(serving(app)).rstrip("/")
        page = browser.new_page()
        page.set_default_timeout(10_000)
        page.goto(url)
        page.fill("input[name=token]", TOKEN)
        page.locator("main button").click()
        page.get_by_role("link", name="Invented Person 0").click()
        page.get_by_role("link", name="Agents, drugs and terms named here").click()
        page.fill("input[name=question]", "Is metformin stopped before iodinated contrast?")
        page.get_by_role("button", name="Ask").click()
        assert "resume it after 48 hours" in page.locator("article").first.inner_text()
        assert page.url.endswith("/reports/report-0/knowledge")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        page.goto(f"{url}/reports/report-0")
        assert page.url.endswith("/sign-in")
