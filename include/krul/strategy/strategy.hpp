#pragma once

#include <concepts>
#include <string>

#include "krul/core/error.hpp"
#include "krul/restore/restore_policy.hpp"
#include "krul/strategy/evidence.hpp"
#include "krul/strategy/needs.hpp"

namespace krul {

/// How one conversation is stored and brought back: a value that owns what it names.
///
///   name()            as it is chosen, and recorded with what is saved
///   needs()           what it has to know; the same for every conversation
///   plan(evidence)    what a save stores and how it is coded, for this conversation. Pure: the same evidence gives the
///                     same plan. A strategy that cannot plan says why
///   restore_policy()  which rows a restore recomputes, of any RestorePolicy
///
/// @source Krul, arXiv:2507.08045, section 4: a strategy for each conversation; second-hand. The interface is ours
template <class S>
concept Strategy = requires(const S& strategy, const Evidence& evidence) {
  { strategy.name() } -> std::same_as<std::string>;
  { strategy.needs() } -> std::same_as<Needs>;
  { strategy.plan(evidence) } -> std::same_as<Result<SavePlan>>;
  { strategy.restore_policy() } -> RestorePolicy;
  requires std::copyable<S>;  // last: of a Result<AnyStrategy> clang 14 would ask in a circle
};

}  // namespace krul
