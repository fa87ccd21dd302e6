"""detcam's own method: a map grown block by block; gradients propose what comes next, forward passes decide.

The map is an order of superpixels. It is grown in stages of equal area, up to the area of the box. At each stage

1. two images show how far the order has come: one with only the chosen regions shown in a blurred image, one with only
   them hidden; in both, everything still open is moved a little the same way, for where nothing has been shown yet the
   gradient says little;
2. the gradient of the logarithm of the score at these two images estimates, for all open regions at once, what showing
   and what hiding each would change;
3. that estimate is read in several ways (weighted by a Gaussian in the box, showing or hiding alone, that Gaussian
   alone, ...), and each reading proposes the block of regions to come next;
4. each block is tried, shown and hidden, and the one with the highest score shown minus score hidden is taken.

Without gradients, steps 1 to 3 give way to a Gaussian process over the regions: it starts from the Gaussian in the box,
learns from every block that was tried, and blocks are drawn from it. What else was tried, and what each try gave,
is in docs/research/guided.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from detcam.methods.belief import Belief
from detcam.methods.regions import RegionScorer, box_gaussian, paint_order, region_means, superpixels
from detcam.methods.subject import Subject

Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (n, 3, h, w) -> the scores (n,) and the gradient of each with respect to its image (n, 3, h, w)."""

REGION_COUNT = 400
"""Superpixels around a box."""
BLACK_BOX_REGION_COUNT = 200
"""Regions where the model can only be called."""
MAX_STAGES = 10
"""Stages, and blocks, of an order at most; fewer where the budget is small."""
LOOKAHEAD_SHARE = 0.3
"""How much of what is open is shown, or hidden, in the images at which gradients are taken."""
SCORE_FLOOR = 0.02
"""Added to a score before its logarithm's gradient is taken, so that noise is not blown up where nothing is left."""
BLOCKS_PER_ROUND = 3
"""Blocks tried at once before the Gaussian process learns from them."""
PASSES_PER_GRADIENT = 3
"""Forward passes that a forward and a backward pass of one image are counted as."""


def guided(subject: Subject) -> Tensor:
    """The order in which regions make, or unmake, each detection: (K, h, w), hotter is earlier.

    The budget is of each detection: at most as many forward passes, a gradient counted as three; too few for one stage
    give the Gaussian in the box. With gradients nothing is random.

    Args:
        subject: the image and its K scalars; ``subject.budget`` forward passes for each.

    Returns:
        (K, h, w) in (0, 1].
    """
    maps = []
    for number, box in enumerate(subject.boxes):

        def score(images: Tensor, number: int = number) -> Tensor:
            return subject.scores(images, [number])[:, 0]

        def gradient(images: Tensor, number: int = number) -> tuple[Tensor, Tensor]:
            return subject.score_gradients(images, number)

        count = REGION_COUNT if subject.differentiable else BLACK_BOX_REGION_COUNT
        labels = superpixels(subject.image, box, subject.inside, count)
        scorer = RegionScorer(subject.image, labels, score, subject.inside)
        prior = region_means(box_gaussian(box, (labels.shape[0], labels.shape[1])), labels, scorer.count)
        prior = prior / prior.max() + 1e-3
        area = scorer.areas / float((box[2:] - box[:2]).clamp(min=1).prod())
        if subject.differentiable:
            growth = _by_gradient(scorer, gradient, prior, area, subject.budget)
        else:
            growth = _by_trial(scorer, prior, area, subject.budget, box, subject.seed)
        order: list[int] = []
        heat = prior
        for block, values in growth:
            order += block.tolist()
            heat = values
        maps.append(paint_order(labels, order, heat, box))
    return torch.stack(maps)


def next_block(values: Tensor, on: Tensor, area: Tensor, goal: float) -> Tensor:
    """The open regions with the highest values, best first, as many as bring the area chosen to ``goal``; at least one.

    Args:
        values: (region,).
        on: bool (region,), those chosen already.
        area: (region,), in areas of the box.
        goal: in areas of the box.

    Returns:
        int64 (n,), numbers of regions.

    >>> next_block(torch.tensor([1.0, 3.0, 2.0]), torch.zeros(3, dtype=torch.bool), torch.full((3,), 0.5), 1.0).tolist()
    [1, 2]
    """
    ranked = values.to(area).masked_fill(on, -torch.inf).argsort(descending=True, stable=True)[: int((~on).sum())]
    enough = int((area[ranked].cumsum(0) < goal - float(area[on].sum())).sum())
    return ranked[: enough + 1]


def _try_blocks(scorer: RegionScorer, on: Tensor, blocks: Sequence[Tensor]) -> Tensor:
    """Score shown minus score hidden after each block: (block,). Two forward passes a block."""
    sets = on.repeat(len(blocks), 1)
    for row, block in zip(sets, blocks, strict=True):
        row[block] = True
    shown, hidden = scorer.shown_and_hidden(sets)
    return shown - hidden


def _by_gradient(
    scorer: RegionScorer, gradient: Gradient, prior: Tensor, area: Tensor, budget: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each stage's block, and the values by which it would go on."""
    pair = 2 * PASSES_PER_GRADIENT
    stages = min(MAX_STAGES, max(budget // (2 * pair), budget // pair and 1))
    on = torch.zeros_like(area, dtype=torch.bool)
    delta = scorer.image - scorer.plain
    window = scorer.labels >= 0
    for stage in range(stages):
        if on.all():
            return
        shown = torch.cat([on, on.new_zeros(1)])[scorer.labels].float()
        shown = shown + LOOKAHEAD_SHARE * (1 - shown) * window
        scores, gradients = gradient(torch.stack([scorer.plain + shown * delta, scorer.image - shown * delta]))
        slopes = (gradients * delta).sum(1) / (scores + SCORE_FLOOR)[:, None, None]
        showing, hiding = (region_means(slope, scorer.labels, scorer.count) for slope in slopes)
        readings = _readings(showing, hiding, prior)
        tries = min((budget // stages - pair) // 2, len(readings))
        goal = (stage + 1) / stages
        blocks = [next_block(values, on, area, goal) for values in readings[: max(tries, 1)]]
        block = blocks[int(_try_blocks(scorer, on, blocks).argmax())] if tries > 1 else blocks[0]
        on[block] = True
        yield block, readings[0]


def _readings(showing: Tensor, hiding: Tensor, prior: Tensor) -> list[Tensor]:
    """The ways to read one pair of estimates, the most useful first; the prior weighs gains only."""
    both = showing + hiding

    def weighted(values: Tensor, power: float) -> Tensor:
        return torch.where(values > 0, values * prior**power, values)

    mixed = weighted(both, 0.5) / both.abs().max().clamp(min=1e-12) + 0.2 * prior
    return [
        weighted(both, 0.5),
        weighted(both, 1.5),
        prior,
        weighted(showing, 0.5),
        weighted(hiding, 0.5),
        both,
        mixed,
        weighted(showing, 1.5),
        weighted(hiding, 1.5),
    ]


def _by_trial(
    scorer: RegionScorer, prior: Tensor, area: Tensor, budget: int, box: Tensor, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """As :func:`_by_gradient`, with forward passes alone."""
    stages = min(MAX_STAGES, (budget - 2) // 12)
    if stages < 1:
        return
    tries = (budget - 2) // stages // 2
    on = torch.zeros_like(area, dtype=torch.bool)
    shown, hidden = (float(value) for value in scorer.shown_and_hidden(on[None]))
    now, span = shown - hidden, max(hidden, 1e-6)
    process = Belief(scorer.labels, area, box, seed, prior)
    for stage in range(stages):
        if on.all():
            return
        best, taken = -torch.inf, on.nonzero()[:0, 0]
        for start in range(0, tries, BLOCKS_PER_ROUND):
            draws = process.draws(min(BLOCKS_PER_ROUND, tries - start))
            blocks = [next_block(values, on, area, (stage + 1) / stages) for values in draws]
            values = _try_blocks(scorer, on, blocks).tolist()
            process.learn(blocks, [(value - now) / span for value in values])
            for block, value in zip(blocks, values, strict=True):
                if value > best:
                    best, taken = value, block
        on[taken] = True
        now = best
        yield taken, process.mean.to(prior)
