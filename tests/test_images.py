"""Files become the pixels Ultralytics predicts on; Pillow, where it can, confirms them."""

import os
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps
from ultralytics.utils.patches import imread

from detcam.errors import InputError
from detcam.io.images import read_image, stored_size
from detcam.io.limits import at_most_pixels
from support.images import photograph

RGB = photograph(48, 64)
DEEP = cv2.resize(np.random.default_rng(1).integers(0, 1 << 16, (6, 8, 4)).astype(np.float32), (64, 48)).astype(
    np.uint16
)
ALPHA = np.dstack([RGB, RGB[..., 0]])
MIRRORED = np.ascontiguousarray(RGB[:, ::-1])


def pillow(array=RGB, mode=None, **options):
    """Writes an image by Pillow; the suffix tells how."""
    image = Image.fromarray(array)
    return lambda path: (image.convert(mode) if mode else image).save(path, **options)


def frames(**options):
    return pillow(save_all=True, append_images=[Image.fromarray(MIRRORED)], **options)


def opencv(array):
    return lambda path: cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def tiff(array, **options):
    return lambda path: tifffile.imwrite(path, array, photometric="rgb", **options)


# name -> how it is written, and the pixels it must become where they are known without reading it
FILES = {
    "rgb.bmp": (pillow(), RGB),
    "rgb.png": (pillow(), RGB),
    "rgb.tif": (pillow(), RGB),
    "lzw.tif": (pillow(compression="tiff_lzw"), RGB),
    "rgb.webp": (pillow(lossless=True), RGB),
    "rgb.jp2": (pillow(), RGB),
    "rgb.jpg": (pillow(), None),
    "progressive.jpg": (pillow(progressive=True), None),
    "rgb.avif": (pillow(), None),
    "grey.png": (pillow(mode="L"), None),
    "grey.jpg": (pillow(mode="L"), None),
    "grey.tif": (pillow(mode="L"), None),
    "bits.png": (pillow(mode="1"), None),
    "bits.tif": (pillow(mode="1", compression="group4"), None),
    "palette.png": (pillow(mode="P"), None),
    "palette.tif": (pillow(mode="P"), None),
    "palette.bmp": (pillow(mode="P"), None),
    "deep.png": (opencv(DEEP[..., :3]), DEEP[..., :3] >> 8),
    "deep.tif": (opencv(DEEP[..., :3]), DEEP[..., :3] >> 8),
    "deep-motorola.tiff": (tiff(DEEP[..., :3], byteorder=">"), DEEP[..., :3] >> 8),
    "deep-big.tif": (tiff(DEEP[..., :3], bigtiff=True), DEEP[..., :3] >> 8),
    "deep-alpha.tif": (tiff(DEEP, extrasamples=["unassalpha"]), DEEP[..., :3] >> 8),
    "deep-grey.png": (opencv(DEEP[..., 0]), DEEP[..., [0, 0, 0]] >> 8),
    "deep-grey.tif": (opencv(DEEP[..., 0]), DEEP[..., [0, 0, 0]] >> 8),
    "alpha.png": (pillow(ALPHA), RGB),
    "alpha.webp": (pillow(ALPHA, lossless=True, exact=True), RGB),
    "alpha-grey.png": (pillow(ALPHA[..., [0, 3]]), RGB[..., [0, 0, 0]]),
    "cmyk.tif": (pillow(mode="CMYK"), RGB),
    "animated.gif": (frames(), None),
    "animated.webp": (frames(lossless=True), RGB),
    "animated.png": (frames(), RGB),
    "animated.avif": (frames(), None),
    "pages.tif": (frames(), RGB),
}


@pytest.mark.parametrize("name", [*FILES, "alpha.tif", "cmyk.jpg"])
def test_a_file_becomes_the_pixels_predict_sees(tmp_path, name):
    write = {"alpha.tif": pillow(ALPHA), "cmyk.jpg": pillow(mode="CMYK")}.get(name) or FILES[name][0]
    write(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), imread(tmp_path / name)[..., ::-1])


@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_the_pixels_it_holds(tmp_path, name):
    write, known = FILES[name]
    write(tmp_path / name)
    if known is None:
        with Image.open(tmp_path / name) as image:
            known = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / name), known)


def test_a_cmyk_jpeg_has_the_colours_it_was_made_of(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [250, 120, 30]], np.uint8)
    patches = colours.repeat(16, 0)[None].repeat(16, 0)
    pillow(patches, "CMYK", quality=100, subsampling=0)(tmp_path / "a.jpg")
    read = read_image(tmp_path / "a.jpg")[8, 8::16].astype(int)
    with Image.open(tmp_path / "a.jpg") as image:
        theirs = np.asarray(image.convert("RGB"))[8, 8::16].astype(int)
    assert np.abs(read - theirs).max() <= 1  # two roundings of (255 - C) (255 - K) / 255
    assert np.abs(read - colours).max() < 8


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    pillow(exif=exif)(path)
    with Image.open(path) as image:
        stored = RGB if suffix == "tif" else np.asarray(image.convert("RGB"))  # Pillow turns a TIFF as it opens it
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert (orientation == 1) == np.array_equal(stored, upright)
    np.testing.assert_array_equal(read_image(path), upright)


@pytest.mark.parametrize("shape", [(1, 1), (1, 77), (77, 1)])
@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "tif", "webp"])
def test_the_smallest_images(tmp_path, suffix, shape):
    pillow(np.full((*shape, 3), 128, np.uint8))(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), np.full((*shape, 3), 128))


@pytest.mark.parametrize("left", [0.4, 0.98])
@pytest.mark.parametrize("suffix", ["bmp", "gif", "jp2", "jpg", "png", "tif", "webp", "avif"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix, left):
    path = tmp_path / f"a.{suffix}"
    pillow(photograph(480, 640))(path)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"a\.{suffix}: .*cannot|can be decoded"):
        read_image(path)


def png(width, height):
    """A PNG that claims a size and holds no pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"a\.heic: a HEIF image .* convert it to JPEG or PNG"),
        ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", r"a\.jpg: a HEIF image"),
        ("a.png", b"", r"a\.png: not an image that can be decoded; known kinds, if not damaged: .*jpg, .*, webp$"),
        ("a.png", b"text", r"a\.png: not an image that can be decoded"),
        ("a.png", png(0, 7), r"a\.png: an image needs at least one pixel, got 0 x 7"),
        (
            "a.png",
            png(40_000, 40_000),
            r"a\.png: 40,000 x 40,000 pixels are more than 400,000,000; .* \(--max-pixels\)",
        ),
    ],
)
def test_files_that_cannot_be_decoded(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / name)


def test_pixels_of_no_known_range_are_refused(tmp_path):
    tiff(RGB.astype(np.float32) / 255)(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: its pixels are float32, of no known range; save them with 8 or 16"):
        read_image(tmp_path / "a.tif")
    for mode in ("F", "I"):
        with pytest.raises(InputError, match=f"a PIL image of mode '{mode}' has no known range"):
            read_image(Image.fromarray(RGB).convert(mode))


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(InputError, match="a folder, not an image"):
        read_image(tmp_path)
    with pytest.raises(InputError, match=r"gone\.png: no such file$"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(InputError, match="null byte"):
        read_image("a\0.png")


def test_a_pillow_image_becomes_what_its_file_becomes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow(exif=exif)(tmp_path / "turned.png")
    opencv(DEEP[..., 0])(tmp_path / "deep.png")
    for name in ("turned.png", "deep.png"):
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(read_image(image), read_image(tmp_path / name))


def test_a_bgr_array_is_turned_around_and_left_alone():
    given = RGB[..., ::-1].copy()
    read = read_image(given, bgr=True)
    np.testing.assert_array_equal(read, RGB)
    np.testing.assert_array_equal(given, RGB[..., ::-1])
    assert not read.flags.writeable


def test_a_file_is_decoded_without_a_second_copy(tmp_path):
    image = photograph(1500, 2000)
    opencv(image)(tmp_path / "a.jpg")
    tracemalloc.start()
    try:
        read_image(tmp_path / "a.jpg")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = (tmp_path / "a.jpg").stat().st_size
    assert image.nbytes <= peak < image.nbytes * 1.1 + size


@pytest.mark.slow
def test_an_image_of_400_megapixels(tmp_path):
    side = 20_000
    image = np.zeros((side, side, 3), np.uint8)
    image[-1, -1] = 200, 100, 50
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    del image
    read = read_image(tmp_path / "a.png")
    assert read.shape == (side, side, 3)
    assert read[-1, -1].tolist() == [200, 100, 50]
    assert not read[: side // 2].any()


def test_more_pixels_where_it_is_asked_for(tmp_path):
    (tmp_path / "a.png").write_bytes(png(40_000, 40_000))
    with pytest.raises(InputError, match=r"cannot be decoded: more pixels than OpenCV reads: 2\^30"):
        read_image(tmp_path / "a.png", max_pixels=2**31)
    pillow()(tmp_path / "b.png")
    with at_most_pixels(RGB.shape[0] * RGB.shape[1] - 1):
        for image in (tmp_path / "b.png", RGB, Image.fromarray(RGB), torch.from_numpy(RGB.copy()).permute(2, 0, 1)):
            with pytest.raises(InputError, match="64 x 48 pixels are more than 3,071"):
                read_image(image)
            np.testing.assert_array_equal(read_image(image, max_pixels=3072), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), RGB)


def test_a_small_file_of_many_pixels_takes_no_memory(tmp_path):
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(90_001)) for _ in range(3000)) + rows.flush()
    start = png(30_000, 30_000)
    chunk = b"IDAT" + data
    bomb = start[:33] + struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + start[-12:]
    (tmp_path / "a.png").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="30,000 x 30,000 pixels are more than"):
            read_image(tmp_path / "a.png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", [0, 5, 9, 65535])
def test_one_reading_of_the_orientation(tmp_path, suffix, orientation):
    """From the header, of the file and of the opened image: another number than 1 to 8 turns nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    pillow(exif=exif)(path)
    read = read_image(path)
    assert stored_size(path) == read.shape[:2] == ((64, 48) if orientation == 5 else (48, 64))
    with Image.open(path) as image:
        assert read_image(image).shape == read.shape


TENSORS = {
    "empty": (torch.zeros(3, 0, 5), r"\(3, H, W\), got \(3, 0, 5\)"),
    "sparse": (torch.zeros(3, 4, 4).to_sparse(), "no dense pixels"),
    "meta": (torch.zeros(3, 4, 4, device="meta"), "no pixels"),
    "complex": (torch.zeros(3, 4, 4, dtype=torch.complex64), "uint8, or floating in .*, got complex64"),
    "truth values": (torch.zeros(3, 4, 4, dtype=torch.bool), "got bool"),
    "int64": (torch.zeros(3, 4, 4, dtype=torch.int64), "got int64"),
    "NaN": (torch.full((3, 4, 4), torch.nan), r"must lie in \[0, 1\], got \[nan, nan\]"),
    "infinite": (torch.full((3, 4, 4), torch.inf), r"must lie in \[0, 1\], got \[inf, inf\]"),
    "repeated without end": (torch.zeros(3, 1, 1, dtype=torch.uint8).expand(3, 10**6, 10**6), "more than 400,000,000"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_no_image(name):
    tensor, message = TENSORS[name]
    with pytest.raises(InputError, match=message):
        read_image(tensor)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_every_precision(kind):
    tensor = (torch.from_numpy(RGB.copy()).permute(2, 0, 1) / 255).to(kind).requires_grad_()
    read = read_image(tensor[:, ::2, ::3])
    assert np.abs(read.astype(int) - RGB[::2, ::3]).max() <= (1 if kind == torch.bfloat16 else 0)


ARRAYS = {
    "empty": (np.zeros((0, 0), np.uint8), r"\(H, W, 3\), got \(0, 0\)"),
    "of objects": (np.full((4, 4, 3), None), "must be uint8"),
    "of records": (np.zeros((4, 4), [("r", np.uint8), ("g", np.uint8)]), "must be uint8"),
    "masked": (np.ma.masked_equal(RGB, 3), "masked pixels"),
    "repeated without end": (np.broadcast_to(np.uint8(3), (10**6, 10**6, 3)), "more than 400,000,000"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_no_image(name):
    array, message = ARRAYS[name]
    with pytest.raises(InputError, match=message):
        read_image(array)


def test_pil_images_that_are_no_image(tmp_path):
    with pytest.raises(InputError, match="at least one pixel, got 0 x 5"):
        read_image(Image.new("RGB", (0, 5)))
    pillow(photograph(200, 200))(tmp_path / "a.png")
    closed = Image.open(tmp_path / "a.png")
    closed.close()
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    with Image.open(tmp_path / "cut.png") as cut:
        for image in (cut, closed):
            with pytest.raises(InputError, match="a PIL image that cannot be read: "):
                read_image(image)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_pil_images_of_every_mode(mode):
    between = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    image = Image.fromarray(RGB).convert(between).convert(mode)
    np.testing.assert_array_equal(read_image(image), np.asarray(Image.fromarray(RGB).convert(between).convert("RGB")))


def test_a_palette_with_transparency():
    image = Image.fromarray(RGB).convert("P")
    image.info["transparency"] = bytes(range(256))
    np.testing.assert_array_equal(read_image(image), np.asarray(Image.fromarray(RGB).convert("P").convert("RGB")))


def test_a_pipe_is_read_where_it_was_named(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: no regular file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: not an image"):  # nobody writes
        read_image(tmp_path / "a.png", pipes=True)
    reading, writing = os.pipe()
    content = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    try:
        os.write(writing, content)
        os.close(writing)
        np.testing.assert_array_equal(read_image(f"/dev/fd/{reading}", pipes=True), RGB)
    finally:
        os.close(reading)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full"])
def test_devices_are_no_images(device):
    with pytest.raises(InputError, match=f"{device}: no regular file"):
        read_image(device)
