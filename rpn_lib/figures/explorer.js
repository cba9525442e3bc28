// <rpn-explorer spec='...'>: a figure with sliders. Python computed every state ahead
// of time (explorer.py); this script shows the one at which the sliders stand.
(() => {
  'use strict';
  // Each figure brings this script along, and so does each new run of its cell.
  if (customElements.get('rpn-explorer')) return;

  const SVG = 'http://www.w3.org/2000/svg';
  // An address cannot reach into a frame, and in Jupyter it is not ours to change.
  const LINKS = window === window.top &&
    !document.querySelector('#jupyter-config-data, [data-notebook-path]');
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
.sliders { display: grid; row-gap: 2px; align-items: center;
  grid-template-columns: fit-content(38%) minmax(0, 1fr) auto fit-content(30%); }
label { display: contents; }
label span { padding-right: 10px; }
input { width: 100%; min-width: 0; height: 28px; margin: 0; cursor: pointer;
  accent-color: #0072b2; }
input[type=checkbox] { width: 24px; }
.checks { display: flex; flex-wrap: wrap; column-gap: 20px; grid-column: 1 / 5; }
.checks label { display: flex; }
.checks output { display: none; }
button { width: 40px; height: 28px; margin-left: 10px; border: 1px solid;
  border-radius: 4px; background: none; color: inherit; cursor: pointer; }
button::before { content: ''; display: block; width: 12px; height: 12px; margin: auto;
  background: currentColor; forced-color-adjust: none;
  clip-path: polygon(0 0, 100% 50%, 0 100%); }
button[aria-pressed=true]::before {
  clip-path: polygon(0 0, 35% 0, 35% 100%, 65% 100%, 65% 0, 100% 0, 100% 100%, 0 100%); }
output { grid-column: 4; padding-left: 10px; font-variant-numeric: tabular-nums;
  font-weight: bold; }
output::after { content: attr(data-longest); display: block; height: 0;
  visibility: hidden; }
.stage { position: relative; overflow: hidden; margin: 6px auto;
  print-color-adjust: exact; forced-color-adjust: none; }
.stage svg { display: block; width: 100%; background: #d4d4d4; }
path, rect { fill: none; vector-effect: non-scaling-stroke; }
.under { stroke: #fff; stroke-opacity: 0.8; stroke-dasharray: none; }
.hit { stroke: transparent; stroke-width: 16px; pointer-events: all; outline: none; }
.hit.on { fill: currentColor; fill-opacity: 0.3; }
.hit:focus-visible { outline: 2px solid #000; outline-offset: 2px; }
.label { position: absolute; padding: 0 4px; font: 12px/16px sans-serif; color: #000;
  background: rgba(255, 255, 255, 0.9); border-left: 4px solid; white-space: nowrap;
  pointer-events: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; }
.legend a { margin-left: auto; padding: 2px 0; color: inherit; font-size: 0.875em; }
.legend svg { width: 36px; height: 12px; margin-right: 6px; background: #fff;
  forced-color-adjust: none; }
.sentence { white-space: pre-line; }
.detail { font-size: 0.875em; min-height: 1.4em; }
@media print {
  input, button, a, .hint { display: none; }
  .checks output { display: block; } }`;

  const HIDDEN = { 'aria-hidden': true };

  function set(node, attributes) {
    for (const name in attributes) node.setAttribute(name, attributes[name]);
  }

  // A new element at the end of `parent`; text is only ever set as text, never as HTML.
  function add(parent, tag, attributes, text) {
    const space = tag === 'svg' ? SVG : parent.namespaceURI;
    const node = document.createElementNS(space, tag);
    set(node, attributes);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  }

  // A shape in the colours of its style, over a white one.
  function stroke(parent, tag, shape, [, color, width, dashes]) {
    add(parent, tag, { ...shape, class: 'under', 'stroke-width': width + 2.5 });
    add(parent, tag, {
      ...shape, stroke: color, 'stroke-width': width, 'stroke-dasharray': dashes
    });
  }

  // A line from point to point; a dot, which is a very short one with round ends.
  function trace(parent, points, [name, color, width, dashes]) {
    const dot = points.length === 2;
    stroke(parent, 'path', {
      d: `M${points}${dot ? 'h0.01' : ''}`, 'stroke-linecap': dot ? 'round' : 'butt'
    }, [name, color, dot ? 5 * width : width, dot ? 'none' : dashes]);
  }

  function build(spec, host) {
    const [height, width] = spec.size;
    const margin = spec.margin;
    const [fullWidth, fullHeight] = [width + 2 * margin, height + 2 * margin];
    const all = document.createElement('div');
    set(all, { class: 'all', role: 'group', 'aria-label': spec.title || spec.alt });
    add(all, 'style', {}, CSS);
    // Jupyter takes keys and clicks for its own, and arrow keys turn pages in a book.
    // Ctrl-S is meant for them.
    for (const type of ['keydown', 'mousedown']) {
      all.addEventListener(type, (event) => {
        if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
      });
    }
    if (spec.title) add(all, 'p', { class: 'title' }, spec.title);

    let button; // of the slider that plays, if there is one
    let timer; // runs while it plays
    const grid = add(all, 'div', { class: 'sliders' });
    const at = spec.sliders.map(([, , start]) => start); // the positions, from 0
    const sliders = spec.sliders.map(([name, values, , kind], i) => {
      const check = kind === 'check'; // of the values "on" and "off"
      let row = grid;
      if (check) { // side by side with those before it
        row = grid.lastChild;
        if (row?.className !== 'checks') row = add(grid, 'div', { class: 'checks' });
      }
      const label = add(row, 'label');
      add(label, 'span', {}, name);
      const input = add(label, 'input', {
        type: check ? 'checkbox' : 'range', max: values.length - 1, autocomplete: 'off'
      });
      input.addEventListener('input', () => {
        setTimer(0);
        at[i] = check ? values.indexOf(input.checked ? 'on' : 'off') : +input.value;
        draw();
      });
      if (kind === 'play') {
        button = add(grid, 'button', { 'aria-label': `Play ${name}` });
        button.addEventListener('click', () => play(i, values.length - 1));
      }
      // As wide as the longest value, lest the slider change its length as it moves.
      const longest = values.reduce((a, b) => (b.length > a.length ? b : a));
      const output = add(check ? label : grid, 'output', {
        ...HIDDEN, 'data-longest': longest
      });
      return { input, output, values };
    });

    const stage = add(all, 'div', { class: 'stage' });
    stage.style.maxWidth = Math.min(640, (480 * fullWidth) / fullHeight) + 'px';
    const svg = add(stage, 'svg', {
      viewBox: [-margin, -margin, fullWidth, fullHeight].join(' '),
      role: 'group', 'aria-label': spec.alt
    });
    add(svg, 'rect', { width, height, style: 'fill: #fff; stroke: #767676' });
    const pictures = spec.images.map((href) => href && add(svg, 'image', {
      width, height, href, preserveAspectRatio: 'none', ...HIDDEN,
      // So few pixels are there to be counted.
      style: width <= 100 ? 'image-rendering: pixelated' : ''
    }));
    const marks = add(svg, 'g', { class: 'boxes', ...HIDDEN });
    const lines = add(svg, 'g', { class: 'lines', ...HIDDEN });
    const hits = add(svg, 'g');
    const labels = add(stage, 'div', HIDDEN);

    const legend = add(all, 'div', { class: 'legend' });
    for (const style of spec.styles) {
      if (!style[0]) continue; // of a line without a name
      const entry = add(legend, 'span');
      trace(add(entry, 'svg', HIDDEN), style[4] ? [18, 6] : [2, 6, 34, 6], style);
      add(entry, 'span', {}, style[0]);
    }
    const link = LINKS ? add(legend, 'a', {}, 'Link to this view') : null;
    const sentence = add(all, 'p', { class: 'sentence' });
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
      set(event.target, { tabindex: -1 });
      set(next, { tabindex: 0 });
      next.focus();
    });

    // Nothing moves before the reader presses the button, and then only one step where
    // less motion is wanted.
    function play(i, last) {
      if (timer) return setTimer(0);
      if (at[i] === last) at[i] = -1;
      function step() {
        at[i] += 1;
        if (at[i] === last || !host.isConnected) setTimer(0);
        draw();
      }
      if (!matchMedia('(prefers-reduced-motion: reduce)').matches) {
        setTimer(setInterval(step, 1000));
      }
      step();
    }
    // 0 stops. While it plays, sentences come too fast to be read out.
    function setTimer(next) {
      clearInterval(timer);
      timer = next;
      if (button) set(button, { 'aria-pressed': timer > 0 });
      set(sentence, { 'aria-live': timer ? 'off' : 'polite' });
    }

    // The address of this view: #rpn, which figure of the page, the positions.
    const figures = () => [...document.querySelectorAll('rpn-explorer')];
    const address = () => ['#rpn', figures().indexOf(host) + 1, ...at].join('-');
    function follow() {
      const [name, figure, ...wanted] = location.hash.split('-');
      if (name !== '#rpn' || figures()[figure - 1] !== host) return;
      const known = ({ values }, i) => values[+wanted[i]] !== undefined;
      if (!sliders.every(known)) return;
      setTimer(0);
      for (const i of at.keys()) at[i] = +wanted[i];
      draw();
      host.scrollIntoView();
    }

    function tag(text, x, y, kind, lift) {
      if (!text) return;
      const node = add(labels, 'span', { class: 'label' }, text);
      const [left, top] = [(x + margin) / fullWidth, (y + margin) / fullHeight];
      node.style.borderColor = spec.styles[kind][1];
      node.style.left = `clamp(0%, ${100 * left}%, 100% - 12px - ${text.length}ch)`;
      node.style.top = `clamp(0%, ${100 * top}% - ${lift}px, 100% - 16px)`;
    }

    function draw() {
      let index = 0; // the last slider changes fastest
      sliders.forEach(({ input, output, values }, i) => {
        index = index * values.length + at[i];
        const value = values[at[i]];
        output.textContent = value;
        input.checked = value === 'on';
        if (input.type === 'checkbox') return;
        input.value = at[i];
        set(input, { 'aria-valuetext': value });
      });
      if (link) set(link, { href: address() });
      const [text, numbers, lineNumbers = [], picture = 0] = spec.states[index];
      sentence.textContent = text;
      // Never lower than it was: what follows must not jump as a slider moves.
      sentence.style.minHeight = sentence.offsetHeight + 'px';
      pictures.forEach((node, i) => {
        if (node) node.style.display = i === picture ? '' : 'none';
      });
      for (const group of [marks, lines, hits, labels]) group.textContent = '';
      const boxes = numbers.map((number) => spec.boxes[number]);
      for (const box of boxes) {
        const [x1, y1, , , kind, label] = box;
        stroke(marks, 'path', { d: outline(box) }, spec.styles[kind]);
        tag(label, x1, y1, kind, 0);
      }
      for (const number of lineNumbers) {
        const [points, kind, label] = spec.lines[number];
        trace(lines, points, spec.styles[kind]);
        tag(label, ...points.slice(-2), kind, 20);
      }
      // Small boxes last, so that the pointer finds them inside large ones.
      const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
      for (const box of boxes.slice().sort((a, b) => area(b) - area(a))) {
        const [x1, y1, x2, y2, kind, label, iou] = box;
        const hit = add(hits, 'path', {
          d: outline(box), class: 'hit', role: 'img', tabindex: hits.firstChild ? -1 : 0
        });
        hit.style.color = spec.styles[kind][1];
        const name = [spec.styles[kind][0], label].filter(Boolean).join(', ');
        const best = iou === undefined ? ''
          : `; best IoU with a true box ${(iou / 1000).toFixed(3)}`;
        add(hit, 'title', {}, `${name}: (${x1}, ${y1}, ${x2}, ${y2})${best}`);
      }
      pick(null);
    }
    setTimer(0);
    draw();
    if (LINKS) for (const type of ['load', 'hashchange']) addEventListener(type, follow);
    return all;
  }

  function outline([x1, y1, x2, y2]) {
    return `M${x1},${y1}H${x2}V${y2}H${x1}Z`;
  }

  customElements.define('rpn-explorer', class extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return; // moved to another place in the page
      try {
        const content = build(JSON.parse(this.getAttribute('spec')), this);
        this.attachShadow({ mode: 'open' }).appendChild(content);
      } catch (error) { // the picture inside the element stays
        console.warn('rpn-explorer cannot show its sliders:', error);
      }
    }
  });
})();
