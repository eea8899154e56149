"""The counting of kernels, waits and multiply-adds, on a few operators whose cost is known."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lib_gie.evaluation.bench.kernels import COUNTS_PRODUCTS, Kernels, count, counting

A, B = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
HEADS = torch.randn(2, 8, 6, 10)  # [B, h, N, d]
THERE = torch.zeros(2, 3, device="meta")  # another device
WEIGHT, BIAS = torch.randn(5, 4), torch.randn(5)


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (lambda: A @ B, Kernels(1, 0, 2 * 3 * 4 * 5)),
        (lambda: A.new_empty(2, 3, 5).baddbmm_(A, B), Kernels(1, 0, 2 * 3 * 4 * 5)),
        (lambda: F.linear(A, WEIGHT), Kernels(1, 0, 6 * 4 * 5)),
        (lambda: F.conv2d(A[None], torch.empty(7, 2, 1, 1)), Kernels(1, 0, 7 * 2 * 12)),
        (lambda: F.scaled_dot_product_attention(HEADS, HEADS, HEADS), Kernels(1, 0, 2 * 8 * 6 * 6 * 20)),
        (lambda: A.mul(2).add_(1), Kernels(2)),
        (lambda: A.transpose(0, 1).contiguous(), Kernels(1)),
        (lambda: A.transpose(0, 1).reshape(-1), Kernels(1)),
        (lambda: torch.zeros(3), Kernels(1)),
        (lambda: A.double(), Kernels(1)),
        (lambda: A[[0, 1]], Kernels(1)),
    ],
)
def test_what_starts_work_counts(run, found):
    counted = count(run)
    assert (counted.kernels, counted.waits) == (found.kernels, found.waits)
    assert counted == found or not COUNTS_PRODUCTS


@pytest.mark.parametrize(
    "run",
    [
        lambda: A[:, 1:].transpose(0, 1).unsqueeze(0).expand(4, -1, -1, -1),
        lambda: A.view(6, 4).chunk(2),
        lambda: A.reshape(6, 4),
        lambda: A.detach(),
        lambda: A.float().to(A.device).contiguous(),
        lambda: torch.empty(3),
        lambda: torch.empty_like(A),
        lambda: A[:0] + 1,
        lambda: A.shape[0] * A.stride(1),
    ],
)
def test_views_and_what_is_known_of_a_tensor_cost_nothing(run):
    assert count(run) == Kernels()


@pytest.mark.parametrize(
    ("run", "kernels"),
    [
        (lambda: A.sum().item(), 1),
        (lambda: float(A.amax()), 1),
        (lambda: bool(A[0, 0, 0]), 0),
        (lambda: A.tolist(), 0),
        (lambda: A.nonzero(), 1),
        (lambda: torch.equal(A, A), 1),
        (lambda: A[A > 0], 2),
        (lambda: torch.where(A > 0), 2),
    ],
)
def test_what_the_host_must_know_is_a_wait(run, kernels):
    assert count(run) == Kernels(kernels, waits=1)


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (lambda: A.to("meta"), Kernels(1, 1)),
        (lambda: THERE.cpu(), Kernels(1, 1)),
        (lambda: THERE.copy_(A[:, :, 0]), Kernels(1, 1)),
        (lambda: torch.tensor([1.0, 2.0], device="meta"), Kernels(1, 1)),
        (lambda: A.to("meta", non_blocking=True), Kernels(1, 0)),
        (lambda: THERE.half(), Kernels(1, 0)),
        (lambda: THERE.tolist(), Kernels(0, 1)),
        (lambda: bool(THERE.any()), Kernels(1, 1)),
    ],
)
def test_a_copy_between_devices_is_a_wait_unless_it_says_otherwise(run, found):
    assert count(run, "meta") == found


@pytest.mark.parametrize("run", [lambda: A.sum().item(), lambda: torch.tensor([1.0]), lambda: A.tolist()])
def test_what_happens_on_the_host_alone_is_not_the_devices(run):
    assert count(run, "meta") == Kernels()


def test_attention_counts_the_same_without_numbers():
    def attend(device):
        q = HEADS.to(device)  # [B, h, N, d]
        found = F.scaled_dot_product_attention(q, q[:, :, :4], q[:, :, :4, :5])  # [B, h, N, 5]
        assert found.shape == (2, 8, 6, 5)
        return found.transpose(1, 2).flatten(2)  # [B, N, h*5], which copies nothing where heads lie together

    assert count(lambda: attend("meta"), "meta") == Kernels(2, 1, 2 * 8 * 6 * 4 * 15)


def test_inference_mode_changes_nothing():
    def run():
        F.scaled_dot_product_attention(HEADS, HEADS, HEADS)
        F.linear(A, WEIGHT, BIAS).reshape(-1).sum().item()

    with torch.inference_mode():
        inferred = count(run)
    assert inferred == count(run)
    assert (inferred.kernels, inferred.waits) == (3, 1)
    assert inferred.multiply_adds == 2 * 8 * 6 * 6 * 20 + 6 * 4 * 5 or not COUNTS_PRODUCTS


def test_the_sum_so_far_can_be_read_within():
    with counting() as counter:
        torch.add(A, 1)
        first = counter.found
        torch.add(A, 1)
        assert counter.found - first == first == Kernels(1)
    torch.add(A, 1)
    assert counter.found == first + first
