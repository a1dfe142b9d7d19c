#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"
#include "krul/model/chat_format.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/model/precision.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul {

struct CpuOptions {
  std::size_t threads = 0;  ///< 0: as many as the machine has
  KernelChoice kernels = KernelChoice::automatic;
  std::optional<Precision> precision = {};  ///< none: the fastest that the kernels and the processor have
  ElementType cache_type = ElementType::f16;
  std::size_t context = 0;         ///< longest conversation in tokens; 0: what the file says
  std::string chat_template = {};  ///< one of chat_families() in place of the file's own; empty: the file's
};

/// A backend whose kernels were chosen when the model was loaded.
using CpuModel = CpuBackend<AnyKernels>;

/// What a model file says of text: all but the forward pass.
struct ModelText {
  Tokenizer tokenizer;
  Result<ChatFormat> chat;  ///< or why krul has none for this model
  std::string name;         ///< as the file calls the model, or the file's name

  /// Fails as Tokenizer::from_gguf; invalid_argument if there is no such chat template.
  /// @param chat_template  as in CpuOptions
  [[nodiscard]] static Result<ModelText> read(const GgufFile& file, const std::filesystem::path& path,
                                              const std::string& chat_template = {});
};

struct LoadedModel : ModelText {
  CpuModel backend;
};

/// Opens a model file and makes it ready to run.
/// Fails as GgufFile::open, Tokenizer::from_gguf, AnyKernels::choose and CpuBackend::load do; invalid_argument if there
/// is no such chat template.
/// @post the backend's vocabulary is the tokenizer's: no token without a text is ever chosen
[[nodiscard]] Result<LoadedModel> load_model(const std::filesystem::path& path, const CpuOptions& options = {});

}  // namespace krul
