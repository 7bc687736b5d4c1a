"""Files of earlier versions name some options as they were called then."""

from __future__ import annotations

import pytest
import yaml

from gencond_fast.config.options import (
    flatten,
    parse_assignments,
    read_run_config,
    resolve,
    to_plain,
)
from gencond_fast.config.renamed import RENAMED, current_names
from gencond_fast.errors import InputError


def test_every_new_name_is_an_option_and_no_old_one_is():
    options = flatten(to_plain(resolve({"data": "digits", "out": "x"})))
    assert set(RENAMED.values()) <= options.keys()
    assert not set(RENAMED) & options.keys()


def test_a_config_of_an_earlier_version_is_read(tmp_path):
    old = parse_assignments(
        [
            "data=digits",
            "out=x",
            "training.match_rate=0.25",
            "training.start=real",
            "networks.epsilon=0.0",
            "labels.teachers=teachers",
            "losses.discrepancies={cf: 0.5}",
        ]
    )
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    config = read_run_config(tmp_path / "config.yaml")
    assert config.training.match_lr == 0.25
    assert config.training.init == "real"
    assert config.labels.source == "full_data"
    assert config.losses.discrepancies == {"cf": 0.5}


def test_an_option_that_is_gone_and_was_used_is_told(tmp_path):
    (tmp_path / "config.yaml").write_text("data: d\nout: x\nnetworks: {epsilon: 4.0}\n")
    with pytest.raises(InputError, match=r"networks\.epsilon"):
        read_run_config(tmp_path / "config.yaml")


CODE_CHANNELS = r"option 'store\.code_channels' is gone: codes of a generator have no channels"


def test_the_channels_of_old_codes_are_told(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("data: d\nout: x\nstore: {format: generator, code_channels: 4}\n")
    with pytest.raises(InputError, match=CODE_CHANNELS):
        read_run_config(path)
    with pytest.raises(InputError, match=CODE_CHANNELS):
        resolve({"data": "d", "out": "x"}, parse_assignments(["store.code_channels=4"]))
    # as every run of an earlier version has it
    path.write_text("data: d\nout: x\nstore: {format: dct, code_channels: null}\n")
    assert read_run_config(path).store.format == "dct"


def test_other_names_stay():
    assert current_names({"seed": 3, "store.format": "dct"}) == {"seed": 3, "store.format": "dct"}
