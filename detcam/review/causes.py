"""Causes: false positives that hang on the same kind of patch, and what happens when it is taken away or put elsewhere.

A cause is only a hypothesis until it is tested: on every member, without its patch and without a patch of the same size
elsewhere; and by pasting the patch beside objects that were judged rightly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from detcam.adapters.scoring import tracked_scores
from detcam.drawing.pasting import BESIDE_SHARE
from detcam.review.evidence import EvidencePatch, Floats, gone
from detcam.session import ImageSession
from detcam.types import Detection

SAME_CAUSE_DISTANCE = 0.7
"""Groups with a smaller mean distance are one cause. The distance of two patches is the cosine distance of their
features, standardised by those of random patches, plus how differently they lie relative to their boxes."""
PLACE_WEIGHT = 0.35
"""What a difference of one box width or height in place adds to that distance."""
LEAST_MEMBERS = 3
"""A cause has at least so many members."""
CONFIRMED_SHARE = 0.5
"""A cause is confirmed if this share of its errors vanishes without it, twice as many as without control patches."""
TRANSFER_SHARE = 0.25
"""And if, pasted beside other objects, it makes this share of them wrong."""
MOST_PASTES = 24
"""Objects that a cause is pasted beside at most."""


@dataclass(frozen=True, eq=False)
class Suspect:
    """A false positive with its evidence.

    Attributes:
        id: of the detection.
        image: the image's name.
        detection: the error.
        error: its type.
        rival: the true class's index and name, for an error of class.
        evidence: the patch.
    """

    id: str
    image: str
    detection: Detection
    error: str
    rival: tuple[int, str] | None
    evidence: EvidencePatch


@dataclass(frozen=True, eq=False)
class Cause:
    """False positives that hang on one kind of patch.

    Attributes:
        id: ``cause-1`` has the most errors that vanish without it.
        members: those nearest to the group's middle first.
        flipped: how many vanish without their patch.
        control: how many vanish without the best of as many patches elsewhere.
        pasted, appeared: how often the first member's patch was put beside something judged rightly, and how often the
            same error appeared. Patches inside their boxes are put nowhere.
    """

    id: str
    members: tuple[Suspect, ...]
    flipped: int
    control: int
    pasted: int = 0
    appeared: int = 0

    @property
    def confirmed(self) -> bool:
        """Whether the errors vanish without the patch, not without any patch, and appear where it is put."""
        vanish = self.flipped >= CONFIRMED_SHARE * len(self.members) and self.flipped >= 2 * self.control
        return vanish and self.appeared >= TRANSFER_SHARE * self.pasted

    @property
    def beside(self) -> bool:
        """Whether the patches lie outside their boxes."""
        return bool(np.mean([member.evidence.outside for member in self.members]) >= BESIDE_SHARE)

    @property
    def name(self) -> str:
        """What it makes the detector say, and where it lies."""
        said = Counter(member.detection.class_name for member in self.members).most_common(1)[0][0]
        rivals = Counter(member.rival[1] for member in self.members if member.rival)
        mistake = f"{said} for {rivals.most_common(1)[0][0]}" if rivals else f"{said} where there is none"
        return f"{mistake}: {self.where}"

    @property
    def where(self) -> str:
        """Where the patches lie, in words."""
        if not self.beside:
            return "a patch inside the box"
        x, y = np.mean([member.evidence.place for member in self.members], 0)
        words = [
            word
            for word, far in (("above", y < -0.4), ("below", y > 0.4), ("left", x < -0.4), ("right", x > 0.4))
            if far
        ]
        return f"a patch outside the box, {' '.join(words) or 'around it'}"

    @property
    def text(self) -> str:
        """What was tested, in a sentence."""
        count = len(self.members)
        text = f"{count} false positives {'share this cause' if self.confirmed else 'may share a cause'}"
        text += f"; {self.flipped} of {count} vanish without it"
        text += f" ({self.control} of {count} without the best of as many patches elsewhere)"
        if self.pasted:
            text += f"; put beside {self.pasted} objects judged rightly, it made the same error {self.appeared} times"
        return text


def find_causes(suspects: Sequence[Suspect]) -> list[Cause]:
    """Group false positives by what they hang on; the cause of the most errors first, then by size.

    Args:
        suspects: of any type; only those of one predicted class can share a cause.
    """
    if not suspects:
        return []
    distances = _distances([s.evidence for s in suspects])
    said = np.array([s.detection.class_id for s in suspects])
    distances[said[:, None] != said] = 4.0
    labels = np.ones(len(suspects), int)
    if len(suspects) > 1:
        labels = fcluster(linkage(squareform(distances, checks=False), "average"), SAME_CAUSE_DISTANCE, "distance")
    groups = []
    for label in np.unique(labels):
        numbers = np.flatnonzero(labels == label)
        if len(numbers) >= LEAST_MEMBERS:
            middle = distances[np.ix_(numbers, numbers)].mean(1)
            groups.append([suspects[n] for n in numbers[np.argsort(middle, kind="stable")]])
    counted = [
        (group, sum(s.evidence.flipped for s in group), sum(s.evidence.control for s in group)) for group in groups
    ]
    counted.sort(key=lambda item: (-(item[1] - item[2]), -len(item[0]), item[0][0].id))
    return [Cause(f"cause-{n}", tuple(g), flipped, control) for n, (g, flipped, control) in enumerate(counted, 1)]


def _distances(evidence: Sequence[EvidencePatch]) -> Floats:
    """How unlike patches are, (n, n), from 0."""
    chance = np.stack([one.chance for one in evidence])
    features = (np.stack([one.features for one in evidence]) - chance.mean(0)) / (chance.std(0) + 1e-3)
    looks = np.nan_to_num(squareform(pdist(features, "cosine")), nan=1.0)
    places = squareform(pdist(np.stack([one.place for one in evidence])))
    return np.asarray(looks + PLACE_WEIGHT * places, np.float64)


def appears(session: ImageSession, class_id: int, target: Detection, conf: float) -> bool:
    """Whether an object is now taken for another class: it scores above the threshold, and more than the object's own.

    Args:
        session: the image with the cause put in.
        class_id: what the cause makes the detector say.
        target: the object, which was judged rightly.
        conf: the threshold.
    """
    raw = session.prepared.raw
    box = torch.tensor(session.letterbox.to_network(target.xyxy), dtype=torch.float32, device=raw.boxes.device)
    return not bool(gone(tracked_scores(raw, box.expand(2, 4), [class_id, target.class_id])[0], conf))


def describe_causes(causes: Sequence[Cause], patches: Mapping[str, Sequence[str]]) -> list[dict[str, object]]:
    """The causes as ``causes.json`` holds them.

    Args:
        causes: the one with the most errors first.
        patches: paths of each cause's pictures below the run folder, by the cause's id.
    """
    return [
        {
            "id": cause.id, "name": cause.name, "members": [member.id for member in cause.members],
            "tried": len(cause.members), "flipped": cause.flipped, "control": cause.control, "pasted": cause.pasted,
            "appeared": cause.appeared, "confirmed": cause.confirmed, "text": cause.text,
            "patches": list(patches.get(cause.id, ())),
        }
        for cause in causes
    ]  # fmt: skip
