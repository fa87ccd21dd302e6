"""How good maps are: measurements against what people labelled, against causes that are known, and against the clock.

>>> from detcam.evaluate import evaluate
>>> result = evaluate("best.pt", "photos/", ["box", "layercam", "effect"], limit=20)  # doctest: +SKIP
>>> result.summary.select("method", "faithfulness_blur", "lead", "lead_low", "lead_high")  # doctest: +SKIP
"""

from detcam.evaluate.contestants import default_methods
from detcam.evaluate.evaluation import EvaluationResult, evaluate
from detcam.evaluate.judge import judge_maps
from detcam.evaluate.planted.measure import PlantedResult, evaluate_planted
from detcam.evaluate.planted.plant import PlantResult, plant
from detcam.evaluate.speed import Measurement, bench, soak

__all__ = [
    "EvaluationResult",
    "Measurement",
    "PlantResult",
    "PlantedResult",
    "bench",
    "default_methods",
    "evaluate",
    "evaluate_planted",
    "judge_maps",
    "plant",
    "soak",
]
