"""Clean drafts pass every check, in plain words and in tricky ones."""

import pytest

from tests.check_drafts import NOTHING, draft, spoken, verdicts

CLEAN = [
    ("The lungs are clear. No pleural effusion or pneumothorax. The heart is not enlarged.", NOTHING),
    (
        "There is a small nodule in the right upper zone. No consolidation is seen.",
        "Small nodule in the right upper zone.",
    ),
    (
        "Extensive consolidation is seen in both lungs. There is a small left pleural effusion. "
        "No pneumothorax. The cardiac silhouette is markedly enlarged. A left pacemaker has leads over "
        "the heart.",
        "Extensive consolidation in both lungs. Small left pleural effusion. Marked cardiomegaly. "
        "Left pacemaker in place.",
    ),
    (
        "A right central venous catheter projects over the superior vena cava. There is a moderate left "
        "pneumothorax. No pleural effusion. The cardiac silhouette is normal in size.",
        "Moderate left pneumothorax. Right central venous catheter in place.",
    ),
    (
        "No focal consolidation, but there is a small left effusion without pneumothorax.",
        "Small left pleural effusion.",
    ),
    ("Patchy opacity in the left lower zone.", "Left lower zone pneumonia. Follow-up radiograph is advised."),
    ("A mass projects over the left mid zone.", "Left mid zone mass. CT is advised for further evaluation."),
    ("Moderate right effusion. No left effusion. Heart size is normal.", "Moderate right pleural effusion."),
    (
        "There is consolidation in the right lower zone and a pneumothorax on the left.",
        "Left pneumothorax. Right lower zone consolidation.",
    ),
    ("No pneumothorax. A pleural effusion cannot be excluded.", NOTHING),
    ("The nodule measures 12 mm in the right upper zone.", "Nodule in the right upper zone."),
    ("Pericardial effusion is not assessed. No pleural effusion.", NOTHING),
    ("Pleural effusion is not seen. Pneumothorax: none.", NOTHING),
    ("Left central venous catheter with tip in the right atrium.", "Left central venous catheter in place."),
    ("Consolidation in the right mid and lower zones.", "Right lower zone consolidation."),
    (
        "Large left effusion with a small nodule in the right upper zone.",
        "Large left effusion. Small nodule.",
    ),
    ("There is a small left pleural effusion. No other effusion is seen.", "Small left pleural effusion."),
]
REALISTIC = [
    (
        "The heart is normal in size. The mediastinum is unremarkable. The lungs are clear.",
        "No acute disease.",
    ),
    (
        "Cardiomediastinal silhouette is within normal limits. Lungs are clear without focal "
        "consolidation, effusion, or pneumothorax.",
        "No acute cardiopulmonary process.",
    ),
    ("Low lung volumes with bibasilar atelectasis. No pleural effusion.", "Bibasilar atelectasis."),
    (
        "There is blunting of the left costophrenic angle, which may represent a small effusion.",
        "Possible small left effusion.",
    ),
    ("Right-sided PICC terminates in the SVC. No pneumothorax.", "Right PICC in place."),
    (
        "The cardiac silhouette is enlarged. Mild pulmonary edema. Small bilateral pleural "
        "effusions, right greater than left.",
        "Mild pulmonary edema with small bilateral effusions.",
    ),
    (
        "Degenerative changes of the spine. No acute bony abnormality.",
        "No acute cardiopulmonary abnormality.",
    ),
    ("Calcified granuloma in the left upper lobe.", "No acute disease."),
    ("Left lower lobe airspace disease.", "Left lower lobe pneumonia."),
    (
        "Opacity in the right middle lobe, concerning for pneumonia.",
        "Right middle lobe pneumonia. Recommend follow-up to resolution.",
    ),
    ("The left hemidiaphragm is elevated. Left basilar atelectasis.", "Left basilar atelectasis."),
    (
        "Dual-lead pacemaker with leads in the right atrium and right ventricle. Median sternotomy wires.",
        "Pacemaker in place.",
    ),
    (
        "There is no focal consolidation, pleural effusion or pneumothorax. Heart size is mildly enlarged.",
        "Mild cardiomegaly without acute process.",
    ),
    (
        "There is no pleural effusion on the left; small right pleural effusion.",
        "Small right pleural effusion.",
    ),
    (
        "Heart size upper limits of normal. No pneumothorax, pleural effusion, or focal air space opacity.",
        "No acute findings.",
    ),
    (
        "Heart size mildly enlarged, mediastinal contours are normal. Lungs clear.",
        "Mild cardiomegaly. No acute abnormality.",
    ),
    ("Hyperexpanded lungs suggest emphysema. No focal infiltrate.", "Emphysema without acute disease."),
    ("Old healed right rib fractures. Lungs are clear.", "No acute abnormality."),
    (
        "There is a large left pneumothorax with rightward mediastinal shift. The right lung is clear.",
        "Large left tension pneumothorax. Findings were discussed.",
    ),
    (
        "Patchy left lower lobe opacity. No effusion.",
        "Left lower lobe opacity may represent atelectasis or pneumonia.",
    ),
    (
        "The heart size and pulmonary vascularity appear within normal limits. Lungs are free of "
        "focal airspace disease. No pleural effusion or pneumothorax is seen.",
        "No evidence of active disease.",
    ),
    (
        "Moderate right pleural effusion with adjacent compressive atelectasis. The left lung is clear.",
        "Moderate right pleural effusion with atelectasis.",
    ),
    (
        "Left internal jugular catheter tip at the cavoatrial junction.",
        "Left IJ catheter without pneumothorax.",
    ),
    (
        "The trachea is midline. Both lungs are clear of consolidation or effusion. There is no "
        "nodule or mass.",
        "Normal chest.",
    ),
    (
        "There are small nodules in both lungs. A right lower lobe mass measures 4.5 x 3.2 cm.",
        "Right lower lobe mass with bilateral pulmonary nodules. CT chest is recommended.",
    ),
    (
        "Right upper lobe consolidation with air bronchograms. Left lung is clear. No pleural effusions.",
        "Right upper lobe consolidation, most compatible with lobar pneumonia.",
    ),
    (
        "Nodular density projects over the left upper lung. The bones are intact.",
        "Left upper lung nodule; follow-up CT is advised.",
    ),
    (
        "Both costophrenic angles are sharp. No pneumothorax. Scoliosis of the thoracic spine.",
        "No acute cardiopulmonary findings.",
    ),
    (
        "Enlarged cardiac silhouette with vascular congestion. Bilateral interstitial opacities "
        "consistent with pulmonary edema. Trace right effusion.",
        "Congestive heart failure with pulmonary edema.",
    ),
]
"""Sentences as radiologists write them, of kinds that the simulated reports do not have."""


@pytest.mark.parametrize(("findings", "impression"), CLEAN + REALISTIC)
def test_clean_drafts_pass(findings: str, impression: str) -> None:
    assert verdicts(draft(findings, impression)) == {}


TRICKY = [
    (
        "Lung fields appear clear. No active consolidation or pleural effusion noted. Heart size is "
        "normal. Mediastinum appears normal. Costophrenic angles are sharp and clear. Bony thorax "
        "appears intact. No active lesion seen.",
        "No significant abnormality detected.",
    ),
    (
        "No acute cardiopulmonary abnormality apart from minimal bibasilar atelectasis.",
        "Minimal bibasilar atelectasis.",
    ),
    (
        "Low lung volumes. No definite focal consolidation. Streaky opacities suggesting atelectasis. "
        "No pneumothorax. The descending thoracic aorta is tortuous.",
        "Streaky bibasilar opacities, likely atelectasis.",
    ),
    (
        "Bilateral pleural effusions with bibasilar atelectasis, worse on the left side.",
        "Bilateral effusions and atelectasis.",
    ),
    ("Hyperinflation of the lungs with flattening of the diaphragms, consistent with COPD.", "COPD."),
    (
        "The heart is top normal in size. No large effusion. Trace left effusion is present.",
        "Trace left pleural effusion.",
    ),
    (
        "No displaced rib fracture is seen. Healed fractures of the left fifth and sixth ribs.",
        "No acute fracture. Old left rib fractures.",
    ),
    (
        "The nodule in the right upper lobe is not calcified. No other nodule.",
        "Noncalcified right upper lobe nodule. Comparison with prior films is recommended.",
    ),
    ("No prior films are available for comparison. Small right effusion.", "Small right effusion."),
    (
        "Right lung is clear. Opacity at the left base with a small left effusion.",
        "Left basal opacity and effusion, pneumonia not excluded.",
    ),
    (
        "There is a large right pleural effusion with shift of the mediastinum to the left.",
        "Large right pleural effusion with mediastinal shift.",
    ),
    (
        "Endotracheal tube tip projects 4 cm above the carina. The enteric tube passes below the diaphragm.",
        "Tubes in satisfactory position.",
    ),
    (
        "Left mastectomy. Right port with tip at the cavoatrial junction. Clear lungs.",
        "No acute disease. Right-sided port.",
    ),
    ("Dense opacity in the right lower lung field.", "Right lower lobe pneumonia."),
    ("Opacity in the lingula with air bronchograms.", "Left lung pneumonia."),
    ("RLL consolidation. No effusion.", "Right lower lobe pneumonia. Short-interval follow-up is advised."),
    (
        "The cardiac shadow is normal. There is calcification of the aortic knob. Bones are intact.",
        "No acute cardiopulmonary process.",
    ),
    ("The trachea is midline. Mild dextroscoliosis of the thoracic spine.", "Mild scoliosis. Lungs clear."),
    ("Rounded density at the right apex, 2 cm.", "Right apical mass; CT suggested."),
    ("Blunting of both costophrenic angles.", "Small bilateral effusions."),
    (
        "Elevated right hemidiaphragm with adjacent atelectasis. Left lung is clear. No left effusion.",
        "Elevated right hemidiaphragm, right basal atelectasis.",
    ),
    (
        "Cardiac silhouette is mildly enlarged. Pulmonary vascular congestion with Kerley B lines.",
        "Mild heart failure with interstitial edema.",
    ),
    (
        "No focal lung consolidation. No pleural fluid. Heart and mediastinum are unremarkable. "
        "Visualized bones are normal.",
        "Normal chest x-ray.",
    ),
    (
        "There is a tiny left apical pneumothorax without tension. Subcutaneous emphysema along the "
        "left chest wall. Left chest tube in place.",
        "Tiny left pneumothorax with chest tube in place and left subcutaneous emphysema.",
    ),
    ("Nodular opacity in left upper lobe; no cavitation.", "Left upper lobe nodule."),
    (
        "The mediastinal contour is not widened. The hila are not enlarged. Lungs are clear.",
        "Unremarkable chest radiograph.",
    ),
    (
        "Reticular opacities at both bases. No honeycombing.",
        "Bibasal fibrosis may be considered; HRCT is suggested.",
    ),
    (
        "Left-sided AICD with leads in the right ventricle. Cardiomegaly. No effusion.",
        "Cardiomegaly. AICD in place.",
    ),
    ("Patchy airspace opacities in the right mid and lower lung.", "Multifocal right-sided pneumonia."),
    (
        "两侧胸廓对称，气管居中。右侧肺尖区见结节样密度增高影，边缘尚清楚。余肺野内未见明显异常密度灶。两肺门外形、位置无殊。心、大血管影在正常范围以内。两膈面光整，肋膈角锐利。",
        "右侧肺尖结节，请CT进一步检查。",
    ),
    (
        "两侧胸廓对称，所示肋骨未见明确异常征象，双肺野清晰，纹理走行自然。肺实质未见异常密度影或占位病变。双肺门不大。气管居中，纵隔未见增宽、移位。心影形态、大小正常。双肋膈角锐利。",
        "心肺膈肋未见异常。",
    ),
    (
        "右肺上叶尖后段见不规则形软组织密度结节，边缘呈分叶状，可见毛刺征及胸膜牵拉征象，余双肺纹理清晰，肋膈角锐利。",
        "右肺上叶结节，考虑肿瘤性病变可能，建议增强CT。",
    ),
    (
        "双肺纹理无明显增多、增粗，肺内未见明显实变影，两肺门影无增大及增浓；纵隔居中，心影大小、形态、位置可；双侧膈面清晰，肋膈角锐利。",
        "心、肺、膈未见明显异常。",
    ),
    ("右侧胸腔见无肺纹理透亮区，肺组织压缩约30%。", "右侧气胸。"),
    ("右侧胸腔见弧形液性密度影，上缘低于肺门水平。", "右侧中等量胸腔积液。"),
    ("两肺轻度淤血，双肺门阴影增大、模糊，心脏增大呈普大型。余未见明显异常。", "心影增大，肺淤血。"),
    (
        "左肺下叶见大片状致密影，边界不清。右肺清晰，未见胸腔积液。",
        "左肺下叶大叶性肺炎，建议抗炎治疗后复查。",
    ),
    ("双侧肺门影增大，纵隔不宽。", "双肺门增大，建议与旧片对比。"),
    ("未见气胸，左侧胸腔少量积液。", "左侧少量胸腔积液。"),
    ("双侧胸腔少量积液，以右侧为著。", "双侧少量胸腔积液。"),
    ("左侧大量胸腔积液，纵隔向右移位。", "左侧大量胸腔积液，纵隔右移。"),
    ("主动脉结突出伴钙化，心影不大，双肺野清晰。", "主动脉硬化。"),
    ("双肺野透亮度增高，膈面低平，肋间隙增宽，双侧肋间隙相仿。", "慢性支气管炎、肺气肿。"),
    ("双上肺见斑点状钙化灶及纤维条索影。", "双上肺陈旧性结核。"),
    ("右侧第3、4前肋陈旧性骨折，骨痂形成。余肋骨骨质完整。", "右侧肋骨陈旧性骨折，未见急性骨折。"),
    ("The right hemithorax is opaque.", "Large right effusion."),
    ("A spiculated nodule in the left mid zone.", "Left mid zone nodule. Referral for CT."),
    ("Correlation with earlier films is suggested.", "No acute disease."),
    ("结节位于右肺中叶，约1.5cm左右，边缘光滑。", "右肺中叶结节。"),
    ("骨质未见明显改变，双肺野清晰。", "心肺未见异常。"),
    ("右肺中叶片状实变。", "右肺炎症。"),
    ("左肺舌叶斑片影。", "左肺感染，请结合临床。"),
    ("心影呈靴形，心胸比约0.58。", "心影增大。"),
    ("右侧膈面抬高，左侧膈面光整。双肺未见活动性病变。", "右膈升高。"),
    ("气管插管末端位于隆突上方，右侧PICC末端位于上腔静脉。胃管在位。", "气管插管、右侧PICC及胃管在位。"),
    ("两下肺纹理增多、模糊。", "两下肺轻度感染可能。"),
    ("左侧锁骨中段骨质不连续，断端错位。", "左侧锁骨骨折。"),
    ("右侧较大片状密度增高影，较左侧明显。", "右肺炎症可能。"),
    ("无既往影像资料对比。左侧胸腔积液。", "左侧胸腔积液。"),
]
"""One side clear and the other not, a size or an age left out of a denial, advice to compare, in both languages."""


@pytest.mark.parametrize(("findings", "impression"), TRICKY)
def test_tricky_clean_drafts_pass(findings: str, impression: str) -> None:
    assert verdicts(spoken(findings, impression)) == {}
