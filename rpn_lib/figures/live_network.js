// <rpn-live>: the network, which computes in a worker (graph.js does).

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
