#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "krul/backend/model_backend.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/tokens.hpp"

namespace krul::eval {

/// What one step of a pass took over all layers, and what it worked on.
struct StepFigures {
  double seconds = 0;
  std::uint64_t calls = 0;
  std::uint64_t rows = 0;      ///< summed over calls
  std::uint64_t keys = 0;      ///< that rows see, summed over rows and calls
  std::uint64_t all_keys = 0;  ///< that some row of a call sees, summed over calls
};

struct PassFigures {
  StepFigures embed, project, attend, finish, logits;
};

/// A backend that measures another one, step by step. For one pass at a time.
template <ModelBackend B, Clock C = SteadyClock>
class TimedBackend {
 public:
  using Cache = typename B::Cache;
  using Batch = typename B::Batch;

  explicit TimedBackend(B& model, C clock = {}) : model_(&model), clock_(std::move(clock)) {}

  /// What was measured since the last call.
  [[nodiscard]] PassFigures take_figures() { return std::exchange(figures_, {}); }

  [[nodiscard]] const Geometry& geometry() const { return std::as_const(*model_).geometry(); }
  [[nodiscard]] const Identity& identity() const { return std::as_const(*model_).identity(); }
  [[nodiscard]] Cache make_cache(std::size_t capacity) { return model_->make_cache(capacity); }
  [[nodiscard]] Batch make_batch() { return model_->make_batch(); }

  /// Each throws as the other backend's.
  /// @{
  void embed(std::span<const Token> tokens, Batch& batch) {
    measure(figures_.embed, batch, [&] { model_->embed(tokens, batch); });
  }
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
    measure(figures_.project, batch, [&] { model_->project(layer, batch, cache, write); });
  }
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    measure(figures_.attend, batch, [&] { model_->attend(layer, batch, cache, std::forward<O>(observer)); });
  }
  void finish(std::size_t layer, Batch& batch) {
    measure(figures_.finish, batch, [&] { model_->finish(layer, batch); });
  }
  void logits(Batch& batch, RowRange rows, std::span<float> out) {
    measure(figures_.logits, batch, [&] { model_->logits(batch, rows, out); });
    figures_.logits.rows -= std::as_const(batch).positions().size() - rows.size();
  }
  /// @}

 private:
  template <class Work>
  void measure(StepFigures& step, const Batch& batch, Work&& work) {
    for (const Position position : batch.positions()) step.keys += position + std::uint64_t{1};
    step.rows += batch.positions().size();
    if (!batch.positions().empty()) step.all_keys += batch.positions().back() + std::uint64_t{1};
    ++step.calls;
    const TimePoint start = clock_.now();
    work();
    step.seconds += krul::seconds(clock_.now() - start);
  }

  B* model_;
  C clock_;
  PassFigures figures_;
};

}  // namespace krul::eval
