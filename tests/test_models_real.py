"""A real model, through the pip of this machine and its index; it stays for later runs and for other tests."""

from __future__ import annotations

from models_helpers import REAL_STORE, real_model

from realtime_client import models


def test_a_real_model_is_fetched_and_is_what_the_manifest_says() -> None:
    folder = real_model("smollm2-135m-instruct")
    (weights,) = folder.iterdir()
    assert weights.read_bytes()[:4] == b"GGUF"
    assert models.locate("smollm2-135m-instruct", store=REAL_STORE) == folder
