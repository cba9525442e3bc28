"""graph.js against onnx's reference evaluator, operator by operator; planted faults."""

from importlib.resources import files

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the page is made through ONNX")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from rpn_lib.figures.live import kernel, operators  # noqa: E402

FOLDER = files("rpn_lib.figures")
SOURCE = FOLDER.joinpath("graph.js").read_text("utf-8")
KERNEL_SOURCE = FOLDER.joinpath("conv.wat").read_text("utf-8")
NAMES = {"f": "float", "i": "int", "u": "int", "b": "bool"}


def floats(rng, *shape):
    """Half of them halves, with ties, so that rounding and order count."""
    values = rng.normal(0, 3, shape)
    whole = np.round(values * 2) / 2
    return np.where(rng.random(shape) < 0.5, whole, values).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def scalar(value, kind=np.float32):
    return np.array(value, kind)


def elementwise(rng):
    shapes = [
        ((3, 4), (3, 4)),
        ((2, 1, 4), (3, 1)),
        ((), (2, 3)),
        ((1, 3, 1), (2, 1, 2)),
    ]
    for first, second in shapes:
        x, y = floats(rng, *first), floats(rng, *second)
        y = np.where(y == 0, np.float32(1.5), y).astype(np.float32)
        whole = (np.round(x * 2).astype(np.int64), np.round(y).astype(np.int64))
        whole = (whole[0], np.where(whole[1] == 0, -2, whole[1]))
        for operator in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
            yield operator, [x, y], {}
            yield operator, [*whole], {}
        for operator in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
            yield operator, [np.round(x), np.round(y)], {}
            yield operator, [*whole], {}
        yield "And", [x > 0, y > 0], {}
        yield "Where", [x > 0, x + 1, y], {}
        yield "Where", [x > 0, *whole], {}
    yield "Div", [ints(7, -7, 7, -7, 1), ints(2, 2, -2, -2, 16)], {}
    yield "Max", [floats(rng, 3), floats(rng, 2, 1), floats(rng, 1)], {}
    x = floats(rng, 3, 5)
    for operator in ("Relu", "Exp", "Sigmoid", "HardSwish"):
        yield operator, [x], {}
    yield "Relu", [np.array([-np.inf, np.inf, -3e38, 3e38, -0.0], np.float32)], {}
    yield "HardSigmoid", [x], {}
    yield "HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.4}
    yield "Not", [x > 0], {}
    yield "Clip", [x, scalar(-1), scalar(2)], {}
    yield "Clip", [x, None, scalar(0.5)], {}
    yield "Clip", [x, scalar(0.5)], {}
    for to in (1, 7, 9):
        yield "Cast", [x], {"to": to}
        yield "Cast", [np.round(x).astype(np.int64)], {"to": to}
        yield "Cast", [x > 0], {"to": to}


def shapes(rng):
    x = floats(rng, 2, 3, 4)
    yield "Shape", [x], {}
    yield "Shape", [x], {"start": -2, "end": -1}
    yield "Shape", [x], {"start": 1}
    yield "Reshape", [x, ints(4, -1)], {}
    yield "Reshape", [x, ints(0, 12)], {}
    yield "Reshape", [x, ints(-1)], {"allowzero": 1}
    yield "Transpose", [x], {"perm": [2, 0, 1]}
    yield "Transpose", [x], {}
    yield "Unsqueeze", [x, ints(-1, 0)], {}
    yield "Unsqueeze", [x, ints(2)], {}
    yield "Squeeze", [x[:1, :, :1], ints(-1)], {}
    yield "Squeeze", [x[:1, :, :1]], {}
    yield "Expand", [x[:, :1], ints(2, 5, 1)], {}
    yield "Expand", [x[0], ints(2, 1, 4)], {}
    yield "Concat", [x, x[:, :1]], {"axis": 1}
    yield "Concat", [x, x[..., :2], x], {"axis": -1}
    yield "Slice", [x, ints(1), ints(2**62)], {}
    yield "Slice", [x, ints(-2, 0), ints(-1, 2), ints(-1, 1)], {}
    yield "Slice", [x, ints(-1, 0), ints(-100, 9), ints(2, 1), ints(-2, 2)], {}
    yield "Slice", [x, ints(2), ints(0), ints(2), ints(-1)], {}
    yield "Slice", [x, ints(3), ints(1), ints(2)], {}
    yield "Gather", [x, ints(-1, 0)], {"axis": 1}
    yield "Gather", [x, ints(1, 0, 1).reshape(3, 1)], {"axis": -1}
    yield "Gather", [x, scalar(1, np.int64)], {}
    for axis in (0, 1, 2):  # onnx refuses its own axis -1
        chosen = rng.integers(-2, 2, (*x.shape[:axis], 5, *x.shape[axis + 1 :]))
        yield "GatherElements", [x, chosen], {"axis": axis}
    yield "GatherND", [x, ints(0, -1, 1, 2).reshape(2, 2)], {}
    yield "GatherND", [x, ints(1, 0, -1).reshape(3, 1)], {}
    yield "Range", [scalar(0), scalar(5), scalar(1)], {}
    yield "Range", [scalar(1), scalar(4.1), scalar(0.5)], {}
    yield "Range", [scalar(6, np.int64), scalar(-1, np.int64), scalar(-3, np.int64)], {}
    yield "NonZero", [np.round(x)], {}
    yield "NonZero", [x[0, 0] > 0], {}


def reductions(rng):
    x = floats(rng, 2, 3, 4)
    for operator in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean"):
        yield operator, [x, ints(-1)], {"keepdims": 0}
        yield operator, [x, ints(0, 2)], {}
        yield operator, [x], {}
        yield operator, [x], {"noop_with_empty_axes": 1}
    whole = np.round(x).astype(np.int64)
    yield "ReduceMax", [whole, ints(1)], {"keepdims": 0}
    for axis in (0, -1):
        for last in (0, 1):
            yield "ArgMax", [whole], {"axis": axis, "select_last_index": last}
        yield "ArgMax", [whole], {"axis": axis, "keepdims": 0}
        for largest in (0, 1):
            yield "TopK", [x, ints(2)], {"axis": axis, "largest": largest}
    for axis in (0, -2):
        for more in ({}, {"exclusive": 1}, {"reverse": 1}):
            yield "CumSum", [whole, scalar(axis, np.int64)], more
    yield "CumSum", [x, scalar(-1, np.int64)], {"exclusive": 1, "reverse": 1}
    yield "TopK", [np.round(floats(rng, 30) / 3), ints(17)], {"axis": -1}


def layers(rng):
    for attributes in (
        {},
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"pads": [0, 1, 2, 1], "strides": [1, 2], "dilations": [2, 1]},
    ):
        x = floats(rng, 2, 3, 7, 9)
        for filters in (1, 3, 4, 6):
            yield "Conv", [x, floats(rng, filters, 3, 3, 2)], attributes
        yield "Conv", [x, floats(rng, 5, 3, 1, 3), floats(rng, 5)], attributes
        y = floats(rng, 1, 6, 8, 7)
        yield (
            "Conv",
            [y, floats(rng, 6, 1, 3, 3), floats(rng, 6)],
            {**attributes, "group": 6},
        )
        yield "Conv", [y, floats(rng, 12, 2, 3, 3)], {**attributes, "group": 3}
    # More weights than 64 KiB hold, a page of WebAssembly's memory; then few again.
    for filters, side in ((41, 3), (3, 2), (70, 4)):
        x = floats(rng, 1, 64, side, side + 1)
        w = floats(rng, filters, 64, 2, 2) / np.float32(64)  # so that sums stay small
        yield "Conv", [x, w, floats(rng, filters)], {}
    x = floats(rng, 2, 3, 4, 5)
    positive = np.abs(floats(rng, 3)) + np.float32(0.2)
    parts = [x, floats(rng, 3), floats(rng, 3), floats(rng, 3), positive]
    yield "BatchNormalization", parts, {}
    yield "BatchNormalization", parts, {"epsilon": 0.1}
    x = floats(rng, 1, 2, 7, 8) - np.float32(9)
    yield (
        "MaxPool",
        [x],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    )
    yield "MaxPool", [x], {"kernel_shape": [1, 1], "strides": [2, 2]}
    yield "MaxPool", [x], {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}
    late = {"kernel_shape": [2, 2], "strides": [4, 4], "pads": [0, 0, 1, 1]}
    yield "MaxPool", [x], {**late, "ceil_mode": 1}  # a window in the padding alone
    nearest = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    yield "Resize", [x, None, None, ints(1, 2, 13, 17)], nearest
    yield "Resize", [x, None, np.array([1, 1, 2, 1.5], np.float32)], nearest


def suppression(rng):
    for n, threshold in ((40, 0.5), (40, 0.1), (12, 0.0)):
        corner = rng.uniform(0, 30, (1, n, 2)).round()
        boxes = np.concatenate([corner, corner + rng.integers(2, 30, (1, n, 2))], -1)
        boxes[0, 3] = boxes[0, 4]  # twice the same
        flipped = boxes[..., [2, 3, 0, 1]]
        scores = rng.uniform(0, 1, (1, 2, n)).round(1)
        for corners in (boxes, flipped):
            inputs = [corners.astype(np.float32), scores.astype(np.float32)]
            for most in (100, 3):
                for least in (None, 0.3):
                    more = [ints(most), np.array([threshold], np.float32)]
                    if least is not None:
                        more.append(np.array([least], np.float32))
                    yield "NonMaxSuppression", [*inputs, *more], {}
    # An IoU that is exactly the threshold suppresses nothing: 1/2 here.
    boxes = np.array([[[0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 1.01]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7]]], np.float32)
    yield "NonMaxSuppression", [boxes, scores, ints(9), np.array([0.5], np.float32)], {}


def cases():
    rng = np.random.default_rng(0)
    made = (elementwise, shapes, reductions, layers, suppression)
    return [case for make in made for case in make(rng)]


def reference(operator, inputs, attributes):
    names = [f"x{n}" if x is not None else "" for n, x in enumerate(inputs)]
    outputs = ["y0", "y1"] if operator == "TopK" else ["y0"]
    node = onnx.helper.make_node(operator, names, outputs, **attributes)
    given = {name: x for name, x in zip(names, inputs) if name}
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
            )
            for name, x in given.items()
        ],
        [onnx.helper.make_tensor_value_info(name, 0, None) for name in outputs],
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opset)).run(
        None, given
    )


def tensor(x):
    return (
        x if x is None else [NAMES[x.dtype.kind], list(x.shape), x.flatten().tolist()]
    )


# All cases in one call; an operator that throws gives its message. Of the kernel it is
# counted how often it multiplies, for without it the numbers are right, too.
RUN = """([source, kernel]) => {
    const { Instance } = WebAssembly;
    let products = 0;
    WebAssembly.Instance = function (module) {
        const { memory, multiply } = new Instance(module).exports;
        const counted = (...given) => { products++; multiply(...given); };
        return { exports: { memory, multiply: counted } };
    };
    const bytes = kernel && Uint8Array.from(atob(kernel), (c) => c.charCodeAt(0));
    const { operators } = new Function(source + '\\nreturn rpnGraph;')()(bytes);
    WebAssembly.Instance = Instance;
    const arrays = { float: Float32Array, int: Float64Array, bool: Uint8Array };
    const read = (x) => x && {
        type: x[0], shape: x[1], data: arrays[x[0]].from(x[2], Number) };
    const found = window.cases.map(([name, inputs, attributes]) => {
        try {
            const given = inputs.map((x) => read(x) ?? undefined);
            return [operators[name](given, attributes)].flat()
                .map(({ type, shape, data }) => [type, shape, Array.from(data)]);
        } catch (error) { return String(error); }
    });
    return [found, products];
}"""


def differ(found, expected):
    """Why the outputs differ, or nothing."""
    if isinstance(found, str):
        return found
    for (kind, shape, numbers), right in zip(found, expected):
        if (kind, tuple(shape)) != (NAMES[right.dtype.kind], right.shape):
            return f"{kind} {shape}, not {right.dtype} {right.shape}"
        if right.dtype.kind == "f":
            if not np.allclose(numbers, right.flatten(), rtol=1e-5, atol=1e-5):
                return f"{numbers}, not {right.flatten()}"
        elif numbers != right.flatten().astype(float).tolist():
            return f"{numbers}, not {right.flatten()}"
    return ""


@pytest.fixture(scope="module")
def compare(browser):
    """What is wrong with a script: the operator and why, case by case.

    Without a kernel the script computes convolutions itself.
    """
    page = browser.new_page()
    all_cases = cases()
    given = [[name, [tensor(x) for x in xs], more] for name, xs, more in all_cases]
    page.evaluate("cases => { window.cases = cases; }", given)
    expected = [reference(*case) for case in all_cases]

    def wrong(source, kernel=None):
        found, products = page.evaluate(RUN, [source, kernel])
        assert (products > 0) == (kernel is not None)
        reasons = zip(all_cases, map(differ, found, expected))
        return [(name, more, why) for (name, _, more), why in reasons if why]

    yield wrong
    page.close()


def test_every_operator_is_tested():
    assert {name for name, _, _ in cases()} == operators()


@pytest.mark.parametrize("code", [None, kernel()], ids=["plain", "kernel"])
def test_operators_are_those_of_the_reference(compare, code):
    assert compare(SOURCE, code) == []


FAULTS = [
    ("x >= y", "x > y"),
    ("Greater: pairs((x, y) => x > y", "Greater: pairs((x, y) => x >= y"),
    ("Less: pairs((x, y) => x < y", "Less: pairs((x, y) => x <= y"),
    ("(x, y) => Math.trunc(x / y)", "(x, y) => Math.floor(x / y)"),
    ("int: each(Math.trunc", "int: each(Math.round"),
    ("int: each(Math.trunc", "int: each(Math.floor"),
    ("overlap(m, n) > threshold", "overlap(m, n) >= threshold"),
    ("score[n] - score[m] || m - n", "score[n] - score[m] || n - m"),
    ("score[n] > least.data[0]", "score[n] >= least.data[0]"),
    ("kept.length >= limit", "kept.length > limit"),
    ("line[j] - line[i] || i - j", "line[j] - line[i] || j - i"),
    ("!(line[i] < least)", "!(line[i] <= least)"),
    ("largest ? 1 : -1", "largest ? 1 : 1"),
    ("x <= y", "x < y"),
    ("exclusive ? sum :", "exclusive ? x.data[n] :"),
    ("value > most ||", "value >= most ||"),
    ("axis < 0 ? axis + rank : axis", "axis < 0 ? axis + rank - 1 : axis"),
    ("i < missing || tensor.shape", "i <= missing || tensor.shape"),
    ("end + pads[2 + i]", "end + pads[i]"),
    (">= ends[i] ? side - 1", "> ends[i] ? side - 1"),
    ("dilations[0] * wide, dilations[1]]", "wide, dilations[1]]"),
    ("+ row + pads[0]) * wide", "+ row + pads[2]) * wide"),
    ("wide + pads[1]", "wide + pads[0]"),
    ("step[0] * wide, step[1]]", "step[1] * wide, step[1]]"),
    ("(side - 1) * step[i] + reach[i])", "0)"),
    ("plane < planes; plane++) for", "plane < 1; plane++) for"),
    ("start + width)", "start + width - 1)"),
    ("bias ? bias.data[filter] : 0", "0"),
    ("+ part * depth, 0)", "+ part, 0)"),
    ("padded(x.data, plane, -Infinity)", "padded(x.data, plane, 0)"),
    ("variance.data[c] + epsilon", "variance.data[c]"),
    ("most = -Infinity", "most = 0"),
    ("finish(value, inner.length)", "finish(value, inner.length + 1)"),
    ("if (!chosen.length && noop) return x;", ""),
    ("step < 0 ? side - 1 : side, place", "step < 0 ? side - 2 : side, place"),
    ("place < 0 ? place + side : place", "place"),
    ("side || allowzero ? side : x.shape[i]", "side"),
    ("all[n - size] + steps[i]", "all[n - size] + steps[0]"),
    ("fill(start, 0, 1)", "fill(0, 0, 1)"),
    ("steps.at(-1) ?? 0", "1"),
    ("i += right, j += along", "i += along, j += right"),
    ("[i, j] = [first[row], second[row]]", "[i, j] = [first[row], first[row]]"),
    ("k += down", "k += right"),
    ("shape.slice(0, -1), steps.slice(0, -1)", "shape.slice(0, -1), steps.slice(1)"),
    ("from(index, x.shape[at])) * step", "index) * step"),
    ("Math.floor(n / factor)", "Math.round(n / factor)"),
    ("Math.max(0, Math.min(1, alpha * x + beta))", "Math.min(1, alpha * x + beta)"),
    ("low?.data[0] ?? -Infinity", "low?.data[0] ?? 0"),
    ("x === -Infinity ? 0 : ", ""),
    ("Math.min(a, c), Math.min(b, d)", "a, b"),
    ("% side));", "% steps[i]));"),
    ("sums[f + 3] = sumD", "sums[f + 3] = sumC"),
]


@pytest.mark.parametrize(("right", "wrong"), FAULTS)
def test_a_planted_fault_is_noticed(compare, right, wrong):
    assert right in SOURCE
    assert compare(SOURCE.replace(right, wrong, 1)) != []


# The kernel

# What is at work only, or differently, where convolutions are left to the kernel.
GRAPH_FAULTS = [
    ("Math.min(lanes, cells - n)", "lanes"),  # a last panel that is not full
    ("lane < some; lane++) {\n", "lane < some - 1; lane++) {\n"),
    ("patches[t + lane]", "patches[t]"),
    ("starts[n + lane]", "starts[n]"),
    ("t += lanes) {", "t++) {"),
    ("sums[f * lanes + lane]", "sums[f * lanes]"),
    ("const more = bias ? bias.data[filter] : 0", "const more = 0"),
    ("part * size, (part", "0, (part"),
    ("4 * Math.ceil(filters / 4)", "4 * Math.floor(filters / 4)"),
    ("lanes * (taps + many)]", "lanes * (taps + filters)]"),
    ("if (missing > 0) memory.grow", "if (missing < 0) memory.grow"),
    ("(f >> 2) * taps", "(f >> 2)"),
    ("(f & 3)", "(f & 1)"),
]
KERNEL_FAULTS = [
    ("v128.load offset=16", "v128.load offset=12"),
    ("load32_splat offset=8", "load32_splat offset=4"),
    ("store offset=48", "store offset=32"),
    ("$A (f32x4.add (local.get $A)", "$A (f32x4.add (local.get $a)"),
    ("$patch) (i32.const 32)", "$patch) (i32.const 16)"),
    ("$weight) (i32.const 16)", "$weight) (i32.const 4)"),
    ("$sum) (i32.const 128)", "$sum) (i32.const 64)"),
    ("(local.set $patch (i32.const 0))", ""),
    ("(local.set $D (local.get $a))", ""),
    ("(br_if $next_tap", "(drop"),
    ("(br_if $next_filters", "(drop"),
]


@pytest.mark.parametrize(("right", "wrong"), GRAPH_FAULTS)
def test_a_fault_in_feeding_the_kernel_is_noticed(compare, right, wrong):
    assert right in SOURCE
    assert compare(SOURCE.replace(right, wrong, 1), kernel()) != []


@pytest.mark.parametrize(("right", "wrong"), KERNEL_FAULTS)
def test_a_fault_in_the_kernel_is_noticed(compare, right, wrong):
    pytest.importorskip("wasmtime", reason="assembles the kernel")
    from assemble import assemble

    assert right in KERNEL_SOURCE
    code = assemble(KERNEL_SOURCE.replace(right, wrong, 1))
    assert compare(SOURCE, code) != []


@pytest.mark.parametrize(
    "missing",
    ["delete globalThis.WebAssembly", "WebAssembly.Module = () => { throw 0; }", ""],
    ids=["WebAssembly", "SIMD", "a whole kernel"],
)
def test_what_is_missing_is_done_without(page, missing):
    code = kernel() if missing else kernel()[:40]
    found = page.evaluate(
        """([missing, code]) => {
            const { WebAssembly } = globalThis;
            const { Module } = WebAssembly;
            new Function(missing)();
            const bytes = Uint8Array.from(atob(code), (c) => c.charCodeAt(0));
            const { Conv } = rpnGraph(bytes).operators;
            globalThis.WebAssembly = Object.assign(WebAssembly, { Module });
            const row = (...numbers) => ({ type: 'float',
                shape: [1, 1, 1, numbers.length], data: Float32Array.from(numbers) });
            return Array.from(Conv([row(1, 2, 3), row(10, 100)], {}).data);
        }""",
        [missing, code],
    )
    assert found == [210, 320]


def test_a_page_that_forbids_functions_made_of_text(browser):
    page = browser.new_page()
    # (What Playwright evaluates is excepted: hence a script of the page.)
    page.set_content(
        f"""<meta http-equiv="Content-Security-Policy"
            content="script-src 'unsafe-inline'"><script>{SOURCE}
            const row = (...numbers) => ({{ type: 'float',
                shape: [1, 1, 1, numbers.length], data: Float32Array.from(numbers) }});
            const bytes = Uint8Array.from(atob('{kernel()}'), (c) => c.charCodeAt(0));
            const {{ Add, Conv }} = rpnGraph(bytes).operators;
            window.found = [Add([row(1, 2), row(10)]), Conv([row(1, 2), row(3)], {{}})]
                .map(({{ data }}) => Array.from(data));
            try {{ new Function(''); }}
            catch ({{ name }}) {{ window.found.push(name); }}
            </script>"""
    )
    assert page.evaluate("window.found") == [[11, 12], [3, 6], "EvalError"]
    page.close()


# The way through a graph


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.add_script_tag(content=SOURCE)
    yield page
    page.close()


def test_halves_are_unpacked_exactly(page):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    found = page.evaluate(
        """([bytes, shape]) => {
            const graph = { nodes: [], constants: { w: ['half', shape, 0] } };
            const { run } = rpnGraph().load(graph, Uint8Array.from(bytes).buffer);
            return Array.from(run({}, ['w']).w.data);
        }""",
        [list(halves.tobytes()), [len(halves)]],
    )
    assert found == halves.astype(np.float64).tolist()


def test_only_what_is_asked_for_is_computed(page):
    found = page.evaluate(
        """() => {
            const one = (value) => (
                { type: 'float', shape: [], data: Float32Array.of(value) });
            const graph = rpnGraph().load({
                constants: { two: ['float', [], [2]] },
                nodes: [
                    ['Mul', ['x', 'two'], ['a'], {}],
                    ['Add', ['a', 't'], ['b'], {}],
                    ['Conv', ['missing', 'two'], ['c'], {}],
                    ['Mul', ['b', 'a'], ['d'], {}]]
            }, new ArrayBuffer(0));
            const { a, d } = graph.run({ x: one(3), t: one(4) }, ['a', 'd']);
            const later = graph.run({ a, t: one(5) }, ['d']).d;
            return [a.data[0], d.data[0], later.data[0], graph.besides('t')];
        }"""
    )
    assert found == [6, 60, 66, ["a"]]


def test_an_unknown_operator_is_named(page):
    message = page.evaluate(
        """() => { try {
            rpnGraph().load({ nodes: [['LSTM', [], [], {}]], constants: {} });
        } catch (error) { return error.message; } }"""
    )
    assert message == "The operator LSTM is not known."
