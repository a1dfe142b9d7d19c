#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/core/clock.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/similarity/row_attention_estimator.hpp"
#include "krul/strategy/row_classes.hpp"

namespace krul::eval {

/// What coding a conversation by a profile takes on one core.
struct CodingFigures {
  double encode_us = 0, decode_us = 0;  ///< microseconds a token
  double bytes = 0;                     ///< a token
};

/// How the probe's rows are coded.
struct ProbedCoding {
  StepScale step;
  bool by_attention = false;  ///< rows have steps of their own; else all have this one
};

/// The rows of a text as the model computes them, to be coded and brought back.
template <ModelBackend B, Clock C = SteadyClock>
class CodingProbe {
 public:
  static constexpr std::size_t block = 64;  ///< tokens of a chunk

  /// Runs the model over the tokens, all of them but those of a last block that is not whole.
  /// @throws PreconditionError if there is no profile or no whole block, or the profile asks for features of tokens and
  ///         the backend lends none; NotFiniteError if the model's numbers are not finite
  CodingProbe(B& model, std::shared_ptr<const Profile> profile, std::span<const Token> tokens, C clock = {})
      : profile_(std::move(profile)),
        geometry_(model.geometry()),
        clock_(std::move(clock)),
        tokens_(tokens.size() / block * block),
        cache_(model.make_cache(tokens_)) {
    expects(profile_ != nullptr && tokens_ > 0, "CodingProbe: a profile, and a whole block of tokens");
    tokens = tokens.first(tokens_);
    auto batch = model.make_batch();
    RowAttentionEstimator seen(geometry_, bands_of(*profile_));
    observed_prefill(model, cache_, batch, tokens, {}, seen);
    by_attention_.profile = profile_;
    code_by_attention(by_attention_, {seen.attention(), tokens, geometry_.vocabulary}, ClassesByAttention{.codes = 0});
    if (profile_->data().features > 0) features_ = token_features(model, tokens);
  }

  /// Codes all blocks and brings them back, one after another, on this thread.
  /// @return the decoder's error, if it cannot read what was coded
  /// @throws PreconditionError and NotFiniteError as JointTransform::encode
  [[nodiscard]] Result<CodingFigures> run(const ProbedCoding& how) const {
    double encode_s = 0, decode_s = 0, bytes = 0;
    for (std::size_t i = 0; i < profile_->data().groups.size(); ++i) {
      const auto& group = profile_->data().groups[i];
      const JointTransform coding(profile_, i, how.step);
      std::vector<OwnedKvRows> decoded(group.layers, OwnedKvRows(geometry_, block));
      std::vector<MutableKvRows> views;
      for (OwnedKvRows& rows : decoded) views.push_back({rows.keys, rows.values});
      for (std::size_t first = 0; first < tokens_; first += block) {
        std::vector<OwnedKvRows> rows;
        for (std::size_t layer = group.first_layer; layer < group.first_layer + group.layers; ++layer)
          rows.push_back(read_kv_rows(cache_, geometry_, layer, {first, first + block}));
        const TokenRange here{first, first + block};
        BlockContext context{static_cast<Position>(first), features_.of(here)};
        if (how.by_attention) context.classes = by_attention_.classes_of(group.first_layer, here, tokens_);
        const TimePoint start = clock_.now();
        const auto chunk = coding.encode(geometry_, views_of(rows), context);
        const TimePoint coded = clock_.now();
        if (auto status = coding.decode(geometry_, chunk, views, context); !status) return propagate(status);
        encode_s += seconds(coded - start);
        decode_s += seconds(clock_.now() - coded);
        bytes += static_cast<double>(chunk.size());
      }
    }
    const auto a_token = [&](double sum) { return sum / static_cast<double>(tokens_); };
    return CodingFigures{a_token(encode_s) * 1e6, a_token(decode_s) * 1e6, a_token(bytes)};
  }

  /// The fastest of several runs.
  [[nodiscard]] Result<CodingFigures> fastest(const ProbedCoding& how, std::size_t runs) const {
    auto best = run(how);
    for (std::size_t i = 1; best && i < runs; ++i) {
      const auto again = run(how);
      if (!again) return again;
      best->encode_us = std::min(best->encode_us, again->encode_us);
      best->decode_us = std::min(best->decode_us, again->decode_us);
    }
    return best;
  }

 private:
  std::shared_ptr<const Profile> profile_;
  Geometry geometry_;
  C clock_;
  std::size_t tokens_;
  typename B::Cache cache_;
  TokenFeatures features_;
  SavePlan by_attention_;
};

}  // namespace krul::eval
