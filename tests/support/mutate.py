"""Changes modules in small ways, one change at a time, and runs the tests that guard them: which changes survive?

It needs ``pip install cosmic-ray``, and ``PYTHONPATH=.``: ``python tests/support/mutate.py detcam/geometry.py``.
Torch and the tests are imported once, and each change is tried in a fork of that process, by the tests that run the
changed function, the fastest first.
"""

import argparse
import ast
import os
import random
import resource
import sys
import time
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import FunctionType

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

GUARDS = {
    "detcam/geometry.py": ("tests/test_geometry.py", "tests/test_doctests.py"),
    "detcam/targets.py": ("tests/test_targets.py",),
    "detcam/methods/cam.py": ("tests/test_methods.py",),
    "detcam/review/matching.py": ("tests/test_matching.py", "tests/test_matching_oracles.py"),
    "detcam/review/errors.py": ("tests/test_matching.py", "tests/test_matching_oracles.py"),
    "detcam/review/overlaps.py": ("tests/test_overlaps.py", "tests/test_matching.py", "tests/test_overlap_oracles.py"),
    "detcam/attribution/evidence.py": ("tests/test_evidence.py", "tests/test_evidence_ranking.py"),
    "detcam/attribution/patches.py": ("tests/test_patches.py", "tests/test_evidence.py"),
}
"""Modules, and those of their tests that take seconds; of those, what hypothesis draws is left out."""
SECONDS = 30
"""Of the processor's time: a change that takes longer is killed, too."""


def mutants_of(source, seed):
    """Changed sources in an order drawn at random, and what changed; annotations, which nothing runs, stay."""
    notes = [getattr(node, name, None) for node in ast.walk(ast.parse(source)) for name in ("annotation", "returns")]
    spans = [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in notes if n is not None]
    nodes, places = list(ast_nodes(get_ast(source))), []
    operators = [OperatorProvider()[name] for name in OperatorProvider()]
    for change in [operator() for operator in operators if not operator.arguments()]:
        starts = [start for node in nodes for start, _ in change.mutation_positions(node)]
        places += [(change, n, at) for n, at in enumerate(starts) if not any(low <= at < high for low, high in spans)]
    random.Random(seed).shuffle(places)
    for change, number, (line, _) in places:
        changed = mutate_code(source, change, number)
        try:
            compile(changed, "changed", "exec")
        except SyntaxError:
            continue
        before, after = (text.splitlines()[line - 1].strip() for text in (source, f"{changed}\n"))
        yield changed, line, f"{before}  ->  {after}"


def functions_of(source):
    """First and last lines of the bodies of functions and methods, those within them aside; their defaults are none."""
    spans, todo = [], [ast.parse(source)]
    for node in todo:  # which grows
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                spans.append((child.body[0].lineno, child.end_lineno))
            else:
                todo.append(child)
    return spans


class Namespace(dict):
    """A module's names while its changed source runs: functions and classes stay the objects that others hold."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def __getitem__(self, name):
        return vars(self.module)[name]

    def __setitem__(self, name, new):
        old = vars(self.module).get(name)
        own = getattr(old, "__module__", None) == self.module.__name__
        if own and isinstance(old, FunctionType) and isinstance(new, FunctionType):
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
        elif own and isinstance(old, type) and isinstance(new, type):
            for key in set(vars(old)) - set(vars(new)):
                delattr(old, key)
            for key in set(vars(new)) - {"__dict__", "__weakref__"}:
                setattr(old, key, vars(new)[key])
            for cell in [cell for value in vars(new).values() for cell in getattr(value, "__closure__", None) or ()]:
                cell.cell_contents = old if cell.cell_contents is new else cell.cell_contents  # which super() reads
        else:
            for names in [vars(other) for other in sys.modules.values()] if not (old is None or old is new) else []:
                if names.get(name) is old:
                    names[name] = new
            vars(self.module)[name] = new


class Trial:
    """A pytest plugin that runs a module's tests as it is, and then in a fork for each of its changes."""

    def __init__(self, path, count, seed):
        self.path, self.count, self.seed = path, count, seed

    def pytest_runtestloop(self, session):
        module, source = import_module(self.path.removesuffix(".py").replace("/", ".")), Path(self.path).read_text()
        spans, by_speed = functions_of(source), {}
        for item in session.items:
            start, lines = time.process_time(), lines_run(module.__file__, item, session)
            ran = {span for span in spans if any(span[0] <= line <= span[1] for line in lines)}
            by_speed[time.process_time() - start, item.nodeid] = item, ran
        assert not session.testsfailed, f"a test fails while {self.path} is as it is"
        tests = [by_speed[key] for key in sorted(by_speed)]
        assert survives(module, source, session, [item for item, _ in tests]), (
            "a test fails where it is only read again"
        )
        alive, tried = 0, 0
        for changed, line, what in islice(mutants_of(source, self.seed), self.count):
            inside = {span for span in spans if span[0] <= line <= span[1]}
            survived = survives(module, changed, session, [item for item, ran in tests if not inside or inside & ran])
            alive, tried = alive + survived, tried + 1
            print(f"{tried} {line}: {what}" if survived else ".", end="\n" if survived else "", flush=True)
        print(f"\n{self.path}: {tried} changes, {alive} survived", flush=True)
        return True


def survives(module, changed, session, items):
    """Whether every test passes with the module's changed source."""
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        survived = False
        try:
            exec(compile(changed, module.__file__, "exec"), vars(module), Namespace(module))
            survived = passes(session, items)
        finally:
            os._exit(not survived)
    return os.waitpid(child, 0)[1] == 0


def passes(session, items):
    for item in items:
        if not session.testsfailed:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=session)  # whose fixtures stay
    return not session.testsfailed


def lines_run(path, item, session):
    """Which lines of a file a test runs."""
    lines = set()

    def trace(frame, event, _):
        if frame.f_code.co_filename == path:
            lines.add(frame.f_lineno)
            return trace
        return None

    sys.settrace(trace)
    passes(session, [item])
    sys.settrace(None)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", choices=GUARDS)
    parser.add_argument("--count", type=int, default=200, help="of changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    options = ["-q", "-p", "no:cacheprovider", "-s", "-m", "not hypothesis", *GUARDS[given.module]]
    sys.exit(pytest.main(options, plugins=[Trial(given.module, given.count, given.seed)]))
