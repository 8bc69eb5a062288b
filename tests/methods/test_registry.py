import pytest

from i2idist import methods
from i2idist.errors import ConfigError
from i2idist.method import Domain, Domains
from i2idist.methods import METHODS, check_label_maps, load_method
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


def test_label_maps_are_refused_by_methods_that_would_take_them_for_grey():
    plain = Domain("depth", 1, 16, 16)
    maps = Domains((plain, Domain("segmentation", 1, 16, 16, classes=5)))
    for name in METHODS:
        check_label_maps(name, Domains((plain, plain)))
    refused = set()
    for name in METHODS:
        try:
            check_label_maps(name, maps)
        except ConfigError as error:
            refused.add(name)
            assert f"names segmentation, but the method {name} " in str(error)
            assert "Methods that take them: pix2pix, cyclegan, cyclegan_noise, stargan_modal, mmnet." in str(error)
    assert set(METHODS) - refused == {"pix2pix", "cyclegan", "cyclegan_noise", "stargan_modal", "mmnet"}
    with pytest.raises(ConfigError, match="tests.broken:Sound knows no label maps"):
        check_label_maps("tests.broken:Sound", maps)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name):
    method = METHODS[name]
    assert "arXiv:" in method.paper
    assert vars(method).get("Config") is not None
