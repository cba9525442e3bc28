// <rpn-live network="...">: the network at work, step by step. The graph of the network
// computes; this element hands it pictures and shows what it gives. This file is what its
// reader can do: give pictures, walk through the steps, choose.

class Live extends View {
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
}

customElements.define('rpn-live', Live);
