"""Which instances are reportable, and the reason given for each that is not."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.dicom_writer import radiograph_dataset
from pipeline.errors import FailStudy, SkipStudy
from pipeline.images import prepare, wording
from pipeline.images.choose import Candidate, Reason, judge
from pipeline.images.headers import Header
from pipeline.images.wording import BodyRegion
from pipeline.study import FetchedStudy, StudyImage
from tests.synthetic import fetched, held, radiograph_header, write_chest

SHARED = Path(__file__).parents[3] / "shared" / "data" / "dicom"


def verdict(**changes: object) -> Candidate | Reason:
    """The verdict on a DX chest film with elements replaced; None removes one."""
    dataset: Dataset = radiograph_dataset(radiograph_header())
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return judge(Header(Path("film.dcm"), dataset, "1.2.840.10008.1.2.1", False, True, 0))


def code(**changes: object) -> str:
    found = verdict(**changes)
    return found.code if isinstance(found, Reason) else "used"


def test_a_chest_film_is_used() -> None:
    found = verdict()
    assert isinstance(found, Candidate)
    assert found.view == "PA"


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        ("not-radiograph", {"Modality": "CT"}),
        ("not-radiograph", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}),
        ("for-processing", {"PresentationIntentType": "FOR PROCESSING"}),
        ("for-processing", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}),
        ("secondary-capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "ConversionType": "WSD"}),
        ("used", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "ConversionType": "DF", "Modality": "RG"}),
        ("used", {"Modality": "DR"}),
        ("used", {"Modality": "XR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}),
        ("used", {"Modality": "OT"}),
        ("not-radiograph", {"Modality": "MG"}),
        ("processed-image", {"QualityControlImage": "YES"}),
        ("used", {"QualityControlImage": "NO"}),
        ("processed-image", {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]}),
        ("processed-image", {"SeriesDescription": "Chest VolumeRAD 5 mm"}),
        ("processed-image", {"SeriesDescription": "QC phantom chest"}),
        ("processed-image", {"SeriesDescription": "Chest AP TubeView"}),
        ("processed-image", {"SeriesDescription": "CXR BoneSuppressed"}),
        ("processed-image", {"SeriesDescription": "Rib suppr."}),
        ("processed-image", {"SeriesDescription": "Chest PA bone suppressed"}),
        ("processed-image", {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}),
    ],
)
def test_kind_of_instance(wanted: str, changes: dict[str, object]) -> None:
    assert code(**changes) == wanted


SILENT = {"AnatomicRegionSequence": None, "SeriesDescription": "", "StudyDescription": ""}


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        ("not-chest", {**SILENT, "BodyPartExamined": "HIP"}),
        ("body-part-unknown", {**SILENT, "BodyPartExamined": ""}),
        ("used", {**SILENT, "BodyPartExamined": "THORAX"}),
        ("used", {**SILENT, "BodyPartExamined": "", "StudyDescription": "Röntgen-Thorax p.a."}),
        ("used", {**SILENT, "BodyPartExamined": "", "SeriesDescription": "胸部正面"}),
        ("body-part-contradicted", {"SeriesDescription": "HAND PA"}),
        ("body-part-contradicted", {**SILENT, "BodyPartExamined": "CHEST", "StudyDescription": "Left hand"}),
        ("body-part-contradicted", {"ProtocolName": "Rib series", "SeriesDescription": ""}),
        ("body-part-contradicted", {"ProtocolName": "Left foot", "SeriesDescription": ""}),
        ("body-part-contradicted", {"ProtocolName": "Forearm in C-arm", "SeriesDescription": ""}),
        ("used", {**SILENT, "BodyPartExamined": "CHEST", "ProtocolName": "Portable C-arm"}),
        ("used", {**SILENT, "BodyPartExamined": "CHEST", "ProtocolName": "Handheld unit, left hand side up"}),
        ("used", {**SILENT, "BodyPartExamined": "CHEST", "ProtocolName": "Wall stand 6 feet"}),
        ("used", {**SILENT, "BodyPartExamined": "CHEST", "StudyDescription": "NG tube, neck to stomach"}),
        ("used", {**SILENT, "BodyPartExamined": "CHEST", "ProtocolName": "Supine, arms up, head first"}),
        ("not-chest", {**SILENT, "BodyPartExamined": "", "StudyDescription": "Thoracic spine AP"}),
        ("body-part-unknown", {**SILENT, "BodyPartExamined": "", "StudyDescription": "Chest and abdomen"}),
        ("used", {"StudyDescription": "Chest and left hand"}),
    ],
)
def test_body_part(wanted: str, changes: dict[str, object]) -> None:
    assert code(**changes) == wanted


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("CHEST_PA", BodyRegion.CHEST),
        ("Tórax AP de pie", BodyRegion.CHEST),
        ("RADIOGRAPHIE DU THORAX DE FACE", BodyRegion.CHEST),
        ("RX TORACE", BodyRegion.CHEST),
        ("胸片正位", BodyRegion.CHEST),
        ("흉부 정면", BodyRegion.CHEST),
        ("Рентгенография органов грудной клетки", BodyRegion.CHEST),
        ("CHEST R/O PE", BodyRegion.CHEST),
        ("Ακτινογραφία θώρακας", BodyRegion.CHEST),
        ("Radiographie pulmonaire", BodyRegion.CHEST),
        ("RTG klatki piersiowej", BodyRegion.CHEST),
        ("RTG płuc", BodyRegion.CHEST),
        ("Thoraxaufnahme im Liegen", BodyRegion.CHEST),
        ("Lungröntgen", BodyRegion.CHEST),
        ("Mellkasfelvétel", BodyRegion.CHEST),
        ("Keuhkojen röntgen", BodyRegion.CHEST),
        ("Radiografie pulmonară", BodyRegion.CHEST),
        ("RTG srce i pluća", BodyRegion.CHEST),
        ("RTG hrudníku", BodyRegion.CHEST),
        ("Рентгенографія органів грудної клітки", BodyRegion.CHEST),
        ("Columna dorsal", BodyRegion.OTHER),
        ("BWS seitlich", BodyRegion.OTHER),
        ("胸椎正面", BodyRegion.OTHER),
        ("左手", BodyRegion.OTHER),
        ("Knie beidseits", BodyRegion.OTHER),
        ("", BodyRegion.UNKNOWN),
        ("XR 2 VIEWS", BodyRegion.UNKNOWN),
    ],
)
def test_words_of_body_parts(text: str, region: BodyRegion) -> None:
    assert wording.region_of(text) is region


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"),
        ("AP_SUPINE", "AP"),
        ("LL", "LL"),
        ("Chest lateral", "lateral"),
        ("Thorax seitlich", "lateral"),
        ("側面", "lateral"),
        ("W chest PA and lateral", ""),
        ("LAO", "other"),
        ("Left lateral decubitus", "other"),
        ("Chest", ""),
    ],
)
def test_words_of_views(text: str, view: str) -> None:
    assert wording.view_of(text) == view


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        ("lateral-view", {"ViewCodeSequence": None, "ViewPosition": "LL"}),
        ("lateral-view", {"ViewCodeSequence": None, "ViewPosition": "", "PatientOrientation": ["A", "F"]}),
        ("lateral-view", {"ViewCodeSequence": None, "ViewPosition": "", "SeriesDescription": "Thorax lat"}),
        ("other-view", {"ViewCodeSequence": None, "ViewPosition": "RAO"}),
        ("used", {"ViewCodeSequence": None, "ViewPosition": "", "SeriesDescription": ""}),
    ],
)
def test_view(wanted: str, changes: dict[str, object]) -> None:
    assert code(**changes) == wanted


def test_a_view_code_wins_over_the_position() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "399173006", "SCT", "left lateral"
    assert code(ViewCodeSequence=Sequence([item])) == "lateral-view"
    item.CodeValue, item.CodeMeaning = "399348003", "ventrodorsal"
    found = verdict(ViewCodeSequence=Sequence([item]))
    assert isinstance(found, Candidate)
    assert found.view == "AP"


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., FetchedStudy]:
    def build(*changes: dict[str, Any]) -> FetchedStudy:
        paths = [
            write_chest(tmp_path / f"{number}.dcm", radiograph_header(instance=number, **change))
            for number, change in enumerate(changes, 1)
        ]
        return fetched(tmp_path, paths)

    return build


def test_frontal_films_come_best_first_and_laterals_are_named(study: Callable[..., FetchedStudy]) -> None:
    _, images = prepare(
        study(
            {"view_position": "LL", "description": "Chest"},
            {"view_position": "AP", "description": "Chest"},
            {"view_position": "PA", "description": "Chest"},
        )
    )
    assert [image.view for image in images.images] == ["PA", "AP"]
    assert [one.code for one in images.left_out] == ["lateral-view"]
    assert images.left_out[0].message == "lateral view not used by this model"


def test_one_lateral_follows_the_frontal_films_where_the_model_reads_it(
    study: Callable[..., FetchedStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    films = study(
        {"view_position": "RL", "description": "Chest"},
        {"view_position": "LL", "description": "Chest"},
        {"view_position": "PA", "description": "Chest"},
    )
    _, images = prepare(films, laterals=True)
    assert [image.view for image in images.images] == ["PA", "LL"]
    assert [one.code for one in images.left_out] == ["lateral-view"]
    with pytest.raises(SkipStudy, match="no frontal chest radiograph"):
        prepare(study({"view_position": "LL", "description": "Chest"}), laterals=True)

    module = import_module("pipeline.images.prepare")
    whole = module.prepare_image

    def broken(candidate: Candidate, *rest: object) -> StudyImage:
        if not candidate.lateral:
            raise FailStudy("undecodable", "broken")
        image: StudyImage = whole(candidate, *rest)
        return image

    monkeypatch.setattr(module, "prepare_image", broken)
    with pytest.raises(FailStudy, match="no chest film can be used"):
        prepare(films, laterals=True)


def test_a_second_rendering_of_an_exposure_is_left_out(study: Callable[..., FetchedStudy]) -> None:
    _, images = prepare(study({}, {}))
    assert len(images.images) == 1
    assert [one.code for one in images.left_out] == ["same-exposure"]


def test_a_study_without_a_film_for_us_is_skipped_for_its_nearest_reason(
    study: Callable[..., FetchedStudy],
) -> None:
    with pytest.raises(SkipStudy) as caught:
        prepare(
            study(
                {"view_position": "LL", "description": "Chest"}, {"body_part": "HAND", "description": "Hand"}
            )
        )
    assert caught.value.code == "lateral-view"


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the films beside the repository are not here")
def test_real_films() -> None:
    def one(name: str) -> FetchedStudy:
        instance = held(SHARED / name)
        return FetchedStudy(instance.ref.study_instance_uid, (), (instance,), (), SHARED)

    with pytest.raises(SkipStudy, match="another body part"):
        prepare(one("nema_RG2_hip_j2k.dcm"))
    _, images = prepare(one("nema_RG1_chest_pa_j2k.dcm"))
    assert (images.images[0].view, images.images[0].pixels.shape) == ("PA", (1024, 964))
    context, images = prepare(one("gdcm-CR-MONO1-10-chest.dcm"))
    film = images.images[0].pixels
    assert film[:, 200:240].mean() > film[100:300, 80:140].mean(), "spine must be brighter than lung"
    assert context.started is None
    assert pydicom.dcmread(SHARED / "gdcm-CR-MONO1-10-chest.dcm").BitsStored == 10


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Grid suppression", False),
        ("GRIDLINE SUPPRESSION, VIRTUAL GRID", False),
        ("Noise suppression 2", False),
        ("Scatter subtraction", False),
        ("Soft copy", False),
        ("Tissue equalization", False),
        ("Edge enhanced", False),
        ("Grid suppression, bone suppressed", True),
        ("Temporal subtraction", True),
        ("Tube & Line enhanced", True),
        ("PTX visualization", True),
        ("Catheter View", True),
        ("Heat map", True),
        ("Knochensubtraktion", True),
        ("Knochenunterdrückung", True),
        ("soppressione ossea", True),
        ("supresión ósea", True),
        ("骨抑制", True),
        ("骨减影", True),
        ("Chest PA", False),
        ("CHEST LINE PLACEMENT", False),
    ],
)
def test_words_of_pictures_made_from_a_film(text: str, *, made: bool) -> None:
    """What a device does to every film leaves it one; a picture made to show one thing is none."""
    assert code(AcquisitionDeviceProcessingDescription=text) == ("processed-image" if made else "used")
    assert not (wording.is_of_one_tissue(text) and not made)
