"""The losses in a training loop of your own: an embedding of the digits, by metric learning.

python examples/losses.py
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import gencond_fast as gf

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=200, help="of the optimiser, default 200")
options = parser.parse_args()

digits = load_digits()
images = torch.tensor(digits.data / 16, dtype=torch.float32)  # [1797, 64]
labels = torch.tensor(digits.target)
train, test = slice(0, 1400), slice(1400, None)

torch.manual_seed(0)
network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)

# Minimising the first spreads a class, minimising the second moves class centres apart.
intra = gf.IntraClassLoss(kind="infonce", temperature=0.2)
inter = gf.InterClassLoss(kind="infonce", temperature=0.2)


@torch.no_grad()
def accuracy() -> float:
    """How many test images lie nearest, by angle, to the training mean of their own class."""
    found = F.normalize(network(images))
    centres: Tensor = gf.class_moments(found[train], labels[train], 10).mean  # [10, 16]
    nearest = (found[test] @ F.normalize(centres).T).argmax(1)
    return float((nearest == labels[test]).float().mean())


print(f"before: {100 * accuracy():.2f} % of the test images are nearest to their class")
for _ in range(options.steps):
    batch = torch.randint(1400, (256,))
    features = network(images[batch])
    # metric learning wants classes close together, hence the minus
    loss = inter(features, labels[batch]) - intra(features, labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"after:  {100 * accuracy():.2f} % of the test images are nearest to their class")
