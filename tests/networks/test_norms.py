# SPDX-License-Identifier: Apache-2.0
"""The composed layer norm that narrow rows get on a GPU is the fused one."""

import pytest
import torch

from genesis_server.networks import norms


@pytest.mark.parametrize("norm, shape", [(norms.LayerNorm32(16), (50, 16)), (norms.ChannelLayerNorm32(16), (2, 16, 3, 4, 5))])
def test_composed_norm_equals_fused_norm(norm, shape, monkeypatch):
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(shape) * 3 + 2
    fused = norm(x)
    monkeypatch.setattr(norms, "_prefers_composed", lambda x, channels: True)
    # float32 sums of 16 values in another order
    torch.testing.assert_close(norm(x), fused, atol=1e-5, rtol=1e-5)
    plain = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    torch.testing.assert_close(norms.plain_layer_norm(x), plain, atol=1e-5, rtol=1e-5)
