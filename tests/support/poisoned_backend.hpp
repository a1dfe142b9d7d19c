#pragma once

#include <limits>
#include <optional>

#include "../examples/02_your_own_backend/toy_backend.hpp"

namespace krul::test {

/// The toy backend, whose numbers stop being finite in one place once it is told to.
class PoisonedBackend : public toy::Backend {
 public:
  using toy::Backend::Backend;

  std::optional<std::size_t> layer = {};  ///< its output is no number
  bool output = false;                    ///< nor are the logits

  void finish(std::size_t of, Batch& batch) const {
    toy::Backend::finish(of, batch);
    if (of == layer) batch.hidden()[batch.hidden().size() - 1] = std::numeric_limits<float>::quiet_NaN();
  }
  void logits(Batch& batch, RowRange rows, std::span<float> out) const {
    toy::Backend::logits(batch, rows, out);
    if (output) out.back() = std::numeric_limits<float>::infinity();
  }
};
static_assert(ModelBackend<PoisonedBackend>);

}  // namespace krul::test
