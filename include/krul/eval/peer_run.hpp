#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "krul/eval/continuation.hpp"
#include "krul/eval/exact_history.hpp"
#include "krul/eval/history_coder.hpp"

namespace krul::eval {

/// One conversation that goes idle and comes back under a published coder: StrategyRun's twin, with bytes in memory in
/// place of a store.
template <ModelBackend B, HistoryCoder Coder>
class PeerRun {
 public:
  PeerRun(B& model, const Coder& coder) : model_(&model), coder_(&coder) {}

  /// Codes a history from its exact cache.
  /// @throws PreconditionError as the coder
  [[nodiscard]] Status save(const ExactHistory<B>& exact, std::span<const Token> history) {
    rows_ = history.size();
    bytes_ = coder_->encode(model_->geometry(), read_history(exact.cache, model_->geometry(), rows_));
    return {};
  }

  /// As StrategyRun's.
  [[nodiscard]] Result<std::vector<float>> resume(std::span<const Token> tokens, std::size_t rows) {
    auto cache = restored(tokens.size());
    return logits_after(*model_, cache, tokens.subspan(rows_), rows);
  }

  /// As StrategyRun's.
  template <class Choose>
  [[nodiscard]] Result<std::vector<Token>> go_on(std::span<const Token> tokens, std::size_t most, Choose&& choose) {
    auto cache = restored(tokens.size() + most);
    return go_on_from(*model_, cache, tokens.subspan(rows_), most, std::forward<Choose>(choose));
  }

  /// What the coder made of the history.
  [[nodiscard]] std::uint64_t stored_bytes() const { return bytes_.size(); }
  /// Tokens of it.
  [[nodiscard]] std::size_t stored_rows() const noexcept { return rows_; }

 private:
  [[nodiscard]] typename B::Cache restored(std::size_t capacity) {
    auto cache = model_->make_cache(capacity);
    write_history(cache, model_->geometry(), coder_->decode(model_->geometry(), bytes_));
    return cache;
  }

  B* model_;
  const Coder* coder_;
  std::vector<std::byte> bytes_;
  std::size_t rows_ = 0;
};

}  // namespace krul::eval
