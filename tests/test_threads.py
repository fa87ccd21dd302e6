"""One explainer asked by several threads, copied, pickled, and sent to processes."""

import contextlib
import copy
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from support.models import snapshot


@pytest.fixture(scope="module")
def scenes():
    return [render(make_scene(seed)) for seed in range(6)]


def maps_of(results):
    return [one.heatmap.raw for result in results for one in result]


def alike(found, wanted):
    return len(found) == len(wanted) and all(
        np.allclose(one, other, rtol=0, atol=1e-5 * max(other.max(), 1e-9))
        for one, other in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize(("method", "options"), [("layercam", {}), ("guided", {"budget": 8})])
def test_ten_threads_get_what_one_gets(demo_detector, scenes, method, options):
    before = snapshot(demo_detector.model)
    explainer = detcam.Explainer(demo_detector, method, **options)
    wanted = [maps_of(explainer(scene)) for scene in scenes[:4]]
    with ThreadPoolExecutor(10) as threads:
        asked = [(number % 4, threads.submit(explainer, scenes[number % 4])) for number in range(12)]
    assert sum(map(len, wanted)) > 4
    assert all(alike(maps_of(answer.result()), wanted[number]) for number, answer in asked)
    assert snapshot(demo_detector.model) == before
    assert torch.is_grad_enabled()


def test_threads_with_explainers_and_sessions_of_one_detector(demo_detector, scenes):
    explainers = [detcam.Explainer(demo_detector, name) for name in ("layercam", "gradcam", "hirescam")]
    wanted = [maps_of(explainer(scenes[0])) for explainer in explainers]

    def ask(number):
        session = detcam.open_image(demo_detector, scenes[number % 6])
        return explainers[number % 3](scenes[0]), [one.confidence for one in session.detections]

    confidences = [[d.confidence for d in detcam.open_image(demo_detector, scene).detections] for scene in scenes]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, range(12)))
    for number, (results, found) in enumerate(answers):
        assert alike(maps_of(results), wanted[number % 3])
        assert found == pytest.approx(confidences[number % 6])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_an_explainer_is_copied_and_pickled(scenes, again):
    explainer = detcam.Explainer(WEIGHTS, "layercam", layers="neck")
    (wanted,) = explainer(scenes[0])
    other = again(explainer)
    (found,) = other(scenes[0])
    assert alike(maps_of([found]), maps_of([wanted]))
    assert other.layers == explainer.layers
    kept = pickle.loads(pickle.dumps(found))
    assert np.array_equal(kept[0].detection.xyxy, found[0].detection.xyxy)
    assert np.array_equal(kept[0].heatmap.array, found[0].heatmap.array)


def test_a_spawned_process_explains(scenes):
    explainer = detcam.Explainer(WEIGHTS, "layercam")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        found = processes.submit(explainer, scenes[0]).result(timeout=300)
    assert alike(maps_of(found), maps_of(explainer(scenes[0])))


@contextlib.contextmanager
def half_by_default():
    torch.set_default_dtype(torch.float16)
    try:
        yield
        assert torch.get_default_dtype() == torch.float16
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "half": half_by_default,
}


@pytest.mark.parametrize("method", ["layercam", "saliency"])
@pytest.mark.parametrize("state", STATES)
def test_the_callers_state_of_torch_makes_no_difference(demo_detector, scenes, state, method):
    explainer = detcam.Explainer(demo_detector, method)
    wanted = maps_of(explainer(scenes[0]))
    with STATES[state]():
        before = torch.zeros(1)
        found = maps_of(explainer(scenes[0]))
        session = detcam.open_image(detcam.load(WEIGHTS), scenes[0])
        after = torch.zeros(1)
    assert (before.device, before.dtype) == (after.device, after.dtype)
    assert alike(found, wanted)
    assert len(session.detections) == len(wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_explains_while_another_thread_does(demo_detector, scenes):
    explainer = detcam.Explainer(demo_detector, "layercam")
    explainer(scenes[0])
    with demo_detector._one_at_a_time:  # as if held by a thread that the child does not have
        child = multiprocessing.get_context("fork").Process(target=explainer, args=(scenes[0],))
        other = threading.Thread(target=child.start)
        other.start()
        other.join()
    child.join(60)
    assert child.exitcode == 0
