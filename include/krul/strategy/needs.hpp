#pragma once

#include <optional>
#include <string>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/strategy/measured_step.hpp"
#include "krul/strategy/row_classes.hpp"
#include "krul/strategy/save_plan.hpp"

namespace krul {

/// What a strategy has to know of a conversation and a machine before it plans a save. Whoever runs the conversation
/// gathers it, and nothing else.
struct Needs {
  std::vector<SavePlan> codings = {};  ///< all that it may choose of, without pairs and fronts: restores find their
                                       ///< decoders here, and what they take to decode is part of the costs
  bool attention = false;              ///< statistics of the conversation's attention
  bool block_bytes = false;            ///< what the codings make of a block
  bool costs = false;                  ///< what it stores depends on the costs of the restore that is planned for
  bool hidden_states = false;          ///< the input of every layer, to be stored
  bool key_masses = false;             ///< the attention that each key has received, to keep only the heaviest tokens
  std::size_t kept_one_of = 0;         ///< of so many tokens one is kept; 0: as many as krul-paper's bytes hold
  bool predictability = false;         ///< how well layers predict each other
  std::vector<std::size_t> row_attention = {};  ///< layers of the bands in which it wants to know what attention rows
                                                ///< received; none: it does not
  std::optional<ClassesByAttention> classes = {};  ///< how it makes classes of that
  bool coming_attention = false;                   ///< what they will receive, in the place of that: for comparisons
  std::optional<StepChoice> step = {};             ///< the conversation's own step, where a profile codes it
  bool profile_is_missing = false;                 ///< it would code by a profile and has none
};

/// unsupported where a strategy needs what only a run of a conversation from its beginning has: it is for one return.
[[nodiscard]] inline Status for_any_turn(const Needs& needs, const std::string& name) {
  if (!needs.hidden_states && !needs.key_masses && !needs.predictability && !needs.coming_attention) return {};
  return fail(ErrorCode::unsupported, "strategy " + name +
                                          " is for one return of a conversation that was run from its beginning: "
                                          "compare it by krul::eval::compare, or choose another strategy");
}

}  // namespace krul
