#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "krul/compress/float_codec.hpp"
#include "krul/restore/full_load.hpp"
#include "krul/strategy/catalogue/krul_paper.hpp"
#include "krul/strategy/planned_sizes.hpp"
#include "krul/strategy/strategy.hpp"

namespace krul::strategy {

/// Only heavy hitters and the latest tokens are kept, as many bytes as krul-paper keeps or one token of so many. What
/// is saved is a cache of its own, which eval::forget_light_tokens makes: a plan cannot leave out single tokens.
/// @source H2O, arXiv:2306.14048; second-hand. The number of bytes: ours
struct H2o {
  std::size_t one_of = 0;  ///< of so many tokens one is kept; 0: as many bytes as krul-paper keeps

  [[nodiscard]] std::string name() const { return one_of == 0 ? "h2o" : "h2o-" + std::to_string(one_of); }
  [[nodiscard]] Needs needs() const {
    Needs needs;
    if (one_of == 0) needs = krul_paper().needs();
    needs.key_masses = true;
    needs.kept_one_of = one_of;
    return needs;
  }
  /// Of the cache with the tokens that are left.
  [[nodiscard]] Result<SavePlan> plan(const Evidence&) const { return SavePlan::separate(F16Codec{}, name()); }
  [[nodiscard]] FullLoad restore_policy() const { return {}; }

  /// How many tokens of a conversation are kept.
  /// @param evidence  of the whole conversation
  /// @param one_of    Needs::kept_one_of
  [[nodiscard]] static Result<std::size_t> kept_tokens(const Evidence& evidence, std::size_t one_of) {
    if (one_of > 0) return std::max<std::size_t>(evidence.tokens / one_of, 1);
    const auto paper = krul_paper().plan(evidence);
    if (!paper) return propagate(paper);
    const auto kept = planned_bytes(*paper, evidence) / evidence.geometry.f16_token_bytes();
    return std::clamp<std::size_t>(kept, 1, evidence.tokens);
  }
};
static_assert(Strategy<H2o>);

}  // namespace krul::strategy
