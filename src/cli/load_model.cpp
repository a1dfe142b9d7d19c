#include <algorithm>
#include <thread>

#include "device_name.hpp"
#include "krul/cuda/devices.hpp"
#include "tool.hpp"

namespace krul::cli {
namespace {

/// f32 where all is computed in f32, or what was asked for.
ElementType cache_type(const ModelOptions& options) {
  return element_type_from(options.cache).value_or(options.precision == "f32" ? ElementType::f32 : ElementType::f16);
}

[[noreturn]] void refuse_device(const std::string& what) {
  throw Failure({ErrorCode::unsupported, what + " needs the model on the processor: give --device cpu"});
}

[[noreturn]] void refuse(const std::string& message) {
  throw Failure({ErrorCode::invalid_argument, message});
}

LoadedModel load_on_processor(const ModelOptions& options, const std::filesystem::path& file) {
  if (options.precision == "f16")
    refuse("--precision f16 is a device's: a processor multiplies in f32, bf16 or int8, or give --device cuda");
  CpuOptions how{.threads = options.threads,
                 .cache_type = cache_type(options),
                 .context = options.context,
                 .chat_template = options.chat_template};
  how.kernels = options.kernels == "eigen"    ? KernelChoice::eigen
                : options.kernels == "onednn" ? KernelChoice::onednn
                : options.kernels == "krul"   ? KernelChoice::krul
                                              : KernelChoice::automatic;
  for (const auto known : {Precision::f32, Precision::bf16, Precision::int8})
    if (options.precision == name(known)) how.precision = known;
  auto loaded = unwrap(load_model(file, how));
  std::string threads = loaded.backend.identity().threads;
  return {std::move(loaded), AnyModel(std::move(loaded.backend)), std::move(threads), {}};
}

LoadedModel load_on_device(const ModelOptions& options, const std::filesystem::path& file, int index) {
  if (options.kernels != "auto") refuse("--kernels are the processor's: leave it out, or give --device cpu");
  if (options.precision == "int8")
    refuse("--precision int8 is the processor's: a device multiplies in f32, bf16 or f16, or give --device cpu");
  const auto devices = unwrap(cuda::devices());
  if (static_cast<std::size_t>(index) >= devices.size())
    throw Failure({ErrorCode::backend, "there is no CUDA device " + std::to_string(index) + ": this machine has " +
                                           std::to_string(devices.size()) + ", counted from 0"});
  auto opened = unwrap(GgufFile::open(file));
  auto text = unwrap(ModelText::read(opened, file, options.chat_template));
  auto model = unwrap(cuda::CudaModel::load(
      std::move(opened), {.device = index,
                          .arithmetic = element_type_from(options.precision).value_or(ElementType::bf16),
                          .cache_type = cache_type(options),
                          .tokenizer = text.tokenizer.hash(),
                          .limits = {.vocabulary = text.tokenizer.size(), .context = options.context}}));
  const std::size_t threads = options.threads != 0
                                  ? options.threads
                                  : std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, most_threads);
  return {std::move(text), AnyModel(std::move(model), threads), std::to_string(threads),
          devices[static_cast<std::size_t>(index)].name};
}

}  // namespace

LoadedModel ModelOptions::load(const Tool& tool) const {
  const std::filesystem::path from = file();
  const auto where = DeviceName::parse(device).value();
  tool.progress("loading " + from.filename().string());
  auto model = where.is_processor() ? load_on_processor(*this, from) : load_on_device(*this, from, where.cuda_index);
  tool.progress("");
  return model;
}

void ModelOptions::expect_processor(const std::string& what) const {
  if (!DeviceName::parse(device).value().is_processor()) refuse_device(what);
}

CpuModel& on_processor(LoadedModel& model, const std::string& what) {
  if (auto* const found = model.backend.get_if<CpuModel>()) return *found;
  refuse_device(what);
}

}  // namespace krul::cli
