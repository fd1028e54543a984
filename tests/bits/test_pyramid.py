import pytest
import torch

from videoar import ScalePyramid


def test_default_of_8x8_is_the_papers_30_steps():
    pyramid = ScalePyramid.default(8, 8)
    assert [g[0] for g in pyramid.grids] == [1, 2, 3, 4, 6, 8]
    assert pyramid.length == 130
    assert len(pyramid) * 5 == 30


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (4, 4), (5, 9), (16, 16), (24, 42), (42, 24), (1, 7)])
def test_default_starts_with_one_token_and_ends_with_the_grid(grid):
    pyramid = ScalePyramid.default(*grid)
    assert pyramid.grids[0] == (1, 1) and pyramid.full == grid
    assert list(pyramid.grids) == sorted(set(pyramid.grids))


def test_slices_lengths_and_ids_agree():
    pyramid = ScalePyramid(((1, 1), (2, 3), (4, 4)))
    assert pyramid.lengths == (1, 6, 16) and pyramid.sequence_length(3) == 69
    ids = pyramid.scale_ids()
    for k, part in enumerate(pyramid.slices):
        assert (ids[part] == k).all() and part.stop - part.start == pyramid.lengths[k]


def test_positions_native_and_normalised():
    pyramid = ScalePyramid(((1, 1), (2, 2), (4, 4)))
    native = pyramid.grid_positions()
    assert native[pyramid.slices[1]].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    spread = pyramid.grid_positions(normalised=True)
    assert spread[0].tolist() == [1.5, 1.5]  # the single token covers the whole 4x4 grid
    assert torch.equal(spread[pyramid.slices[2]], native[pyramid.slices[2]])


def test_interleaved_parts_cover_a_scale_and_no_cell_borders_on_another_of_its_part():
    pyramid = ScalePyramid(((1, 1), (4, 6), (5, 7)))
    assert pyramid.parts(1, "interleaved") == pyramid.parts(1, "scales"), "4 cells a side are drawn at once"
    assert [len(pyramid.parts(k, "interleaved_from_4")) for k in range(3)] == [1, 4, 4]
    assert pyramid.parts(2, "interleaved_from_4") == pyramid.parts(2, "interleaved")
    places = torch.cartesian_prod(torch.arange(5), torch.arange(7)).unflatten(0, (5, 7))
    parts = [places[i, j].reshape(-1, 2) for i, j in pyramid.parts(2, "interleaved")]
    assert len(parts) == 4 and sorted(torch.cat(parts).tolist()) == places.reshape(-1, 2).tolist()
    for cells in parts:
        apart = (cells[:, None] - cells[None]).abs().amax(-1)
        assert (apart + 2 * torch.eye(len(cells))).min() == 2
    assert torch.equal(pyramid.grid_positions(order="interleaved")[pyramid.slices[2]], torch.cat(parts).float())
    steps, ids = pyramid.steps("interleaved"), pyramid.step_ids("interleaved")
    assert [s.stop - s.start for s in steps] == [1, 24, *map(len, parts)] and steps[-1].stop == pyramid.length
    assert all((ids[s] == i).all() for i, s in enumerate(steps))


@pytest.mark.parametrize("grids", [(), ((0, 1),), ((2, 2), (1, 1)), ((2, 2), (2, 2))])
def test_bad_grids_are_refused(grids):
    with pytest.raises(ValueError, match=r"grid|pyramid"):
        ScalePyramid(grids)
