#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <system_error>

#include "krul/core/workers.hpp"

namespace krul {

/// A backend whose team of threads others may use between its passes. On few cores a second team would be in the way:
/// while one spins for its next loop, the other's threads are not run.
template <class B>
concept LendsWorkers = requires(B& model) {
  { model.workers() } -> std::same_as<Workers&>;
};

/// The team that a model lends, or one of its own for a model that lends none.
template <class B>
class TeamFor {
 public:
  /// @param threads  of a team that has to be made; where the system has not so many, it is one
  explicit TeamFor(B& model, std::size_t threads = 1) : model_(&model) {
    if constexpr (!LendsWorkers<B>) {
      try {
        own_ = std::make_unique<Workers>(threads);
      } catch (const std::system_error&) {
        own_ = std::make_unique<Workers>(1);
      }
    }
  }
  [[nodiscard]] Workers& workers() const {
    if constexpr (LendsWorkers<B>) {
      return model_->workers();
    } else {
      return *own_;
    }
  }

 private:
  B* model_;
  std::unique_ptr<Workers> own_;
};

}  // namespace krul
