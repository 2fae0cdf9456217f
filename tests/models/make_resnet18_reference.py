"""Makes tests/models/data/resnet18_reference.npz: what PyTorch's ResNet18 says of seeded weights and patches.

    python3 -m venv torchvenv && torchvenv/bin/pip install torch numpy
    torchvenv/bin/python tests/models/make_resnet18_reference.py

Made with torch 2.13.0 on a CPU. The network is written out below instead of imported from torchvision, whose wheels are
tied to one torch version: same modules, names and forward pass as torchvision.models.resnet18, in evaluation mode. The
test uses `random_tensors` and `random_patches` too: the same code makes weights and patches, and only the answers are
stored.
"""

from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).parent / "data" / "resnet18_reference.npz"
SIZES_PX = (224, 96)
NUM_PATCHES = 2
SEED = 20231


def uniform(generator, low, high, shape):
    """Float32 from the raw bits of PCG64, whose stream numpy promises not to change."""
    return (low + (high - low) * generator.random(shape)).astype(np.float32)


def random_tensors(seed=SEED):
    """Every tensor of torchvision's ResNet18 by its name, with running statistics and scales far from 0 and 1."""
    generator = np.random.Generator(np.random.PCG64(seed))
    tensors = {}

    def convolution(name, filters, channels, size):
        limit = np.sqrt(6.0 / (channels * size * size))
        tensors[f"{name}.weight"] = uniform(generator, -limit, limit, (filters, channels, size, size))

    def normalisation(name, channels):
        limits = {"weight": (0.5, 1.2), "bias": (-0.4, 0.4), "running_mean": (-0.5, 0.5), "running_var": (0.6, 2.0)}
        for part, (low, high) in limits.items():
            tensors[f"{name}.{part}"] = uniform(generator, low, high, (channels,))

    convolution("conv1", 64, 3, 7)
    normalisation("bn1", 64)
    channels = 64
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", filters, channels, 3)
            normalisation(f"{name}.bn1", filters)
            convolution(f"{name}.conv2", filters, filters, 3)
            normalisation(f"{name}.bn2", filters)
            if channels != filters:
                convolution(f"{name}.downsample.0", filters, channels, 1)
                normalisation(f"{name}.downsample.1", filters)
            channels = filters
    tensors["fc.weight"] = uniform(generator, -0.05, 0.05, (1000, 512))
    tensors["fc.bias"] = uniform(generator, -0.5, 0.5, (1000,))
    return tensors


def random_patches(size_px):
    """(2, size_px, size_px, 1) uint8 noise on a slope, so that rows and columns differ."""
    generator = np.random.Generator(np.random.PCG64(size_px))
    slope = np.linspace(0, 120, size_px)[:, None] + np.linspace(0, 60, size_px)[None, :]
    noise = generator.random((NUM_PATCHES, size_px, size_px)) * 75
    return (slope + noise).astype(np.uint8)[..., None]


def torchvision_resnet18():
    """torchvision.models.resnet18, returning the spatial mean of each stage, the pooled features and the logits."""
    import torch
    from torch import nn

    class BasicBlock(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(filters)
            self.conv2 = nn.Conv2d(filters, filters, 3, stride=1, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(filters)
            self.downsample = None
            if stride != 1 or channels != filters:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters)
                )

        def forward(self, x):
            out = torch.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            return torch.relu(out + (x if self.downsample is None else self.downsample(x)))

    class ResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
            self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
            self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
            self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
            self.fc = nn.Linear(512, 1000)

        def forward(self, x):
            answers = {}
            x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
            for stage in ("layer1", "layer2", "layer3", "layer4"):
                x = getattr(self, stage)(x)
                answers[stage] = x.mean(dim=(2, 3))
            answers["features"] = answers.pop("layer4")
            answers["logits"] = self.fc(answers["features"])
            return answers

    return ResNet18().eval()


def main():
    """Writes the answers."""
    import torch

    network = torchvision_resnet18()
    tensors = {name: torch.from_numpy(tensor) for name, tensor in random_tensors().items()}
    _, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    stored = {}
    for size_px in SIZES_PX:
        gray = torch.from_numpy(random_patches(size_px)).float() / 255
        image = ((gray.repeat(1, 1, 1, 3) - mean) / deviation).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            answers = network(image)
        stored |= {f"{name}_{size_px}": answer.numpy() for name, answer in answers.items()}
    REFERENCE.parent.mkdir(exist_ok=True)
    np.savez_compressed(REFERENCE, allow_pickle=False, **stored)
    for name, answer in stored.items():
        print(name, answer.shape, f"mean {answer.mean():.4f}, standard deviation {answer.std():.4f}")


if __name__ == "__main__":
    main()
