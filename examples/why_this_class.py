"""Why this class rather than that one: ``python why_this_class.py WEIGHTS IMAGE OTHER_CLASS OUT.png``."""

import sys

import detcam


def main(weights: str, image: str, other: str, out: str) -> None:
    """Explain the most confident detection's logit less another class's at the same anchor."""
    e = detcam.explain(weights, image, target=f"contrast:{other}", detection=0)[0]
    print(f"{e.detection.caption} rather than {other}: {e.status}")
    e.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
