#!/usr/bin/env bash
# The flag for accurate rounding makes every colour of a video two levels too dark, unless chrominance is asked for at
# full width too.
#
# Versions: av 18.1.0 (FFmpeg's libswscale 9.5.102), numpy 2.4.6.
# Expected: who asks swscale for ACCURATE_RND, as scripts for medical video do, gets colours nearer to BT.601: grey of
#   luminance 66 of the video range is (66 - 16) * 255 / 219 = 58.2.
# Seen: 58 without any flag, 56 with ACCURATE_RND, 58 with ACCURATE_RND and FULL_CHR_H_INT; over all greys of the video
#   range the mean error is below half a level without the flag and above one and a half with it.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 900 v/bin/pip install -q --no-compile --disable-pip-version-check av==18.1.0 numpy==2.4.6
timeout 120 v/bin/python - <<'PY'
import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

LUMINANCE = np.arange(16, 236)
WANTED = (LUMINANCE - 16) * 255 / 219


def shown(flags: int) -> np.ndarray:
    found = []
    for value in LUMINANCE:
        frame = av.VideoFrame(64, 64, "yuv420p")
        for plane, level in zip(frame.planes, (int(value), 128, 128), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        picture = VideoReformatter().reformat(
            frame,
            format="rgb24",
            src_colorspace=Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=flags,
            threads=1,
        )
        found.append(picture.to_ndarray()[32, 32].tolist())
    return np.array(found, float)


errors = {}
for name, flags in {
    "BICUBIC": Interpolation.BICUBIC,
    "BICUBIC, ACCURATE_RND": Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
    "BICUBIC, ACCURATE_RND, FULL_CHR_H_INT": Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT,
}.items():
    greys = shown(flags)
    errors[name] = float((greys - WANTED[:, None]).mean())
    print(f"{name}: luminance 66 is {greys[50].astype(int).tolist()}, mean error {errors[name]:+.2f} levels")
plain, accurate, full = errors.values()
assert abs(plain) < 0.75 and abs(full) < 0.75, "the other ways are no longer right"
assert accurate < -1.25, "accurate rounding is no longer dark"
PY
