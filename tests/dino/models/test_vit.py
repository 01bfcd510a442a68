"""Vision transformers: sizes, initialisation, the CLS-only last block, stochastic depth, any image size."""

from __future__ import annotations

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dino.errors import UserError
from dino.models import build_backbone
from dino.models.attention import SHORT_SEQUENCE, Attention
from dino.models.vit import VisionTransformer


def small_vit(**changes: float) -> VisionTransformer:
    options = {"patch_size": 4, "img_size": 24, "embed_dim": 48, "depth": 3, "num_heads": 4, **changes}
    torch.manual_seed(0)
    network = VisionTransformer(**options)  # type: ignore[arg-type]
    for parameter in network.parameters():  # far from the flat attention of a fresh network
        nn.init.normal_(parameter, std=0.3)
    return network


def full_cls(network: VisionTransformer, x: Tensor) -> Tensor:
    return network.tokens(x)[:, 0]


@pytest.mark.parametrize(
    ("arch", "patch_size", "parameters"),
    [  # paper.md, A.1
        ("vit_tiny", 16, 5_524_416),
        ("vit_tiny", 8, 5_526_720),
        ("vit_tiny", 5, 5_725_440),
        ("vit_small", 16, 21_665_664),
        ("vit_small", 8, 21_670_272),
        ("vit_small", 5, 22_067_712),
        ("vit_base", 16, 85_798_656),
        ("vit_base", 8, 85_807_872),
        ("vit_base", 5, 86_602_752),
    ],
)
def test_parameter_counts_are_the_papers(arch: str, patch_size: int, parameters: int) -> None:
    with torch.device("meta"):
        network = build_backbone(arch=arch, patch_size=patch_size, img_size=224)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_width_depth_and_heads_can_be_overridden() -> None:
    network = build_backbone(arch="vit_small", patch_size=8, img_size=32, embed_dim=96, depth=2, num_heads=8)
    assert (network.embed_dim, len(network.blocks), network.blocks[0].attn.num_heads) == (96, 2, 8)
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 96)


def test_sizes_that_do_not_fit_are_a_users_mistake() -> None:
    with pytest.raises(UserError, match="embed_dim \\(50\\) is not a multiple of num_heads \\(4\\)"):
        build_backbone(arch="vit_nano", patch_size=4, img_size=32, embed_dim=50)
    with pytest.raises(UserError, match="no architecture 'vit_smal'"):
        build_backbone(arch="vit_smal", patch_size=4, img_size=32)
    with pytest.raises(UserError, match="smaller than one patch"):
        small_vit()(torch.randn(1, 3, 3, 24))
    with pytest.raises(UserError, match="has 3 blocks"):
        small_vit().last_blocks(torch.randn(1, 3, 24, 24), 4)


def test_initialisation_is_normal_for_linears_and_untouched_for_the_patch_convolution() -> None:
    torch.manual_seed(0)
    network = build_backbone(arch="vit_tiny", patch_size=16, img_size=224)
    for name, value in network.named_parameters():
        if name.startswith("patch_embed"):
            bound = (3 * 16 * 16) ** -0.5  # Kaiming-uniform with a = sqrt(5): +-1/sqrt(fan in)
            assert float(value.detach().abs().max()) <= bound
            if value.dim() > 1:
                assert float(value.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)
        elif value.dim() > 1:
            assert float(value.detach().std()) == pytest.approx(0.02, rel=0.15 if name == "cls_token" else 0.03), name
            assert abs(float(value.detach().mean())) < (0.005 if name == "cls_token" else 0.001), name
        else:
            assert bool((value == (1 if "norm" in name and name.endswith("weight") else 0)).all()), name


def test_norms_activations_and_dropouts_are_the_papers() -> None:
    for module in build_backbone(arch="vit_tiny", patch_size=16, img_size=224, drop_path_rate=0.1).modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
        if isinstance(module, nn.GELU):
            assert module.approximate == "none"
        if isinstance(module, nn.Dropout):
            assert module.p == 0


def test_drop_path_grows_linearly_from_the_first_block() -> None:
    network = build_backbone(arch="vit_tiny", patch_size=16, img_size=224, drop_path_rate=0.1)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.blocks]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])
    assert rates == [getattr(block.drop_path2, "drop_prob", 0.0) for block in network.blocks]


@pytest.mark.parametrize("size", [(24, 24), (32, 20), (9, 13)])
def test_forward_is_the_cls_row_of_all_tokens(size: tuple[int, int]) -> None:
    network, x = small_vit().double(), torch.randn(3, 3, *size, dtype=torch.double)
    torch.testing.assert_close(network(x), full_cls(network, x), atol=1e-5, rtol=1e-5)  # the softmax is float32


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_gradients_of_forward_are_those_of_the_cls_row_of_all_tokens(depth: int, drop_path_rate: float) -> None:
    network = small_vit(depth=depth, drop_path_rate=drop_path_rate).train()
    x, direction = torch.randn(8, 3, 24, 24), torch.randn(48)
    results = []
    for feature in (network, lambda x: full_cls(network, x)):
        torch.manual_seed(1)  # the same paths are dropped: both draw one number a sample and branch
        value = feature(x)
        network.zero_grad()
        (value @ direction).sum().backward()
        results.append((value.detach(), {name: p.grad.clone() for name, p in network.named_parameters()}))
    (value, gradients), (expected_value, expected) = results
    torch.testing.assert_close(value, expected_value, atol=1e-4, rtol=1e-4)
    for name, gradient in gradients.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], atol=1e-4 * max(scale, 1.0), rtol=1e-3, msg=name)


def test_drop_path_drops_whole_branches_of_single_samples_and_scales_the_rest() -> None:
    network = small_vit(depth=1).train()
    block = network.blocks[0]
    block.drop_path1, block.drop_path2 = DropPath(1.0), DropPath(0.5)
    x = torch.randn(64, 3, 24, 24)
    cls = network._embed(x)[:, 0]
    row = block.cls_row(network._embed(x))
    # The attention branch is always dropped, so the row is CLS itself or CLS plus twice its MLP.
    kept = cls + 2 * block.mlp(block.norm2(cls))
    is_kept = (row - kept).abs().amax(dim=1) < 1e-4
    is_dropped = (row - cls).abs().amax(dim=1) < 1e-4
    assert bool((is_kept ^ is_dropped).all())
    assert 16 < int(is_kept.sum()) < 48


def test_cls_attention_is_the_first_row_of_the_attention_matrix() -> None:
    network, x = small_vit(), torch.randn(2, 3, 32, 20)
    captured: list[Tensor] = []
    hook = network.blocks[-1].attn.qkv.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    network.tokens(x)
    hook.remove()
    query, key, _ = captured[0].view(2, 41, 3, 4, 12).permute(2, 0, 3, 1, 4)
    matrix = (query @ key.transpose(-2, -1) * 12**-0.5).softmax(dim=-1)
    torch.testing.assert_close(network.cls_attention(x), matrix[:, :, 0, 1:], atol=1e-5, rtol=1e-4)
    rows = [7, 0, 40, 7]
    torch.testing.assert_close(network.attention_rows(x, rows), matrix[:, :, rows, 1:], atol=1e-5, rtol=1e-4)


def test_attention_rows_need_no_matrix() -> None:
    network, x = small_vit(depth=1), torch.randn(1, 3, 240, 240)  # 3601 tokens: a matrix of 4 heads takes 200 MB
    sizes: list[int] = []
    with torch.no_grad(), SizeOfTensors(sizes):
        network.attention_rows(x, [0, 1, 2])
    assert max(sizes) <= 3601 * 48 * 3  # qkv's output would be the largest


class SizeOfTensors(TorchDispatchMode):
    """Notes the number of elements of every tensor that an operation makes."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.sizes += [value.numel() for value in tree_leaves(result) if isinstance(value, Tensor)]
        return result


def test_last_blocks_end_with_the_tokens() -> None:
    network, x = small_vit().eval(), torch.randn(2, 3, 24, 24)
    blocks = network.last_blocks(x, 2)
    assert [tuple(tokens.shape) for tokens in blocks] == [(2, 37, 48)] * 2
    torch.testing.assert_close(blocks[-1], network.tokens(x))
    torch.testing.assert_close(blocks, network.last_blocks(x, 3)[1:])


def test_the_position_table_is_used_as_it_is_where_it_fits() -> None:
    network = small_vit()
    assert network._positions(24, 24) is network.pos_embed
    assert network._positions(27, 27) is network.pos_embed  # pixels beyond the last patch do not count
    assert network._positions(16, 36).shape == (1, 37, 48)  # as many cells in another shape


def test_a_constant_position_table_stays_constant_at_every_size() -> None:
    network = small_vit()
    with torch.no_grad():
        network.pos_embed[:, 1:] = 0.7
    for size in [(96, 96), (16, 36), (4, 4), (5, 63)]:
        table = network._positions(*size)
        assert table.shape[1] == 1 + (size[0] // 4) * (size[1] // 4)
        torch.testing.assert_close(table[:, 1:], torch.full_like(table[:, 1:], 0.7))
        torch.testing.assert_close(table[:, :1], network.pos_embed[:, :1])


def test_rows_of_the_position_table_are_the_images_height() -> None:
    network = small_vit()
    with torch.no_grad():
        network.pos_embed[:, 1:] = torch.arange(6.0).repeat_interleave(6)[None, :, None]
    table = network._positions(48, 8)[0, 1:, 0].view(12, 2)
    assert bool((table.diff(dim=0) > 0).all())
    torch.testing.assert_close(table[:, 0], table[:, 1])


def test_patch_size_5_drops_the_last_pixels() -> None:
    network = VisionTransformer(patch_size=5, img_size=24, embed_dim=16, depth=1, num_heads=2)
    x = torch.randn(1, 3, 24, 24)
    changed = x.clone()
    changed[..., 20:] += 1
    changed[..., 20:, :] += 1
    assert network.tokens(x).shape == (1, 17, 16)
    torch.testing.assert_close(network(changed), network(x), atol=0, rtol=0)


def test_timms_own_network_gives_the_same_tokens() -> None:
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    ours = small_vit().eval()
    timms = TimmVisionTransformer(
        img_size=24, patch_size=4, embed_dim=48, depth=3, num_heads=4, num_classes=0, global_pool=""
    ).eval()
    assert list(timms.state_dict()) == list(ours.state_dict())
    timms.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(ours.tokens(x), timms(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [SHORT_SEQUENCE, SHORT_SEQUENCE + 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_attention_is_the_same_with_and_without_the_fused_kernel(
    tokens: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = Attention(32, num_heads=4, qkv_bias=True).to(dtype)
    x = torch.randn(3, tokens, 32, dtype=dtype)
    results = []
    for plain in (False, True):
        monkeypatch.setattr("dino.models.attention._plain_is_faster", lambda _query, plain=plain: plain)
        attention.zero_grad()
        value = attention(x)
        value.float().square().sum().backward()
        results.append([value, *(parameter.grad for parameter in attention.parameters())])
    torch.testing.assert_close(results[0], results[1], atol=tolerance, rtol=tolerance)


def test_the_fused_kernel_runs_wherever_no_gradient_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    network = small_vit()
    with torch.no_grad():
        network(torch.randn(1, 3, 8, 8))
    assert len(calls) == 2  # the last block computes its CLS row alone
    network(torch.randn(1, 3, 24, 24))  # with gradients, 37 tokens
    assert len(calls) == 4
    network(torch.randn(1, 3, 8, 8))  # with gradients, 5 tokens
    assert len(calls) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_nearly_the_same_feature(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = build_backbone(arch="vit_nano", patch_size=4, img_size=32)
    x = torch.randn(4, 3, 32, 32)
    with torch.autocast("cpu", dtype=dtype):
        feature = network(x)
        feature.float().sum().backward()
    torch.testing.assert_close(feature.float(), network(x), atol=0.05, rtol=0.05)
    assert all(parameter.grad is not None for parameter in network.parameters())
