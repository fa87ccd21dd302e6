"""Files for sources to find: empty ones, pictures and films."""

import cv2
import numpy as np
from PIL import Image

from support.images import photograph


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def draw(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(40, 60, len(name))).save(path)


def film(path, count=6):
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(count):
        file.write(np.full((48, 64, 3), 30 * number, np.uint8))
    file.release()
    return str(path)


def names(found):
    return [item.name for item in found]
