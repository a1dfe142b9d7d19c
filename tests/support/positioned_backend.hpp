#pragma once

#include <cmath>
#include <string>

#include "../examples/02_your_own_backend/toy_backend.hpp"

namespace krul::test {

/// How a model learns where a token stands.
enum class Positions { rotary, learned, none };

/// The toy backend with positions of any kind, and weights that may go by another name.
class PositionedBackend : public toy::Backend {
 public:
  PositionedBackend(Positions positions, std::size_t kv_heads, ElementType cache_type, std::string weights = "5")
      : toy::Backend(geometry_of(positions, kv_heads, cache_type)), positions_(positions), named_(identity_()) {
    named_.weights = std::move(weights);
  }

  [[nodiscard]] const Identity& identity() const { return named_; }

  void embed(std::span<const Token> tokens, Batch& batch) const {
    toy::Backend::embed(tokens, batch);
    if (positions_ != Positions::learned) return;
    const std::size_t width = geometry().hidden;
    for (std::size_t i = 0; i < tokens.size() * width; ++i)
      batch.hidden()[i] += std::sin(0.37F * static_cast<float>(batch.positions()[i / width] * (i % width + 1)));
  }

 private:
  static Geometry geometry_of(Positions positions, std::size_t kv_heads, ElementType cache_type) {
    Geometry geometry = toy::Backend(cache_type).geometry();
    geometry.kv_heads = kv_heads;
    if (positions != Positions::rotary) geometry.rotary.dimensions = 0;
    return geometry;
  }
  [[nodiscard]] const Identity& identity_() const { return toy::Backend::identity(); }

  Positions positions_;
  Identity named_;
};
static_assert(ModelBackend<PositionedBackend>);

}  // namespace krul::test
