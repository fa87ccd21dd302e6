"""Changes modules in small ways, one change at a time, and runs the tests that guard them: which changes survive?

``pip install cosmic-ray``, whose operators make the changes; then ``PYTHONPATH=. python tests/support/mutate.py``.
Torch and the tests are imported once, and each change is tried in a fork of that process.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

GUARDS = {
    "detcam/geometry.py": ("tests/test_geometry.py", "tests/test_doctests.py"),
    "detcam/targets.py": (
        "tests/test_targets.py",
        "tests/test_gradients.py::test_the_iou_target_falls_as_a_side_moves_inwards",
        "tests/test_gradients.py::test_side_targets_are_outward_distances_in_pixels",
        "tests/test_gradients.py::test_probability_and_score_are_what_is_thresholded",
        "tests/test_methods.py::test_the_contrast_is_the_difference_of_two_logits",
        "tests/test_tasks.py::test_the_mask_target_is_the_mean_logit_of_its_own_mask",
        "tests/test_tasks.py::test_targets_a_task_does_not_have",
        "tests/test_doors.py::test_a_target_that_gives_no_scalar_is_told_so",
        "tests/test_doors.py::test_detcams_own_targets_keep_their_names",
    ),
    "detcam/methods/cam.py": ("tests/test_methods.py",),
    "detcam/review/matching.py": ("tests/test_matching.py",),
    "detcam/attribution/evidence.py": ("tests/test_evidence.py",),
    "detcam/attribution/patches.py": ("tests/test_patches.py", "tests/test_evidence.py"),
}
"""Modules, and of the tests that guard them those that take seconds."""

KEPT = {"__dict__", "__weakref__"}


def mutants_of(source, count, seed):
    """Changed sources and what changed, ``count`` of them drawn at random; annotations, which nothing runs, stay."""
    tree = ast.parse(source)
    notes = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    spans = [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in notes if n is not None]
    parsed, places = get_ast(source), []
    for name in OperatorProvider():
        kind = OperatorProvider()[name]
        if kind.arguments():
            continue
        starts = [start for node in ast_nodes(parsed) for start, _ in kind().mutation_positions(node)]
        places += [(kind, n, at) for n, at in enumerate(starts) if not any(low <= at < high for low, high in spans)]
    random.Random(seed).shuffle(places)
    found = 0
    for kind, number, (line, _) in places:
        changed = mutate_code(source, kind(), number)
        try:
            compile(changed, "changed", "exec")
        except SyntaxError:
            continue
        pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
        after = next((new.strip() for old, new in pairs if old != new), "")
        yield changed, f"{line}: {source.splitlines()[line - 1].strip()}  ->  {after}"
        found += 1
        if found == count:
            return


class Namespace(dict):
    """A module's names while its changed source runs: functions and classes stay the objects that others hold."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def __getitem__(self, name):
        return vars(self.module)[name]

    def __delitem__(self, name):
        delattr(self.module, name)

    def __setitem__(self, name, new):
        old = vars(self.module).get(name)
        own = getattr(old, "__module__", None) == self.module.__name__
        if own and isinstance(old, FunctionType) and isinstance(new, FunctionType):
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
        elif own and isinstance(old, type) and isinstance(new, type):
            for gone in set(vars(old)) - set(vars(new)) - KEPT:
                delattr(old, gone)
            for key in set(vars(new)) - KEPT:
                setattr(old, key, vars(new)[key])
        else:
            setattr(self.module, name, new)
            for other in [one for one in sys.modules.values() if hasattr(one, "__file__") and name in vars(one)]:
                if old is not None and vars(other)[name] is old:
                    setattr(other, name, new)


class Trial:
    """A pytest plugin that runs the tests once, and for each change those of its module again in a fork."""

    def __init__(self, modules, count, seed):
        self.modules, self.count, self.seed = modules, count, seed

    def pytest_runtestloop(self, session):
        spent = {}
        for item in session.items:
            start = time.process_time()
            assert passes([item], session), f"{item.name} fails before anything is changed"
            spent[item] = time.process_time() - start
        for path in self.modules:
            items = [item for item in session.items if item.nodeid.startswith(GUARDS[path])]
            seconds = sum(spent[item] for item in items)
            print(f"{path}: {len(items)} tests, {seconds:.1f} s", flush=True)
            self.try_module(path, sorted(items, key=spent.get), session, int(3 * seconds) + 3)
        return True

    def try_module(self, path, items, session, seconds):
        module = import_module(path.removesuffix(".py").replace("/", "."))
        source = Path(path).read_text(encoding="utf-8")
        assert survives(module, source, items, session, seconds), "the tests fail where the module is only read again"
        tried, survivors = 0, 0
        for changed, what in mutants_of(source, self.count, self.seed):
            tried += 1
            if survives(module, changed, items, session, seconds):
                survivors += 1
                print(what, flush=True)
        print(f"{path}: {tried} changes, {tried - survivors} killed, {survivors} survived", flush=True)


def survives(module, changed, items, session, seconds):
    """Whether every test passes with the module's changed source, in so many seconds of processor time."""
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        survived = False
        try:
            exec(compile(changed, module.__file__, "exec"), vars(module), Namespace(module))
            survived = passes(items, session)
        finally:
            os._exit(not survived)
    return os.waitpid(child, 0)[1] == 0


def passes(items, session):
    for item in items:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=session)  # whose fixtures stay
        if session.testsfailed:
            return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(GUARDS), help="all of them, if none is named")
    parser.add_argument("--count", type=int, default=200, help="of each module's changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tests = sorted({test for module in options.modules for test in GUARDS[module]})
    trial = Trial(options.modules, options.count, options.seed)
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-s", *tests], plugins=[trial]))
