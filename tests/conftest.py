"""Hypothesis profiles: `HYPOTHESIS_PROFILE=thorough pytest` looks 50 times longer."""

import os

import torch
from hypothesis import settings

settings.register_profile("quick", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("thorough", deadline=None, max_examples=50 * 200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# The tensors of the tests are small. On a busy machine threads spend their time waiting
# for each other: minutes where one thread takes a second.
torch.set_num_threads(1)
