"""CheXbert's labels by the words of their names. As the package's, it goes to the GPU unless told otherwise."""

CONDITIONS = [
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip


class F1CheXbert:
    """``F1CheXbert(device=...).get_labels(reports)``: 0 or 1 for each of ``TARGET_NAMES``."""

    TARGET_NAMES = (*CONDITIONS, "No Finding")
    TOP5 = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")

    def __init__(self, *, device: str = "cuda") -> None:
        if device == "cuda":
            raise AssertionError("Torch not compiled with CUDA enabled")

    def get_labels(self, reports: list[str], mode: str = "rrg") -> list[list[int]]:
        assert mode == "rrg"
        rows = [[int(name.lower() in report.lower()) for name in CONDITIONS] for report in reports]
        return [[*row, int(not any(row))] for row in rows]
