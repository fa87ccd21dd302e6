"""Which method tells the truth about a detector: ``python compare_methods.py WEIGHTS IMAGES FOLDER``."""

import sys

import detcam
from detcam.evaluate import evaluate


def main(weights: str, images: str, folder: str, limit: int = 20) -> None:
    """Measure three methods on the same detections, print each one's lead, and read the folder again."""
    result = evaluate(weights, images, ["box", "layercam", "effect"], folder, limit=limit, per_image=1)
    for failure in result.failures:
        print(f"{failure.path}: {failure.reason}")
    for line in result.summary.iter_rows(named=True):
        low, high = line["lead_low"], line["lead_high"]
        lead = f"{line['lead']:+.2f} [{low:+.2f}, {high:+.2f}]"
        print(f"{line['method']}: lead on a Gaussian in the box {lead}, {line['forwards']:.0f} forward passes")
    rows = detcam.open_run(folder).table("evaluation")  # one row for each detection and method
    worst = rows.filter(method="effect").sort("faithfulness_blur").row(0, named=True)
    print(f"effect is least faithful about the {worst['class_name']} in {worst['image']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
