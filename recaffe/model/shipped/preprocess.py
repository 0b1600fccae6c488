"""A picture as this model's net wants it, with NumPy and Pillow alone: recaffe's numbers, bit for bit."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).parent
MODEL = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
LABELS = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
RULES = MODEL["preprocessing"]


def blob(path):
    """The net's inputs, float32 N×C×H×W, whose mean scores were tested: a picture's centre crop, or the ten
    of its corners and centre, as they are and mirrored."""
    record, crop = record_of(decode(path)), RULES["crop_size"]
    chw = record[None] if record.ndim == 2 else record.transpose(2, 0, 1)
    # The file ends with the mean's floats.
    raw = (HERE / "mean.binaryproto").read_bytes()[-4 * chw.size :]
    values = (chw - np.frombuffer(raw, "<f4").reshape(chw.shape)) * np.float32(RULES["scale"])
    if not crop:
        return np.ascontiguousarray(values[None], np.float32)
    down, across = (side - crop for side in chw.shape[1:])
    places = [(down // 2, across // 2)]
    if RULES.get("crops", 1) == 10:
        places = [(0, 0), (0, across), (down, 0), (down, across), *places]
    views = [values[:, y : y + crop, x : x + crop] for y, x in places]
    views += [view[:, :, ::-1] for view in views] if len(views) > 1 else []
    return np.ascontiguousarray(views, np.float32)


def decode(path):
    """Upright RGB, uint8: the first frame, transparency laid over the background."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16 bits a pixel, of which the upper 8 count
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, 2)
    if "a" in image.mode.lower() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, RULES["background"])
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB"))


def record_of(rgb):
    """What the training's LMDB held: gray H×W or BGR H×W×3, uint8."""
    record = RULES["record"]
    if record["gray"]:  # OpenCV's weights, in 15 bits
        image = (rgb @ np.array([9798, 19235, 3735]) + (1 << 14) >> 15).astype(np.uint8)
    else:
        image = rgb[:, :, ::-1]
    image = fit(image, record["width"], record["height"], record["mode"])
    if record["encoded"] == "jpg":
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)).save(
            file, "JPEG", quality=95
        )
        image = np.asarray(Image.open(file))
        image = image[..., ::-1] if image.ndim == 3 else image
    return image


def fit(image, width, height, mode):
    """warp stretches; crop cuts the centre out; fill pads with noise; half_crop does half of each."""
    h, w = image.shape[:2]
    across, down = w / width, h / height
    if mode == "warp" or across == down:
        return stretch(image, width, height)
    ratio = {"crop": min, "fill": max}.get(mode, lambda a, b: (a + b) / 2)(across, down)
    new_w, new_h = max(1, round(w / ratio)), max(1, round(h / ratio))
    new_w += (width - new_w) % 2 if new_w < width else 0
    new_h += (height - new_h) % 2 if new_h < height else 0
    image = stretch(image, new_w, new_h)
    y, x = max(0, round((new_h - height) / 2)), max(0, round((new_w - width) / 2))
    image = image[y : y + height, x : x + width]
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    noise = np.random.Generator(np.random.PCG64([width, height, w, h]))
    out = noise.integers(0, 255, (height, width, *image.shape[2:]), dtype=np.uint8)
    y, x = (height - h) // 2, (width - w) // 2
    out[y : y + h, x : x + w] = image
    return out


def stretch(image, width, height):
    """cv2.resize with INTER_LINEAR, which counts in 2048ths."""
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    left, a, b = _taps(w, width)
    inside = (left >= 0) & (left < w - 1)
    top, c, d = _taps(h, height)
    more = (1,) * (image.ndim - 2)  # an axis for the channels, if there are any
    a, b = np.where(inside, a, 2048).reshape(-1, *more), np.where(inside, b, 0).reshape(-1, *more)
    c, d = c.reshape(-1, 1, *more), d.reshape(-1, 1, *more)

    def row(y):
        r = image[np.clip(y, 0, h - 1)]
        return (r[:, np.clip(left, 0, w - 1)] * a + r[:, np.clip(left + 1, 0, w - 1)] * b) >> 4

    return ((row(top) * c >> 16) + (row(top + 1) * d >> 16) + 2 >> 2).astype(np.uint8)


def _taps(size, out):
    """For each new pixel the old one before it, and the weights of that and of the next."""
    x = ((np.arange(out) + 0.5) * (1 / (out / size)) - 0.5).astype(np.float32)
    before = np.floor(x)
    part = x - before
    weights = (np.rint(v * 2048).astype(np.int64) for v in (1 - part, part))
    return (before.astype(int), *weights)
