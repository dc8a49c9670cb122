"""Runs with several seeds: which are repeated, and what is printed of them."""

import argparse
import json

import pytest


@pytest.fixture
def repeated(load_script):
    return load_script("repeated")


def test_finished_runs_are_not_repeated(repeated, tmp_path):
    """With resume a run is read back, unless an option differs; a longer list of names or seeds adds runs."""
    done = []

    def run(name, seed):
        done.append((name, seed))
        return {"loss": seed / 2}

    def runs(**options):
        args = {"out": tmp_path / "out", "seed": 3, "seeds": 2, "resume": True, "rate": 0.1, "cells": ["a"]} | options
        done.clear()
        return repeated.runs(argparse.Namespace(**args), "cells", run)

    assert runs() == {"a": [{"loss": 1.5}, {"loss": 2.0}]}
    assert done == [("a", 3), ("a", 4)]
    assert runs() == {"a": [{"loss": 1.5}, {"loss": 2.0}]}
    assert done == []
    assert runs(cells=["b", "a"], seeds=3)["b"] == [{"loss": 1.5}, {"loss": 2.0}, {"loss": 2.5}]
    assert done == [("b", 3), ("b", 4), ("b", 5), ("a", 5)]
    runs(rate=0.2)
    assert done == [("a", 3), ("a", 4)]
    runs(resume=False)
    assert done == [("a", 3), ("a", 4)]
    lines = (tmp_path / "out/runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [3, 4]


def test_mean_and_spread(repeated):
    """The standard deviation of the runs; none of one run."""
    assert repeated.mean_and_spread([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"
    assert repeated.mean_and_spread([0.25], 2) == "0.25"
