#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/conversation/background_save.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/version.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "krul/store/any_store.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::eval {

/// What decoding took, in seconds.
struct DecodeFigure {
  double step_s = 0;   ///< of one token, mean
  double begin_s = 0;  ///< beside a save: until the first token may run, which is the copy of the rows
  double save_s = 0;   ///< beside a save: until all is saved
};

/// Decodes the same tokens behind the same context again and again: alone, or beside a save of that context.
template <ModelBackend B, Clock C = SteadyClock>
class DecodeBench {
 public:
  /// Runs the context.
  /// @param tokens   the context, and those that are decoded behind it
  /// @param context  of them; may be 0
  /// @throws         PreconditionError if nothing is left to decode; as prefill
  DecodeBench(B& model, std::vector<Token> tokens, std::size_t context, C clock = {})
      : model_(model),
        clock_(std::move(clock)),
        tokens_(std::move(tokens)),
        context_(context),
        cache_(model.make_cache(tokens_.size())),
        batch_(model.make_batch()),
        logits_(model.geometry().vocabulary) {
    expects(context < tokens_.size(), "DecodeBench: no tokens to decode");
    if (context > 0) prefill(model, cache_, batch_, std::span<const Token>(tokens_).first(context), {});
  }

  [[nodiscard]] DecodeFigure alone() {
    cache_.truncate(context_);
    return {.step_s = decode_s()};
  }

  /// All rows of the context are new, as after a long first turn; they go into memory, in krul's default coding.
  /// @return the first error of the save
  [[nodiscard]] Result<DecodeFigure> beside_save() {
    cache_.truncate(context_);
    const TimePoint start = clock_.now();
    const Geometry& geometry = std::as_const(model_).geometry();
    BackgroundSave<AnyStore> save(
        {.store = store_,
         .folder = conversation_folder("bench").value(),
         .rows = KvSnapshot(geometry, cache_, 0),
         .geometry = geometry,
         .plan = {},
         .statistics = {},
         .manifest = {.conversation = "bench",
                      .identity = std::as_const(model_).identity(),
                      .tokens = {},
                      .layers = geometry.layers,
                      .objects = {},
                      .plans = {},
                      .chunks = {},
                      .statistics = {},
                      .row_attention = {},
                      .writer = krul_version},
         .tokens = {tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(context_)}});
    DecodeFigure taken;
    taken.begin_s = seconds(clock_.now() - start);
    taken.step_s = decode_s();
    Manifest manifest;
    if (const auto saved = save.finish(manifest); !saved) return propagate(saved);
    taken.save_s = seconds(clock_.now() - start);
    return taken;
  }

 private:
  [[nodiscard]] double decode_s() {
    const double all_s = seconds_taken(clock_, [&] {
      for (std::size_t i = context_; i < tokens_.size(); ++i)
        forward(model_, cache_, batch_, std::span<const Token>(tokens_).subspan(i, 1), logits_);
    });
    return all_s / static_cast<double>(tokens_.size() - context_);
  }

  B& model_;
  C clock_;
  std::vector<Token> tokens_;
  std::size_t context_;
  typename B::Cache cache_;
  typename B::Batch batch_;
  std::vector<float> logits_;
  AnyStore store_ = MemoryStore();
};

}  // namespace krul::eval
