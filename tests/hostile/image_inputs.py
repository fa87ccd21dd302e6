"""Images as strangers hand them over: every encoding, cut, changed and lied about; special files; values in memory."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from hostile.judging import Input

ORIENTATION = 0x0112


def picture(height=40, width=56):
    """RGB uint8 (height, width, 3) with gradients, an edge and some noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(3).integers(0, 20, (height, width))
    red, green = x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1)
    return np.dstack([red, green, np.where(x > width // 2, 200, 30) + noise]).astype(np.uint8)


def _pillow(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _opencv(suffix, array):
    return cv2.imencode(suffix, array)[1].tobytes()


def _exif(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def _several():
    return {"save_all": True, "append_images": [Image.fromarray(picture()[:, ::-1]), Image.fromarray(picture()[::-1])]}


def encodings():
    """Files that are right, by name: the bytes and the suffix."""
    deep = picture().astype(np.uint16) * 257
    made = {
        f"{kind} {mode}": (_pillow(kind, mode), suffix)
        for kind, suffix, modes in (
            ("JPEG", "jpg", ("RGB", "L", "CMYK", "YCbCr")),
            ("PNG", "png", ("RGB", "RGBA", "L", "LA", "P", "1")),
            ("BMP", "bmp", ("RGB", "L", "P", "1")),
            ("GIF", "gif", ("RGB", "L", "P", "1")),
            ("TIFF", "tif", ("RGB", "RGBA", "L", "P", "1", "CMYK", "LAB")),
            ("WEBP", "webp", ("RGB", "RGBA", "L")),
            ("JPEG2000", "jp2", ("RGB", "RGBA", "L")),
            ("AVIF", "avif", ("RGB", "RGBA", "L")),
        )
        for mode in modes
        if not (kind == "TIFF" and mode == "LAB")
    }
    made |= {
        "progressive JPEG": (_pillow("JPEG", progressive=True), "jpg"),
        "lossless WebP": (_pillow("WEBP", lossless=True), "webp"),
        "animated GIF": (_pillow("GIF", **_several()), "gif"),
        "animated WebP": (_pillow("WEBP", **_several()), "webp"),
        "animated PNG": (_pillow("PNG", **_several()), "png"),
        "animated AVIF": (_pillow("AVIF", **_several()), "avif"),
        "TIFF of pages": (_pillow("TIFF", **_several()), "tif"),
        "MPO": (_pillow("MPO", **_several()), "mpo"),
        **{
            f"TIFF by {way}": (_pillow("TIFF", compression=way), "tif")
            for way in ("tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg")
        },
        "TIFF by group4": (_pillow("TIFF", "1", compression="group4"), "tif"),
        "deep PNG": (_opencv(".png", deep), "png"),
        "deep TIFF": (_opencv(".tif", deep), "tif"),
        "deep grey JP2": (_opencv(".jp2", deep[..., 0]), "jp2"),
        "PPM": (_opencv(".ppm", picture()), "ppm"),
        "PGM": (_opencv(".pgm", picture()[..., 0]), "pgm"),
        "PAM": (_opencv(".pam", picture()), "pam"),
        "Sun raster": (_opencv(".ras", picture()), "ras"),
    }
    return made


def _written(name, data, suffix="png"):
    def make(folder):
        path = folder / f"a.{suffix}"
        path.write_bytes(data)
        return path

    return name, make


def right_files():
    return [Input(*_written(name, data, suffix), accepted=True) for name, (data, suffix) in encodings().items()]


def cut_files(parts):
    """Each file cut at so many places."""
    for name, (data, suffix) in encodings().items():
        places = sorted({len(data) * part // (parts + 1) for part in range(parts + 1)} | {1, 3, 11})
        for place in places:
            yield Input(*_written(f"{name} cut at {place} of {len(data)}", data[:place], suffix))


def changed_files(seed, each):
    """Each file with bytes flipped, set, repeated, taken out, or replaced by a number that is odd."""
    random_ = random.Random(seed)
    odd = [struct.pack(layout, value) for layout in (">I", "<I") for value in (0, 1, 2**31 - 1, 2**31, 2**32 - 1)]
    odd += [struct.pack("<H", value) for value in (0, 1, 255, 32767, 32768, 65535)]
    for name, (data, suffix) in encodings().items():
        for number in range(each):
            changed = bytearray(data)
            way = random_.choice(["bits", "head", "number", "out", "twice", "zeros"])
            place = random_.randrange(len(data)) if way != "head" else random_.randrange(min(len(data), 64))
            if way in ("bits", "head"):
                for _ in range(random_.choice([1, 1, 3, 20])):
                    at = random_.randrange(len(data)) if way == "bits" else random_.randrange(min(len(data), 64))
                    changed[at] ^= 1 << random_.randrange(8)
            elif way == "number":
                value = random_.choice(odd)
                changed[place : place + len(value)] = value
            elif way == "out":
                del changed[place : place + random_.choice([1, 4, 100])]
            elif way == "twice":
                changed[place:place] = changed[place : place + random_.choice([1, 4, 100])]
            else:
                changed[place : place + 64] = bytes(64)
            yield Input(*_written(f"{name}, {way} near {place} ({number})", bytes(changed), suffix))


def _png_of(width, height, depth=8, colour=2):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    made = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def _patched(data, place, value):
    return data[:place] + value + data[place + len(value) :]


SIDES = (
    (0, 0),
    (0, 9),
    (9, 0),
    (1, 65535),
    (65535, 1),
    (65535, 65535),
    (16383, 16383),
    (30000, 30000),
    (57, 40),
    (56, 39),
)
WIDE = ((2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (2**31, 2**31), (1, 2**30), (100000, 100000))


def lying_headers():
    """Headers that tell of other sizes; where the file has check sums, they are right."""
    made = {name: data for name, (data, _) in encodings().items()}
    for width, height in (*SIDES, *WIDE):
        for depth, colour in ((8, 2), (16, 6), (1, 0)):
            yield Input(
                *_written(f"PNG of {width} x {height} at {depth}/{colour}", _png_of(width, height, depth, colour))
            )
        size = struct.pack("<II", width & 0x7FFFFFFF, height & 0x7FFFFFFF)
        yield Input(*_written(f"BMP of {width} x {height}", _patched(made["BMP RGB"], 18, size), "bmp"))
        negative = struct.pack("<ii", max(width & 0x7FFFFFFF, 1), -max(height & 0x7FFFFFFF, 1))
        yield Input(*_written(f"BMP of {width} x -{height}", _patched(made["BMP RGB"], 18, negative), "bmp"))
        siz = made["JPEG2000 RGB"].index(b"\xff\x4f\xff\x51") + 8
        size = struct.pack(">II", width, height)
        yield Input(*_written(f"JP2 of {width} x {height}", _patched(made["JPEG2000 RGB"], siz, size), "jp2"))
        ispe = made["AVIF RGB"].index(b"ispe") + 8
        yield Input(*_written(f"AVIF of {width} x {height}", _patched(made["AVIF RGB"], ispe, size), "avif"))
        tiff = _tiff({256: width, 257: height})
        yield Input(*_written(f"TIFF of {width} x {height}", tiff, "tif"))
        yield Input(*_written(f"TIFF of tiles of {width} x {height}", _tiff({322: width, 323: height}), "tif"))
        yield Input(*_written(f"PPM of {width} x {height}", b"P6 %d %d 255\n" % (width, height) + bytes(99), "ppm"))
        yield Input(*_written(f"ASCII PPM of {width} x {height}", b"P3 %d %d 255\n1 2 3" % (width, height), "ppm"))
        yield Input(*_written(f"Sun of {width} x {height}", _patched(made["Sun raster"], 4, size), "ras"))
    for width, height in SIDES:
        size = struct.pack("<HH", width, height)
        yield Input(*_written(f"GIF of {width} x {height}", _patched(made["GIF RGB"], 6, size), "gif"))
        sof = made["JPEG RGB"].index(b"\xff\xc0") + 5
        size = struct.pack(">HH", height, width)
        yield Input(*_written(f"JPEG of {width} x {height}", _patched(made["JPEG RGB"], sof, size), "jpg"))
        sof = made["progressive JPEG"].index(b"\xff\xc2") + 5
        yield Input(
            *_written(f"progressive JPEG of {width} x {height}", _patched(made["progressive JPEG"], sof, size), "jpg")
        )
        start = made["WEBP RGB"].index(b"\x9d\x01\x2a") + 3
        size = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
        yield Input(*_written(f"WebP of {width} x {height}", _patched(made["WEBP RGB"], start, size), "webp"))
        canvas = max(width - 1, 0).to_bytes(3, "little") + max(height - 1, 0).to_bytes(3, "little")
        place = made["animated WebP"].index(b"VP8X") + 12
        yield Input(
            *_written(f"WebP canvas of {width} x {height}", _patched(made["animated WebP"], place, canvas), "webp")
        )
    for tag in (258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 339):
        for value in (0, 1, 7, 64, 255, 65535, 2**31, 2**32 - 1):
            yield Input(*_written(f"TIFF whose tag {tag} is {value}", _tiff({tag: value}), "tif"))


def _tiff(changed):
    """A TIFF of 4 x 4, RGB, with some of its tags changed."""
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 2, 273: 200, 277: 3, 278: 4, 279: 48} | changed
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(200, b"\0") + bytes(range(48))


def exif_files():
    """Every orientation there is and is not, in every kind of file; and EXIF that is damaged."""
    blocks = {f"orientation {value}": _exif(value) for value in (*range(10), 255, 65535)}
    good = _exif(6)
    blocks |= {f"EXIF cut at {place}": good[:place] for place in range(6, len(good), 3)}
    blocks |= {
        "EXIF whose tags are elsewhere": good[:10] + b"\xff\xff\xff\x7f" + good[14:],
        "EXIF of 65,535 tags": good[:14] + b"\xff\xff" + good[16:],
        "EXIF that is none": b"Exif\0\0nothing",
        "EXIF twice": b"Exif\0\0" + good,
    }
    for name, block in blocks.items():
        for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("AVIF", "avif")):
            if kind in ("TIFF", "AVIF") and not name.startswith("orientation"):
                continue
            yield Input(*_written(f"{kind} of {name}", _pillow(kind, exif=block), suffix), accepted=True)


OTHERS = {
    "nothing": b"",
    "one byte": b"\xff",
    "text": b"just words\n" * 50,
    "HTML": b"<html><img src='http://127.0.0.1/'></html>",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='http://127.0.0.1/a'/></svg>",
    "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/bin/true) run\n",
    "zip": b"PK\x03\x04" + bytes(99),
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
    "HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 999999 +X 999999\n",
    "PFM": b"PF\n99999 99999\n-1.0\n" + bytes(99),
    "EXR": b"\x76\x2f\x31\x01" + bytes(99),
    "JPEG XL": b"\xff\x0a" + bytes(99),
    "ICO": b"\0\0\1\0\1\0" + bytes(99),
    "PSD": b"8BPS\0\1" + bytes(99),
    "a playlist": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "the start of a JPEG again and again": b"\xff\xd8" * 5000,
    "a JPEG without an end": b"\xff\xd8\xff\xe1" + b"\xff\xff" * 40000,
    "a JP2 of boxes": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 30000,
    "a JP2 that goes back": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0free\0\0\0\x01free" + bytes(8),
    "a PNG of chunks": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0junkAAAA" * 30000,
    "a TIFF that is its own list of tags": b"II*\0\0\0\0\0" * 99,
    "a big TIFF whose tags are far": b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "PPM of digits": b"P6 " + b"9" * 100000,
    "PPM of comments": b"P6 " + b"#\n" * 100000,
    "PAM without sides": b"P7\nDEPTH 3\nENDHDR\n",
}


def other_files():
    """What is no image, under every suffix an image has."""
    for name, data in OTHERS.items():
        for suffix in ("jpg", "png", "tif", "webp", "avif", "gif", "bmp", "jp2"):
            yield Input(*_written(f"{name} as .{suffix}", data, suffix), accepted=False)


def wrong_suffixes():
    """What is an image, under another's suffix."""
    suffixes = ("jpg", "png", "tif", "webp", "avif", "gif", "bmp", "jp2", "heic", "txt", "")
    for name in ("JPEG RGB", "PNG RGB", "GIF RGB", "BMP RGB", "TIFF RGB", "WEBP RGB", "JPEG2000 RGB", "AVIF RGB"):
        for suffix in suffixes:
            yield Input(*_written(f"{name} as .{suffix}", encodings()[name][0], suffix), accepted=True)


def bombs():
    """Small files that would take much memory or time."""

    def of(width, height):
        def make(folder):
            rows, path = zlib.compressobj(9), folder / "a.png"
            data = b"".join(rows.compress(bytes(3 * width + 1)) for _ in range(height // 10)) + rows.flush()
            start, chunk = _png_of(width, height), b"IDAT" + data
            crc = struct.pack(">I", zlib.crc32(chunk))
            path.write_bytes(start[:33] + struct.pack(">I", len(data)) + chunk + crc + start[-12:])
            return path

        return Input(f"a PNG of {width} x {height}", make, accepted=False)

    def sparse(name, start):
        def make(folder):
            path = folder / name
            path.write_bytes(start)
            os.truncate(path, 2**41)
            return path

        return Input(f"two terabytes of holes, {name}", make, accepted=False)

    made = {name: data for name, (data, _) in encodings().items()}
    yield from (of(30_000, 30_000), of(2_000_000, 201), of(201, 2_000_000))
    yield from (sparse("a.jpg", b""), sparse("b.png", _png_of(9, 9)), sparse("c.jpg", made["JPEG RGB"]))
    yield from (sparse("d.tif", made["TIFF RGB"]), sparse("e.avif", made["AVIF RGB"]), sparse("f.ppm", made["PPM"]))


def special_files():
    """What is no regular file, or cannot be read."""

    def fifo(folder):
        os.mkfifo(folder / "a.png")
        return folder / "a.png"

    def bound(folder):
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(folder)  # the path may be too long
            try:
                server.bind("a.png")
            finally:
                os.chdir(here)
        return folder / "a.png"

    def link(target):
        def make(folder):
            (folder / "a.png").symlink_to(target)
            return folder / "a.png"

        return make

    def chain(folder):
        for number in range(60):
            (folder / f"{number}.png").symlink_to(f"{number + 1}.png")
        (folder / "60.png").write_bytes(_pillow("PNG"))
        return folder / "0.png"

    def named_folder(folder):
        (folder / "a.png").mkdir()
        return folder / "a.png"

    yield Input("a named pipe", fifo, accepted=False)
    yield Input("a socket", bound, accepted=False)
    yield Input("a folder", named_folder, accepted=False)
    yield Input("sixty links", chain, accepted=False)
    for target in (
        "a.png",
        "nowhere.png",
        "/dev/zero",
        "/dev/null",
        "/dev/full",
        "/dev/random",
        "/dev/stdin",
        "/dev/tty",
    ):
        yield Input(f"a link to {target}", link(target), accepted=False)
    for target in (
        "/proc/self/mem",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/1/mem",
    ):
        yield Input(f"a link to {target}", link(target), accepted=False)
    for name in ("", ".", "..", "/", "a\0.png", "a" * 300 + ".png", "x/" * 3000 + "a.png", "no/such/folder/a.png"):
        yield Input(f"the path {name[:20]!r}", lambda folder, name=name: f"{folder}/{name}", accepted=False)


def names():
    """Right images of odd names, which have to be taken."""
    odd = [
        "a\nb.png",
        "\N{GRINNING FACE}.png",
        "\u202egnp.a.png",
        "-rf.png",
        "--help.png",
        "%d.png",
        "%s%n.png",
        "a b.png",
    ]
    odd += [
        "'quoted'.png",
        '"quoted".png',
        "$HOME.png",
        "`true`.png",
        "a;b.png",
        "a|b.png",
        "[x]*?.png",
        "#a.png",
        "~.png",
    ]
    odd += [
        "\udcff\udcfe.png",
        "a\r.png",
        "a\t.png",
        "\x1b[31m.png",
        "a" * 251 + ".png",
        "e\u0301.png",
        ".hidden.png",
        "A.PNG",
    ]
    odd += ["a.png.txt.png", "COM1.png", "tcp:a.png", "file:a.png", "camera.png", "&amp;<b>.png", "{0}.png", "\\a.png"]

    def make(name):
        def write(folder):
            (folder / name).write_bytes(_pillow("PNG"))
            return folder / name

        return write

    for name in odd:
        yield Input(f"the name {name[:30]!r}", make(name), accepted=True)


def _lazy(cut):
    data = _pillow("PNG")

    def make(folder):
        image = Image.open(io.BytesIO(data[: len(data) * cut // 10]))
        if cut == 10:
            image.close()
        return image

    return make


def in_memory():
    """Arrays, tensors, PIL images and other things."""
    rgb = picture()

    def plain(name, value, accepted=None):
        return Input(name, lambda folder: value, accepted)

    for dtype in (
        "bool",
        "int8",
        "int16",
        "uint16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "O",
        "S3",
    ):
        yield plain(f"array of {dtype}", np.zeros((4, 4, 3), dtype), accepted=False)
    shapes = ((), (0,), (5,), (0, 0), (4, 0), (0, 4), (0, 4, 3), (4, 4, 0), (4, 4, 1), (4, 4, 2), (4, 4, 4), (3, 4, 4))
    for shape in (*shapes, (1, 4, 4, 3), (4, 4, 3, 1), (1, 1, 1, 1, 1)):
        yield plain(f"array of {shape}", np.zeros(shape, np.uint8), accepted=shape in ((3, 4, 4),) and False)
    for shape in ((1, 1), (1, 1, 3), (1, 999, 3), (999, 1, 3), (4, 4), (7, 5, 3)):
        yield plain(f"array of {shape}", np.full(shape, 7, np.uint8), accepted=True)
    yield plain("array that repeats itself", np.broadcast_to(np.uint8(3), (10**6, 10**6, 3)), accepted=False)
    yield plain("small array that repeats itself", np.broadcast_to(np.uint8(3), (6, 6, 3)), accepted=True)
    yield plain("array backwards", rgb[::-1, ::-2, ::-1], accepted=True)
    yield plain("array in columns", np.asfortranarray(rgb), accepted=True)
    yield plain("masked array", np.ma.masked_equal(rgb, 3), accepted=False)
    yield plain("records", np.zeros((4, 4, 3), [("a", "u1")]), accepted=False)

    def mapped(folder):
        return np.memmap(folder / "a.raw", np.uint8, "w+", shape=(6, 6, 3))

    yield Input("mapped array", mapped, accepted=True)
    chw = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        made = (chw / 255).to(getattr(torch, dtype))
        yield plain(f"tensor of {dtype}", made, accepted=True)
        yield plain(f"tensor of {dtype} that learns", made.clone().requires_grad_(), accepted=True)
        for wrong in (torch.nan, torch.inf, -torch.inf, -1, 2):
            changed = made.clone()
            changed[1, 3, 3] = wrong
            yield plain(f"tensor of {dtype} with {wrong}", changed, accepted=False)
    for dtype in (
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "complex64",
        "float8_e4m3fn",
        "uint16",
        "uint32",
        "uint64",
    ):
        if hasattr(torch, dtype):
            yield plain(
                f"tensor of {dtype}",
                torch.zeros(3, 4, 4).to(getattr(torch, dtype)),
                accepted=None if "8_" in dtype else False,
            )
    for shape in (
        (),
        (0,),
        (3,),
        (3, 0, 0),
        (3, 0, 4),
        (3, 4, 0),
        (0, 4, 4),
        (1, 4, 4),
        (4, 4, 4),
        (4, 4, 3),
        (1, 3, 4, 4),
        (3, 4, 4, 1),
    ):
        yield plain(f"tensor of {shape}", torch.zeros(shape, dtype=torch.uint8), accepted=False)
    yield plain("tensor of strides", chw[:, ::2, ::3], accepted=True)
    yield plain("tensor on end", chw.transpose(1, 2), accepted=True)
    yield plain(
        "tensor that repeats itself", torch.zeros(3, 1, 1, dtype=torch.uint8).expand(3, 10**6, 10**6), accepted=False
    )
    yield plain("sparse tensor", torch.zeros(3, 4, 4).to_sparse(), accepted=False)
    yield plain("tensor of no device", torch.zeros(3, 4, 4, device="meta"), accepted=False)
    yield plain("parameter", torch.nn.Parameter(chw / 255), accepted=True)
    yield plain("tensor of a closed inference", _inferred(chw), accepted=True)
    yield plain("conjugated", torch.zeros(3, 4, 4, dtype=torch.complex64).conj(), accepted=False)
    for mode in (
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "HSV",
        "LAB",
        "I",
        "F",
        "I;16",
        "I;16B",
    ):
        refused = mode in ("I", "F")
        yield plain(
            f"PIL image of {mode}",
            Image.new(mode, (5, 4)),
            accepted=False if refused else None if mode == "LAB" else True,
        )
        for size in ((0, 0), (0, 5), (5, 0)):
            yield plain(f"PIL image of {mode}, {size}", Image.new(mode, size), accepted=False)
    for cut in range(3, 11):
        yield Input(f"PIL image of a file with {cut} tenths", _lazy(cut), accepted=False)
    for orientation in (*range(10), 65535, "six", 6.5, None, (6, 6), -1):
        image = Image.fromarray(rgb)
        image.getexif()[ORIENTATION] = orientation
        yield plain(f"PIL image of orientation {orientation!r}", image, accepted=True)
    for wrong in (b"", b"junk", b"Exif\0\0", "text", 3, None, b"II*\0\xff\xff\xff\xff"):
        image = Image.fromarray(rgb)
        image.info["exif"] = wrong
        yield plain(f"PIL image whose EXIF is {wrong!r}", image, accepted=None)
    palette = Image.fromarray(rgb).convert("P")
    for wrong in (bytes(256), 3, b"", b"\1", "text", (1, 2, 3), -1):
        image = palette.copy()
        image.info["transparency"] = wrong
        yield plain(f"palette whose transparency is {wrong!r:.40}", image, accepted=None)
    for value in (
        None,
        3,
        2.5,
        True,
        {},
        {1: 2},
        set(),
        [],
        (),
        [[]],
        object(),
        type,
        print,
        bytearray(b"ab"),
        Ellipsis,
        range(3),
    ):
        yield plain(f"{value!r:.40}", value, accepted=False)


def _inferred(tensor):
    with torch.inference_mode():
        return tensor + 0


def sources():
    """What runs are told to explain: folders, patterns and lists; each holds one image that has to be found."""

    def of(name, fill, source=""):
        def make(folder):
            fill(folder)
            return [f"{folder}/{source}" if source else str(folder)]

        return Input(name, make)

    def good(folder, name="good.png"):
        (folder / name).write_bytes(_pillow("PNG"))

    def beside(make):
        def fill(folder):
            good(folder)
            make(folder)

        return fill

    def listed(data):
        def fill(folder):
            good(folder)
            (folder / "list.txt").write_bytes(data)

        return fill

    spoilers = {
        "a pipe": lambda folder: os.mkfifo(folder / "a.png"),
        "a loop": lambda folder: (folder / "a.png").symlink_to("a.png"),
        "a loop of two": lambda folder: (
            (folder / "a.png").symlink_to("b.png"),
            (folder / "b.png").symlink_to("a.png"),
        ),
        "a link to nowhere": lambda folder: (folder / "a.png").symlink_to("nowhere"),
        "a link upwards": lambda folder: (folder / "up").symlink_to(folder),
        "a link upwards like an image": lambda folder: (folder / "up.png").symlink_to(folder),
        "a device": lambda folder: (folder / "a.png").symlink_to("/dev/zero"),
        "a folder like an image": lambda folder: (folder / "a.png").mkdir(),
        "a closed folder": lambda folder: (folder / "closed").mkdir(0),
        "a closed file": lambda folder: (folder / "a.png").touch(0),
        "names that are no text": lambda folder: (folder / "\udcff.png").write_bytes(b"x"),
        "names of lines": lambda folder: (folder / "a\nb.png").write_bytes(b"x"),
        "a deep tree": lambda folder: (folder / "/".join(["d"] * 300)).mkdir(parents=True),
        "text": lambda folder: (folder / "a.png").write_text("x"),
        "a video that is a pipe": lambda folder: os.mkfifo(folder / "a.mp4"),
        "a video that is text": lambda folder: (folder / "a.mp4").write_text("x"),
        "a video that is a playlist": lambda folder: (folder / "a.ts").write_bytes(OTHERS["a playlist"]),
        "a video of zeros": lambda folder: (folder / "a.mkv").write_bytes(bytes(999)),
        "a video that only begins": lambda folder: (folder / "a.avi").write_bytes(b"RIFF\xff\xff\xff\x7fAVI LIST"),
        "an MP4 that only begins": lambda folder: (folder / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99)),
        "an address that is a file": lambda folder: (folder / "tcp:127.0.0.1:9.mp4").write_bytes(b"RIFF1234AVI "),
    }
    for name, make in spoilers.items():
        yield of(f"a folder with {name}", beside(make))
        yield of(f"a pattern that finds {name}", beside(make), "*")
        yield of(f"a deep pattern that finds {name}", beside(make), "**/*.png")
    lists = {
        "nothing before it": b"good.png\n",
        "UTF-16": "good.png\n".encode("utf-16"),
        "half of UTF-16": "good.png\n".encode("utf-16") + b"\n\0\xd8",
        "a byte-order mark": b"\xef\xbb\xbfgood.png",
        "Windows' ends": b"good.png\r\n\r\n",
        "itself": b"list.txt\ngood.png\n",
        "its folder": b".\ngood.png\n",
        "a pattern": b"*.png\n",
        "nonsense patterns": b"[\n[a\n" + b"*" * 300 + b"\n[!]]\n**/**/**/**\ngood.png\n",
        "null bytes": b"\0\n\0*\na\0b.png\ngood.png\n",
        "all bytes": bytes(range(1, 256)) + b"\ngood.png\n",
        "a long line": b"a" * 1_000_000 + b"\ngood.png\n",
        "a long pattern": b"*" * 1_000_000 + b"\ngood.png\n",
        "many comments": b"#\n" * 100_000 + b"good.png\n",
        "the same again": b"good.png\n" * 1000,
        "what is not there": b"gone.png\n" * 500 + b"good.png\n",
        "devices": b"/dev/zero\n/dev/null\n/proc/self/mem\n/dev/stdin\n-\ngood.png\n",
        "sets": b"a.json\nb.yaml\ngood.png\n",
    }
    for name, data in lists.items():
        yield of(f"a list with {name}", listed(data), "list.txt")
    for data in (b"", b"\n\n", b"#\n", b"\xff\xfe", b"\xff\xfe\0", bytes(9999)):
        yield of(
            f"a list of {data[:8]!r}", lambda folder, data=data: (folder / "list.txt").write_bytes(data), "list.txt"
        )
