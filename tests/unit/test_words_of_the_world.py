# ruff: noqa: RUF001
"""What departments of many countries write for a chest film, and for other films: whole words, by their own usage."""

import pytest

from pipeline.images.wording import BodyRegion, region_of, view_of

CHEST = {
    "en": ("CXR PA", "XR CHEST 2 VIEWS", "Portable chest", "Thorax AP supine", "XR CHEST 1 VW PORT"),
    "de": (
        "Röntgen Thorax pa",
        "Thorax in 2 Ebenen",
        "Rö-Thorax",
        "Thoraxübersicht",
        "Thoraxaufnahme im Bett",
        "Lunge p.a.",
    ),
    "fr": (
        "Radiographie thoracique",
        "Rx poumons face",
        "Thorax de face",
        "Radiographie pulmonaire",
        "Cliché pulmonaire au lit",
    ),
    "es": (
        "Radiografía de tórax PA",
        "Rx tórax portátil",
        "Teleradiografía de tórax",
        "Telerradiografía tórax",
        "Tele-tórax",
        "Placa de tórax",
    ),
    "ca": ("Radiografia de tòrax",),
    "eu": ("Toraxeko erradiografia",),
    "pt": (
        "Raio-X de tórax",
        "Radiografia do tórax em PA",
        "Telerradiografia do tórax",
        "RX tórax no leito",
        "Pulmões",
    ),
    "it": ("RX torace", "Radiografia del torace 2 proiezioni", "Rx polmoni", "Torace a letto"),
    "nl": ("X-thorax", "Thoraxfoto", "X-thorax op bed", "Longfoto"),
    "sv": (
        "Lungröntgen",
        "DT/RTG Thorax",
        "Lungor frontal och sida",
        "Hjärta-lungor",
        "Röntgen hjärta lungor",
    ),
    "da": ("Røntgen af thorax", "Røntgenundersøgelse af lunger", "RU thorax"),
    "no": ("RG Thorax", "Røntgen thorax", "Røntgen lunger", "Lungebilde"),
    "fi": ("Keuhkojen röntgen", "Thorax-kuvaus", "Thoraxin natiivitutkimus", "Keuhkokuva", "Keuhkot"),
    "is": ("Röntgen lungu", "Lungnamynd", "Lungu"),
    "pl": ("RTG klatki piersiowej", "Klatka piersiowa PA", "Zdjęcie płuc", "Płuca PA"),
    "cs": ("RTG hrudníku", "RTG srdce a plic", "Plíce", "Hrudník zadopřední"),
    "sk": ("RTG hrudníka", "Pľúca", "RTG pľúc"),
    "sl": ("RTG pljuč", "Pljuča PA", "RTG prsnega koša"),
    "hr": ("RTG pluća", "Rtg srca i pluća", "Snimanje pluća i srca", "Grudni koš", "RTG torakalnih organa"),
    "sr": ("Рентген плућа", "РТГ грудног коша", "Снимање плућа"),
    "mk": ("Рентген на бели дробови", "Граден кош"),
    "bg": ("Рентгенография на гръдния кош", "Бял дроб и сърце"),
    "sq": ("Grafi e toraksit", "Grafi pulmonare"),
    "hu": ("Mellkas röntgen", "Mellkasfelvétel", "Tüdő kétirányú"),
    "ro": ("Radiografie toracică", "Radiografie pulmonară", "Rx torace", "Rx cord-pulmon"),
    "el": ("Ακτινογραφία θώρακος", "Α/α θώρακα", "Θώρακας F", "Ακτινογραφία πνευμόνων"),
    "tr": ("PA Akciğer grafisi", "Göğüs röntgeni", "Toraks PA", "Akciğer iki yön"),
    "et": ("Röntgenülesvõte rindkerest", "Rindkere", "Kopsud PA", "Kopsuröntgen"),
    "lv": ("Krūškurvja rentgens", "Plaušu rentgenogramma", "RTG krūšu kurvis"),
    "lt": ("Krūtinės ląstos rentgenograma", "Plaučių rentgenograma", "Krūtinės ląsta"),
    "ru": (
        "Рентгенография органов грудной клетки",
        "ОГК прямая",
        "Рентген легких",
        "Флюорография",
        "Рентгенограмма органов грудной полости",
        "Лёгкие",
    ),
    "uk": ("Рентгенографія органів грудної клітки", "Рентген легень", "ОГП пряма", "Флюорографія"),
    "kk": ("Кеуде қуысы ағзалары", "Өкпе рентгені"),
    "uz": ("Ko'krak qafasi rentgenografiyasi",),
    "az": ("Döş qəfəsi rentgeni", "Ağciyər"),
    "ka": ("გულმკერდის რენტგენი", "ფილტვები"),
    "hy": ("Կրծքավանդակի ռենտգեն", "Թոքեր"),
    "he": ("צילום חזה", "ריאות"),
    "ar": ("أشعة الصدر", "صورة شعاعية للصدر", "أشعة سينية على الصدر", "الرئتين"),
    "fa": ("رادیوگرافی قفسه سینه", "عکس ریه", "گرافی قفسه صدری"),
    "hi": ("छाती का एक्स-रे", "वक्ष"),
    "bn": ("বুকের এক্স-রে",),
    "ta": ("மார்பு எக்ஸ்ரே",),
    "te": ("ఛాతీ ఎక్స్ రే",),
    "th": ("เอกซเรย์ปอด", "ภาพถ่ายรังสีทรวงอก", "เอกซเรย์หน้าอก"),
    "vi": ("X-quang ngực thẳng", "X quang tim phổi", "Chụp Xquang ngực", "XQ phổi"),
    "id": ("Foto thorax", "Rontgen dada", "Foto toraks PA", "Rontgen paru"),
    "ms": ("X-ray dada", "Toraks"),
    "tl": ("X-ray sa dibdib",),
    "zh": ("胸部正位", "胸片", "DR胸部正侧位", "双肺", "胸部X光", "肺部X線", "床边胸片"),
    "ja": ("胸部単純撮影", "胸部正面", "胸部X線 立位P→A", "胸写", "肺野"),
    "ko": ("흉부 단순촬영", "가슴 PA", "흉부X선", "폐"),
    "mn": ("Цээжний рентген", "Уушги"),
}
OTHER = {
    "en": ("XR HAND LEFT", "KNEE 3 VIEWS", "Abdomen supine", "Thoracic spine AP", "RIBS UNILATERAL"),
    "de": ("Hand links", "Kniegelenk re", "BWS 2 Ebenen", "Schädel", "Abdomenübersicht"),
    "fr": ("Genou droit", "Rachis dorsal", "ASP abdomen", "Crâne"),
    "es": ("Rx de mano", "Rodilla derecha", "Columna dorsal", "Abdomen simple", "Cráneo"),
    "pt": ("Raio-X de mão", "Joelho esquerdo", "Coluna torácica", "Crânio", "Bacia"),
    "it": ("RX mano", "RX ginocchio", "Rachide dorsale", "RX bacino", "Addome"),
    "nl": ("Hand links", "Knie rechts", "Bekken"),
    "sv": ("Handled vänster", "Knä", "Bäcken", "Buköversikt"),
    "da": ("Hånd", "Knæ", "Bækken"),
    "fi": ("Polvi", "Lantio", "Ranne", "Vatsa"),
    "pl": ("RTG dłoni", "Kolano", "Miednica", "Brzuch"),
    "cs": ("RTG kolene", "Pánev", "Břicho", "Lebka"),
    "hu": ("Kéz", "Térd", "Medence"),
    "ro": ("Mână", "Genunchi", "Bazin", "Abdomen pe gol"),
    "el": ("Γόνατο", "Λεκάνη", "Κοιλία"),
    "tr": ("El bileği", "Diz grafisi", "Pelvis", "Batın"),
    "ru": ("Кисть", "Коленный сустав", "Таз", "Череп", "Брюшная полость"),
    "uk": ("Кисть руки", "Колінний суглоб", "Таз", "Череп"),
    "he": ("ברך", "אגן", "בטן"),
    "ar": ("الركبة", "الحوض", "البطن", "اليد"),
    "zh": ("左手正位", "膝关节", "腰椎侧位", "胸椎正侧位", "腹部立位", "骨盆"),
    "ja": ("手関節", "膝関節", "腰椎", "胸椎", "腹部単純", "骨盤"),
    "ko": ("무릎", "손", "요추", "흉추", "골반", "복부"),
    "vi": ("Khớp gối", "Xương chậu", "Bụng"),
    "id": ("Lutut", "Panggul", "Perut"),
    "th": ("เข่า", "เชิงกราน", "ช่องท้อง"),
}


@pytest.mark.parametrize(("language", "text"), [(one, text) for one, some in CHEST.items() for text in some])
def test_the_usual_words_for_a_chest_film(language: str, text: str) -> None:
    assert region_of(text) is BodyRegion.CHEST, language


@pytest.mark.parametrize(("language", "text"), [(one, text) for one, some in OTHER.items() for text in some])
def test_the_usual_words_for_another_film(language: str, text: str) -> None:
    assert region_of(text) is BodyRegion.OTHER, language


GLUED = (
    "CHESTPA",
    "CHEST1VW",
    "CHEST2VIEWS",
    "RXTORAX",
    "DXCHEST",
    "XRCHEST",
    "CHESTPORT",
    "RXTORACE",
    "Pecho",
    "RTG KLP",
)


@pytest.mark.parametrize("text", GLUED)
def test_codes_of_order_systems(text: str) -> None:
    assert region_of(text) is BodyRegion.CHEST
    assert region_of("Manchester knee") is BodyRegion.OTHER
    assert region_of("CHEST/ABD") is BodyRegion.UNKNOWN


VIEWS = {
    "PA": (
        "POSTEROANTERIOR", "postero-anterior", "Thorax p.a.", "CHEST P-A", "胸部 P→A", "胸部后前位",
        "Hrudník zadopřední", "klatka tylno-przednia", "Thorax in In- und Exspiration p.a.", "PA INSP/EXP",
    ),
    "AP": (
        "ANTEROPOSTERIOR", "AP_horizontal", "Thorax a.p. liegend", "CHEST A/P", "胸部前后位",
        "Tórax AP decúbito supino", "передне-задняя",
    ),
    "lateral": (
        "rzut boczny lewy", "bok", "Lungor sida", "Thorax zijde", "boční projekce", "yan grafi", "seitl.",
        "ОГК боковая", "oldalirányú", "sivusuunta", "πλάγια", "צד", "صدر جانبي", "nghiêng", "胸部侧位",
    ),
    "other": (
        "COSTAL", "Exspiration", "Thorax Exspiration p.a.", "en espiración", "expiratoire", "espirazione",
        "Chest in expiration", "PA MIN EXPIR", "skośna", "косая", "oblicuo", "lordótica", "swimmer's",
        "décubitus latéral gauche", "decúbito lateral izq.", "na boku", "PA LLD", "LT DECUB", "呼気",
    ),
    "": (
        "Thorax p.a. und seitlich", "XR CHEST 2 VIEWS, FRONTAL AND LATERAL", "Thorax face et profil",
        "Tórax frente y perfil", "Рентген ОГК прямая и боковая проекции", "DR胸部正侧位", "胸部正面・側面",
        "흉부 정면 측면", "CHEST PA AND LAT", "Klatka piersiowa PA + bok", "Thorax en décubitus dorsal",
        "Thorax en décubitus", "術前後", "Lungor frontal och sida",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("view", "text"), [(one, text) for one, some in VIEWS.items() for text in some])
def test_the_usual_words_for_a_view(view: str, text: str) -> None:
    """A text that names both views of a study names none of a film's own."""
    assert view_of(text) == view


BESIDE = (
    "PA arms above head", "central line right arm", "PICC line left upper arm", "Port-a-cath neck",
    "pacemaker left shoulder", "shoulder to shoulder", "cervical collar", "with spine board", "arm in cast",
    "AP sitting on knee of parent", "Arme hochgelagert", "swing arm", "O-arm", "teeth marker", "knee pillow",
)  # fmt: skip


@pytest.mark.parametrize("text", BESIDE)
def test_what_lies_beside_a_chest_film_contradicts_nothing(text: str) -> None:
    assert region_of(text) is BodyRegion.UNKNOWN
    assert region_of(f"Chest {text}") is BodyRegion.CHEST


@pytest.mark.parametrize(
    "text",
    [
        "грудной отдел позвоночника", "позвоночник, грудной отдел", "Kręgosłup piersiowy",
        "kręgosłup odc. piersiowy", "Hrudní páteř", "Brustwirbelsäule", "bröstrygg", "Rintaranka",
        "prsna hrbtenica", "Coloana toracală", "σπονδυλική στήλη θωρακική",
    ],
)  # fmt: skip
def test_the_thoracic_spine_is_no_chest_film(text: str) -> None:
    """Its words name the chest, too: a film of it labelled CHEST would be taken for one."""
    assert region_of(text) is BodyRegion.OTHER
