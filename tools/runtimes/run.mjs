// Run one model in onnxruntime for JavaScript; what goes in and comes out is as run.py has it.
//
//     node run.mjs node|web FOLDER RUNS          (where npm install onnxruntime-node onnxruntime-web was done)
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [kind, folder, runs] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), 'x.js'));
const ort = require(kind === 'node' ? 'onnxruntime-node' : 'onnxruntime-web');
const half = globalThis.Float16Array ?? Uint16Array;
const arrays = { float: Float32Array, float16: half, int64: BigInt64Array, uint8: Uint8Array, bool: Uint8Array };
const names = { float: 'float32' };

if (kind === 'web') ort.env.wasm.numThreads = 1;
const told = JSON.parse(readFileSync(join(folder, 'feeds.json')));
const feeds = {};
for (const { name, dtype, shape, file } of told.feeds) {
  const bytes = readFileSync(join(folder, file));
  const numbers = new arrays[dtype](bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  feeds[name] = new ort.Tensor(names[dtype] ?? dtype, numbers, shape);
}
const model = join(folder, 'model.onnx');
const providers = [kind === 'node' ? 'cpu' : 'wasm'];
const session = await ort.InferenceSession.create(
  kind === 'node' ? model : new Uint8Array(readFileSync(model)), { executionProviders: providers, intraOpNumThreads: 1 });
const milliseconds = [];
let found;
for (let k = 0; k <= Number(runs); k++) {
  const start = process.cpuUsage();
  found = await session.run(feeds, told.outputs);
  const { user, system } = process.cpuUsage(start);
  milliseconds.push((user + system) / 1000);
}
const outputs = told.outputs.map((name, k) => {
  const { data, dims, type } = found[name];
  writeFileSync(join(folder, `output${k}.bin`), Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  return { name, dtype: type === 'float32' ? 'float' : type, shape: dims, file: `output${k}.bin` };
});
writeFileSync(join(folder, 'outputs.json'), JSON.stringify({ outputs, milliseconds: milliseconds.slice(1) }));
