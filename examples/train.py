"""Trains a network on a condensed file in a plain PyTorch loop, and tests it on real images.

python examples/train.py runs/digits --data digits
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import gencond_fast as gf
from gencond_fast.data import open_source, stream

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("run", help="run directory or condensed file")
parser.add_argument("--data", default="digits", help="the data that it was condensed from")
parser.add_argument("--epochs", type=int, default=30)
options = parser.parse_args()

train = gf.CondensedDataset(options.run)  # (image float32 [channels, H, W] in [0, 1], label)
channels, side, _ = train[0][0].shape
mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (train.mean, train.std))
network = nn.Sequential(
    *(nn.Conv2d(channels, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
    *(nn.Flatten(), nn.Linear(512, len(train.class_names))),
)
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
for _ in range(options.epochs):
    for images, labels in DataLoader(train, batch_size=128, shuffle=True):
        loss = F.cross_entropy(network((images - mean) / std), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

test = open_source(options.data, classes=train.class_names, in_given_order=True).val
assert test is not None, f"{options.data} has no test split"
network.eval()
right = 0
with torch.no_grad():
    for batch in stream(test, channels=channels, image_size=side, batch_size=256):
        logits = network((batch.images / 255 - mean) / std)
        right += int((logits.argmax(1) == batch.labels).sum())
print(f"{100 * right / len(test):.2f} % of {len(test)} test images")
