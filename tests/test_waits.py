"""A GPU is asked for a number of values only where a size hangs on it.

Each question makes the program wait until everything before it is computed. Without a
GPU they can still be counted: tensors claim to lie on one, so that the code takes that
way, and what would wait is noted.
"""

from collections import Counter

import oracles
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rpn_lib import fast
from rpn_lib.anchors import AnchorGenerator
from rpn_lib.border import BorderRule
from rpn_lib.examples import choose_examples
from rpn_lib.fast import match_anchors
from rpn_lib.loss import RPNLoss
from rpn_lib.matching import MatchRule
from rpn_lib.models import small_rpn
from rpn_lib.nms import ProposalSelector
from rpn_lib.sampling import SampleRule, sample_anchors

GPU = torch.device("cuda:0")
IMAGE = (128, 192)


class OnGPU(TorchFunctionMode):
    """Tensors say that they are on a GPU, and stay on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == torch.Tensor.device.__get__:
            return GPU
        args = [None if arg == "cuda:0" or arg is GPU else arg for arg in args]
        kwargs = {k: v for k, v in (kwargs or {}).items() if v is not GPU}
        if func is torch.Tensor.to and args[1:] == [None]:
            return args[0]
        return func(*args, **kwargs)


class Waits(TorchDispatchMode):
    """Counts the operations whose result the program needs before it can go on."""

    NAMES = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal")

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name in self.NAMES or masked or func.namespace == "torchvision":
            self.counts["index by a mask" if masked else name] += 1
        return func(*args, **(kwargs or {}))


def waits(function):
    with Waits() as mode, OnGPU():
        function()
    return dict(mode.counts)


def test_a_wait_is_noticed():
    x = torch.tensor([1.0, 2.0])
    assert waits(lambda: x[x > 1]) == {"index by a mask": 1}
    assert waits(lambda: x.sum().item()) == {"_local_scalar_dense": 1}
    assert waits(lambda: bool((x > 1).any())) == {"_local_scalar_dense": 1}
    assert waits(lambda: x.to(x.device) + 1) == {}
    with OnGPU():
        assert x.device == GPU
        assert torch.zeros(2, device=x.device).sum() == 0


def five_levels():
    strides = (4, 8, 16, 32, 64)
    generate = AnchorGenerator([[4 * s] for s in strides], strides=strides)
    sizes = [(-(-IMAGE[0] // s), -(-IMAGE[1] // s)) for s in strides]
    return generate(sizes), generate.grids(sizes)


@pytest.mark.parametrize("few", [2**18, 2**12], ids=["all pairs", "blocks"])
def test_matching_waits_for_nothing(few, monkeypatch):
    monkeypatch.setattr(fast, "BLOCK_PAIRS", few)
    anchors, grids = five_levels()
    anchors = torch.cat(anchors)
    generator = torch.Generator().manual_seed(0)
    boxes = oracles.random_boxes(generator, 40, IMAGE, smallest=8)
    settings = {
        "rule": MatchRule(min_num_positives=30),
        "gt_labels": torch.arange(1, 41),
        "valid": torch.rand(len(anchors), generator=generator) < 0.9,
        "ignore_boxes": boxes[:3] + 10,
    }

    def match(trusted=True):
        return match_anchors(anchors, boxes, grids=grids, trusted=trusted, **settings)

    assert waits(match) == {}
    assert waits(lambda: match(trusted=False))  # to look at boxes is to wait
    with OnGPU():
        as_on_gpu = match()
    for on_gpu, plain in zip(as_on_gpu, match()):
        assert torch.equal(on_gpu, plain)


def test_examples_of_a_batch_wait_for_the_numbers_of_objects_and_background():
    anchors, grids = five_levels()
    generator = torch.Generator().manual_seed(0)
    boxes = [oracles.random_boxes(generator, n, IMAGE, smallest=8) for n in (7, 3)]
    rules = BorderRule("drop"), MatchRule(), SampleRule(num_samples=64)
    count = waits(
        lambda: choose_examples(
            *(anchors, grids, None, [IMAGE, IMAGE], boxes), rules=rules
        )
    )
    # Of each image: two numbers, and how many different anchors were drawn.
    assert set(count) == {"nonzero", "_unique2"}
    assert count["nonzero"] == 4
    assert count["_unique2"] <= 4


def test_a_sample_of_few_waits_for_two_numbers():
    labels = torch.tensor([1, 0, 0, -1, 0, 1])
    assert waits(lambda: sample_anchors(labels)) == {"nonzero": 2}


def test_losses_and_their_gradients_wait_for_nothing():
    rpn = small_rpn()
    image = torch.rand(1, 3, *IMAGE)
    features = rpn.levels_of(image)
    grid = features[0].shape[-2:]
    anchors = rpn.anchors([grid])
    boxes = [torch.tensor([[16.0, 16.0, 60.0, 64.0], [70.0, 60.0, 120.0, 110.0]])]
    examples = choose_examples(
        *(anchors, rpn.anchors.grids([grid]), None, [IMAGE], boxes),
        rules=(rpn.border, rpn.match, rpn.sample),
    )
    assert torch.equal(examples.objects, (examples.labels > 0).nonzero()[:, 0])
    output = rpn.head(features[0])
    where = examples.image, examples.number
    # (torchvision's generalized_box_iou_loss, for "giou", indexes by masks itself.)
    for normalizer in ("positives", "sampled", "paper"):
        rpn.loss = RPNLoss(normalizer=normalizer)

        def losses():
            scores, deltas = (x.flatten(1, 3)[where] for x in output)
            found = rpn._losses(scores, deltas, examples, num_cells=96)
            sum(found.values()).backward(retain_graph=True)

        assert waits(losses) == {}


def test_a_selection_waits_twice_for_a_level():
    anchors, _ = five_levels()
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(len(level), generator=generator) for level in anchors]
    deltas = [torch.randn(len(x), 4, generator=generator) / 10 for x in anchors]
    select = ProposalSelector(pre_nms_top_k=500, post_nms_top_k=100)
    count = waits(lambda: select(logits, deltas, anchors, IMAGE))
    # How many are large enough, and how many NMS keeps.
    assert count == {"nonzero": 5, "nms": 5}
    with OnGPU():
        as_on_gpu = select(logits, deltas, anchors, IMAGE)
    assert torch.equal(as_on_gpu.boxes, select(logits, deltas, anchors, IMAGE).boxes)


def test_loss_and_selection_up_to_nms_compile_without_a_break():
    loss = RPNLoss()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    generator = torch.Generator().manual_seed(0)
    for sampled, objects in ((64, 20), (64, 0), (32, 9)):
        scores = torch.randn(sampled, 2, generator=generator)
        labels = (torch.arange(sampled) < objects).long()
        deltas, targets = torch.randn(2, objects, 4, generator=generator)
        expected = loss(scores, labels, deltas, targets)
        found = compiled(scores, labels, deltas, targets)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)


NEW = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14)


@pytest.mark.skipif(not NEW, reason="older compilers were not tried")
@pytest.mark.filterwarnings("ignore:.*create_unbacked_symint:FutureWarning")
def test_a_selection_compiles_without_a_break():
    """With NMS, if the compiler is told that sizes may depend on values."""
    anchors, _ = five_levels()
    select = ProposalSelector(pre_nms_top_k=500, post_nms_top_k=100)
    flags = {"capture_dynamic_output_shape_ops": True, "capture_scalar_outputs": True}
    with torch._dynamo.config.patch(flags):
        compiled = torch.compile(select, fullgraph=True, backend="eager")
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            logits = [torch.randn(len(x), generator=generator) for x in anchors]
            deltas = [torch.randn(len(x), 4, generator=generator) / 10 for x in anchors]
            found = compiled(logits, deltas, anchors, IMAGE)
            expected = select(logits, deltas, anchors, IMAGE)
            assert torch.equal(found.boxes, expected.boxes)
            assert torch.equal(found.scores, expected.scores)
