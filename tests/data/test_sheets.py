"""Pictures for people: what is where on a contact sheet, and that every alphabet can be read or is spelt out."""

import numpy as np
import pytest

from videoar.data.fonts import font_for
from videoar.data.sheets import contact_sheet, moving_grid


@pytest.fixture
def frames():
    """24 frames of 48x64, each of one grey: its number."""
    return np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None] * 10, (24, 48, 64, 3)).copy()


def places(sheet, colour):
    """Top left and size of the tile of one grey."""
    rows, columns = np.where((sheet == colour).all(-1))
    return rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1


def test_first_and_last_frames_enlarged_by_a_whole_factor(frames):
    sheet = contact_sheet([[frames]], frames=3)
    assert places(sheet, 0) == (2, 2, 96, 128) and places(sheet, 230) == (2, 2 + 2 * 130, 96, 128)
    assert places(contact_sheet([[frames]], frames=3, side=48), 230)[2:] == (48, 64)
    assert contact_sheet([[frames.repeat(4, 1).repeat(4, 2)]], frames=1).shape == (194 + 2, 258 + 2, 3)


def test_names_numbers_and_title_take_room_of_their_own(frames):
    bare = contact_sheet([[frames, frames], [frames, frames]], 2)
    full = contact_sheet([[frames, frames], [frames, frames]], 2, ["a", "b"], ["real", "made"], "batch 7")
    lines, margin = full.shape[0] - bare.shape[0], full.shape[1] - bare.shape[1]
    assert lines == 3 * 20 and margin > 10
    assert np.array_equal(full[lines:, margin:], bare), "the tiles are the same, below and beside the words"
    assert full[:lines].min() < 100 and full[:, :margin].min() < 100, "something is written there"
    gap = contact_sheet([[frames, frames]], 1, side=48)  # one tile a column: no gap beyond the pad
    assert gap.shape[1] == 2 * 66 + 2
    assert bare.shape[1] == 4 * 130 + 14 + 2, "two columns of two tiles, and a gap"


def test_rows_may_differ_in_length_and_width(frames):
    sheet = contact_sheet([[frames, frames[:1]], [frames[5:6]]], 3, columns=["a", "b"])
    assert places(sheet, 50)[1] == 2 and places(sheet, 50)[0] > places(sheet, 230)[0]


def test_a_moving_grid_plays_all_and_holds_the_last_frame(frames):
    grid = moving_grid([[frames, frames[:2]]], ["x"], side=48)
    assert len(grid) == 24
    for n in (0, 1, 23):
        assert (grid[n] == 10 * n).all(-1).sum() >= 48 * 64
    assert (grid[23] == 10).all(-1).sum() >= 48 * 64, "the shorter one holds its last frame"
    assert np.array_equal(grid[0][:, :5], grid[23][:, :5]), "the label stands still"


@pytest.mark.parametrize("given", [{"labels": ["a"]}, {"columns": ["a"]}])
def test_wrong_numbers_of_words_are_refused(frames, given):
    with pytest.raises(ValueError, match=r"1 (labels|columns) for 2"):
        contact_sheet([[frames, frames], [frames, frames]], **given)
    with pytest.raises(ValueError, match="nothing to show"):
        contact_sheet([])


def test_every_alphabet_is_drawn_or_spelt_out(monkeypatch):
    for text in ("café", "Бокс", "ποτάμι", "→ ±"):
        path, shown = font_for(text)
        assert shown == text and path.name == "DejaVuSans.ttf"
    monkeypatch.setattr("videoar.data.fonts._wide_fonts", lambda: ())
    assert font_for("河 x")[1] == "U+6CB3  x"


def test_a_font_of_ones_own_comes_first(monkeypatch):
    import matplotlib

    serif = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif.ttf"
    monkeypatch.setenv("VIDEOAR_FONT", serif)
    assert str(font_for("café")[0]) == serif
