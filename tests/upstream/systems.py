"""Which code of which system is run, at which commit and with which versions."""

from dataclasses import dataclass

VISION = ("torchvision==0.28.0",)
"""Without its compiled operators: only its transforms are used."""


@dataclass(frozen=True, slots=True)
class System:
    """``packages`` are installed with what they need, ``alone`` without; ``repository`` "" means the packages alone.

    ``under`` is the folder of the repository that is checked out, "" for all.
    """

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    repository: str = ""
    commit: str = ""
    under: str = ""


SYSTEMS = (
    System("umit", ("transformers==4.51.3", "numpy<2.5", "pillow")),
    System("chexone", ("transformers==4.51.3", "numpy<2.5", "pillow"), (),
           "YBZh/CheXOne", "bed20f6a75b2a5dd84cac0b03e7c937f0a2b601a"),
    System("lingshu", ("transformers==4.51.3", "numpy<2.5", "pillow"), (),
           "alibaba-damo-academy/MedEvalKit", "9b12e3b34232a8779cc1275417bf4f72f03d28e0"),
    System("qwen3-vl", ("transformers==4.57.1", "numpy<2.5", "pillow"), VISION),
    System("qwen3-vl-capped", ("transformers==5.23.0", "numpy<2.5", "pillow"), VISION),
    System("medgemma", ("transformers==4.51.3", "numpy<2.5", "pillow")),
    System("llava-med", ("transformers==4.36.2", "numpy<2.5", "pillow", "sentencepiece", "protobuf", "einops"), VISION,
           "microsoft/LLaVA-Med", "d406e3fc7c3d1e4c797a7676de18cbfd070b6d2c"),
    System("medrega", ("transformers==4.37.2", "numpy<2.5", "pillow", "sentencepiece"), VISION,
           "xmed-lab/MedRegA", "dfdb0dbbcca0b80b8f1c121c3c45490dc8001529"),
    System("ming", ("transformers==4.37.2", "numpy<2.5"), (),
           "MediaBrain-SJTU/MING", "8efa8cbf5c15f00429f11b078036029552dd5c20"),
    System("uni-med", ("transformers==4.36.2", "numpy<2.5", "pillow", "omegaconf", "opencv-python-headless"),
           (*VISION, "timm==0.9.12", "peft==0.7.1", "accelerate==0.25.0"),
           "tsinghua-msiip/Uni-Med", "63b9dfb0db31e61afcb381865225d69518377f3d"),
    System("biomedclip", ("numpy<2.5", "pillow", "ftfy", "regex", "huggingface-hub"),
           (*VISION, "open_clip_torch==3.3.0", "timm==1.0.31")),
    System("internvl", ("transformers==4.37.2", "numpy<2.5", "pillow", "sentencepiece", "einops==0.6.1"),
           (*VISION, "timm==0.9.12", "peft==0.10.0", "accelerate==0.25.0"),
           "OpenGVLab/InternVL", "2410d1dbf208f0e799459aff9376e5747dbf41a2", "internvl_chat/internvl/"),
    System("fleming-vl", ("transformers==4.37.2", "numpy<2.5", "pillow"), (),
           "UbiquantAI/Fleming-VL", "e1f55b3e83d3086248587f2417e9ff66abc10254"),
    System("lingshu-i", ("transformers==4.51.3", "numpy<2.5", "pillow"), VISION,
           "alibaba-damo-academy/MedEvalKit", "9b12e3b34232a8779cc1275417bf4f72f03d28e0"),
    System("radvlm", ("transformers==4.46.0", "numpy<2.5", "pillow"), (),
           "uzh-dqbm-cmi/RadVLM", "69fe946204fc61fb239021047f1a86019c841350"),
)  # fmt: skip
BY_NAME = {one.name: one for one in SYSTEMS}
