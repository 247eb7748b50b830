"""Gated fully connected layers: by hand, and every parameter learns."""

import torch

from vae.network.mlp import GatedLinear, MLPDecoder, MLPEncoder


def test_a_gated_layer_is_its_equation(float64: None) -> None:
    layer = GatedLinear(5, 3, "tanh")
    x = torch.randn(7, 5)
    a, b, c, d = layer.linear.weight, layer.linear.bias, layer.gate.weight, layer.gate.bias
    torch.testing.assert_close(layer(x), torch.tanh(x @ a.T + b) / (1 + torch.exp(-(x @ c.T + d))))


def test_gates_double_the_hidden_parameters_and_all_get_a_gradient() -> None:
    sizes = {"hidden_sizes": [6, 4], "activation": "identity"}
    encoder, plain = (MLPEncoder((1, 3, 3), **sizes, gated=gated) for gated in (True, False))
    count = [sum(p.numel() for p in network.parameters()) for network in (encoder, plain)]
    assert count[0] == 2 * count[1]
    decoder = MLPDecoder(4, (1, 3, 3), **sizes, gated=True)
    decoder(encoder(torch.randn(5, 1, 3, 3))).square().sum().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
