// Executes a graph of standard ONNX operators (opset 20) on plain arrays. It knows nothing
// of detection: what is computed, and in which order, stands in the graph alone.
//
// A tensor is { type, shape, data }. int64 numbers are kept as doubles, exact up to 2 ** 53.
// The whole script is one function, so that its text can be given to a worker. `kernel` is
// what conv.wat was assembled to, bytes; without it convolutions are computed here as well.
function rpnGraph(kernel) {
  'use strict';
  const ARRAYS = { float: Float32Array, int: Float64Array, bool: Uint8Array };
  const TYPES = { 1: 'float', 6: 'int', 7: 'int', 9: 'bool' }; // ONNX's numbers of them

  const volume = (shape) => shape.reduce((a, b) => a * b, 1);
  const fill = (type, shape) => ({ type, shape, data: new ARRAYS[type](volume(shape)) });
  const as = (type, shape, data) => ({ type, shape, data: ARRAYS[type].from(data) });
  const list = (tensor) => Array.from(tensor.data);
  const from = (axis, rank) => (axis < 0 ? axis + rank : axis); // -1 is the last axis

  // How many elements further the next one along each axis is.
  function strides(shape) {
    const steps = shape.map(() => 1);
    for (let i = shape.length - 2; i >= 0; i--) steps[i] = steps[i + 1] * shape[i + 1];
    return steps;
  }

  // Places of all elements of `shape`, row by row, where axis i has `steps[i]`. Slicing,
  // transposing and broadcasting are the same walk with other steps.
  function places(shape, steps, start = 0) {
    const all = new Int32Array(volume(shape));
    const index = shape.map(() => 0);
    for (let n = 0, at = start; n < all.length; n++) {
      all[n] = at;
      for (let i = shape.length - 1; i >= 0; i--) {
        at += steps[i];
        if (++index[i] < shape[i]) break;
        at -= steps[i] * shape[i];
        index[i] = 0;
      }
    }
    return all;
  }

  const pick = ({ type, data }, shape, where) => {
    const out = fill(type, shape);
    for (let n = 0; n < where.length; n++) out.data[n] = data[where[n]];
    return out;
  };

  function common(shapes) { // the shape that all of them are broadcast to
    const rank = Math.max(...shapes.map((shape) => shape.length));
    const shape = Array(rank).fill(1);
    for (const one of shapes) {
      one.forEach((side, i) => {
        const axis = rank - one.length + i;
        if (side !== 1 && shape[axis] !== 1 && side !== shape[axis]) {
          throw new Error(`Shapes ${shapes.join(' and ')} do not fit together.`);
        }
        if (side !== 1) shape[axis] = side;
      });
    }
    return shape;
  }

  function spread(tensor, shape) { // places of its elements once it has that shape
    const missing = shape.length - tensor.shape.length;
    const steps = strides(tensor.shape);
    return places(shape, shape.map((_, i) => (
      i < missing || tensor.shape[i - missing] === 1 ? 0 : steps[i - missing])));
  }

  const each = (f, type) => ([x], attributes) => { // an operator on every element
    const out = fill(type ?? x.type, x.shape);
    for (let n = 0; n < out.data.length; n++) out.data[n] = f(x.data[n], attributes);
    return out;
  };

  const pairs = (f, type) => (tensors) => tensors.reduce((x, y) => {
    const shape = common([x.shape, y.shape]);
    const out = fill(type ?? x.type, shape);
    const [first, second] = [spread(x, shape), spread(y, shape)];
    const g = typeof f === 'function' ? f : f[x.type];
    for (let n = 0; n < out.data.length; n++) {
      out.data[n] = g(x.data[first[n]], y.data[second[n]]);
    }
    return out;
  });

  const reduce = (f, start, finish = (sum) => sum) => ([x, axes], attributes) => {
    const { keepdims = 1, noop_with_empty_axes: noop = 0 } = attributes;
    const rank = x.shape.length;
    let chosen = axes ? list(axes).map((axis) => from(axis, rank)) : [];
    if (!chosen.length && noop) return x;
    if (!chosen.length) chosen = x.shape.map((_, i) => i);
    const is = (i) => chosen.includes(i);
    const steps = strides(x.shape);
    const inner = places(x.shape.filter((_, i) => is(i)), steps.filter((_, i) => is(i)));
    const outer = places(
      x.shape.filter((_, i) => !is(i)), steps.filter((_, i) => !is(i)));
    const shape = x.shape.map((side, i) => (is(i) ? 1 : side));
    const out = fill(x.type, keepdims ? shape : shape.filter((_, i) => !is(i)));
    outer.forEach((at, n) => {
      let value = start;
      for (let i = 0; i < inner.length; i++) value = f(value, x.data[at + inner[i]]);
      out.data[n] = finish(value, inner.length);
    });
    return out;
  };

  // Sizes of what a window that slides over (rows, columns) leaves, and its settings.
  function sliding(shape, kernel, attributes) {
    const { strides: step = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1] } = attributes;
    if ((attributes.auto_pad ?? 'NOTSET') !== 'NOTSET') throw new Error('auto_pad');
    const round = attributes.ceil_mode ? Math.ceil : Math.floor;
    const sides = [0, 1].map((i) => {
      const reach = dilations[i] * (kernel[i] - 1) + 1;
      let side = round((shape[2 + i] + pads[i] + pads[2 + i] - reach) / step[i]) + 1;
      // A window that would begin in the padding at the end is left out.
      if (attributes.ceil_mode && (side - 1) * step[i] >= shape[2 + i] + pads[i]) side--;
      return side;
    });
    return { step, pads, dilations, sides };
  }

  // The products of a patch with up to four filters, four at a time: nearly all of the time
  // of a network is spent here, where there is no kernel.
  function dots(patch, w, f, filters, sums) {
    const taps = patch.length;
    const a = f * taps;
    if (filters - f < 4) {
      for (let s = f; s < filters; s++) {
        let sum = 0;
        for (let k = 0; k < taps; k++) sum += patch[k] * w[s * taps + k];
        sums[s] = sum;
      }
      return;
    }
    const b = a + taps;
    const c = b + taps;
    const d = c + taps;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    for (let k = 0; k < taps; k++) {
      const value = patch[k];
      sumA += value * w[a + k];
      sumB += value * w[b + k];
      sumC += value * w[c + k];
      sumD += value * w[d + k];
    }
    sums[f] = sumA;
    sums[f + 1] = sumB;
    sums[f + 2] = sumC;
    sums[f + 3] = sumD;
  }

  // Two ways to multiply patches with filters, `weights` row by row. Each has a place for
  // `lanes` patches side by side (tap by tap) and for their sums (filter by filter).
  const plain = {
    lanes: 1,
    prepare(weights, filters, taps) {
      const w = Float64Array.from(weights);
      const patches = new Float64Array(taps);
      const sums = new Float64Array(filters);
      const multiply = () => {
        for (let f = 0; f < filters; f += 4) dots(patches, w, f, filters, sums);
      };
      return { patches, sums, multiply };
    }
  };

  function withKernel({ memory, multiply }) {
    const lanes = 8;
    function prepare(weights, filters, taps) {
      const many = 4 * Math.ceil(filters / 4);
      const [sums, start] = [lanes * taps, lanes * (taps + many)]; // conv.wat's parts
      const missing = 4 * (start + many * taps) - memory.buffer.byteLength;
      if (missing > 0) memory.grow(Math.ceil(missing / 65536)); // kept for the next ones
      const numbers = new Float32Array(memory.buffer, 0, start + many * taps).fill(0);
      for (let f = 0, n = 0; f < filters; f++) for (let k = 0; k < taps; k++, n++) {
        numbers[start + ((f >> 2) * taps + k) * 4 + (f & 3)] = weights[n];
      }
      return {
        patches: numbers.subarray(0, sums),
        sums: numbers.subarray(sums, start),
        multiply: () => multiply(taps, many)
      };
    }
    return { lanes, prepare };
  }

  // The kernel, or the plain way where a browser lacks WebAssembly or its SIMD.
  function fastest() {
    try {
      return withKernel(new WebAssembly.Instance(new WebAssembly.Module(kernel)).exports);
    } catch {
      return plain;
    }
  }
  const way = kernel ? fastest() : plain;

  function Conv([x, weight, bias], attributes) {
    const [batch, channels, height, width] = x.shape;
    const [filters, depth, high, wide] = weight.shape;
    const { step, pads, dilations, sides } = sliding(x.shape, [high, wide], attributes);
    const [rows, columns] = sides;
    const cells = rows * columns;
    const group = attributes.group ?? 1;
    const each = filters / group;
    const taps = depth * high * wide;
    const { lanes } = way;
    const out = fill('float', [batch, filters, rows, columns]);
    for (let block = 0; block < batch * group; block++) {
      const image = Math.floor(block / group);
      const part = block % group;
      const input = (image * channels + part * depth) * height * width;
      const own = weight.data.subarray(part * each * taps, (part + 1) * each * taps);
      const { patches, sums, multiply } = way.prepare(own, each, taps);
      for (let n = 0; n < cells; n += lanes) {
        const some = Math.min(lanes, cells - n);
        for (let lane = 0; lane < some; lane++) { // what the window lies on
          const r = Math.floor((n + lane) / columns);
          const c = (n + lane) % columns;
          let t = lane;
          for (let d = 0; d < depth; d++) for (let i = 0; i < high; i++) {
            const row = r * step[0] - pads[0] + i * dilations[0];
            const line = input + (d * height + row) * width;
            let column = c * step[1] - pads[1];
            for (let j = 0; j < wide; j++, column += dilations[1], t += lanes) {
              const inside = row >= 0 && row < height && column >= 0 && column < width;
              patches[t] = inside ? x.data[line + column] : 0;
            }
          }
        }
        multiply();
        for (let f = 0; f < each; f++) {
          const filter = part * each + f;
          const at = (image * filters + filter) * cells + n;
          const more = bias ? bias.data[filter] : 0;
          for (let lane = 0; lane < some; lane++) out.data[at + lane] = sums[f * lanes + lane] + more;
        }
      }
    }
    return out;
  }

  function MaxPool([x], attributes) {
    const { kernel_shape: [high, wide] } = attributes;
    const [batch, channels, height, width] = x.shape;
    const { step, pads, dilations, sides } = sliding(x.shape, [high, wide], attributes);
    const out = fill('float', [batch, channels, ...sides]).data.fill(-Infinity);
    let n = 0;
    for (let plane = 0; plane < batch * channels; plane++) {
      for (let r = 0; r < sides[0]; r++) for (let c = 0; c < sides[1]; c++, n++) {
        for (let i = 0; i < high; i++) for (let j = 0; j < wide; j++) {
          const row = r * step[0] - pads[0] + i * dilations[0];
          const column = c * step[1] - pads[1] + j * dilations[1];
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          out[n] = Math.max(out[n], x.data[(plane * height + row) * width + column]);
        }
      }
    }
    return { type: 'float', shape: [batch, channels, ...sides], data: out };
  }

  function BatchNormalization([x, scale, bias, mean, variance], { epsilon = 1e-5 }) {
    const out = fill('float', x.shape);
    const size = volume(x.shape.slice(2));
    for (let plane = 0; plane * size < out.data.length; plane++) {
      const c = plane % x.shape[1];
      const factor = scale.data[c] / Math.sqrt(variance.data[c] + epsilon);
      const [middle, more] = [mean.data[c], bias.data[c]];
      for (let n = plane * size; n < (plane + 1) * size; n++) {
        out.data[n] = (x.data[n] - middle) * factor + more;
      }
    }
    return out;
  }

  function Relu([x]) { // not by `each`: a call for every number would take most of the time
    const out = fill(x.type, x.shape);
    for (let n = 0; n < out.data.length; n++) out.data[n] = Math.max(x.data[n], 0);
    return out;
  }

  function Resize([x, , scales, sizes], attributes) { // the nearest pixel, nothing else
    const { mode = 'nearest', nearest_mode: nearest = 'round_prefer_floor',
      coordinate_transformation_mode: where = 'half_pixel' } = attributes;
    if (mode !== 'nearest' || nearest !== 'floor' || where !== 'asymmetric') {
      throw new Error(`Resize with ${mode}, ${nearest}, ${where}`);
    }
    const given = scales?.data.length ? scales.data : null;
    const shape = x.shape.map((side, i) => (
      given ? Math.floor(side * given[i]) : sizes.data[i]));
    const steps = strides(x.shape);
    let all = new Int32Array(1);
    shape.forEach((side, i) => { // the places along one axis more
      const factor = given ? given[i] : side / x.shape[i];
      const along = Array.from({ length: side }, (_, n) => (
        Math.min(Math.floor(n / factor), x.shape[i] - 1) * steps[i]));
      all = Int32Array.from(Array.from(all).flatMap((at) => along.map((one) => at + one)));
    });
    return pick(x, shape, all);
  }

  function NonMaxSuppression([boxes, scores, most, iou, least], attributes) {
    if (attributes.center_point_box) throw new Error('center_point_box');
    const round = Math.fround; // as in single precision: borderline cases are decided alike
    const [batch, classes, count] = scores.shape;
    const limit = most?.data[0] ?? 0;
    const threshold = iou?.data[0] ?? 0;
    const chosen = [];
    for (let kind = 0; kind < batch * classes; kind++) {
      const image = Math.floor(kind / classes);
      const score = scores.data.subarray(kind * count, (kind + 1) * count);
      const [low, high, area] = [[], [], []];
      for (let n = 0; n < count; n++) {
        const [a, b, c, d] = boxes.data.subarray((image * count + n) * 4);
        low.push([Math.min(a, c), Math.min(b, d)]);
        high.push([Math.max(a, c), Math.max(b, d)]);
        area.push(round(round(high[n][0] - low[n][0]) * round(high[n][1] - low[n][1])));
      }
      const overlap = (m, n) => {
        const [down, across] = [0, 1].map((i) => Math.max(0, round(
          Math.min(high[m][i], high[n][i]) - Math.max(low[m][i], low[n][i]))));
        const both = round(down * across);
        return both > 0 ? round(both / round(round(area[m] + area[n]) - both)) : 0;
      };
      const order = Array.from(score.keys()).sort((m, n) => score[n] - score[m] || m - n);
      const kept = [];
      for (const n of order) {
        if (kept.length >= limit) break;
        if (least && !(score[n] > least.data[0])) continue;
        if (kept.every((m) => !(overlap(m, n) > threshold))) kept.push(n);
      }
      for (const n of kept) chosen.push(image, kind % classes, n);
    }
    return as('int', [chosen.length / 3, 3], chosen);
  }

  function TopK([x, many], { axis = -1, largest = 1 }) {
    const at = from(axis, x.shape.length);
    const k = many.data[0];
    const shape = x.shape.map((side, i) => (i === at ? k : side));
    const [values, indices] = [fill(x.type, shape), fill('int', shape)];
    const step = volume(x.shape.slice(at + 1));
    const length = x.shape[at];
    for (let line = 0; line < volume(x.shape) / length; line++) {
      const [block, rest] = [Math.floor(line / step), line % step];
      const value = (n) => x.data[(block * length + n) * step + rest];
      const sign = largest ? 1 : -1; // of equal ones the first comes first
      const order = Array.from({ length }, (_, n) => n)
        .sort((m, n) => sign * (value(n) - value(m)) || m - n);
      for (let n = 0; n < k; n++) {
        values.data[(block * k + n) * step + rest] = value(order[n]);
        indices.data[(block * k + n) * step + rest] = order[n];
      }
    }
    return [values, indices];
  }

  function ArgMax([x], { axis = 0, keepdims = 1, select_last_index: last = 0 }) {
    const at = from(axis, x.shape.length);
    const step = volume(x.shape.slice(at + 1));
    const shape = x.shape.map((side, i) => (i === at ? 1 : side));
    const out = fill('int', keepdims ? shape : shape.filter((_, i) => i !== at));
    for (let n = 0; n < out.data.length; n++) {
      const start = Math.floor(n / step) * step * x.shape[at] + (n % step);
      let best = 0;
      for (let i = 1; i < x.shape[at]; i++) {
        const [value, most] = [x.data[start + i * step], x.data[start + best * step]];
        if (value > most || (last && value === most)) best = i;
      }
      out.data[n] = best;
    }
    return out;
  }

  function CumSum([x, axis], { exclusive = 0, reverse = 0 }) {
    const at = from(axis.data[0], x.shape.length);
    const [step, side] = [volume(x.shape.slice(at + 1)), x.shape[at]];
    const out = fill(x.type, x.shape);
    for (let line = 0; line < x.data.length / side; line++) {
      const start = Math.floor(line / step) * step * side + (line % step);
      let sum = 0;
      for (let i = 0; i < side; i++) {
        const n = start + (reverse ? side - 1 - i : i) * step;
        out.data[n] = exclusive ? sum : sum + x.data[n];
        sum += x.data[n];
      }
    }
    return out;
  }

  function Slice([x, starts, ends, axes, steps]) {
    const shape = x.shape.slice();
    const stride = strides(x.shape);
    let start = 0;
    list(starts).forEach((_, i) => {
      const axis = axes ? from(axes.data[i], shape.length) : i;
      const step = steps ? steps.data[i] : 1;
      const side = x.shape[axis];
      const cut = (place) => Math.max(step < 0 ? -1 : 0,
        Math.min(step < 0 ? side - 1 : side, place < 0 ? place + side : place));
      const first = Math.max(cut(starts.data[i]), 0);
      shape[axis] = Math.max(0, Math.ceil((cut(ends.data[i]) - first) / step));
      start += first * stride[axis];
      stride[axis] *= step;
    });
    return pick(x, shape, places(shape, stride, start));
  }

  function Concat(tensors, { axis }) {
    const at = from(axis, tensors[0].shape.length);
    const shape = tensors[0].shape.slice();
    shape[at] = tensors.reduce((sum, x) => sum + x.shape[at], 0);
    const out = fill(tensors[0].type, shape);
    let start = 0;
    for (const { data, shape: own } of tensors) {
      const length = volume(own.slice(at));
      for (let n = 0; n * length < data.length; n++) {
        out.data.set(data.subarray(n * length, (n + 1) * length),
          n * volume(shape.slice(at)) + start);
      }
      start += length;
    }
    return out;
  }

  function Gather([x, indices], { axis = 0 }) {
    const at = from(axis, x.shape.length);
    const step = volume(x.shape.slice(at + 1));
    const shape = [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)];
    const where = [];
    for (let block = 0; block < volume(x.shape.slice(0, at)); block++) {
      for (const index of indices.data) {
        const start = (block * x.shape[at] + from(index, x.shape[at])) * step;
        for (let n = 0; n < step; n++) where.push(start + n);
      }
    }
    return pick(x, shape, where);
  }

  function GatherND([x, indices], { batch_dims: batch = 0 }) {
    if (batch) throw new Error('batch_dims');
    const depth = indices.shape[indices.shape.length - 1];
    const steps = strides(x.shape);
    const step = volume(x.shape.slice(depth));
    const where = [];
    for (let n = 0; n < indices.data.length; n += depth) {
      let start = 0;
      for (let i = 0; i < depth; i++) {
        start += from(indices.data[n + i], x.shape[i]) * steps[i];
      }
      for (let i = 0; i < step; i++) where.push(start + i);
    }
    return pick(x, [...indices.shape.slice(0, -1), ...x.shape.slice(depth)], where);
  }

  function Reshape([x, wanted], { allowzero = 0 }) {
    const shape = list(wanted).map((side, i) => (side || allowzero ? side : x.shape[i]));
    const rest = shape.indexOf(-1);
    if (rest >= 0) shape[rest] = x.data.length / -volume(shape);
    return { ...x, shape };
  }

  function Transpose([x], { perm = x.shape.map((_, i) => i).reverse() }) {
    const steps = strides(x.shape);
    const shape = perm.map((i) => x.shape[i]);
    return pick(x, shape, places(shape, perm.map((i) => steps[i])));
  }

  function Unsqueeze([x, axes]) {
    const shape = Array(x.shape.length + axes.data.length).fill(0);
    for (const axis of axes.data) shape[from(axis, shape.length)] = 1;
    const sides = x.shape.slice();
    return { ...x, shape: shape.map((side) => side || sides.shift()) };
  }

  function Squeeze([x, axes]) {
    const gone = axes && list(axes).map((axis) => from(axis, x.shape.length));
    return { ...x, shape: x.shape.filter((side, i) => (gone ? !gone.includes(i) : side !== 1)) };
  }

  function Expand([x, wanted]) {
    const shape = common([x.shape, list(wanted)]);
    return pick(x, shape, spread(x, shape));
  }

  function Where([condition, x, y]) {
    const shape = common([condition.shape, x.shape, y.shape]);
    const out = fill(x.type, shape);
    const [which, first, second] = [condition, x, y].map((tensor) => spread(tensor, shape));
    for (let n = 0; n < out.data.length; n++) {
      out.data[n] = condition.data[which[n]] ? x.data[first[n]] : y.data[second[n]];
    }
    return out;
  }

  function Range([start, limit, delta]) {
    const length = Math.max(0, Math.ceil((limit.data[0] - start.data[0]) / delta.data[0]));
    const numbers = Array.from({ length }, (_, n) => start.data[0] + n * delta.data[0]);
    return as(start.type, [length], numbers);
  }

  function NonZero([x]) { // one row for each axis
    const found = list(x).flatMap((value, n) => (value ? [n] : []));
    const steps = strides(x.shape);
    const rows = x.shape.flatMap((side, i) => found.map((n) => Math.floor(n / steps[i]) % side));
    return as('int', [x.shape.length, found.length], rows);
  }

  function Cast([x], { to }) {
    const type = TYPES[to];
    if (!type) throw new Error(`Cast to ONNX's type ${to}`);
    if (type === 'bool') return each((value) => value !== 0, type)([x]);
    return each(type === 'int' ? Math.trunc : (value) => value, type)([x]);
  }

  function Shape([x], { start = 0, end = x.shape.length }) {
    const part = x.shape.slice(start, end);
    return as('int', [part.length], part);
  }

  const OPERATORS = {
    Conv, MaxPool, BatchNormalization, Resize, NonMaxSuppression, TopK, ArgMax, CumSum, Slice,
    Concat, Gather, GatherND, Reshape, Transpose, Unsqueeze, Squeeze, Expand, Where, Range, NonZero,
    Cast, Shape, Relu,
    Add: pairs((x, y) => x + y),
    Sub: pairs((x, y) => x - y),
    Mul: pairs((x, y) => x * y),
    Div: pairs({ float: (x, y) => x / y, int: (x, y) => Math.trunc(x / y) }),
    Max: pairs(Math.max),
    Min: pairs(Math.min),
    And: pairs((x, y) => x && y),
    Equal: pairs((x, y) => x === y, 'bool'),
    Less: pairs((x, y) => x < y, 'bool'),
    LessOrEqual: pairs((x, y) => x <= y, 'bool'),
    Greater: pairs((x, y) => x > y, 'bool'),
    GreaterOrEqual: pairs((x, y) => x >= y, 'bool'),
    Not: each((x) => !x),
    Exp: each(Math.exp),
    Sigmoid: each((x) => 1 / (1 + Math.exp(-x))),
    HardSigmoid: each((x, { alpha = 0.2, beta = 0.5 }) => (
      Math.max(0, Math.min(1, alpha * x + beta)))),
    HardSwish: each((x) => x * Math.max(0, Math.min(1, x / 6 + 0.5))),
    Clip: ([x, low, high]) => each((value) => Math.min(
      Math.max(value, low?.data[0] ?? -Infinity), high?.data[0] ?? Infinity))([x]),
    ReduceMax: reduce(Math.max, -Infinity),
    ReduceMin: reduce(Math.min, Infinity),
    ReduceProd: reduce((x, y) => x * y, 1),
    ReduceMean: reduce((x, y) => x + y, 0, (sum, count) => sum / count)
  };

  // Numbers of 16 bits as those of 32: a sign, 5 bits of exponent, 10 of fraction.
  function unpackHalves(halves) {
    const floats = new Float32Array(halves.length);
    halves.forEach((bits, n) => {
      const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
      const value = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
      floats[n] = bits >> 15 ? -value : value;
    });
    return floats;
  }

  // nodes: [operator, inputs, outputs, attributes], each after those that it needs.
  // constants: name -> [type, shape, numbers, or where they begin in `bytes`].
  function load({ nodes, constants }, bytes) {
    const known = new Map();
    for (const [name, [type, shape, values]] of Object.entries(constants)) {
      if (typeof values !== 'number') {
        known.set(name, as(type, shape, values));
      } else {
        const kind = type === 'half' ? Uint16Array : Float32Array;
        const data = new kind(bytes, values, volume(shape));
        known.set(name, {
          type: 'float', shape, data: type === 'half' ? unpackHalves(data) : data
        });
      }
    }
    for (const [operator] of nodes) {
      if (!OPERATORS[operator]) throw new Error(`The operator ${operator} is not known.`);
    }

    // The tensors named in `wanted`, from those in `given`: inputs of the graph, or what
    // an earlier run gave. Only the nodes that they need are executed, and what no later
    // node needs is let go. `progress` hears which share of the convolutions is done.
    function run(given, wanted, progress = () => {}) {
      const values = new Map([...known, ...Object.entries(given)]);
      const needed = new Set(wanted.filter((name) => !values.has(name)));
      const plan = [];
      for (const node of nodes.slice().reverse()) {
        if (!node[2].some((name) => needed.has(name))) continue;
        plan.unshift(node);
        for (const name of node[1]) if (name && !values.has(name)) needed.add(name);
      }
      const last = new Map(plan.flatMap(([, inputs], i) => inputs.map((name) => [name, i])));
      const heavy = plan.filter(([operator]) => operator === 'Conv').length;
      let done = 0;
      plan.forEach(([operator, inputs, outputs, attributes], i) => {
        const tensors = inputs.map((name) => {
          if (name && !values.has(name)) throw new Error(`${name} is not given.`);
          return values.get(name);
        });
        const result = [OPERATORS[operator](tensors, attributes)].flat();
        for (const [n, name] of outputs.entries()) values.set(name, result[n]);
        for (const name of inputs) {
          if (last.get(name) === i && !wanted.includes(name)) values.delete(name);
        }
        if (operator === 'Conv') progress(++done / heavy);
      });
      return Object.fromEntries(wanted.map((name) => [name, values.get(name)]));
    }

    // What has to be given, besides the input `changed`, to compute all that hangs on it.
    function besides(changed) {
      const moved = new Set([changed]);
      const others = new Set();
      for (const [, inputs, outputs] of nodes) {
        if (!inputs.some((name) => moved.has(name))) continue;
        for (const name of outputs) moved.add(name);
        for (const name of inputs) if (name && !known.has(name)) others.add(name);
      }
      return [...others].filter((name) => !moved.has(name));
    }

    return { run, besides };
  }

  return { load, operators: OPERATORS };
}
