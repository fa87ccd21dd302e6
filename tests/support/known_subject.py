"""An image whose score is known: how much of some pixels is still there."""

from __future__ import annotations

import torch


class KnownSubject:
    """A textured image with grey padding on the left; the score is a weighted share of pixels that are unchanged.

    ``cause`` (h, w) weighs the pixels; what a method shows the scorer is kept in ``seen``.
    """

    differentiable = True

    def __init__(self, cause=None, box=(20.0, 12.0, 44.0, 36.0), seed=0, budget=400, size=(48, 64)):
        generator = torch.Generator().manual_seed(7)
        self.image = torch.rand(3, *size, generator=generator) * 0.6 + 0.4
        self.inside = torch.ones(size, dtype=torch.bool)
        self.inside[:, :8] = False
        self.image[:, :, :8] = 114 / 255
        if cause is None:
            cause = torch.zeros(size)
            cause[16:24, 28:40] = 1
        self.cause = cause / cause.sum()
        self.boxes = torch.tensor([box])
        self.seed, self.budget = seed, budget
        self.before = torch.ones(1)
        self.seen = []

    def scores(self, images, of=None):
        self.seen.append(images.clone())
        return self._kept(images)

    def _kept(self, images):
        kept = (-10 * (images - self.image).abs().mean(1)).exp()
        return (kept * self.cause).sum((1, 2))[:, None]

    similarities = scores

    def score_gradients(self, images, of):
        leaf = images.clone().requires_grad_()
        scores = self._kept(leaf)[:, 0]
        (gradients,) = torch.autograd.grad(scores.sum(), leaf)
        self.seen.append(images.clone())
        return scores.detach(), gradients

    @property
    def forwards(self):
        return sum(map(len, self.seen))
