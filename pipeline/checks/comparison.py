"""Does the draft compare with an earlier study, and with the one that the model was given."""

from collections.abc import Iterator

from pipeline.checks.evidence import Evidence, Problem, failed, warned
from pipeline.checks.lexicon import ADVICE
from pipeline.checks.term import words

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_EARLIER = r"(?:prior|previous|earlier|preceding|last|old|most recent|recent|outside|baseline|yesterday's)"
_FILM = r"(?:stud(?:y|ies)|exam(?:ination)?s?|films?|radiographs?|x-?rays?|images?|imaging|reports?|ct|scans?|cxr)"
_ADVERB = (
    r"(?:significantly|slightly|markedly|mildly|nearly|completely|partially|substantially|now|since|almost|"
    r"largely|fully)"
)
_CHANGED = (
    r"(?:increased|decreased|enlarged|worsened|improved|resolved|progressed|cleared|developed|"
    r"diminished|regressed|"
    r"re-?expanded|shrunk|grown|reaccumulated|evolved|advanced|appeared|disappeared|changed|lessened|"
    r"subsided|"
    r"been (?:removed|placed|inserted|extubated|repositioned|withdrawn|exchanged|advanced|retracted|"
    r"replaced))"
)
_PRIOR = words(
    r"\bcompar(?:ed|ison|ing|able) (?:is made |made )?(?:with|to)\b",
    r"\b(?:in|by) comparison\b",
    r"\bthan (?:it|they) (?:was|were)\b",
    rf"\b{_EARLIER} (?:\w+ ){{0,2}}?{_FILM}\b",
    rf"\b{_FILM} (?:of|from|dated|performed(?: on)?|obtained(?: on)?|taken(?: on)?) "
    rf"(?:\d|(?:{_MONTHS})|yesterday|earlier|last|the (?:same|previous|prior)|\w+ (?:hours?|days?|"
    rf"weeks?|months?|years?) (?:ago|earlier))",
    r"\b(?:un|not (?:significantly |appreciably |substantially )?)changed\b",
    r"(?<!short )(?<!short-)(?<!at )\binterval (?!follow|ct\b|imaging|radiograph)\w+",
    r"\b(?:no|without) (?:significant |appreciable |substantial |relevant |major |"
    r"definite )?(?:interval )?change\b",
    r"\b(?:in|over|during) the (?:interval|interim)\b",
    r"\bsince (?:the )?(?:prior|previous|last|earlier|yesterday|admission|surgery|intubation|extubation|"
    r"then|that|\d)",
    rf"\bsince (?:{_MONTHS})",
    rf"\b(?:has|have) (?:{_ADVERB} )*{_CHANGED}\b",
    r"\b(?:larger|smaller|greater|less|better|worse|more|fewer|higher|"
    r"lower)\b[^.;]{0,30}?\bthan (?:before|previously|yesterday)\b",
    r"\bthan (?:it was|they were|on (?:the )?|in (?:the )?|at (?:the )?)?(?:the )?(?:prior|previous|"
    r"earlier|last|preceding|old)\b",
    r"\bno longer (?:\w+ )?(?:seen|identified|present|evident|visible|visuali[sz]ed|demonstrated|"
    r"appreciated|apparent|noted)\b",
    r"\b(?:relative|similar|identical|comparable) to (?:the |that |those )?(?:prior|previous|earlier|"
    r"last|before|yesterday)\b",
    r"\b(?:previously|formerly) (?:seen|noted|described|demonstrated|identified|visuali[sz]ed|reported|"
    r"present|visible|mentioned)\b",
    r"\b(?:as|than) (?:seen |noted )?(?:before|previously)\b",
    r"\b(?:once )?again (?:seen|noted|demonstrated|identified|visuali[sz]ed|present|shown|is|are)\b",
    r"\b(?:redemonstrat|re-demonstrat|reidentifi|re-identifi)\w+",
    r"\b(?:persist(?:ent|ently|s|ence)|still (?:seen|present|visible|evident|noted)|continue[sd]? to)\b",
    r"\bserial (?:films|radiographs|studies|examinations)\b",
    "较(?:前|上[次回]|之前|以前|原[来片先]|旧|老片|既往|昨|入院|术前|首次)|"
    "较[^。；，]{0,10}(?:[日月旧前胸平]片|CT|检查)",
    "[与同和跟][^。；，]{0,16}(?:片|[前上]次|日|前(?=比|对|相)|CT|检查)[^。；，]{0,4}(?:比较|对比|相比|"
    "对照|相仿|相似|相同|一致|比)",
    "(?:对比|对照|比较|参照|参考|参阅)[^。，；]{0,12}(?:片|前次|上次|旧|检查|\\d{4})",
    "(?:前|上|上一|前一|历)次(?!性)|[前旧老]片|既往[^。；，]{0,4}(?:片|检查|影像|CT|所见)",
    "复查(?:对比|示|见|可见|片|胸片|显示|提示|后)|(?:本次|今日|此次)复查",
    "(?<!骨)(?<!骨质)(?<!结构)(?:未见|无|没有)(?:明显|显著|确切)?(?:变化|改变)|变化不[大明显著]|改变不[大明]",
    "(?<!术)(?:同前|如前|似前)",
)
_TREND = words(
    r"\b(?:stable(?!-)|new(?:ly)?|worsen(?:ed|ing)|improv(?:ed|ing|ement)|resolv(?:ed|ing)|"
    r"progress(?:ed|ion|ive(?:ly)?))\b",
    r"\b(?:increased|decreased|grown|diminished|reduced) in (?:size|number|extent|volume|density)\b",
    r"\b(?:enlarging|increasing|decreasing|growing|diminishing|evolving|waning|clearing of)\b",
    r"\b(?:reaccumulat|re-accumulat|re-?expan|regress)\w+",
    r"\bremains? (?:\w+ )?(?:enlarged|present|stable|clear|elevated|visible|evident|normal|in (?:place|"
    r"position))\b",
    r"\b(?:over|in|within|during) the (?:past|last) (?:\w+ )?(?:hours?|days?|weeks?|months?|years?)\b",
    r"\b(?:days?|weeks?|months?|years?) (?:ago|earlier)\b",
    "稳定|新(?:发|出现|增|见)|好转|进展|(?<!骨质)(?<!骨)吸收|加重|减轻|恶化|复[张发]|消散|逐渐|渐[增减]|"
    "持续|残[留余存]",
    "仍(?:然|旧)?[可示见有存为呈在未]|依[旧然]|(?<!侧)(?<!称)(?<!隙)相仿|不变",
    "(?:积液|气胸|病[灶变]|结节|肿块|斑片影?|实变|渗出|炎症|范围|积气)[^。；，]{0,6}(?:消失|缩小|减少|"
    "增多|增加|扩大|变[大小淡浓])",
)
_ASKED = words(
    r"\b(?:recommend|advis|suggest|consider|obtain)\w*[^.;]{0,40}\bcompar\w+[^.;]*",
    r"\bcompar\w+ (?:with|to) [^.;]{0,60}\b(?:recommended|advised|suggested|helpful|needed|useful|"
    r"required)\b",
    r"\bcorrelat\w+ with [^.;]*",
    r"\b(?:if|when|where) (?:available|unchanged|persistent|it persists)\b",
    "(?:建议|请|必要时|需|可)[^。；]{0,16}(?:对比|比较|对照|复[查诊]|参照|参考|结合)[^。；]*",
    "(?:周|月|年|治疗|抗炎|消炎|定期|短期)(?:治疗)?后?复查",
)
"""A comparison that is asked for, not made."""
_DAY = words(
    r"(?<!\d)(?P<y>\d{4})[-/.年](?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})(?!\d)",
    r"(?<!\d)(?P<m2>\d{1,2})/(?P<d2>\d{1,2})/(?P<y2>\d{4})(?!\d)",
    rf"\b(?P<month>{_MONTHS})\w* (?P<d3>\d{{1,2}}),? (?P<y3>\d{{4}})\b",
    rf"(?<!\d)(?P<d4>\d{{1,2}}) (?P<month4>{_MONTHS})\w*,? (?P<y4>\d{{4}})\b",
)
_NO_PRIOR = words(
    r"\bno (?:prior|previous|earlier|comparison|old)[\w ]{0,30}?(?:available|for comparison)\b",
    r"\bcomparison: ?none\b",
    "(?:无|没有|缺乏|未提供)(?:既往|前|旧|以往|历史)[^。]{0,8}(?:比较|对比|参考|对照)",
)


def comparison(evidence: Evidence) -> Iterator[Problem]:
    """The draft compares with an earlier study that the model never saw, or does not know the one it was given.

    That there is none to compare with may be said.
    """
    if evidence.has_prior:
        yield from _against_prior(evidence)
        return
    spoken = [s for s in evidence.sentences if not _NO_PRIOR.search(s)]
    if any(_PRIOR.search(_ASKED.sub(" ", s)) for s in spoken):
        yield failed("compares with an earlier study, none was given to the model")
    elif any(_TREND.search(s) and not ADVICE.search(s) for s in spoken):
        yield warned("speaks of change over time, no earlier study was given to the model")


def _against_prior(evidence: Evidence) -> Iterator[Problem]:
    if _NO_PRIOR.search(evidence.text):
        yield warned("says that there is no earlier study, one was given to the model")
    given = None if evidence.draft.prior is None else evidence.draft.prior.study_date
    days = {
        day
        for s in evidence.sentences
        if _PRIOR.search(s)
        for match in _DAY.finditer(s)
        for day in [_day(match.groupdict())]
    }
    if given is not None and days - {
        (given.year, given.month, given.day),
        (given.year, given.day, given.month),
    }:
        yield warned("compares with an earlier study of another day than the one given to the model")


def _day(parts: dict[str, str | None]) -> tuple[int, int, int]:
    def number(*names: str) -> int:
        return int(next(part for name in names if (part := parts[name])))

    named = parts["month"] or parts["month4"]
    month = _MONTHS.split("|").index(named.lower()) + 1 if named else number("m", "m2")
    return number("y", "y2", "y3", "y4"), month, number("d", "d2", "d3", "d4")
