#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "krul/backend/lends_workers.hpp"
#include "krul/calibrate/calibrate.hpp"
#include "krul/eval/kvtc.hpp"
#include "krul/eval/kvtc_basis.hpp"

namespace krul::eval {

/// What KVTC's basis is fitted with.
struct KvtcFit {
  std::size_t rank = 4096;        ///< components that are kept, or as many as there are
  std::size_t tokens = 16384;     ///< after so many no further text is looked at
  std::size_t longest = 1024;     ///< tokens of a text that are looked at
  std::size_t sample_every = 64;  ///< of so many tokens one is a sample, on which errors of rounding are measured
  std::function<void(std::size_t tokens)> progress = {};  ///< is told how many were looked at
};

/// Fits KVTC's basis to what a model makes of texts. The sinks of each, which are never coded, are left out.
/// @return invalid_argument if no two tokens are left
/// @throws as prefill and fit_kvtc_basis
template <ModelBackend B>
[[nodiscard]] Result<KvtcBasis> fit_kvtc(B& model, std::span<const std::vector<Token>> texts, const KvtcFit& fit = {}) {
  constexpr std::size_t sinks = KvtcSettings{}.sinks;
  const Geometry& geometry = model.geometry();
  const TeamFor<B> team(model);
  const std::size_t features = geometry.layers * geometry.kv_values();
  KvMoments moments(geometry, 0, std::array{geometry.layers});
  std::vector<float> keys, values;
  auto batch = model.make_batch();
  for (const auto& text : texts) {
    if (moments.tokens() >= fit.tokens) break;
    if (fit.progress) fit.progress(moments.tokens());
    const auto tokens = std::span<const Token>(text).first(std::min(text.size(), fit.longest));
    if (tokens.size() <= sinks) continue;
    auto cache = model.make_cache(tokens.size());
    prefill(model, cache, batch, tokens, {});
    const auto rows = krul::detail::plain_rows(cache, geometry, {sinks, tokens.size()});
    moments.add(rows.keys, rows.values, {}, team.workers());
    for (std::size_t at = 0; at < rows.keys.size(); at += fit.sample_every * features) {
      keys.insert(keys.end(), &rows.keys[at], &rows.keys[at] + features);
      values.insert(values.end(), &rows.values[at], &rows.values[at] + features);
    }
  }
  if (moments.tokens() < 2) return fail(ErrorCode::invalid_argument, "KVTC's basis: no text is long enough");
  return fit_kvtc_basis({moments, keys, values}, std::min(fit.rank, features), team.workers());
}

}  // namespace krul::eval
