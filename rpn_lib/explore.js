// <rpn-explorer spec='...'>: a figure with sliders. Python computed every state ahead
// of time (explore.py); this script shows the one at which the sliders stand.
(function () {
  'use strict';
  // Each figure brings this script along, and so does each new run of its cell.
  if (customElements.get('rpn-explorer')) return;

  const SVG = 'http://www.w3.org/2000/svg';
  const HINT = 'Point at a box, or Tab to it, for its coordinates.';
  // The page's own colours in a book, in Jupyter, anywhere else. The picture is light in
  // all of them, since the colours of the boxes are chosen for a light ground.
  const CSS = `
:host { display: block; max-width: 640px; margin: 0.5em 0; overflow-wrap: anywhere;
  color: var(--pst-color-text-base, var(--jp-content-font-color1, CanvasText));
  background: var(--pst-color-background, var(--jp-layout-color0, Canvas)); }
* { box-sizing: border-box; }
.all { padding: 8px; line-height: 1.4; }
p { margin: 6px 0; }
.title { font-weight: bold; margin-top: 0; }
.sliders { display: grid; gap: 2px 10px; align-items: center;
  grid-template-columns: fit-content(38%) minmax(0, 1fr) fit-content(30%); }
label { display: contents; }
input { width: 100%; min-width: 0; height: 28px; margin: 0; cursor: pointer;
  accent-color: #0072b2; }
output { font-variant-numeric: tabular-nums; font-weight: bold; }
output::after { content: attr(data-longest); display: block; height: 0;
  visibility: hidden; }
.stage { position: relative; overflow: hidden; margin: 6px auto;
  print-color-adjust: exact; forced-color-adjust: none; }
.stage svg { display: block; width: 100%; background: #d4d4d4; }
path, rect, line { fill: none; vector-effect: non-scaling-stroke; }
.under { stroke: #fff; stroke-opacity: 0.8; stroke-dasharray: none; }
.hit { stroke: transparent; stroke-width: 16px; pointer-events: all; outline: none; }
.hit.on { fill: currentColor; fill-opacity: 0.3; }
.hit:focus-visible { outline: 2px solid #000; outline-offset: 2px; }
.label { position: absolute; padding: 0 4px; font: 12px/16px sans-serif; color: #000;
  background: rgba(255, 255, 255, 0.9); border-left: 4px solid; white-space: nowrap;
  pointer-events: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; }
.legend svg { width: 36px; height: 12px; margin-right: 6px; background: #fff;
  forced-color-adjust: none; }
.sentence { white-space: pre-line; }
.detail { font-size: 0.875em; min-height: 1.4em; }
@media print { input, .hint { display: none; } }`;

  // A new element at the end of `parent`; text is only ever set as text, never as HTML.
  function add(parent, tag, attributes, text) {
    const space = tag === 'svg' ? SVG : parent.namespaceURI;
    const node = document.createElementNS(space, tag);
    for (const name in attributes) node.setAttribute(name, attributes[name]);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  }

  // A shape in the colours of its style: [label, colour, width, dashes].
  function stroke(parent, tag, attributes, style) {
    const width = style[2];
    const under = add(parent, tag, attributes);
    under.setAttribute('class', 'under');
    under.setAttribute('stroke-width', width + 2.5);
    const over = add(parent, tag, attributes);
    over.setAttribute('stroke', style[1]);
    over.setAttribute('stroke-width', width);
    over.setAttribute('stroke-dasharray', style[3]);
    return over;
  }

  function build(spec) {
    const [height, width] = spec.size;
    const margin = spec.margin;
    const [fullWidth, fullHeight] = [width + 2 * margin, height + 2 * margin];
    const all = document.createElement('div');
    all.className = 'all';
    all.setAttribute('role', 'group');
    all.setAttribute('aria-label', spec.title || spec.alt);
    add(all, 'style', {}, CSS);
    // Jupyter takes keys and clicks for its own, and arrow keys turn pages in a book.
    for (const type of ['keydown', 'mousedown']) {
      all.addEventListener(type, (event) => event.stopPropagation());
    }
    if (spec.title) add(all, 'p', { class: 'title' }, spec.title);

    const grid = add(all, 'div', { class: 'sliders' });
    const sliders = spec.sliders.map(([name, values, start]) => {
      const label = add(grid, 'label');
      add(label, 'span', {}, name);
      const input = add(label, 'input', {
        type: 'range', min: 0, max: values.length - 1, step: 1, value: start,
        autocomplete: 'off'
      });
      input.addEventListener('input', draw);
      // As wide as the longest value, lest the slider change its length as it moves.
      const longest = values.reduce((a, b) => (b.length > a.length ? b : a));
      const output = add(grid, 'output', {
        'aria-hidden': 'true', 'data-longest': longest
      });
      return { input, output, values };
    });

    const stage = add(all, 'div', { class: 'stage' });
    stage.style.maxWidth = Math.min(640, (560 * fullWidth) / fullHeight) + 'px';
    const svg = add(stage, 'svg', {
      viewBox: [-margin, -margin, fullWidth, fullHeight].join(' '),
      role: 'group', 'aria-label': spec.alt
    });
    add(svg, 'rect', { width, height, style: 'fill: #fff; stroke: #767676' });
    if (spec.image) {
      const picture = add(svg, 'image', {
        width, height, href: spec.image, preserveAspectRatio: 'none',
        'aria-hidden': 'true'
      });
      if (width <= 100) picture.style.imageRendering = 'pixelated'; // pixels to count
    }
    const lines = add(svg, 'g', { class: 'boxes', 'aria-hidden': 'true' });
    const hits = add(svg, 'g');
    const labels = add(stage, 'div', { 'aria-hidden': 'true' });

    const legend = add(all, 'div', { class: 'legend' });
    for (const style of spec.styles) {
      const entry = add(legend, 'span');
      const sample = add(entry, 'svg', { 'aria-hidden': 'true' });
      stroke(sample, 'line', { x1: 2, y1: 6, x2: 34, y2: 6 }, style);
      add(entry, 'span', {}, style[0]);
    }
    const sentence = add(all, 'p', { class: 'sentence', 'aria-live': 'polite' });
    const detail = add(all, 'p', { class: 'detail' });

    let picked = null;
    function pick(hit) {
      if (picked) picked.classList.remove('on');
      picked = hit;
      if (hit) hit.classList.add('on');
      detail.classList.toggle('hint', !hit);
      detail.textContent = hit ? hit.textContent : hits.firstChild ? HINT : '';
    }
    const focused = () => hits.querySelector(':focus');
    const over = (event) => pick(event.target.closest('.hit') || focused());
    // On the stage: Chromium lets Tab stop at an SVG element that listens for focus.
    stage.addEventListener('pointerover', over);
    stage.addEventListener('focusin', over);
    stage.addEventListener('pointerleave', () => pick(focused()));
    stage.addEventListener('focusout', () => pick(null));
    // One stop of the Tab key for all boxes: there may be hundreds.
    stage.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = event.target[step > 0 ? 'nextSibling' : 'previousSibling'];
      if (!next) return;
      event.target.setAttribute('tabindex', -1);
      next.setAttribute('tabindex', 0);
      next.focus();
    });

    function draw() {
      let index = 0; // the last slider changes fastest
      for (const { input, output, values } of sliders) {
        const position = Number(input.value);
        index = index * values.length + position;
        output.textContent = values[position];
        input.setAttribute('aria-valuetext', values[position]);
      }
      const [text, numbers] = spec.states[index];
      sentence.textContent = text;
      // Never lower than it was: what follows must not jump as a slider moves.
      sentence.style.minHeight = sentence.offsetHeight + 'px';
      lines.textContent = hits.textContent = labels.textContent = '';
      const boxes = numbers.map((number) => spec.boxes[number]);
      for (const box of boxes) {
        const [x1, y1, x2, y2, kind, label] = box;
        stroke(lines, 'path', { d: outline(box) }, spec.styles[kind]);
        if (!label) continue;
        const tag = add(labels, 'span', { class: 'label' }, label);
        const [left, top] = [(x1 + margin) / fullWidth, (y1 + margin) / fullHeight];
        tag.style.borderColor = spec.styles[kind][1];
        tag.style.left = `clamp(0%, ${100 * left}%, 100% - ${label.length}ch)`;
        tag.style.top = `clamp(0%, ${100 * top}%, 100% - 16px)`;
      }
      // Small boxes last, so that the pointer finds them inside large ones.
      const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
      for (const box of boxes.slice().sort((a, b) => area(b) - area(a))) {
        const [x1, y1, x2, y2, kind, label] = box;
        const hit = add(hits, 'path', {
          d: outline(box), class: 'hit', role: 'img', tabindex: hits.firstChild ? -1 : 0
        });
        hit.style.color = spec.styles[kind][1];
        const name = spec.styles[kind][0] + (label ? `, ${label}` : '');
        add(hit, 'title', {}, `${name}: (${x1}, ${y1}, ${x2}, ${y2})`);
      }
      pick(null);
    }
    draw();
    return all;
  }

  function outline([x1, y1, x2, y2]) {
    return `M${x1},${y1}H${x2}V${y2}H${x1}Z`;
  }

  customElements.define('rpn-explorer', class extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return; // moved to another place in the page
      try {
        const content = build(JSON.parse(this.getAttribute('spec')));
        this.attachShadow({ mode: 'open' }).appendChild(content);
      } catch (error) { // the picture inside the element stays
        console.warn('rpn-explorer cannot show its sliders:', error);
      }
    }
  });
})();
