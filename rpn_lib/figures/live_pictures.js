// <rpn-live>: the pictures that the network is given, and a sheet to draw one on.

const SIDE = 240; // pixels of the shorter side of a photograph, 5 / 3 of it the longer
const SMALLEST = 16;

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
