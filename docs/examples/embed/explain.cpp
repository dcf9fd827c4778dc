// Explain a picture with onnxruntime for C++: explain FOLDER PICTURE.rgb TARGET OUT
//
//     g++ -std=c++17 -I HEADERS explain.cpp -o explain LIBRARIES/libonnxruntime.so.1 -Wl,-rpath,LIBRARIES
//
// The graph is of fixed size (--input-shape), so that the session itself knows all that manifest.json says of its
// inputs, and no JSON needs to be read: the picture comes first, then `target`.
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

int main(int, char** arguments) {
  const std::string folder = arguments[1], out = arguments[4];
  std::ifstream file(arguments[2], std::ios::binary);
  std::vector<uint8_t> picture{std::istreambuf_iterator<char>(file), {}};
  int64_t target = std::stoll(arguments[3]);  // the class to explain, -1 for the strongest
  const int64_t targets = 1;                  // one for each image

  Ort::Env environment;
  Ort::Session session(environment, (folder + "/explain.onnx").c_str(), Ort::SessionOptions{});
  Ort::AllocatorWithDefaultOptions allocator;
  const auto image_name = session.GetInputNameAllocated(0, allocator);
  const auto target_name = session.GetInputNameAllocated(1, allocator);
  // Four outputs after the model's own: reconstruction, heat, scores, explained.
  std::vector<Ort::AllocatedStringPtr> names;
  std::vector<const char*> output_names;
  for (size_t k = session.GetOutputCount() - 4; k < session.GetOutputCount(); k++) {
    names.push_back(session.GetOutputNameAllocated(k, allocator));
    output_names.push_back(names.back().get());
  }
  const auto type = session.GetInputTypeInfo(0);  // lives as long as the view of it in the next line
  const auto shape = type.GetTensorTypeAndShapeInfo().GetShape();

  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  Ort::Value inputs[] = {
      Ort::Value::CreateTensor(memory, picture.data(), picture.size(), shape.data(), shape.size()),
      Ort::Value::CreateTensor(memory, &target, 1, &targets, 1),
  };
  const char* input_names[] = {image_name.get(), target_name.get()};
  const auto outputs = session.Run(Ort::RunOptions{}, input_names, inputs, 2, output_names.data(), 4);

  std::cout << outputs[3].GetTensorData<int64_t>()[0] << '\n';  // what was explained, said by the graph itself
  const auto write = [&](const Ort::Value& value, const char* name, size_t bytes) {
    std::ofstream(out + name, std::ios::binary)
        .write(static_cast<const char*>(value.GetTensorRawData()),
               bytes * value.GetTensorTypeAndShapeInfo().GetElementCount());
  };
  write(outputs[0], "/reconstruction.f32", sizeof(float));
  write(outputs[1], "/heat.rgb", sizeof(uint8_t));
}
