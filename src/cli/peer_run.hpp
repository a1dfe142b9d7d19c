#pragma once

#include <span>
#include <vector>

#include "going_on.hpp"
#include "krul/eval/exact_history.hpp"
#include "krul/eval/peer_coder.hpp"

namespace krul::cli {

/// One conversation that goes idle and comes back under a published coder: StrategyRun's twin, with bytes in memory in
/// place of a store.
class PeerRun {
 public:
  PeerRun(CpuModel& model, const eval::PeerCoder& coder) : model_(&model), coder_(&coder) {}

  Status save(const eval::ExactHistory<CpuModel>& exact, std::span<const Token> history) {
    rows_ = history.size();
    bytes_ = coder_->encode(model_->geometry(), eval::read_history(exact.cache, model_->geometry(), rows_));
    return {};
  }

  [[nodiscard]] Result<std::vector<float>> resume(std::span<const Token> tokens, std::size_t rows) {
    auto cache = restored(tokens.size());
    return logits_after(*model_, cache, tokens.subspan(rows_), rows);
  }

  [[nodiscard]] Result<std::vector<Token>> go_on(std::span<const Token> tokens, std::size_t most, GreedyChoice choose) {
    auto cache = restored(tokens.size() + most);
    return go_on_from(*model_, cache, tokens.subspan(rows_), most, std::move(choose));
  }

  [[nodiscard]] std::uint64_t stored_bytes() const { return bytes_.size(); }
  [[nodiscard]] std::size_t stored_rows() const noexcept { return rows_; }

 private:
  [[nodiscard]] CpuModel::Cache restored(std::size_t capacity) {
    auto cache = model_->make_cache(capacity);
    eval::write_history(cache, model_->geometry(), coder_->decode(model_->geometry(), bytes_));
    return cache;
  }

  CpuModel* model_;
  const eval::PeerCoder* coder_;
  std::vector<std::byte> bytes_;
  std::size_t rows_ = 0;
};

}  // namespace krul::cli
