#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/geometry.hpp"

namespace krul {

/// What a saved state belongs to. The first part must match for the state to mean the same; the second is recorded
/// only.
struct Identity {
  std::string architecture;         ///< "llama", "qwen2", or a backend's own name
  std::string weights;              ///< hash of the weights, hexadecimal
  std::string tokenizer;            ///< hash of vocabulary, merges and pre-tokenizer, hexadecimal
  std::string geometry;             ///< describe(geometry): sizes, rotary, cache element type
  std::string profile;              ///< content hash of the coding profile; empty without one
  std::string kernels;              ///< recorded only: which kernels and precision computed it
  std::string processor;            ///< recorded only
  std::string threads;              ///< recorded only
  std::string former_weights = {};  ///< what earlier versions of krul called these weights; never saved, may be empty
  friend bool operator==(const Identity&, const Identity&) = default;
};

/// Whether saved weights are a present model's, by the name that it has now or had before.
[[nodiscard]] inline bool are_same_weights(const std::string& saved, const Identity& present) {
  return saved == present.weights || (!saved.empty() && saved == present.former_weights);
}

/// One field that should be equal and is not.
struct FieldDifference {
  std::string_view field;
  std::string saved;
  std::string present;
};

/// "L=30 H=9 G=3 D=64 hidden=576 vocabulary=49152 rotary=interleaved/64/100000 cache=f16"
[[nodiscard]] inline std::string describe(const Geometry& geometry) {
  char text[256];
  std::snprintf(text, sizeof text, "L=%zu H=%zu G=%zu D=%zu hidden=%zu vocabulary=%zu rotary=%s/%zu/%.17g cache=%s",
                geometry.layers, geometry.query_heads, geometry.kv_heads, geometry.head_dim, geometry.hidden,
                geometry.vocabulary, geometry.rotary.pairs == RotaryPairs::interleaved ? "interleaved" : "halves",
                geometry.rotary.dimensions, geometry.rotary.base, name(geometry.cache_type).data());
  return text;
}

/// The fields that must match and differ; empty if the saved state can be used.
[[nodiscard]] inline std::vector<FieldDifference> differences(const Identity& saved, const Identity& present) {
  std::vector<FieldDifference> found;
  const auto compare = [&](std::string_view field, const std::string& before, const std::string& now) {
    if (before != now) found.push_back({field, before, now});
  };
  compare("architecture", saved.architecture, present.architecture);
  if (!are_same_weights(saved.weights, present)) found.push_back({"weights", saved.weights, present.weights});
  compare("tokenizer", saved.tokenizer, present.tokenizer);
  compare("geometry", saved.geometry, present.geometry);
  compare("profile", saved.profile, present.profile);
  return found;
}

/// "weights (saved 12ab, here 34cd), geometry ..." for error messages; empty if nothing differs.
[[nodiscard]] inline std::string describe(const std::vector<FieldDifference>& differences) {
  std::string text;
  for (const auto& difference : differences) {
    if (!text.empty()) text += ", ";
    text += std::string(difference.field) + " (saved " + difference.saved + ", here " + difference.present + ")";
  }
  return text;
}

}  // namespace krul
