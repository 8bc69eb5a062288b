import pytest

from i2idist.errors import SizeError
from i2idist.method import Domain, Domains
from i2idist.methods import METHODS, load_method


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(32, 32), (16, 32)])
def test_domains_of_different_size_are_refused_before_training(name, size):
    method = load_method(name)
    domains = Domains((Domain("winter", 3, 16, 16), Domain("summer", 3, *size)))
    complaint = f"winter are 16x16 and those of summer {size[0]}x{size[1]}: set data.size"
    for config in method.tiny().values():
        with pytest.raises(SizeError, match=complaint):
            method(config, domains)
