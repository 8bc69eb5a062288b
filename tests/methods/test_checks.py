import pytest

from i2idist.data.batches import Paired, Unpaired
from i2idist.errors import ConfigError, SizeError
from i2idist.method import Domain, Domains
from i2idist.methods import METHODS
from i2idist.methods.checks import check_sources

BETWEEN_DOMAINS = {
    (name, key): config
    for name, method in METHODS.items()
    for key, config in method.tiny().items()
    if issubclass(method.batch_type(config), Paired | Unpaired)
}


@pytest.mark.parametrize(("name", "key"), BETWEEN_DOMAINS)
@pytest.mark.parametrize("size", [(32, 32), (16, 32)])
def test_domains_of_different_size_are_refused_before_training(name, key, size):
    domains = Domains((Domain("winter", 3, 16, 16), Domain("summer", 3, *size)), labels=("0", "1"))
    complaint = f"winter are 16x16 and those of summer {size[0]}x{size[1]}: set data.size"
    with pytest.raises(SizeError, match=complaint):
        METHODS[name](BETWEEN_DOMAINS[name, key], domains)


def test_sources_are_those_that_the_configuration_needs():
    needed = {"extractor": "a semantic extractor"}
    check_sources({"extractor": {}}, needed)
    check_sources(None, needed)  # a checkpoint follows
    check_sources({}, {})
    with pytest.raises(ConfigError, match="starts from a semantic extractor: .* `sources: {extractor: URI}`"):
        check_sources({}, needed)
    with pytest.raises(ConfigError, match="sources.vgg, which this configuration has no use for"):
        check_sources({"extractor": {}, "vgg": {}}, needed)
