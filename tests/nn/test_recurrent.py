"""Recurrent layers: PyTorch's own numbers, what is dropped and where, states that are laid down and taken up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from yuwen.nn import (
    LSTM,
    Causal,
    Documents,
    ElmanRNN,
    LockedDropout,
    Padding,
    Recurrence,
    RecurrentCache,
    Window,
    WordDropout,
)
from yuwen.nn.recurrent import pieces

KINDS = [ElmanRNN, LSTM]
D, H = 6, 10


def layer(kind: type[Recurrence], seed: int = 0, **settings: float) -> Recurrence:
    torch.manual_seed(seed)
    made = kind(D, H, **settings)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return made


def theirs(ours: Recurrence) -> torch.nn.Module:
    """PyTorch's layer with our weights; of its two biases one is zero."""
    twin = {ElmanRNN: torch.nn.RNN, LSTM: torch.nn.LSTM}[type(ours)](D, H, batch_first=True)
    names = {"weight_ih_l0": ours.input, "weight_hh_l0": ours.recurrent, "bias_ih_l0": ours.bias}
    twin.load_state_dict({**names, "bias_hh_l0": torch.zeros_like(ours.bias)})
    return twin


def as_theirs(state: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    parts = tuple(part[None] for part in state)
    return parts if len(parts) > 1 else parts[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T", [1, 2, 33])
@pytest.mark.parametrize("carried", [False, True])
def test_equals_pytorch(kind: type[Recurrence], T: int, carried: bool) -> None:
    ours = layer(kind)
    twin, x = theirs(ours), torch.randn(3, T, D)
    state = tuple(torch.randn(3, H) for _ in ours.STATE) if carried else None
    h, last = ours(x, state)
    expected, end = twin(x, as_theirs(state)) if state is not None else twin(x)
    torch.testing.assert_close(h, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(as_theirs(last), end, atol=1e-6, rtol=0)
    mine = torch.autograd.grad(h.square().sum(), list(ours.parameters()))
    named = dict(twin.named_parameters())
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"]
    for gradient, reference in zip(
        mine, torch.autograd.grad(expected.square().sum(), [named[n] for n in names]), strict=True
    ):
        torch.testing.assert_close(gradient, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_equation(kind: type[Recurrence]) -> None:
    """Written out, one position at a time."""
    ours, x = layer(kind), torch.randn(2, 5, D)
    h, c = torch.zeros(2, H), torch.zeros(2, H)
    states = []
    for x_BD in x.unbind(1):
        sums = x_BD @ ours.input.T + h @ ours.recurrent.T + ours.bias
        if kind is ElmanRNN:
            h = sums.tanh()
        else:
            i, f, g, o = sums.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        states.append(h)
    found, last = ours(x)
    torch.testing.assert_close(found, torch.stack(states, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(last[0], h, atol=1e-6, rtol=0)
    if kind is LSTM:
        torch.testing.assert_close(last[1], c, atol=1e-6, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_pieces_with_a_carried_state_are_one_sequence(kind: type[Recurrence], sizes: list[int], seed: int) -> None:
    ours, x = layer(kind, seed), torch.randn(2, sum(sizes), D)
    whole, end = ours(x)
    parts, state = [], None
    for part in x.split(sizes, 1):
        h, state = ours(part, state)
        parts.append(h)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(state, end, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_drop_acts_on_the_recurrent_matrix_alone(kind: type[Recurrence]) -> None:
    ours, x = layer(kind, weight_drop=0.5), torch.randn(3, 7, D)
    exact = ours.eval()(x)[0]
    torch.testing.assert_close(exact, layer(kind)(x)[0])  # only in training
    ours.train()
    torch.manual_seed(1)
    one = ours(x)[0]
    torch.testing.assert_close(one[:, 0], exact[:, 0])  # no state before the first position, so no U
    assert not torch.allclose(one[:, 1], exact[:, 1])
    torch.manual_seed(1)
    assert torch.equal(ours(x)[0], one)  # by the step's seed
    # one draw serves all positions: the same U, with half its weights doubled and half at zero
    torch.manual_seed(1)
    gradient = torch.autograd.grad(ours(x)[0].sum(), ours.recurrent)[0]
    dropped = gradient == 0
    assert 0.3 < dropped.float().mean() < 0.7
    with torch.no_grad():
        ours.recurrent.copy_(torch.where(dropped, 0, 2 * ours.recurrent))
    torch.testing.assert_close(ours.eval()(x)[0], one, atol=1e-5, rtol=0)


def test_one_draw_serves_a_window_that_is_read_in_stretches() -> None:
    ours, x = layer(LSTM, weight_drop=0.5).train(), torch.randn(2, 6, D)
    torch.manual_seed(1)
    whole = ours(x)[0]
    torch.manual_seed(1)
    nothing = torch.zeros(2, dtype=torch.bool)
    torch.testing.assert_close(ours(x, None, [(0, 2, None), (2, 5, nothing), (5, 6, nothing)])[0], whole)


def test_locked_dropout_drops_a_coordinate_everywhere_in_a_row() -> None:
    torch.manual_seed(0)
    drop, x = LockedDropout(0.25), torch.ones(40, 7, 50)
    out = drop(x)
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert not torch.equal(out[0], out[1])
    assert abs((out == 0).float().mean() - 0.25) < 0.03
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 4 / 3))
    assert drop.eval()(x) is x and LockedDropout(0.0).train()(x) is x


def test_word_dropout_drops_a_word_wherever_it_stands() -> None:
    torch.manual_seed(0)
    drop, ids = WordDropout(100, 0.25), torch.arange(100).repeat(2, 3)
    out = drop(torch.ones(2, 300, 5), ids)
    by_word = out.view(2, 3, 100, 5)
    assert torch.equal(by_word, by_word[:1, :1, :, :1].expand_as(by_word))
    assert 0.1 < (by_word[0, 0, :, 0] == 0).float().mean() < 0.4
    assert set(out.unique().tolist()) == {0.0, torch.tensor(4 / 3).item()}
    x = torch.ones(1, 2, 5)
    assert drop.eval()(x, ids[:1, :2]) is x


def test_stretches_end_where_a_row_begins_anew() -> None:
    cpu = torch.device("cpu")
    assert pieces(None, 2, 5, 3, cpu) == pieces(Causal(), 2, 5, 3, cpu) == [(0, 5, None)]
    padded = Causal() & Padding(torch.tensor([[False, False, True, True, True], [True] * 5]))
    (first, second) = pieces(padded, 2, 5, 0, cpu)
    assert first == (0, 2, None) and second[:2] == (2, 5)
    assert second[2] is not None and second[2].tolist() == [True, False]
    assert pieces(padded, 2, 1, 4, cpu) == [(0, 1, None)]  # a later token goes on
    behind = Causal() & Padding(torch.tensor([[True, True, False, False]]))
    assert pieces(behind, 1, 4, 0, cpu) == [(0, 4, None)]  # nothing is asked of what pads the right
    packed = pieces(Documents(torch.tensor([[0, 0, 1, 1, 1, 2]])), 1, 6, 0, cpu)
    assert [piece[:2] for piece in packed] == [(0, 2), (2, 5), (5, 6)]
    with pytest.raises(ValueError, match="Window is not for it"):
        pieces(Causal() & Window(3), 1, 5, 0, cpu)


def test_rows_that_begin_anew_forget() -> None:
    ours, x = layer(LSTM), torch.randn(2, 6, D)
    stretches = pieces(Documents(torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1]])), 2, 6, 0, torch.device("cpu"))
    h, last = ours(x, None, stretches)
    torch.testing.assert_close(h[0], ours(x[:1])[0][0], atol=1e-6, rtol=0)
    torch.testing.assert_close(h[1, :2], ours(x[1:, :2])[0][0], atol=1e-6, rtol=0)
    alone, end = ours(x[1:, 2:])
    torch.testing.assert_close(h[1, 2:], alone[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(last[1][1], end[1][0], atol=1e-6, rtol=0)


def test_a_cache_is_kept_whole_or_forgotten() -> None:
    cache = RecurrentCache([LSTM.STATE, ElmanRNN.STATE])
    assert (cache.length, cache.tensors()) == (0, {})
    states = [(torch.ones(3, 2), torch.full((3, 2), 2.0)), (torch.arange(6.0).view(3, 2),)]
    cache.put(states, 5)
    assert list(cache.tensors()) == ["0.hidden", "0.cell", "1.hidden"]
    twin = cache.branch(torch.tensor([2, 2]))
    assert twin.length == 5 and twin.tensors()["1.hidden"].tolist() == [[4, 5], [4, 5]]
    assert cache.truncate(5) and not cache.truncate(3) and cache.length == 5
    cache.forget(torch.tensor([True, False, False]))
    assert cache.tensors()["0.cell"].tolist() == [[0, 0], [2, 2], [2, 2]]
    other = RecurrentCache([LSTM.STATE, ElmanRNN.STATE])
    other.load(cache.tensors())
    assert all(torch.equal(other.tensors()[name], part) for name, part in cache.tensors().items())
    cache.select(torch.tensor([1]))
    assert cache.tensors()["0.cell"].tolist() == [[2, 2]]
    assert cache.truncate(0) and cache.length == 0 and cache.tensors() == {}
