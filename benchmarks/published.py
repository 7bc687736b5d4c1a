"""Random real images, learned as the published evaluation of DC (2006.05929) has it, written out.

    python -m benchmarks.published cifar10 --ipc 10 --seeds 10

Nothing but the choice of the images is the program's own: those of `evaluate --baseline random`.
The network, its start, the loop and the test are plain eager PyTorch in float32, so that what
`evaluate` says of the same images can be held against it. As published, there is one epoch more
than is asked for, and the optimiser starts anew, without momentum, when the rate falls.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.results import update
from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import Source, open_source
from gencond_fast.data.stream import stream
from gencond_fast.system.environment import describe, versions
from gencond_fast.system.rng import derive_seed

_RESULTS = Path(__file__).parent / "results" / "published.csv"
_BATCH, _RATE, _WIDTH = 256, 0.01, 128
_NORMALISATION = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_MEMORY = 2 * 1024**3


def convnet(channels: int, classes: int, image_size: int) -> nn.Sequential:
    """ConvNet-3 with instance norm and average pooling, its weights drawn as PyTorch draws them."""
    layers: list[nn.Module] = []
    for inputs in (channels, _WIDTH, _WIDTH):
        layers += [nn.Conv2d(inputs, _WIDTH, 3, padding=1), nn.GroupNorm(_WIDTH, _WIDTH)]
        layers += [nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTH * (image_size // 8) ** 2, classes))


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """SGD with momentum 0.9 and weight decay 5e-4; a tenth of the rate after half of the epochs."""
    rate = _RATE
    optimizer = _sgd(network, rate)
    for epoch in range(epochs + 1):
        for rows in torch.randperm(len(labels)).split(_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
        if epoch == epochs // 2 + 1:
            rate *= 0.1
            optimizer = _sgd(network, rate)


def _sgd(network: nn.Module, rate: float) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """In per cent."""
    batches = zip(images.split(_BATCH), labels.split(_BATCH), strict=True)
    right = sum(int((network(part).argmax(1) == true).sum()) for part, true in batches)
    return 100 * right / len(labels)


def accuracies(source: Source, ipc: int, seeds: int, epochs: int) -> Iterator[float]:
    """One for each seed, which chooses the images, the network and the order."""
    assert source.val is not None
    channels, size = source.channels, source.native_size
    batches = list(stream(source.val, channels=channels, image_size=size, batch_size=_BATCH))
    test = torch.cat([each.images for each in batches]), torch.cat([b.labels for b in batches])
    for seed in range(seeds):
        chosen = draw_sample(
            source,
            image_size=size,
            per_class=ipc,
            max_bytes=_MEMORY,
            seed=derive_seed(seed, "random control") % 2**32,
        )
        torch.manual_seed(seed)
        network = convnet(channels, len(source.class_names), size)
        train(network, _NORMALISATION(chosen.images), chosen.labels, epochs)
        yield accuracy(network.eval(), _NORMALISATION(test[0]), test[1])


@click.command()
@click.argument("cifar10")
@click.option("--ipc", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--seeds", type=click.IntRange(min=2), default=10, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=300, show_default=True)
def main(cifar10: str, ipc: int, seeds: int, epochs: int) -> None:
    """Train on random real images of CIFAR10, its path, and print the accuracies."""
    found = []
    for value in accuracies(open_source(cifar10), ipc, seeds, epochs):
        found.append(value)
        print(f"{value:.2f}", flush=True)
    mean, std = statistics.mean(found), statistics.stdev(found)
    print(f"{mean:.2f} +- {std:.2f}")
    command = f"python -m benchmarks.published {Path(cifar10).name} --ipc {ipc} --seeds {seeds}"
    row: dict[str, object] = {"ipc": ipc, "epochs": epochs, "seeds": seeds}
    row |= {"accuracy": round(mean, 2), "std": round(std, 2)}
    row["device"] = f"CPU {describe()['machine']['cpu']}"
    row["command"] = f"{command} --epochs {epochs}"
    row["versions"] = " ".join(f"{name}={version}" for name, version in versions().items())
    update(_RESULTS, [row])


if __name__ == "__main__":
    main()
