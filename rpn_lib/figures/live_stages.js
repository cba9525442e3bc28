// <rpn-live>: what the network gave, in the terms of the page: numbers, maps, formulas.

const fixed = (value, digits = 2) => value.toFixed(digits).replace('-', '−');
const corners = (box) => `(${box.map((value) => fixed(value, 1)).join(', ')})`;
const plural = (n, one) => `${n} ${one}${n === 1 ? '' : one.endsWith('x') ? 'es' : 's'}`;

// Dark blue to yellow, from 0 to 1; told apart without seeing colours, too.
const MAP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function colour(value) {
  const place = Math.max(0, Math.min(0.9999, value)) * (MAP.length - 1);
  const [low, high] = [MAP[Math.floor(place)], MAP[Math.floor(place) + 1]];
  return low.map((part, i) => part + (high[i] - part) * (place % 1));
}

function paint(rows, columns, value) { // a canvas, one pixel a cell
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  for (let n = 0; n < rows * columns; n++) {
    image.data.set([...colour(value(n)), 255], 4 * n);
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

class Stages {
  constructor(result, settings, width, height) {
    Object.assign(this, { result, settings, width, height });
    this.shapes = settings.numAnchors;
    let start = 0;
    this.levels = settings.strides.map((stride, n) => {
      const [, channels, rows, columns] = result[`features.${n}`].shape;
      const level = { stride, channels, rows, columns, start };
      start += rows * columns * this.shapes;
      return level;
    });
    this.count = result.top.data.length;
  }

  four(name, n) {
    return Array.from(this.result[name].data.subarray(4 * n, 4 * n + 4));
  }

  // Every output of the graph about anchor `n`.
  anchor(n) {
    const logit = this.result.logits.data[n];
    return { box: this.four('anchors', n), logit, deltas: this.four('deltas', n) };
  }

  candidate(k) {
    const number = this.result.top.data[k];
    return { ...this.anchor(number), number, score: this.result.scores.data[k],
      decoded: this.four('decoded', k), clipped: this.four('boxes', k) };
  }

  // The number of the first of the anchors at a cell.
  at({ level, row, column }) {
    const { start, columns } = this.levels[level];
    return start + (row * columns + column) * this.shapes;
  }

  shapeName(level, shape) {
    const [x1, y1, x2, y2] = this.four('anchors', this.levels[level].start + shape);
    return `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`;
  }

  heat(level, shape) {
    const { rows, columns, start } = this.levels[level];
    return paint(rows, columns, (n) => (
      1 / (1 + Math.exp(-this.result.logits.data[start + n * this.shapes + shape]))));
  }

  features(level, channel) {
    const { rows, columns } = this.levels[level];
    const size = rows * columns;
    const part = this.result[`features.${level}`].data.subarray(channel * size, (channel + 1) * size);
    const [low, high] = [Math.min(0, ...part), Math.max(1e-9, ...part)];
    return paint(rows, columns, (n) => (part[n] - low) / (high - low));
  }

  // The channels with the largest values first.
  strongest(level, many) {
    const { data, shape: [, channels, rows, columns] } = this.result[`features.${level}`];
    const size = rows * columns;
    const peak = (c) => data.subarray(c * size, (c + 1) * size).reduce((a, b) => Math.max(a, b));
    return Array.from({ length: channels }, (_, c) => [c, peak(c)])
      .sort((a, b) => b[1] - a[1]).slice(0, many).map(([c]) => c);
  }

  get kept() {
    return Array.from(this.result.kept.data.keys()).filter((k) => this.result.kept.data[k]);
  }

  suppressedBy(k) {
    const { suppressed_by: by } = this.result;
    return Array.from(by.data.keys()).filter((n) => by.data[n] === k);
  }
}

// The formulas of the book, with the numbers of one anchor.
function formulas({ box: [x1, y1, x2, y2], logit, deltas }, { deltaWeights, maxLogScale }) {
  const [width, height] = [x2 - x1, y2 - y1];
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const [tx, ty, tw, th] = deltas.map((delta, i) => (
    Math.min(delta / deltaWeights[i], i > 1 ? maxLogScale : Infinity)));
  const line = (name, a, b, c, result) => `${name} = ${fixed(a, 1)} ${b} ${c} = ${fixed(result, 1)}`;
  return [
    `score = 1 / (1 + exp(−(${fixed(logit)}))) = ${fixed(1 / (1 + Math.exp(-logit)), 3)}`,
    line('x', x, '+', `${fixed(width, 1)} · (${fixed(tx, 3)})`, x + width * tx),
    line('y', y, '+', `${fixed(height, 1)} · (${fixed(ty, 3)})`, y + height * ty),
    line('w', width, '·', `exp(${fixed(tw, 3)})`, width * Math.exp(tw)),
    line('h', height, '·', `exp(${fixed(th, 3)})`, height * Math.exp(th))
  ].join('\n');
}
