#pragma once

#include <string>
#include <string_view>

#include "krul/core/error.hpp"
#include "krul/model/gguf.hpp"

namespace krul {

/// Refuses each key of an architecture that krul does not compute with, by its name: those that it does not know, and
/// those whose value asks for something else than a plain decoder. Values that ask for nothing pass.
/// @param prefix   "llama."
/// Fails with unsupported, or as GgufFile's readers of values do.
[[nodiscard]] Status check_decoder_keys(const GgufFile& file, const std::string& prefix);

/// Whether a key says something that neither the geometry and the tensors' shapes nor leaving it out says.
/// @param name  behind the prefix
[[nodiscard]] bool adds_meaning(const GgufFile& file, const std::string& prefix, std::string_view name);

}  // namespace krul
