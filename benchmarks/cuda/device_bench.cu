// krul_device_bench FOLDER: what krul does on the first CUDA device of this machine, beside what the device does at
// best. Prints tables and writes them as CSV into the folder. About three minutes.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "krul/cuda/devices.hpp"
#include "measure_copies.cuh"
#include "measure_decoding.cuh"
#include "measure_passes.cuh"

namespace krul::bench {
namespace {

/// What is measured with so many layers is multiplied: eight do not fit a cache and are loaded in seconds.
constexpr std::size_t measured_layers = 8;

/// The machine that krul simulate knows and this device is one of.
[[nodiscard]] bool find_like(const std::string& device, simulate::Hardware& like) {
  for (const auto& [part, name] : {std::pair("A100", "a100-pcie4"), {"H100", "h100-pcie5"}, {"H200", "h200-pcie5"}})
    if (device.find(part) != std::string::npos) return simulate::find_hardware(name, like);
  return false;
}

void run(const std::filesystem::path& folder) {
  const auto begin = std::chrono::steady_clock::now();
  const auto taken_s = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const auto found = or_throw(cuda::devices());
  cuda::CudaDevice device = or_throw(cuda::CudaDevice::open(0));
  simulate::Hardware like;
  const bool known = find_like(found.at(0).name, like);

  ResultTable about("run", {"what", "is"});
  int driver = 0, runtime = 0;
  or_throw(cuda::checked(cudaDriverGetVersion(&driver), "cudaDriverGetVersion"));
  or_throw(cuda::checked(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion"));
  about.add({"device", found[0].name});
  about.add({"architecture", "sm_" + std::to_string(found[0].major) + std::to_string(found[0].minor)});
  about.add({"multiprocessors", std::to_string(device.multiprocessors())});
  about.add({"memory, GiB", number_text(static_cast<double>(found[0].bytes) / (1 << 30))});
  about.add({"CUDA of the driver", std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10)});
  about.add({"CUDA runtime", std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10)});
  about.add({"simulated as", known ? std::string(like.accelerator.name) : "nothing"});

  ResultTable copies("copies", {"how", "direction", "bytes", "us", "GB/s"});
  const CopyRates rates = measure_copies(device, copies);
  or_throw(copies.write(folder));
  about.add({"link to the device, GB/s", number_text(rates.to_device / 1e9)});
  about.add({"link from the device, GB/s", number_text(rates.from_device / 1e9)});
  about.add({"memory, GB/s", number_text(rates.memory / 1e9)});

  ResultTable expanding("expanding", {"codec", "GB/s of rows", "GB/s of memory"});
  measure_expanding(device, expanding);
  or_throw(expanding.write(folder));

  ResultTable decoding("decoding", {"model", "layers together", "what", "chunks", "strength", "GB/s of rows",
                                    "us a token", "us simulated"});
  for (const GroupShape& group :
       {GroupShape{"smollm2-135m", 8, 768}, GroupShape{"llama-3-8b", 2, 1024}, GroupShape{"qwen2.5-7b", 4, 1024}})
    measure_chunks(device, group, known ? &like.accelerator : nullptr, decoding);
  or_throw(decoding.write(folder));

  ResultTable passes(
      "passes", {"model", "layers", "history", "rows", "ms", "ms simulated", "tokens/s", "ms to begin", "ms a layer",
                 "ms of logits", "ms a layer's products", "TFLOP/s", "of cuBLAS", "GB/s", "of memory"});
  for (const char* model : {"llama-7b", "llama-3-8b", "qwen2.5-7b"}) {
    measure_passes(device, *simulate::model_shape(model), measured_layers, {rates, known ? &like : nullptr}, passes);
    or_throw(passes.write(folder));
  }
  about.add({"seconds that this took", number_text(taken_s())});
  or_throw(about.write(folder));
}

}  // namespace
}  // namespace krul::bench

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: krul_device_bench FOLDER\n");
    return 2;
  }
  try {
    std::filesystem::create_directories(arguments[1]);
    krul::bench::run(arguments[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "krul_device_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
