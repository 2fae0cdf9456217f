"""Worker of benchmarks/network.py for the same networks in PyTorch; needs torch and numpy alone.

Written out instead of taken from torchvision, because keras.applications' ResNet50 and ResNet101 differ from
torchvision's: their stride is in the first 1 x 1 convolution of a block, and their convolutions have biases.
"""

import contextlib
import math
from collections.abc import Callable

import numpy as np
import torch
from network_worker import Case, Prepared, serve
from torch import nn

NUM_BLOCKS = {"resnet18": (2, 2, 2, 2), "detector": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
RESNET18_MEAN, RESNET18_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)
LOCAL_GAIN = 8.0
DETECTOR_WIDTH = 0.5
"""`model.width` of configs/detector.toml; the number of parameters is compared with Keras'."""


def normalised(channels: int, filters: int, size: int, *, stride: int, bias: bool) -> nn.Sequential:
    """A convolution padded to keep the size, and its batch normalisation."""
    epsilon = 1.001e-5 if bias else 1e-5
    convolution = nn.Conv2d(channels, filters, size, stride=stride, padding=size // 2, bias=bias)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters, eps=epsilon))


class Block(nn.Module):
    """A residual block: layers beside a shortcut, which is convolved where the shape changes."""

    def __init__(self, channels: int, filters: int, *, stride: int, bottleneck: bool) -> None:
        """Two 3 x 3 convolutions, or for a bottleneck 1 x 1, 3 x 3 and 1 x 1 to four times the filters."""
        super().__init__()
        relu = nn.ReLU(inplace=True)
        wide = filters * 4 if bottleneck else filters
        if bottleneck:
            self.layers = nn.Sequential(
                *normalised(channels, filters, 1, stride=stride, bias=True),
                relu,
                *normalised(filters, filters, 3, stride=1, bias=True),
                relu,
                *normalised(filters, wide, 1, stride=1, bias=True),
            )
        else:
            self.layers = nn.Sequential(
                *normalised(channels, filters, 3, stride=stride, bias=False),
                relu,
                *normalised(filters, filters, 3, stride=1, bias=False),
            )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != wide:
            self.shortcut = normalised(channels, wide, 1, stride=stride, bias=bottleneck)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both ways."""
        return torch.relu(self.layers(x) + self.shortcut(x))


class Network(nn.Module):
    """Raw patches (B, P, P, 1) uint8 in, (B, 2) logits out, as `build_network` does it."""

    def __init__(self, name: str) -> None:
        """Takes a name of `NUM_BLOCKS`."""
        super().__init__()
        self.is_detector = name == "detector"
        bottleneck = name in ("resnet50", "resnet101")
        mean = CAFFE_MEAN if bottleneck else RESNET18_MEAN
        deviation = (1.0, 1.0, 1.0) if bottleneck else RESNET18_DEVIATION
        self.white = 255.0 if bottleneck else 1.0
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1))
        base = round(64 * DETECTOR_WIDTH) if self.is_detector else 64
        stem = normalised(3, base, 7, stride=2, bias=bottleneck)
        layers: list[nn.Module] = [*stem, nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)]
        channels = base
        for stage, num_blocks in enumerate(NUM_BLOCKS[name]):
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Block(channels, base * 2**stage, stride=stride, bottleneck=bottleneck))
                channels = base * 2**stage * (4 if bottleneck else 1)
        pooling = [] if self.is_detector else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, *pooling)
        self.head = nn.Linear(channels, 2)

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        """The logits, float32."""
        gray = raw.permute(0, 3, 1, 2).float() / 255
        if self.is_detector:
            around = nn.functional.avg_pool2d(gray, 9, stride=1, padding=4, count_include_pad=False)
            gray = (gray - around) * LOCAL_GAIN + 0.5
        image = (gray * self.white - self.mean) / self.deviation
        features = self.layers(image.contiguous(memory_format=torch.channels_last))
        if not self.is_detector:
            return self.head(features).float()
        logits = self.head(features.permute(0, 2, 3, 1)).float()
        cells = (logits[..., 1] - logits[..., 0]).flatten(1)
        half = (torch.logsumexp(cells, dim=1) - math.log(cells.shape[1])) / 2
        return torch.stack([-half, half], dim=1)


def prepare(case: Case) -> Prepared:
    """The network in channels-last order, which is PyTorch's faster one; bfloat16 is its autocast."""
    torch.set_num_threads(case.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = Network(case.network).to(device, memory_format=torch.channels_last)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    step = _training_step(case, network, device) if case.mode == "train" else _inference_step(case, network, device)

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            result = step()
        result.sum().item()

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return Prepared(run, parameters, f"PyTorch {torch.__version__}", name)


def _training_step(case: Case, network: Network, device: str) -> Callable[[], torch.Tensor]:
    image, label = _batch(case, device)
    network.train()
    forward = torch.compile(network) if case.compiled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.005)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with _precision(case, device):
            logits = forward(image)
        loss = nn.functional.cross_entropy(logits.float(), label)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _inference_step(case: Case, network: Network, device: str) -> Callable[[], torch.Tensor]:
    image, _ = _batch(case, device)
    network.eval()
    forward = torch.compile(network) if case.compiled else network

    def step() -> torch.Tensor:
        with torch.inference_mode(), _precision(case, device):
            return forward(image)

    return step


def _batch(case: Case, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    shape = (case.batch, case.patch_px, case.patch_px, 1)
    image = torch.from_numpy(generator.integers(0, 256, size=shape, dtype=np.uint8))
    return image.to(device), torch.from_numpy(generator.integers(0, 2, size=case.batch)).to(device)


def _precision(case: Case, device: str) -> contextlib.AbstractContextManager[None]:
    if case.way == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16)


if __name__ == "__main__":
    serve(prepare)
