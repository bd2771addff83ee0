"""UMIT has no code of its own: Qwen2-VL's processor, with the pixels that its command line names."""

import json
from pathlib import Path

from qwen import ids_of, pictures, processor_of, see, write

processor = processor_of("Qwen2VLProcessor", min_pixels=56 * 56, max_pixels=602112)
ids = {}
for name, (words, count) in json.loads(Path("asked.json").read_text()).items():
    content = [{"type": "image"}] * count + [{"type": "text", "text": words}]
    ids[name] = ids_of(processor, [{"role": "user", "content": content}], pictures()[2 : 2 + count])
write(see(processor), {"ids": ids})
