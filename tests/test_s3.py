"""A run on Ray from and to an object store: an imitation of S3 on this machine, which is not on the network.

Needs ``pip install 'moto[server]' s3fs '.[ray]'``.
"""

import os
import subprocess
import sys

import pytest
from PIL import Image

from detcam.demo import WEIGHTS
from detcam.demo.scenes import make_scene, render

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]
COUNT = 12
COMPARE = """
import sys
from detcam.io.files import locate
local, remote = map(locate, sys.argv[1:])
files = [p.relative_to(local) for p in local.rglob("*") if p.is_file() and p.name not in ("run.json", ".lock")]
same = [str(p) for p in files if (remote / str(p)).read_bytes() == (local / p).read_bytes()]
there = [p for p in remote.rglob("*") if p.is_file() and p.name != "run.json"]
print(len(files), len(same), len(there))
"""


@pytest.fixture(scope="module")
def store():
    """Environment variables that lead to a new, empty S3 with one bucket."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]' s3fs")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1", "OMP_NUM_THREADS": "1",  # as Ray's workers
    }  # fmt: skip
    python(environment, "import s3fs; s3fs.S3FileSystem().mkdir('bucket')")
    yield environment
    running.stop()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3") / "images"
    folder.mkdir()
    for seed in range(COUNT):
        Image.fromarray(render(make_scene(seed))).save(folder / f"{seed:03d}.png")
    return folder


def python(environment, text, *arguments):
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def explain(environment, source, out, *options):
    command = [sys.executable, "-m", "detcam", "explain", source, "--weights", WEIGHTS, "--method", "layercam"]
    return subprocess.run(
        [*map(str, command), "--out", str(out), *options], env=environment, capture_output=True, text=True, check=False
    )


def test_the_same_bytes_in_s3(store, images, tmp_path):
    assert explain(store, images, tmp_path / "local").returncode == 0
    assert explain(store, images, "s3://bucket/here").returncode == 0
    files, same, there = map(int, python(store, COMPARE, tmp_path / "local", "s3://bucket/here").split())
    assert files == same == there > COUNT
    again = explain(store, images, "s3://bucket/here")
    assert f"({COUNT} of them by an earlier run)" in again.stderr


def test_ray_reads_images_from_s3_and_writes_there(store, images, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    copy = "import s3fs, sys; s3fs.S3FileSystem().put(sys.argv[1] + '/', 'bucket/photographs/', recursive=True)"
    python(store, copy, images)
    here = explain(store, "s3://bucket/photographs", tmp_path / "local")
    assert here.returncode == 0, here.stderr
    ray = explain(store, "s3://bucket/photographs", "s3://bucket/ray", "--engine", "ray", "--workers", "2")
    assert ray.returncode == 0, ray.stderr
    files, same, there = map(int, python(store, COMPARE, tmp_path / "local", "s3://bucket/ray").split())
    assert files == same == there > COUNT


def test_ray_goes_on_where_a_killed_run_stopped(store, images, tmp_path):
    """What the workers write is found though the store's listings are remembered."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    assert explain(store, images, tmp_path / "local").returncode == 0
    start = (
        "import sys; from detcam.runs.folder import RunFolder as R; from detcam.cli import main; add = R.add; n = []\n"
    )
    start += "def some(*a):\n  n.append(0)\n  if len(n) > 4: import os; os._exit(9)\n  return add(*a)\n"
    start += "R.add = some; main(sys.argv[1:])"
    options = ["--weights", str(WEIGHTS), "--method", "layercam", "--out", "s3://bucket/killed"]
    killed = subprocess.run([sys.executable, "-c", start, "explain", str(images), *options], env=store, check=False)
    assert killed.returncode == 9
    assert explain(store, images, "s3://bucket/killed", "--engine", "ray", "--workers", "1").returncode == 0
    files, same, there = map(int, python(store, COMPARE, tmp_path / "local", "s3://bucket/killed").split())
    assert files == same == there > COUNT


def test_what_s3_refuses_is_told_in_a_line(store, images, tmp_path):
    done = explain(store, images, "s3://nobody/run")
    assert done.returncode == 2
    assert done.stderr.startswith("detcam explain: cannot write to s3://nobody/run: ")
    assert len(done.stderr.splitlines()) == 1
    done = explain({**store, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, images, "s3://bucket/run")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    done = explain(store, "s3://bucket/nothing", tmp_path / "run")
    assert done.returncode == 1
    assert "s3://bucket/nothing: no images there" in done.stderr
