"""The demo: an embedded PACS with a sample archive, one sweep over C-FIND and C-MOVE, the drafts, then the review page.

Everything lies under ``data_dir``; a second run finds the same archive and ledger, and has nothing to do.
"""

from pathlib import Path

from flows.commands import table as display
from flows.commands.run import SweepOptions, run_sweep
from flows.commands.simulate import PUBLIC_ORIGIN, PUBLIC_STUDY, sample_archive
from flows.tally import Tally
from pipeline import settings as configuration
from pipeline.archive.dimse.embedded_pacs import AE_TITLE, embedded_pacs, store_files
from pipeline.child_process import free_port
from pipeline.lookup import ReportFilter
from pipeline.settings import Settings
from pipeline.store.opening import open_store
from pipeline.store.values import StudyRow

ARCHIVE = "demo"
CALLING = "FIRSTREAD"


def run_demo(settings: Settings, *, once: bool, show: bool) -> Tally:
    """One sweep of the sample archive, a table of the drafts, then (unless ``once``) the review page.

    Three studies of the sample are no films of the chest (a hand, a CT, a photograph) and are skipped, the last two
    unfetched where the archive lists what they are; one holds a corrupt film beside a sound one: its report says so.
    One shows a real film.
    """
    folder = settings.data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    pacs_port, move_port = free_port(), free_port()
    with embedded_pacs(folder / "pacs", pacs_port, {CALLING: move_port}, configuration.environment()):
        _load_sample(folder, pacs_port)
        config = _write_configuration(settings, folder, pacs_port, move_port)
        demo_settings = configuration.load(config)
        tally = run_sweep(demo_settings, ARCHIVE, SweepOptions(config=str(config)), show=show)
    if show:
        _show_drafts(demo_settings)
    if not once:
        from flows.commands.serve import serve_forever

        serve_forever(demo_settings, host=None, port=None)
    return tally


def _load_sample(folder: Path, port: int) -> None:
    loaded = folder / "loaded"
    if not loaded.exists():
        sample = sample_archive(folder / "sample")
        store_files(port, [path for study in sample.studies for path in study.paths])
        loaded.touch()


def _write_configuration(settings: Settings, folder: Path, pacs_port: int, move_port: int) -> Path:
    """The configuration that the demo runs with, for a reader to look at and to start from."""
    path = folder / "firstread.toml"
    path.write_text(
        "\n".join(
            (
                f'data_dir = "{settings.data_dir}"',
                f"[archives.{ARCHIVE}]",
                'kind = "dimse"',
                'host = "127.0.0.1"',
                f"port = {pacs_port}",
                f'ae_title = "{AE_TITLE}"',
                f'calling_ae_title = "{CALLING}"',
                'retrieve = "move"',
                f"move_port = {move_port}",
                "[model]",
                f'id = "{settings.model.id}"',
                "[policy]",
                f'draft_status = "{settings.policy.draft_status}"',
                f'language = "{settings.policy.language}"',
                "",
            )
        ),
        encoding="utf-8",
    )
    return path


def _show_drafts(settings: Settings) -> None:
    with open_store(settings) as store:
        studies = store.studies(ARCHIVE, limit=50)
        remarked = {row.report_id for row in store.report_rows(50, wanted=ReportFilter(attention=True)).rows}
    newest = {
        one.study_instance_uid: one for one in reversed(studies)
    }  # one row for each recipe; the last stands
    display.rows_table(
        ("study", "state", "findings", "impression"),
        [
            (
                str(one.ledger_id),
                _state(one, one.report_id in remarked),
                one.findings or one.reason,
                one.impression,
            )
            for one in sorted(newest.values(), key=lambda one: one.ledger_id)
        ],
        title="Drafts of the sample archive",
        caption=f"{display.BANNER} The real film is {PUBLIC_ORIGIN}. "
        "It was chosen because its draft tells what it shows; of most real disease drafts tell nothing (the "
        "model card). All others are simulated.",
    )


def _state(study: StudyRow, remarked: bool) -> str:
    told = f"{study.state}, with remarks" if remarked else study.state
    return f"{told} (a real film)" if study.study_instance_uid == PUBLIC_STUDY else told
