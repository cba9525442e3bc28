"""What the library computes, once more: slowly, in float64, from the definitions.

Plain Python loops over plain lists, written from the Faster R-CNN and Fast R-CNN
papers. Nothing here calls `rpn_lib`. At the end, the random boxes that several test
modules share.
"""

import math

import torch
from hypothesis import strategies as st

# Boxes


def area(box):
    x1, y1, x2, y2 = box
    return (x2 - x1) * (y2 - y1)


def intersection(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def iou(a, b):
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    return shared / union if union > 0 else 0.0


def pairwise(function, boxes1, boxes2):
    return [[function(a, b) for b in boxes2] for a in boxes1]


# Anchors (section 3.1.1)


def shapes(sizes, aspect_ratios):
    """`(width, height)` with width / height = ratio and width * height = size²."""
    found = []
    for size in sizes:
        for ratio in aspect_ratios:
            height = math.sqrt(size**2 / ratio)
            found.append((ratio * height, height))
    return found


def anchors(rows, columns, down, right, shapes, offset=0.5):
    found = []
    for row in range(rows):
        for column in range(columns):
            x, y = (column + offset) * right, (row + offset) * down
            for w, h in shapes:
                found.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return found


# Deltas (equation 2)


def centre_and_sides(box):
    x1, y1, x2, y2 = box
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def encode(box, anchor, weights=(1, 1, 1, 1)):
    x, y, w, h = centre_and_sides(box)
    x_a, y_a, w_a, h_a = centre_and_sides(anchor)
    t = [(x - x_a) / w_a, (y - y_a) / h_a, math.log(w / w_a), math.log(h / h_a)]
    return [factor * value for factor, value in zip(weights, t)]


def decode(delta, anchor, weights=(1, 1, 1, 1), max_log_scale=math.inf):
    t_x, t_y, t_w, t_h = (value / factor for factor, value in zip(weights, delta))
    x_a, y_a, w_a, h_a = centre_and_sides(anchor)
    x, y = t_x * w_a + x_a, t_y * h_a + y_a
    w = w_a * math.exp(min(t_w, max_log_scale))
    h = h_a * math.exp(min(t_h, max_log_scale))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


# Matching (section 3.1.2)


def match(
    anchors,
    gt_boxes,
    positive_iou,
    negative_iou,
    best_anchor=True,
    min_num_positives=0,
    valid=None,
):
    """Labels, best IoU of each anchor, best IoU of each true box."""
    valid = [True] * len(anchors) if valid is None else valid
    table = [
        [iou(anchor, gt) if ok else 0.0 for gt in gt_boxes]
        for anchor, ok in zip(anchors, valid)
    ]
    best_of_anchor = [max(row, default=0.0) for row in table]
    best_of_gt = [
        max((row[g] for row in table), default=0.0) for g in range(len(gt_boxes))
    ]
    labels = []
    for row, best in zip(table, best_of_anchor):
        label = -1
        if best < negative_iou:
            label = 0
        if best >= positive_iou:
            label = 1
        if best_anchor:
            for value, best_value in zip(row, best_of_gt):
                if value == best_value > 0:
                    label = 1
        labels.append(label)
    by_iou = sorted(range(len(anchors)), key=lambda i: -best_of_anchor[i])
    for i in by_iou:
        if labels.count(1) < min_num_positives and best_of_anchor[i] > 0:
            labels[i] = 1
    labels = [label if ok else -1 for label, ok in zip(labels, valid)]
    return labels, best_of_anchor, best_of_gt


# Loss (equation 1; Fast R-CNN, equation 3)


def cross_entropy(scores, label):
    """Minus the log of the softmax probability of the label, one anchor."""
    highest = max(scores)
    total = sum(math.exp(score - highest) for score in scores)
    return highest + math.log(total) - scores[label]


def smooth_l1(x, beta=1.0):
    return x * x / (2 * beta) if abs(x) < beta else abs(x) - beta / 2


def objectness_loss(scores, labels):
    losses = [cross_entropy(s, int(label > 0)) for s, label in zip(scores, labels)]
    return sum(losses) / len(losses) if losses else 0.0


def box_loss(deltas, targets, beta=1.0):
    total = 0.0
    for delta, target in zip(deltas, targets):
        for value, goal in zip(delta, target):
            total += smooth_l1(value - goal, beta)
    return total / len(deltas) if deltas else 0.0


def slope(function, values, step=1e-6):
    """Gradient of a function of a list of lists, by central differences."""
    gradient = []
    for i, row in enumerate(values):
        gradient.append([])
        for j, value in enumerate(row):
            ends = []
            for sign in (1, -1):
                moved = [list(r) for r in values]
                moved[i][j] = value + sign * step
                ends.append(function(moved))
            gradient[-1].append((ends[0] - ends[1]) / (2 * step))
    return gradient


# NMS and proposals (section 3.3)


def nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def proposals(
    levels,
    image_size,
    pre_nms_top_k,
    post_nms_top_k,
    iou_threshold,
    score_threshold,
    min_size,
):
    """Boxes and probabilities; a level is (logits, deltas, anchors)."""
    height, width = image_size
    survivors = []
    for logits, deltas, anchors in levels:
        order = sorted(range(len(logits)), key=lambda i: -logits[i])[:pre_nms_top_k]
        boxes, scores = [], []
        for i in order:
            x1, y1, x2, y2 = decode(deltas[i], anchors[i])
            x1, x2 = (min(max(x, 0.0), width) for x in (x1, x2))
            y1, y2 = (min(max(y, 0.0), height) for y in (y1, y2))
            probability = 1 / (1 + math.exp(-logits[i]))
            if probability < score_threshold:
                continue
            if x2 - x1 < min_size or y2 - y1 < min_size:
                continue
            boxes.append([x1, y1, x2, y2])
            scores.append(probability)
        survivors += [(scores[i], boxes[i]) for i in nms(boxes, scores, iou_threshold)]
    survivors.sort(key=lambda survivor: -survivor[0])
    survivors = survivors[:post_nms_top_k]
    return [box for _, box in survivors], [score for score, _ in survivors]


# Convolution, one window at a time


def sliding_window(feature, weight, bias):
    """3x3 convolution with a border of zeros, then ReLU.

    `feature[channel][row][column]`, `weight[out][channel][3][3]`, `bias[out]`.
    """
    rows, columns = len(feature[0]), len(feature[0][0])
    result = []
    for kernel, constant in zip(weight, bias):
        plane = []
        for row in range(rows):
            plane.append([])
            for column in range(columns):
                total = constant
                for channel, window in enumerate(kernel):
                    for i in range(3):
                        for j in range(3):
                            y, x = row + i - 1, column + j - 1
                            if 0 <= y < rows and 0 <= x < columns:
                                total += window[i][j] * feature[channel][y][x]
                plane[-1].append(max(total, 0.0))
        result.append(plane)
    return result


# Random boxes


def random_boxes(generator, n, image_size=(100, 100), smallest=1.0):
    """`(n, 4)` boxes of any place and shape inside an image `(height, width)`."""
    height, width = image_size
    limits = torch.tensor([width, height], dtype=torch.float32)
    sides = smallest + torch.rand(n, 2, generator=generator) * (limits - smallest)
    corner = torch.rand(n, 2, generator=generator) * (limits - sides)
    return torch.cat([corner, torch.minimum(corner + sides, limits)], dim=1)


def integer_boxes(generator, n, side=24):
    """`(n, 4)` boxes of whole numbers: many ties, many duplicates, exact areas."""
    corner = torch.randint(0, side, (n, 2), generator=generator)
    sides = torch.randint(1, side, (n, 2), generator=generator)
    return torch.cat([corner, corner + sides], dim=1).float()


def _box(sides):
    corner = st.integers(0, 24)
    return st.tuples(corner, corner, sides, sides).map(
        lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    )


def _boxes(sides, min_size, max_size):
    return st.lists(_box(sides), min_size=min_size, max_size=max_size).map(
        lambda boxes: torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    )


def box_tensors(min_size=0, max_size=6):
    """Hypothesis strategy: `(N, 4)` boxes of whole numbers with an area."""
    return _boxes(st.integers(1, 24), min_size, max_size)


def any_box_tensors(min_size=0, max_size=6):
    """The same, and boxes without width or height among them."""
    return _boxes(st.integers(0, 24), min_size, max_size)
