import pytest
import torch

from howdah.errors import DataError, WeightsError
from howdah.nn.fit import fit, load_state, save_state


def test_counts_and_passes_values_on():
    seen = list(fit(lambda i: {"loss": float(i)}, steps=3))
    assert [(p.done, p.total, p.values["loss"]) for p in seen] == [(1, 3, 0.0), (2, 3, 1.0), (3, 3, 2.0)]


def test_saves_at_the_end_and_when_closed():
    saves = []
    list(fit(lambda i: {}, steps=2, save=saves.append))
    run = fit(lambda i: {}, steps=9, save=saves.append)
    next(run), next(run), next(run)
    run.close()
    assert saves == [2, 3]


def test_saves_now_and_then():
    saves = []
    list(fit(lambda i: {}, steps=3, save=saves.append, save_every_s=0))
    assert saves == [1, 2, 3]


def test_nothing_is_saved_after_a_broken_step():
    saves = []
    run = fit(lambda i: {"loss": 1.0 if i < 2 else float("nan")}, steps=5, save=saves.append)
    with pytest.raises(DataError, match="broke down at step 3 of 5: loss"):
        list(run)
    assert saves == []


def small():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    return net, torch.optim.Adam(net.parameters(), lr=0.1, fused=True)


def step(net, optimiser, i):
    optimiser.zero_grad()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(i))
    net(x).square().mean().backward()
    optimiser.step()


def test_a_resumed_training_takes_the_same_steps(tmp_path):
    whole = small()
    for i in range(6):
        step(*whole, i)
    first = small()
    for i in range(3):
        step(*first, i)
    save_state(tmp_path / "s", *first, step=3, header={"note": "x"})
    second = small()
    done, header = load_state(tmp_path / "s", *second)
    assert (done, header["note"]) == (3, "x")
    for i in range(done, 6):
        step(*second, i)
    assert torch.equal(whole[0].weight, second[0].weight)


@pytest.mark.parametrize("capturable", [True, False])
def test_a_state_goes_to_the_device_of_the_parameters(tmp_path, capturable):
    first = small()
    step(*first, 0)
    save_state(tmp_path / "s", *first, step=1, header={})
    net = torch.nn.Linear(3, 2, device="meta")
    optimiser = torch.optim.Adam(net.parameters(), capturable=capturable)
    with pytest.warns(UserWarning, match="no-op"):  # there are no numbers on this device
        load_state(tmp_path / "s", net, optimiser)
    state = optimiser.state[net.weight]
    assert state["exp_avg"].device.type == "meta"
    assert state["step"].device.type == ("meta" if capturable else "cpu")  # fused and capturable Adam count there


def test_a_state_of_another_network_is_refused(tmp_path):
    net, optimiser = small()
    save_state(tmp_path / "s", net, optimiser, step=3, header={})
    other = torch.nn.Linear(4, 2)
    with pytest.raises(WeightsError, match="not the training state of this network"):
        load_state(tmp_path / "s", other, torch.optim.Adam(other.parameters()))
