"""Thousands of explanations in one process, and what it holds afterwards: memory, handles, threads, hooks, objects.

    PYTHONPATH=.:tests python tests/hostile/soak.py --explanations 10000

Images of several sizes, methods, sessions, threads, copies and errors in between. Ends with 1 where memory grew by more
than 50 MB after the warm-up, or handles, threads or hooks by any.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import pickle
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import torch

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import DetcamError

MEBIBYTES = 50
"""How much more memory may be held at the end than after the warm-up."""
WARM_UP = 0.1
"""Of all explanations: caches of allocators and libraries fill in them."""


class _Allocated(ctypes.Structure):
    """glibc's ``mallinfo2``: ``hblkhd`` is what is mapped for large blocks, ``uordblks`` what else is in use."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def in_use() -> int:
    """Bytes that the C allocator has given out and not got back, in all arenas; 0 where it is another than glibc's.

    What grows without this is memory that the allocator keeps for later.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0
    library.mallinfo2.restype = _Allocated
    told = library.mallinfo2()
    return int(told.uordblks + told.hblkhd)


def figures(model: torch.nn.Module) -> dict[str, int]:
    """What the process holds, by name."""
    gc.collect()
    process = psutil.Process()
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())
    return {
        "MiB": process.memory_info().rss // 2**20,
        "MiB in use": in_use() // 2**20,
        "handles": process.num_fds(),
        "threads": threading.active_count(),
        "hooks": hooks,
        "objects": len(gc.get_objects()),
    }


def bad_inputs() -> list[object]:
    """Images that are refused."""
    return ["nowhere.png", np.zeros((0, 0, 3), np.uint8), np.zeros((5, 5), np.float32), torch.zeros(3, 0, 4), None]


def explained(explainers: dict[str, detcam.Explainer], images: list[np.ndarray], chance: random.Random) -> int:
    """Ask one thing, drawn by chance, and give how many explanations came back."""
    image = chance.choice(images)
    kind = chance.choices(("one", "several", "session", "threads", "error", "pickle"), (60, 10, 10, 10, 8, 2))[0]
    explainer = explainers[chance.choice(list(explainers))]
    if kind == "several":
        return sum(map(len, explainer([image, chance.choice(images)])))
    if kind == "session":
        session = detcam.open_image(explainer.model, image)
        session.scores([image])
        return len(session.explain(method="layercam"))
    if kind == "threads":
        with ThreadPoolExecutor(4) as pool:
            return sum(len(result) for results in pool.map(explainer, [image] * 4) for result in results)
    if kind == "error":
        try:
            explainer(chance.choice(bad_inputs()))
        except (DetcamError, TypeError):
            return 0
        raise AssertionError("an image that is none was explained")
    results = explainer(image)
    return sum(map(len, pickle.loads(pickle.dumps(results)) if kind == "pickle" else results))


def main() -> int:
    """Run, and print a line now and then."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--explanations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chance, model = random.Random(asked.seed), detcam.load(WEIGHTS)
    methods = {"layercam": {}, "gradcam++": {}, "hirescam": {}, "odam": {}, "saliency": {}, "occlusion": {"budget": 16}}
    explainers = {name: detcam.Explainer(model, name, **options) for name, options in methods.items()}
    explainers["guided"] = detcam.Explainer(model, "guided", budget=8)
    scenes = [render(make_scene(seed)) for seed in range(12)]
    images = [*scenes, *(np.ascontiguousarray(scene[: 150 + 20 * k]) for k, scene in enumerate(scenes[:4]))]
    images += [np.ascontiguousarray(scene.repeat(2, 0).repeat(2, 1)) for scene in scenes[:2]]
    done, told, first, started = 0, 0, None, time.monotonic()
    while done < asked.explanations:
        done += explained(explainers, images, chance)
        if done >= told:
            held = figures(model.model)
            print(f"{done:>7,}  {time.monotonic() - started:6.0f} s  {held}", flush=True)
            told += asked.explanations // 20
        if first is None and done >= WARM_UP * asked.explanations:
            first = figures(model.model)
    last = figures(model.model)
    print(f"after the warm-up {first}\nat the end        {last}")
    flat = all(last[name] <= first[name] for name in ("handles", "threads", "hooks"))
    return 0 if flat and last["MiB"] - first["MiB"] <= MEBIBYTES else 1


if __name__ == "__main__":
    sys.exit(main())
