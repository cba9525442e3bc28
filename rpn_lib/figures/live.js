// <rpn-live network="...">: the network at work, step by step. The graph of the network
// computes (graph.js, in a worker); this script hands it pictures and draws what it gives.
(() => {
  'use strict';
  if (customElements.get('rpn-live')) return;

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
  const SIDE = 240; // pixels of the shorter side of a photograph, 5 / 3 of it the longer
  const SMALLEST = 16;

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

  // ---- The network, in a worker ------------------------------------------------------

  function serve() { // runs there; only its text is used here
    let graph;
    let beside = {}; // what the threshold of NMS needs besides itself
    globalThis.onmessage = ({ data: { id, network, bytes, kernel, given, outputs } }) => {
      try {
        if (network) {
          graph = globalThis.rpnGraph(kernel).load(network, bytes);
          return;
        }
        const names = graph.besides('iou_threshold');
        const tell = (share) => postMessage({ id, share });
        const result = graph.run({ ...beside, ...given },
          given.images ? [...new Set([...outputs, ...names])] : outputs, tell);
        if (given.images) beside = Object.fromEntries(names.map((name) => [name, result[name]]));
        postMessage({ id, result: Object.fromEntries(outputs.map((n) => [n, result[n]])) });
      } catch (error) {
        postMessage({ id, error: error.message });
      }
    };
  }

  function unpack(text) { // base64
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let n = 0; n < bytes.length; n++) bytes[n] = binary.charCodeAt(n);
    return bytes;
  }

  class Engine {
    constructor(network) {
      const bytes = unpack(network.bytes);
      const source = `${globalThis.rpnGraph}\nglobalThis.rpnGraph = rpnGraph;\n(${serve})();`;
      const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
      this.worker = new Worker(address);
      URL.revokeObjectURL(address);
      this.worker.onmessage = ({ data }) => this.hear(data);
      this.worker.onerror = (event) => this.hear({ error: event.message });
      const { nodes, constants } = network;
      this.worker.postMessage({ network: { nodes, constants }, bytes: bytes.buffer,
        kernel: unpack(network.kernel) }, [bytes.buffer]);
      this.waiting = null; // of several requests in a row only the last one counts
      this.busy = null;
      this.count = 0;
    }

    // Resolves to the outputs, or to null where a later request took its place.
    run(given, outputs, progress = () => {}) {
      return new Promise((resolve, reject) => {
        this.waiting?.resolve(null);
        this.waiting = { given, outputs, progress, resolve, reject };
        if (!this.busy) this.next();
      });
    }

    next() {
      this.busy = this.waiting;
      this.waiting = null;
      if (!this.busy) return;
      const { given, outputs } = this.busy;
      this.busy.id = ++this.count;
      this.worker.postMessage({ id: this.count, given, outputs });
    }

    hear({ share, result, error }) {
      if (share !== undefined) {
        this.busy?.progress(share);
        return;
      }
      const { resolve, reject } = this.busy ?? {};
      this.next();
      if (error) reject?.(new Error(error));
      else resolve?.(result);
    }
  }

  // ---- Pictures ----------------------------------------------------------------------

  // The size that the library gives to photographs: shorter side 240, longer at most 400.
  function shrunk(width, height) {
    let short = SIDE;
    let long = Math.trunc((SIDE * Math.max(width, height)) / Math.min(width, height));
    const longest = Math.trunc((SIDE * 5) / 3);
    if (long > longest) {
      [short, long] = [Math.max(1, Math.trunc((longest * short) / long)), longest];
    }
    return width <= height ? [short, long] : [long, short];
  }

  function loadImage(address) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error('This file is not a picture that the browser can read.'));
      image.src = address;
    });
  }

  function canvasOf(source, width, height) {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.imageSmoothingQuality = 'high';
    context.fillStyle = '#fff'; // behind what is transparent
    context.fillRect(0, 0, width, height);
    if (source) context.drawImage(source, 0, 0, width, height);
    return canvas;
  }

  function tensorOf(canvas) { // (1, 3, height, width), from 0 to 1
    const { width, height } = canvas;
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    const pixels = new Float32Array(3 * width * height);
    for (let n = 0; n < width * height; n++) {
      for (let c = 0; c < 3; c++) pixels[c * width * height + n] = data[4 * n + c] / 255;
    }
    return { type: 'float', shape: [1, 3, height, width], data: pixels };
  }

  // A sheet to draw on, as the ground of a scene is: a gradient with some noise.
  class Drawing {
    constructor() {
      [this.width, this.height] = [256, 192];
      this.shapes = [
        { kind: 'rectangle', box: [24, 30, 84, 90], colour: '#d8572a' },
        { kind: 'ellipse', box: [120, 20, 220, 80], colour: '#2f6690' },
        { kind: 'triangle', box: [100, 104, 164, 170], colour: '#e8c547' }
      ];
      this.chosen = 0;
      this.ground = new ImageData(this.width, this.height);
      let seed = 1;
      for (let n = 0; n < this.width * this.height; n++) {
        const [x, y] = [(n % this.width) / this.width, n / this.width / this.height];
        for (let c = 0; c < 3; c++) {
          seed = (seed * 16807) % 2147483647;
          this.ground.data[4 * n + c] = 105 + 40 * x + [20, 5, 35][c] * y + (seed % 16);
        }
        this.ground.data[4 * n + 3] = 255;
      }
    }

    add(kind) {
      const colours = ['#7f4f9e', '#3a9e5c', '#d8572a', '#e8c547', '#2f6690'];
      const [x, y] = [20 + ((this.shapes.length * 53) % 170), 15 + ((this.shapes.length * 37) % 110)];
      this.shapes.push({ kind, box: [x, y, x + 56, y + 48], colour: colours[this.shapes.length % 5] });
      this.chosen = this.shapes.length - 1;
    }

    remove() {
      this.shapes.splice(this.chosen, 1);
      this.chosen = this.shapes.length - 1;
    }

    move(dx, dy, grow) { // by pixels of the picture; nothing leaves the sheet
      const shape = this.shapes[this.chosen];
      if (!shape) return;
      const [x1, y1, x2, y2] = shape.box;
      const cut = (value, low, high) => Math.max(low, Math.min(high, value));
      if (grow) {
        shape.box = [x1, y1, cut(x2 + dx, x1 + 12, this.width), cut(y2 + dy, y1 + 12, this.height)];
      } else {
        const [right, down] = [cut(dx, -x1, this.width - x2), cut(dy, -y1, this.height - y2)];
        shape.box = [x1 + right, y1 + down, x2 + right, y2 + down];
      }
    }

    at(x, y) { // the number of the topmost shape there, or -1
      return this.shapes.findLastIndex(({ box: [x1, y1, x2, y2] }) => (
        x >= x1 && x <= x2 && y >= y1 && y <= y2));
    }

    canvas() {
      const canvas = canvasOf(null, this.width, this.height);
      const context = canvas.getContext('2d');
      context.putImageData(this.ground, 0, 0);
      for (const { kind, box: [x1, y1, x2, y2], colour: fill } of this.shapes) {
        context.fillStyle = fill;
        context.beginPath();
        if (kind === 'rectangle') context.rect(x1, y1, x2 - x1, y2 - y1);
        if (kind === 'ellipse') {
          context.ellipse((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2, 0, 0, 7);
        }
        if (kind === 'triangle') {
          context.moveTo((x1 + x2) / 2, y1);
          context.lineTo(x2, y2);
          context.lineTo(x1, y2);
        }
        context.fill();
      }
      return canvas;
    }
  }

  // ---- What the network gave, in the terms of the page --------------------------------

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

  // ---- The element --------------------------------------------------------------------

  class Live extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return; // moved to another place in the page
      const fallback = this.querySelector('img');
      this.first = fallback.src;
      this.step = PROPOSALS;
      this.many = 20; // candidates that are drawn
      this.way = 1; // from anchors (0) to boxes (1)
      this.least = 0.5; // score of a proposal that is shown
      this.cell = null;
      this.picked = null; // a candidate
      this.map = null; // what lies over the picture: [level, shape or channel]
      this.build(this.attachShadow({ mode: 'open' }));
      loadImage(this.first).then((image) => {
        if (!this.canvas) this.show(canvasOf(image, image.naturalWidth, image.naturalHeight));
      });
    }

    disconnectedCallback() {
      this.stopCamera();
    }

    build(root) {
      add(root, 'style', {}, globalThis.rpnLiveStyle);
      const all = add(root, 'div', { role: 'group', 'aria-label': 'The network at work' });
      // Arrow keys turn pages in a book.
      all.addEventListener('keydown', (event) => {
        if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
      });
      const sources = add(all, 'div', { class: 'row', role: 'group', 'aria-label': 'Choose a picture' });
      button(sources, 'Draw shapes', () => this.draw());
      button(sources, 'Another scene', () => this.another());
      button(sources, 'A photograph…', () => this.file.click());
      this.file = add(sources, 'input', { type: 'file', accept: 'image/*', hidden: '', 'aria-label': 'A photograph' });
      this.file.addEventListener('change', () => {
        if (this.file.files[0]) this.photograph(this.file.files[0]);
        this.file.value = '';
      });
      this.cameraButton = button(sources, 'Camera', () => this.toggleCamera());
      this.cameraButton.hidden = !navigator.mediaDevices?.getUserMedia;
      this.tools = add(all, 'div', { class: 'row', role: 'group', 'aria-label': 'Shapes', hidden: '' });
      for (const kind of ['rectangle', 'ellipse', 'triangle']) {
        button(this.tools, `Add ${kind}`, () => this.edit((drawing) => drawing.add(kind)));
      }
      button(this.tools, 'Remove', () => this.edit((drawing) => drawing.remove()));
      const steps = add(all, 'ol', { class: 'steps', 'aria-label': 'Steps of the network' });
      this.buttons = STEPS.map((name, i) => (
        button(add(steps, 'li'), `${i + 1} ${name}`, () => this.go(i))));
      steps.addEventListener('keydown', (event) => {
        const to = { ArrowLeft: this.step - 1, ArrowRight: this.step + 1, Home: 0, End: PROPOSALS }[event.key];
        if (!STEPS[to]) return;
        event.preventDefault();
        this.go(to);
        this.buttons[to].focus();
      });
      const view = add(all, 'div', { class: 'view' });
      this.stage = add(view, 'div', { class: 'stage' });
      this.svg = add(this.stage, 'svg', { role: 'img', 'aria-label': 'The picture, with boxes', tabindex: 0 });
      this.startButton = button(this.stage, 'Run the network', () => this.run());
      this.startButton.className = 'start';
      if (this.getAttribute('network')) this.startButton.textContent = 'Run the network (1.7 MB)';
      this.legend = add(this.stage, 'div', { class: 'legend' });
      const wait = add(this.stage, 'div', { class: 'wait' });
      this.progress = add(wait, 'progress', { max: 1, value: 0, hidden: '', 'aria-label': 'The network is computing' });
      this.status = add(this.stage, 'p', { class: 'status', 'aria-live': 'polite' });
      this.side = add(view, 'div');
      this.text = add(this.side, 'p');
      this.controls = add(this.side, 'div');
      this.detail = add(this.side, 'div');
      this.listen(all);
      this.update();
    }

    listen(all) {
      for (const type of ['dragover', 'dragleave', 'drop']) {
        all.addEventListener(type, (event) => {
          event.preventDefault();
          all.classList.toggle('drop', type === 'dragover');
          if (type === 'drop') this.photograph(event.dataTransfer.files[0]);
        });
      }
      document.addEventListener('paste', (event) => {
        const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith('image/'));
        if (file && this.isConnected) this.photograph(file);
      });
      let from = null; // where a shape was last, while it is dragged
      this.svg.addEventListener('pointerdown', (event) => {
        const [x, y] = this.place(event);
        if (!this.editing) {
          this.choose(x, y);
          return;
        }
        const shape = this.drawing.shapes[this.drawing.chosen];
        const reach = 10 * this.scale();
        const corner = shape && Math.hypot(shape.box[2] - x, shape.box[3] - y) < reach;
        if (!corner) this.drawing.chosen = this.drawing.at(x, y);
        if (this.drawing.chosen >= 0) {
          from = [x, y, corner];
          this.svg.setPointerCapture(event.pointerId);
        }
        this.update();
      });
      this.svg.addEventListener('pointermove', (event) => {
        const [x, y] = this.place(event);
        if (from) {
          this.drawing.move(x - from[0], y - from[1], from[2]);
          from = [x, y, from[2]];
          this.show(this.drawing.canvas());
        } else if (event.pointerType === 'mouse' && this.step <= SCORES && !this.editing) {
          this.choose(x, y);
        }
      });
      this.svg.addEventListener('pointerup', () => {
        if (from) this.run();
        from = null;
      });
      this.svg.addEventListener('keydown', (event) => this.key(event));
    }

    key(event) {
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const [dx, dy] = arrows[event.key] ?? [0, 0];
      if (this.editing && event.key === 'Delete') this.edit((drawing) => drawing.remove());
      if (!dx && !dy) return;
      event.preventDefault();
      if (this.editing) {
        this.edit((drawing) => drawing.move(4 * dx, 4 * dy, event.shiftKey));
      } else if (this.stages && this.step <= SCORES) {
        const { level = 0, row = 0, column = 0 } = this.cell ?? {};
        const { rows, columns } = this.stages.levels[level];
        this.setCell({ level, row: Math.max(0, Math.min(rows - 1, row + dy)),
          column: Math.max(0, Math.min(columns - 1, column + dx)) }, true);
      } else if (this.stages) {
        const drawn = this.drawn();
        const next = drawn.indexOf(this.picked) + dx + dy;
        this.pick(drawn[(next + drawn.length) % drawn.length] ?? null);
      }
    }

    // -- Pictures

    get editing() {
      return this.drawing && this.step === PICTURE;
    }

    show(canvas) {
      this.canvas = canvas;
      this.address = canvas.toDataURL();
      this.update();
    }

    // Another picture takes the place of this one.
    async take(canvas, { drawing = null, keep = false, note = '' } = {}) {
      if (!keep) this.stopCamera();
      this.drawing = drawing;
      this.tools.hidden = !drawing;
      this.cell = null;
      this.picked = null;
      this.photo = note;
      if (!keep) {
        this.fresh = false; // the boxes are those of the picture before
        this.tell('');
      }
      this.show(canvas);
      await this.run();
    }

    draw() {
      this.step = PICTURE;
      const drawing = new Drawing();
      return this.take(drawing.canvas(), { drawing });
    }

    edit(change) {
      change(this.drawing);
      this.step = PICTURE;
      this.show(this.drawing.canvas());
      return this.run();
    }

    async another() {
      if (!await this.ready()) return;
      const { pictures } = this.network;
      this.scene = ((this.scene ?? 0) + 1) % pictures.length;
      const image = await loadImage(pictures[this.scene]);
      await this.take(canvasOf(image, image.naturalWidth, image.naturalHeight));
    }

    async photograph(file) {
      if (!file) {
        this.tell('What was dropped is not a file; drop a picture.', true);
        return;
      }
      const address = URL.createObjectURL(file);
      try {
        const image = await loadImage(address);
        const { naturalWidth: width, naturalHeight: height } = image;
        const size = shrunk(width, height);
        if (Math.min(width, height, ...size) < SMALLEST) {
          throw new Error(`This picture of ${width} × ${height} pixels is too small or too narrow: `
            + `the network needs ${SMALLEST} pixels in each direction, after shrinking too.`);
        }
        const note = `${width} × ${height} pixels were shrunk to ${size[0]} × ${size[1]}`;
        await this.take(canvasOf(image, ...size), { note });
      } catch (error) {
        this.tell(error.message, true);
      } finally {
        URL.revokeObjectURL(address);
      }
    }

    async toggleCamera() {
      if (this.stream) {
        this.stopCamera();
        return;
      }
      try {
        this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
      } catch (error) {
        this.tell(error.name === 'NotAllowedError'
          ? 'The browser did not allow the camera.' : 'No camera was found.', true);
        return;
      }
      this.cameraButton.textContent = 'Stop the camera';
      this.cameraButton.setAttribute('aria-pressed', true);
      const { stream } = this;
      if (await this.ready()) this.tell('The camera is on.');
      const video = document.createElement('video');
      Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
      await video.play();
      while (this.stream === stream && this.isConnected) {
        const size = shrunk(video.videoWidth, video.videoHeight);
        await this.take(canvasOf(video, ...size), { keep: true, note: 'a picture of the camera' });
        await new Promise(requestAnimationFrame);
      }
    }

    stopCamera() {
      for (const track of this.stream?.getTracks() ?? []) track.stop();
      this.stream = null;
      this.cameraButton.textContent = 'Camera';
      this.cameraButton.removeAttribute('aria-pressed');
    }

    // -- The network

    // Loads it, once; false where that fails.
    async ready() {
      const source = this.getAttribute('network');
      try {
        if (!globalThis.rpnNetwork && source) {
          this.tell('Loading the network …');
          this.loading ??= new Promise((resolve, reject) => {
            const script = document.createElement('script');
            script.onload = resolve;
            script.onerror = () => {
              this.loading = null;
              script.remove();
              reject(new Error('The network could not be loaded: check the connection, then click again.'));
            };
            script.src = source;
            document.head.append(script);
          });
          await this.loading;
        }
        if (!this.engine) {
          this.network = globalThis.rpnNetwork;
          this.iou = this.network.settings.iouThreshold;
          this.engine = new Engine(this.network);
          this.network.bytes = ''; // the worker has them
        }
        return true;
      } catch (error) {
        this.tell(error.message, true);
        return false;
      }
    }

    // Every stage of a picture (1, 3, height, width), from 0 to 1: what the steps show.
    async propose(images) {
      if (!await this.ready()) return null;
      const threshold = { type: 'float', shape: [], data: Float32Array.of(this.iou) };
      this.progress.hidden = false;
      try {
        return await this.engine.run({ images, iou_threshold: threshold }, this.network.outputs,
          (share) => { this.progress.value = share; });
      } finally {
        this.progress.hidden = true;
      }
    }

    async run() {
      this.startButton.hidden = true;
      try {
        const { canvas } = this;
        const result = await this.propose(tensorOf(canvas));
        if (!result) {
          this.startButton.hidden = Boolean(this.stages || this.engine);
          return;
        }
        this.stages = new Stages(result, this.network.settings, canvas.width, canvas.height);
        this.fresh = true;
        if (this.picked >= this.stages.count) this.picked = null;
        this.update();
        if (!this.stream) this.tell(this.summary()); // not several times a second
      } catch (error) {
        this.tell(`The network stopped: ${error.message}`, true);
      }
    }

    async setThreshold(value) {
      this.iou = value;
      const threshold = { type: 'float', shape: [], data: Float32Array.of(value) };
      const { stages } = this;
      const result = await this.engine.run({ iou_threshold: threshold }, ['kept', 'suppressed_by']);
      if (!result || stages !== this.stages) return;
      Object.assign(stages.result, result);
      this.update(false);
      this.tell(this.summary());
    }

    // -- What is chosen

    scale() { // pixels of the picture in one of the screen
      return this.svg.viewBox.baseVal.width / this.svg.getBoundingClientRect().width;
    }

    place(event) {
      const point = new DOMPoint(event.clientX, event.clientY);
      const { x, y } = point.matrixTransform(this.svg.getScreenCTM().inverse());
      return [x, y];
    }

    choose(x, y) {
      if (!this.stages) return;
      if (this.step <= SCORES) {
        const level = this.map?.[0] ?? 0;
        const { stride, rows, columns } = this.stages.levels[level];
        const [row, column] = [Math.floor(y / stride), Math.floor(x / stride)];
        if (row < 0 || column < 0 || row >= rows || column >= columns) return;
        this.setCell({ level, row, column });
        return;
      }
      // The box whose edge is nearest, or the smallest one around the pointer.
      const reach = 8 * this.scale();
      let [best, least] = [null, Infinity];
      for (const k of this.drawn()) {
        const [x1, y1, x2, y2] = this.boxOf(k);
        const out = Math.max(x1 - x, x - x2, y1 - y, y - y2);
        const cost = Math.abs(out) < reach ? Math.abs(out) : out < 0 ? reach + (x2 - x1) * (y2 - y1) : Infinity;
        if (cost < least) [best, least] = [k, cost];
      }
      this.pick(best === this.picked ? null : best);
    }

    setCell(cell, aloud = false) {
      const same = this.cell && ['level', 'row', 'column'].every((key) => cell[key] === this.cell[key]);
      if (same) return;
      this.cell = { ...cell, shape: null };
      this.update(false);
      if (aloud) this.tell(this.cellText());
    }

    pick(k) {
      this.picked = k;
      this.update(false);
      this.tell(k === null ? this.summary() : this.pickedText());
    }

    go(step) {
      this.step = step;
      this.map = null;
      this.picked = null;
      this.update();
      if (this.stages) this.tell(this.summary());
      if (step === DELTAS && this.stages) this.animate();
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

  customElements.define('rpn-live', Live);
})();
