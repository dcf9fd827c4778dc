// Explain a picture with onnxruntime-node: node explain.mjs FOLDER PICTURE.rgb TARGET OUT
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ort from 'onnxruntime-node';

const [folder, picture, target, out] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
const session = await ort.InferenceSession.create(join(folder, manifest.file));
const outputs = await session.run({
  [manifest.inputs[0].name]: new ort.Tensor(
    'uint8', new Uint8Array(readFileSync(picture)), [1, ...manifest.preprocessing.size, 3]),
  // The class to explain in each image, -1 for the strongest. int64 is BigInt in JavaScript.
  [manifest.target.name]: new ort.Tensor('int64', [BigInt(target)], [1]),
});
const names = manifest.outputs.map(({ name }) => name).slice(-4); // the model's own outputs come first
const [reconstruction, heat, , explained] = names.map((name) => outputs[name]);
const found = Number(explained.data[0]); // what was explained, said by the graph itself
console.log(found, manifest.labels[found] ?? ''); // not every model has labels
writeFileSync(join(out, 'heat.rgb'), heat.data);
writeFileSync(join(out, 'reconstruction.f32'), reconstruction.data); // little-endian floats, as the machine has them
