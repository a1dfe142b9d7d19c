#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/geometry.hpp"

namespace krul {

/// What a saved state belongs to. The first part must match for the state to mean the same; the second is recorded
/// only.
struct Identity {
  std::string architecture;  ///< "llama", "qwen2", or a backend's own name
  std::string weights;       ///< hash of the weights, hexadecimal
  std::string tokenizer;     ///< hash of vocabulary, merges and pre-tokenizer, hexadecimal
  std::string geometry;      ///< describe(geometry): sizes, rotary, cache element type
  std::string profile;       ///< content hash of the coding profile; empty without one
  std::string kernels;       ///< recorded only: which kernels and precision computed it
  std::string processor;     ///< recorded only
  std::string threads;       ///< recorded only
  friend bool operator==(const Identity&, const Identity&) = default;
};

/// One field that should be equal and is not.
struct FieldDifference {
  std::string_view field;
  std::string saved;
  std::string present;
};

/// "L=30 H=9 G=3 D=64 hidden=576 vocabulary=49152 rotary=interleaved/64/100000 cache=f16"
[[nodiscard]] std::string describe(const Geometry& geometry);

/// The fields that must match and differ; empty if the saved state can be used.
[[nodiscard]] std::vector<FieldDifference> differences(const Identity& saved, const Identity& present);

/// "weights (saved 12ab, here 34cd), cache ..." for error messages; empty if nothing differs.
[[nodiscard]] std::string describe(const std::vector<FieldDifference>& differences);

}  // namespace krul
