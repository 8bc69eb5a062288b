import pytest

from i2idist import methods
from i2idist.errors import ConfigError
from i2idist.methods import METHODS, load_method
from i2idist.methods.segan import SEGAN


def test_by_name():
    assert load_method("segan") is SEGAN
    assert all(load_method(name) is method for name, method in METHODS.items())


def test_every_public_method_has_a_name():
    public = [vars(methods)[name] for name in methods.__all__]
    assert {each for each in public if isinstance(each, type)} == set(METHODS.values())


def test_from_outside():
    assert load_method("i2idist.methods.segan:SEGAN") is SEGAN


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cyclgan", "Did you mean 'cyclegan'"),
        ("nobody.anywhere:Method", "importing nobody.anywhere failed: No module named 'nobody'"),
        (":SEGAN", "importing  failed"),
        ("i2idist.methods.segan:SEGN", "has no 'SEGN'. Did you mean 'SEGAN'"),
        ("i2idist.methods.segan:math", "has no 'math'"),
        ("i2idist.methods.segan:UNet", "no subclass of i2idist.method.Method"),
    ],
)
def test_a_method_that_isnt_there_is_named_with_what_to_do(name, message):
    with pytest.raises(ConfigError, match=message):
        load_method(name)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    method = METHODS[name]
    assert "arXiv:" in method.paper
    assert vars(method).get("Config") is not None
