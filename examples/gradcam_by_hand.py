"""Grad-CAM of one detection in plain torch, and the same map from the library.

``python gradcam_by_hand.py WEIGHTS IMAGE [LAYER]``: hook a layer, run backward from the detection's own score, average
the gradients, weight and sum the channels, ReLU, resize. For Ultralytics detectors whose head ends in one list of
anchors (v3u, v5u, v6, v8, v9, 11, 12). What the library adds is what this file leaves out: every other head, the layers
a detection has no gradient at, boxes in the photograph's own pixels, models left as they were.
"""

import sys

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox

import detcam


def gradcam_by_hand(weights: str, image: np.ndarray, layer: str, imgsz: int) -> tuple[np.ndarray, np.ndarray]:
    """The raw map (h, w) of the image's most confident prediction, and the same over the network's input (H, W)."""
    model = YOLO(weights).model.eval().requires_grad_(False)
    padded = LetterBox((imgsz, imgsz), auto=True, stride=32)(image=image)
    batch = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255

    kept = {}

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        kept["activation"] = output.requires_grad_()
        return output.clone()

    # 1. Hook: the layer's activation is kept, and the graph starts there.
    hook = model.get_submodule(layer).register_forward_hook(keep)
    output = model(batch)
    hook.remove()

    # 2. Backward from one number: the logit of one class at one anchor, before any threshold or suppression.
    predictions = output[0] if isinstance(output, tuple) else output  # (1, 4 + classes, anchors)
    probabilities = predictions[0, 4:]
    class_id, anchor = divmod(int(probabilities.argmax()), probabilities.shape[1])
    score = torch.logit(probabilities[class_id, anchor])
    (gradient,) = torch.autograd.grad(score, kept["activation"])

    # 3. Pool the gradients to one weight a channel; weighted sum; only what speaks for the class.
    weight = gradient.mean((2, 3), keepdim=True)
    raw = (weight * kept["activation"]).sum(1).relu()[0].detach()

    # 4. Resize.
    return raw.numpy(), F.interpolate(raw[None, None], batch.shape[2:], mode="bilinear")[0, 0].numpy()


def main(weights: str, path: str, layer: str = "model.4") -> None:
    """Print how far the two maps are apart."""
    model = detcam.load(weights)
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    e = detcam.explain(model, image, method="gradcam", layers=layer, detection=0)[0]
    raw, over_input = gradcam_by_hand(weights, image, layer, max(model.imgsz))
    print(f"{e.detection.caption}, {layer}: raw maps differ by {np.abs(raw - e.heatmap.raw).max() / raw.max():.1e}")
    if over_input.shape == image.shape[:2]:  # nothing was scaled or padded
        resized = np.abs(over_input / over_input.max() - e.heatmap.array).max()
        print(f"resized maps differ by {resized:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
