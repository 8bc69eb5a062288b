import numpy as np
import pytest
import torch
from PIL import Image

from i2idist.errors import ConfigError
from i2idist.pictures import interpolated_codes, interpolation_headers, loss_curves, sheet, to_picture


def test_the_range_maps_to_bytes_and_grey_to_rgb() -> None:
    picture = np.asarray(to_picture(torch.tensor([[[-1.0, 0.0, 1.0, 7.0]]])))
    assert picture.shape == (1, 4, 3)
    assert picture[0, :, 1].tolist() == [0, 128, 255, 255]


def test_other_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="not 4"):
        to_picture(torch.zeros(4, 8, 8))


def colours(picture: Image.Image) -> list[tuple[int, ...]]:
    """Colours in reading order, each where it first shows in a row of pixels, white and text left out."""
    seen = []
    for line in np.asarray(picture)[60:]:
        for pixel in line.tolist():
            colour = tuple(pixel)
            if colour not in seen and max(colour) - min(colour) > 100:
                seen.append(colour)
    return seen


def test_a_sheet_shows_each_input_first_then_its_outputs_in_order() -> None:
    def flat(red: int, green: int, blue: int) -> torch.Tensor:
        return (torch.tensor([red, green, blue]).float() / 127.5 - 1).reshape(3, 1, 1).expand(3, 8, 8)

    inputs = torch.stack([flat(255, 0, 0), flat(0, 255, 0)])
    outputs = torch.stack(
        [torch.stack([flat(0, 0, 200), flat(200, 0, 200)]), torch.stack([flat(200, 200, 0), flat(0, 150, 250)])]
    )
    shown = colours(sheet(inputs, outputs, title="test"))
    assert shown == [(255, 0, 0), (0, 0, 200), (200, 0, 200), (0, 255, 0), (200, 200, 0), (0, 150, 250)]


def test_small_images_are_enlarged_to_be_legible_by_whole_factors() -> None:
    picture = sheet(torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 3, 32, 32), title="t")
    assert picture.width >= 4 * 96
    assert picture.height >= 2 * 96
    large = sheet(torch.zeros(1, 1, 80, 100), torch.zeros(1, 1, 3, 80, 100), title="t")
    assert 200 < large.width < 240


def test_a_sheet_refuses_what_does_not_belong_together() -> None:
    with pytest.raises(ConfigError, match="2 inputs, 1 rows"):
        sheet(torch.zeros(2, 1, 8, 8), torch.zeros(1, 3, 3, 8, 8), title="t")
    with pytest.raises(ConfigError, match="1 for 3 columns"):
        sheet(torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 3, 8, 8), title="t", columns=["one"])


def test_codes_are_interpolated_along_a_line_with_both_ends() -> None:
    codes = interpolated_codes(torch.tensor([0.0, 2.0]), torch.tensor([4.0, -2.0]), 5)
    assert codes.tolist() == [[0, 2], [1, 1], [2, 0], [3, -1], [4, -2]]
    assert interpolation_headers(5) == ["0.00", "0.25", "0.50", "0.75", "1.00"]


def events() -> list[dict[str, object]]:
    values = [{"G/gan": 2.0 - n / 10, "G/mi": 1.0, "D/real": 0.5, "lr/G": 1e-4} for n in range(10)]
    return [{"event": "metrics", "images": 100 * n, **v} for n, v in enumerate(values)]


def test_loss_curves_draw_a_panel_for_each_player() -> None:
    one = loss_curves([{k: v for k, v in e.items() if not k.startswith("D/")} for e in events()], title="t")
    both = loss_curves([{"event": "checkpoint", "images": 5}, *events()], title="t")
    assert both.width > 1.8 * one.width
    assert np.asarray(both).std() > 5


def test_loss_curves_without_metrics_say_so() -> None:
    with pytest.raises(ConfigError, match="no metrics"):
        loss_curves([{"event": "done", "images": 5}], title="t")
