"""Trains and samples the networks of PGR and SynthER in PyTorch, written plainly, and says how fast that is.

bench_generative.py COLUMNS

One thread. What is done in an update and in a step of the sampler is what the references do
(renwang435/pgr@b52b41b, conglu1997/SynthER@e6835a5); the code is not theirs.
"""

import copy
import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)
BATCH = 256
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX, RHO = 1.0, 0.002, 80.0, 7.0
P_MEAN, P_STD = -1.2, 1.2
CHURN, CHURN_MIN, CHURN_MAX, CHURN_NOISE = 80.0, 0.05, 50.0, 1.003
STEPS, GUIDANCE, DROPOUT = 16, 2.0, 0.25


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(8))

    def forward(self, t):
        angles = t[:, None] * self.frequencies * 2 * math.pi
        return torch.cat([t[:, None], angles.sin(), angles.cos()], -1)


class Block(nn.Module):
    def __init__(self, width, activation):
        super().__init__()
        self.linear, self.activation = nn.Linear(width, width), activation

    def forward(self, x):
        return x + self.linear(self.activation(x))


class Pgr(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.time = nn.Sequential(Fourier(), nn.Linear(17, 1024), nn.Mish(), nn.Linear(1024, 256))
        self.condition = nn.Sequential(nn.Linear(1, 512), nn.Mish(), nn.Linear(512, 256))
        self.rows, self.beside = nn.Linear(columns, 1024), nn.Linear(512, 1024)
        self.blocks = nn.Sequential(*[Block(2048, nn.Mish()) for _ in range(6)], nn.Mish(), nn.Linear(2048, columns))

    def forward(self, x, t, condition):
        """Of a condition and whether each row keeps it."""
        values, kept = condition
        beside = torch.cat([self.condition(values[:, None]) * kept[:, None], self.time(t)], -1)
        return self.blocks(torch.cat([self.rows(x), self.beside(beside)], -1))


class Synther(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.time = nn.Sequential(Fourier(), nn.Linear(17, 256), nn.SiLU(), nn.Linear(256, 256))
        self.rows = nn.Linear(columns, 256)
        blocks = [Block(1024, nn.ReLU()) for _ in range(6)]
        self.blocks = nn.Sequential(nn.Linear(256, 1024), *blocks, nn.ReLU(), nn.Linear(1024, columns))

    def forward(self, x, t, condition):
        return self.blocks(self.rows(x) + self.time(t))


def denoised(net, x, sigma, condition, clamp):
    """D(x; σ), σ one for each row."""
    wide = sigma[:, None]
    total = wide**2 + SIGMA_DATA**2
    said = net(x / total.sqrt(), sigma.log() / 4, condition)
    out = x * SIGMA_DATA**2 / total + said * wide * SIGMA_DATA / total.sqrt()
    return out.clamp(-1, 1) if clamp else out


class Trainer:
    def __init__(self, net):
        self.net, self.average, self.steps = net, copy.deepcopy(net), 0
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4, betas=(0.9, 0.99), weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 100_000)

    def step(self, rows, conditions):
        sigma = (P_MEAN + P_STD * torch.randn(len(rows))).exp()
        noisy = rows + sigma[:, None] * torch.randn_like(rows)
        kept = (torch.rand(len(rows)) >= DROPOUT).float()
        out = denoised(self.net, noisy, sigma, (conditions, kept), False)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        loss = (functional.mse_loss(out, rows, reduction="none").mean(1) * weight).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        if self.steps % 10 == 0:
            with torch.no_grad():
                for mean, new in zip(self.average.parameters(), self.net.parameters()):
                    mean.lerp_(new, 0.005)
        self.steps += 1
        return loss.item()


@torch.no_grad()
def sample(net, rows, columns, guided):
    places = torch.arange(STEPS) / (STEPS - 1)
    first, last = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    sigmas = torch.cat([(first + places * (last - first)) ** RHO, torch.zeros(1)]).tolist()
    conditions = torch.rand(rows)
    x = torch.randn(rows, columns) * sigmas[0]

    def slope(x, sigma, kept):
        return (x - denoised(net, x, torch.full((rows,), sigma), (conditions, kept), True)) / sigma

    with_condition, without = torch.ones(rows), torch.zeros(rows)
    for sigma, following in zip(sigmas, sigmas[1:]):
        churn = min(CHURN / STEPS, math.sqrt(2) - 1) if CHURN_MIN <= sigma <= CHURN_MAX else 0
        more = sigma * (1 + churn)
        x = x + CHURN_NOISE * math.sqrt(more**2 - sigma**2) * torch.randn_like(x)
        along = slope(x, more, with_condition)
        if guided:
            other = slope(x, more, without)
            along = other + GUIDANCE * (along - other)
        there = x + (following - more) * along
        if following > 0:
            there = x + (following - more) / 2 * (along + slope(there, following, with_condition))
        x = there
    return x.clamp(-1, 1)


def rate(count, work):
    """Per second of processor time."""
    start = time.process_time()
    work()
    return count / (time.process_time() - start)


def figures(net, columns, steps, rows, guided):
    data, conditions = torch.rand(BATCH, columns) * 2 - 1, torch.rand(BATCH)
    trainer = Trainer(net)
    trainer.step(data, conditions)
    train = rate(steps, lambda: [trainer.step(data, conditions) for _ in range(steps)])
    sample(trainer.average, 16, columns, guided)
    sampled = rate(rows, lambda: sample(trainer.average, rows, columns, guided))
    return {"train": train, "sample": sampled}


columns = int(sys.argv[1])
print(
    json.dumps(
        {
            "version": torch.__version__,
            "pgr": figures(Pgr(columns), columns, 10, 512, True),
            "synther": figures(Synther(columns), columns, 40, 1024, False),
        }
    )
)
