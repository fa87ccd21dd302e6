"""Each wrong outcome that the judge of hostile inputs is there to see, it sees."""

import os
import socket
import subprocess
import time
import warnings

import numpy as np
import pytest
import torch

from detcam.errors import InputError
from hostile.judging import Answer, Input, try_inputs


class TwoLinesError(InputError):
    def __str__(self):
        return "two\nlines"


def raise_(error):
    raise error


def fork(out):
    with warnings.catch_warnings(action="ignore"):  # a process of several threads should not
        child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def patch_a_tensor(out):
    torch.Tensor.argmax = torch.Tensor.argmin


DEEDS = {
    "nothing": (lambda out: None, None),
    "a refusal": (lambda out: raise_(InputError("a line")), None),
    "an error nobody expects": (lambda out: raise_(KeyError("a")), "KeyError"),
    "two lines": (lambda out: raise_(TwoLinesError()), "several lines"),
    "no words": (lambda out: raise_(InputError("")), "without a word"),
    "a hang": (lambda out: time.sleep(30), "no answer"),
    "a process": (lambda out: subprocess.run(["true"], check=True), "subprocess.Popen"),
    "another process": (lambda out: os.system("true"), "os.system"),
    "a fork": (fork, "os.fork"),
    "a name looked up": (lambda out: socket.getaddrinfo("127.0.0.1", 80), "socket.getaddrinfo"),
    "a file of its own": (lambda out: (out.mkdir(), (out / "a").write_text("a")), None),
    "a file beside": (lambda out: (out.parent / "a").write_text("a"), "open"),
    "a file deleted": (lambda out: (out.parent / "bystander.txt").unlink(), "os.remove"),
    "the process": (patch_a_tensor, "torch.Tensor"),
    "memory": (lambda out: np.ones(2**27 + 2**26).sum(), "MiB"),
    "an exit code": (lambda out: Answer(70, "", "a bug"), "exit code 70"),
    "a silent exit code": (lambda out: Answer(2, "", ""), "without a word"),
    "a traceback": (lambda out: Answer(2, "", "Traceback (most recent call last)\nKeyError"), "a traceback"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_is_wrong_is_seen(deed, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "argmax", torch.Tensor.argmax)
    do, why = DEEDS[deed]
    noted, limit = [], 1 if deed == "a hang" else 60

    def ask(made, out):
        return do(out)

    def once():
        inputs = [Input(deed, lambda folder: None)]
        try_inputs("judge", inputs, ask, folder=tmp_path, record=lambda *a: noted.append(a), seconds=limit)

    if why is None:
        once()
    else:
        with pytest.raises(AssertionError, match=why):
            once()
    assert noted == [("hostile", ["judge", 1, int(why is not None)])]
