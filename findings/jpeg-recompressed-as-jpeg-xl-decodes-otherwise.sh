#!/usr/bin/env bash
# A JPEG that was recompressed as JPEG XL, which is called lossless, does not decode to the pixels of the JPEG.
#
# Versions: imagecodecs 2026.3.6 (libjxl and libjpeg-turbo as its wheel brings them), numpy 2.4.6.
# Expected: transfer syntax 1.2.840.10008.1.2.4.111 (JPEG XL JPEG Recompression) gives the pixels of the JPEG, one
#   level of rounding at most.
# Seen: decoded as JPEG XL, single pixels differ by up to two levels: libjxl has an inverse DCT of its own. The JPEG that
#   is taken out of it is the original, byte for byte, and libjpeg-turbo gives its pixels exactly.
set -euo pipefail
work=$(mktemp -d)
finish() { rm -rf "$work"; }
trap finish EXIT
cd "$work"
python3 -m venv v
timeout 600 v/bin/pip install -q --no-compile --disable-pip-version-check imagecodecs==2026.3.6 numpy==2.4.6
timeout 60 v/bin/python - <<'PY'
import imagecodecs
import numpy as np

y, x = np.mgrid[0:160, 0:144].astype(float)
film = 128 + 60 * np.sin(x / 9) * np.cos(y / 7) + np.random.default_rng(1).normal(0, 6, x.shape)
jpeg = bytes(imagecodecs.jpeg8_encode(np.clip(film, 0, 255).astype(np.uint8), level=95))
recompressed = imagecodecs.jpegxl_encode_jpeg(jpeg)
original = imagecodecs.jpeg8_decode(jpeg).astype(int)
by_libjxl = imagecodecs.jpegxl_decode(recompressed).astype(int)
taken_out = bytes(imagecodecs.jpegxl_decode_jpeg(recompressed))
worst = int(np.abs(by_libjxl - original).max())
print("levels between libjxl and libjpeg-turbo:", worst, "; the JPEG taken out is the original:", taken_out == jpeg)
raise SystemExit(0 if worst > 1 and taken_out == jpeg else 1)
PY
