"""Processes: however detcam is started, ended or called, it has a line and a code, and gives what it always gives."""

import asyncio
import contextlib
import copy
import multiprocessing
import pickle
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch

import detcam
from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render
from detcam.errors import DetcamError
from hostile import process_inputs
from hostile.judging import Input
from hostile.process_inputs import STATES

pytestmark = pytest.mark.hostile

ENDS = (0, 1, 2, 3, 130, 143)


def told(answer, out):
    """The answer of a process that has ended."""
    return answer


@pytest.mark.parametrize("part", range(3))
def test_environments(judge, part):
    judge("process", list(process_inputs.environments())[part::3], told, codes=ENDS)


@pytest.mark.parametrize("part", range(3))
def test_streams_limits_and_folders(judge, part):
    judge("process", list(process_inputs.shells())[part::3], told, codes=ENDS)


@pytest.mark.parametrize("part", range(2))
def test_signals(judge, seed, part):
    codes = (0, 3, 130, 143)  # it may have come to its end before
    judge("process", list(process_inputs.signals(seed, 24))[part::2], told, codes=codes)


@pytest.fixture(scope="module")
def scene():
    return render(make_scene(3))


@pytest.fixture(scope="module")
def explainers():
    detector = detcam.load(WEIGHTS)
    return {name: detcam.Explainer(detector, name) for name in ("layercam", "saliency")}


def same(found, wanted):
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert np.allclose(one.heatmap.raw, other.heatmap.raw, rtol=0, atol=1e-4 * max(other.heatmap.peak, 1e-9))
        assert one.detection.class_id == other.detection.class_id
        assert np.allclose(one.detection.xyxy, other.detection.xyxy, atol=0.01)


@pytest.mark.parametrize("part", range(2))
def test_states_of_torch(judge, part, scene, explainers):
    wanted = {name: explainer(scene)[0] for name, explainer in explainers.items()}
    asked = iter(range(10**6))
    for on in (True, False):
        torch.use_deterministic_algorithms(on)  # torch makes a folder for its compiler when it is first asked for

    def ask(pair, out):
        with contextlib.ExitStack() as stack:
            for state in pair:
                stack.enter_context(STATES[state](torch))
            name = ("layercam", "saliency")[next(asked) % 2]
            found = explainers[name](scene)[0]
            detector = detcam.load(WEIGHTS) if pair[0] == pair[1] else explainers[name].model
            session = detcam.open_image(detector, scene)
        same(found, wanted[name])
        assert len(session.detections) == len(found)

    judge("process", list(process_inputs.states())[part::2], ask)


def test_threads_copies_and_processes(judge, scene, explainers):
    explainer, wanted = explainers["layercam"], explainers["layercam"](scene)[0]
    detector = explainer.model
    session = detcam.open_image(detector, scene)

    def threads(work, count=10):
        with ThreadPoolExecutor(count) as pool:
            return [future.result() for future in [pool.submit(work) for _ in range(count)]]

    async def tasks():
        return await asyncio.gather(*(asyncio.to_thread(explainer, scene) for _ in range(6)))

    def bare_thread():
        found = []
        thread = threading.Thread(target=lambda: found.extend(explainer(scene)[0]))
        thread.start()
        thread.join()
        return [found]

    def after_errors():
        for bad in ("nowhere.png", np.zeros((3, 3), np.float32), np.zeros((0, 0, 3), np.uint8), 5, None):
            with contextlib.suppress(DetcamError, TypeError):
                explainer(bad)
        return explainer(scene)

    def failing(subject):
        raise KeyError("own")

    def after_own_failure():
        with contextlib.suppress(KeyError, DetcamError):
            detcam.Explainer(detector, failing)(scene)
        return explainer(scene)

    def within(subject):
        explainer(scene)
        return torch.zeros(len(subject.boxes), 4, 4)

    def reentrant():
        detcam.Explainer(detector, within)(scene)
        return explainer(scene)

    def interrupted():
        def end(number, frame):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGUSR1, end)
        try:
            timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGUSR1])
            timer.start()
            with contextlib.suppress(KeyboardInterrupt):
                for _ in range(20):
                    explainer(scene)
                timer.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        return explainer(scene)

    pickle.dumps(explainer)  # Python notes at a class what it found out when it first pickles one of its objects

    def pickled(one):
        return pickle.loads(pickle.dumps(one))

    ways = {
        "ten threads": lambda: [one for results in threads(lambda: explainer(scene)) for one in results],
        "ten threads, each with its explainer": lambda: [
            one for results in threads(lambda: detcam.Explainer(detector, "layercam")(scene)) for one in results
        ],
        "threads that load": lambda: [
            one for results in threads(lambda: detcam.Explainer(WEIGHTS, "layercam")(scene), 4) for one in results
        ],
        "threads with detcam.explain": lambda: threads(lambda: detcam.explain(detector, scene, method="layercam"), 6),
        "threads with a session": lambda: threads(lambda: session.explain(method="layercam"), 6),
        "threads that open sessions": lambda: threads(
            lambda: detcam.open_image(detector, scene).explain(method="layercam"), 6
        ),
        "threads with layercam and saliency": lambda: [
            one[0] for one in threads(lambda: (explainers["saliency"](scene), explainer(scene))[1], 6)
        ],
        "tasks": lambda: [one for results in asyncio.run(tasks()) for one in results],
        "a thread of its own": bare_thread,
        "after errors": after_errors,
        "after an own method's failure": after_own_failure,
        "an own method that explains": reentrant,
        "after an interrupt": interrupted,
        "a copy": lambda: copy.copy(explainer)(scene),
        "a deep copy": lambda: copy.deepcopy(explainer)(scene),
        "a pickled explainer": lambda: pickled(explainer)(scene),
        "pickled results": lambda: pickled(explainer(scene)),
        "copied results": lambda: copy.deepcopy(explainer(scene)),
        "a pickled session": lambda: [pickled(session).explain(method="layercam")],
        "a copied session": lambda: [copy.deepcopy(session).explain(method="layercam")],
    }

    def ask(way, out):
        for found in ways[way]():
            same(found, wanted)
        assert not any(part._forward_hooks for part in detector.model.modules())

    judge("process", [Input(name, lambda folder, name=name: name) for name in ways], ask, seconds=60)


def test_other_processes(judge, scene, explainers):
    """Results from processes that were started as ``multiprocessing`` starts them."""
    explainer, wanted = explainers["layercam"], explainers["layercam"](scene)[0]

    def make(kind, workers, folder):
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(kind)) as pool:
            return [future.result(timeout=120) for future in [pool.submit(explainer, scene) for _ in range(2)]]

    def ask(results, out):
        for result in results:
            same(result[0], wanted)

    kinds = [(kind, workers) for kind in multiprocessing.get_all_start_methods() for workers in (1, 2)]
    inputs = [
        Input(f"{kind}, {workers} workers", lambda folder, kind=kind, workers=workers: make(kind, workers, folder))
        for kind, workers in kinds
    ]
    judge("process", inputs, ask)
