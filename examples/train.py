"""From a folder of images to a trained network: condenses it, trains on the file, tests.

python examples/train.py                     # the digits of scikit-learn
python examples/train.py cifar10/ --out runs/c10 --ipc 1
"""

import argparse
import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gencond_fast as gf
from gencond_fast.data import open_source, stream

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", nargs="?", default="digits", help="image folder, .tar, parquet or .npz")
parser.add_argument("--out", default="runs/example", help="run directory")
parser.add_argument("--ipc", type=int, help="budget in images per class (default 10)")
parser.add_argument("--preset", default="quick", help="quick, standard or accurate")
parser.add_argument("--config", help="YAML file of further options")
parser.add_argument("--epochs", type=int, default=30, help="of the network, default 30")
options = parser.parse_args()

# 1. Condense: a run that was interrupted goes on, and one that is finished is used again. What the
# network is tested on must be there before any work is done.
if open_source(options.data).val is None:
    sys.exit(f"{options.data} has no test split: put test images into a folder test/ beside train/")
budget = {} if options.ipc is None else {"ipc": options.ipc}
path = gf.condense(
    options.data, out=options.out, preset=options.preset, config=options.config, **budget
)
train = gf.CondensedDataset(path)  # (image float32 [channels, H, W] in [0, 1], label)
print(f"{path.stat().st_size:,} bytes, {len(train)} images of {len(train.classes)} classes")

# 2. Train any network on it, as on any data set. It is small, so that it is decoded once for all
# epochs; DataLoader(train) would decode each batch anew.
images, labels = train[:]
loader = DataLoader(TensorDataset(images, labels), batch_size=128, shuffle=True)
_, channels, side, _ = images.shape
mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (train.mean, train.std))
network = nn.Sequential(
    *(nn.Conv2d(channels, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
    *(nn.Flatten(), nn.Linear(512, len(train.classes))),
)
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
for _ in range(options.epochs):
    for batch, targets in loader:
        loss = F.cross_entropy(network((batch - mean) / std), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# 3. Test it on the real test images, decoded and resized as the condensed ones were.
test = open_source(options.data, classes=train.classes, in_given_order=True).val
network.eval()
correct = 0
with torch.no_grad():
    for batch in stream(test, channels=channels, image_size=side, batch_size=256):
        logits = network((batch.images / 255 - mean) / std)
        correct += int((logits.argmax(1) == batch.labels).sum())
print(f"{100 * correct / len(test):.2f} % of {len(test)} test images")
