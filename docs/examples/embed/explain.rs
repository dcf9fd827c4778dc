// Explain a picture with onnxruntime for Rust, the crate `ort`: explain FOLDER PICTURE.rgb TARGET OUT
//
//     cargo add ort@=2.0.0-rc.13          (this file is src/main.rs)
//
// The graph is of fixed size (--input-shape), so that the session itself knows all that manifest.json says of its
// inputs, and no JSON needs to be read: the picture comes first, then `target`.
use std::{env, error::Error, fs, path::Path};

use ort::{session::Session, value::Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, picture, target, out] = &arguments[..] else { return Err("FOLDER PICTURE.rgb TARGET OUT".into()) };
    let mut session = Session::builder()?.commit_from_file(Path::new(folder).join("explain.onnx"))?;
    let names: Vec<String> = session.inputs().iter().map(|input| input.name().to_string()).collect();
    let shape = session.inputs()[0].dtype().tensor_shape().ok_or("the first input is no tensor")?.to_vec();
    let image = Tensor::from_array((shape, fs::read(picture)?))?;
    // The class to explain in each image, -1 for the strongest.
    let target = Tensor::from_array(([1], vec![target.parse::<i64>()?]))?;
    let outputs = session.run(ort::inputs![&names[0] => image, &names[1] => target])?;

    // Four outputs after the model's own: reconstruction, heat, scores, explained.
    let first = outputs.len() - 4;
    let (_, reconstruction) = outputs[first].try_extract_tensor::<f32>()?;
    let (_, heat) = outputs[first + 1].try_extract_tensor::<u8>()?;
    let (_, explained) = outputs[first + 3].try_extract_tensor::<i64>()?;
    println!("{}", explained[0]); // what was explained, said by the graph itself
    let floats: Vec<u8> = reconstruction.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(Path::new(out).join("reconstruction.f32"), floats)?;
    fs::write(Path::new(out).join("heat.rgb"), heat)?;
    Ok(())
}
