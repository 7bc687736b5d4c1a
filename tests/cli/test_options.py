"""Options: which wins, and what they change."""

from __future__ import annotations

from command_line import TINY, call, metrics, options_of

SHORT = (*TINY, "--steps", "6")


def condense(out, *more, data="digits"):
    return call("condense", "--data", data, "--out", out, *more)


# budget, options and their order


def test_the_file_keeps_to_the_bytes_that_it_was_given(tmp_path):
    assert condense(tmp_path / "run", *SHORT, "--bytes", "12.5 KB").code == 0
    assert 10_000 < (tmp_path / "run" / "condensed.safetensors").stat().st_size <= 12_500


def test_flags_go_over_the_file_and_assignments_over_flags(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text(
        "seed: 5\ntraining: {steps: 9, log_every: 2}\nnetworks: {num_augmentations: 3}\n"
    )
    done = condense(
        *(tmp_path / "run", "--preset", "quick", *TINY, "--config", file),
        *("--steps", 7, "--set", "training.log_every=3", "--set", "training.warm_start=0"),
    )
    assert done.code == 0, done.err
    options = options_of(tmp_path / "run")
    assert options["seed"] == 5
    assert options["training"]["steps"] == 7
    assert options["training"]["log_every"] == 3
    assert options["networks"]["num_augmentations"] == 3
    assert [line["step"] for line in metrics(tmp_path / "run")] == [3, 6, 7]


def test_a_preset_lies_under_the_file(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("networks: {width: 8, train_steps: 5}\ntraining: {steps: 4}\n")
    options = ("--preset", "quick", "--bytes", "8KB", "--config", file)
    assert condense(tmp_path / "run", *options).code == 0
    networks = options_of(tmp_path / "run")["networks"]
    assert (networks["width"], networks["random"], networks["trained"]) == (8, 1, 3)


def test_pixels_are_a_choice_of_format(tmp_path):
    run = tmp_path / "run"
    assert condense(run, *SHORT, "--set", "store.format=pixels").code == 0
    assert "format pixels" in call("info", run).out
    stream = call("evaluate", run, "--data", "digits", "--sampling", "fresh", "--epochs", 1)
    assert stream.code == 2
    assert "has no codes to draw a stream from" in stream.err


def test_flags_of_discrepancies_replace_those_of_the_file(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("losses: {discrepancies: {mean: 3}, intra: 0.5}\n")
    flags = ("--discrepancy", "moments", "--discrepancy", "cf:0.5", "--augmentation", "scale")
    done = condense(tmp_path / "run", *SHORT, "--config", file, *flags)
    assert done.code == 0, done.err
    options = options_of(tmp_path / "run")
    assert options["losses"]["discrepancies"] == {"moments": 1.0, "cf": 0.5}
    assert options["losses"]["intra"] == 0.5
    assert options["networks"]["augmentation"] == ["scale"]
    assert {"moments", "cf"} <= metrics(tmp_path / "run")[-1].keys()
