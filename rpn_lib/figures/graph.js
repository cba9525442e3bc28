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
    const all = new Int32Array(volume(shape)).fill(start, 0, 1);
    let size = 1; // of the block that is done, from the last axis on
    for (let i = shape.length - 1; i >= 0; i--) {
      const end = size * shape[i];
      for (let n = size; n < end; n++) all[n] = all[n - size] + steps[i];
      size = end;
    }
    return all;
  }

  const pick = ({ type, data }, shape, where) => {
    const out = fill(type, shape);
    const to = out.data;
    for (let n = 0; n < to.length; n++) to[n] = data[where[n]];
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

  function spread(tensor, shape) { // its steps once it has that shape
    const missing = shape.length - tensor.shape.length;
    const steps = strides(tensor.shape);
    return shape.map((_, i) => (
      i < missing || tensor.shape[i - missing] === 1 ? 0 : steps[i - missing]));
  }

  // Where the rows of each tensor begin once all have that shape, and the steps along a row.
  function rows(tensors, shape) {
    const all = tensors.map((tensor) => spread(tensor, shape));
    return [all.map((steps) => places(shape.slice(0, -1), steps.slice(0, -1))),
      all.map((steps) => steps.at(-1) ?? 0)];
  }

  // A copy of a loop for one operator, which the loop is given first. A browser compiles a
  // function for what it saw it do: one loop for all operators calls them for every number,
  // in a copy the operator is built in, and it takes a half to a third of the time. (Of the
  // same text browsers make the same function: hence the number.)
  let copies = 0;
  function own(loop) {
    try {
      return new Function(`return ${loop} // ${++copies}`)();
    } catch {
      return loop; // in a page that forbids functions made of text
    }
  }

  function each(f, type) { // an operator on every element
    const loop = own((f, x, out, attributes) => {
      for (let n = 0; n < out.length; n++) out[n] = f(x[n], attributes);
    });
    return ([x], attributes) => {
      const out = fill(type ?? x.type, x.shape);
      loop(f, x.data, out.data, attributes);
      return out;
    };
  }

  function pairs(f, type) { // an operator on two elements
    const loop = own((f, x, y, out, [first, second], [right, along], side) => {
      for (let row = 0, n = 0; n < out.length; row++) {
        let [i, j] = [first[row], second[row]];
        for (const end = n + side; n < end; n++, i += right, j += along) out[n] = f(x[i], y[j]);
      }
    });
    return (tensors) => tensors.reduce((x, y) => {
      const shape = common([x.shape, y.shape]);
      const out = fill(type ?? x.type, shape);
      loop(f, x.data, y.data, out.data, ...rows([x, y], shape), shape.at(-1) ?? 1);
      return out;
    });
  }

  function reduce(f, start, finish = (sum) => sum) {
    const loop = own((f, x, out, outer, inner, start, finish) => {
      for (let n = 0; n < out.length; n++) {
        let value = start;
        for (let i = 0; i < inner.length; i++) value = f(value, x[outer[n] + inner[i]]);
        out[n] = finish(value, inner.length);
      }
    });
    return ([x, axes], { keepdims = 1, noop_with_empty_axes: noop = 0 }) => {
      const rank = x.shape.length;
      let chosen = axes ? list(axes).map((axis) => from(axis, rank)) : [];
      if (!chosen.length && noop) return x;
      if (!chosen.length) chosen = x.shape.map((_, i) => i);
      const is = (_, i) => chosen.includes(i);
      const isNot = (_, i) => !chosen.includes(i);
      const steps = strides(x.shape);
      const inner = places(x.shape.filter(is), steps.filter(is));
      const outer = places(x.shape.filter(isNot), steps.filter(isNot));
      const shape = x.shape.map((side, i) => (is(side, i) ? 1 : side));
      const out = fill(x.type, keepdims ? shape : shape.filter(isNot));
      loop(f, x.data, out.data, outer, inner, start, finish);
      return out;
    };
  }

  // A window that slides over (rows, columns) of some planes: the sides of what it leaves,
  // the planes with their padding, where each window begins in them, row by row, and how far
  // from there each of its taps is.
  function sliding(shape, planes, kernel, attributes) {
    const { strides: step = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1] } = attributes;
    if ((attributes.auto_pad ?? 'NOTSET') !== 'NOTSET') throw new Error('auto_pad');
    const [height, width] = shape.slice(2);
    const round = attributes.ceil_mode ? Math.ceil : Math.floor;
    const ends = [height + pads[0], width + pads[1]]; // where the padding behind begins
    const whole = ends.map((end, i) => end + pads[2 + i]);
    const reach = kernel.map((side, i) => dilations[i] * (side - 1) + 1);
    const sides = whole.map((all, i) => {
      const side = round((all - reach[i]) / step[i]) + 1;
      // A window that would begin in the padding behind is left out.
      return attributes.ceil_mode && (side - 1) * step[i] >= ends[i] ? side - 1 : side;
    });
    const [high, wide] = sides.map((side, i) => ( // ceil_mode looks beyond the padding
      Math.max(whole[i], (side - 1) * step[i] + reach[i])));

    function padded(data, first, value) { // from the plane `first` on
      const out = new Float32Array(planes * high * wide).fill(value);
      for (let plane = 0; plane < planes; plane++) for (let row = 0; row < height; row++) {
        const start = ((first + plane) * height + row) * width;
        const line = data.subarray(start, start + width);
        out.set(line, (plane * high + row + pads[0]) * wide + pads[1]);
      }
      return out;
    }

    const starts = places(sides, [step[0] * wide, step[1]]);
    const taps = places([planes, ...kernel], [high * wide, dilations[0] * wide, dilations[1]]);
    return { sides, padded, starts, taps };
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
    const [batch, channels] = x.shape;
    const [filters, depth, ...kernel] = weight.shape;
    const { sides, padded, starts, taps } = sliding(x.shape, depth, kernel, attributes);
    const cells = starts.length;
    const group = attributes.group ?? 1;
    const each = filters / group;
    const { lanes } = way;
    const out = fill('float', [batch, filters, ...sides]);
    const to = out.data;
    for (let block = 0; block < batch * group; block++) {
      const image = Math.floor(block / group);
      const part = block % group;
      const input = padded(x.data, image * channels + part * depth, 0);
      const size = each * taps.length;
      const own = weight.data.subarray(part * size, (part + 1) * size);
      const { patches, sums, multiply } = way.prepare(own, each, taps.length);
      for (let n = 0; n < cells; n += lanes) {
        const some = Math.min(lanes, cells - n);
        for (let k = 0, t = 0; k < taps.length; k++, t += lanes) { // what the window lies on
          for (let lane = 0; lane < some; lane++) {
            patches[t + lane] = input[starts[n + lane] + taps[k]];
          }
        }
        multiply();
        for (let f = 0; f < each; f++) {
          const filter = part * each + f;
          const at = (image * filters + filter) * cells + n;
          const more = bias ? bias.data[filter] : 0;
          for (let lane = 0; lane < some; lane++) to[at + lane] = sums[f * lanes + lane] + more;
        }
      }
    }
    return out;
  }

  function MaxPool([x], attributes) {
    const { kernel_shape: kernel } = attributes;
    const [batch, channels] = x.shape;
    const { sides, padded, starts, taps } = sliding(x.shape, 1, kernel, attributes);
    const out = fill('float', [batch, channels, ...sides]);
    const to = out.data;
    for (let plane = 0, n = 0; plane < batch * channels; plane++) {
      const input = padded(x.data, plane, -Infinity);
      for (let cell = 0; cell < starts.length; cell++, n++) {
        let most = -Infinity;
        for (const tap of taps) most = Math.max(most, input[starts[cell] + tap]);
        to[n] = most;
      }
    }
    return out;
  }

  function BatchNormalization([x, scale, bias, mean, variance], { epsilon = 1e-5 }) {
    const out = fill('float', x.shape);
    const [own, to] = [x.data, out.data];
    const size = volume(x.shape.slice(2));
    for (let plane = 0; plane * size < to.length; plane++) {
      const c = plane % x.shape[1];
      const factor = scale.data[c] / Math.sqrt(variance.data[c] + epsilon);
      const [middle, more] = [mean.data[c], bias.data[c]];
      for (let n = plane * size; n < (plane + 1) * size; n++) {
        to[n] = (own[n] - middle) * factor + more;
      }
    }
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
    let all = Int32Array.of(0);
    shape.forEach((side, i) => { // the places along one axis more
      const factor = given ? given[i] : side / x.shape[i];
      const along = Array.from({ length: side }, (_, n) => (
        Math.min(Math.floor(n / factor), x.shape[i] - 1) * steps[i]));
      const before = all;
      all = new Int32Array(before.length * side);
      for (let n = 0; n < all.length; n++) all[n] = before[Math.floor(n / side)] + along[n % side];
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
      const side = (m, n, i) => Math.max(0, round(
        Math.min(high[m][i], high[n][i]) - Math.max(low[m][i], low[n][i])));
      const overlap = (m, n) => {
        const both = round(side(m, n, 0) * side(m, n, 1));
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
    const sign = largest ? 1 : -1;
    for (let n = 0; n < volume(x.shape) / length; n++) {
      const [block, rest] = [Math.floor(n / step), n % step];
      const line = Float64Array.from({ length }, (_, i) => (
        sign * x.data[(block * length + i) * step + rest]));
      // Only those that are as good as the last one wanted need to be put in order; of
      // equal ones the first comes first.
      const least = line.slice().sort()[length - k];
      const order = Array.from(line.keys()).filter((i) => !(line[i] < least))
        .sort((i, j) => line[j] - line[i] || i - j);
      for (let i = 0; i < k; i++) {
        values.data[(block * k + i) * step + rest] = sign * line[order[i]];
        indices.data[(block * k + i) * step + rest] = order[i];
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
    const where = new Int32Array(volume(shape));
    for (let block = 0, n = 0; n < where.length; block++) {
      for (const index of indices.data) {
        const start = (block * x.shape[at] + from(index, x.shape[at])) * step;
        for (let i = 0; i < step; i++) where[n++] = start + i;
      }
    }
    return pick(x, shape, where);
  }

  function GatherElements([x, indices], { axis = 0 }) {
    const at = from(axis, x.shape.length);
    const steps = strides(x.shape);
    const where = places(indices.shape, steps.map((step, i) => (i === at ? 0 : step)));
    for (let n = 0; n < where.length; n++) {
      where[n] += from(indices.data[n], x.shape[at]) * steps[at];
    }
    return pick(x, indices.shape, where);
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
    return pick(x, shape, places(shape, spread(x, shape)));
  }

  function Where([condition, x, y]) {
    const shape = common([condition.shape, x.shape, y.shape]);
    const out = fill(x.type, shape);
    const to = out.data;
    const [[which, first, second], [along, right, down]] = rows([condition, x, y], shape);
    const side = shape.at(-1) ?? 1;
    for (let row = 0, n = 0; n < to.length; row++) {
      let [i, j, k] = [which[row], first[row], second[row]];
      for (const end = n + side; n < end; n++, i += along, j += right, k += down) {
        to[n] = condition.data[i] ? x.data[j] : y.data[k];
      }
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
    return casts[type]([x]);
  }
  const casts = {
    float: each((x) => x, 'float'),
    int: each(Math.trunc, 'int'),
    bool: each((x) => x !== 0, 'bool')
  };

  // Without a comparison that comes out now so, now so: a processor guesses it, and a wrong
  // guess takes longer than all of the rest.
  const Relu = each((x) => (x === -Infinity ? 0 : (x + Math.abs(x)) / 2));

  function Clip([x, low, high]) {
    return clip([x], [low?.data[0] ?? -Infinity, high?.data[0] ?? Infinity]);
  }
  const clip = each((x, [low, high]) => Math.min(Math.max(x, low), high));

  const Div = (tensors) => quotients[tensors[0].type](tensors);
  const quotients = {
    float: pairs((x, y) => x / y),
    int: pairs((x, y) => Math.trunc(x / y))
  };

  function Shape([x], { start = 0, end = x.shape.length }) {
    const part = x.shape.slice(start, end);
    return as('int', [part.length], part);
  }

  const OPERATORS = {
    Conv, MaxPool, BatchNormalization, Resize, NonMaxSuppression, TopK, ArgMax, CumSum, Slice,
    Concat, Gather, GatherElements, GatherND, Reshape, Transpose, Unsqueeze, Squeeze, Expand, Where,
    Range, NonZero, Cast, Shape, Relu, Clip, Div,
    Add: pairs((x, y) => x + y),
    Sub: pairs((x, y) => x - y),
    Mul: pairs((x, y) => x * y),
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
