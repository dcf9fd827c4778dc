// Ask TensorRT's own parser, and its builder, whether they take graphs: neither needs a GPU.
//
// The libraries are those in the wheel onnxruntime-ep-nv-tensorrt-rtx-cu12 (0.5.0: TensorRT for RTX 1.7.1), unpacked;
// the headers those of NVIDIA/TensorRT 11.1 on GitHub, and cuda_runtime_api.h:
//
//     g++ -std=c++17 -I HEADERS -I CUDA/include tools/runtimes/tensorrt.cpp -o ask -ldl
//     LD_LIBRARY_PATH=UNPACKED ./ask [--build] explain.onnx...        # exit 0 where all are taken
#include <dlfcn.h>

#include <cstdio>
#include <cstring>

#include "NvInfer.h"
#include "NvOnnxParser.h"

struct : nvinfer1::ILogger {
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR) std::fprintf(stderr, "%s\n", text);
  }
} logger;

template <typename Function>
Function* found(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

bool built(nvinfer1::IBuilder& builder, nvinfer1::INetworkDefinition& network) {
  auto* config = builder.createBuilderConfig();
  auto* profile = builder.createOptimizationProfile();
  for (int i = 0; i < network.getNbInputs(); ++i) {  // what is open is the number of images
    auto* input = network.getInput(i);
    auto least = input->getDimensions(), usual = least, most = least;
    for (int axis = 0; axis < least.nbDims; ++axis)
      if (least.d[axis] < 0) least.d[axis] = 1, usual.d[axis] = 2, most.d[axis] = 4;
    profile->setDimensions(input->getName(), nvinfer1::OptProfileSelector::kMIN, least);
    profile->setDimensions(input->getName(), nvinfer1::OptProfileSelector::kOPT, usual);
    profile->setDimensions(input->getName(), nvinfer1::OptProfileSelector::kMAX, most);
  }
  config->addOptimizationProfile(profile);
  return builder.buildSerializedNetwork(network, *config) != nullptr;
}

int main(int count, char** given) {
  void* core = dlopen("libtensorrt_rtx.so.1.7.1", RTLD_NOW | RTLD_GLOBAL);
  void* parsers = core ? dlopen("libtensorrt_onnxparser_rtx.so.1.7.1", RTLD_NOW | RTLD_GLOBAL) : nullptr;
  if (!parsers) return std::fprintf(stderr, "%s\n", dlerror()), 2;
  const auto version = found<int32_t()>(core, "getInferLibVersion")();
  auto* builder = static_cast<nvinfer1::IBuilder*>(
      found<void*(void*, int32_t)>(core, "createInferBuilder_INTERNAL")(&logger, version));
  if (!builder) return std::fprintf(stderr, "no builder could be made\n"), 2;
  bool build = false, all = true;
  for (int k = 1; k < count; ++k) {
    if (!std::strcmp(given[k], "--build")) { build = true; continue; }
    auto* network = builder->createNetworkV2(1U << int(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED));
    auto* parser = static_cast<nvonnxparser::IParser*>(found<void*(void*, void*, int)>(
        parsers, "createNvOnnxParser_INTERNAL")(network, &logger, found<int()>(parsers, "getNvOnnxParserVersion")()));
    bool taken = parser->parseFromFile(given[k], int(nvinfer1::ILogger::Severity::kERROR));
    std::printf("%s %s", given[k], taken ? "parsed" : "refused");
    for (int e = 0; e < parser->getNbErrors(); ++e) std::printf(" | %s", parser->getError(e)->desc());
    if (taken && build) std::printf((taken = built(*builder, *network)) ? ", built" : ", not built");
    std::puts("");
    all = all && taken;
    delete parser;
    delete network;
  }
  return all ? 0 : 1;
}
