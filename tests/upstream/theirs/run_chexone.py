"""CheXOne: the code of its README, whose least and most pixels are read from there."""

import json
import re
from pathlib import Path

from qwen import code, ids_of, pictures, processor_of, see, write

readme = (code() / "README.md").read_text()
limits = {
    name: eval(found, {})
    for name, found in re.findall(r"^# (min_pixels|max_pixels) = ([\d*]+)$", readme, re.M)
}
processor = processor_of("Qwen2_5_VLProcessor", **limits)
ids = {}
for name, (words, count) in json.loads(Path("asked.json").read_text()).items():
    assert json.dumps(words) in readme, words
    content = [{"type": "image"}] * count + [{"type": "text", "text": words}]
    ids[name] = ids_of(processor, [{"role": "user", "content": content}], pictures()[2 : 2 + count])
tokens = int(re.findall(r"max_new_tokens=(\d+)", readme)[0])
write(see(processor), {"ids": ids, "limits": {"new tokens": tokens, **limits}})
