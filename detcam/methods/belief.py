"""A Gaussian process over the worth of regions that are only tried in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from detcam.methods.regions import region_means

REACH_BOX_SIDES = 0.15
"""Length over which the worths of regions are correlated (standard deviation of the kernel), in sides of the box."""

NOISE_SHARE = 0.1
"""Standard deviation of a block's worth about the sum of its regions', as a share of the unperturbed score."""


class Belief:
    """A Gaussian process over the regions: what each is worth, per area, to score inserted minus score removed."""

    def __init__(self, labels: Tensor, areas: Tensor, box: Tensor, seed: int, expected: Tensor | None = None) -> None:
        """Start from what is expected of each region, or from nothing anywhere.

        Args:
            labels: int64 (h, w), the region of each pixel, -1 for none.
            areas: (region,), in areas of the box.
            box: (4,) xyxy, pixels.
            seed: of the draws.
            expected: (region,), positive, how much is expected of each, on any scale.
        """
        self.area = areas.double().cpu()
        # All regions together lead from -1 (nothing shown, all that is hidden) to +1.
        self.prior = self.mean = torch.zeros_like(self.area)
        size = 2 / self.area.sum()
        if expected is not None:
            values = expected.double().cpu()
            self.prior = self.mean = 2 * values / (self.area @ values)
            size = self.prior.mean()
        labels, count = labels.cpu(), len(self.area)
        height, width = labels.shape
        x1, y1, x2, y2 = box.double().cpu().tolist()
        rows = (torch.arange(height) / max(y2 - y1, 1))[:, None].expand(height, width)
        columns = (torch.arange(width) / max(x2 - x1, 1)).expand(height, width)
        places = [region_means(grid.double(), labels, count) for grid in (rows, columns)]
        far = torch.stack([(place[:, None] - place) ** 2 for place in places]).sum(0)
        near = torch.exp(-far / (2 * REACH_BOX_SIDES**2)) + 1e-4 * torch.eye(len(far))
        self.spread = self.first = size**2 * near
        self.designs = self.area.new_zeros(0, len(self.area))
        self.answers, self.noise = self.area.new_zeros(0), self.area.new_zeros(0)
        self.generator = torch.Generator().manual_seed(seed)

    def draws(self, count: int) -> list[Tensor]:
        """The mean worths, then random draws of what the worths may be.

        Args:
            count: how many, the mean among them.

        Returns:
            ``count`` tensors, float64 (region,).
        """
        noise = torch.randn(len(self.area), count, generator=self.generator, dtype=torch.float64)
        noise[:, 0] = 0
        jitter = 1e-6 * self.first.diagonal().mean() * torch.eye(len(self.area))
        return list((self.mean[:, None] + torch.linalg.cholesky(self.spread + jitter) @ noise).T)

    def learn(self, blocks: list[Tensor], answers: list[float], noise: float = NOISE_SHARE) -> None:
        """Condition the process on what some blocks of regions added.

        Args:
            blocks: int64 numbers of regions, one tensor for each block.
            answers: what each block added, as a share of the unperturbed score.
            noise: standard deviation of a block's answer about the sum of its regions' worths, in the same unit.
        """
        rows = torch.zeros(len(blocks), len(self.area), dtype=torch.float64)
        for row, block in zip(rows, blocks, strict=True):
            row[block.cpu()] = self.area[block.cpu()]
        self.designs = torch.cat([self.designs, rows])
        self.answers = torch.cat([self.answers, self.answers.new_tensor(answers)])
        self.noise = torch.cat([self.noise, self.noise.new_full((len(answers),), noise)])
        cross = self.designs @ self.first
        gain = torch.linalg.solve(cross @ self.designs.T + (self.noise**2).diag(), cross).T
        self.mean = self.prior + gain @ (self.answers - self.designs @ self.prior)
        self.spread = self.first - gain @ cross
        self.spread = (self.spread + self.spread.T) / 2
