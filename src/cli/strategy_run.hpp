#pragma once

#include <span>
#include <string>
#include <vector>

#include "krul/conversation/conversation.hpp"
#include "krul/conversation/strategy.hpp"
#include "krul/model/load.hpp"
#include "krul/store/memory_store.hpp"
#include "tool.hpp"

namespace krul::cli {

/// The cache of a conversation that nothing ever interrupted: `history` is in it, and room for `more` tokens.
///
/// The only place where the history that is saved passes through the model.
[[nodiscard]] inline CpuModel::Cache prefill_exact(CpuModel& model, std::span<const Token> history, std::size_t more) {
  CpuModel::Cache cache = model.make_cache(history.size() + more);
  auto batch = model.make_batch();
  if (!history.empty()) prefill(model, cache, batch, history, {});
  return cache;
}

/// Next-token logits of the last `rows` of the tokens that follow a cache, [rows, vocabulary].
/// @post the cache holds the tokens
[[nodiscard]] inline std::vector<float> logits_after(CpuModel& model, CpuModel::Cache& cache,
                                                     std::span<const Token> tokens, std::size_t rows) {
  auto batch = model.make_batch();
  std::vector<float> logits(rows * model.geometry().vocabulary);
  prefill(model, cache, batch, tokens, logits);
  return logits;
}

/// One conversation that goes idle and comes back under one strategy, in a store of its own.
///
/// All that evaluation knows of how a strategy saves and restores is here.
class StrategyRun {
 public:
  /// How rows that were restored are saved when their turn ends: left as they are, or coded once more.
  enum class Rows : std::uint8_t { append, rewrite };

  StrategyRun(CpuModel& model, const Strategy& strategy, const Costs& costs)
      : model_(&model), strategy_(strategy), codec_(unwrap(row_codec_from_name(strategy.codec))), costs_(costs) {}

  /// Saves a history from its exact cache.
  void save(const CpuModel::Cache& exact, std::span<const Token> history) {
    unwrap(save_as(*model_, store_, exact, history, as()));
    rows_ = history.size();
  }

  /// Restores what is saved and runs the rest of `tokens`: next-token logits of the last `rows` tokens. What is saved
  /// stays as it is.
  [[nodiscard]] std::vector<float> resume(std::span<const Token> tokens, std::size_t rows) {
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    unwrap(open(tokens.size(), true).advance(tokens, logits));
    return logits;
  }

  /// A turn: as resume, then all tokens are saved and the live state is dropped. Begins the conversation if nothing is
  /// saved.
  [[nodiscard]] std::vector<float> take_turn(std::span<const Token> tokens, std::size_t rows, Rows how) {
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    auto talk = open(tokens.size(), how == Rows::rewrite);
    unwrap(talk.advance(tokens, logits));
    if (how == Rows::append) {
      unwrap(talk.save());
    } else {
      unwrap(save_as(*model_, store_, talk.cache(), tokens, as()));
    }
    rows_ = tokens.size();
    return logits;
  }

  /// What is saved, all of the conversation counted. A strategy that reads nothing needs no more than the tokens.
  [[nodiscard]] std::uint64_t stored_bytes() const {
    return strategy_.name == "recompute" ? rows_ * sizeof(Token) : store_.used();
  }
  /// Tokens whose state is saved.
  [[nodiscard]] std::size_t stored_rows() const noexcept { return rows_; }

 private:
  using Talk = Conversation<CpuModel, MemoryStore, AnyPolicy>;

  [[nodiscard]] SaveAs as() const {
    return {.id = "evaluated",
            .codec = codec_,
            .strategy = std::string(strategy_.name),
            .threads = model_->workers().threads()};
  }

  [[nodiscard]] Talk open(std::size_t capacity, bool read_only) {
    ConversationOptions options;
    options.codec = codec_;
    options.strategy = std::string(strategy_.name);
    options.capacity = capacity;
    options.costs = costs_;
    options.threads = model_->workers().threads();
    options.read_only = read_only;
    return unwrap(Talk::open(*model_, store_, "evaluated", options, strategy_.policy));
  }

  CpuModel* model_;
  Strategy strategy_;
  AnyRowCodec codec_;
  Costs costs_;
  MemoryStore store_;
  std::size_t rows_ = 0;
};

}  // namespace krul::cli
