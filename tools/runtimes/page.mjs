// Run one model on WebGPU, in a page: what run.mjs does in Node. webgpu.py serves all that is fetched here.
import * as ort from '/node_modules/onnxruntime-web/dist/ort.webgpu.bundle.min.mjs';

const half = globalThis.Float16Array ?? Uint16Array;
const arrays = { float: Float32Array, float16: half, int64: BigInt64Array, uint8: Uint8Array };

function base64(data) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  let text = '';
  for (let k = 0; k < bytes.length; k += 0x8000) text += String.fromCharCode(...bytes.subarray(k, k + 0x8000));
  return btoa(text);
}

export async function run(runs) {
  const bytes = async (file) => (await fetch(`/folder/${file}`)).arrayBuffer();
  const told = await (await fetch('/folder/feeds.json')).json();
  const feeds = {};
  for (const { name, dtype, shape, file } of told.feeds) {
    feeds[name] = new ort.Tensor(dtype === 'float' ? 'float32' : dtype, new arrays[dtype](await bytes(file)), shape);
  }
  ort.env.wasm.numThreads = 1;
  const model = new Uint8Array(await bytes('model.onnx'));
  const session = await ort.InferenceSession.create(model, { executionProviders: ['webgpu'] });
  const milliseconds = [];
  let found;
  for (let k = 0; k <= runs; k++) {
    const start = performance.now();
    found = await session.run(feeds, told.outputs);
    milliseconds.push(performance.now() - start);
  }
  const outputs = told.outputs.map((name) => {
    const { data, dims, type } = found[name];
    return { name, dtype: type === 'float32' ? 'float' : type, shape: dims, data: base64(data) };
  });
  return { outputs, milliseconds: milliseconds.slice(1) };
}
