"""Linear layers by oneDNN give torch's results, and gradients where they are asked for."""

import torch
from torch import nn

from ovmer.baselines.layers.onednn import use_onednn


def test_results_are_those_of_torch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(96, 200), nn.GELU(), nn.Linear(200, 64, bias=False))
    given = torch.randn(2, 17, 96)
    with torch.inference_mode():
        expected = model(given)
        use_onednn(model)
        # Sums of 200 products near 1, in another order.
        torch.testing.assert_close(model(given), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(given[0, :1]), expected[0, :1], rtol=1e-5, atol=1e-5)
    is_used = type(model[0]) is not nn.Linear
    assert is_used == (torch.backends.cpu.get_cpu_capability() == "AVX512")
    model(given).sum().backward()
    assert all(each.grad is not None for each in model.parameters())


def test_other_layers_and_types_stay() -> None:
    model = nn.Sequential(nn.Linear(8, 8).bfloat16(), nn.Conv1d(8, 8, 1))
    use_onednn(model)
    assert [type(each) for each in model] == [nn.Linear, nn.Conv1d]
