"""Review a detector on a labelled set: ``python review.py WEIGHTS DATA FOLDER``."""

import sys

import detcam


def main(weights: str, data: str, folder: str) -> None:
    """Type every error, explain it, and print what the errors are, what each hangs on, and what they share."""
    result = detcam.review.run_review(weights, data, folder, complain=lambda path, reason: print(f"{path}: {reason}"))
    print(f"mAP50 {result.map50:.2f}; fixing all errors of class would add {result.gains['Cls']:.2f}")
    for kind, rows in result.errors().items():
        for row in rows:
            print(f"{kind}: {row.detection.class_name} in {row.image}: {row.further['explanation']}")
            if row.patch is not None and row.patch["flipped"]:
                print(f"    gone without {row.patch['xyxy']}")
    for cause in result.causes():
        print(f"{cause['name']}: {cause['text']}")
    print(f"open {result.page}")


if __name__ == "__main__":
    main(*sys.argv[1:])
