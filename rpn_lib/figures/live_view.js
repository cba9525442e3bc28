// <rpn-live>: what it shows and says at each of its steps.

const SVG = 'http://www.w3.org/2000/svg';
const STEPS = ['Picture', 'Features', 'Scores', 'Anchors', 'Deltas', 'Clipping', 'NMS', 'Proposals'];
const [PICTURE, FEATURES, SCORES, ANCHORS, DELTAS, CLIPPING, NMS, PROPOSALS] = STEPS.keys();
const STYLES = { // name, colour, width, dashes
  anchor: ['anchor', '#0072b2', 2, '8 3'],
  box: ['box', '#c24e00', 2, 'none'],
  gone: ['suppressed', '#444', 1.5, '3 3'],
  outside: ['before clipping', '#0072b2', 2, '8 3'],
  picked: ['chosen', '#000', 3.5, 'none'],
  related: ['suppressed by the chosen box, or its suppressor', '#8b1a8b', 2.5, '7 3'],
  cell: ['cell', '#000', 1.5, 'none']
};

function add(parent, tag, attributes = {}, text) {
  const space = tag === 'svg' ? SVG : parent.namespaceURI ?? 'http://www.w3.org/1999/xhtml';
  const node = document.createElementNS(space, tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (text !== undefined) node.textContent = text;
  return parent.appendChild(node);
}

function button(parent, text, click) {
  const node = add(parent, 'button', { type: 'button' }, text);
  node.addEventListener('click', click);
  return node;
}

// What is seen of the state of the element at each step. live.js changes the state.
class View extends HTMLElement {
  get editing() {
    return this.drawing && this.step === PICTURE;
  }

  scale() { // pixels of the picture in one of the screen
    return this.svg.viewBox.baseVal.width / this.svg.getBoundingClientRect().width;
  }

  animate() {
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    const begin = performance.now() + 400;
    const tick = (now) => {
      if (this.step !== DELTAS || this.begin !== begin) return;
      this.way = Math.max(0, Math.min(1, (now - begin) / 1200));
      this.slider.value = this.way;
      this.drawBoxes();
      if (this.way < 1) requestAnimationFrame(tick);
    };
    this.begin = begin;
    this.way = 0;
    requestAnimationFrame(tick);
  }

  // Candidates that the step shows, the best first.
  drawn() {
    const { stages, step } = this;
    const first = Array.from({ length: Math.min(this.many, stages.count) }, (_, k) => k);
    if (step === PROPOSALS) return stages.kept.filter((k) => stages.result.scores.data[k] >= this.least);
    const all = Array.from({ length: stages.count }, (_, k) => k);
    if (step === CLIPPING) return all.filter((k) => this.isCut(k)).slice(0, this.many);
    if (step === NMS) return first.filter((k) => stages.result.usable.data[k]);
    return step < ANCHORS ? [] : first;
  }

  isCut(k) { // by the border of the picture
    const { decoded, clipped } = this.stages.candidate(k);
    return decoded.some((value, i) => value !== clipped[i]);
  }

  boxOf(k) {
    const { box, decoded, clipped } = this.stages.candidate(k);
    if (this.step === ANCHORS) return box;
    if (this.step === DELTAS) return box.map((value, i) => value + (decoded[i] - value) * this.way);
    return clipped;
  }

  // -- Words

  tell(text, error = false) {
    this.status.textContent = text;
    this.status.classList.toggle('error', error);
  }

  summary() {
    const { stages } = this;
    const best = fixed(stages.result.scores.data[0], 2);
    const shown = this.step === PROPOSALS ? this.drawn().length : 0;
    return {
      [NMS]: () => `At ${fixed(this.iou)} NMS keeps ${stages.kept.length} of ${stages.count} boxes.`,
      [PROPOSALS]: () => `${plural(shown, 'proposal')} of score ${fixed(this.least)} or more; the best has ${best}.`
    }[this.step]?.() ?? `Done: ${stages.result.logits.data.length.toLocaleString('en')} anchors, best score ${best}.`;
  }

  cellText() {
    const { level, row, column } = this.cell;
    const { stride } = this.stages.levels[level];
    const start = this.stages.at(this.cell);
    const logits = this.stages.result.logits.data.subarray(start, start + this.stages.shapes);
    const best = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    return `Row ${row}, column ${column}, ${stride} pixels wide: best anchor `
      + `${this.stages.shapeName(level, best)}, score ${fixed(1 / (1 + Math.exp(-logits[best])), 3)}.`;
  }

  pickedText() {
    const { stages, picked } = this;
    const { score } = stages.candidate(picked);
    const name = `Box ${picked + 1}, score ${fixed(score, 3)}`;
    const by = stages.result.suppressed_by.data[picked];
    if (this.step < NMS) return `${name}.`;
    if (by >= 0) {
      const iou = stages.result.iou.data[by * stages.count + picked];
      return `${name}, is suppressed by box ${by + 1}: their IoU is ${fixed(iou, 3)}, above ${fixed(this.iou)}.`;
    }
    return `${name}, is kept and suppresses ${plural(stages.suppressedBy(picked).length, 'box')}.`;
  }

  explanation() {
    const { stages, canvas } = this;
    if (!stages) {
      return 'One click runs the trained network of this book here, in your browser. '
        + 'Nothing leaves this page. Then walk through the steps above.';
    }
    const { stride, rows, columns, channels } = stages.levels[this.map?.[0] ?? 0];
    const outside = Array.from({ length: stages.count }, (_, k) => k).filter((k) => this.isCut(k));
    return [
      `The picture as the network gets it: ${canvas.width} × ${canvas.height} pixels, three numbers from 0 to 1 each.`
        + (this.photo ? ` (${this.photo}, by the browser; the library's resizing differs a little.)` : '')
        + (this.drawing ? ' Drag a shape to move it, its corner to resize it; with keys: arrows, Shift and arrows, Delete. The five best proposals follow.'
          : ' Point at a cell for its anchors.'),
      `The backbone turns each cell of ${stride} × ${stride} pixels into ${channels} numbers: a map of ${rows} rows and ${columns} columns for each channel. Here are the strongest.`,
      `For each of ${stages.shapes} anchor shapes at every cell, a score: how probably is this an object? One map for each shape; choose one to lay it over the picture.`,
      `The best of ${stages.result.logits.data.length.toLocaleString('en')} anchors, by score. They are fixed shapes on a grid; none fits exactly.`,
      'Four deltas for each anchor move and stretch it onto the object. Drag the slider, or choose a box to see its formulas.',
      `Boxes that reach outside the picture are cut at its border: ${outside.length} of ${stages.count} candidates.`,
      'Many boxes lie on the same object. Non-maximum suppression (NMS) takes the best box, drops those that overlap it by more than the threshold, and goes on. Choose a box to see whom it suppresses, or who suppresses it.',
      'What is left are the proposals: boxes that may hold an object, whatever it is. A detector would now look into each.'
    ][this.step];
  }

  note() { // honest about what was never learnt
    const own = !this.getAttribute('network');
    if (!this.photo || own) return '';
    return this.getAttribute('note');
  }

  // -- Drawing

  update(controls = true) {
    this.buttons.forEach((node, i) => {
      if (i === this.step) node.setAttribute('aria-current', 'step');
      else node.removeAttribute('aria-current');
      if (i === this.step) { // into sight, where the strip is wider than the screen
        const strip = node.parentNode.parentNode;
        strip.scrollLeft = node.parentNode.offsetLeft - strip.offsetLeft - strip.clientWidth / 3;
      }
      node.disabled = !this.stages && i !== this.step;
    });
    this.stage.classList.toggle('moving', Boolean(this.editing));
    this.text.textContent = this.explanation();
    if (controls) {
      this.controls.textContent = '';
      if (this.stages) this.drawControls();
    }
    this.detail.textContent = '';
    if (this.stages) this.drawDetail();
    if (this.note()) add(this.detail, 'p', { class: 'note' }).innerHTML = this.note();
    if (this.canvas) this.drawBoxes();
  }

  addSlider(name, range, value, change, digits = 0) {
    const label = add(this.controls, 'label', { class: 'slider' });
    add(label, 'span', {}, name);
    const input = add(label, 'input', { type: 'range', ...range });
    input.value = value;
    const output = add(label, 'output', {}, fixed(value, digits));
    input.addEventListener('input', () => {
      output.textContent = fixed(+input.value, digits);
      change(+input.value);
    });
    return input;
  }

  drawControls() {
    const redraw = (name) => (value) => { this[name] = value; this.update(false); };
    const share = { min: 0, max: 1, step: 0.01 };
    if (this.step === FEATURES || this.step === SCORES) this.drawMaps();
    if (this.step >= ANCHORS && this.step <= NMS) {
      this.addSlider('Best boxes', { min: 1, max: this.stages.count }, this.many, redraw('many'));
    }
    if (this.step === DELTAS) {
      this.begin = null;
      this.slider = this.addSlider('Anchor to box', share, this.way, (value) => {
        this.begin = null;
        redraw('way')(value);
      }, 2);
      button(this.controls, 'Play', () => this.animate());
    }
    if (this.step === NMS) this.addSlider('IoU threshold', share, this.iou, (value) => this.setThreshold(value), 2);
    if (this.step === PROPOSALS) {
      this.addSlider('Least score', share, this.least, (value) => {
        redraw('least')(value);
        this.tell(this.summary());
      }, 2);
    }
  }

  drawMaps() {
    const { stages } = this;
    const maps = add(this.controls, 'div', { class: 'maps' });
    stages.levels.forEach((_, level) => {
      const numbers = this.step === SCORES ? Array(stages.shapes).keys()
        : stages.strongest(level, stages.levels.length > 1 ? 4 : 16);
      for (const number of numbers) {
        const name = this.step === SCORES ? stages.shapeName(level, number) : `channel ${number}`;
        const canvas = this.step === SCORES ? stages.heat(level, number) : stages.features(level, number);
        const node = button(maps, name, () => {
          const off = this.map?.[0] === level && this.map[1] === number;
          this.map = off ? null : [level, number, canvas];
          for (const other of maps.children) other.setAttribute('aria-pressed', !off && other === node);
          this.update(false);
        });
        node.setAttribute('aria-pressed', false);
        node.prepend(canvas);
      }
    });
  }

  drawDetail() {
    if (this.step <= SCORES && this.cell && !this.editing) this.drawCell();
    if (this.step >= ANCHORS && this.picked !== null) {
      const candidate = this.stages.candidate(this.picked);
      add(this.detail, 'p', { class: 'formulas' }, [
        `box ${this.picked + 1}, from the anchor ${corners(candidate.box)}`,
        formulas(candidate, this.network.settings),
        `decoded ${corners(candidate.decoded)}`,
        `clipped ${corners(candidate.clipped)}`
      ].join('\n'));
    }
  }

  drawCell() {
    const { stages, cell } = this;
    const { level, row, column } = cell;
    const start = stages.at(cell);
    add(this.detail, 'p', {}, `Cell in row ${row}, column ${column}: its ${stages.shapes} anchors.`);
    const scroll = add(this.detail, 'div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Anchors of the cell' });
    const table = add(scroll, 'table');
    const head = add(add(table, 'thead'), 'tr');
    for (const name of ['anchor', 'score', 't_x', 't_y', 't_w', 't_h']) add(head, 'th', { scope: 'col' }, name);
    const body = add(table, 'tbody');
    const all = Array.from({ length: stages.shapes }, (_, a) => stages.anchor(start + a));
    const best = all.reduce((b, { logit }, a) => (logit > all[b].logit ? a : b), 0);
    const chosen = cell.shape ?? best;
    all.forEach(({ logit, deltas }, a) => {
      const line = add(body, 'tr', a === chosen ? { class: 'on' } : {});
      button(add(line, 'td'), stages.shapeName(level, a), () => {
        this.cell = { ...cell, shape: a };
        this.update(false);
      });
      for (const value of [1 / (1 + Math.exp(-logit)), ...deltas]) add(line, 'td', {}, fixed(value, 2));
    });
    add(this.detail, 'p', { class: 'formulas' },
      `anchor ${stages.shapeName(level, chosen)}, logit ${fixed(all[chosen].logit)}\n`
      + formulas(all[chosen], this.network.settings));
  }

  frame(group, box, kind) {
    const [name, stroke, width, dashes] = STYLES[kind];
    const [x1, y1, x2, y2] = box;
    const d = `M${x1},${y1}H${x2}V${y2}H${x1}Z`;
    add(group, 'path', { d, class: 'shape', stroke: '#fff', 'stroke-opacity': 0.6, 'stroke-width': width + 1.6 });
    add(group, 'path', { d, class: 'shape', stroke, 'stroke-width': width, 'stroke-dasharray': dashes });
    this.shown.add(name && kind);
  }

  drawBoxes() {
    const { canvas, svg, step, stages } = this;
    const { width, height } = canvas;
    const margin = step >= ANCHORS && step <= CLIPPING ? Math.round(width / 6) : 0;
    svg.setAttribute('viewBox', `${-margin} ${-margin} ${width + 2 * margin} ${height + 2 * margin}`);
    svg.textContent = '';
    this.shown = new Set();
    add(svg, 'image', { href: this.address, width, height });
    if (this.fresh && stages.width === width && stages.height === height) {
      if (step <= SCORES) this.drawGrid();
      const drawn = this.drawn();
      // The best last, so that they lie on top.
      for (const k of drawn.slice().reverse()) this.drawBox(k);
      if (this.picked !== null) this.drawPicked();
      const best = this.editing ? stages.kept.slice(0, 5) : [];
      for (const k of best) this.frame(svg, stages.candidate(k).clipped, 'box');
    }
    const shape = this.editing && this.drawing.shapes[this.drawing.chosen];
    if (shape) {
      const [, , x, y] = shape.box;
      this.frame(svg, shape.box, 'cell');
      add(svg, 'circle', { cx: x, cy: y, r: 5 * this.scale(), fill: '#fff', stroke: '#000', class: 'shape', style: 'fill: #fff' });
    }
    this.drawLegend();
  }

  drawBox(k) {
    const { stages, svg, step } = this;
    if (step === ANCHORS || (step === DELTAS && this.way < 0.5)) this.frame(svg, this.boxOf(k), 'anchor');
    else if (step === NMS && !stages.result.kept.data[k]) this.frame(svg, this.boxOf(k), 'gone');
    else {
      if (step === CLIPPING) this.frame(svg, stages.candidate(k).decoded, 'outside');
      this.frame(svg, this.boxOf(k), 'box');
    }
  }

  drawPicked() {
    const { stages, svg } = this;
    if (this.step >= NMS) {
      const by = stages.result.suppressed_by.data[this.picked];
      const others = by >= 0 ? [by] : stages.suppressedBy(this.picked);
      for (const k of others) this.frame(svg, this.boxOf(k), 'related');
    }
    this.frame(svg, this.boxOf(this.picked), 'picked');
  }

  drawGrid() {
    const { stages, svg } = this;
    if (this.map) {
      const [level, , canvas] = this.map;
      const { stride, rows, columns } = stages.levels[level];
      add(svg, 'image', { href: canvas.toDataURL(), width: columns * stride, height: rows * stride,
        preserveAspectRatio: 'none', opacity: 0.65 });
    }
    if (!this.cell || this.editing) return;
    const { level, row, column, shape } = this.cell;
    const { stride } = stages.levels[level];
    const start = stages.at(this.cell);
    for (let a = 0; a < stages.shapes; a++) {
      if (shape === null || shape === a) this.frame(svg, stages.anchor(start + a).box, 'anchor');
    }
    const [x, y] = [column * stride, row * stride];
    this.frame(svg, [x, y, x + stride, y + stride], 'cell');
  }

  drawLegend() {
    this.legend.textContent = '';
    for (const kind of this.shown) {
      const [name, stroke, width, dashes] = STYLES[kind];
      const entry = add(this.legend, 'span');
      const line = add(entry, 'svg', { viewBox: '0 0 34 12', 'aria-hidden': true });
      add(line, 'path', { d: 'M2,6H32', stroke, 'stroke-width': width, 'stroke-dasharray': dashes });
      entry.append(this.editing && kind === 'cell' ? 'chosen shape' : name);
    }
  }
}
