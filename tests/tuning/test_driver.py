"""Searches of tiny trainings in this process: every trial once, failures told and retried, studies kept apart."""

import json
import shutil
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from i2idist import launch, storage
from i2idist.cli.studies import app as studies
from i2idist.errors import ConfigError, StudyError
from i2idist.experiment import from_yaml
from i2idist.launch.run_folder import RunFolder
from i2idist.recipe import read_recipe
from i2idist.tuning import read_search, tune
from i2idist.tuning import trial as trials_module
from i2idist.tuning.ledger import chains
from i2idist.tuning.results import standing
from i2idist.tuning.storage import sole_driver, storage_url
from i2idist.tuning.study import load
from services.supervise import free_port

LAMBDA, LR = "method.lambda_l1", "method.lr"


@pytest.fixture
def search(search_file, root):
    """Runs a search; its summary, and the study."""

    def run(study=None, changes=None, **keys):
        said = []
        summary = tune(read_search(search_file(**keys), **(changes or {})), study=study, root=root, say=said.append)
        return summary, load(storage_url(None, root), summary.study), said

    return run


def runs(root):
    return sorted(name for name in storage.list_dir(root) if RunFolder(root, name).exists())


def test_a_search_comes_to_its_end_and_goes_on_where_more_is_asked_for(search, root):
    first = [{LAMBDA: 10.0}]
    summary, study, _ = search(first=first)
    assert summary.counts == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert [trial.number for trial in study.trials] == [0, 1, 2]
    assert study.trials[0].params == {LAMBDA: 10.0}
    assert runs(root) == ["tiny-t0", "tiny-t1", "tiny-t2"]
    values = [trial.value for trial in study.trials]
    assert len(set(values)) == 3
    assert study.best_trial.value == max(values)
    validation = [event for event in launch.logs("tiny-t1", root=root) if event["event"] == "validation"][-1]
    assert validation["images"] == 48
    assert values[1] in validation.values()
    again, study, said = search(first=first)
    assert len(study.trials) == 3
    assert again.best == summary.best
    assert not [line for line in said if line.startswith("Trial")]
    more, study, _ = search(first=first, changes={"trials": 4})
    assert more.counts["complete"] == len({trial.params[LAMBDA] for trial in study.trials}) == 4


def test_the_best_recipe_trains_to_what_the_trial_found(search, root, tmp_path):
    summary, study, _ = search(trials=2)
    (number,) = summary.best
    found = CliRunner().invoke(studies, ["best", "tiny", "--root", root])
    assert found.exit_code == 0, found.output
    path = tmp_path / "best.yaml"
    path.write_text(found.output)
    best = from_yaml(found.output, "best.yaml")
    assert best.method.config.lambda_l1 == study.trials[number].params[LAMBDA]
    assert read_recipe(str(path))[0]["train"].get("validate_protocols") == []
    trained = launch.train(str(path), run="again", root=root)
    assert trained.params_sha256 == RunFolder(root, f"tiny-t{number}").result()["params_sha256"]


def test_studies_are_listed_shown_and_written(search, root, tmp_path):
    search(trials=2, objectives=["edge-iou", "pixel-accuracy"])
    cli = CliRunner()
    listed = json.loads(cli.invoke(studies, ["ls", "--root", root, "--json"]).output)["studies"]
    assert [(row["study"], row["complete"]) for row in listed] == [("tiny", 2)]
    shown = cli.invoke(studies, ["show", "tiny", "--root", root])
    assert "2 complete" in shown.output and "maximize edge-iou; maximize pixel-accuracy" in shown.output
    written = cli.invoke(studies, ["export", "tiny", str(tmp_path / "out"), "--root", root])
    assert written.exit_code == 0, written.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"trials.csv", "study.json", "front.png", "plots.html", "timeline.png"} <= names
    assert {"history-edge-iou.png", "slice-edge-iou.png", "importances-edge-iou.png", "parallel-edge-iou.png"} <= names
    assert "plotly" in (tmp_path / "out" / "plots.html").read_text()
    assert cli.invoke(studies, ["show", "tinny", "--root", root]).exception.args[0].endswith("Did you mean 'tiny'?")


def test_a_term_of_the_method_is_an_objective_too(search):
    summary, study, _ = search(trials=1, objectives=[{"metric": "generator/l1", "direction": "minimize"}])
    assert summary.counts["complete"] == 1
    assert study.trials[0].value > 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"objectives": [{"metric": "generator/l2", "direction": "minimize"}]}, "is none of .*generator/l1"),
        ({"objectives": ["polynomial-mmd"]}, "polynomial-mmd takes 100 outputs at least"),
        ({"objectives": ["frechet"], "constraints": [{"metric": "generator/fid", "max": 1}]}, "'generator/fid'"),
    ],
)
def test_what_a_validation_does_not_give_is_refused_before_anything_runs(search, root, keys, message):
    with pytest.raises(ConfigError, match=message):
        search(**keys)
    assert runs(root) == []
    assert optuna.get_all_study_names(storage_url(None, root)) == []


def test_a_study_of_another_search_is_refused(search, root, search_file, tmp_path):
    search(trials=1)
    wider = {LAMBDA: {"type": "float", "low": 1.0, "high": 200.0, "log": True}}
    with pytest.raises(StudyError, match=f"another search: space.{LAMBDA}.high is 100.0 there, 200.0 here"):
        search(space=wider)
    with pytest.raises(StudyError, match="base.method.width is 4 there, 5 here"):
        search(sections={"method": {"width": 5}})
    with pytest.raises(StudyError, match="give that --root"):
        tune(read_search(search_file(trials=1)), storage=storage_url(None, root), root=str(tmp_path / "elsewhere"))
    summary, _, _ = search(study="wider", space=wider, trials=1)
    assert summary.counts["complete"] == 1


def test_runs_of_a_study_that_was_deleted_are_not_taken_for_new_ones(search, root):
    search(trials=1)
    optuna.delete_study(study_name="tiny", storage=storage_url(None, root))
    with pytest.raises(StudyError, match="runs of an earlier study 'tiny', such as tiny-t0"):
        search(trials=1)


def test_a_study_that_optuna_made_is_refused(search, root):
    Path(root).mkdir()
    url = storage_url(None, root)
    optuna.create_study(storage=url, study_name="tiny").add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(StudyError, match="wasn't made by `i2idist tune`"):
        search()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("postgresql://nobody@127.0.0.1:{port}/studies", StudyError, "can't be used.*refused"),
        ("postgresql://nobody:secret@127.0.0.1:{port}/studies", ConfigError, "holds a password"),
        ("mysql://127.0.0.1/studies", ConfigError, "can't be kept in 'mysql'"),
        ("sqlite:////proc/studies.db", (StudyError, OSError), "."),
    ],
)
def test_a_storage_that_cannot_be_used_is_told_before_anything_runs(search_file, root, url, error, message):
    url = url.format(port=free_port())
    with pytest.raises(error, match=message) as found:
        tune(read_search(search_file()), storage=url, root=root)
    assert "secret" not in str(found.value)
    assert not Path(root).exists() or runs(root) == []


def test_sqlite_takes_one_driver(search, root):
    with sole_driver(storage_url(None, root), "tiny"), pytest.raises(StudyError, match="driven by another process"):
        search()
    search(trials=1)


def test_a_trial_that_diverges_is_given_up_and_the_search_goes_on(search):
    space = {LR: {"type": "categorical", "choices": [1e300, 1e-4, 2e-4]}}
    summary, study, said = search(space=space, sampler="grid", trials=None)
    assert summary.counts == {"complete": 2, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}
    (failed,) = [row for row in standing(study)["trials"] if row["state"] == "failed"]
    assert "not finite" in failed["failures"]
    assert failed["attempts"] == 1
    assert len(study.trials) == 3
    assert any("failed: " in line and "not finite" in line for line in said)


def test_a_trial_that_fails_is_tried_again_within_its_budget_and_says_why(search, tmp_path):
    space = {
        "data.url": {
            "type": "categorical",
            "choices": [str(tmp_path / "absent"), "generated:edges?size=16&train=12&val=6&test=0"],
        }
    }
    summary, study, said = search(space=space, sampler="grid", trials=None, retries=1)
    assert (summary.counts["complete"], summary.counts["failed"]) == (1, 1)
    failed = next(chain for chain in chains(study.trials) if chain.state == "failed")
    assert len(failed.attempts) == 2
    assert all("absent" in why for why in failed.failures())
    assert any("will be tried again" in line and "absent" in line for line in said)


def test_a_trial_that_is_tried_again_goes_on_from_its_checkpoint(search, root, monkeypatch):
    train, deaths = launch.train, []

    def dying(*arguments, **options):
        def on_event(event):
            if event["event"] == "metrics" and event["images"] == 28 and not deaths:
                deaths.append(event)
                raise RuntimeError("the machine hiccuped")

        return train(*arguments, **options, on_event=on_event)

    monkeypatch.setattr(trials_module.launch, "train", dying)
    summary, study, _ = search(trials=1)
    assert deaths
    assert summary.counts["complete"] == 1
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params
    assert "the machine hiccuped" in standing(study)["trials"][0]["failures"]
    resumed = [event["images"] for event in launch.logs("tiny-t0", root=root) if event["event"] == "resumed"]
    assert resumed == [24]
    monkeypatch.undo()
    whole = launch.train(from_yaml(RunFolder(root, "tiny-t0").experiment().as_yaml(), "x"), run="whole", root=root)
    assert whole.params_sha256 == RunFolder(root, "tiny-t0").result()["params_sha256"]


def test_a_trial_is_the_mean_of_its_seeds(search, root):
    _, study, _ = search(trials=1, seeds=2)
    assert runs(root) == ["tiny-t0-s0", "tiny-t0-s1"]
    values = []
    for name in runs(root):
        events = [event for event in launch.logs(name, root=root) if event["event"] == "validation"]
        values += [value for key, value in events[-1].items() if key.startswith("eval/edge-iou/")]
    assert values[0] != values[1]
    assert study.trials[0].value == pytest.approx(sum(values) / 2)


def test_the_best_is_within_the_constraints(search):
    _, free, _ = search(study="free")
    bound = sorted(trial.value for trial in free.trials)[1]
    summary, study, _ = search(study="bound", constraints=[{"metric": "edge-iou", "max": bound}])
    (best,) = summary.best
    assert study.trials[best].value == bound < free.best_trial.value
    none, _, _ = search(study="none", trials=1, constraints=[{"metric": "edge-iou", "min": 2.0}])
    assert none.best == {}


def test_conditional_keys_are_searched_only_where_they_count(search):
    layers = "method.discriminator_layers"
    space = {
        layers: {"type": "categorical", "choices": [1, 2]},
        LAMBDA: {"type": "float", "low": 1.0, "high": 2.0, "step": 1.0, "when": {layers: 2}},
    }
    summary, study, _ = search(space=space, sampler="grid", trials=None)
    assert summary.counts["complete"] == 3
    found = [tuple(trial.params.items()) for trial in study.trials]
    assert sorted(found) == [((layers, 1),), ((layers, 2), (LAMBDA, 1.0)), ((layers, 2), (LAMBDA, 2.0))]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2", "nsga3"])
def test_samplers(search, sampler):
    _, study, _ = search(sampler={"name": sampler, "seed": 1, "startup_trials": 1, "population_size": 2}, trials=4)
    assert len({trial.params[LAMBDA] for trial in study.trials}) == 4
    assert all(trial.state.name == "COMPLETE" for trial in study.trials)


def test_trials_start_from_a_checkpoint(search, recipe, root):
    first = launch.train(recipe(), run="first", root=root)
    _, _, _ = search(trials=1, set={"init_from": "first"})
    started = RunFolder(root, "tiny-t0").experiment()
    assert started.init_from.url == first.checkpoint
    assert started.init_from.sha256


def test_a_median_pruner_ends_trials_that_lag_behind(search, root):
    """With lr = 0 nothing is learnt; what learns comes first."""
    space = {LR: {"type": "categorical", "choices": [2e-3, 1e-3, 1e-12, 1e-13]}}
    first = [{LR: choice} for choice in space[LR]["choices"]]
    objective = [{"metric": "generator/l1", "direction": "minimize"}]
    pruner = {"name": "median", "startup_trials": 2}
    more = {"trial": {"train.total_images": 96}, "evaluations": 4}
    summary, study, _ = search(space=space, first=first, trials=4, objectives=objective, pruner=pruner, **more)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert summary.counts["pruned"] == 2
    assert [sorted(trial.intermediate_values) for trial in study.trials] == [[1, 2, 3, 4], [1, 2, 3, 4], [1], [1]]
    assert RunFolder(root, "tiny-t2").result()["stopped"] == "pruned"
    assert RunFolder(root, "tiny-t2").result()["images"] == 24


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_other_pruners(search, pruner):
    space = {LR: {"type": "categorical", "choices": [2e-3, 1e-3, 1e-12, 1e-13]}}
    first = [{LR: choice} for choice in space[LR]["choices"]]
    objective = [{"metric": "generator/l1", "direction": "minimize"}]
    summary, study, _ = search(
        space=space,
        first=first,
        trials=4,
        objectives=objective,
        evaluations=4,
        trial={"train.total_images": 96},
        pruner={"name": pruner, "reduction_factor": 2},
    )
    assert summary.counts["complete"] + summary.counts["pruned"] == 4
    assert summary.counts["pruned"] >= 1
    assert study.best_trial.params[LR] in (2e-3, 1e-3)


def test_a_trial_pruned_just_before_its_driver_died_is_not_trained_on(search, root):
    """Its run ended as pruned; its study hadn't been told."""
    space = {LR: {"type": "categorical", "choices": [2e-3, 1e-12]}}
    keys = {
        "space": space,
        "first": [{LR: 2e-3}, {LR: 1e-12}],
        "trials": 2,
        "objectives": [{"metric": "generator/l1", "direction": "minimize"}],
        "evaluations": 2,
        "pruner": {"name": "median", "startup_trials": 1},
    }
    search(study="done", **keys)
    assert RunFolder(root, "done-t1").result()["stopped"] == "pruned"
    task = trials_module.Task(
        "done",
        1,
        ("done-t1",),
        (RunFolder(root, "done-t1").experiment().as_yaml(),),
        root,
        read_search_objectives("generator/l1"),
    )
    before = RunFolder(root, "done-t1").result()
    outcome = trials_module.run(task)
    assert outcome.state == "pruned"
    assert RunFolder(root, "done-t1").result() == before


def read_search_objectives(metric):
    from i2idist.tuning.objectives import Objective

    return (Objective(metric=metric, direction="minimize"),)


def test_a_stopped_trial_is_given_up(search, root, monkeypatch):
    train = launch.train

    def stopped(*arguments, **options):
        def on_event(event):
            if event["event"] == "metrics" and event["images"] == 8 and options["run"] == "tiny-t0":
                launch.stop("tiny-t0", root=root)

        return train(*arguments, **options, on_event=on_event)

    monkeypatch.setattr(trials_module.launch, "train", stopped)
    summary, study, _ = search(sections={"train": {"total_images": 4000, "checkpoint_every_images": 1000}}, trials=1)
    assert (summary.counts["complete"], summary.counts["failed"]) == (0, 1)
    assert "stopped by `i2idist stop`" in standing(study)["trials"][0]["failures"]


def test_data_that_went_away_costs_nothing_but_its_trials(search, tmp_path, root, recipe):
    """Every trial fails for good: the search ends, and says so."""
    gone = tmp_path / "gone"
    gone.mkdir()
    shutil.rmtree(gone)
    space = {"data.url": {"type": "categorical", "choices": [str(gone)]}}
    summary, _, _ = search(space=space, trials=2, retries=0)
    assert summary.counts["failed"] == 2
    assert summary.best == {}
