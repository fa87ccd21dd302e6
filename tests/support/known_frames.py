"""Frames whose scores are known by hand: how much of a place, or of the image, is left."""

import torch

from detcam.attribution.evidence import find_evidence
from detcam.geometry import Letterbox

SIZE = (64, 96)
BOX = (30, 20, 62, 44)
CAUSE = (70, 8, 82, 20)
LETTERBOX = Letterbox(SIZE, SIZE, SIZE, (0, 0))


class HandMade:
    """A frame of an image that is 1 everywhere; ``judge`` takes what is left of the cause, and of the whole image."""

    def __init__(self, judge, size=SIZE):
        self.judge = judge
        self.image = torch.ones(3, *size)
        self.inside = torch.ones(size, dtype=torch.bool)
        self.fills = {"blur": torch.zeros(3, *size), "mean": torch.zeros(3, *size)}
        self.box = torch.tensor(BOX, dtype=torch.float32)
        self.window, self.price = (0, 0, SIZE[1], SIZE[0]), 1.0
        self.class_ids, self.model = [0, 1], self
        self.names = {0: "kite", 1: "gem"}

    def without(self, parts, fill):
        return torch.lerp(self.image, self.fills[fill], parts[:, None].float())

    def class_scores(self, images):
        x1, y1, x2, y2 = CAUSE
        cause, whole = images[:, 0, y1:y2, x1:x2].mean((1, 2)), images[:, 0].mean((1, 2))
        return torch.stack([torch.stack([*self.judge(float(c), float(w))]) for c, w in zip(cause, whole, strict=True)])

    @property
    def own_class_scores(self):
        return self.class_scores(self.image[None])[0]

    def box_to_input(self, xyxy):
        return list(xyxy)


def hot_at(*blocks):
    heat = torch.zeros(SIZE)
    for x1, y1, x2, y2 in blocks:
        heat[y1:y2, x1:x2] = 1
    return heat


def left_of(images, box):
    """How much of a place is left in each image."""
    x1, y1, x2, y2 = box
    return images[:, 0, y1:y2, x1:x2].mean((1, 2))


class Pictured(HandMade):
    """A frame whose scores are a function of the images (n, 3, h, w)."""

    def class_scores(self, images):
        return self.judge(images)


def found_by(judge, *blocks, conf=0.25):
    frame = Pictured(judge)
    return find_evidence(frame, frame, hot_at(*blocks), LETTERBOX, conf, 0.9)
