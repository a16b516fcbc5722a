"""Merging by density peaks: which tokens go together, in which order, and what chance decides."""

import pytest
import torch

from ovmer.baselines.layers.density_peaks import TokenMerging, density_peaks, mean_tokens, uniform


def blobs(sizes: list[int], width: int = 8, spread: float = 0.01) -> tuple[torch.Tensor, list[int]]:
    """Tokens [1, N, width] shuffled around far places, and the place of each."""
    stream = torch.Generator().manual_seed(3)
    places = [place for place, size in enumerate(sizes) for _ in range(size)]
    order = torch.randperm(len(places), generator=stream).tolist()
    centres = torch.randn(len(sizes), width, generator=stream) * 5
    labels = [places[i] for i in order]
    noise = torch.randn(len(labels), width, generator=stream) * spread
    return (centres[labels] + noise)[None], labels


def zeros(rows: int, columns: int) -> torch.Tensor:
    return torch.zeros(rows, columns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_far_groups_are_found(dtype):
    tokens, labels = blobs([12, 7, 30, 9], spread=0.1)
    merged, clusters = TokenMerging(4, 5)(tokens.to(dtype), uniform(0))
    pairs = set(zip(clusters[0].tolist(), labels, strict=True))
    assert len(pairs) == 4
    assert merged.dtype == dtype
    for cluster, label in pairs:
        members = tokens[0, torch.tensor(labels) == label]
        assert torch.allclose(merged[0, cluster].float(), members.mean(dim=0), rtol=0.02, atol=0.02)


def test_the_likeliest_centre_comes_first():
    """On a line: a tight group, a loose one further off; the tight one is denser."""
    tight, loose = torch.linspace(0, 0.1, 10), torch.linspace(4, 8, 10)
    tokens = torch.cat([loose, tight])[None, :, None]
    clusters = density_peaks(tokens, 2, 5, uniform(0))[0].tolist()
    assert clusters == [1] * 10 + [0] * 10


def test_each_row_of_a_batch_is_merged_by_itself():
    first, _ = blobs([20, 20, 20])
    second = first.flip(1) * 0.3
    merge = TokenMerging(3, 3)
    together, clusters = merge(torch.cat([first, second]), zeros)
    for row, tokens in enumerate((first, second)):
        alone, own = merge(tokens, zeros)
        assert torch.equal(clusters[row], own[0])
        assert torch.allclose(together[row], alone[0], rtol=1e-6)


def test_means_are_shrunk_as_upstream_shrinks_them():
    tokens = torch.tensor([[[2.0], [4.0], [9.0]]], dtype=torch.float64)
    means = mean_tokens(tokens, torch.tensor([[1, 1, 0]]), 2)
    expected = torch.tensor([[[9 / (1 + 1e-6)], [6 / (2 + 1e-6)]]], dtype=torch.float64)
    assert torch.allclose(means, expected, rtol=1e-12)


def test_as_many_clusters_as_tokens_is_an_order():
    tokens, _ = blobs([64], spread=1.0)
    merged, clusters = TokenMerging(64, 5)(tokens, zeros)
    assert sorted(clusters[0].tolist()) == list(range(64))
    assert torch.allclose(merged[0, clusters[0]], tokens[0], rtol=1e-5)


def test_equal_tokens_still_fill_every_cluster():
    clusters = density_peaks(torch.ones(1, 30, 4), 8, 5, uniform(1))
    assert set(clusters[0].tolist()) == set(range(8))


@pytest.mark.parametrize(
    ("rate", "tokens", "count"), [(64, 256, 64), (0.0625, 1, 1), (0.0625, 16, 1), (0.0625, 17, 2)]
)
def test_a_rate_is_a_number_or_a_share(rate, tokens, count):
    merge = TokenMerging(rate, 3)
    assert merge.count(tokens) == count
    assert merge(torch.randn(1, tokens, 4), zeros)[0].shape == (1, count, 4)


def test_chance_alone_groups_where_density_has_one_neighbour():
    """Two clusters of twenty tokens: the neighbour is the token itself, and its distance zero."""
    tokens, _ = blobs([20], spread=1.0)
    merge = TokenMerging(0.1, 5)
    found = {tuple(merge(tokens, uniform(seed))[1][0].tolist()) for seed in range(8)}
    assert len(found) > 1
    assert torch.equal(merge(tokens, uniform(5))[1], merge(tokens, uniform(5))[1])


def test_chance_hardly_matters_elsewhere():
    tokens, _ = blobs([40, 30, 20, 10], spread=1.0)
    merge = TokenMerging(8, 5)
    found = {tuple(merge(tokens, uniform(seed))[1][0].tolist()) for seed in range(8)}
    assert len(found) == 1


def test_a_stream_goes_on():
    draw = uniform(2)
    first, second = draw(2, 3), draw(2, 3)
    assert first.shape == second.shape == (2, 3)
    assert not torch.equal(first, second)
    assert 0 <= min(first.min(), second.min()) <= max(first.max(), second.max()) < 1
