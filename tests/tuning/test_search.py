"""Searches are read, and whatever is wrong with them is said before anything runs."""

import pytest

from i2idist.errors import ConfigError
from i2idist.tuning.search import differing, from_definition, read_search, searches

LAMBDA = "method.lambda_l1"


def float_range(**changes):
    return {"type": "float", "low": 1.0, "high": 100.0, **changes}


@pytest.mark.parametrize("name", searches())
def test_searches_that_come_with_i2idist_can_be_used(name):
    assert read_search(name).budget >= 1


def test_a_study_keeps_the_whole_search(search_file):
    path = search_file(
        space={
            "method.discriminator_layers": {"type": "int", "low": 1, "high": 2},
            LAMBDA: float_range(log=True, when={"method.discriminator_layers": [1, 2]}),
        },
        constraints=[{"metric": "pixel-accuracy", "min": 0.0}],
        trial={"train.total_images": 24},
        evaluations=2,
        seeds=2,
        pruner="median",
    )
    search = read_search(path)
    again = from_definition(search.definition(), "the study")
    assert differing(search, again) == {}
    assert again.definition() == search.definition()


def test_trials_are_shorter_than_what_is_promoted_and_validated_at_their_end(search_file):
    search = read_search(
        search_file(trial={"train.total_images": 24}, evaluations=3, objectives=["edge-iou", "accuracy"])
    )
    trial = search.experiment({LAMBDA: 7.0}, 3, seed=2)
    assert (trial.train.total_images, trial.train.validate_every_images, trial.seed) == (24, 8, 2)
    assert trial.train.validate_protocols == ("edge-iou", "accuracy")
    assert trial.method.config.lambda_l1 == 7.0
    recipe = search.recipe_of({LAMBDA: 7.0})
    assert (recipe.train.total_images, recipe.train.validate_protocols) == (48, ())


def test_overrides_are_laid_over_the_search_file_and_its_recipe(search_file):
    search = read_search(search_file(set={"train.batch_size": 2}), {"train.batch_size": 6}, trials=9, hours=None)
    assert (search.experiment({}).train.batch_size, search.budget) == (6, 9)


def test_a_grid_is_every_point_whose_conditions_hold(search_file):
    space = {
        "method.discriminator_layers": {"type": "categorical", "choices": [1, 2]},
        LAMBDA: {"type": "float", "low": 0.0, "high": 1.0, "step": 0.5, "when": {"method.discriminator_layers": 2}},
    }
    search = read_search(
        search_file(space=space, sampler="grid", trials=None, first=[{"method.discriminator_layers": 1}])
    )
    layers = "method.discriminator_layers"
    assert search.budget == 4
    assert search.starting() == [{layers: 1}, *({layers: 2, LAMBDA: value} for value in (0.0, 0.5, 1.0))]


def test_keys_can_follow_another(search_file):
    search = read_search(search_file(space={LAMBDA: float_range(also=["method.lr"])}))
    assert vars(search.experiment({LAMBDA: 7.0}).method.config).items() >= {"lambda_l1": 7.0, "lr": 7.0}.items()
    assert search.recipe_of({LAMBDA: 7.0}).method.config.lr == 7.0


def test_keys_can_have_a_value_of_their_own_at_each_choice(search_file):
    layers = "method.discriminator_layers"
    along = {"type": "categorical", "choices": [1, 3], "along": {LAMBDA: [5.0, 7.0], "method.lr": [1e-3, 1e-4]}}
    search = read_search(search_file(space={layers: along}))
    assert from_definition(search.definition(), "a study").space == search.space
    for layer, weight, lr in ((1, 5.0, 1e-3), (3, 7.0, 1e-4)):
        config = search.experiment({layers: layer}).method.config
        assert (config.discriminator_layers, config.lambda_l1, config.lr) == (layer, weight, lr)


BAD = {
    "a value too few beside a choice": (
        {"space": {LAMBDA: {"type": "categorical", "choices": [1, 2], "along": {"method.lr": [1e-3]}}}},
        "'along' gives method.lr 1 values for 2 choices",
    ),
    "values beside a range": ({"space": {LAMBDA: float_range(along={"method.lr": [1e-3]})}}, "'along' belongs to type"),
    "a key beside a choice that isn't known": (
        {"space": {LAMBDA: {"type": "categorical", "choices": [1], "along": {"method.lambda_l2": [1]}}}},
        "'method.lambda_l2' is no known key",
    ),
    "a key that follows itself": ({"space": {LAMBDA: float_range(also=[LAMBDA])}}, "which is searched already"),
    "a key that follows and isn't known": (
        {"space": {LAMBDA: float_range(also=["method.lambda_l2"])}},
        "'method.lambda_l2' is no known key",
    ),
    "an unknown key of the recipe": (
        {"space": {"method.lambda_11": float_range()}},
        r"'space.method.lambda_11' = 1.0 can't be used: .*Did you mean 'method.lambda_l1'",
    ),
    "a section that is none": ({"space": {"methods.lambda_l1": float_range()}}, "'methods' is no known key"),
    "a value of another type": ({"space": {"method.width": float_range(low=1.5)}}, "'space.method.width' = 1.5 can't"),
    "a value that the method refuses": ({"space": {"method.depth": {"type": "int", "low": -1, "high": 3}}}, "depth"),
    "no space": ({"space": {}}, "'space' is missing"),
    "an inverted range": ({"space": {LAMBDA: float_range(high=0.5)}}, r"space.method.lambda_l1'.*range is inverted"),
    "an empty range": ({"space": {LAMBDA: float_range(high=1.0)}}, r"space.method.lambda_l1'.*range is empty"),
    "half a range": ({"space": {LAMBDA: {"type": "float", "low": 1.0}}}, "needs low and high"),
    "an infinite range": ({"space": {LAMBDA: float_range(high=float("inf"))}}, "isn't finite"),
    "log of zero": ({"space": {LAMBDA: float_range(low=0.0, log=True)}}, "begins above 0"),
    "a step that is too large": ({"space": {LAMBDA: float_range(step=1000)}}, "step is 1000"),
    "a step and log": ({"space": {LAMBDA: float_range(step=1, log=True)}}, "both log and step"),
    "half an int": ({"space": {"method.depth": {"type": "int", "low": 1.5, "high": 3}}}, "must be whole"),
    "no choices": ({"space": {LAMBDA: {"type": "categorical"}}}, "no choices"),
    "a choice twice": ({"space": {LAMBDA: {"type": "categorical", "choices": [1, 1]}}}, "comes twice"),
    "choices of a range": ({"space": {LAMBDA: float_range(choices=[1])}}, "choices belong to"),
    "a range of choices": ({"space": {LAMBDA: {"type": "categorical", "choices": [1, 2], "low": 1}}}, "and no low"),
    "an unknown type": ({"space": {LAMBDA: float_range(type="real")}}, r"space.method.lambda_l1.type"),
    "a misspelt bound": ({"space": {LAMBDA: {"type": "float", "lov": 1, "high": 2}}}, r"Did you mean '.*low'"),
    "a key that the search sets": ({"space": {"seed": {"type": "int", "low": 0, "high": 9}}}, "the search itself sets"),
    "a section that the search sets": (
        {"space": {"resources.num_workers": {"type": "int", "low": 1, "high": 2}}},
        "the search itself sets",
    ),
    "a condition on nothing": (
        {"space": {LAMBDA: float_range(when={"method.depth": 1})}},
        "'method.depth', which isn't searched before it",
    ),
    "a condition that is never met": (
        {
            "space": {
                "method.depth": {"type": "int", "low": 1, "high": 3},
                LAMBDA: float_range(when={"method.depth": 4}),
            }
        },
        "which it never is",
    ),
    "no objectives": ({"objectives": []}, "'objectives' is missing"),
    "an unknown protocol": ({"objectives": ["edge-iuo"]}, "'edge-iuo' is no protocol.*Did you mean 'edge-iou'"),
    "an unknown network": ({"objectives": ["frechet:alex"]}, "alex"),
    "a direction that is wrong": (
        {"objectives": [{"metric": "edge-iou", "direction": "minimize"}]},
        "of edge-iou, higher is better",
    ),
    "a term without direction": ({"objectives": ["generator/l1"]}, "minimize or maximize generator/l1"),
    "an objective twice": ({"objectives": ["edge-iou", "edge-iou"]}, "names a metric twice"),
    "a constraint without bounds": ({"constraints": ["edge-iou"]}, "neither min nor max"),
    "a point with another key": ({"first": [{"method.width": 3}]}, "'method.width', which isn't searched"),
    "a point out of range": ({"first": [{LAMBDA: 1000.0}]}, "outside its range"),
    "a grid without steps": ({"sampler": "grid"}, "'space.method.lambda_l1': a grid needs a step"),
    "cmaes with two objectives": ({"sampler": "cmaes", "objectives": ["edge-iou", "pixel-accuracy"]}, "one objective"),
    "cmaes with constraints": (
        {"sampler": "cmaes", "constraints": [{"metric": "edge-iou", "min": 0}]},
        "knows no constraints",
    ),
    "an unknown sampler": ({"sampler": "tpee"}, "sampler.name"),
    "a pruner without evaluations": ({"pruner": "median"}, "evaluations to 2 or more"),
    "a pruner with two objectives": (
        {"pruner": "median", "evaluations": 2, "objectives": ["edge-iou", "pixel-accuracy"]},
        "several objectives",
    ),
    "no trials": ({"trials": None}, "'trials' is missing"),
    "zero trials": ({"trials": 0}, "'trials' is 0"),
    "zero seeds": ({"seeds": 0}, "'seeds' is 0"),
    "words for numbers": ({"trials": "many"}, "'trials'"),
    "an unknown key of the search": ({"trails": 3}, "Did you mean 'trials'"),
    "no recipe": ({"recipe": None}, "'recipe' is missing"),
    "an unknown recipe": ({"recipe": "segan_digitz"}, "Did you mean 'segan_digits'"),
    "a bad value of the recipe": ({"set": {"train.batch_size": 0}}, "batch_size is 0"),
    "a bad value of trials": ({"trial": {"train.total_image": 4}}, "Did you mean 'train.total_images'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused(search_file, what):
    keys, message = BAD[what]
    with pytest.raises(ConfigError, match=message):
        read_search(search_file(**keys))


def test_an_unknown_search_names_the_nearest():
    with pytest.raises(ConfigError, match="no search named 'segan_lambda'.*'segan_lambda_mi'"):
        read_search("segan_lambda")
