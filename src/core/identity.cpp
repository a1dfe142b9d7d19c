#include "krul/core/identity.hpp"

#include <cstdio>

namespace krul {

std::string describe(const Geometry& geometry) {
  char text[256];
  std::snprintf(text, sizeof text, "L=%zu H=%zu G=%zu D=%zu hidden=%zu vocabulary=%zu rotary=%s/%zu/%.17g cache=%.*s",
                geometry.layers, geometry.query_heads, geometry.kv_heads, geometry.head_dim, geometry.hidden,
                geometry.vocabulary, geometry.rotary.pairs == RotaryPairs::interleaved ? "interleaved" : "halves",
                geometry.rotary.dimensions, geometry.rotary.base, static_cast<int>(name(geometry.cache_type).size()),
                name(geometry.cache_type).data());
  return text;
}

std::vector<FieldDifference> differences(const Identity& saved, const Identity& present) {
  std::vector<FieldDifference> found;
  const auto compare = [&](std::string_view field, const std::string& before, const std::string& now) {
    if (before != now) found.push_back({field, before, now});
  };
  compare("architecture", saved.architecture, present.architecture);
  compare("weights", saved.weights, present.weights);
  compare("tokenizer", saved.tokenizer, present.tokenizer);
  compare("geometry", saved.geometry, present.geometry);
  compare("profile", saved.profile, present.profile);
  return found;
}

std::string describe(const std::vector<FieldDifference>& differences) {
  std::string text;
  for (const auto& difference : differences) {
    if (!text.empty()) text += ", ";
    text += std::string(difference.field) + " (saved " + difference.saved + ", here " + difference.present + ")";
  }
  return text;
}

}  // namespace krul
