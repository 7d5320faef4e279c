"""Each of sixteen bad meshes is caught by the check that is meant for it, and the good mesh raises no alarm."""

import json
import os

import captures
import jsonschema
import known_bad
import pytest
import verdicts
from known_bad import CASES

LONG = os.environ.get("RECON_LONG") == "1"
SEEDS = range(10 if LONG else 1)


@pytest.fixture(scope="module", params=["sample", "Spot"] if LONG else ["sample"])
def object_(request):
    if request.param == "Spot" and not (captures.FOLDER / "spot").exists():
        pytest.skip("Spot's photos are not there; name the folder of captures in RECON_DATA")
    return known_bad.OBJECTS[request.param]()


@pytest.fixture(scope="module", params=SEEDS, ids=lambda seed: f"seed{seed}")
def given(request, object_):
    scene, truth, faces = object_
    return known_bad.good(scene, truth, request.param, faces=faces), request.param


def test_the_good_mesh_raises_no_alarm(given):
    found = known_bad.judge(*given[0])
    assert found["status"] == "normal" and found["decided_by"] == [], found["reason"]


@pytest.mark.parametrize("name", CASES)
def test_a_bad_mesh_is_caught_by_the_check_that_is_meant_for_it(given, name):
    good, seed = given
    found = known_bad.spoiled(good, name, seed)
    assert found["status"] != "normal" and CASES[name].check in found["decided_by"], found["reason"]
    jsonschema.validate(json.loads(json.dumps(found, allow_nan=False)), verdicts.SCHEMA)
