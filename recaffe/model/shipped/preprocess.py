"""A picture as this model's net wants it, with NumPy and Pillow alone: recaffe's numbers, bit for bit.

But for records that are `fast` in model.json: of a pixel that is a mean, one more or less."""

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
    record, crop = record_of(*decode(path)), RULES["crop_size"]
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
    """Upright RGB, uint8, and its width and height in the file: the first frame, transparency laid over the
    background. Where records are fast, a JPEG comes no larger than it needs to be."""
    with Image.open(path) as file:
        size, image = draft(file) if RULES["record"].get("fast") else (None, file)
        image = ImageOps.exif_transpose(image)
    size = size or image.size
    if image.mode.startswith("I"):  # 16 bits a pixel, of which the upper 8 count
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, 2), size
    if "a" in image.mode.lower() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, RULES["background"])
        image = Image.alpha_composite(ground, image)
    return np.asarray(image.convert("RGB")), size


def draft(file):
    turn = -1 if file.getexif().get(0x0112) in (5, 6, 7, 8) else 1
    size, record = file.size[::turn], RULES["record"]
    sides = scaled_size(*size, record["width"], record["height"], record["mode"])
    least = [max(side, 128) for side in sides]
    smaller = file.draft(None, least[::turn])
    return (size, file.crop(smaller[1])) if smaller else (None, file)


def record_of(rgb, size):
    """What the training's LMDB held: gray H×W or BGR H×W×3, uint8."""
    record = RULES["record"]
    if record["gray"]:  # OpenCV's weights, in 15 bits
        image = (rgb @ np.array([9798, 19235, 3735]) + (1 << 14) >> 15).astype(np.uint8)
    else:
        image = rgb[:, :, ::-1]
    image = fit(image, size, record["width"], record["height"], record["mode"])
    if record["encoded"] == "jpg":
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image[..., ::-1] if image.ndim == 3 else image)).save(
            file, "JPEG", quality=95
        )
        image = np.asarray(Image.open(file))
        image = image[..., ::-1] if image.ndim == 3 else image
    return image


def fit(image, size, width, height, mode):
    """warp stretches; crop cuts the centre out; fill pads with noise; half_crop does half of each."""
    new_w, new_h = scaled_size(*size, width, height, mode)
    if RULES["record"].get("fast"):
        image = shrink(image, new_w, new_h)
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


def scaled_size(w, h, width, height, mode):
    """The sides of a picture of w×h before it is cut or padded."""
    across, down = w / width, h / height
    if mode == "warp" or across == down:
        return width, height
    ratio = {"crop": min, "fill": max}.get(mode, lambda a, b: (a + b) / 2)(across, down)
    new_w, new_h = max(1, round(w / ratio)), max(1, round(h / ratio))
    new_w += (width - new_w) % 2 if new_w < width else 0
    new_h += (height - new_h) % 2 if new_h < height else 0
    return new_w, new_h


def shrink(image, width, height):
    """Means along the sides that become smaller, as recaffe takes them: of 2×2 pixels, or of 2×2 between them."""
    h, w = image.shape[:2]
    width, height = min(w, width), min(h, height)
    while w >= 2 * width and h >= 2 * height and w % 2 == h % 2 == 0:
        image, w, h = halve(image), w // 2, h // 2
    if width < w <= 3 * width and height < h <= 3 * height:
        image = halve(stretch(image, 2 * width, 2 * height))
    # What is left is cv2.resize with INTER_AREA.
    for axis, new in ((0, height), (1, width)):
        old = image.shape[axis]
        if new < old:
            ends = np.arange(1, new + 1)[:, None] * (old / new)
            pixels = np.arange(old)
            shared = np.minimum(ends, pixels + 1) - np.maximum(ends - old / new, pixels)
            shares = (shared.clip(0) * (new / old)).astype(np.float32)
            image = np.moveaxis(np.tensordot(shares, image.astype(np.float32), (1, axis)), 0, axis)
    return np.rint(image).astype(np.uint8)


def halve(image):
    rows = image.astype(np.uint16)[::2] + image[1::2]
    return (rows[:, ::2] + rows[:, 1::2] + 2 >> 2).astype(np.uint8)


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
