"""The layers of ARCHITECTURE.md: imports point one way, and only the adapters know the vendor."""

import ast
import re
from pathlib import Path

import detcam

ROOT = Path(detcam.__file__).parent
TABLE = Path(__file__).parents[1] / "ARCHITECTURE.md"


def layers():
    """The files of each row of ARCHITECTURE.md's table of layers, as they are imported, without ``detcam.``."""
    rows = re.findall(r"^\| `([\w/]+)/` \| ((?:`\w+`(?:, )?)+) \|", TABLE.read_text(encoding="utf-8"), re.M)
    for folder, files in rows:
        package = "" if folder == "detcam" else folder.replace("/", ".")
        yield [dotted(package, name) for name in re.findall(r"`(\w+)`", files)]


def dotted(package, name):
    return (package or name) if name == "__init__" else f"{package}.{name}".lstrip(".")


def name_of(path):
    folder = path.relative_to(ROOT).parent
    return dotted(".".join(folder.parts), path.stem)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(path):
    """What a file imports, anywhere in it: modules, and names handed to ``import_module`` as they stand."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{path} has a relative import"
            assert not node.level, f"{path} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("detcam.") in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            yield from (given.value for given in node.args if isinstance(given, ast.Constant))


def arrows():
    """Pairs of our files, the first of which imports the second."""
    for name, path in FILES.items():
        for module in imports_of(path):
            other = module.removeprefix("detcam.") if module != "detcam" else "__init__"
            if module.split(".")[0] == "detcam" and other != name:
                yield name, other


def room(name):
    """The package that a file is in; a file at the top is a room of its own."""
    return name.split(".")[0]


def circles(pairs):
    """Sets of rooms each of which leads to all the others."""
    onward = {}
    for one, other in pairs:
        onward.setdefault(one, set()).add(other)
    reached = {}
    for start in onward:
        seen, ahead = set(), [start]
        while ahead:
            fresh = onward.get(ahead.pop(), set()) - seen
            seen |= fresh
            ahead += fresh
        reached[start] = seen
    return {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in reached if a in reached[a]}


def test_every_file_is_named_once_in_the_table_of_layers():
    named = [name for row in layers() for name in row]
    assert len(named) == len(set(named))
    assert set(named) <= set(FILES)
    unnamed = set(FILES) - set(named)  # may be the `__init__` of a package, if it only says what the package is
    assert not [name for name in unnamed if FILES[name].stem != "__init__" or list(imports_of(FILES[name]))]
    homes = [{room(name) for name in row} for row in layers() if "." in row[0]]
    assert all(len(home) == 1 for home in homes)


def test_imports_point_only_to_what_stands_before_in_the_table():
    named = [name for row in layers() for name in row]
    place = {name: number for number, name in enumerate(named)}
    pairs = set(arrows())
    upward = sorted(f"{one} imports {other}" for one, other in pairs if place.get(other, -1) >= place.get(one, -1))
    rooms = {(room(one), room(other)) for one, other in pairs if room(one) != room(other)}
    long = max((len(path.read_text(encoding="utf-8").splitlines()), name) for name, path in FILES.items())
    top = [name for name, path in FILES.items() if path.parent == ROOT]
    print(
        f"\n{len(FILES)} files, {len(pairs)} arrows among them; {len({room(name) for name in FILES})} rooms, "
        f"{len(rooms)} arrows; {len(upward)} upward; {len(circles(rooms))} circles of rooms; "
        f"{len(top)} files at the top; the longest file is {long[1]}, {long[0]} lines"
    )
    assert not upward
    assert not circles(rooms)


def test_circles_are_found():
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")}) == {frozenset("abc")}
    assert not circles({("a", "b"), ("b", "c"), ("a", "c")})


def test_only_the_adapters_and_the_demos_scripts_import_the_vendor():
    users = {name for name, path in FILES.items() if any(m.split(".")[0] == "ultralytics" for m in imports_of(path))}
    inside = {"adapters.weights", "adapters.heads", "adapters.answers", "adapters.finetune", "adapters.folding"}
    inside |= {"adapters.similarity", "adapters.masks"}
    assert users == {*inside, "demo.train", "demo.train_causes", "demo.measure"}


def test_no_file_outgrows_one_idea():
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")) <= 400


def test_images_are_prepared_in_one_place():
    """What is asked of an image starts from its `PreparedImage`; a session prepares changed copies of it too."""
    users = {
        name
        for name, path in FILES.items()
        if not name.startswith("adapters.")
        and any(
            isinstance(node, ast.Attribute) and node.attr == "prepare" for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert users == {"probing.prepared_image", "session"}
