"""A network of embeddings and two layers. The only module here that needs torch.

It takes the float32 matrix the transform makes and answers probabilities, so that it is exported and served like the trees.
"""

import torch
from torch import nn

import mlops_local as mlops

CATEGORIES = 3  # the first columns of the features: carrier, origin, weekday


class Network(nn.Module):
    """Categories through embeddings, numbers as they are; a gap is zero (the mean) plus a mark that it was one."""

    def __init__(self, sizes: list[int], numbers: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, min(8, (size + 1) // 2)) for size in sizes)
        inputs = sum(embedding.embedding_dim for embedding in self.embeddings) + 2 * numbers
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        known = torch.nan_to_num(x[:, :CATEGORIES], nan=0.0).long()
        parts = [layer(known[:, at].clamp(0, layer.num_embeddings - 1)) for at, layer in enumerate(self.embeddings)]
        numbers = x[:, CATEGORIES:]
        parts += [torch.nan_to_num(numbers, nan=0.0), torch.isnan(numbers).float()]
        return torch.sigmoid(self.layers(torch.cat(parts, dim=1))).squeeze(1)


def fit(train: mlops.XY, valid: mlops.XY, *, epochs: int, width: int, learning_rate: float) -> Network:
    """Find the best number of epochs on `valid`, then train that long on train and valid together."""
    torch.manual_seed(7)
    torch.set_num_threads(2)
    found, losses = _start(train, width), []
    for epoch in _epochs(found, train, epochs, learning_rate):
        losses.append(_loss(found, valid))
        mlops.log(epoch, valid_loss=losses[-1])
    best = losses.index(min(losses)) + 1
    mlops.log(epochs=best)
    torch.manual_seed(7)
    both = mlops.concat(train, valid)
    model = _start(train, width)
    for _ in _epochs(model, both, best, learning_rate):
        pass
    return model.eval()


def _start(train: mlops.XY, width: int) -> Network:
    sizes = [int(train.X.to_series(at).max()) + 1 for at in range(CATEGORIES)]
    return Network(sizes, train.X.width - CATEGORIES, width)


def _epochs(model: Network, data: mlops.XY, epochs: int, learning_rate: float):
    """Train epoch by epoch; the caller looks at the model in between."""
    x, y = torch.from_numpy(data.X.to_numpy(writable=True)), torch.tensor(data.y.to_numpy(), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(y)).split(2048):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        model.eval()
        yield epoch


@torch.no_grad()
def _loss(model: Network, data: mlops.XY) -> float:
    answer = model(torch.from_numpy(data.X.to_numpy(writable=True)))
    return float(nn.functional.binary_cross_entropy(answer, torch.tensor(data.y.to_numpy(), dtype=torch.float32)))
